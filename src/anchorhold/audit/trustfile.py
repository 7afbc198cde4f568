"""The auditor's trust file: the same JSON a client pins, of which the gateway is of no interest here.

Where it names whose releases count, each release of the list is a deployment, and counts for boots of its own time: the
list may be of any age, since an auditor has no clock and judges the past.
"""

import json
from collections.abc import Callable, Mapping

from anchorhold.attestation.anchors import AWS_NITRO_G1, anchor_from_pem
from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.policy import measurements_from_json, service_policy
from anchorhold.attestation.release.past import PastRelease, past_releases
from anchorhold.attestation.release.pin import ReleasePin, pin_from_json
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.transcript.trust import AuditTrust, Deployment
from anchorhold.attestation.types import SHA384_BYTES, ConfigDigest, ModelDigest, Platform
from anchorhold.audit.folder import CannotRead

VERSION = 2
PINNED_BY_HAND = 1  # knew no release lists; old transcripts are judged by such files for ever
_COMMON = {"version", "name", "platforms", "root", "configuration", "model", "log"}
ReadList = Callable[[str], bytes]
"""The release list at the address a trust file gives. Raises CannotRead."""
Parsed = tuple[Vkey, tuple[Deployment, ...]]


def parse_trust(raw: bytes, read: ReadList | None = None) -> Parsed:
    """Log key and deployments of one trust file. Raises CannotRead, also where it names a list and `read` is None."""
    try:
        # A person may have saved it with a BOM or CRLF: text wrappers are forgiven, their content is not.
        members = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_once)
        if not isinstance(members, dict) or not members.keys() >= _COMMON:
            raise Malformed(f"expected the fields {sorted(_COMMON)}")
        if len(members.keys() & {"measurements", "releases"}) != 1:
            raise Malformed("expected one of measurements and releases")
        released = "releases" in members
        if members["version"] not in ({VERSION} if released else {VERSION, PINNED_BY_HAND}):
            raise Mismatch("version", expected=VERSION, actual=members["version"])
        log = _log(members["log"])
        return log, _released(members, log, read) if released else (_by_hand(members),)
    except (EvidenceError, ValueError, RecursionError, TypeError) as error:
        raise CannotRead(f"trust file: {error}") from error


def pinned_releases(raw: bytes) -> ReleasePin | None:
    """Whose releases a trust file, parsed before, pins; None where it has measurements instead."""
    members = json.loads(raw.decode("utf-8-sig"))
    return pin_from_json(members["releases"]) if "releases" in members else None


def merge(parsed: list[Parsed]) -> AuditTrust:
    """Several trust files of one log: any of their deployments is accepted. Raises CannotRead."""
    logs = {vkey for vkey, _ in parsed}
    if len(logs) != 1:
        raise CannotRead(f"trust files: expected one log key in all of them, got {sorted(str(vkey) for vkey in logs)}")
    return AuditTrust(logs.pop(), tuple(deployment for _, deployments in parsed for deployment in deployments))


def _log(value: object) -> Vkey:
    if not isinstance(value, dict) or not isinstance(value.get("key"), str):
        raise Malformed("log: expected origin and key")
    vkey = Vkey.parse(value["key"])
    if value.get("origin") != vkey.name:
        raise Mismatch("log origin", expected=vkey.name, actual=value.get("origin"))
    return vkey


def _by_hand(members: Mapping[str, object]) -> Deployment:
    measurements = measurements_from_json(members["measurements"])
    configuration = ConfigDigest(_hex48(members, "configuration"))
    if measurements.get(16) != pcr16(configuration):
        raise Mismatch("measurement 16", expected=pcr16(configuration), actual=measurements.get(16, b""))
    return _deployment(members, (measurements,))


def _released(members: Mapping[str, object], log: Vkey, read: ReadList | None) -> tuple[Deployment, ...]:
    pin = pin_from_json(members["releases"])
    if read is None or pin.source is None:
        hint = "--trust FILE with a source in it, or a trust file with measurements"
        raise CannotRead("trust file: it names a release list that is not here", hint=hint)
    past = past_releases(read(pin.source), pin.quorum, product=pin.product, log=log)
    # A list may hold releases for several platforms; this deployment is judged by those for its own.
    named = members["platforms"]
    ours = [one for one in past if isinstance(named, list) and one.statement.platform.value in named]
    if not ours:
        got = sorted({one.statement.platform.value for one in past})
        raise Mismatch("platform of the releases", expected=named, actual=got)
    return tuple(_deployment(members, one.statement.measurements, one) for one in ours)


def _deployment(
    members: Mapping[str, object], accepted: tuple[Mapping[int, bytes], ...], release: PastRelease | None = None
) -> Deployment:
    name, root, platforms = members["name"], members["root"], members["platforms"]
    if not isinstance(name, str) or not isinstance(root, str | None) or not isinstance(platforms, list):
        raise Malformed("expected text in name, PEM or null in root, a list in platforms")
    anchor = AWS_NITRO_G1 if root is None else anchor_from_pem(name, root.encode())
    named = frozenset(Platform(one) for one in platforms)
    if anchor.simulated is not (named == {Platform.SIMULATED}):
        raise Mismatch("platforms", expected="simulated for a root that is not pinned, and only then", actual=platforms)
    configuration = ConfigDigest(_hex48(members, "configuration"))
    sets = tuple({**one, 16: pcr16(configuration)} for one in accepted)
    policy = service_policy(named, sets)
    return Deployment(name, anchor, policy, configuration, ModelDigest(_hex48(members, "model")), release)


def _hex48(members: Mapping[str, object], name: str) -> bytes:
    text = members[name]
    if not isinstance(text, str) or len(text) != 2 * SHA384_BYTES:
        raise Malformed(f"{name}: expected {2 * SHA384_BYTES} hex digits")
    return bytes.fromhex(text)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members
