"""What a relying party accepts: platforms, reference measurements, age (docs/spec/evidence.md 3).

The registers that must be there follow from the measurements given: never an empty set, never a zero value, absent is
refused like different. A debug document shows zeros in 0, 1 and 2, so a zero in a policy would accept every debug
enclave there is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, encode
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, TooLarge, show
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, Platform, Sha384

DEFAULT_MAX_AGE_MS = Milliseconds(300_000)  # KMS's own limit for a document
MAX_MAX_AGE_MS = 3_600_000  # an hour; a leaf lives three
MAX_ACCEPTED = 64  # measurement sets
MAX_POLICY_JSON = 262_144  # bytes
PCR_COUNT = 32
_ZERO = bytes(SHA384_BYTES)


class PcrIndex(IntEnum):
    """The enclave registers this project names; a policy may pin any of the 32."""

    IMAGE = 0
    KERNEL = 1
    APPLICATION = 2
    ROLE = 3
    INSTANCE = 4
    SIGNER = 8
    CONFIGURATION = 16


ENCLAVE_PCRS = frozenset({0, 1, 2})
"""The least any enclave policy pins: 0 alone leaves the split between kernel and ramdisks open."""
SERVICE_PCRS = frozenset({0, 1, 2, 16})
"""What every client, authority and KMS policy of ours pins (DESIGN 2): the image and the deployment configuration."""


class MeasurementMismatch(Mismatch):
    """A register that differs from the reference, or is absent."""

    def __init__(self, index: int, *, expected: bytes, actual: bytes | None) -> None:
        got: object = "absent" if actual is None else actual
        super().__init__(f"measurement {pcr_name(index)}", expected=expected, actual=got, code="measurement")
        self.index = index


class PolicyInvalid(EvidenceError):
    """A policy that would accept more than its author can have meant."""

    code = "policy"


def pcr_name(index: int) -> str:
    """`0 (image)`; the bare number where we have no name for it."""
    try:
        return f"{index} ({PcrIndex(index).name.lower()})"
    except ValueError:
        return str(index)


@dataclass(frozen=True, slots=True)
class Policy:
    """Accepted platforms, accepted measurement sets (any one of them, whole), and the age a live document may have."""

    platforms: frozenset[Platform]
    measurements: tuple[Mapping[int, bytes], ...]
    max_age_ms: Milliseconds = DEFAULT_MAX_AGE_MS

    def __post_init__(self) -> None:
        if not self.platforms:
            raise PolicyInvalid("policy: expected at least one platform")
        if Platform.NITRO_TPM in self.platforms and len(self.platforms) > 1:
            raise PolicyInvalid("policy: nitro-tpm stands alone, its registers mean other things")
        if not 0 < self.max_age_ms <= MAX_MAX_AGE_MS:
            raise PolicyInvalid(f"policy: max age: expected 1..{MAX_MAX_AGE_MS} ms, got {self.max_age_ms}")
        if not 1 <= len(self.measurements) <= MAX_ACCEPTED:
            raise PolicyInvalid(f"policy: expected 1..{MAX_ACCEPTED} measurement sets, got {len(self.measurements)}")
        for accepted in self.measurements:
            self._check_set(accepted)
        frozen = tuple(MappingProxyType(dict(sorted(accepted.items()))) for accepted in self.measurements)
        object.__setattr__(self, "measurements", frozen)

    def _check_set(self, accepted: Mapping[int, bytes]) -> None:
        for index, value in accepted.items():
            if not 0 <= index < PCR_COUNT:
                raise PolicyInvalid(f"policy: expected a register 0..{PCR_COUNT - 1}, got {index}")
            if len(value) != SHA384_BYTES or value == _ZERO:
                raise PolicyInvalid(f"policy: measurement {pcr_name(index)}: expected 48 bytes, not zero")
        if Platform.NITRO_TPM in self.platforms:
            if not accepted.keys() & {4, 7}:
                raise PolicyInvalid("policy: expected register 4 or 7 in each nitro-tpm measurement set")
        elif missing := sorted(ENCLAVE_PCRS - accepted.keys()):
            raise PolicyInvalid(f"policy: expected registers 0, 1 and 2 in each measurement set, missing {missing}")

    @property
    def required(self) -> frozenset[int]:
        """The registers that every accepted set pins."""
        return frozenset.intersection(*(frozenset(accepted) for accepted in self.measurements))

    def demand(self, registers: frozenset[int]) -> "Policy":
        """This policy, if every accepted set pins `registers`. Raises PolicyInvalid."""
        if missing := sorted(registers - self.required):
            raise PolicyInvalid(f"policy: expected registers {sorted(registers)} to be pinned, missing {missing}")
        return self

    def match(self, pcrs: Mapping[int, bytes]) -> None:
        """Some accepted set holds whole. Raises MeasurementMismatch against the set that came closest."""
        closest: tuple[int, int, bytes] | None = None
        for accepted in self.measurements:
            wrong = [(index, value) for index, value in accepted.items() if pcrs.get(index) != value]
            if not wrong:
                return
            if closest is None or len(wrong) < closest[0]:
                closest = (len(wrong), *wrong[0])
        assert closest is not None  # there is at least one set
        raise MeasurementMismatch(closest[1], expected=closest[2], actual=pcrs.get(closest[1]))

    @property
    def canonical(self) -> bytes:
        """The canonical CBOR of this policy."""
        sets: list[Value] = [{str(index): value for index, value in one.items()} for one in self.measurements]
        return encode(
            {
                "v": 1,
                "platforms": sorted(platform.value for platform in self.platforms),
                "measurements": sets,
                "max_age_ms": int(self.max_age_ms),
            }
        )

    @property
    def digest(self) -> Sha384:
        """SHA-384(label, canonical bytes)."""
        return labelled(labels.POLICY, self.canonical)


def service_policy(
    platforms: frozenset[Platform],
    measurements: tuple[Mapping[int, bytes], ...],
    max_age_ms: Milliseconds = DEFAULT_MAX_AGE_MS,
) -> Policy:
    """A policy for one of our own enclaves: it pins 0, 1, 2 and 16. Raises PolicyInvalid."""
    return Policy(platforms, measurements, max_age_ms).demand(SERVICE_PCRS)


def policy_from_json(raw: bytes) -> Policy:
    """`{"version": 1, "platforms": [...], "measurements": [{"0": hex, ...}], "max_age_s": 300}`, strictly."""
    if len(raw) > MAX_POLICY_JSON:
        raise TooLarge("policy", limit=MAX_POLICY_JSON, actual=len(raw))
    try:
        value = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"policy: not JSON: {error}") from error
    if not isinstance(value, dict) or value.keys() - {"max_age_s"} != {"version", "platforms", "measurements"}:
        raise Malformed("policy: expected the fields version, platforms, measurements and at most max_age_s")
    if type(value["version"]) is not int or value["version"] != 1:
        raise Malformed(f"policy: version: expected 1, got {show(value['version'])}")
    age = value.get("max_age_s", DEFAULT_MAX_AGE_MS // 1000)
    if type(age) is not int:
        raise Malformed("policy: max_age_s: expected a whole number of seconds")
    platforms, sets = value["platforms"], value["measurements"]
    if not isinstance(platforms, list) or not isinstance(sets, list):
        raise Malformed("policy: platforms and measurements: expected lists")
    return Policy(
        frozenset(_platform(name) for name in platforms),
        tuple(_measurements(one) for one in sets),
        Milliseconds(age * 1000),
    )


def measurements_from_json(value: object, what: str = "measurements") -> Mapping[int, bytes]:
    """`{"0": hex, ...}` as registers. Raises Malformed."""
    if not isinstance(value, dict):
        raise Malformed(f"{what}: expected an object, got {type(value).__name__}")
    registers: dict[int, bytes] = {}
    for name, text in value.items():
        if not isinstance(name, str) or name not in {str(index) for index in range(PCR_COUNT)}:
            raise Malformed(f"{what}: expected a register number 0..{PCR_COUNT - 1}, got {name!r:.40}")
        if not isinstance(text, str) or len(text) != 2 * SHA384_BYTES or set(text) - set("0123456789abcdef"):
            raise Malformed(f"{what}: register {name}: expected {2 * SHA384_BYTES} lower-case hex digits")
        registers[int(name)] = bytes.fromhex(text)
    return registers


def _measurements(value: object) -> Mapping[int, bytes]:
    return measurements_from_json(value, "policy: measurements")


def _platform(name: object) -> Platform:
    try:
        return Platform(name)
    except ValueError as error:
        raise Malformed(f"policy: unknown platform {name!r:.40}") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key")
    return members
