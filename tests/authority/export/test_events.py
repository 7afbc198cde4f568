"""What readers of events see: names and numbers that lead back to the signed entry, and denials that look denied."""

import json

from anchorhold.authority.export.events import Event, cloudtrail, event_of, ocsf
from anchorhold.authority.export.follow import Cursor, entries_after
from anchorhold.authority.export.sinks import rfc5424

from .conftest import Journal

CALL = {
    "eventVersion": "1.08",
    "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::000000000001:user/enclave"},
    "eventTime": "2026-11-22T00:00:00Z",
    "eventSource": "kms.amazonaws.com",
    "eventName": "Decrypt",
    "sourceIPAddress": "127.0.0.1",
    "requestParameters": {"encryptionContext": {"model": "tiny"}},
    "resources": [{"ARN": "arn:aws:kms:eu-central-1:000000000001:key/1", "type": "AWS::KMS::Key"}],
    "errorCode": "AccessDenied",
    "errorMessage": "no",
}


def events(journal: Journal) -> list[Event]:
    found = entries_after(journal, journal.key.public_key(), Cursor())
    return [event_of(one, authority="owner", face="owner") for one in found]


def test_a_kms_call_is_its_own_cloudtrail_record_and_names_its_entry(journal: Journal) -> None:
    journal.entries.clear()
    journal.add("call", event=json.dumps(CALL))
    (event,) = events(journal)
    assert cloudtrail(event) == CALL | {
        "anchorholdJournal": {"authority": "owner", "seq": 0, "digest": event.exported.digest.hex()}
    }
    assert (ocsf(event)["activity_id"], ocsf(event)["status_id"], ocsf(event)["status_code"]) == (2, 2, "AccessDenied")


def test_an_owner_s_denial_reads_as_denied_with_its_rule(journal: Journal) -> None:
    register, deny, _ = events(journal)
    assert cloudtrail(deny)["errorCode"] == "revoked"
    assert cloudtrail(deny)["eventName"] == "Lease"
    assert "errorCode" not in cloudtrail(register)
    assert (ocsf(register)["status"], ocsf(register)["activity_id"]) == ("Success", 1)
    assert (ocsf(deny)["status"], ocsf(deny)["severity"]) == ("Failure", "Medium")


def test_a_shredding_reads_as_a_deletion_and_a_tenant_s_key_as_made(journal: Journal) -> None:
    journal.entries.clear()
    made, ended = ("tenant-key", "tenant", "tenant-rotate"), ("tenant-shred", "tenant-shredded", "tenant-retire")
    for kind in (*made, *ended, "tenant-retired"):
        journal.add(kind, tenant="acme")
    assert [ocsf(event)["activity_id"] for event in events(journal)] == [1, 1, 1, 4, 4, 4, 4]


def test_every_ocsf_record_has_what_its_class_requires(journal: Journal) -> None:
    for event in events(journal):
        record = ocsf(event)
        assert {"activity_id", "category_uid", "class_uid", "severity_id", "time", "type_uid", "metadata"} <= set(
            record
        )
        assert {"actor", "api", "src_endpoint"} <= set(record)
        activity = record["activity_id"]
        assert isinstance(activity, int)
        assert (record["class_uid"], record["type_uid"]) == (6003, 600_300 + activity)
        metadata = record["metadata"]
        assert isinstance(metadata, dict)
        assert (metadata["uid"], metadata["sequence"]) == (event.exported.digest.hex(), event.exported.entry.seq)


def test_a_kill_is_an_alert_by_itself(journal: Journal) -> None:
    assert [event.alerts for event in events(journal)] == [(), (), ("guard-kill",)]


def test_a_syslog_message_is_rfc_5424_s_and_one_line(journal: Journal) -> None:
    deny = events(journal)[1]
    message = rfc5424(deny, {"text": "two\nlines \u00e4"}, "a host").decode("ascii")
    head, _, text = message.partition(" - seq=1 ")
    assert head.split(" ") == ["<108>1", "2026-09-21T14:13:20.001Z", "ahost", "anchorhold", "-", "Lease"]
    assert json.loads(text) == {"text": "two\nlines \u00e4"}
    assert "\n" not in message
