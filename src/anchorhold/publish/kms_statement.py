"""Policies as AWS reads them, for the linter (docs/spec/kms-policy.md 3): also the forms we never write.

What AWS would refuse is refused here too: a policy that cannot be read whole cannot be called clean.
"""

import fnmatch
import json
import re
from dataclasses import dataclass
from typing import NoReturn

from anchorhold.publish.errors import PublishError
from anchorhold.publish.kms_policy import MAX_KEY_POLICY, TEXT

EVERYBODY = "*"
MAX_TEXT = 2 * MAX_KEY_POLICY  # what get-key-policy prints escapes quotes and line ends
MAX_STATEMENTS = 256  # bounds the work: each Allow is held against each Deny; 64 accepted sets make 80
MAX_VALUES = 2_000  # of one condition; as many measurements as 131,072 characters hold
_ELEMENTS = frozenset(
    {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)
# IAM JSON policy reference, condition operators.
_OPERATORS = frozenset(
    {
        "StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike",
        "StringNotLike", "NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals",
        "NumericGreaterThan", "NumericGreaterThanEquals", "DateEquals", "DateNotEquals", "DateLessThan",
        "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals", "Bool", "BinaryEquals", "IpAddress",
        "NotIpAddress", "ArnEquals", "ArnNotEquals", "ArnLike", "ArnNotLike",
    }
)  # fmt: skip
_EQUALITY = frozenset({"StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike"})
_SETS = ("", "ForAllValues", "ForAnyValue")


class PolicyUnreadable(PublishError):
    """Bytes that are no policy AWS would take."""

    code = "kms-unreadable"


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key; `key` in lower case, as AWS compares it. `operator` is `Null` or one of IAM's."""

    quantifier: str
    operator: str
    if_exists: bool
    key: str
    values: tuple[str, ...]

    @property
    def negated(self) -> bool:
        return "Not" in self.operator

    @property
    def patterns(self) -> bool:
        """Whether a value stands for something else than itself: a wildcard, or a policy variable."""
        loose = "Like" in self.operator or self.operator.startswith("Arn")
        return any("${" in value or (loose and set(value) & set("*?")) for value in self.values)

    @property
    def names(self) -> bool:
        """Whether it tells its values from everything else; negated, it holds for an absent key too."""
        equality = self.operator.replace("Not", "") in _EQUALITY
        absent = self.negated or not self.if_exists
        return equality and absent and not self.quantifier and not self.patterns


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. `principals` is empty in an identity policy, whose holder is the principal."""

    where: str
    allow: bool
    principals: tuple[str, ...]
    not_principal: bool
    actions: tuple[str, ...]
    not_action: bool
    resources: tuple[str, ...]
    not_resource: bool
    conditions: tuple[Condition, ...]

    def covers(self, action: str) -> bool:
        """Whether it is about `action` on some KMS key."""
        named = any(like(pattern.lower(), action.lower()) for pattern in self.actions)
        if named == self.not_action:
            return False
        return self.not_resource or any(_may_be_key(pattern) for pattern in self.resources)

    def meets(self, allow: "Statement") -> bool:
        """Whether this Deny is about every key that `allow` is about; of NotResource nobody knows."""
        if self.not_resource:
            return False
        if EVERYBODY in self.resources:
            return True
        return not allow.not_resource and all(
            any(_contains(pattern, one) for pattern in self.resources) for one in allow.resources
        )


@dataclass(frozen=True, slots=True)
class Document:
    """One policy, and what to call it."""

    name: str
    identity: bool
    statements: tuple[Statement, ...]


def like(pattern: str, value: str) -> bool:
    """AWS's wildcards: `*` is any text, `?` any one character."""
    return fnmatch.fnmatchcase(value, pattern.replace("[", "[[]"))


def read_policy(raw: bytes, name: str) -> Document:
    """A key policy, or an identity policy if no statement names a principal. Raises PolicyUnreadable."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise PolicyUnreadable(f"{name}: expected UTF-8") from error
    value = _json(text, name)
    if isinstance(value, dict) and isinstance(value.get("Policy"), str):
        value = _json(value["Policy"], name)  # as `aws kms get-key-policy` prints it
    if not isinstance(value, dict) or not value.keys() <= {"Version", "Id", "Statement"}:
        raise PolicyUnreadable(f"{name}: expected an object of Version, Id and Statement")
    members = value.get("Statement")
    members = [members] if isinstance(members, dict) else members
    if not isinstance(members, list) or not 1 <= len(members) <= MAX_STATEMENTS:
        raise PolicyUnreadable(f"{name}: expected 1 to {MAX_STATEMENTS} statements")
    identity = not any(isinstance(one, dict) and one.keys() & {"Principal", "NotPrincipal"} for one in members)
    statements = tuple(_statement(one, at, name, identity=identity) for at, one in enumerate(members))
    return Document(name, identity, statements)


def _json(text: str, name: str) -> object:
    if len(text) > MAX_TEXT or not TEXT.fullmatch(text):
        raise PolicyUnreadable(f"{name}: expected 1 to {MAX_TEXT} characters of U+0020 to U+00FF")
    try:
        value: object = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PolicyUnreadable(f"{name}: not JSON: {error}") from error
    return value


def _statement(member: object, at: int, name: str, *, identity: bool) -> Statement:
    where = f"statement {at}"
    if not isinstance(member, dict) or not member.keys() <= _ELEMENTS:
        raise PolicyUnreadable(f"{name}: {where}: expected an object of {sorted(_ELEMENTS)}")
    sid = member.get("Sid", "")
    if not isinstance(sid, str) or member.get("Effect") not in ("Allow", "Deny"):
        raise PolicyUnreadable(f"{name}: {where}: expected a textual Sid and an Effect of Allow or Deny")
    place = f"{name}: {sid or where}"
    not_principal, who = (False, ()) if identity else _either(member, "Principal", place)
    not_action, actions = _either(member, "Action", place)
    if identity or member.keys() & {"Resource", "NotResource"}:
        not_resource, resources = _either(member, "Resource", place)
    else:
        not_resource, resources = False, (EVERYBODY,)  # in a key policy the resource is the key
    return Statement(
        where=sid or where,
        allow=member["Effect"] == "Allow",
        principals=who,
        not_principal=not_principal,
        actions=actions,
        not_action=not_action,
        resources=resources,
        not_resource=not_resource,
        conditions=_conditions(member.get("Condition", {}), place),
    )


def _either(member: dict[str, object], element: str, place: str) -> tuple[bool, tuple[str, ...]]:
    """The element or its `Not` form, exactly one of them."""
    given = [form for form in (element, f"Not{element}") if form in member]
    if len(given) != 1:
        raise PolicyUnreadable(f"{place}: expected exactly one of {element} and Not{element}")
    value = member[given[0]]
    texts = _principals(value, place) if element == "Principal" else _texts(value, f"{place}: {given[0]}")
    return given[0] != element, texts


def _principals(value: object, place: str) -> tuple[str, ...]:
    if value == EVERYBODY:
        return (EVERYBODY,)
    if not isinstance(value, dict) or not value or not value.keys() <= {"AWS", "Service", "Federated", "CanonicalUser"}:
        raise PolicyUnreadable(f"{place}: Principal: expected * or an object of AWS, Service, Federated, CanonicalUser")
    return tuple(text for kind in value for text in _texts(value[kind], f"{place}: Principal"))


def _conditions(value: object, place: str) -> tuple[Condition, ...]:
    if not isinstance(value, dict):
        raise PolicyUnreadable(f"{place}: Condition: expected an object")
    found = []
    for written, keys in value.items():
        quantifier, _, operator = written.rpartition(":")
        base = operator.removesuffix("IfExists")
        known = operator == "Null" or base in _OPERATORS
        if not known or quantifier not in _SETS or not isinstance(keys, dict) or not keys:
            raise PolicyUnreadable(f"{place}: Condition: expected an operator of IAM over keys, got {written!r:.60}")
        for key, values in keys.items():
            texts = _texts(_in_words(values), f"{place}: {written} {key!r:.80}")
            found.append(Condition(quantifier, base, base != operator, key.lower(), texts))
    return tuple(found)


def _in_words(values: object) -> object:
    """Booleans and numbers as the texts AWS takes them for."""
    members = values if isinstance(values, list) else [values]
    return [json.dumps(one) if isinstance(one, bool | int | float) else one for one in members]


def _texts(value: object, place: str) -> tuple[str, ...]:
    members = [value] if isinstance(value, str) else value
    if not isinstance(members, list) or not 1 <= len(members) <= MAX_VALUES:
        raise PolicyUnreadable(f"{place}: expected text or a list of 1 to {MAX_VALUES} texts")
    if not all(isinstance(one, str) and one for one in members):
        raise PolicyUnreadable(f"{place}: expected text or a list of texts")
    return tuple(members)


def _may_be_key(pattern: str) -> bool:
    """Whether a resource pattern can name a KMS key: wildcards before the service reach every service."""
    return re.fullmatch(r"\*.*|arn:[^:]*(\*.*|:[^:]*[*?].*|:kms:.*)", pattern) is not None


def _contains(pattern: str, other: str) -> bool:
    """Whether all that `other` matches `pattern` matches; where a `?` might meet a `*`, not."""
    return pattern == other or ("?" not in pattern and like(pattern, other))


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object names a member twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
