"""Condition blocks of a policy, by AWS's rules for absent keys, several values and set operators.

An absent key makes a positive operator false and a negated one true, `...IfExists` true, and is what `Null` tests: so a
Deny with StringNotEquals fires for a caller who brings no attestation document at all. With no values ForAllValues
holds and ForAnyValue does not. All conditions must hold; of several values of one, any may be met (negated: none).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeGuard

from anchorhold.authority.kms.condition_keys import RECIPIENT, ConditionKey, condition_key
from anchorhold.authority.kms.faults import malformed_policy
from anchorhold.authority.kms.operators import OPERATORS, Operator, Test
from anchorhold.authority.kms.wildcards import like

Values = Mapping[str, str | tuple[str, ...]]
"""What a request fills: condition keys as `ConditionKey.name` writes them; a tuple where a key has several values."""
MAX_VALUES = 100
MAX_JOURNALED = 8  # accepted values of one condition in a journal entry; more is a fleet mid-rollout
PCR_HEX = 96  # characters of one SHA-384 measurement
_ZERO = "0" * PCR_HEX
_TPM_COMMAND_LINE = "kms:recipientattestation:nitrotpmpcr12"
_SHOWN = {"imagesha384": "ImageSha384"} | {f"nitrotpmpcr{index}": f"NitroTPMPCR{index}" for index in range(24)}


class Quantifier(Enum):
    """How many of a request's values must meet a condition."""

    ONE = ""
    ALL = "ForAllValues:"
    ANY = "ForAnyValue:"


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key. `operator` is None for `Null`, whose one value says whether absence is wanted."""

    operator: Operator | None
    quantifier: Quantifier
    if_exists: bool
    key: str
    values: tuple[str, ...]
    tests: tuple[Test, ...]

    @property
    def written(self) -> str:
        name = "Null" if self.operator is None else self.operator.name
        return self.quantifier.value + name + ("IfExists" if self.if_exists else "")

    def holds(self, present: Values) -> bool:
        value = present.get(self.key)
        have = (value,) if isinstance(value, str) else value or ()
        if self.operator is None:
            return (not have) == (self.values[0] == "true")
        if self.quantifier is not Quantifier.ONE:
            # IAM: an empty text is no value to a set operator.
            some = [self._meets(one, self.operator) for one in have if one]
            if not some:
                return self.if_exists or self.quantifier is Quantifier.ALL
            return all(some) if self.quantifier is Quantifier.ALL else any(some)
        if not have:
            return self.operator.negated or self.if_exists
        return self._meets(have[0], self.operator)

    def _meets(self, have: str, operator: Operator) -> bool:
        return any(test(have) for test in self.tests) != operator.negated

    def attested(self, present: Values) -> dict[str, object] | None:
        """Both sides of a condition on a measurement, for the journal; None for a condition on anything else."""
        if not self.key.startswith(RECIPIENT):
            return None
        name = self.key.removeprefix(RECIPIENT)
        return {
            "conditionKey": f"kms:RecipientAttestation:{_SHOWN.get(name, name.upper())}",
            "operator": self.written,
            "expected": list(self.values[:MAX_JOURNALED]),
            "actual": present.get(self.key),
        }


def parse_conditions(member: object, where: str, *, allow: bool) -> tuple[Condition, ...]:
    """All conditions of one statement. Raises MalformedPolicyDocumentException."""
    if not isinstance(member, dict):
        raise malformed_policy(f"{where}: Condition: expected an object")
    conditions = []
    for operator, keys in member.items():
        if not isinstance(keys, dict) or not keys:
            raise malformed_policy(f"{where}: {operator!r}: expected an object of condition keys")
        for key, values in keys.items():
            conditions.append(_condition(operator, key, values, where=where, allow=allow))
    return tuple(conditions)


def _condition(written: str, name: str, member: object, *, where: str, allow: bool) -> Condition:
    place = f"{where}: {written} {name}"
    key = condition_key(name)
    if key is None:
        raise malformed_policy(f"{place}: condition key {name!r} is not supported")
    values = _values(member, place)
    if written == "Null":
        if len(values) != 1 or values[0] not in ("true", "false"):
            raise malformed_policy(f"{place}: expected true or false")
        return Condition(None, Quantifier.ONE, False, key.name, values, ())
    quantifier, operator, if_exists = _operator(written, key, place)
    if key.name.startswith(RECIPIENT):
        # Zero in a NitroTPM's 12 is the genuine value: nothing was added to its command line (GHSA-xrv8-2pf5-f3q7).
        genuine = key.name == _TPM_COMMAND_LINE and "Like" not in operator.name
        _check_measurements(operator, values, place, allow=allow and not genuine)
    try:
        tests = tuple(operator.compile(value) for value in values)
    except ValueError as error:
        raise malformed_policy(f"{place}: {error}") from error
    return Condition(operator, quantifier, if_exists, key.name, values, tests)


def _operator(written: str, key: ConditionKey, place: str) -> tuple[Quantifier, Operator, bool]:
    quantifier = next(
        (one for one in (Quantifier.ALL, Quantifier.ANY) if written.startswith(one.value)), Quantifier.ONE
    )
    bare = written.removeprefix(quantifier.value)
    operator = OPERATORS.get(bare.removesuffix("IfExists"))
    if operator is None:
        raise malformed_policy(f"{place}: operator {written!r} is not supported")
    if key.kind not in operator.kinds:
        raise malformed_policy(f"{place}: operator {written!r} is not for a key of type {key.kind.value}")
    if key.several and quantifier is Quantifier.ONE:
        # What AWS does with several values and no set operator is not published.
        raise malformed_policy(f"{place}: a key of several values takes ForAllValues or ForAnyValue")
    return quantifier, operator, bare != operator.name


def _values(member: object, place: str) -> tuple[str, ...]:
    members = member if isinstance(member, list) else [member]
    values = tuple(_text(value) for value in members)
    if not 1 <= len(values) <= MAX_VALUES or not _texts(values):
        raise malformed_policy(f"{place}: expected text or a list of texts")
    if any("${" in value for value in values):
        raise malformed_policy(f"{place}: policy variables are not supported")
    return values


def _text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


def _texts(values: tuple[object, ...]) -> TypeGuard[tuple[str, ...]]:
    return all(isinstance(value, str) for value in values)


def _check_measurements(operator: Operator, values: tuple[str, ...], place: str, *, allow: bool) -> None:
    for value in values:
        # A debug enclave attests zeros: an Allow that accepts them is open to everybody who can start one.
        if allow and not operator.negated and like(value, _ZERO):
            raise malformed_policy(f"{place}: an all-zero measurement is what a debug enclave has")
        if "Like" not in operator.name and not re.fullmatch(f"[0-9a-fA-F]{{{PCR_HEX}}}", value):
            raise malformed_policy(f"{place}: expected {PCR_HEX} hexadecimal digits")
