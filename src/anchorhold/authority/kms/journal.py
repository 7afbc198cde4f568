"""What the KMS face journals: a CloudTrail-shaped event for each authenticated call, written before the answer.

Field names are CloudTrail's for attested calls; the entry around it is the authority's (`authority/journal.py`). An
encryption context is logged in clear, as AWS does it: callers put no secret there. Plaintext, ciphertext and documents
are never logged.
"""

import json
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from anchorhold.attestation import canonical
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms.faults import KmsFault
from anchorhold.authority.kms.state import Principal, Realm

EVENT_VERSION = "1.08"
_READ_ONLY = re.compile(
    r"(Describe|Get|List|Generate)[A-Za-z]+|(De|En|ReEn)crypt|DeriveSharedSecret|Sign|Verify|VerifyMac"
)
"""Names of operations that change nothing that is kept, as CloudTrail marks them: uses of a key are among them."""
MAX_MESSAGE = 1_024  # characters of an error's text, which may repeat the caller's words
MAX_PLACE = 128  # characters of a place in this package's own code
ENTRY, FAULT = "call", "fault"
_PACKAGE = "anchorhold/"


@dataclass(slots=True)
class Draft:
    """What one call has shown of itself so far. Filled while the call runs, written when it is decided."""

    name: str
    request_id: str
    source_address: str
    user_agent: str
    parameters: dict[str, object] = field(default_factory=dict)
    response: Mapping[str, object] | None = None
    keys: list[str] = field(default_factory=list)
    """ARNs of the keys concerned, in the order they were named."""
    named: dict[str, str] = field(default_factory=dict)
    """Key ids that the caller named by an alias, and which."""
    recipient: Mapping[str, str] | None = None
    guard: list[Mapping[str, canonical.Value]] = field(default_factory=list)
    """What the guard decided, one record a question. Not in CloudTrail."""
    registers: Mapping[str, str] = field(default_factory=dict)
    """Every register of the recipient's verified document, by the guard's names, for an external key store."""
    proxy: str | None = None
    """What an external key store proxy answered instead of doing it. Not in CloudTrail."""
    unmet: tuple[Mapping[str, object], ...] = ()
    """Conditions on measurements that kept an Allow from applying: expected and actual. Not in CloudTrail."""

    def touch(self, arn: str) -> None:
        """This key is concerned."""
        if arn not in self.keys:
            self.keys.append(arn)


def fault_entry(draft: Draft, error: BaseException) -> Mapping[str, canonical.Value]:
    """The cause of an internal fault: its type and where it arose. Its text stays out: it may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _PACKAGE in frame.filename] or list(frames)
    at = ours[-1] if ours else None
    place = "unknown" if at is None else f"{at.filename.rpartition(_PACKAGE)[2]}:{at.lineno} {at.name}"
    return {
        "cause": type(error).__qualname__[:MAX_PLACE],
        "place": place[-MAX_PLACE:],
        "operation": draft.name,
        "request": draft.request_id,
    }


def service_entry(realm: Realm, name: str, key_id: str, at: Milliseconds) -> Mapping[str, canonical.Value]:
    """CloudTrail's event for what happens to a key when its time has come: no caller stands behind it."""
    event = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": {"accountId": realm.account, "invokedBy": "AWS Internal"},
        "eventTime": _time(at),
        "eventSource": "kms.amazonaws.com",
        "eventName": name,
        "awsRegion": realm.region,
        "requestParameters": None,
        "responseElements": None,
        "readOnly": False,
        "resources": _resources(realm, [realm.key_arn(key_id)]),
        "eventType": "AwsServiceEvent",
        "recipientAccountId": realm.account,
    }
    return {"event": _json(event)}


def entry(
    realm: Realm, principal: Principal, draft: Draft, fault: KmsFault | None, at: Milliseconds
) -> Mapping[str, canonical.Value]:
    """The body of one call's journal entry: the event as JSON, as a CloudTrail reader takes it."""
    return {"event": _json(_event(realm, principal, draft, fault, at))}


def _event(
    realm: Realm, principal: Principal, draft: Draft, fault: KmsFault | None, at: Milliseconds
) -> dict[str, object]:
    event: dict[str, object] = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": {
            "type": "IAMUser",
            "principalId": principal.name,
            "arn": principal.arn,
            "accountId": realm.account,
            "accessKeyId": principal.access_key_id,
        },
        "eventTime": _time(at),
        "eventSource": "kms.amazonaws.com",
        "eventName": draft.name,
        "awsRegion": realm.region,
        "sourceIPAddress": draft.source_address,
        "userAgent": draft.user_agent,
        "requestParameters": draft.parameters,
        "responseElements": None if draft.response is None or fault is not None else dict(draft.response),
        "requestID": draft.request_id,
        "readOnly": _READ_ONLY.fullmatch(draft.name) is not None,
        "resources": _resources(realm, draft.keys),
        "eventType": "AwsApiCall",
        "recipientAccountId": realm.account,
    }
    if draft.recipient is not None:
        event["additionalEventData"] = {"recipient": dict(draft.recipient)}
    if draft.guard:
        event["anchorholdGuard"] = [_shown(record) for record in draft.guard]
    if draft.unmet:
        # A name of our own beside the event's: AWS tells nobody which condition failed.
        event["anchorholdUnmetConditions"] = [dict(condition) for condition in draft.unmet]
    if draft.proxy is not None:
        # A name of our own: AWS shows nobody what a proxy answered.
        event["anchorholdExternalKeyStore"] = draft.proxy
    if fault is not None:
        event |= {"errorCode": fault.name.removesuffix("Exception"), "errorMessage": fault.message[:MAX_MESSAGE]}
    return event


def _resources(realm: Realm, keys: Sequence[str]) -> list[dict[str, str]]:
    return [{"ARN": arn, "accountId": realm.account, "type": "AWS::KMS::Key"} for arn in keys]


def _time(at: Milliseconds) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(event: Mapping[str, object]) -> str:
    return json.dumps(event, sort_keys=True, separators=(",", ":"))


def _shown(record: Mapping[str, canonical.Value]) -> dict[str, object]:
    """Digests as hex: the event is JSON."""
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in record.items()}
