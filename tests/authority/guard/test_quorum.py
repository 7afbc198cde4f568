"""k of n: voices are counted by key, of those whom the policy in force names, over exactly what they read."""

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.authority.guard.cases import FREEZE
from tests.authority.guard.conftest import (
    ANN,
    BEN,
    CAT,
    DAY_MS,
    NOW,
    TABLES,
    USES,
    Stage,
    everything,
    with_people,
    words,
)

from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Face, Use
from anchorhold.authority.guard.ledger import Ledger
from anchorhold.authority.guard.requests import Kind, Request, decode_request, sign_request, subject_of

FACES = list(Face)


def waiting(stage: Stage) -> list[tuple[bytes, bytes, str]]:
    with stage.engine.begin() as connection:
        policy = stage.guard.policy(connection)
        assert policy is not None
        ledger = Ledger(TABLES, connection)
        return [(one.id, one.raw, one.request.kind.value) for one in ledger.waiting(policy, Milliseconds(stage.now))]


def asking(use: Use) -> dict[str, Any]:
    policy = with_people(everything(use))
    policy["allow"][0]["approval"] = True
    return policy


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.value)
def test_a_use_is_held_until_two_of_three_have_signed_and_then_passes_once(stage: Stage, face: Face) -> None:
    use = USES[face]
    stage.policy(asking(use))
    assert stage.decide(use).rule == "guard-approval"
    assert stage.decide(use).rule == "guard-approval"
    ((identity, raw, kind),) = waiting(stage)
    assert kind == "use"
    assert stage.sign(identity, raw, ANN) == ("ann", 1)
    assert not stage.decide(use).allowed
    # Nobody has two voices.
    assert stage.sign(identity, raw, ANN) == ("ann", 1)
    assert not stage.decide(use).allowed
    assert stage.sign(identity, raw, BEN) == ("ben", 2)
    decision = stage.decide(use)
    assert (decision.allowed, decision.approval) == (True, identity)
    assert stage.decide(use).rule == "guard-approval"


def test_a_stranger_has_no_voice(stage: Stage) -> None:
    use = USES[Face.KMS]
    stage.policy(asking(use))
    stage.decide(use)
    ((identity, raw, _),) = waiting(stage)
    assert stage.sign(identity, raw, Ed25519PrivateKey.generate()) is None
    stage.sign(identity, raw, ANN)
    assert not stage.decide(use).allowed


def test_an_approver_taken_out_of_the_policy_has_no_voice_any_more(stage: Stage) -> None:
    use = USES[Face.KMS]
    stage.policy(asking(use))
    stage.approve(Kind.USE, words(use), ANN, BEN)
    without_ben = asking(use)
    del without_ben["approvers"][1]
    stage.policy(without_ben)
    assert not stage.decide(use).allowed


@pytest.mark.parametrize("change", [{"key": "k"}, {"operation": "o"}, {"principal": "p"}], ids=str)
def test_an_approval_is_for_this_use_and_no_other(stage: Stage, change: dict[str, Any]) -> None:
    use = USES[Face.KMS]
    policy = asking(use)
    policy["allow"][0].update(principals=["*"], operations=["*"], keys=["*"])
    stage.policy(policy)
    stage.approve(Kind.USE, words(replace(use, **change)), ANN, BEN)
    assert not stage.decide(use).allowed


def test_an_approval_is_over_at_its_end(stage: Stage) -> None:
    use = USES[Face.KMS]
    stage.policy(asking(use))
    stage.approve(Kind.USE, words(use), ANN, BEN, uses=9)
    stage.now = NOW + DAY_MS - 1
    assert stage.decide(use).allowed
    stage.now = NOW + DAY_MS
    assert not stage.decide(use).allowed


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.value)
@pytest.mark.parametrize(
    ("anomaly", "rule"), [("new_principal", "guard-new-principal"), ("new_measurement", "guard-new-measurement")]
)
def test_what_was_never_seen_is_held_and_once_admitted_is_known(
    stage: Stage, face: Face, anomaly: str, rule: str
) -> None:
    use = USES[face]
    stage.policy({**with_people(everything(use)), "anomalies": {anomaly: "hold"}})
    decision = stage.decide(use)
    assert (decision.rule, decision.alerts) == (rule, (rule,))
    ((identity, raw, _),) = waiting(stage)
    stage.sign(identity, raw, CAT)
    assert not stage.decide(use).allowed
    stage.sign(identity, raw, ANN)
    assert stage.decide(use).allowed
    stage.now += 2 * DAY_MS
    assert stage.decide(use).allowed


