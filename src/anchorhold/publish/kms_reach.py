"""Who reaches which KMS action, and with what attestation: every Allow held against every Deny (kms-policy.md 3.1).

Errs on the side of a path that is open: a condition that this file does not know is taken to hold in an Allow and not
to hold in a Deny. So a policy called clean is clean whatever such a condition does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from anchorhold.publish.kms_statement import EVERYBODY, Condition, Document, Statement, like

RECIPIENT_ACTIONS = ("kms:Decrypt", "kms:DeriveSharedSecret", "kms:GenerateDataKey", "kms:GenerateDataKeyPair")
"""The actions on a key that take a Recipient (botocore model); GenerateRandom does too, and concerns no key."""
_RECIPIENT = "kms:recipientattestation:"
_REGISTER = re.compile(
    _RECIPIENT + r"(?:(imagesha384)|(pcr)([0-9]|[12][0-9]|3[01])|(nitrotpmpcr)([0-9]|1[0-9]|2[0-3]))"
)
_ACCOUNT_KEYS = ("kms:calleraccount", "aws:principalaccount")
_PRINCIPAL_KEY = "aws:principalarn"
_IDENTITY = re.compile(r"arn:[a-z-]+:iam::(\d{12}):(?:role|user)/.+", re.ASCII)
_ACCOUNT_OF = re.compile(r"arn:[^:]*:[^:]*:[^:]*:(\d{12}):", re.ASCII)
_ACCOUNT = re.compile(r"(?:arn:[a-z-]+:iam::)?(\d{12})(?::root)?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Register:
    """A register as condition keys name it: an enclave's, or one of a NitroTPM."""

    tpm: bool
    index: int


@dataclass(frozen=True, slots=True)
class Who:
    """A principal of a path. `broad` is somebody of an account, or anybody; an empty account is any account."""

    name: str
    account: str
    broad: bool


@dataclass(frozen=True, slots=True)
class Path:
    """What Denies leave of one Allow for one principal and one action."""

    document: str
    statement: Statement
    who: Who
    action: str
    attested: bool
    pins: Mapping[Register, frozenset[str]]
    loose: Mapping[Register, str]  # registers that a condition names without pinning them, and how
    joined: tuple[str, ...]  # Denies that join several registers
    declared: bool  # a Deny for everybody else names this principal


@dataclass(frozen=True, slots=True)
class Grant:
    """One Allow as it stands, or two: the identity's own and the key policy's that delegates to the account."""

    document: str
    statement: Statement
    whos: tuple[Who, ...]
    conditions: tuple[Condition, ...]
    denies: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Denied:
    """What all Denies together mean for one principal and one action, whatever allowed it."""

    closed: bool
    attested: bool
    pins: Mapping[Register, frozenset[str]]
    joined: tuple[str, ...]
    declared: bool


def paths(key: Document | None, identities: Sequence[Document], action: str) -> Iterator[Path]:
    """Every way to `action`. `key` is None where only identity policies are known: delegation is then assumed."""
    known: dict[tuple[str, tuple[str, ...], bool, Who], Denied] = {}  # hundreds of Allows may meet the same Denies
    for grant in _grants(key, identities, action):
        about = grant.document, grant.statement.resources, grant.statement.not_resource
        for who in grant.whos:
            if (*about, who) not in known:
                known[*about, who] = _denied(grant.denies, who, action)
            path = _path(grant, who, action, known[*about, who])
            if path is not None:
                yield path


def register(key: str) -> Register | None:
    """The register that a condition key names; None for any other key."""
    match = _REGISTER.fullmatch(key)
    if match is None:
        return None
    if match[4]:
        return Register(True, int(match[5]))
    return Register(False, 0 if match[1] else int(match[3]))


def is_recipient_key(key: str) -> bool:
    return key.startswith(_RECIPIENT.rstrip(":"))


