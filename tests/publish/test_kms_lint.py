"""The linter over sample policies: each way round in a file of its own, and clean ones in which it finds nothing."""

import importlib.util
import json
from pathlib import Path

import pytest

from anchorhold.publish.kms_lint import RULES, Expectations, Report, lint
from anchorhold.publish.kms_statement import PolicyUnreadable, read_policy

HERE = Path(__file__).parent / "kms_policies"
INDEX: dict[str, list[str]] = json.loads((HERE / "index.json").read_text())
ROUND = {
    "1": {"kms-unattested-allow", "kms-root-delegation"},
    "2": {"kms-reencrypt"},
    "3": {"kms-create-grant"},
    "4": {"kms-put-key-policy"},
    "5": {"kms-debug-zero", "kms-image-unpinned"},
    "6": {"kms-replicate", "kms-alias"},
    "7": {"kms-import"},
    "8": {"kms-data-key"},
}


def linted(name: str, expect: Expectations | None = None) -> Report:
    document = read_policy((HERE / f"{name}.json").read_bytes(), name)
    told = expect or Expectations()
    return lint(None, [document], told) if document.identity else lint(document, [], told)


@pytest.mark.parametrize("name", INDEX)
def test_each_sample_is_found_under_its_codes_and_no_other(name: str) -> None:
    report = linted(name)
    assert sorted({finding.code for finding in report.findings}) == INDEX[name]
    for finding in report.findings:
        assert finding.document == name
        assert finding.statement
        assert finding.why
        assert finding.fix


