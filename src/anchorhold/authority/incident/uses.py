"""Every use of a compromised key or model that the journals hold, in one form (docs/spec/lifecycle.md 5.3)."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from anchorhold.attestation.journal import JournalEntry
from anchorhold.attestation.purpose import RESEAL
from anchorhold.attestation.types import Milliseconds, ModelDigest

OWNER, KMS = "owner", "kms"
ROLLBACK = "accept-rollback"  # the entry that says that entries before it are missing
_OWNER_USES = {"release", "deny", "share", "reseal-share"}
MAX_UNVERIFIED = 400  # characters of a text that came from a caller


@dataclass(frozen=True, slots=True)
class Use:
    """One use, or one refusal of one. What an authority did not verify itself is in `told` alone.

    `boot` is the genesis digest, by which the transcript names a boot too.
    """

    authority: str
    seq: int
    t: Milliseconds
    operation: str
    principal: str
    allowed: bool
    code: str
    purpose_class: str
    boot: str
    measurement: str
    request_id: str
    lease_end: Milliseconds | None
    told: str = ""


@dataclass(frozen=True, slots=True)
class KmsEvent:
    """One CloudTrail-shaped event of a KMS journal, by its number there."""

    seq: int
    t: Milliseconds
    event: Mapping[str, object]
    gap: bool = False
    """No event: entries before this one may be missing."""

    @property
    def name(self) -> str:
        """The operation."""
        return str(self.event.get("eventName", ""))

    @property
    def allowed(self) -> bool:
        """Whether it was done."""
        return "errorCode" not in self.event

    @property
    def keys(self) -> tuple[str, ...]:
        """The ARNs it is about."""
        resources = self.event.get("resources")
        listed = resources if isinstance(resources, list) else []
        return tuple(str(one.get("ARN", "")) for one in listed if isinstance(one, dict))

    @property
    def purpose_class(self) -> str:
        """Of the encryption context; empty where there is none."""
        context = _map(_map(self.event.get("requestParameters")).get("encryptionContext"))
        return str(context.get("purpose", ""))


def kms_events(entries: Iterable[JournalEntry]) -> tuple[KmsEvent, ...]:
    """The events in a verified KMS journal, and its gaps."""
    found = []
    for entry in entries:
        if is_gap(entry):
            found.append(KmsEvent(entry.seq, entry.t, {}, gap=True))
        raw = entry.body.get("event")
        if entry.type == "call" and isinstance(raw, str):
            found.append(KmsEvent(entry.seq, entry.t, _map(json.loads(raw))))
    return tuple(found)


def is_gap(entry: JournalEntry) -> bool:
    """Whether entries before this one may be missing: an accepted rollback, or the first one after a restore."""
    return entry.type == ROLLBACK or (entry.type == "init" and entry.body.get("restored") is not None)


def concerns(entry: JournalEntry, model: ModelDigest) -> bool:
    """Whether an owner's entry is about this model, or adapter: one that names both is about the adapter's key."""
    return entry.body.get("adapter", entry.body.get("model")) == model


def owner_uses(entries: Iterable[JournalEntry], model: ModelDigest) -> tuple[Use, ...]:
    """Releases, refusals and shares of one model, or of one adapter."""
    return tuple(_owner_use(entry) for entry in entries if entry.type in _OWNER_USES and concerns(entry, model))


def kms_uses(events: Iterable[KmsEvent], key: str, boots: Mapping[str, str]) -> tuple[Use, ...]:
    """Every call about one key. `boots`: which boot a request id was of, as the transcript says."""
    return tuple(_kms_use(one, boots) for one in events if key in one.keys)


def is_reseal(use: Use) -> bool:
    """Whether it was for sealing the model anew, which a revocation does not stop where it is ordered."""
    return use.purpose_class == RESEAL


def moment(t: Milliseconds) -> str:
    """UTC, for people."""
    return datetime.fromtimestamp(t / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _owner_use(entry: JournalEntry) -> Use:
    body = entry.body
    image, boot, end = body.get("image"), body.get("genesis"), body.get("not_after_ms")
    measured = image.hex() if isinstance(image, bytes) else ""
    denied = entry.type == "deny"
    if entry.type == "share":
        principal = "operator"
    else:
        principal = f"enclave:{measured}" if measured else "enclave (unverified)" if denied else "enclave"
    return Use(
        authority=OWNER,
        seq=entry.seq,
        t=entry.t,
        operation=f"{entry.type} {body.get('ask', '')}".strip(),
        principal=principal,
        allowed=not denied,
        code=str(body.get("code", "")) if denied else "",
        purpose_class=str(body.get("purpose_class", "")),
        boot=boot.hex() if isinstance(boot, bytes) else "",
        measurement=measured,
        request_id=str(body.get("request", "")),
        lease_end=Milliseconds(end) if isinstance(end, int) else None,
        told=str(body.get("detail", ""))[:MAX_UNVERIFIED],
    )


def _kms_use(one: KmsEvent, boots: Mapping[str, str]) -> Use:
    event = one.event
    request_id = str(event.get("requestID", ""))
    recipient = _map(_map(event.get("additionalEventData")).get("recipient"))
    return Use(
        authority=KMS,
        seq=one.seq,
        t=one.t,
        operation=one.name,
        principal=str(_map(event.get("userIdentity")).get("arn", "")),
        allowed=one.allowed,
        code=str(event.get("errorCode", "")),
        purpose_class=one.purpose_class,
        boot=boots.get(request_id, ""),
        measurement=str(recipient.get("attestationDocumentEnclaveImageDigest", "")),
        request_id=request_id,
        lease_end=None,
        told=str(event.get("sourceIPAddress", ""))[:MAX_UNVERIFIED],
    )


def _map(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}
