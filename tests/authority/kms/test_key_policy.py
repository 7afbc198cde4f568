"""Key policies: AWS's rules for absent keys and explicit denies, and no policy that cannot be evaluated whole."""

import json
import re
from collections.abc import Mapping
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.authority.kms.faults import KmsFault
from anchorhold.authority.kms.policy import Call, Verdict, decide, parse_policy
from anchorhold.authority.kms.wildcards import like, meet

ROOT = "arn:aws-eusc:iam::000000000001:root"
ME = "arn:aws-eusc:iam::000000000001:user/enclave"
OTHER = "arn:aws-eusc:iam::000000000001:user/other"
KEY = "arn:aws-eusc:kms:eusc-de-east-1:000000000001:key/1"
PCR0 = "kms:RecipientAttestation:PCR0"
HASH = "ab" * 48


def statement(**changes: object) -> dict[str, object]:
    base = {"Effect": "Allow", "Principal": {"AWS": ME}, "Action": "kms:Decrypt", "Resource": "*"}
    return base | changes


def verdict(*statements: Mapping[str, object], identity: object = None, **values: str) -> Verdict:
    key_policy = parse_policy(json.dumps({"Statement": list(statements)}))
    own = None if identity is None else parse_policy(json.dumps({"Statement": identity}), identity=True)
    keys = {name.lower().replace("__", ":"): value for name, value in values.items()}
    return decide(key_policy, own, Call(ME, ROOT, "kms:Decrypt", KEY, keys))


def conditional(operator: str, value: object = HASH, key: str = PCR0, effect: str = "Allow") -> dict[str, object]:
    return statement(Effect=effect, Condition={operator: {key: value}})


PRESENT = {"kms__recipientattestation__pcr0": HASH}
DIFFERENT = {"kms__recipientattestation__pcr0": "cd" * 48}


@pytest.mark.parametrize(
    ("operator", "present", "different", "absent"),
    [
        ("StringEquals", True, False, False),
        ("StringEqualsIgnoreCase", True, False, False),
        ("StringEqualsIfExists", True, False, True),
        ("StringNotEquals", False, True, True),
        ("StringNotEqualsIgnoreCase", False, True, True),
        ("StringNotEqualsIfExists", False, True, True),
        ("StringLike", True, False, False),
        ("StringNotLike", False, True, True),
    ],
)
def test_operators_follow_aws_on_present_different_and_absent_keys(
    operator: str, present: bool, different: bool, absent: bool
) -> None:
    for values, holds in ((PRESENT, present), (DIFFERENT, different), ({}, absent)):
        assert (verdict(conditional(operator), **values) is Verdict.ALLOWED) == holds
        denying = (statement(), conditional(operator, effect="Deny"))
        assert (verdict(*denying, **values) is Verdict.DENIED) == holds


@pytest.mark.parametrize(("value", "absent"), [("true", True), ("false", False), (True, True)])
def test_null_tests_presence(value: object, absent: bool) -> None:
    assert (verdict(conditional("Null", value)) is Verdict.ALLOWED) == absent
    assert (verdict(conditional("Null", value), **PRESENT) is Verdict.ALLOWED) == (not absent)


def test_case_matters_where_the_operator_says_so() -> None:
    upper = {"kms__recipientattestation__pcr0": HASH}
    assert verdict(conditional("StringEquals", HASH.upper()), **upper) is Verdict.SILENT
    assert verdict(conditional("StringEqualsIgnoreCase", HASH.upper()), **upper) is Verdict.ALLOWED


def test_every_condition_must_hold_and_any_value_may() -> None:
    both = statement(Condition={"StringEquals": {PCR0: ["cd" * 48, HASH], "kms:CallerAccount": "000000000001"}})
    assert verdict(both, **PRESENT) is Verdict.SILENT
    assert verdict(both, **PRESENT, kms__calleraccount="000000000001") is Verdict.ALLOWED


def test_a_deny_wins_in_any_place() -> None:
    deny = statement(Effect="Deny", Action="kms:*")
    for statements in ((statement(), deny), (deny, statement())):
        assert verdict(*statements) is Verdict.DENIED
    assert verdict(statement(), statement(Effect="Deny", Principal="*")) is Verdict.DENIED
    assert verdict(statement(), statement(Effect="Deny", Principal={"AWS": ROOT})) is Verdict.DENIED
    own = {"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"}
    assert verdict(statement(), identity=own) is Verdict.DENIED


def test_the_account_delegates_only_to_who_has_a_policy_of_his_own() -> None:
    delegated = statement(Principal={"AWS": ROOT}, Action="kms:*")
    assert verdict(delegated) is Verdict.SILENT
    own = {"Effect": "Allow", "Action": "kms:Dec*", "Resource": "*"}
    assert verdict(delegated, identity=own) is Verdict.ALLOWED
    assert verdict(statement(Principal={"AWS": OTHER}), identity=own) is Verdict.SILENT


def test_another_principal_action_or_resource_is_not_covered() -> None:
    assert verdict(statement(Principal={"AWS": OTHER})) is Verdict.SILENT
    assert verdict(statement(Action=["kms:Encrypt", "kms:DecryptX"])) is Verdict.SILENT
    assert verdict(statement(Action="kms:de?ryPt")) is Verdict.ALLOWED
    assert verdict(statement(Resource=KEY + "2")) is Verdict.SILENT
    assert verdict(statement(Resource=[KEY[:-1] + "*"])) is Verdict.ALLOWED


