"""The KMS face's journal: a CloudTrail-shaped event for each authenticated call, chained, written before the answer.

Field names are CloudTrail's for attested calls. An encryption context is logged in clear, as AWS does it: callers put
no secret there. Plaintext, ciphertext and documents are never logged.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms.faults import KmsFault
from anchorhold.authority.kms.state import JournalRow, Principal, Realm, Transaction

EVENT_VERSION = "1.08"
READ_ONLY = frozenset({"Decrypt", "Encrypt", "GenerateDataKey", "DescribeKey", "GetKeyPolicy"})
_GENESIS = bytes(48)


class JournalBroken(Exception):
    """A row that does not follow from the one before it."""


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


def write(
    transaction: Transaction, realm: Realm, principal: Principal, draft: Draft, fault: KmsFault | None, at: Milliseconds
) -> None:
    """Append the event of one call to the chain, in the call's own transaction."""
    last = transaction.last_journal_row()
    sequence = 0 if last is None else last.sequence + 1
    previous = _GENESIS if last is None else last.digest
    event = json.dumps(_event(realm, principal, draft, fault, at), sort_keys=True, separators=(",", ":"))
    transaction.add_journal_row(JournalRow(sequence, event, previous, _digest(sequence, previous, event)))


def check(rows: tuple[JournalRow, ...]) -> None:
    """Every row follows from the one before. Raises JournalBroken naming the first that does not."""
    previous = _GENESIS
    for at, row in enumerate(rows):
        if row.sequence != at or row.previous != previous or row.digest != _digest(at, previous, row.event):
            raise JournalBroken(f"journal row {at}: expected to follow {previous.hex()}, got {row.previous.hex()}")
        previous = row.digest


def _digest(sequence: int, previous: bytes, event: str) -> bytes:
    return bytes(labelled(labels.KMS_JOURNAL, sequence.to_bytes(8, "big"), previous, event.encode()))


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
    if fault is not None:
        event |= {"errorCode": fault.name.removesuffix("Exception"), "errorMessage": fault.message}
    return event
