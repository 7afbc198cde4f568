"""A full disk under the log: no start, no new lease, nothing half-written, and it goes on when there is room again.

The log's process meets a limit on file size, set and lifted from outside while it runs: every write fails, as on a disk
without room (`tests/log` has the store on a real full disk).
"""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.transcript.bodies import Batch, Body, Close, Heartbeat
from anchorhold.attestation.transcript.kept import KeptReceipt
from anchorhold.client.errors import ClientError

from .cell import SOURCES, Base, Cell, Cells, ask, wait_until
from .conftest import SHORT_LEASE_MS

pytestmark = pytest.mark.slow
LAST_TRY_S = 10.0  # for the log to fail at what it was given last


@contextmanager
def full(base: Base) -> Iterator[None]:
    """No byte more in any file of the log's process."""
    log = base.process("log").pid
    soft, hard = resource.prlimit(log, resource.RLIMIT_FSIZE)
    resource.prlimit(log, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(log, resource.RLIMIT_FSIZE, (soft, hard))


def snapshot(state: Path) -> dict[str, bytes]:
    """Every file; one that goes while it is looked at is gone."""
    found: dict[str, bytes] = {}
    for path in state.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                found[str(path.relative_to(state))] = path.read_bytes()
    return found


def kept(state: Path) -> dict[str, bytes]:
    """The same without what a try that fails meanwhile puts beside a file and takes away again."""
    return {name: content for name, content in snapshot(state).items() if not name.endswith(".new")}


def count(cell: Cell, kind: type[Body]) -> int:
    return sum(isinstance(body, kind) for body in cell.bodies())


def answers(cell: Cell) -> bool:
    try:
        return bool(ask(cell.trust).text)
    except (ClientError, EvidenceError):
        return False


def test_no_start_on_a_full_disk_and_no_authority_is_asked(base: Base, cells: Cells) -> None:
    before = snapshot(base.state / "log")
    journals = [len(base.journal(name)) for name in SOURCES]
    with full(base):
        cell = cells.start()
        assert cell.ended() == 4
        assert "LogUnavailable in MEASURED" in cell.console()
        assert snapshot(base.state / "log") == before
    assert [len(base.journal(name)) for name in SOURCES] == journals
    assert "log-refused" in cell.parent_events()


def test_service_ends_with_the_log_lease_and_a_new_start_finds_the_log_whole(base: Base, cells: Cells) -> None:
    cell = cells.start().serving()
    with full(base):
        began = time.monotonic()
        # The log takes one record at a time: what was being written as the disk became full is over then.
        wait_until("a record refused", lambda: "log-refused" in cell.parent_events())
        before = kept(base.state / "log")
        while (asked := time.monotonic()) and answers(cell):
            # A log lease counts from its heartbeat: no request is taken after it, whatever the key leases say.
            assert asked - began < SHORT_LEASE_MS / 1000
        assert cell.ended() == 3
        wait_until("nothing half-written", lambda: snapshot(base.state / "log") == before, LAST_TRY_S)
    beats = count(cell, Heartbeat)
    after = cells.start().serving()
    assert answers(after)
    assert count(cell, Heartbeat) == beats, "nothing of the ended boot came late"
    # Its end is missing and said to be: a limit, no contradiction.
    found = cell.findings()
    assert [one["code"] for one in found if one["status"] == "LIMIT"] in (["L-TAIL"], ["L-OPEN"])
    assert not any(one["status"] == "FAIL" for one in found)


def test_a_disk_with_room_again_within_the_log_lease_loses_nothing(base: Base, cells: Cells) -> None:
    cell = cells.start().serving()
    with full(base):
        answer = ask(cell.trust)
        wait_until("a record refused", lambda: "log-refused" in cell.parent_events())
    beats = count(cell, Heartbeat)
    wait_until("heartbeats again", lambda: count(cell, Heartbeat) > beats + 1)
    wait_until("the batch with the receipt", lambda: count(cell, Batch) > 0)
    assert cell.exit() is None
    kept = cells.folder / "receipt"
    kept.write_bytes(KeptReceipt(answer.receipt.raw, answer.receipt.salt, answer.receipt.tag).encode())
    cell.close()
    assert count(cell, Close) == 1
    found = cell.findings("--receipt", str(kept))
    assert not any(one["status"] in ("FAIL", "LIMIT") for one in found)
    assert [one["status"] for one in found if one["subject"] == "Receipt 1"] == ["PASS"]