def test_encryption_context_names_keep_their_case() -> None:
    pinned = statement(Condition={"StringEquals": {"kms:EncryptionContext:Role": "share"}})
    policy = parse_policy(json.dumps({"Statement": pinned}))
    for name, expected in (("Role", Verdict.ALLOWED), ("role", Verdict.SILENT)):
        values = {f"kms:encryptioncontext:{name}": "share"}
        assert decide(policy, None, Call(ME, ROOT, "kms:Decrypt", KEY, values)) is expected


TPM = "kms:RecipientAttestation:NitroTPMPCR"
BAD: dict[str, object] = {
    "no statement": {},
    "no list": {"Statement": []},
    "unknown element": {"Statement": statement(), "Extra": 1},
    "unknown version": {"Statement": statement(), "Version": "2030-01-01"},
    "NotPrincipal": {"Statement": statement(NotPrincipal={"AWS": ME})},
    "Action and NotAction": {"Statement": statement(NotAction="kms:Decrypt")},
    "Resource and NotResource": {"Statement": statement(NotResource="*")},
    "no action": {"Statement": {"Effect": "Allow", "Principal": {"AWS": ME}, "Resource": "*"}},
    "a policy variable": {"Statement": conditional("StringEquals", "${aws:username}", key="aws:PrincipalArn")},
    "a policy variable in a resource": {"Statement": statement(Resource="arn:aws:kms:*:*:key/${aws:username}")},
    "effect": {"Statement": statement(Effect="allow")},
    "principal service": {"Statement": statement(Principal={"Service": "ec2.amazonaws.com"})},
    "principal text": {"Statement": statement(Principal={"AWS": "enclave"})},
    "action of another service": {"Statement": statement(Action="s3:GetObject")},
    "empty action": {"Statement": statement(Action=[])},
    "unknown operator": {"Statement": conditional("NumericEquals")},
    "unknown set operator": {"Statement": conditional("ForSomeValues:StringEquals")},
    "several values and no set operator": {"Statement": conditional("StringEquals", "a", key="kms:GrantOperations")},
    "binary operator": {"Statement": conditional("BinaryEquals")},
    "Null with IfExists": {"Statement": conditional("NullIfExists", "true")},
    "ARN operator on a register": {"Statement": conditional("ArnLike", "arn:aws:iam::1:role/*")},
    "no ARN": {"Statement": conditional("ArnLike", "enclave", key="aws:PrincipalArn")},
    "no address": {"Statement": conditional("IpAddress", "10.0.0.0/33", key="aws:SourceIp")},
    "no date": {"Statement": conditional("DateLessThan", "2026-13-01", key="aws:CurrentTime")},
    "no number": {"Statement": conditional("NumericLessThan", "7d", key="kms:ScheduleKeyDeletionPendingWindowInDays")},
    "no boolean": {"Statement": conditional("Bool", "yes", key="kms:MultiRegion")},
    "unknown key": {"Statement": conditional("StringEquals", key="aws:SourceOrgID")},
    "bare recipient key": {"Statement": conditional("Null", "true", key="kms:RecipientAttestation")},
    "register 32": {"Statement": conditional("StringEquals", key="kms:RecipientAttestation:PCR32")},
    "short measurement": {"Statement": conditional("StringEquals", "ab")},
    "no hex": {"Statement": conditional("StringEqualsIgnoreCase", "zz" * 48)},
    "zeros": {"Statement": conditional("StringEquals", "00" * 48)},
    "zeros if exists": {"Statement": conditional("StringEqualsIgnoreCaseIfExists", [HASH, "0" * 96])},
    "zeros by wildcard": {"Statement": conditional("StringLike", "0*")},
    "tpm zeros": {"Statement": conditional("StringEquals", "00" * 48, key=f"{TPM}4")},
    "tpm command line by wildcard": {"Statement": conditional("StringLike", "0*", key=f"{TPM}12")},
    "null of two": {"Statement": conditional("Null", ["true", "false"])},
    "a number with a point": {"Statement": conditional("StringEquals", 7.5)},
}


def test_only_a_tpm_s_command_line_register_may_be_zero() -> None:
    parse_policy(json.dumps({"Statement": conditional("StringEquals", "00" * 48, key=f"{TPM}12")}))


@pytest.mark.parametrize("fault", BAD)
def test_what_cannot_be_evaluated_is_refused_when_it_is_put(fault: str) -> None:
    with pytest.raises(KmsFault) as caught:
        parse_policy(json.dumps(BAD[fault]))
    assert caught.value.name == "MalformedPolicyDocumentException"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"Statement": [], "Statement": []}',
        "{" * 100_000,
        "[" * 100_000,
        '{"Statement":"\u20ac"}',
        "NaN",
    ],
)
def test_text_that_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(KmsFault) as caught:
        parse_policy(text)
    assert caught.value.name == "MalformedPolicyDocumentException"


@given(st.text("ab*?", max_size=8), st.text("ab*?", max_size=8))
def test_wildcards_mean_what_a_regular_expression_of_them_means(pattern: str, value: str) -> None:
    expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    assert like(pattern, value) == (re.fullmatch(expression, value) is not None)


# Of two patterns of three places, the shortest value that fits both is no longer than six.
VALUES = ["".join(letters) for size in range(7) for letters in product("ab", repeat=size)]


@given(st.text("ab*?", max_size=3), st.text("ab*?", max_size=3))
def test_two_patterns_meet_where_some_value_fits_both(one: str, other: str) -> None:
    assert meet(one, other) == any(like(one, value) and like(other, value) for value in VALUES)


def test_a_callers_value_cannot_make_a_pattern_run_for_ever() -> None:
    # As a regular expression this takes years: the face has one lock, and the parent holds a caller's credentials.
    assert not like("*a*a*a*a*a*a*b", "a" * 8_000)
