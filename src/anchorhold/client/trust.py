"""The trust file: everything a client believes before it has seen any evidence (docs/spec/channel.md 9).

Pinned out of band by its fingerprint, or from the state of a stack on this machine. What an enclave may measure is
pinned by hand, or said by a release list whose signers are pinned. Addresses (`gateway`, `source`) are in it for
convenience and are trusted for nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from anchorhold.attestation.anchors import AWS_NITRO_G1, Anchor, anchor_from_pem
from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import SERVICE_PCRS, Policy, PolicyInvalid, measurements_from_json, service_policy
from anchorhold.attestation.release.pin import ReleasePin, pin_from_json
from anchorhold.attestation.release.verify import AcceptedReleases
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import SHA384_BYTES, ConfigDigest, Milliseconds, ModelDigest, Platform
from anchorhold.client.errors import TrustFileInvalid
from anchorhold.client.tiers import PQ, STANDARD, Tier, tiers_from_json
from anchorhold.client.tls import TlsPin

VERSION = 2
PINNED_BY_HAND = 1  # the version that knew no release lists: read as what it says, never written
MAX_TRUST_FILE = 131_072  # bytes; 16 signers take 65,000
MAX_TEXT = 512
MAX_AGE_S = 3_600  # `policy.MAX_MAX_AGE_MS`
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class LogPin:
    """The log whose checkpoints an auditor believes."""

    origin: str
    key: str


@dataclass(frozen=True, slots=True)
class Trust:
    """One deployment, pinned: root, C, D, and either measurements or whose releases may have them."""

    name: str
    gateway: str
    platforms: frozenset[Platform]
    root: str | None
    measurements: Mapping[int, bytes] | None
    configuration: ConfigDigest
    model: ModelDigest
    alias: str
    max_age_s: int
    log: LogPin
    releases: ReleasePin | None = None
    tls: TlsPin | None = None
    """Whose certificate the gateway must show; None for a gateway without TLS."""
    require_pq: bool = False
    """Every hop of every request must hold against a quantum computer."""
    tiers: Mapping[str, Tier] = field(default_factory=lambda: STANDARD)
    file: Path | None = field(default=None, compare=False)
    """Where it was read: what a client remembers is kept beside it."""

    @property
    def anchor(self) -> Anchor:
        """The pinned root: AWS's own where the file names none."""
        return AWS_NITRO_G1 if self.root is None else anchor_from_pem(self.name, self.root.encode())

    @property
    def policy(self) -> Policy:
        """Of measurements pinned by hand; demands registers 0, 1, 2 and 16. Raises PolicyInvalid for releases."""
        if self.measurements is None:
            raise PolicyInvalid("trust file: it pins no measurements: they come from its release list")
        return service_policy(self.platforms, (self.measurements,), Milliseconds(self.max_age_s * 1000))

    def policy_of(self, releases: AcceptedReleases | None) -> Policy:
        """What a document must show: `releases` where the file names whose count. Raises PolicyInvalid."""
        if self.releases is None:
            return self.policy
        if releases is None or releases.product != self.releases.product:
            raise PolicyInvalid(f"trust file: expected the verified release list of {self.releases.product!r}")
        (platform,) = self.platforms
        age = Milliseconds(self.max_age_s * 1000)
        policy = releases.policy(configuration=self.configuration, max_age_ms=age, platform=platform)
        return policy.demand(SERVICE_PCRS)

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
    released = isinstance(members, dict) and "releases" in members
    _fields("trust file", members, _RELEASED if released else _BY_HAND, _OPTIONAL)
    if members["version"] not in ({VERSION} if released else {VERSION, PINNED_BY_HAND}):
        raise TrustFileInvalid(f"trust file: expected version {VERSION}, got {members['version']!r}")
    if members["version"] == PINNED_BY_HAND and members.keys() & _OPTIONAL.keys():
        raise TrustFileInvalid(f"trust file: expected no {sorted(_OPTIONAL)} in version {PINNED_BY_HAND}")
    log = members["log"]
    _fields("trust file: log", log, {"origin": (str,), "key": (str,)})
    if len(members["platforms"]) != len({str(one) for one in members["platforms"]}):
        raise TrustFileInvalid("trust file: platforms: expected each once")
    try:
        trust = Trust(
            name=members["name"],
            gateway=members["gateway"],
            platforms=frozenset(Platform(one) for one in members["platforms"]),
            root=members["root"],
            measurements=None if released else measurements_from_json(members["measurements"], "measurements"),
            configuration=ConfigDigest(_hex48(members, "configuration")),
            model=ModelDigest(_hex48(members, "model")),
            alias=members["alias"],
            max_age_s=members["max_age_s"],
            log=LogPin(log["origin"], log["key"]),
            releases=pin_from_json(members["releases"]) if released else None,
            tls=_tls(members["tls"]) if "tls" in members else None,
            require_pq=_require_pq(members.get("require_pq", "none")),
            tiers=tiers_from_json(members["tiers"]) if "tiers" in members else STANDARD,
        )
        _consistent(trust)
    except (EvidenceError, ValueError) as error:
        raise TrustFileInvalid(f"trust file: {error}") from error
    return trust


def read_trust(path: Path) -> bytes:
    """The bytes of the trust file at `path`, which nobody has parsed. Raises TrustFileInvalid."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_TRUST_FILE + 1)
    except OSError as error:
        raise TrustFileInvalid(f"trust file {str(path)!r}: {error.strerror}") from error


def load_trust(path: Path | str) -> Trust:
    """The trust file at `path`. Raises TrustFileInvalid."""
    path = Path(path)
    return replace(parse_trust(read_trust(path)), file=path)


def fingerprint(raw: bytes) -> str:
    """What a person compares: plain SHA-384 of the file's bytes, so that `sha384sum` says the same."""
    return hashlib.sha384(raw).hexdigest()