def test_the_samples_are_what_their_generator_writes() -> None:
    spec = importlib.util.spec_from_file_location("kms_policies_make", HERE / "make.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    files: dict[str, str] = made.files()
    assert {path.name for path in HERE.glob("*.json")} == files.keys()
    for name, text in files.items():
        assert (HERE / name).read_text() == text, name


def test_all_eight_ways_round_have_samples_of_their_own() -> None:
    for number, codes in ROUND.items():
        samples = {code for name, found in INDEX.items() if name.startswith(f"{number}-") for code in found}
        assert samples == codes, number


def test_every_code_but_that_of_a_foreign_release_has_a_sample() -> None:
    found = {code for codes in INDEX.values() for code in codes}
    assert found == RULES.keys() - {"kms-not-released"}


def test_a_finding_names_statement_action_and_principal() -> None:
    (finding,) = linted("3-create-grant").findings
    assert (finding.statement, finding.actions) == ("Grants", ("kms:CreateGrant",))
    assert finding.principals == ("arn:aws:iam::111122223333:role/ops",)


def test_whom_a_clean_policy_still_trusts_is_said() -> None:
    notes = " ".join(linted("clean-while-sealing").notes)
    assert "role/custodian may change the policy" in notes
    assert "role/sealer may make data keys" in notes
    assert linted("clean-two-releases").notes == ()


def test_a_custodian_or_sealer_other_than_the_expected_one_is_a_way_round() -> None:
    expect = Expectations(custodians=frozenset({"arn:aws:iam::111122223333:role/other"}), sealers=frozenset())
    codes = {finding.code for finding in linted("clean-while-sealing", expect).findings}
    assert codes == {"kms-put-key-policy", "kms-data-key"}
    told = frozenset({"arn:aws:iam::111122223333:role/ops"})
    assert linted("4-put-key-policy", Expectations(custodians=told)).findings == ()


def test_a_foreign_enclave_needs_no_configuration_register() -> None:
    assert linted("no-configuration", Expectations(configuration=False)).findings == ()
    assert linted("image-only", Expectations(configuration=False)).findings != ()


def test_an_iam_policy_counts_where_the_key_policy_delegates_and_not_where_it_denies() -> None:
    administrator = read_policy((HERE / "iam-administrator.json").read_bytes(), "role")
    behind = read_policy((HERE / "clean-account-behind-denies.json").read_bytes(), "key")
    assert lint(behind, [administrator], Expectations()).findings == ()
    alone = read_policy((HERE / "clean-no-denies.json").read_bytes(), "key")
    assert lint(alone, [administrator], Expectations()).findings == ()
    delegating = read_policy((HERE / "1-root-delegation.json").read_bytes(), "key")
    found = {finding.code for finding in lint(delegating, [administrator], Expectations()).findings}
    assert found == {"kms-root-delegation", "kms-unattested-allow"}
    assert {one.document for one in lint(delegating, [administrator], Expectations()).findings} == {"key", "role"}


def _one(**changes: object) -> str:
    statement = {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:Decrypt", "Resource": "*"}
    return json.dumps({"Statement": [statement | changes]})


def test_an_account_number_is_the_account() -> None:
    (finding,) = lint(read_policy(_one().encode(), "key"), [], Expectations()).findings
    assert finding.code == "kms-root-delegation"


def test_another_account_and_a_service_are_principals_like_any_other() -> None:
    for who in ({"AWS": "arn:aws:iam::444455556666:role/guest"}, {"Service": "s3.amazonaws.com"}):
        (finding,) = lint(read_policy(_one(Principal=who).encode(), "key"), [], Expectations()).findings
        assert finding.code == "kms-unattested-allow"


@pytest.mark.parametrize("action", ["*", "kms:*", "kms:De*", "KMS:decrypt", "kms:D?crypt"])
def test_an_action_is_matched_as_aws_matches_it(action: str) -> None:
    codes = {one.code for one in lint(read_policy(_one(Action=action).encode(), "key"), [], Expectations()).findings}
    assert "kms-root-delegation" in codes


def test_a_policy_on_other_services_is_none_of_our_business() -> None:
    text = json.dumps({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::bucket/*"}})
    assert lint(None, [read_policy(text.encode(), "role")], Expectations()).findings == ()


def _open(*statements: dict[str, object]) -> set[str]:
    text = json.dumps({"Statement": [json.loads(_one())["Statement"][0], *statements]})
    return {
        who for one in lint(read_policy(text.encode(), "key"), [], Expectations()).findings for who in one.principals
    }


NOBODY: dict[str, object] = {"Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt"}
ROOT = "arn:aws:iam::111122223333:root"


@pytest.mark.parametrize("resource", [{}, {"Resource": "*"}, {"Resource": ["*", "arn:aws:kms:eu-central-1:1:key/a"]}])
def test_a_deny_of_every_key_closes(resource: dict[str, object]) -> None:
    assert _open(NOBODY | resource) == set()


def test_a_deny_closes_the_keys_it_holds_whole() -> None:
    def found(allowed: object, denied: object) -> bool:
        members = [("Allow", allowed), ("Deny", denied)]
        whole = [{"Effect": effect, "Action": "kms:Decrypt", "Resource": keys} for effect, keys in members]
        role = read_policy(json.dumps({"Statement": whole}).encode(), "role")
        return lint(None, [role], Expectations()).findings != ()

    a, b, every, one = (f"arn:aws:kms:eu-central-1:111122223333:key/{name}" for name in ("a", "b", "*", "?"))
    assert not found(a, a)
    assert not found([a, b], [b, a])
    assert not found(a, every)
    assert not found(a, "arn:aws:kms:*:*:key/*")
    assert found([a, b], a)
    assert found(every, a)
    assert found(every, one)
    assert found("*", every)


@pytest.mark.parametrize(
    "condition",
    [
        {"StringEquals": {"aws:PrincipalArn": "${aws:PrincipalArn}"}},
        {"StringNotEquals": {"aws:PrincipalArn": "${aws:PrincipalArn}"}},
        {"NumericNotEquals": {"aws:PrincipalArn": "1"}},
        {"ForAnyValue:StringNotEquals": {"aws:PrincipalArn": "x"}},
    ],
)
def test_what_a_deny_does_to_an_unknown_caller_is_not_known(condition: dict[str, object]) -> None:
    assert "111122223333" in _open(NOBODY | {"Condition": condition})


def test_a_deny_excepts_the_root_user_by_name_and_nobody_by_a_star() -> None:
    only = {"Condition": {"StringNotEquals": {"aws:PrincipalArn": ROOT}}}
    assert _open(NOBODY | only) == {ROOT}
    star: dict[str, object] = {"Effect": "Deny", "NotPrincipal": "*", "Action": "kms:Decrypt"}
    assert "111122223333" in _open(star)


def test_an_account_allowed_as_its_root_user_is_a_path() -> None:
    text = _one(Condition={"StringEquals": {"aws:PrincipalArn": ROOT}})
    (finding,) = lint(read_policy(text.encode(), "key"), [], Expectations()).findings
    assert finding.principals == (ROOT,)


def test_a_name_with_a_wildcard_is_nobody_s_name() -> None:
    text = _one(Condition={"StringEquals": {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/*"}})
    assert lint(read_policy(text.encode(), "key"), [], Expectations()).findings == ()


def test_a_holder_whom_the_key_policy_s_deny_excepts_is_a_path() -> None:
    role = "arn:aws:iam::111122223333:role/ops"
    guard = NOBODY | {"Condition": {"StringNotEquals": {"aws:PrincipalArn": role}}}
    key = json.dumps({"Statement": [json.loads(_one())["Statement"][0], guard]})
    own = json.dumps({"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}})
    report = lint(read_policy(key.encode(), "key"), [read_policy(own.encode(), "role")], Expectations())
    assert {one.principals for one in report.findings if "kms:Decrypt" in one.actions} == {(role,)}
    assert {one.document for one in report.findings if "kms:Decrypt" in one.actions} == {"key", "role"}


UNREADABLE = {
    "empty": "",
    "no object": "[]",
    "no statement": "{}",
    "not JSON": "{",
    "deep": "[" * 100_000,
    "twice": '{"Statement": [], "Statement": []}',
    "no number": '{"Statement": NaN}',
    "outside Latin-1": '{"Statement": "\u20ac"}',
    "too long": _one() + " " * 262_144,
    "unknown member": json.dumps({"Statement": json.loads(_one())["Statement"], "Extra": 1}),
    "unknown element": _one(Conditions={}),
    "lower-case effect": _one(Effect="allow"),
    "both kinds of principal": _one(NotPrincipal="*"),
    "principal text": _one(Principal="111122223333"),
    "no action": _one(Action=[]),
    "number as action": _one(Action=7),
    "unknown operator": _one(Condition={"StringIs": {"aws:PrincipalArn": "x"}}),
    "unknown quantifier": _one(Condition={"ForSome:StringEquals": {"aws:PrincipalArn": "x"}}),
    "condition is no object": _one(Condition=[]),
    "one statement without principal": json.dumps(
        {"Statement": [*json.loads(_one())["Statement"], {"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    ),
    "too many statements": json.dumps({"Statement": json.loads(_one())["Statement"] * 257}),
}


@pytest.mark.parametrize("fault", UNREADABLE)
def test_what_aws_would_refuse_is_unreadable_never_clean(fault: str) -> None:
    with pytest.raises(PolicyUnreadable) as caught:
        read_policy(UNREADABLE[fault].encode(), "key")
    assert caught.value.code == "kms-unreadable"


def test_bytes_that_are_no_text_are_unreadable() -> None:
    with pytest.raises(PolicyUnreadable):
        read_policy(b"\xff\xfe", "key")
