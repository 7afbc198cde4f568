"""What a relying party accepts: platforms, releases with their measurements, age, nonce (docs/spec/evidence.md 3).

The registers that must be there follow from the measurements given: never an empty set, never a zero value, absent is
refused like different. A debug document shows zeros in 0, 1 and 2, so a zero in a policy would accept every debug
enclave there is. The published form is JSON (docs/schema/policy.schema.json); what is hashed is the canonical CBOR.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import TypeVar

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, encode
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, TooLarge, show
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, Platform, Sha384

DEFAULT_MAX_AGE_MS = Milliseconds(300_000)  # KMS's own limit for a document
MAX_MAX_AGE_MS = 3_600_000  # an hour; a leaf lives three
MAX_ACCEPTED = 64  # measurement sets, of all releases together
MAX_RELEASE_NAME = 129  # characters: a product and a release of 64 each, and the space between
MAX_POLICY_JSON = 262_144  # bytes; 64 sets of 32 registers take 210,000
PCR_COUNT = 32  # the NSM has 32
TPM_PCR_COUNT = 24  # a TPM has 24
UNNAMED = "unnamed"
"""The release of a set that was pinned by hand, without a name."""
_ZERO = bytes(SHA384_BYTES)
_NEEDED = {"version", "platforms", "releases"}
_OPTIONAL = {"required", "max_age_s", "nonce"}
_Read = TypeVar("_Read")


class PcrIndex(IntEnum):
    """The enclave registers this project names; a policy may pin any of the 32."""

    IMAGE = 0
    KERNEL = 1
    APPLICATION = 2
    ROLE = 3
    INSTANCE = 4
    SIGNER = 8
    CONFIGURATION = 16


class NonceRule(Enum):
    """What a policy asks of a document that no caller's nonce is known for."""

    REQUIRED = "required"
    OPTIONAL = "optional"


ENCLAVE_PCRS = frozenset({0, 1, 2})
"""The least any enclave policy pins: 0 alone leaves the split between kernel and ramdisks open."""
SERVICE_PCRS = frozenset({0, 1, 2, 16})
"""What every client, authority and KMS policy of ours pins (DESIGN 2): the image and the deployment configuration."""
TPM_BINDINGS = (frozenset({4, 12}), frozenset({7}))
"""Either of them: the boot binary with its command line, or the Secure Boot policy. 4 without 12 leaves the command
line, and so the root file system, to the instance's operator (GHSA-xrv8-2pf5-f3q7)."""
TPM_ZERO = frozenset({12})
"""Zero here says that nothing was added to the measured command line: what a genuine image shows (same advisory)."""
TPM_UNBOUND = frozenset({1, 16, 23})
"""1 differs between instances of one image; 16 and 23 are reset by whoever runs there (TCG PC Client profile)."""


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
    """Accepted platforms, accepted measurement sets (any one of them, whole), and the age a live document may have.

    `releases` names the release of each measurement set, in the order of `measurements`; none given: `unnamed`.
    """

    platforms: frozenset[Platform]
    measurements: tuple[Mapping[int, bytes], ...]
    max_age_ms: Milliseconds = DEFAULT_MAX_AGE_MS
    releases: tuple[str, ...] = ()
    nonce: NonceRule = NonceRule.REQUIRED

    def __post_init__(self) -> None:
        if not self.platforms:
            raise PolicyInvalid("policy: expected at least one platform")
        if Platform.NITRO_TPM in self.platforms and len(self.platforms) > 1:
            raise PolicyInvalid("policy: nitro-tpm stands alone, its registers mean other things")
        if not 0 < self.max_age_ms <= MAX_MAX_AGE_MS:
            raise PolicyInvalid(f"policy: max age: expected 1..{MAX_MAX_AGE_MS} ms, got {self.max_age_ms}")
        if not 1 <= len(self.measurements) <= MAX_ACCEPTED:
            raise PolicyInvalid(f"policy: expected 1..{MAX_ACCEPTED} measurement sets, got {len(self.measurements)}")
        names = self.releases or (UNNAMED,) * len(self.measurements)
        if len(names) != len(self.measurements):
            raise PolicyInvalid(f"policy: expected {len(self.measurements)} release names, got {len(names)}")
        for name in names:
            check_release_name(name)
        for accepted in self.measurements:
            check_measurements(accepted, tpm=Platform.NITRO_TPM in self.platforms)
        frozen = tuple(MappingProxyType(dict(sorted(accepted.items()))) for accepted in self.measurements)
        object.__setattr__(self, "measurements", frozen)
        object.__setattr__(self, "releases", tuple(names))

    @property
    def required(self) -> frozenset[int]:
        """The registers that every accepted set pins."""
        return frozenset.intersection(*(frozenset(accepted) for accepted in self.measurements))

    def demand(self, registers: frozenset[int]) -> "Policy":
        """This policy, if every accepted set pins `registers`. Raises PolicyInvalid."""
        if missing := sorted(registers - self.required):
            raise PolicyInvalid(f"policy: expected registers {sorted(registers)} to be pinned, missing {missing}")
        return self

    def match(self, pcrs: Mapping[int, bytes]) -> tuple[str, ...]:
        """The releases of which a set holds whole. Raises MeasurementMismatch against the set that came closest."""
        named = sorted({name for name, _, wrong in self.differences(pcrs) if not wrong})
        # 3.1 One accepted set holds whole: never each register in some set (docs/spec/evidence.md 3.1).
        if not named:
            raise self._closest(pcrs)
        return tuple(named)

    def differences(self, pcrs: Mapping[int, bytes]) -> tuple[tuple[str, Mapping[int, bytes], tuple[int, ...]], ...]:
        """Of each accepted set: its release, the set, and the registers that differ or are absent."""
        return tuple(
            (name, accepted, tuple(index for index, value in accepted.items() if pcrs.get(index) != value))
            for name, accepted in zip(self.releases, self.measurements, strict=True)
        )

    def _closest(self, pcrs: Mapping[int, bytes]) -> MeasurementMismatch:
        _, accepted, wrong = min(self.differences(pcrs), key=lambda one: len(one[2]))
        return MeasurementMismatch(wrong[0], expected=accepted[wrong[0]], actual=pcrs.get(wrong[0]))

    @property
    def by_release(self) -> Mapping[str, tuple[Mapping[int, bytes], ...]]:
        """The accepted sets by release, names sorted, each set once, in the order of their encodings."""
        sets: dict[str, dict[bytes, Mapping[int, bytes]]] = {name: {} for name in sorted(set(self.releases))}
        for name, accepted in zip(self.releases, self.measurements, strict=True):
            sets[name][encode(_as_text_keys(accepted))] = accepted
        return {name: tuple(one for _, one in sorted(of.items())) for name, of in sets.items()}

    @property
    def canonical(self) -> bytes:
        """The canonical CBOR of this policy: whatever accepts the same has the same bytes."""
        releases: dict[str, Value] = {
            name: [_as_text_keys(one) for one in sets] for name, sets in self.by_release.items()
        }
        return encode(
            {
                "v": 1,
                "platforms": sorted(platform.value for platform in self.platforms),
                "releases": releases,
                "max_age_ms": int(self.max_age_ms),
                "nonce": self.nonce.value,
            }
        )

    @property
    def digest(self) -> Sha384:
        """SHA-384(label, canonical bytes)."""
        return labelled(labels.POLICY, self.canonical)