def test_an_alert_lets_pass_and_says_so_the_first_time(stage: Stage) -> None:
    use = USES[Face.KMS]
    stage.policy({**everything(use), "anomalies": {"new_principal": "alert", "new_measurement": "alert"}})
    assert stage.decide(use).alerts == ("guard-new-principal", "guard-new-measurement")
    assert stage.decide(use).alerts == ()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"allow": []}, "guard-allow"),
        ({"freeze": [FREEZE]}, "guard-freeze"),
        ({"budgets": [{"name": "d", "per": "key", "uses": 1}]}, "guard-budget"),
    ],
    ids=str,
)
def test_break_glass_goes_past_a_rule_that_allows_it_and_alarms(
    stage: Stage, change: dict[str, Any], rule: str
) -> None:
    use = USES[Face.KMS]
    stage.policy(with_people(everything(use)) | change)
    while stage.decide(use).allowed:
        pass
    assert stage.decide(use).rule == rule
    identity = stage.approve(Kind.BREAK_GLASS, words(use), ANN, BEN)
    decision = stage.decide(use)
    assert (decision.allowed, decision.alerts, decision.approval) == (True, (rule,), identity)
    assert stage.decide(use).rule == rule


@pytest.mark.parametrize(
    "change",
    [{"partitions": ["aws-eusc"]}, {"regions": ["eusc-de-east-1"]}, {"measured": [{"PCR0": "0b" * 48}]}],
    ids=str,
)
def test_break_glass_does_not_go_past_place_and_measurement(stage: Stage, change: dict[str, Any]) -> None:
    use = USES[Face.KMS]
    policy = with_people(everything(use))
    if "measured" in change:
        policy["allow"][0].update(change)
    else:
        policy.update(change)
    stage.policy(policy)
    stage.approve(Kind.BREAK_GLASS, words(use), ANN, BEN)
    assert not stage.decide(use).allowed


def test_break_glass_does_not_go_past_the_kill_switch(stage: Stage) -> None:
    use = USES[Face.KMS]
    stage.policy(with_people(everything(use)))
    stage.approve(Kind.BREAK_GLASS, words(use), ANN, BEN, CAT)
    stage.guard.kill_file.set("drill")
    assert stage.decide(use).rule == "guard-kill"


def test_approvers_sign_what_they_read(stage: Stage) -> None:
    """A subject that the details do not say is refused before anybody signs it."""
    stage.policy(with_people(everything(USES[Face.KMS])))
    details = words(USES[Face.KMS])
    subject = subject_of(Kind.USE, {**details, "key": "another"})
    request = Request(Kind.USE, subject, details, NOW, Milliseconds(NOW + 1), 1, b"n" * 16)
    with pytest.raises(Mismatch, match="subject"):
        request.encoded()
    with pytest.raises(Malformed):
        subject_of(Kind.USE, {"face": "kms"})


def test_any_changed_byte_of_a_request_has_another_id_and_no_voices(stage: Stage) -> None:
    use = USES[Face.KMS]
    stage.policy(asking(use))
    request = Request(
        Kind.USE, subject_of(Kind.USE, words(use)), words(use), NOW, Milliseconds(NOW + DAY_MS), 1, b"n" * 16
    )
    raw = request.encoded()
    longer = replace(request, max_uses=2).encoded()
    identity = stage.approve(Kind.USE, words(use))
    assert stage.sign(identity, longer, ANN) is None
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        try:
            assert decode_request(changed) != request
            sign_request(changed, ANN)
        except EvidenceError:
            continue
        assert stage.sign(identity, changed, ANN) is None
