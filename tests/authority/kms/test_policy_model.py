"""The policy evaluator against a plain model of it, written apart: slow, without a parsed form, rule by rule from IAM.

Each rule of the model can be taken out; then the two must be seen to differ, or the comparison would show nothing.
"""

import fnmatch
import ipaddress
import itertools
import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from anchorhold.authority.kms.condition_keys import condition_key
from anchorhold.authority.kms.policy import Call, decide, parse_policy

ACCOUNT = "000000000001"
ROOT = f"arn:aws-eusc:iam::{ACCOUNT}:root"
ME, OTHER = (f"arn:aws-eusc:iam::{ACCOUNT}:user/{name}" for name in ("enclave", "other"))
KEYS = tuple(f"arn:aws-eusc:kms:eusc-de-east-1:{ACCOUNT}:key/{at}" for at in (1, 2))
ACTIONS = ("kms:Decrypt", "kms:DescribeKey", "kms:CreateGrant")
Json = dict[str, Any]

HASHES = ("ab" * 48, "cd" * 48, "AB" * 48)
POOLS: dict[str, tuple[str, ...]] = {
    "kms:RecipientAttestation:PCR0": HASHES,
    "kms:EncryptionContext:Role": ("share", "SHARE", "Share", ""),
    "kms:ViaService": ("s3.eu-central-1.amazonaws.com", "s3.us-east-1.amazonaws.com"),
    "aws:PrincipalArn": (ME, OTHER, *(f"arn:aws-eusc:sts::{ACCOUNT}:assumed-role/{one}/b:c" for one in "ab")),
    "kms:GrantIsForAWSResource": ("true", "false"),
    "kms:ScheduleKeyDeletionPendingWindowInDays": ("7", "8", "30"),
    "aws:CurrentTime": ("2026-11-01T00:00:00Z", "2026-11-02T12:00:00Z"),
    "aws:SourceIp": ("10.1.2.3", "10.1.3.4", "2001:db8::1"),
    "kms:GrantOperations": ("Decrypt", "Encrypt", "decrypt"),
    "kms:EncryptionContextKeys": ("Role", "role", "D", ""),
}
SEVERAL = {"kms:GrantOperations", "kms:EncryptionContextKeys"}
WRITTEN: dict[str, tuple[str, ...]] = {
    **POOLS,
    "kms:ScheduleKeyDeletionPendingWindowInDays": ("7", "7.0", "29", "-1"),
    "aws:CurrentTime": ("2026-11-01T01:00:00+01:00", "2026-11-02", "1793577600"),
    "aws:SourceIp": ("10.1.2.3", "10.1.0.0/16", "10.1.2.0/24", "2001:db8::/32", "0.0.0.0/0"),
}
PATTERNS: dict[str, tuple[str, ...]] = {
    "kms:RecipientAttestation:PCR0": ("ab*", "*cd", "?b" * 48, "ab" * 48),
    "aws:PrincipalArn": (
        "arn:*:*:*:assumed-role/*:c",  # the whole text fits, the parts do not
        "arn:*:*:*:assumed-role/?/b:c",
        "arn:aws-eusc:iam::*:user/enclave",
        "arn:*:iam:*:*:user/encl?ve",
        "arn:aws-eusc:*:*:*:*",
    ),
}  # fmt: skip
STRINGS = ("StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase")
LIKES = ("StringLike", "StringNotLike")
ORDERS = ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
OPERATORS: dict[str, tuple[str, ...]] = {
    "aws:PrincipalArn": ("ArnEquals", "ArnNotEquals", "ArnLike", "ArnNotLike"),
    "kms:GrantIsForAWSResource": ("Bool",),
    "kms:ScheduleKeyDeletionPendingWindowInDays": tuple("Numeric" + order for order in ORDERS),
    "aws:CurrentTime": tuple("Date" + order for order in ORDERS),
    "aws:SourceIp": ("IpAddress", "NotIpAddress"),
}