def _grants(key: Document | None, identities: Sequence[Document], action: str) -> Iterator[Grant]:
    denies = () if key is None else _denies(key, action)
    delegating: list[tuple[Condition, ...]] = [()] if key is None else []
    for statement in () if key is None else key.statements:
        if not statement.allow or not statement.covers(action):
            continue
        named = _named(statement)
        if any(one.broad for one in named):
            delegating.append(statement.conditions)
        yield _grant(key.name if key else "", statement, named, statement.conditions, denies)
    for document in identities:
        own = denies + _denies(document, action)
        holder = Who(f"holder of {document.name}", "", broad=True)
        for statement in document.statements:
            if statement.allow and statement.covers(action):
                for conditions in delegating:
                    yield _grant(document.name, statement, (holder,), statement.conditions + conditions, own)


def _grant(
    document: str,
    statement: Statement,
    named: Sequence[Who],
    conditions: tuple[Condition, ...],
    denies: Sequence[Statement],
) -> Grant:
    met = tuple(one for one in denies if one.meets(statement))
    whos = dict.fromkeys(one for who in named for one in _narrowed(who, conditions, met))
    return Grant(document, statement, tuple(whos), conditions, met)


def _denies(document: Document, action: str) -> tuple[Statement, ...]:
    return tuple(one for one in document.statements if not one.allow and one.covers(action))


def _named(statement: Statement) -> tuple[Who, ...]:
    if statement.not_principal:
        return (Who(EVERYBODY, "", broad=True),)
    return tuple(_who(name) for name in statement.principals)


def _who(name: str) -> Who:
    if match := _IDENTITY.fullmatch(name):
        return Who(name, match[1], broad=set(name) & set("*?") != set())
    if match := _ACCOUNT.fullmatch(name):
        return Who(name, match[1], broad=True)
    return Who(name, "", broad=True)


def _narrowed(who: Who, conditions: Sequence[Condition], denies: Sequence[Statement]) -> Iterator[Who]:
    """A broad principal is somebody nobody names, each one a condition of the Allow names, each one a Deny excepts."""
    yield who
    if not who.broad:
        return
    named = {name for one in conditions if _names_principals(one) and not one.negated for name in one.values}
    excepted = {name for deny in denies for name in _excepted(deny)}
    for name in sorted(named | excepted):
        match = _ACCOUNT_OF.match(name)
        account = match[1] if match else ""
        exists = not set(name) & set("*?")  # no name in IAM has these
        if exists and ("" in (who.account, account) or who.account == account):
            yield Who(name, account, broad=False)


def _names_principals(condition: Condition) -> bool:
    return condition.key == _PRINCIPAL_KEY and condition.names


def _excepted(deny: Statement) -> Iterator[str]:
    if deny.not_principal:
        yield from deny.principals
    for condition in deny.conditions:
        if _names_principals(condition) and condition.negated:
            yield from condition.values


def _path(grant: Grant, who: Who, action: str, denied: Denied) -> Path | None:
    if denied.closed or any(_certain(one, who, action) is False for one in grant.conditions):
        return None
    pins, loose, attested = _demanded(grant.conditions)
    for which, values in denied.pins.items():
        pins[which] = pins.get(which, values) & values
    if not all(pins.values()):
        return None  # no document shows two values in one register
    left = {one: how for one, how in loose.items() if one not in pins}
    attested = attested or denied.attested
    return Path(grant.document, grant.statement, who, action, attested, pins, left, denied.joined, denied.declared)


def _denied(denies: Sequence[Statement], who: Who, action: str) -> Denied:
    pins: dict[Register, frozenset[str]] = {}
    joined: list[str] = []
    attested = False
    for deny in denies:
        known = [_certain(one, who, action) for one in deny.conditions]
        if not _concerns(deny, who) or False in known:
            continue
        left = [one for one, value in zip(deny.conditions, known, strict=True) if value is None]
        if not all(_fires_without_document(one) for one in left):
            continue
        if not left:
            return Denied(True, True, pins, (), False)
        attested = True
        named = [one for one in left if one.operator != "Null"]
        if len(left) == 1 and named:
            _pin(pins, named[0])
        elif len(named) > 1:
            joined.append(deny.where)
    declared = any(_declares(deny, who) for deny in denies)
    return Denied(False, attested, pins, tuple(joined), declared)


