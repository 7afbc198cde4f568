"""The allow-list is tuples, not hints: every part of one counts, and registers are known only as far as they are."""

from dataclasses import replace
from typing import Any

import pytest
from tests.authority.guard.conftest import USES, Stage, everything

from anchorhold.authority.guard import Face

XKS = USES[Face.XKS]
WHOLE = {"via_service": [XKS.via_service], "vpc": [XKS.vpc], "vpce": [XKS.vpce]}


def allowing(**more: Any) -> dict[str, Any]:
    policy = everything(XKS)
    policy["allow"][0].update(more)
    return policy


@pytest.mark.parametrize(
    "change",
    [
        {"principal": "arn:aws:iam::000000000001:role/other"},
        {"operation": "xks:Encrypt"},
        {"key": "external-2"},
        {"vpc": "vpc-2"},
        {"vpc": None},
        {"vpce": "vpce-2"},
        {"vpce": None},
        {"via_service": "ec2.eu-central-1.amazonaws.com"},
        {"via_service": None},
        {"face": Face.KMS},
    ],
    ids=str,
)
def test_a_use_that_differs_in_one_part_of_the_tuple_is_denied(stage: Stage, change: dict[str, Any]) -> None:
    stage.policy(allowing(**WHOLE))
    assert stage.decide(XKS).allowed
    decision = stage.decide(replace(XKS, **change))
    assert (decision.allowed, decision.rule, decision.alerts) == (False, "guard-allow", ("guard-allow",))


def test_patterns_name_many_principals_and_no_more(stage: Stage) -> None:
    stage.policy(allowing(principals=["arn:aws:iam::*:role/app-?"], keys=["*"]))
    assert stage.decide(replace(XKS, principal="arn:aws:iam::7:role/app-1")).allowed
    assert not stage.decide(replace(XKS, principal="arn:aws:iam::7:role/app-12")).allowed


@pytest.mark.parametrize("register", ["PCR0", "PCR1", "PCR2"])
def test_all_registers_of_one_set_hold_together(stage: Stage, register: str) -> None:
    use = USES[Face.KMS]
    policy = everything(use)
    other = {"PCR0": "0b" * 48, "PCR1": "0b" * 48, "PCR2": "0b" * 48}
    policy["allow"][0]["measured"] = [dict(use.measured), other]
    stage.policy(policy)
    assert stage.decide(use).basis == "proved"
    # A register from the one set and a register from the other make neither.
    mixed = replace(use, measured={**use.measured, register: other[register]})
    assert stage.decide(mixed).rule == "guard-measured"
    missing = replace(use, measured={name: value for name, value in use.measured.items() if name != register})
    assert stage.decide(missing).rule == "guard-measured"


def test_told_registers_never_pass_for_measured_ones(stage: Stage) -> None:
    stage.policy(allowing(measured=[dict(XKS.told)]))
    assert stage.decide(XKS).rule == "guard-measured"


def test_told_registers_count_where_the_policy_says_so_and_the_decision_says_told(stage: Stage) -> None:
    stage.policy(allowing(told=[dict(XKS.told)]))
    decision = stage.decide(XKS)
    assert (decision.allowed, decision.basis, decision.record()["registers"]) == (True, "told", "told")
    proved = stage.decide(replace(XKS, measured=XKS.told, told={}))
    assert (proved.allowed, proved.basis) == (True, "proved")
    assert stage.decide(replace(XKS, told={})).rule == "guard-told"


def test_the_tuple_whose_registers_hold_is_the_one_that_counts(stage: Stage) -> None:
    use = USES[Face.KMS]
    policy = everything(use)
    entry = policy["allow"][0]
    policy["allow"] = [
        {**entry, "name": "old", "measured": [{"PCR0": "0b" * 48}]},
        {**entry, "name": "new", "measured": [{"PCR0": "a0" * 48}], "ticket": True},
    ]
    policy["ticket_signers"] = [{"name": "plane", "key": "1f" * 32}]
    stage.policy(policy)
    assert stage.decide(use).rule == "guard-ticket"


def test_a_purpose_has_exactly_one_class_and_the_decision_says_which(stage: Stage) -> None:
    use = USES[Face.OWNER]
    stage.policy({**everything(use), "purposes": {"customer-chat": "serve", "evaluation": "evaluate"}})
    decision = stage.decide(use)
    assert (decision.purpose, decision.purpose_class) == ("customer-chat", "serve")
    assert stage.decide(replace(use, purpose="evaluation")).purpose_class == "evaluate"


def test_a_third_partys_request_is_served_only_where_a_policy_names_it(stage: Stage) -> None:
    use = replace(USES[Face.OWNER], purpose="THIRD_PARTY_DATA_REQUEST")
    stage.policy(everything(use))
    assert stage.decide(use).rule == "guard-third-party"
    stage.policy({**everything(use), "purposes": {"THIRD_PARTY_DATA_REQUEST": "serve"}})
    assert stage.decide(use).allowed


@pytest.mark.parametrize(("held", "duty"), [("kms:*Key", "kms:GenerateData*"), ("kms:?nableKey", "kms:E*Key")])
def test_wildcards_that_only_cross_give_the_other_duty_too(stage: Stage, held: str, duty: str) -> None:
    use = replace(USES[Face.KMS], operation="kms:Decrypt")
    policy = everything(use)
    policy["allow"].append(policy["allow"][0] | {"name": "crossing", "operations": [held]})
    policy["separation"] = {"use": ["kms:Decrypt"], "administer": ["kms:PutKeyPolicy", duty]}
    stage.policy(policy)
    decision = stage.decide(use)
    assert (decision.rule, "crossing" in decision.detail) == ("guard-separation", True)
    policy["separation"]["administer"] = ["kms:PutKeyPolicy", "kms:Generate?"]
    stage.policy(policy)
    assert stage.decide(use).allowed
