"""Processes killed while an answer streams: a typed error for the client, never an answer (docs/spec/failures.md)."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorhold.attestation.channel.client import Delta, Finished
from anchorhold.attestation.channel.errors import Truncated
from anchorhold.attestation.transcript.bodies import Close, Death, KeyRelease
from anchorhold.client.errors import Unavailable
from anchorhold.client.sdk import Client, Settings
from anchorhold.client.trust import encode_trust

from .cell import SOURCES, Base, Cell, Cells, wait_until
from .conftest import ROOT, SHORT_LEASE_MS

pytestmark = pytest.mark.slow
LONG = Settings(max_tokens=1_800)  # some seconds of the tiny model


def _releases(cell: Cell) -> int:
    return sum(isinstance(body, KeyRelease) for body in cell.bodies())


def _only_text(stream: Iterator[Delta | Finished]) -> None:
    """The rest of it, which must break off."""
    for event in stream:
        assert isinstance(event, Delta), "a receipt came for an answer that was cut off"


def _answers(client: Client) -> bool:
    try:
        return bool(client.ask("hello", Settings(max_tokens=4)).text)
    except Unavailable:
        return False  # "try again": gRPC waits a second before it dials anew


def test_an_enclave_killed_mid_stream_is_truncated_and_never_success(cells: Cells) -> None:
    cell = cells.start().serving()
    with Client(cell.trust) as client:
        stream = client.stream("hello", LONG)
        assert isinstance(next(stream), Delta)
        cell.kill_enclave()
        with pytest.raises(Truncated):
            _only_text(stream)
        assert cell.ended() == "SIGKILL"
        with pytest.raises(Unavailable):
            client.ask("hello")
    wait_until("the parent to notice", lambda: "enclave-gone" in cell.parent_events())
    # It left no word of its end: the auditor is told that the boot just stops.
    assert not any(isinstance(body, Close | Death) for body in cell.bodies())
    found = cell.findings()
    assert [one["code"] for one in found if one["status"] == "LIMIT"][-1] in ("L-OPEN", "L-TAIL")
    assert not any(one["status"] == "FAIL" for one in found)


def test_the_command_line_shows_it_as_no_answer(cells: Cells) -> None:
    cell = cells.start().serving()
    trust, receipt = cells.folder / "trust.json", cells.folder / "receipt"
    trust.write_bytes(encode_trust(cell.trust))
    command = [str(Path(sys.executable).parent / "anchorhold"), "ask", "hello", "--trust", str(trust)]
    asking = subprocess.Popen(
        [*command, "--max-tokens", "1800", "--receipt", str(receipt)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert asking.stdout is not None
    assert asking.stdout.read(1)
    cell.kill_enclave()
    _, said = asking.communicate(timeout=60)
    assert asking.returncode == 1
    assert b"provisional" in said
    assert b"before the final record" in said
    assert not receipt.exists()


def test_a_parent_killed_mid_stream_and_started_again_finds_the_same_enclave(cells: Cells) -> None:
    cell = cells.start().serving()
    with Client(cell.trust) as client:
        boot = client.verify().channel.serve.boot_id
        stream = client.stream("hello", LONG)
        assert isinstance(next(stream), Delta)
        cell.kill_parent()
        with pytest.raises(Truncated):
            _only_text(stream)
        with pytest.raises(Unavailable):
            client.verify()
        cell.start()
        wait_until("an answer through the new parent", lambda: _answers(client))
        # The same boot: it was adopted, not started, and its leases go on through the new parent.
        assert client.verify().channel.serve.boot_id == boot
    assert "enclave-adopted" in cell.parent_events()
    before = _releases(cell)
    wait_until("both leases renewed", lambda: _releases(cell) >= before + len(SOURCES))
    assert cell.exit() is None


def test_an_enclave_whose_parent_stays_away_ends_with_its_lease(base: Base, cells: Cells) -> None:
    cell = cells.start().serving()
    cell.kill_parent()
    # The lease, then five seconds at most for a death record that nobody takes; the rest is for a slow machine.
    assert cell.ended(SHORT_LEASE_MS / 1000 + 20.0) == 3
    assert not any(isinstance(body, Death) for body in cell.bodies())
    assert base.process("log").alive()


def test_a_parent_told_to_stop_lets_the_enclave_write_its_last_record(cells: Cells) -> None:
    cell = cells.start().serving()
    with Client(cell.trust) as client:
        assert client.ask("hello", Settings(max_tokens=4)).text
    os.kill(cell.parent_pid, signal.SIGTERM)
    assert cell.ended() == 0
    assert isinstance(cell.bodies()[-1], Close)
