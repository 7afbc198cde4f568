"""One journal entry in the words of those who read events: a CloudTrail-like record, and an OCSF one.

The KMS face's entries are CloudTrail records already; of the other faces each entry becomes one. OCSF's class is API
Activity (6003), version 1.3.0. Both name the entry by number and digest: the way back to what is signed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from anchorhold.attestation import canonical
from anchorhold.authority.export.follow import Exported

OCSF_VERSION = "1.3.0"
_CALL = "call"  # the KMS face's one type of entry
_XKS = "xks"  # the XKS face's entry of a request, allowed or not
_FAULT = "fault"  # a call that failed by a fault of the authority's own
_DENIED_TYPES = frozenset({"deny", "order-deny", "guard-deny", "xks-refused"})
_ALERT_TYPES = frozenset(  # somebody should look at each, whatever it says
    {"guard-kill", "guard-rearm", "guard-acknowledge", "guard-deny", "accept-rollback", "restore", "fault"}
)
_ABOUT = {"adapter": "Anchorhold::Adapter", "model": "Anchorhold::Model"}  # the adapter's key first, where it is one's
_READS = ("Decrypt", "Describe", "Get", "List", "Verify", "Lease")
_CREATES = ("Create", "Generate", "Import", "Register", "Share", "Tenant", "Issue")
_DELETES = ("Delete", "Schedule", "Revoke", "Retire", "Disable", "Kill", "Shred", "TenantShred", "TenantRetire")


@dataclass(frozen=True, slots=True)
class Event:
    """What both forms are made of."""

    authority: str
    face: str
    exported: Exported
    record: Mapping[str, object]
    """The CloudTrail-like record."""
    alerts: tuple[str, ...]

    @property
    def denied(self) -> bool:
        return "errorCode" in self.record

    @property
    def name(self) -> str:
        return str(self.record["eventName"])


def event_of(exported: Exported, *, authority: str, face: str) -> Event:
    """The event of one entry."""
    entry = exported.entry
    body = plain(entry.body)
    assert isinstance(body, dict)
    record = _call_record(body) if entry.type == _CALL and "event" in body else _own_record(exported, body, face)
    decisions = _decisions(record.get("anchorholdGuard")) or _decisions([body.get("guard")])
    alerts = tuple(dict.fromkeys(alert for decision in decisions for alert in _words(decision.get("alerts"))))
    if entry.type in _ALERT_TYPES and not alerts:
        alerts = (str(body.get("rule") or entry.type),)
    record["anchorholdJournal"] = {"authority": authority, "seq": entry.seq, "digest": exported.digest.hex()}
    return Event(authority, face, exported, record, alerts)


def cloudtrail(event: Event) -> dict[str, object]:
    """The CloudTrail-like record."""
    return dict(event.record)


def ocsf(event: Event) -> dict[str, object]:
    """OCSF 1.3.0, class API Activity."""
    entry, record = event.exported.entry, event.record
    activity = _activity(event.name)
    identity = record.get("userIdentity")
    arn = str(identity.get("arn", identity.get("type", "unknown"))) if isinstance(identity, dict) else "unknown"
    severity = (4, "High") if event.alerts else (3, "Medium") if event.denied else (1, "Informational")
    made: dict[str, object] = {
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": 6003,
        "class_name": "API Activity",
        "activity_id": activity,
        "type_uid": 600_300 + activity,
        "severity_id": severity[0],
        "severity": severity[1],
        "time": entry.t,
        "status_id": 2 if event.denied else 1,
        "status": "Failure" if event.denied else "Success",
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": "Anchorhold", "vendor_name": "Anchorhold", "feature": {"name": event.face}},
            "uid": event.exported.digest.hex(),
            "sequence": entry.seq,
            "log_name": event.authority,
        },
        "actor": {"user": {"name": arn, "uid": arn}},
        "api": {"operation": event.name, "service": {"name": str(record["eventSource"])}},
        "src_endpoint": {"name": str(record.get("sourceIPAddress", "unknown"))},
        "resources": _resources(record.get("resources")),
        "unmapped": {"requestParameters": record.get("requestParameters"), "alerts": list(event.alerts)},
    }
    if event.denied:
        made |= {"status_code": record["errorCode"], "status_detail": record.get("errorMessage", "")}
    return made


def plain(value: canonical.Value) -> object:
    """Bytes as hex, so that JSON can hold it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    return value


def _call_record(body: Mapping[str, object]) -> dict[str, object]:
    record = json.loads(str(body["event"]))
    assert isinstance(record, dict), "the KMS face wrote it"
    return record


def _own_record(exported: Exported, body: dict[str, object], face: str) -> dict[str, object]:
    entry = exported.entry
    denied = entry.type in _DENIED_TYPES or body.get("allowed") is False
    asked = body.get("operation") or body.get("ask") or body.get("act") if denied or entry.type == _XKS else None
    record: dict[str, object] = {
        "eventVersion": "1.08",
        "userIdentity": {"type": "Unknown", "arn": _who(body)},
        "eventTime": datetime.fromtimestamp(entry.t / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": f"{face}.anchorhold",
        "eventName": _camel(str(asked or entry.type).removeprefix(f"{face}:")),
        "requestParameters": body,
        "responseElements": None,
        "eventID": exported.digest.hex()[:32],
        "readOnly": False,
        "resources": [{"ARN": str(body[name]), "type": kind} for name, kind in _ABOUT.items() if body.get(name)],
        "eventType": "AnchorholdJournal",
    }
    if entry.type == _FAULT:
        cause, place = body.get("cause", body.get("error")), body.get("place", body.get("path"))
        record |= {"errorCode": str(cause), "errorMessage": str(place)}
    if denied:
        record |= _denial(body)
    return record


def _denial(body: Mapping[str, object]) -> dict[str, object]:
    """By which rule: the face's own, else the guard's, else the code that the caller heard."""
    said = next((one for one in _decisions([body.get("guard")]) if one.get("allowed") is False), {})
    code = body.get("rule") or said.get("rule") or body.get("code") or body.get("error")
    return {"errorCode": str(code), "errorMessage": str(body.get("detail") or said.get("detail") or "")}


def _who(body: Mapping[str, object]) -> str:
    behind = body.get("kms")  # an XKS request's: whom KMS says it is for
    named = (body.get("principal"), body.get("operator"), behind.get("principal") if isinstance(behind, dict) else None)
    return str(next((one for one in named if one), "unknown"))


def _decisions(named: object) -> list[dict[str, object]]:
    """The guard's decisions that an entry holds."""
    return [one for one in named if isinstance(one, dict)] if isinstance(named, list) else []


def _words(named: object) -> list[str]:
    return [str(one) for one in named] if isinstance(named, list) else []


def _camel(name: str) -> str:
    words = name.replace(":", "-").replace("_", "-").split("-")
    return "".join(word[:1].upper() + word[1:] for word in words)


def _activity(name: str) -> int:
    """OCSF's activity: 1 create, 2 read, 3 update, 4 delete."""
    for activity, heads in ((4, _DELETES), (1, _CREATES), (2, _READS)):
        if name.startswith(heads):
            return activity
    return 3


def _resources(named: object) -> list[dict[str, str]]:
    members = named if isinstance(named, list) else []
    return [
        {"uid": str(one.get("ARN", "unknown")), "type": str(one.get("type", "unknown"))}
        for one in members
        if isinstance(one, dict)
    ]