def check_release_name(name: str) -> str:
    """`name`, if it can name a release in a policy. Raises PolicyInvalid."""
    plain = name.isascii() and name.isprintable() and name == name.strip()
    if not plain or not 1 <= len(name) <= MAX_RELEASE_NAME:
        wanted = f"1..{MAX_RELEASE_NAME} printable ASCII characters, no space at either end"
        raise PolicyInvalid(f"policy: release name: expected {wanted}, got {name!r:.160}")
    return name


def check_measurements(accepted: Mapping[int, bytes], *, tpm: bool, what: str = "policy") -> None:
    """One set that a policy may hold: enough registers, of the platform, none zero. Raises PolicyInvalid."""
    count = TPM_PCR_COUNT if tpm else PCR_COUNT
    for index, value in accepted.items():
        if not 0 <= index < count:
            raise PolicyInvalid(f"{what}: expected a register 0..{count - 1}, got {index}")
        if tpm and index in TPM_UNBOUND:
            raise PolicyInvalid(f"{what}: nitro-tpm register {index} may not be pinned: it proves nothing")
        may_be_zero = tpm and index in TPM_ZERO
        if len(value) != SHA384_BYTES or (value == _ZERO and not may_be_zero):
            raise PolicyInvalid(f"{what}: measurement {index}: expected {SHA384_BYTES} bytes, not zero")
    if tpm and not any(binding <= accepted.keys() for binding in TPM_BINDINGS):
        raise PolicyInvalid(f"{what}: expected registers 4 and 12, or 7, in each nitro-tpm measurement set")
    if not tpm and (missing := sorted(ENCLAVE_PCRS - accepted.keys())):
        raise PolicyInvalid(f"{what}: expected registers 0, 1 and 2 in each measurement set, missing {missing}")


def release_policy(
    platforms: frozenset[Platform],
    releases: Mapping[str, Sequence[Mapping[int, bytes]]],
    max_age_ms: Milliseconds = DEFAULT_MAX_AGE_MS,
    nonce: NonceRule = NonceRule.REQUIRED,
) -> Policy:
    """A policy from measurement sets by release; a release without one is refused. Raises PolicyInvalid."""
    for name, sets in releases.items():
        if not sets:
            raise PolicyInvalid(f"policy: release {name!r:.160}: expected at least one measurement set")
    pairs = [(name, one) for name, sets in releases.items() for one in sets]
    named, measured = tuple(name for name, _ in pairs), tuple(one for _, one in pairs)
    return Policy(platforms, measured, max_age_ms, named, nonce)


