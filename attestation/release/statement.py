"""What people sign about releases: a statement, the list of all of a product, a revocation (release-statements.md 1).

Canonical CBOR, versioned, with no field optional. A statement names no register 16: that follows from the deployment
configuration, which the relying party brings itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import NewType, TypeVar

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, check_map, decode_map, encode
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import Malformed, Mismatch, NotCanonical, TooLarge
from anchorhold.attestation.policy import PcrIndex, PolicyInvalid, check_measurements
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, Platform, Sha384

VERSION = 1
MAX_STATEMENT = 4_096  # bytes; 16 sets of 3 registers take 2,700. With 16 signers it must fit into a leaf of the log
MAX_SETS = 16  # measurement sets of one release: one for each build of it, by architecture or instance type
MAX_STATEMENTS = 64  # in force at a time; `policy.MAX_ACCEPTED` is the same
MAX_REVOKED = 256  # entries of one list; a revoked statement may leave the list once it has expired
MAX_LIST = 65_536  # bytes; 64 digests and 256 revocations take 34,000
MAX_REVOCATION = 512  # bytes; product, digest, time and reason take under 250
MAX_LIFE_MS = 400 * 86_400_000  # a statement that outlives a year and a month's grace is one nobody thought about
MAX_TIME_MS = 253_402_300_799_999  # ms; the end of the year 9999, the last that RFC 3339 can write
MAX_VERSION = 2**32 - 1  # a list a second for 136 years
# Shown in terminals and used as keys of policies: nothing that needs quoting.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", re.ASCII)
_STATEMENT_FIELDS: Mapping[str, type] = {
    "v": int,
    "product": str,
    "release": str,
    "platform": str,
    "measurements": list,
    "not_before": int,
    "not_after": int,
}
_LIST_FIELDS: Mapping[str, type] = {
    "v": int,
    "product": str,
    "version": int,
    "issued_at": int,
    "statements": list,
    "revoked": list,
}
_REVOCATION_FIELDS: Mapping[str, type] = {"v": int, "product": str, "digest": bytes, "at": int, "reason": str}

ReleaseDigest = NewType("ReleaseDigest", bytes)
"""48 bytes naming one release statement: the labelled digest of its canonical bytes."""


class Reason(Enum):
    """Why a release is no longer accepted. Each has the same effect; people want to know."""

    COMPROMISE = "compromise"
    VULNERABILITY = "vulnerability"
    DEFECT = "defect"
    SUPERSEDED = "superseded"
    MISTAKE = "mistake"


@dataclass(frozen=True, slots=True)
class ReleaseStatement:
    """These measurements are release `release` of `product`, from `not_before` until just before `not_after`."""

    product: str
    release: str
    platform: Platform
    measurements: tuple[Mapping[int, bytes], ...]
    not_before: Milliseconds
    not_after: Milliseconds

    def __post_init__(self) -> None:
        check_name("product", self.product)
        check_name("release", self.release)
        if len(self.measurements) > MAX_SETS:
            raise TooLarge("release statement: measurement sets", limit=MAX_SETS, actual=len(self.measurements))
        if not self.measurements:
            raise PolicyInvalid("release statement: expected at least one measurement set")
        # The rules of a policy are the rules here: enough registers, of the platform, no zeros.
        tpm = self.platform is Platform.NITRO_TPM
        for one in self.measurements:
            check_measurements(one, tpm=tpm, what="release statement")
            if not tpm and PcrIndex.CONFIGURATION in one:
                raise Malformed("release statement: expected no register 16: it follows from the configuration")
        if len({encode(_registers(one)) for one in self.measurements}) != len(self.measurements):
            raise NotCanonical("release statement: expected each measurement set once")
        if not 0 <= self.not_before < self.not_after <= MAX_TIME_MS:
            raise Malformed(
                f"release statement: expected not_before below not_after, got {self.not_before} and {self.not_after}"
            )
        if self.not_after - self.not_before > MAX_LIFE_MS:
            raise TooLarge("release statement: ms in force", limit=MAX_LIFE_MS, actual=self.not_after - self.not_before)
        frozen = tuple(MappingProxyType(dict(sorted(one.items()))) for one in self.measurements)
        object.__setattr__(self, "measurements", frozen)

    def encode(self) -> bytes:
        """The canonical bytes."""
        return encode({
            "v": VERSION,
            "product": self.product,
            "release": self.release,
            "platform": self.platform.value,
            "measurements": [_registers(one) for one in self.measurements],
            "not_before": self.not_before,
            "not_after": self.not_after,
        })  # fmt: skip

    @classmethod
    def decode(cls, raw: bytes) -> "ReleaseStatement":
        """Strictly. Raises EvidenceError."""
        what = "release statement"
        members = _versioned(decode_map(raw, what, limit=MAX_STATEMENT, fields=_STATEMENT_FIELDS), what)
        sets = tuple(_measurements(one) for one in _typed(members, "measurements", list))
        return cls(
            _typed(members, "product", str),
            _typed(members, "release", str),
            _platform(_typed(members, "platform", str)),
            sets,
            Milliseconds(_typed(members, "not_before", int)),
            Milliseconds(_typed(members, "not_after", int)),
        )

    @property
    def digest(self) -> ReleaseDigest:
        """What a list and a revocation name it by."""
        return ReleaseDigest(labelled(labels.RELEASES_STATEMENT, self.encode()))

    def holds(self, pcrs: Mapping[int, bytes]) -> bool:
        """Whether one of the measurement sets is whole in `pcrs`."""
        return any(all(pcrs.get(index) == value for index, value in one.items()) for one in self.measurements)


@dataclass(frozen=True, slots=True)
class Revocation:
    """The statement `digest` is no longer accepted: it takes effect wherever it is seen, whatever `at` says."""

    product: str
    digest: ReleaseDigest
    at: Milliseconds
    reason: Reason

    def __post_init__(self) -> None:
        check_name("product", self.product)
        _check_digest("revocation", self.digest)
        check_time("revocation: at", self.at)

    def encode(self) -> bytes:
        """The canonical bytes."""
        return encode({"v": VERSION, **_revocation_map(self)})

    @classmethod
    def decode(cls, raw: bytes) -> "Revocation":
        """Strictly. Raises EvidenceError."""
        members = decode_map(raw, "revocation", limit=MAX_REVOCATION, fields=_REVOCATION_FIELDS)
        return _revocation(_versioned(members, "revocation"))


@dataclass(frozen=True, slots=True)
class ReleaseList:
    """All statements of `product` that are in force or will be, and all that were revoked. Versions only grow."""

    product: str
    version: int
    issued_at: Milliseconds
    statements: tuple[ReleaseDigest, ...]
    revoked: tuple[Revocation, ...]

    def __post_init__(self) -> None:
        check_name("product", self.product)
        check_time("release list: issued_at", self.issued_at)
        if not 1 <= self.version <= MAX_VERSION:
            raise Malformed(f"release list: expected a version from 1 to {MAX_VERSION}, got {self.version}")
        if len(self.statements) > MAX_STATEMENTS:
            raise TooLarge("release list: statements", limit=MAX_STATEMENTS, actual=len(self.statements))
        if len(self.revoked) > MAX_REVOKED:
            raise TooLarge("release list: revocations", limit=MAX_REVOKED, actual=len(self.revoked))
        for digest in self.statements:
            _check_digest("release list", digest)
        check_sorted("release list: statements", self.statements)
        check_sorted("release list: revoked", [one.digest for one in self.revoked])
        for one in self.revoked:
            if one.product != self.product:
                raise Mismatch("release list: product of a revocation", expected=self.product, actual=one.product)

    def encode(self) -> bytes:
        """The canonical bytes."""
        return encode({
            "v": VERSION,
            "product": self.product,
            "version": self.version,
            "issued_at": self.issued_at,
            "statements": self.statements,
            "revoked": [_revocation_map(one) for one in self.revoked],
        })  # fmt: skip

    @classmethod
    def decode(cls, raw: bytes) -> "ReleaseList":
        """Strictly. Raises EvidenceError."""
        what = "release list"
        members = _versioned(decode_map(raw, what, limit=MAX_LIST, fields=_LIST_FIELDS), what)
        fields = {name: kind for name, kind in _REVOCATION_FIELDS.items() if name != "v"}
        revoked = [check_map(one, f"{what}: revoked", fields) for one in _typed(members, "revoked", list)]
        return cls(
            _typed(members, "product", str),
            _typed(members, "version", int),
            Milliseconds(_typed(members, "issued_at", int)),
            tuple(_digest(one) for one in _typed(members, "statements", list)),
            tuple(_revocation(one) for one in revoked),
        )

    @property
    def digest(self) -> Sha384:
        """Two lists of one version with different digests: somebody signed two histories."""
        return labelled(labels.RELEASES_LIST, self.encode())


def check_name(what: str, text: str) -> None:
    """Raises Malformed unless `text` is 1 to 64 letters, digits and ._+- with a letter or digit first."""
    if _NAME.fullmatch(text) is None:
        raise Malformed(f"{what}: expected 1 to 64 letters, digits or ._+-, got {text!r:.80}")


def check_time(what: str, moment: int) -> None:
    """Raises Malformed for a time outside the format."""
    if not 0 <= moment <= MAX_TIME_MS:
        raise Malformed(f"{what}: expected 0 to {MAX_TIME_MS} ms, got {moment}")


def check_sorted(what: str, names: "list[ReleaseDigest] | tuple[bytes, ...]") -> None:
    """Raises NotCanonical unless ascending, each once: one list has one encoding."""
    if list(names) != sorted(set(names)):
        raise NotCanonical(f"{what}: expected ascending order, each once")


_T = TypeVar("_T", str, int, bytes, "list[Value]")


def _typed(members: Mapping[str, Value], name: str, kind: type[_T]) -> _T:
    value = members[name]
    assert isinstance(value, kind)  # decode_map checked it
    return value


def _versioned(members: dict[str, Value], what: str) -> dict[str, Value]:
    if members["v"] != VERSION:
        raise Mismatch(f"{what}: version of the form", expected=VERSION, actual=members["v"])
    return members


def _registers(one: Mapping[int, bytes]) -> dict[str, Value]:
    return {str(index): value for index, value in one.items()}


def _measurements(value: Value) -> Mapping[int, bytes]:
    if not isinstance(value, dict):
        raise Malformed(f"release statement: measurements: expected a map, got {type(value).__name__}")
    registers: dict[int, bytes] = {}
    for name, register in value.items():
        if not (name.isascii() and name.isdecimal()) or len(name) > 2 or str(int(name)) != name:
            raise Malformed(f"release statement: expected a register number, got {name!r:.40}")
        if not isinstance(register, bytes):
            raise Malformed(f"release statement: register {name}: expected bytes, got {type(register).__name__}")
        registers[int(name)] = register
    return registers


def _platform(name: str) -> Platform:
    try:
        return Platform(name)
    except ValueError as error:
        raise Malformed(f"release statement: unknown platform {name!r:.40}") from error


def _check_digest(what: str, digest: bytes) -> None:
    if len(digest) != SHA384_BYTES:
        raise Malformed(f"{what}: expected a digest of {SHA384_BYTES} bytes, got {len(digest)}")


def _digest(value: Value) -> ReleaseDigest:
    if not isinstance(value, bytes):
        raise Malformed(f"release list: expected a digest, got {type(value).__name__}")
    return ReleaseDigest(value)


def _revocation_map(one: Revocation) -> dict[str, Value]:
    return {"product": one.product, "digest": one.digest, "at": one.at, "reason": one.reason.value}


def _revocation(members: Mapping[str, Value]) -> Revocation:
    text = _typed(members, "reason", str)
    try:
        reason = Reason(text)
    except ValueError as error:
        raise Malformed(f"revocation: unknown reason {text!r:.40}") from error
    return Revocation(
        _typed(members, "product", str),
        _digest(members["digest"]),
        Milliseconds(_typed(members, "at", int)),
        reason,
    )
