"""A parent that holds back a renewal: the deadline counts from the sending, so delay only shortens it (DESIGN 5).

The authority has granted each time; what it granted lies at the parent. Times are compared with the authority's own
journal, never with what the enclave says of itself alone.
"""

import json
import time
from collections.abc import Iterator

import pytest
from tests.e2e.cell import SOURCES, Base, Cell, Cells, ask, wait_until
from tests.e2e.conftest import SHORT_LEASE_MS

from anchorhold.attestation.transcript.bodies import Death, KeyLease
from anchorhold.authority.journal import JournalEntry
from anchorhold.client.errors import Unavailable

from .hostile import Wire

pytestmark = pytest.mark.slow
SLACK_MS = 3_500  # a wipe on a machine that stalls; a renewal more would have put the end off by 5 s
READINGS_MS = 2_000  # enclave time starts anew at each document: late by what the module's call took
HELD_S = 6.0  # more than both of these, and within the lease in force, which has two thirds of 15 s left
CHALLENGES = {"kms": 0, "owner": 1}  # connections of a renewal before the one that is answered with the lease


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def wire(base: Base, source: str) -> Iterator[Wire]:
    made = Wire(base.config["egress"][source])
    yield made
    made.close()


def leases(cell: Cell, source: str) -> list[KeyLease]:
    return [body for body in cell.bodies() if isinstance(body, KeyLease) and body.source == source]


def grants(base: Base, source: str) -> list[JournalEntry]:
    """What the authority says it has granted. One enclave is running, so all that is new is its."""
    if source == "owner":
        return [entry for entry in base.journal(source) if entry.type == "release"]
    events = [(entry, json.loads(str(entry.body["event"]))) for entry in base.journal(source) if entry.type == "call"]
    return [entry for entry, event in events if event["eventName"] == "Decrypt" and "errorCode" not in event]


def hold_from_the_next_renewal(cell: Cell, source: str, wire: Wire) -> None:
    """Right after a renewal, so that no connection of an earlier one is mistaken for it."""
    seen = len(leases(cell, source))
    wait_until("a renewal", lambda: len(leases(cell, source)) > seen)
    wire.hold(after=CHALLENGES[source])


def test_a_renewal_held_past_the_deadline_revives_nothing(base: Base, cells: Cells, source: str, wire: Wire) -> None:
    cell = cells.start(egress={source: wire.address}).serving()
    hold_from_the_next_renewal(cell, source, wire)
    delivered = grants(base, source)[-1]
    taken = leases(cell, source)
    assert cell.ended() == 3
    wire.let_go()
    # 1. The authority had renewed; the enclave ended all the same, when the last lease it was given ran out.
    assert len(grants(base, source)) > grants(base, source).index(delivered) + 1
    assert leases(cell, source) == taken
    death = cell.bodies()[-1]
    assert isinstance(death, Death)
    assert (death.reason, death.source) == ("lease-ended", source)
    # 2. At most ttl after that grant was made: the sending lies before it.
    assert death.wiped_ms <= delivered.t + SHORT_LEASE_MS + SLACK_MS
    with pytest.raises(Unavailable):
        ask(cell.trust)


def test_a_renewal_delivered_late_counts_from_when_it_was_sent(
    base: Base, cells: Cells, wire: Wire, source: str
) -> None:
    cell = cells.start(egress={source: wire.address}).serving()
    hold_from_the_next_renewal(cell, source, wire)
    delivered, taken = len(grants(base, source)), len(leases(cell, source))
    wait_until("the next grant", lambda: len(grants(base, source)) > delivered)
    granted_ms = grants(base, source)[delivered].t
    time.sleep(HELD_S)
    let_go_ms = time.time_ns() // 1_000_000
    wire.let_go()
    wait_until("the late lease", lambda: len(leases(cell, source)) > taken)
    # Every later renewal stays with the parent.
    assert cell.ended() == 3
    assert len(leases(cell, source)) == taken + 1
    death = cell.bodies()[-1]
    assert isinstance(death, Death)
    assert death.wiped_ms <= granted_ms + SHORT_LEASE_MS + SLACK_MS
    assert granted_ms + SLACK_MS < let_go_ms - READINGS_MS, "counted from its arrival it would have ended later"
