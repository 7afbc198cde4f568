"""What the KMS face journals: a CloudTrail-shaped event for each authenticated call, written before the answer.

Field names are CloudTrail's for attested calls; the entry around it is the authority's (`authority/journal.py`). An
encryption context is logged in clear, as AWS does it: callers put no secret there. Plaintext, ciphertext and documents
are never logged.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from anchorhold.attestation import canonical
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms.faults import KmsFault
from anchorhold.authority.kms.state import Principal, Realm

EVENT_VERSION = "1.08"
READ_ONLY = frozenset({"Decrypt", "Encrypt", "GenerateDataKey", "DescribeKey", "GetKeyPolicy"})
MAX_MESSAGE = 1_024  # characters of an error's text, which may repeat the caller's words
ENTRY = "call"


@dataclass(slots=True)
class Draft:
    """What one call has shown of itself so far. Filled while the call runs, written when it is decided."""

    name: str
    request_id: str
    source_address: str
    user_agent: str
    parameters: dict[str, object] = field(default_factory=dict)
    key_arn: str | None = None
    recipient: Mapping[str, str] | None = None
    unmet: tuple[Mapping[str, object], ...] = ()
    """Conditions on measurements that kept an Allow from applying: expected and actual. Not in CloudTrail."""


def entry(
    realm: Realm, principal: Principal, draft: Draft, fault: KmsFault | None, at: Milliseconds
) -> Mapping[str, canonical.Value]:
    """The body of one call's journal entry: the event as JSON, as a CloudTrail reader takes it."""
    return {"event": json.dumps(_event(realm, principal, draft, fault, at), sort_keys=True, separators=(",", ":"))}


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
        "eventTime": datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": "kms.amazonaws.com",
        "eventName": draft.name,
        "awsRegion": realm.region,
        "sourceIPAddress": draft.source_address,
        "userAgent": draft.user_agent,
        "requestParameters": draft.parameters,
        "responseElements": None,
        "requestID": draft.request_id,
        "readOnly": draft.name in READ_ONLY,
        "resources": [],
        "eventType": "AwsApiCall",
        "recipientAccountId": realm.account,
    }
    if draft.key_arn is not None:
        event["resources"] = [{"ARN": draft.key_arn, "accountId": realm.account, "type": "AWS::KMS::Key"}]
    if draft.recipient is not None:
        event["additionalEventData"] = {"recipient": dict(draft.recipient)}
    if draft.unmet:
        # A name of our own beside the event's: AWS tells nobody which condition failed.
        event["anchorholdUnmetConditions"] = [dict(condition) for condition in draft.unmet]
    if fault is not None:
        event |= {"errorCode": fault.name.removesuffix("Exception"), "errorMessage": fault.message[:MAX_MESSAGE]}
    return event