def encode_trust(trust: Trust) -> bytes:
    """The file, in the order a person reads it."""
    accepted: dict[str, object]
    if trust.releases is not None:
        accepted = {"releases": trust.releases.as_json()}
    else:
        pinned = trust.measurements or {}
        accepted = {"measurements": {str(index): value.hex() for index, value in sorted(pinned.items())}}
    members = {
        "version": VERSION,
        "name": trust.name,
        "gateway": trust.gateway,
        "platforms": sorted(one.value for one in trust.platforms),
        "root": trust.root,
        **accepted,
        "configuration": trust.configuration.hex(),
        "model": trust.model.hex(),
        "alias": trust.alias,
        "max_age_s": trust.max_age_s,
        "log": {"origin": trust.log.origin, "key": trust.log.key},
        **_optional(trust),
    }
    return json.dumps(members, indent=2).encode() + b"\n"


def _optional(trust: Trust) -> dict[str, object]:
    """What a file that does not say so has in the usual way is left out."""
    members: dict[str, object] = {}
    if trust.tls is not None:
        members["tls"] = {"server": trust.tls.server, "certificates": trust.tls.certificates}
    if trust.require_pq:
        members["require_pq"] = "all"
    if trust.tiers != STANDARD:
        members["tiers"] = {name: tier.as_json() for name, tier in trust.tiers.items()}
    return members


def milliseconds(at: datetime) -> Milliseconds:
    """`at` as the formats have it."""
    return Milliseconds((at - _EPOCH) // timedelta(milliseconds=1))


def _consistent(trust: Trust) -> None:
    if trust.releases is None:
        _consistent_measurements(trust)
    else:
        _consistent_releases(trust)
    # 3. A simulated root is never taken for a real platform, nor the other way round.
    if trust.anchor.simulated is not (trust.platforms == frozenset({Platform.SIMULATED})):
        got = sorted(one.value for one in trust.platforms)
        word = "only 'simulated'" if trust.anchor.simulated else "no 'simulated'"
        raise ValueError(f"platforms: expected {word} under root {trust.anchor.name!r}, got {got}")


def _consistent_measurements(trust: Trust) -> None:
    # 1. Every register a service must pin, none of them zero.
    policy = trust.policy
    # 2. Register 16 is what C extends to: a file whose parts disagree was put together by hand, or by somebody else.
    expected = pcr16(trust.configuration)
    for accepted in policy.measurements:
        if accepted[16] != expected:
            raise ValueError(f"measurement 16 differs: expected {expected.hex()} from C, got {accepted[16].hex()}")


def _consistent_releases(trust: Trust) -> None:
    # 1. As `Policy` has it for measurements pinned by hand.
    if len(trust.platforms) != 1:
        raise ValueError(f"platforms: expected one beside releases, got {len(trust.platforms)}")
    if not 0 < trust.max_age_s <= MAX_AGE_S:
        raise ValueError(f"max_age_s: expected 1 to {MAX_AGE_S}, got {trust.max_age_s}")
    # 2. Inclusion in this log is demanded of every release.
    key = Vkey.parse(trust.log.key)
    if key.name != trust.log.origin:
        raise ValueError(f"log: origin differs: expected {key.name!r} from its key, got {trust.log.origin!r}")


def _tls(value: Mapping[str, str]) -> TlsPin:
    _fields("trust file: tls", value, {"server": (str,), "certificates": (str,)})
    return TlsPin(value["server"], value["certificates"])


def _require_pq(value: str) -> bool:
    if value not in PQ:
        raise ValueError(f"require_pq: expected {' or '.join(PQ)}, got {value!r}")
    return PQ[value]


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _fields(
    what: str,
    members: object,
    fields: Mapping[str, tuple[type, ...]],
    optional: Mapping[str, tuple[type, ...]] = MappingProxyType({}),
) -> None:
    if not isinstance(members, dict) or members.keys() - optional.keys() != fields.keys():
        got = sorted(members) if isinstance(members, dict) else type(members).__name__
        raise TrustFileInvalid(f"{what}: expected fields {sorted(fields)}, got {got}")
    for name, value in members.items():
        kinds = fields.get(name) or optional[name]
        if type(value) not in kinds:
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise TrustFileInvalid(f"{what}: {name}: expected {wanted}, got {type(value).__name__}")
        if isinstance(value, str) and name not in _PEM and (not value.isprintable() or not 1 <= len(value) <= MAX_TEXT):
            raise TrustFileInvalid(f"{what}: {name}: expected 1 to {MAX_TEXT} printable characters")


def _hex48(members: Mapping[str, str], name: str) -> bytes:
    raw = bytes.fromhex(members[name])
    if len(raw) != SHA384_BYTES or raw.hex() != members[name]:
        raise ValueError(f"{name}: expected {2 * SHA384_BYTES} lower-case hex digits")
    return raw


_PEM = ("root", "certificates")  # text of several lines, judged by its own reader
_COMMON: dict[str, tuple[type, ...]] = {
    "version": (int,),
    "name": (str,),
    "gateway": (str,),
    "platforms": (list,),
    "root": (str, type(None)),
    "configuration": (str,),
    "model": (str,),
    "alias": (str,),
    "max_age_s": (int,),
    "log": (dict,),
}
_BY_HAND = {**_COMMON, "measurements": (dict,)}
_RELEASED = {**_COMMON, "releases": (dict,)}
_OPTIONAL: dict[str, tuple[type, ...]] = {"tls": (dict,), "require_pq": (str,), "tiers": (dict,)}
