"""One test a rule and face: under its policy the use is denied by it; without the rule the same use goes through."""

import ast
from pathlib import Path

import pytest
from tests.authority.guard.cases import CASES, Case
from tests.authority.guard.conftest import NOW, TABLES, USES, Stage, everything

from anchorhold.authority.guard import Face, Guard, Use
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.operators import appoint
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.guard.rules import RULES
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