def _demanded(
    conditions: Sequence[Condition],
) -> tuple[dict[Register, frozenset[str]], dict[Register, str], bool]:
    """What an Allow's own conditions pin, what they only seem to, and whether a document must be there at all."""
    present = {one.key for one in conditions if one.operator == "Null" and one.values == ("false",)}
    pins: dict[Register, frozenset[str]] = {}
    loose: dict[Register, str] = {}
    attested = any(register(key) for key in present)
    for condition in conditions:
        which = register(condition.key)
        if which is None or condition.operator == "Null" or not condition.operator.startswith("String"):
            continue
        optional = condition.if_exists or condition.quantifier == "ForAllValues"
        if condition.negated:
            loose[which] = "negated"
        elif optional and condition.key not in present:
            loose[which] = "if-exists"
        else:
            attested = True
            if condition.patterns:
                loose[which] = "wildcard"
            else:
                _pin(pins, condition)
    return pins, loose, attested


def _pin(pins: dict[Register, frozenset[str]], condition: Condition) -> None:
    which = register(condition.key)
    if which is not None:
        values = frozenset(value.lower() for value in condition.values)
        pins[which] = pins.get(which, values) & values


def _concerns(deny: Statement, who: Who) -> bool:
    """Whether a Deny is about this principal. An identity's own Denies name nobody and are about their holder."""
    if not deny.principals:
        return True
    if deny.not_principal:
        return EVERYBODY not in deny.principals and who.name not in deny.principals
    accounts = {match[1] for name in deny.principals if (match := _ACCOUNT.fullmatch(name))}
    return EVERYBODY in deny.principals or who.name in deny.principals or who.account in accounts


def _declares(deny: Statement, who: Who) -> bool:
    """Whether a Deny for everybody else excepts this one by name: its author knew what they gave."""
    if who.broad:
        return False
    if deny.not_principal:
        return not deny.conditions and who.name in deny.principals
    everybody = EVERYBODY in deny.principals
    return everybody and len(deny.conditions) == 1 and who.name in set(_excepted(deny))


def _certain(condition: Condition, who: Who, action: str) -> bool | None:
    """Whether a condition holds for this principal whatever else the request brings; None where that is not known."""
    if register(condition.key) is not None:
        return None if action in RECIPIENT_ACTIONS else _holds_absent(condition)
    if condition.operator == "Null" or condition.quantifier:
        return None
    if condition.key in _ACCOUNT_KEYS and who.account:
        return _holds(condition, who.account)
    if condition.key != _PRINCIPAL_KEY:
        return None
    if not who.broad:
        return _holds(condition, who.name)
    # Somebody else than those the policy names; whether anything but a name takes them in is not known.
    return condition.negated if condition.names else None


def _holds_absent(condition: Condition) -> bool:
    """Whether it holds where the key is absent, as every attestation key is in an action that takes no Recipient."""
    if condition.operator == "Null":
        return condition.values == ("true",)
    if condition.quantifier:
        return condition.quantifier == "ForAllValues"
    return condition.negated or condition.if_exists


def _holds(condition: Condition, value: str) -> bool | None:
    operator = condition.operator.replace("Not", "")
    if any("${" in want for want in condition.values):
        return None
    if operator in ("StringLike", "ArnLike", "ArnEquals"):
        found = any(like(want, value) for want in condition.values)
    elif operator == "StringEquals":
        found = value in condition.values
    elif operator == "StringEqualsIgnoreCase":
        found = value.lower() in {want.lower() for want in condition.values}
    else:
        return None
    return found != condition.negated


def _fires_without_document(condition: Condition) -> bool:
    """Whether a Deny's condition holds for every caller who brings no document."""
    if register(condition.key) is None:
        return False
    if condition.operator == "Null":
        return condition.values == ("true",)
    return (
        condition.operator.startswith("String")
        and condition.negated
        and not condition.quantifier
        and not condition.patterns
    )
