"""One test a rule and face: under its policy the use is denied by it; without the rule the same use goes through."""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from tests.authority.guard.cases import CASES, Case
from tests.authority.guard.conftest import NOW, TABLES, USES, Stage, everything

from anchorhold.authority.guard import Face, Guard, Use
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.operators import appoint
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.guard.rules import MAX_UNMATCHED, RULES
from anchorhold.authority.guard_codes import GUARD_CODES

EACH = [(case, face) for case in CASES for face in case.faces]
# A request for data by a third party is denied by every policy that does not name it.
IN_POLICY = [(case, face) for case, face in EACH if case.alone and case.code != "guard-third-party"]
SOURCE = Path(__file__).resolve().parents[3] / "src/anchorhold/authority"


def named(one: Case | Face) -> str:
    return one.code if isinstance(one, Case) else one.value


def _prepared(stage: Stage, case: Case, face: Face) -> Use:
    """The policy of the case is in force, and what comes before has happened."""
    use = case.use(USES[face])
    if case.code == "guard-role":
        with stage.engine.begin() as connection:
            appoint(Memory(TABLES, connection), "eve", Role.AUDITOR, NOW)
        use = Use(face, "operator:eve", "owner:Register", "d1" * 48)
    policy = everything(use)
    case.change(policy, use)
    stage.policy(policy)
    for _ in range(case.before):
        assert stage.decide(use).allowed
    if case.code == "guard-kill":
        stage.guard.kill_file.set("drill")
    if case.code == "guard-log":
        stage.guard.latch.shut("drill")
    stage.now += 2_000
    return use


@pytest.mark.parametrize(("case", "face"), EACH, ids=named)
def test_the_rule_denies_and_its_deletion_lets_the_same_use_through(stage: Stage, case: Case, face: Face) -> None:
    use = _prepared(stage, case, face)
    decision = stage.decide(use)
    assert (decision.allowed, decision.rule) == (False, case.code)
    assert decision.detail
    assert stage.decide(use, Guard(TABLES, stage.folder, rules=stage.without(case.code))).allowed


@pytest.mark.parametrize(("case", "face"), IN_POLICY, ids=named)
def test_a_policy_that_leaves_the_rule_out_lets_the_same_use_through(stage: Stage, case: Case, face: Face) -> None:
    use = _prepared(stage, case, face)
    stage.policy(everything(use))
    assert stage.decide(use).allowed


def test_every_rule_has_a_case_and_every_case_a_rule() -> None:
    assert [case.code for case in CASES] == [rule.code for rule in RULES]


def test_every_code_that_the_guard_says_can_be_explained_and_no_other_has_a_row() -> None:
    said = {
        node.value
        for folder in ("guard", "admin")
        for path in (SOURCE / folder).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("guard-")
    }
    # Kinds of journal entries that are no codes.
    entries = {"guard-rearm", "guard-acknowledge", "guard-propose", "guard-approve", "guard-deny"}
    assert said - entries == GUARD_CODES.keys()


def test_without_a_policy_nothing_is_allowed(stage: Stage) -> None:
    with stage.engine.begin() as connection:
        connection.execute(TABLES.tables["guard_policies"].delete())
    assert stage.decide(USES[Face.KMS]).rule == "guard-policy-missing"


def test_an_empty_policy_allows_nothing(stage: Stage) -> None:
    assert [stage.decide(use).rule for use in USES.values()] == ["guard-allow"] * 3


FROZEN: dict[str, Any] = {
    "freeze": [{"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z", "reason": "year"}],
    "hours": {"open": [{"days": ["sun"], "from": "00:00", "to": "00:01"}], "action": "deny"},
    "buckets": [{"name": "b", "per": "principal", "operations": ["*"], "uses": 1, "seconds": 3600}],
    "budgets": [{"name": "d", "per": "principal", "operations": ["*"], "uses": 1}],
    "anomalies": {"new_principal": "kill", "burst": {"uses": 1, "seconds": 3600, "action": "kill"}},
}


@pytest.mark.parametrize("brake", FROZEN)
@pytest.mark.parametrize(
    ("face", "principal", "safer", "other"),
    [
        (Face.OWNER, "operator:olga", "owner:Revoke", "owner:Incident"),
        (Face.KMS, USES[Face.KMS].principal, "kms:DisableKey", "kms:EnableKey"),
    ],
    ids=["revoke", "disable"],
)
def test_what_makes_things_safer_is_slowed_by_nothing(
    stage: Stage, face: Face, principal: str, safer: str, other: str, brake: str
) -> None:
    asked = replace(USES[face], principal=principal, operation=safer)
    policy = everything(asked)
    policy["allow"][0]["operations"] = [safer, other]
    stage.policy(policy | {brake: FROZEN[brake]})
    with stage.engine.begin() as connection:
        Memory(TABLES, connection).put_operator("olga", "operator", b"t", NOW)
    assert [stage.decide(asked).rule for _ in range(3)] == ["guard-allowed"] * 3
    refused = [stage.decide(replace(asked, operation=other)) for _ in range(2)]
    assert not refused[-1].allowed


def test_uses_that_wait_for_a_report_are_bounded_and_past_the_bound_each_is_found(stage: Stage) -> None:
    use = USES[Face.KMS]
    watching = {"anomalies": {"unmatched_request": {"after_s": 900, "action": "alert"}}}
    stage.policy(everything(use) | watching)
    table = TABLES.tables["guard_unmatched"]
    rows = [{"request_id": f"w-{n}", "principal": "p", "key": "k", "at": NOW} for n in range(MAX_UNMATCHED - 1)]
    with stage.engine.begin() as connection:
        connection.execute(sql.insert(table), rows)
    assert stage.decide(use).alerts == ()
    later = [stage.decide(replace(use, request_id=f"r-{n}")) for n in range(2, 5)]
    assert [one.alerts for one in later] == [("guard-unmatched-request",)] * 3
    with stage.engine.begin() as connection:
        assert connection.execute(sql.select(sql.func.count()).select_from(table)).scalar() == MAX_UNMATCHED
        assert Memory(TABLES, connection).match_request("w-1")
    assert stage.decide(replace(use, request_id="r-9")).alerts == ()
