"""Condition blocks of a policy: the string operators and `Null`, over the condition keys this KMS can fill.

An absent key makes a positive operator false and a negated one true, `...IfExists` true, and is what `Null` tests: so a
Deny with StringNotEquals fires for a caller who brings no attestation document at all.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from anchorhold.authority.kms.faults import malformed_policy
from anchorhold.authority.kms.wildcards import like

MAX_VALUES = 100
MAX_JOURNALED = 8  # accepted values of one condition in a journal entry; more is a fleet mid-rollout
PCR_HEX = 96  # characters of one SHA-384 measurement
_RECIPIENT = "kms:recipientattestation:"
_CONTEXT = "kms:encryptioncontext:"
_PLAIN_KEYS = frozenset({"kms:calleraccount", "aws:principalarn", "aws:principalaccount"})
_RECIPIENT_KEY = re.compile(_RECIPIENT + r"(imagesha384|pcr([0-9]|[12][0-9]|3[01])|nitrotpmpcr([0-9]|1[0-9]|2[0-3]))")
_ZERO = "0" * PCR_HEX
_TPM_COMMAND_LINE = "kms:recipientattestation:nitrotpmpcr12"
_SHOWN = {"imagesha384": "ImageSha384"} | {f"nitrotpmpcr{index}": f"NitroTPMPCR{index}" for index in range(24)}


_OPERATORS: dict[str, tuple[Callable[[str, str], bool], bool]] = {
    "StringEquals": (lambda want, have: want == have, False),
    "StringNotEquals": (lambda want, have: want == have, True),
    "StringEqualsIgnoreCase": (lambda want, have: want.lower() == have.lower(), False),
    "StringNotEqualsIgnoreCase": (lambda want, have: want.lower() == have.lower(), True),
    "StringLike": (like, False),
    "StringNotLike": (like, True),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key. `operator` is None for `Null`."""

    operator: str | None
    if_exists: bool
    key: str
    values: tuple[str, ...]

    def holds(self, present: Mapping[str, str]) -> bool:
        have = present.get(self.key)
        if self.operator is None:
            return (have is None) == (self.values[0] == "true")
        test, negated = _OPERATORS[self.operator]
        if have is None:
            return negated or self.if_exists
        return any(test(want, have) for want in self.values) != negated

    def attested(self, present: Mapping[str, str]) -> dict[str, object] | None:
        """Both sides of a condition on a measurement, for the journal; None for a condition on anything else."""
        if not self.key.startswith(_RECIPIENT):
            return None
        name = self.key.removeprefix(_RECIPIENT)
        operator = (self.operator or "Null") + ("IfExists" if self.if_exists else "")
        return {
            "conditionKey": f"kms:RecipientAttestation:{_SHOWN.get(name, name.upper())}",
            "operator": operator,
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


def _condition(operator: str, key: str, member: object, *, where: str, allow: bool) -> Condition:
    place = f"{where}: {operator} {key}"
    name = _key(key, place)
    members = member if isinstance(member, list) else [member]
    values = tuple(str(value).lower() if isinstance(value, bool) else value for value in members)
    if not 1 <= len(values) <= MAX_VALUES or not _texts(values):
        raise malformed_policy(f"{place}: expected text or a list of texts")
    if operator == "Null":
        if len(values) != 1 or values[0] not in ("true", "false"):
            raise malformed_policy(f"{place}: expected true or false")
        return Condition(None, False, name, values)
    base = operator.removesuffix("IfExists")
    if base not in _OPERATORS:
        raise malformed_policy(f"{where}: operator {operator!r} is not supported")
    if name.startswith(_RECIPIENT):
        # Zero in a NitroTPM's 12 is the genuine value: nothing was added to its command line (GHSA-xrv8-2pf5-f3q7).
        genuine = name == _TPM_COMMAND_LINE and "Like" not in base
        _check_measurements(base, values, place, allow=allow and not genuine)
    return Condition(base, base != operator, name, values)


def _texts(values: tuple[object, ...]) -> TypeGuard[tuple[str, ...]]:
    return all(isinstance(value, str) for value in values)


def _key(key: str, place: str) -> str:
    lower = key.lower()
    # Names of encryption context pairs are case-sensitive; every other key is not.
    if lower.startswith(_CONTEXT) and len(key) > len(_CONTEXT):
        return _CONTEXT + key[len(_CONTEXT) :]
    if lower in _PLAIN_KEYS or _RECIPIENT_KEY.fullmatch(lower):
        return lower
    raise malformed_policy(f"{place}: condition key {key!r} is not supported")


def _check_measurements(operator: str, values: tuple[str, ...], place: str, *, allow: bool) -> None:
    for value in values:
        # A debug enclave attests zeros: an Allow that accepts them is open to everybody who can start one.
        if allow and "Not" not in operator and like(value, _ZERO):
            raise malformed_policy(f"{place}: an all-zero measurement is what a debug enclave has")
        if "Like" not in operator and not re.fullmatch(f"[0-9a-fA-F]{{{PCR_HEX}}}", value):
            raise malformed_policy(f"{place}: expected {PCR_HEX} hexadecimal digits")


def recipient_key(name: str) -> str:
    """The condition key of one attested value, e.g. `PCR16`."""
    return _RECIPIENT + name.lower()


def context_key(name: str) -> str:
    """The condition key of one encryption context pair."""
    return _CONTEXT + name
