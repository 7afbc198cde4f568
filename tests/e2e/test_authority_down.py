"""An authority that is down: at the start nothing begins, at a renewal the lease in force is all there is (DESIGN 5).

The authority's own process is killed, and started again on its own state at its own address.
"""

import time

import pytest

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.transcript.bodies import Body, Death, KeyDeny, KeyLease, KeyRelease
from anchorhold.client.errors import ClientError

from .cell import PATIENCE_S, SOURCES, Base, Cell, Cells, ask, wait_until

pytestmark = pytest.mark.slow
READINGS_MS = 2_000  # enclave time starts anew at each document: late by what the module's call took
WIPE_MS = 4_000  # a wipe on a machine that stalls; a renewal more would have put the end off by 5 s


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _of(cell: Cell, source: str) -> list[Body]:
    kinds = KeyDeny | KeyLease | KeyRelease
    return [body for body in cell.bodies() if isinstance(body, kinds) and body.source == source]


def _answers(cell: Cell) -> bool:
    """Whether it still does; anything but an answer or a typed error fails the test."""
    try:
        return bool(ask(cell.trust).text)
    except (ClientError, EvidenceError):
        return False


def _unreachable(cell: Cell, source: str) -> bool:
    return any(isinstance(body, KeyDeny) and body.code == "unreachable" for body in _of(cell, source))


@pytest.mark.parametrize("source", SOURCES)
def test_a_start_without_an_authority_ends_and_says_which(base: Base, cells: Cells, source: str) -> None:
    with base.down(source):
        cell = cells.start()
        assert cell.ended() == 4
    assert f"SourceUnavailable in LOGGED: source {source!r}: unreachable" in cell.console()
    assert [type(body) for body in _of(cell, source)] == [KeyDeny]
    last = cell.bodies()[-1]
    assert isinstance(last, Death)
    assert (last.reason, last.source, last.last_token_ms) == ("unavailable", source, None)
    # To an auditor a start that was refused is a whole boot: nothing open, nothing missing.
    assert not any(one["status"] in ("FAIL", "LIMIT") for one in cell.findings())


@pytest.mark.parametrize("source", SOURCES)
def test_without_renewal_it_serves_to_its_deadline_and_not_beyond(base: Base, cells: Cells, source: str) -> None:
    cell = cells.start().serving()
    with base.down(source):
        alone, asked_ms, patience = False, 0, time.monotonic() + PATIENCE_S
        while cell.exit() is None:
            assert time.monotonic() < patience
            found_nobody, now_ms = _unreachable(cell, source), _now_ms()
            if _answers(cell):
                alone, asked_ms = found_nobody, now_ms
        assert cell.exit() == 3
    leases = [body for body in _of(cell, source) if isinstance(body, KeyLease)]
    # 1. It went on within the lease: who asked after a renewal that found nobody was answered.
    assert alone
    # 2. The deadline stood where the last grant had put it: nobody who asked after it was.
    assert asked_ms < leases[-1].until_ms + READINGS_MS
    death = cell.bodies()[-1]
    assert isinstance(death, Death)
    assert (death.reason, death.source) == ("lease-ended", source)
    assert death.last_token_ms is not None
    # What passed is judged on one clock (tests/enclave/test_lease_table.py); here are two readings of the module's.
    assert death.last_token_ms <= min(leases[-1].until_ms + READINGS_MS, death.wiped_ms)
    assert leases[-1].until_ms - READINGS_MS <= death.wiped_ms <= leases[-1].until_ms + WIPE_MS


@pytest.mark.parametrize("source", SOURCES)
def test_an_authority_that_is_back_in_time_finds_the_enclave_serving(base: Base, cells: Cells, source: str) -> None:
    cell = cells.start().serving()
    with base.down(source):
        wait_until("a renewal that found nobody", lambda: _unreachable(cell, source))
    held = [body for body in _of(cell, source) if isinstance(body, KeyLease)][-1]
    wait_until("a renewal after it", lambda: _of(cell, source)[-1] not in (held, *_denials(cell, source)))
    wait_until("the deadline of before", lambda: _now_ms() > held.until_ms + READINGS_MS)
    assert cell.exit() is None
    assert ask(cell.trust).text


def _denials(cell: Cell, source: str) -> list[Body]:
    return [body for body in _of(cell, source) if isinstance(body, KeyDeny)]
