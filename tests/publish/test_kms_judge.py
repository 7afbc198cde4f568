"""The linter against an engine that decides calls: what it calls clean admits nobody, what it finds can be done."""

import itertools
import json
from collections.abc import Mapping

from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from anchorhold.attestation.policy import Policy
from anchorhold.attestation.types import Platform
from anchorhold.authority.kms.faults import KmsFault
from anchorhold.authority.kms.policy import Call, Verdict, decide, default_policy, parse_policy
from anchorhold.authority.kms.policy import Policy as Engine
from anchorhold.authority.kms.wildcards import like
from anchorhold.publish.kms_lint import Expectations, lint
from anchorhold.publish.kms_policy import Partition, Principals, key_policy
from anchorhold.publish.kms_statement import read_policy

ACCOUNT = "arn:aws:iam::111122223333:"
ROOT = ACCOUNT + "root"
ENCLAVE, OPS, OTHER = (ACCOUNT + f"role/{name}" for name in ("enclave", "ops", "other"))
THIS, THAT = (f"arn:aws:kms:r:1:key/{at}" for at in (1, 2))
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
DELEGATING = parse_policy(default_policy(ROOT))
RESOURCES: list[dict[str, object]] = [
    {"Resource": "*"}, {"Resource": THIS}, {"Resource": THAT}, {"Resource": [THIS, THAT]},
    {"Resource": "arn:aws:kms:r:1:key/*"}, {"Resource": "arn:aws:kms:r:1:key/?"}, {"NotResource": THIS},
    {"NotResource": THAT}, {"NotResource": "arn:aws:s3:::*"},
]  # fmt: skip
Statements = list[dict[str, object]]

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


def _statements(
    *effects: str,
    condition: st.SearchStrategy[dict[str, object]],
    resources: list[dict[str, object]] = RESOURCES[:1],
    identity: bool = False,
) -> st.SearchStrategy[dict[str, object]]:
    principals = st.sampled_from([[ENCLAVE], [OPS], [ROOT], [ENCLAVE, OPS], "*"])
    return st.builds(
        lambda effect, who, actions, resource, only: {
            "Effect": effect,
            **({} if identity else {"Principal": who if who == "*" else {"AWS": who}}),
            "Action": actions,
            **resource,
            "Condition": only,
        },
        st.sampled_from(effects),
        principals,
        st.lists(st.sampled_from([*OPERATIONS, "kms:*", "kms:ReEncrypt*"]), min_size=1, max_size=3, unique=True),
        st.sampled_from(resources),
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
_ANYBODY = _who(
    "StringEquals", "StringNotEquals", "StringNotLike", "StringLike", "StringEqualsIfExists", "StringNotEqualsIfExists",
    "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "ForAllValues:StringEquals",
)  # fmt: skip
_PRESENT = st.sampled_from(["true", "false"]).map(lambda value: {"Null": {"aws:PrincipalArn": value}})
_BOTH = st.builds(lambda who, registers: {**who, **registers}, _ANYBODY, _ANY)
_EACH = st.one_of(st.just({}), st.just(WHOLE), _ANY, _NULL, _ANYBODY, _PRESENT, _BOTH)
_OF_PEOPLE: st.SearchStrategy[dict[str, object]] = st.one_of(st.just({}), _ANYBODY, _PRESENT)
WILD = _statements("Allow", "Deny", condition=_EACH, resources=RESOURCES)
OWN = _statements("Allow", "Deny", condition=st.one_of(_OF_PEOPLE, _EACH), resources=RESOURCES, identity=True)
PLAIN = _statements("Allow", condition=st.one_of(st.just({}), st.just(WHOLE), _POSITIVE, _who("StringEquals")))
_MADE = key_policy(ACCEPTED, Principals(Partition.AWS, (ENCLAVE,), (OPS,)))
GUARDS = st.lists(st.sampled_from(json.loads(_MADE)["Statement"]), max_size=12, unique_by=json.dumps)


def _engine(statements: Statements, *, identity: bool = False) -> Engine | None:
    """What the engine decides by: in a world of two keys NotResource is a list; the principal is always present."""
    plain = []
    for one in statements:
        kept = {name: value for name, value in one.items() if name != "NotResource"}
        if "NotResource" in one:
            kept["Resource"] = [key for key in (THIS, THAT) if not like(str(one["NotResource"]), key)]
        if kept["Resource"]:
            plain.append(kept)
    if not plain:
        return None
    text = json.dumps({"Statement": plain}).replace("ForAllValues:", "")
    try:
        return parse_policy(text, identity=identity)
    except KmsFault:
        reject()


def _admitted(policy: Engine, identities: tuple[Engine | None, ...], keys: tuple[str, ...] = (THIS,)) -> set[str]:
    """The operations that somebody may call whom the accepted measurements should have kept out."""
    found = set()
    callers = itertools.product(OPERATIONS, (ENCLAVE, OPS, OTHER), identities, keys)
    for operation, who, identity, key in callers:
        for document in DOCUMENTS if operation in RECIPIENT else (None,):
            values = {f"kms:recipientattestation:{NAMES[at].lower()}": value for at, value in (document or {}).items()}
            call = Call(who, ROOT, operation, key, {"aws:principalarn": who} | values)
            if operation not in found and decide(policy, identity, call) is Verdict.ALLOWED:
                found.add(operation)
    return found


def _found(key: Statements | None, *identities: Statements) -> set[str]:
    documents = [
        read_policy(json.dumps({"Statement": one}).encode(), f"role {at}") for at, one in enumerate(identities)
    ]
    first = None if key is None else read_policy(json.dumps({"Statement": key}).encode(), "key")
    report = lint(first, documents, EXPECT)
    return {action for one in report.findings if one.code not in WHO_ONLY for action in one.actions} & set(OPERATIONS)


@settings(max_examples=150, deadline=None)
@given(st.lists(WILD, min_size=1, max_size=4), GUARDS)
def test_nobody_can_do_what_the_linter_calls_closed(statements: Statements, guards: Statements) -> None:
    policy = _engine([*statements, *guards])
    assume(policy is not None)
    assert policy is not None
    assert _admitted(policy, (None, ADMINISTRATOR)) <= _found([*statements, *guards])


@settings(max_examples=250, deadline=None)
@given(st.lists(OWN, min_size=1, max_size=3))
def test_no_holder_of_an_iam_policy_can_do_what_the_linter_calls_closed(own: Statements) -> None:
    identity = _engine(own, identity=True)
    assert _admitted(DELEGATING, (identity,), (THIS, THAT)) <= _found(None, own)


@settings(max_examples=150, deadline=None)
@given(st.lists(WILD, min_size=1, max_size=2), GUARDS, st.lists(OWN, min_size=1, max_size=2))
def test_nor_beside_a_key_policy(statements: Statements, guards: Statements, own: Statements) -> None:
    policy, identity = _engine([*statements, *guards]), _engine(own, identity=True)
    assume(policy is not None)
    assert policy is not None
    assert _admitted(policy, (None, identity)) <= _found([*statements, *guards], own)


@settings(max_examples=100, deadline=None)
@given(st.lists(PLAIN, min_size=1, max_size=3), GUARDS)
def test_what_the_linter_finds_can_be_done(statements: Statements, guards: Statements) -> None:
    policy = _engine([*statements, *guards])
    assert policy is not None
    assert _found([*statements, *guards]) == _admitted(policy, (None, ADMINISTRATOR))
