"""Use tickets: signed by whom the policy names, registered before the call, counted down, and for exactly one thing."""

from dataclasses import replace
from typing import Any

import pytest
from tests.authority.guard.conftest import ANN, NOW, USES, Stage, everything, with_people

from anchorhold.attestation.errors import EvidenceError, Malformed, SignatureInvalid
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Face
from anchorhold.authority.guard.tickets import MAX_TICKET_MS, MAX_TICKET_USES, verify_ticket

USE = USES[Face.XKS]


@pytest.fixture
def asking(stage: Stage) -> Stage:
    """A guard whose one tuple asks for a ticket and a purpose."""
    policy = with_people(everything(USE))
    policy["allow"][0].update({"ticket": True, "purpose": True})
    stage.policy(policy)
    return stage


@pytest.mark.parametrize("face", list(Face), ids=lambda face: face.value)
def test_a_ticket_is_used_up_and_stays_so_over_a_restart_and_a_second_registration(stage: Stage, face: Face) -> None:
    use = USES[face]
    policy = with_people(everything(use))
    policy["allow"][0]["ticket"] = True
    stage.policy(policy)
    assert stage.decide(use).rule == "guard-ticket"
    raw = stage.ticket(use, max_uses=2)
    first = stage.decide(use)
    assert first.allowed
    assert first.ticket is not None
    stage.restart()
    assert stage.decide(use).allowed
    assert stage.decide(use).rule == "guard-ticket"
    assert stage.ticket(use, max_uses=2) == raw
    assert stage.decide(use).rule == "guard-ticket"


@pytest.mark.parametrize("change", [{"principal": "x"}, {"key": "x"}, {"operation": "x"}], ids=str)
def test_a_ticket_for_something_else_counts_for_nothing(asking: Stage, change: dict[str, Any]) -> None:
    asking.ticket(USE, **change)
    assert asking.decide(USE).rule == "guard-purpose-missing"


def test_the_reason_comes_from_the_ticket_where_the_protocol_has_none(asking: Stage) -> None:
    asking.ticket(USE, purpose="support-4711")
    assert asking.decide(USE).purpose == "support-4711"


def test_a_ticket_for_another_reason_than_the_calls_own_counts_for_nothing(asking: Stage) -> None:
    asking.ticket(USE, purpose="support-4711")
    assert asking.decide(replace(USE, purpose="chat")).rule == "guard-ticket"


def test_a_ticket_cannot_bring_in_a_third_partys_request(asking: Stage) -> None:
    asking.ticket(USE, purpose="THIRD_PARTY_DATA_REQUEST")
    assert asking.decide(USE).rule == "guard-third-party"


def test_a_ticket_counts_from_its_beginning_to_its_end(asking: Stage) -> None:
    asking.ticket(USE, not_before=Milliseconds(NOW + 10), not_after=Milliseconds(NOW + 20), max_uses=9)
    for at, allowed in ((9, False), (10, True), (19, True), (20, False)):
        asking.now = NOW + at
        assert asking.decide(USE).allowed is allowed, at


def test_a_signer_taken_out_of_the_policy_takes_the_tickets_along(asking: Stage) -> None:
    asking.ticket(USE)
    policy = everything(USE)
    policy["allow"][0]["ticket"] = True
    asking.policy(policy)
    assert asking.decide(USE).rule == "guard-ticket"


def test_only_a_ticket_signer_signs_tickets(asking: Stage) -> None:
    with pytest.raises(SignatureInvalid):
        asking.ticket(USE, signer=ANN)


@pytest.mark.parametrize(
    "change",
    [
        {"max_uses": 0},
        {"max_uses": MAX_TICKET_USES + 1},
        {"not_after": NOW},
        {"not_after": NOW + MAX_TICKET_MS + 1},
        {"not_before": -1},
        {"nonce": b""},
    ],
    ids=str,
)
def test_a_ticket_out_of_bounds_is_not_signed(asking: Stage, change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        asking.ticket(USE, **change)


def test_any_changed_byte_of_a_ticket_is_refused(asking: Stage) -> None:
    raw = asking.ticket(USE)
    with asking.engine.begin() as connection:
        policy = asking.guard.policy(connection)
    assert policy is not None
    for at in range(len(raw)):
        with pytest.raises(EvidenceError):
            verify_ticket(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], policy.ticket_signers)
