"""AWS's condition operators: for each family, what a policy may write and when one value meets one request value.

`compile` reads a policy's value once, when the policy is put; what it cannot read is refused there. A request's value
that is not of the family meets nothing, as with AWS.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from anchorhold.authority.kms.condition_keys import Kind
from anchorhold.authority.kms.wildcards import like

Test = Callable[[str], bool]
"""Whether a request's value meets one value of the policy."""
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,18})?", re.ASCII)
_MOMENT = re.compile(
    r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2}))?", re.ASCII
)  # W3C date and time, the profile of ISO 8601 that IAM names
_EPOCH = re.compile(r"\d{1,12}", re.ASCII)
_ARN_PARTS = 6  # arn:partition:service:region:account:resource
_Order = Callable[[Fraction, Fraction], bool]
_ORDERS: dict[str, _Order] = {
    "Equals": lambda have, want: have == want,
    "LessThan": lambda have, want: have < want,
    "LessThanEquals": lambda have, want: have <= want,
    "GreaterThan": lambda have, want: have > want,
    "GreaterThanEquals": lambda have, want: have >= want,
}


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator without its prefix and suffix. `kinds` are the keys that it may be written for."""

    name: str
    negated: bool
    kinds: frozenset[Kind]
    compile: Callable[[str], Test]


def number(text: str) -> Fraction | None:
    return Fraction(text) if _NUMBER.fullmatch(text) else None


def moment(text: str) -> Fraction | None:
    """Seconds since 1970, of a W3C date or a count."""
    if _EPOCH.fullmatch(text):
        return Fraction(text)
    if not _MOMENT.fullmatch(text):
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    since = (read if read.tzinfo else read.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return Fraction(since.days * 86_400 + since.seconds) + Fraction(since.microseconds, 1_000_000)


def arn_like(pattern: str, value: str) -> bool:
    """Part by part: a wildcard does not reach over a colon, but in the last part (IAM, ARN operators)."""
    wanted, parts = pattern.split(":", _ARN_PARTS - 1), value.split(":", _ARN_PARTS - 1)
    return len(wanted) == len(parts) == _ARN_PARTS and wanted[0] == parts[0] == "arn" and all(map(like, wanted, parts))


def _ordered(order: str, read: Callable[[str], Fraction | None], what: str) -> Callable[[str], Test]:
    def compiled(written: str) -> Test:
        want = read(written)
        if want is None:
            raise ValueError(f"expected {what}")

        def meets(value: str) -> bool:
            have = read(value)
            return have is not None and _ORDERS[order](have, want)

        return meets

    return compiled


def _arn(written: str) -> Test:
    if written != "*" and (written.count(":") < _ARN_PARTS - 1 or not written.startswith("arn:")):
        raise ValueError("expected an ARN of six parts")
    pattern = "arn:*:*:*:*:*" if written == "*" else written
    return lambda value: arn_like(pattern, value)


def _bool(written: str) -> Test:
    if written.lower() not in ("true", "false"):
        raise ValueError("expected true or false")
    return lambda value: value.lower() == written.lower()


def _address(written: str) -> Test:
    try:
        network = ipaddress.ip_network(written, strict=False)
    except ValueError as error:
        raise ValueError("expected an address or a CIDR range") from error

    def within(value: str) -> bool:
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return within


def _pair(name: str, negated: str, kinds: frozenset[Kind], compiled: Callable[[str], Test]) -> tuple[Operator, ...]:
    return Operator(name, False, kinds, compiled), Operator(negated, True, kinds, compiled)


_ANY = frozenset(Kind)
_NUMBERS, _DATES = frozenset({Kind.NUMERIC}), frozenset({Kind.DATE})
_ALL: tuple[Operator, ...] = (
    *_pair("StringEquals", "StringNotEquals", _ANY, lambda want: lambda have: want == have),
    *_pair(
        "StringEqualsIgnoreCase",
        "StringNotEqualsIgnoreCase",
        _ANY,
        lambda want: lambda have: want.lower() == have.lower(),
    ),
    *_pair("StringLike", "StringNotLike", _ANY, lambda want: lambda have: like(want, have)),
    *_pair("ArnEquals", "ArnNotEquals", frozenset({Kind.ARN}), _arn),
    *_pair("ArnLike", "ArnNotLike", frozenset({Kind.ARN}), _arn),
    *_pair("IpAddress", "NotIpAddress", frozenset({Kind.ADDRESS}), _address),
    Operator("Bool", False, frozenset({Kind.BOOL}), _bool),
    *_pair("NumericEquals", "NumericNotEquals", _NUMBERS, _ordered("Equals", number, "a number")),
    *_pair("DateEquals", "DateNotEquals", _DATES, _ordered("Equals", moment, "a date")),
    *(Operator(f"Numeric{order}", False, _NUMBERS, _ordered(order, number, "a number")) for order in _ORDERS),
    *(Operator(f"Date{order}", False, _DATES, _ordered(order, moment, "a date")) for order in _ORDERS),
)
OPERATORS = {operator.name: operator for operator in _ALL}
"""By name. `Null` is apart: it tests presence, not values."""