class Model:
    """What IAM's and KMS's documents say. `without` names one rule to get wrong."""

    def __init__(self, without: str = "") -> None:
        self.without = without

    def decide(self, key_policy: Json, identity: Json | None, request: Json) -> str:
        denies, named, delegated, own = False, False, False, False
        for statement in key_policy["Statement"]:
            who = statement["Principal"]
            listed = ["*"] if who == "*" else who["AWS"] if isinstance(who["AWS"], list) else [who["AWS"]]
            is_me = "*" in listed or request["principal"] in listed
            is_account = ROOT in listed or ACCOUNT in listed
            if not (is_me or is_account) or not self.applies(statement, request):
                continue
            if statement["Effect"] == "Deny":
                denies = True
            named = named or (is_me and statement["Effect"] == "Allow")
            delegated = delegated or (is_account and statement["Effect"] == "Allow")
        for statement in [] if identity is None else identity["Statement"]:
            if self.applies(statement, request):
                denies = denies or statement["Effect"] == "Deny"
                own = own or statement["Effect"] == "Allow"
        allowed = named or (delegated and (own or self.without == "delegation needs the caller's own policy"))
        if self.without == "deny wins" and allowed:
            return "allowed"
        return "denied" if denies else "allowed" if allowed else "silent"

    def applies(self, statement: Json, request: Json) -> bool:
        for element, value, fold in (("Action", request["action"], True), ("Resource", request["resource"], False)):
            inverted = "Not" + element in statement
            patterns = statement["Not" + element] if inverted else statement[element]
            patterns = [patterns] if isinstance(patterns, str) else patterns
            hit = any(self.wild(one.lower() if fold else one, value.lower() if fold else value) for one in patterns)
            if hit == (inverted and self.without != "NotAction and NotResource"):
                return False
        results = [
            self.condition(operator, key, wanted if isinstance(wanted, list) else [wanted], request["values"])
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        ]
        return any(results) or not results if self.without == "all conditions" else all(results)

    def condition(self, operator: str, key: str, wanted: list[str], values: Mapping[str, list[str]]) -> bool:
        have = values.get(key, [])
        if operator == "Null":
            absent = not have and self.without != "Null tests absence"
            return absent if wanted == ["true"] else not absent
        quantifier, _, rest = operator.rpartition(":")
        if_exists = rest.endswith("IfExists")
        name = rest.removesuffix("IfExists")
        if if_exists and self.without != "IfExists" and not have:
            return True
        negated = "Not" in name
        if not quantifier:
            if not have:
                return negated and self.without != "absent meets negated"
            return self.one(name, have[0], wanted) != negated
        kept = [value for value in have if value or self.without == "empty text is no value"]
        if not kept and if_exists and self.without != "IfExists":
            return True
        if quantifier == "ForAllValues":
            if not kept:
                return self.without != "ForAllValues of none"
            return all(self.one(name, value, wanted) != negated for value in kept)
        if not kept:
            return self.without == "ForAnyValue of none"
        return any(self.one(name, value, wanted) != negated for value in kept)

    def one(self, name: str, have: str, wanted: list[str]) -> bool:
        """Whether a value meets the positive form of an operator, for any wanted value."""
        name = name.replace("Not", "")
        meets = [self.test(name, have, want) for want in wanted]
        return all(meets) if self.without == "any of several values" else any(meets)

    def test(self, name: str, have: str, want: str) -> bool:
        if name == "StringEquals":
            return have.lower() == want.lower() if self.without == "case" else have == want
        if name in ("StringEqualsIgnoreCase", "Bool"):
            return have.lower() == want.lower()
        if name == "StringLike":
            return self.wild(want, have)
        if name in ("ArnEquals", "ArnLike"):
            if self.without == "ARNs part by part":
                return self.wild(want, have)
            left, right = want.split(":"), have.split(":")
            if len(left) < 6 or len(right) < 6:
                return False
            left, right = [*left[:5], ":".join(left[5:])], [*right[:5], ":".join(right[5:])]
            return all(itertools.starmap(self.wild, zip(left, right, strict=True)))
        if name == "IpAddress":
            return ipaddress.ip_address(have) in ipaddress.ip_network(want, strict=False)
        read = Decimal if name.startswith("Numeric") else _when
        a, b = read(have), read(want)
        return {
            "Equals": a == b, "LessThan": a < b, "LessThanEquals": a <= b, "GreaterThan": a > b,
            "GreaterThanEquals": a >= b,
        }[name.removeprefix("Numeric").removeprefix("Date")]  # fmt: skip

    def wild(self, pattern: str, value: str) -> bool:
        escaped = pattern.replace("[", "[[]")
        return re.match(fnmatch.translate(escaped), value) is not None


def _when(text: str) -> Decimal:
    if text.isdigit():
        return Decimal(text)
    whole = text if "T" in text else text + "T00:00:00Z"
    return Decimal(datetime.fromisoformat(whole).timestamp())


RULES = (
    "deny wins", "delegation needs the caller's own policy", "NotAction and NotResource", "all conditions",
    "Null tests absence", "IfExists", "absent meets negated", "empty text is no value", "ForAllValues of none",
    "ForAnyValue of none", "any of several values", "case", "ARNs part by part",
)  # fmt: skip


