"""How many requests wait: nobody keeps the others from asking their approvers."""

from dataclasses import replace
from typing import cast

import pytest
from tests.authority.guard.conftest import ANN, BEN, USES, Stage, act, everything, with_people

from anchorhold.authority.admin.desk import ActRefused, Fields
from anchorhold.authority.guard import Face, Use
from anchorhold.authority.guard.guard import HOLD_MS
from anchorhold.authority.guard.ledger import (
    KEPT_FOR_REARM,
    MAX_HELD,
    MAX_HELD_EACH,
    MAX_PROPOSED_EACH,
    MAX_REARM_EACH,
    MAX_WAITING,
)
from anchorhold.authority.guard.operators import Operator
from anchorhold.authority.guard.requests import Request, decode_request, request_id, sign_request
from anchorhold.authority.guard.roles import Role

USE = USES[Face.OWNER]
ADA = Operator("ada", Role.ADMINISTRATOR)


def image(number: int) -> Use:
    """The use of an enclave of its own."""
    return replace(USE, principal=f"enclave:{number:096x}")


def model(use: Use, number: int) -> Use:
    return replace(use, key=f"{number:096x}")


def propose(stage: Stage, who: str, kind: str = "principal", **details: str) -> bytes:
    fields: Fields = {"kind": kind, "details": {**details}, "valid_ms": 60_000, "max_uses": 1}
    made = act(stage, "propose", fields, Operator(who, Role.OPERATOR))
    assert isinstance(made["request"], bytes)
    return made["request"]


def waiting(stage: Stage) -> list[tuple[bytes, Request]]:
    shown = cast("list[dict[str, bytes]]", act(stage, "approvals")["waiting"])
    return [(one["request"], decode_request(one["request"])) for one in shown]


def agree(stage: Stage, raw: bytes) -> None:
    for voice in (ANN, BEN):
        act(stage, "approve", {"id": request_id(raw), "signature": sign_request(raw, voice)})


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
    raw = propose(asking, "olga", "rearm", killed=str(act(asking, "show")["killed_since"]))
    agree(asking, raw)
    act(asking, "rearm")
    assert act(asking, "show")["killed"] is None


def test_one_principal_does_not_keep_the_others_uses_from_being_held(asking: Stage) -> None:
    for number in range(MAX_HELD_EACH):
        assert "held for approval" in asking.decide(model(image(0), number)).detail
    assert f"at most {MAX_HELD_EACH} uses of enclave:" in asking.decide(model(image(0), MAX_HELD_EACH)).detail
    assert "held for approval" in asking.decide(image(1)).detail


def test_one_operator_does_not_keep_the_others_from_proposing(asking: Stage) -> None:
    for number in range(MAX_PROPOSED_EACH):
        propose(asking, "olga", principal=str(number))
    with pytest.raises(ActRefused, match=f"at most {MAX_PROPOSED_EACH} open approval requests of olga"):
        propose(asking, "olga", principal="one more", proposed_by="otto")
    propose(asking, "otto", principal="one more")


def fill(stage: Stage) -> None:
    """By as many operators as it takes."""
    for place in range(MAX_WAITING - KEPT_FOR_REARM):
        propose(stage, f"o{place // MAX_PROPOSED_EACH}", principal=str(place))


def test_all_operators_together_do_not_keep_anybody_from_asking_to_re_arm(asking: Stage) -> None:
    fill(asking)
    with pytest.raises(ActRefused, match=f"at most {MAX_WAITING - KEPT_FOR_REARM} open approval requests, got another"):
        propose(asking, "otto", principal="one more")
    act(asking, "kill", {"reason": "incident 7"})
    killed = str(act(asking, "show")["killed_since"])
    for _ in range(MAX_REARM_EACH):
        propose(asking, "o0", "rearm", killed=killed)
    with pytest.raises(ActRefused, match=f"at most {MAX_REARM_EACH} open requests to re-arm of o0"):
        propose(asking, "o0", "rearm", killed=killed)
    propose(asking, "otto", "rearm", killed=killed)


def test_only_the_kill_in_force_is_asked_to_be_ended(asking: Stage) -> None:
    with pytest.raises(ActRefused, match="guard-not-killed"):
        propose(asking, "olga", "rearm", killed="7")
    act(asking, "kill", {"reason": "incident 7"})
    with pytest.raises(ActRefused, match=f"killed: expected {asking.now}, got '7'"):
        propose(asking, "olga", "rearm", killed="7")
    propose(asking, "olga", "rearm", killed=str(asking.now))


def test_who_is_dismissed_has_nothing_waiting(asking: Stage) -> None:
    for who in ("olga", "otto"):
        act(asking, "operator-add", {"name": who, "role": "operator"}, ADA)
    for number in range(3):
        propose(asking, "olga", principal=str(number))
    propose(asking, "otto", principal="3")
    assert "held for approval" in asking.decide(image(0)).detail
    assert act(asking, "operator-remove", {"name": "olga"}, ADA) == {"name": "olga", "withdrawn": 3}
    assert {request.asker for _, request in waiting(asking)} == {"otto", image(0).principal}


def test_approvers_read_whose_proposal_it_is_whatever_was_sent(asking: Stage) -> None:
    assert decode_request(propose(asking, "olga", principal="7", proposed_by="ann")).proposer == "olga"


@pytest.mark.parametrize("how", ["over", "used up"])
def test_what_is_used_up_or_over_makes_room(asking: Stage, how: str) -> None:
    held = [model(image(0), number) for number in range(MAX_HELD_EACH)]
    for use in held:
        asking.decide(use)
    one_more = model(image(0), MAX_HELD_EACH)
    assert "nobody can be asked" in asking.decide(one_more).detail
    if how == "over":
        asking.now += HOLD_MS + 1
    else:
        for raw, _ in waiting(asking):
            agree(asking, raw)
        assert asking.decide(held[0]).allowed
    assert "held for approval" in asking.decide(one_more).detail