def service_policy(
    platforms: frozenset[Platform],
    measurements: tuple[Mapping[int, bytes], ...],
    max_age_ms: Milliseconds = DEFAULT_MAX_AGE_MS,
    releases: tuple[str, ...] = (),
) -> Policy:
    """A policy for one of our own enclaves: it pins 0, 1, 2 and 16. Raises PolicyInvalid."""
    return Policy(platforms, measurements, max_age_ms, releases).demand(SERVICE_PCRS)


def policy_from_json(raw: bytes) -> Policy:
    """The policy in a file of docs/schema/policy.schema.json, strictly. Raises Malformed, TooLarge or PolicyInvalid."""
    if len(raw) > MAX_POLICY_JSON:
        raise TooLarge("policy", limit=MAX_POLICY_JSON, actual=len(raw))
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"policy: not JSON: {error}") from error
    if not isinstance(value, dict) or not _NEEDED <= value.keys() <= _NEEDED | _OPTIONAL:
        raise Malformed(f"policy: expected the fields {sorted(_NEEDED)} and at most {sorted(_OPTIONAL)}")
    if type(value["version"]) is not int or value["version"] != 1:
        raise Malformed(f"policy: version: expected 1, got {show(value['version'])}")
    age = value.get("max_age_s", DEFAULT_MAX_AGE_MS // 1000)
    if type(age) is not int:
        raise Malformed("policy: max_age_s: expected a whole number of seconds")
    policy = release_policy(
        frozenset(_once(_list(value["platforms"], "platforms"), "platforms", _platform)),
        _releases(value["releases"]),
        Milliseconds(age * 1000),
        _nonce_rule(value.get("nonce", NonceRule.REQUIRED.value)),
    )
    if "required" not in value:
        return policy
    return policy.demand(frozenset(_once(_list(value["required"], "required"), "required", _register)))


def policy_to_json(policy: Policy) -> bytes:
    """The file of a policy: `policy_from_json` gives back one of the same digest. Raises PolicyInvalid."""
    if policy.max_age_ms % 1000:
        raise PolicyInvalid(f"policy: max age: expected whole seconds, got {policy.max_age_ms} ms")
    members: dict[str, object] = {
        "version": 1,
        "platforms": sorted(platform.value for platform in policy.platforms),
        "releases": {
            name: [{str(index): value.hex() for index, value in one.items()} for one in sets]
            for name, sets in policy.by_release.items()
        },
        "max_age_s": policy.max_age_ms // 1000,
        "nonce": policy.nonce.value,
    }
    if policy.required:
        members["required"] = sorted(policy.required)
    return json.dumps(members, indent=2).encode() + b"\n"


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


def _releases(value: object) -> dict[str, list[Mapping[int, bytes]]]:
    if not isinstance(value, dict):
        raise Malformed(f"policy: releases: expected an object of lists by release, got {type(value).__name__}")
    releases: dict[str, list[Mapping[int, bytes]]] = {}
    for name, sets in value.items():
        what = f"releases: {name!r:.160}"
        releases[name] = [measurements_from_json(one, f"policy: {what}") for one in _list(sets, what)]
        if any(one in releases[name][:at] for at, one in enumerate(releases[name])):
            raise Malformed(f"policy: {what}: a measurement set stands twice")
    return releases


def _list(value: object, what: str) -> list[object]:
    # No list of a policy is longer: a comparison of each with each stays cheap.
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_ACCEPTED:
        raise Malformed(f"policy: {what}: expected a list of 1..{MAX_ACCEPTED}, got {type(value).__name__}")
    return value


def _once(value: list[object], what: str, read: Callable[[object], _Read]) -> list[_Read]:
    members = [read(one) for one in value]
    if len(set(members)) != len(members):
        raise Malformed(f"policy: {what}: an entry stands twice")
    return members


def _platform(name: object) -> Platform:
    try:
        return Platform(name)
    except ValueError as error:
        raise Malformed(f"policy: unknown platform {name!r:.40}") from error


def _register(index: object) -> int:
    if type(index) is not int or not 0 <= index < PCR_COUNT:
        raise Malformed(f"policy: required: expected registers 0..{PCR_COUNT - 1}, got {index!r:.40}")
    return index


def _nonce_rule(name: object) -> NonceRule:
    try:
        return NonceRule(name)
    except ValueError as error:
        raise Malformed(f"policy: nonce: expected required or optional, got {name!r:.40}") from error


def _as_text_keys(accepted: Mapping[int, bytes]) -> dict[str, Value]:
    return {str(index): value for index, value in accepted.items()}


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key")
    return members