@st.composite
def conditions(draw: st.DrawFn, most: int = 3) -> Json:
    """Conditions that this KMS takes, each on one key."""
    made: Json = {}
    for key in draw(st.lists(st.sampled_from([*sorted(POOLS), *OPERATORS]), min_size=1, max_size=most, unique=True)):
        if draw(st.integers(0, 5)) == 0:
            made.setdefault("Null", {})[key] = draw(st.sampled_from(["true", "false"]))
            continue
        name = draw(st.sampled_from([*OPERATORS.get(key, ()), *STRINGS, *LIKES]))
        quantifiers = (
            ["ForAllValues:", "ForAnyValue:"] if key in SEVERAL else ["", "", "", "ForAllValues:", "ForAnyValue:"]
        )
        written = draw(st.sampled_from(quantifiers)) + name + draw(st.sampled_from(["", "", "IfExists"]))
        pool = (WRITTEN if name[:3] in ("Num", "Dat", "IpA", "Not") else POOLS)[key]
        if name in LIKES or name.startswith("Arn"):
            pool = PATTERNS.get(key, (*pool, "*", "s*", "?e*"))
        made.setdefault(written, {})[key] = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=2))
    return made


@st.composite
def statements(draw: st.DrawFn, *, identity: bool = False) -> Json:
    made: Json = {"Effect": draw(st.sampled_from(["Allow", "Allow", "Deny"]))}
    if not identity:
        made["Principal"] = draw(
            st.sampled_from(["*", {"AWS": ME}, {"AWS": [OTHER, ME]}, {"AWS": ROOT}, {"AWS": ACCOUNT}])
        )
    actions = st.sampled_from(["kms:*", "kms:De*", "kms:decrypt", "*", ["kms:CreateGrant", "kms:D?crypt"]])
    made[draw(st.sampled_from(["Action", "Action", "NotAction"]))] = draw(actions)
    resources = st.sampled_from(["*", KEYS[0], [*KEYS], KEYS[0][:-1] + "?"])
    made[draw(st.sampled_from(["Resource", "Resource", "NotResource"]))] = draw(resources)
    if draw(st.integers(0, 3)):
        made["Condition"] = draw(conditions())
    return made


@st.composite
def bare_cases(draw: st.DrawFn) -> tuple[Json, Json | None, Json]:
    """One Allow for everything, under one condition on a key that is mostly there."""
    only = draw(conditions(most=1))
    values = {key: draw(st.lists(st.sampled_from(POOLS[key]), max_size=1)) for keys in only.values() for key in keys}
    statement = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": only}
    request = {"principal": ME, "action": ACTIONS[0], "resource": KEYS[0]}
    return {"Statement": [statement]}, None, request | {"values": {key: some for key, some in values.items() if some}}


@st.composite
def cases(draw: st.DrawFn) -> tuple[Json, Json | None, Json]:
    """A key policy, an identity policy or none, and a request."""
    key_policy = {"Statement": draw(st.lists(statements(), min_size=1, max_size=3))}
    identity = draw(st.none() | st.lists(statements(identity=True), min_size=1, max_size=2))
    values = {}
    for key, pool in POOLS.items():
        if draw(st.booleans()):
            most = 3 if key in SEVERAL else 1
            values[key] = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=most, unique=True))
    request = {
        "principal": draw(st.sampled_from([ME, OTHER])),
        "action": draw(st.sampled_from(ACTIONS)),
        "resource": draw(st.sampled_from(KEYS)),
        "values": values,
    }
    return key_policy, None if identity is None else {"Statement": identity}, request


def evaluated(key_policy: Json, identity: Json | None, request: Json) -> str:
    """What the evaluator says."""
    own = None if identity is None else parse_policy(json.dumps(identity), identity=True)
    values: dict[str, str | tuple[str, ...]] = {}
    for name, several in request["values"].items():
        key = condition_key(name)
        assert key is not None
        values[key.name] = tuple(several) if key.several else several[0]
    call = Call(request["principal"], ROOT, request["action"], request["resource"], values)
    return decide(parse_policy(json.dumps(key_policy)), own, call).value


@settings(max_examples=100, deadline=None)
@given(st.one_of(bare_cases(), cases()))
def test_the_evaluator_decides_as_the_plain_model_does(case: tuple[Json, Json | None, Json]) -> None:
    assert evaluated(*case) == Model().decide(*case)


@pytest.mark.slow
@settings(max_examples=1_500, deadline=None)
@given(st.one_of(bare_cases(), cases()))
def test_the_evaluator_decides_as_the_plain_model_does_at_length(case: tuple[Json, Json | None, Json]) -> None:
    assert evaluated(*case) == Model().decide(*case)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_a_model_without_one_rule_is_told_apart(rule: str) -> None:
    wrong = Model(rule)
    found = find(
        st.one_of(bare_cases(), cases()),
        lambda case: evaluated(*case) != wrong.decide(*case),
        settings=settings(max_examples=20_000, deadline=None, database=None, phases=[Phase.generate]),
    )
    assert evaluated(*found) == Model().decide(*found)
