"""The auditor's trust file: the same JSON a client pins, of which the gateway is of no interest here."""

import json
from collections.abc import Mapping

from anchorhold.attestation.anchors import AWS_NITRO_G1, anchor_from_pem
from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.policy import measurements_from_json, service_policy
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.transcript.trust import AuditTrust, Deployment
from anchorhold.attestation.types import SHA384_BYTES, ConfigDigest, ModelDigest, Platform
from anchorhold.audit.folder import CannotRead

VERSION = 1
_NEEDED = {"version", "name", "platforms", "root", "measurements", "configuration", "model", "log"}


def parse_trust(raw: bytes) -> tuple[Vkey, Deployment]:
    """Log key and deployment of one trust file. Raises CannotRead."""
    try:
        # A person may have saved it with a BOM or CRLF: text wrappers are forgiven, their content is not.
        members = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_once)
        if not isinstance(members, dict) or not members.keys() >= _NEEDED:
            raise Malformed(f"expected the fields {sorted(_NEEDED)}")
        if members["version"] != VERSION:
            raise Mismatch("version", expected=VERSION, actual=members["version"])
        return _log(members["log"]), _deployment(members)
    except (EvidenceError, ValueError, RecursionError, TypeError) as error:
        raise CannotRead(f"trust file: {error}") from error


def merge(parsed: list[tuple[Vkey, Deployment]]) -> AuditTrust:
    """Several trust files of one log: any of their deployments is accepted. Raises CannotRead."""
    logs = {vkey for vkey, _ in parsed}
    if len(logs) != 1:
        raise CannotRead(f"trust files: expected one log key in all of them, got {sorted(str(vkey) for vkey in logs)}")
    return AuditTrust(logs.pop(), tuple(deployment for _, deployment in parsed))


def _log(value: object) -> Vkey:
    if not isinstance(value, dict) or not isinstance(value.get("key"), str):
        raise Malformed("log: expected origin and key")
    vkey = Vkey.parse(value["key"])
    if value.get("origin") != vkey.name:
        raise Mismatch("log origin", expected=vkey.name, actual=value.get("origin"))
    return vkey


def _deployment(members: Mapping[str, object]) -> Deployment:
    name, root, platforms = members["name"], members["root"], members["platforms"]
    if not isinstance(name, str) or not isinstance(root, str | None) or not isinstance(platforms, list):
        raise Malformed("expected text in name, PEM or null in root, a list in platforms")
    anchor = AWS_NITRO_G1 if root is None else anchor_from_pem(name, root.encode())
    named = frozenset(Platform(one) for one in platforms)
    if anchor.simulated is not (named == {Platform.SIMULATED}):
        raise Mismatch("platforms", expected="simulated for a root that is not pinned, and only then", actual=platforms)
    measurements = measurements_from_json(members["measurements"])
    configuration = ConfigDigest(_hex48(members, "configuration"))
    if measurements.get(16) != pcr16(configuration):
        raise Mismatch("measurement 16", expected=pcr16(configuration), actual=measurements.get(16, b""))
    policy = service_policy(named, (measurements,))
    return Deployment(name, anchor, policy, configuration, ModelDigest(_hex48(members, "model")))


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
