"""The trust file: everything a client believes before it has seen any evidence (docs/spec/channel.md 9).

Pinned at first use from the stack's own output. The gateway's address is in it for convenience and is trusted for
nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anchorhold.attestation.anchors import AWS_NITRO_G1, Anchor, anchor_from_pem
from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import Policy, measurements_from_json, service_policy
from anchorhold.attestation.types import SHA384_BYTES, ConfigDigest, Milliseconds, ModelDigest, Platform
from anchorhold.client.errors import TrustFileInvalid

VERSION = 1
MAX_TRUST_FILE = 65_536  # bytes; one takes 2 KiB
MAX_TEXT = 512
MAX_AGE_S = 3_600


@dataclass(frozen=True, slots=True)
class LogPin:
    """The log whose checkpoints an auditor believes."""

    origin: str
    key: str


@dataclass(frozen=True, slots=True)
class Trust:
    """One deployment, pinned: root, measurements, C and D."""

    name: str
    gateway: str
    platforms: frozenset[Platform]
    root: str | None
    measurements: Mapping[int, bytes]
    configuration: ConfigDigest
    model: ModelDigest
    alias: str
    max_age_s: int
    log: LogPin

    @property
    def anchor(self) -> Anchor:
        """The pinned root: AWS's own where the file names none."""
        return AWS_NITRO_G1 if self.root is None else anchor_from_pem(self.name, self.root.encode())

    @property
    def policy(self) -> Policy:
        """Demands registers 0, 1, 2 and 16."""
        return service_policy(self.platforms, (self.measurements,), Milliseconds(self.max_age_s * 1000))

    @property
    def simulated(self) -> bool:
        return self.anchor.simulated


def parse_trust(raw: bytes) -> Trust:
    """Strictly: every field, no other, and the parts agree with each other. Raises TrustFileInvalid."""
    if len(raw) > MAX_TRUST_FILE:
        raise TrustFileInvalid(f"trust file: expected at most {MAX_TRUST_FILE} bytes, got {len(raw)}")
    try:
        members = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise TrustFileInvalid("trust file: not JSON, or a name stands twice") from error
    _fields("trust file", members, _FIELDS)
    if members["version"] != VERSION:
        raise TrustFileInvalid(f"trust file: expected version {VERSION}, got {members['version']!r}")
    log = members["log"]
    _fields("trust file: log", log, {"origin": (str,), "key": (str,)})
    try:
        trust = Trust(
            members["name"],
            members["gateway"],
            frozenset(Platform(one) for one in members["platforms"]),
            members["root"],
            measurements_from_json(members["measurements"], "trust file: measurements"),
            ConfigDigest(_hex48(members, "configuration")),
            ModelDigest(_hex48(members, "model")),
            members["alias"],
            members["max_age_s"],
            LogPin(log["origin"], log["key"]),
        )
        _consistent(trust)
    except (EvidenceError, ValueError) as error:
        raise TrustFileInvalid(f"trust file: {error}") from error
    return trust


def load_trust(path: Path) -> Trust:
    """The trust file at `path`. Raises TrustFileInvalid."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TRUST_FILE + 1)
    except OSError as error:
        raise TrustFileInvalid(f"trust file {str(path)!r}: {error.strerror}") from error
    return parse_trust(raw)


def encode_trust(trust: Trust) -> bytes:
    """The file, in the order a person reads it."""
    members = {
        "version": VERSION,
        "name": trust.name,
        "gateway": trust.gateway,
        "platforms": sorted(one.value for one in trust.platforms),
        "root": trust.root,
        "measurements": {str(index): value.hex() for index, value in sorted(trust.measurements.items())},
        "configuration": trust.configuration.hex(),
        "model": trust.model.hex(),
        "alias": trust.alias,
        "max_age_s": trust.max_age_s,
        "log": {"origin": trust.log.origin, "key": trust.log.key},
    }
    return json.dumps(members, indent=2).encode() + b"\n"


def _consistent(trust: Trust) -> None:
    # 1. Every register a service must pin, none of them zero.
    policy = trust.policy
    # 2. Register 16 is what C extends to: a file whose parts disagree was put together by hand, or by somebody else.
    expected = pcr16(trust.configuration)
    for accepted in policy.measurements:
        if accepted[16] != expected:
            raise ValueError(f"measurement 16 differs: expected {expected.hex()} from C, got {accepted[16].hex()}")
    # 3. A simulated root is never taken for a real platform, nor the other way round.
    if trust.anchor.simulated is not (trust.platforms == frozenset({Platform.SIMULATED})):
        got = sorted(one.value for one in trust.platforms)
        word = "only 'simulated'" if trust.anchor.simulated else "no 'simulated'"
        raise ValueError(f"platforms: expected {word} under root {trust.anchor.name!r}, got {got}")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _fields(what: str, members: object, fields: Mapping[str, tuple[type, ...]]) -> None:
    if not isinstance(members, dict) or members.keys() != fields.keys():
        got = sorted(members) if isinstance(members, dict) else type(members).__name__
        raise TrustFileInvalid(f"{what}: expected fields {sorted(fields)}, got {got}")
    for name, kinds in fields.items():
        value = members[name]
        if type(value) not in kinds:
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise TrustFileInvalid(f"{what}: {name}: expected {wanted}, got {type(value).__name__}")
        if isinstance(value, str) and name != "root" and (not value.isprintable() or not 1 <= len(value) <= MAX_TEXT):
            raise TrustFileInvalid(f"{what}: {name}: expected 1 to {MAX_TEXT} printable characters")


def _hex48(members: Mapping[str, str], name: str) -> bytes:
    raw = bytes.fromhex(members[name])
    if len(raw) != SHA384_BYTES or raw.hex() != members[name]:
        raise ValueError(f"{name}: expected {2 * SHA384_BYTES} lower-case hex digits")
    return raw


_FIELDS: dict[str, tuple[type, ...]] = {
    "version": (int,),
    "name": (str,),
    "gateway": (str,),
    "platforms": (list,),
    "root": (str, type(None)),
    "measurements": (dict,),
    "configuration": (str,),
    "model": (str,),
    "alias": (str,),
    "max_age_s": (int,),
    "log": (dict,),
}
