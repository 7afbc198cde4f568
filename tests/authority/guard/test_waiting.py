"""How many requests wait: nobody keeps the others from asking their approvers."""

from dataclasses import replace

import pytest
from tests.authority.guard.conftest import ANN, BEN, USES, Stage, act, everything, with_people

from anchorhold.authority.admin.desk import ActRefused, Fields
from anchorhold.authority.guard import Face, Use
from anchorhold.authority.guard.ledger import MAX_HELD, MAX_HELD_EACH, MAX_PROPOSED_EACH, MAX_WAITING
from anchorhold.authority.guard.operators import Operator
from anchorhold.authority.guard.requests import decode_request, sign_request
from anchorhold.authority.guard.roles import Role

USE = USES[Face.OWNER]


def image(number: int) -> Use:
    """The use of an enclave of its own."""
    return replace(USE, principal=f"enclave:{number:096x}")


def model(use: Use, number: int) -> Use:
    return replace(use, key=f"{number:096x}")


def propose(stage: Stage, who: str, **details: str) -> bytes:
    fields: Fields = {"kind": "rearm", "details": {**details}, "valid_ms": 60_000, "max_uses": 1}
    made = act(stage, "propose", fields, Operator(who, Role.OPERATOR))
    assert isinstance(made["request"], bytes)
    return made["request"]


@pytest.fixture
def asking(stage: Stage) -> Stage:
    """A guard that asks two of Ann, Ben and Cat for every use."""
    policy = with_people(everything(USE))
    policy["allow"][0] |= {"approval": True, "principals": ["enclave:*"], "keys": ["*"]}
    stage.policy(policy)
    return stage


def test_images_without_number_do_not_keep_people_from_re_arming(asking: Stage) -> None:
    """Whoever runs the instance can make up as many as they like: each is a principal of its own."""
    for number in range(MAX_HELD):
        assert "held for approval" in asking.decide(image(number)).detail
    refused = asking.decide(image(MAX_HELD))
    assert (refused.allowed, refused.rule) == (False, "guard-approval")
    assert f"nobody can be asked: expected at most {MAX_HELD} uses held, got another" in refused.detail
    assert "held for approval" in asking.decide(image(0)).detail, "that one waits already"
    act(asking, "kill", {"reason": "incident 7"})
    raw = propose(asking, "olga", killed=str(act(asking, "show")["killed_since"]))
    identity = act(asking, "approvals")["waiting"]
    assert isinstance(identity, list)
    mine = next(one["id"] for one in identity if isinstance(one, dict) and one["request"] == raw)
    for voice in (ANN, BEN):
        act(asking, "approve", {"id": mine, "signature": sign_request(raw, voice)})
    act(asking, "rearm")
    assert act(asking, "show")["killed"] is None


def test_one_principal_does_not_keep_the_others_uses_from_being_held(asking: Stage) -> None:
    for number in range(MAX_HELD_EACH):
        assert "held for approval" in asking.decide(model(image(0), number)).detail
    assert f"at most {MAX_HELD_EACH} uses of enclave:" in asking.decide(model(image(0), MAX_HELD_EACH)).detail
    assert "held for approval" in asking.decide(image(1)).detail


def test_one_operator_does_not_keep_the_others_from_proposing(asking: Stage) -> None:
    for number in range(MAX_PROPOSED_EACH):
        propose(asking, "olga", killed=str(number))
    with pytest.raises(ActRefused, match=f"at most {MAX_PROPOSED_EACH} open approval requests of olga"):
        propose(asking, "olga", killed="7000", proposed_by="otto")
    propose(asking, "otto", killed="7000")
    for who in ("ada", "alf", "amy"):
        for number in range(MAX_WAITING // 4 - 1):
            propose(asking, who, killed=f"8{number}")
    propose(asking, "otto", killed="7001")
    propose(asking, "otto", killed="7002")
    with pytest.raises(ActRefused, match=f"at most {MAX_WAITING} open approval requests, got another"):
        propose(asking, "otto", killed="7003")


def test_approvers_read_whose_proposal_it_is_whatever_was_sent(asking: Stage) -> None:
    assert decode_request(propose(asking, "olga", killed="7", proposed_by="ann")).proposer == "olga"


def test_what_is_used_up_or_over_makes_room(asking: Stage) -> None:
    for number in range(MAX_PROPOSED_EACH):
        propose(asking, "olga", killed=str(number))
    asking.now += 60_001
    propose(asking, "olga", killed="7000")
