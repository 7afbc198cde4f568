"""Accepted measurement sets for a key policy, out of what people have: JSON of several makes, images, a configuration.

The verifier's own policy, `{"Measurements": {"PCR0": ...}}` as nitro-cli and nitro-tpm-pcr-compute print it, or plain
registers `{"0": ...}`, one object or a list.
"""

import json
from collections.abc import Mapping, Sequence

from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.policy import Policy, measurements_from_json, policy_from_json
from anchorhold.attestation.types import ConfigDigest, Platform
from anchorhold.publish.errors import PublishError

MAX_JSON = 262_144  # bytes, the limit of a verifier's policy
_CONFIGURATION = 16
_PRINTED = "PCR"


class MeasurementsRefused(PublishError):
    """JSON or registers that make no accepted set."""

    code = "kms-measurements"


def sets_from_json(raw: bytes, what: str, platform: Platform) -> tuple[Mapping[int, bytes], ...]:
    """The sets in `raw`; a verifier's policy must be for `platform`. Raises MeasurementsRefused, EvidenceError."""
    if len(raw) > MAX_JSON:
        raise MeasurementsRefused(f"{what}: expected at most {MAX_JSON} bytes, got {len(raw)}")
    try:
        value = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise MeasurementsRefused(f"{what}: not JSON: {error}") from error
    if isinstance(value, dict) and "version" in value:
        policy = policy_from_json(raw)
        if platform not in policy.platforms:
            platforms = ", ".join(sorted(one.value for one in policy.platforms))
            raise MeasurementsRefused(f"{what}: expected measurements of {platform.value}, got those of {platforms}")
        return policy.measurements
    members = value if isinstance(value, list) else [value]
    return tuple(measurements_from_json(_plain(one), what) for one in members)


def accepted_policy(
    platform: Platform, sets: Sequence[Mapping[int, bytes]], configuration: ConfigDigest | None
) -> Policy:
    """The sets under one configuration: register 16 follows from it. Raises MeasurementsRefused, PolicyInvalid."""
    if configuration is None:
        return Policy(frozenset({platform}), tuple(sets))
    if platform is Platform.NITRO_TPM:
        raise MeasurementsRefused("nitro-tpm: register 16 is for debugging there: register 12 binds the configuration")
    expected = pcr16(configuration)
    for one in sets:
        if one.get(_CONFIGURATION, expected) != expected:
            raise MeasurementsRefused(
                f"register 16 differs: expected {expected.hex()}, got {one[_CONFIGURATION].hex()}"
            )
    return Policy(frozenset({platform}), tuple({**one, _CONFIGURATION: expected} for one in sets))


def _plain(value: object) -> object:
    """`{"PCR0": hex, "HashAlgorithm": ...}`, also under `Measurements`, as `{"0": hex}`."""
    if not isinstance(value, dict):
        return value
    inner = value.get("Measurements", value)
    if not isinstance(inner, dict) or not any(str(name).startswith(_PRINTED) for name in inner):
        return inner
    return {name.removeprefix(_PRINTED): text for name, text in inner.items() if name != "HashAlgorithm"}


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object names a member twice")
    return members
