"""The linter against an engine that decides calls: what it calls clean admits nobody, what it finds can be done."""

import itertools
import json
from collections.abc import Mapping

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from anchorhold.attestation.policy import Policy
from anchorhold.attestation.types import Platform
from anchorhold.authority.kms.faults import KmsFault
from anchorhold.authority.kms.policy import Call, Verdict, decide, parse_policy
from anchorhold.publish.kms_lint import Expectations, lint
from anchorhold.publish.kms_policy import Partition, Principals, key_policy
from anchorhold.publish.kms_statement import read_policy

ACCOUNT = "arn:aws:iam::111122223333:"
ROOT = ACCOUNT + "root"
ENCLAVE, OPS, OTHER = (ACCOUNT + f"role/{name}" for name in ("enclave", "ops", "other"))
NAMES = {0: "ImageSha384", 1: "PCR1", 2: "PCR2", 16: "PCR16"}
GOOD = {at: f"{0xA0 + at:02x}" * 48 for at in NAMES}
BAD = {at: f"{0xB0 + at:02x}" * 48 for at in NAMES}
ACCEPTED = Policy(frozenset({Platform.NITRO_ENCLAVE}), ({at: bytes.fromhex(value) for at, value in GOOD.items()},))
RECIPIENT = ("kms:Decrypt", "kms:GenerateDataKey")
OPERATIONS = (*RECIPIENT, "kms:PutKeyPolicy", "kms:CreateGrant", "kms:ReEncryptFrom", "kms:ImportKeyMaterial")
SUBSETS = [some for count in range(1, 5) for some in itertools.combinations(NAMES, count)]
DOCUMENTS: tuple[Mapping[int, str] | None, ...] = (
    None,
    *({**GOOD, **{at: BAD[at] for at in some}} for some in SUBSETS),
    *({index: value for index, value in GOOD.items() if index != at} for at in NAMES),
)
EXPECT = Expectations(accepted=ACCEPTED, custodians=frozenset(), sealers=frozenset())
WHO_ONLY = {"kms-wildcard-principal"}  # about strangers of other accounts, whom this engine does not have
ADMINISTRATOR = parse_policy('{"Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}', identity=True)


KEYS = {f"kms:RecipientAttestation:{name}": at for at, name in NAMES.items()}
WHOLE: dict[str, object] = {"StringEquals": {key: GOOD[at] for key, at in KEYS.items()}}


def _registers(*operators: str) -> st.SearchStrategy[dict[str, object]]:
    """One operator over some registers, with accepted values, others, or both."""
    keys = st.lists(st.sampled_from(list(KEYS)), min_size=1, max_size=4, unique=True)
    sources = st.sampled_from([[GOOD], [GOOD, BAD], [BAD]])
    return st.builds(
        lambda operator, named, values: {operator: {key: [one[KEYS[key]] for one in values] for key in named}},
        st.sampled_from(operators),
        keys,
        sources,
    )


def _who(*operators: str) -> st.SearchStrategy[dict[str, object]]:
    names = st.lists(st.sampled_from([ENCLAVE, OPS, ACCOUNT + "role/o*"]), min_size=1, max_size=2, unique=True)
    return st.builds(lambda operator, arns: {operator: {"aws:PrincipalArn": arns}}, st.sampled_from(operators), names)


def _statements(*effects: str, condition: st.SearchStrategy[dict[str, object]]) -> st.SearchStrategy[dict[str, object]]:
    return st.builds(
        lambda effect, who, actions, only: {
            "Effect": effect,
            "Principal": who if who == "*" else {"AWS": who},
            "Action": actions,
            "Resource": "*",
            "Condition": only,
        },
        st.sampled_from(effects),
        st.sampled_from([[ENCLAVE], [OPS], [ROOT], [ENCLAVE, OPS], "*"]),
        st.lists(st.sampled_from([*OPERATIONS, "kms:*", "kms:ReEncrypt*"]), min_size=1, max_size=3, unique=True),
        condition,
    )


_POSITIVE = _registers("StringEquals", "StringEqualsIgnoreCase", "StringLike")
_ANY = _registers(
    "StringEquals", "StringNotEquals", "StringNotEqualsIgnoreCase", "StringEqualsIfExists", "StringNotEqualsIfExists",
    "StringLike", "StringNotLike",
)  # fmt: skip
_NULL = st.builds(
    lambda key, value: {"Null": {key: value}}, st.sampled_from(list(KEYS)), st.sampled_from(["true", "false"])
)
_ANYBODY = _who("StringEquals", "StringNotEquals", "StringNotLike", "StringLike")
_BOTH = st.builds(lambda who, registers: {**who, **registers}, _ANYBODY, _ANY)
WILD = _statements("Allow", "Deny", condition=st.one_of(st.just({}), st.just(WHOLE), _ANY, _NULL, _ANYBODY, _BOTH))
PLAIN = _statements("Allow", condition=st.one_of(st.just({}), st.just(WHOLE), _POSITIVE, _who("StringEquals")))
_MADE = key_policy(ACCEPTED, Principals(Partition.AWS, (ENCLAVE,), (OPS,)))
GUARDS = st.lists(st.sampled_from(json.loads(_MADE)["Statement"]), max_size=12, unique_by=json.dumps)


def _admitted(text: str) -> set[str]:
    """The operations that somebody may call whom the accepted measurements should have kept out."""
    policy = parse_policy(text)
    found = set()
    for operation, who, identity in itertools.product(OPERATIONS, (ENCLAVE, OPS, OTHER), (None, ADMINISTRATOR)):
        for document in DOCUMENTS if operation in RECIPIENT else (None,):
            values = {f"kms:recipientattestation:{NAMES[at].lower()}": value for at, value in (document or {}).items()}
            call = Call(who, ROOT, operation, "arn:aws:kms:r:1:key/1", {"aws:principalarn": who} | values)
            if operation not in found and decide(policy, identity, call) is Verdict.ALLOWED:
                found.add(operation)
    return found


def _found(text: str) -> set[str]:
    report = lint(read_policy(text.encode(), "key"), [], EXPECT)
    return {action for one in report.findings if one.code not in WHO_ONLY for action in one.actions} & set(OPERATIONS)


@settings(max_examples=100, deadline=None)
@given(st.lists(WILD, min_size=1, max_size=4), GUARDS)
def test_nobody_can_do_what_the_linter_calls_closed(statements: list[object], guards: list[object]) -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": [*statements, *guards]})
    try:
        admitted = _admitted(text)
    except KmsFault:
        assume(False)
    assert admitted <= _found(text)


@settings(max_examples=100, deadline=None)
@given(st.lists(PLAIN, min_size=1, max_size=3), GUARDS)
def test_what_the_linter_finds_can_be_done(statements: list[object], guards: list[object]) -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": [*statements, *guards]})
    assert _found(text) == _admitted(text)
