"""`authority incident` where a KMS is named and no owner authority: what it needs, refuses, proves and only asserts."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_authority import Stack, stack
from tests.cli.test_incident_journals import ID, Capture, exported, incident

from anchorhold.authority.kms import setup as kms_setup
from anchorhold.authority.kms.client import KmsClient
from anchorhold.cli.main import main
from anchorhold.sim.owner_face import MODEL, OTHER_MODEL
from anchorhold.wire.sigv4 import Credentials

__all__ = ["stack"]  # the fixture is used by its name
LEASE_S = "2"  # the shortest
MANAGE = [f"kms:{name}*" for name in ("Describe", "List", "Put", "Enable", "Disable", "Tag")]


def without(stack: Stack, *groups: str) -> Stack:
    record = json.loads((stack.folder / "stack.json").read_text())
    (stack.folder / "stack.json").write_text(json.dumps({k: v for k, v in record.items() if k not in groups}))
    return stack


@pytest.fixture
def alone(stack: Stack) -> Stack:
    """A stack that has no owner authority, whose key was used once to serve and once to seal."""
    use(stack, "serve")
    (stack.folder / "kms/admin.json").write_text((stack.folder / "admin.json").read_text())
    record = json.loads((stack.folder / "stack.json").read_text())
    record["kms"]["credentials"] = str(stack.folder / "kms/admin.json")  # beside the KMS's state, as a stack has it
    (stack.folder / "stack.json").write_text(json.dumps(record))
    return without(stack, "owner")


def client(stack: Stack, name: str) -> KmsClient:
    said = json.loads((stack.folder / "kms" / kms_setup.CREDENTIALS).read_text())[name]
    return replace(stack.kms, credentials=Credentials(said["access_key_id"], said["secret_access_key"]))


def use(stack: Stack, purpose: str) -> None:
    """As an enclave does, but that this key's policy asks for no attestation."""
    arns = {
        name: said["arn"]
        for name, said in json.loads((stack.folder / "kms" / kms_setup.CREDENTIALS).read_text()).items()
    }
    statements = [
        {"Sid": name, "Effect": "Allow", "Principal": {"AWS": arns[name]}, "Action": actions, "Resource": "*"}
        for name, actions in (("admin", MANAGE), ("publisher", ["kms:Encrypt"]), ("enclave", ["kms:Decrypt"]))
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    at, context = stack.owner.clock.utc(), {"purpose": purpose}
    stack.kms.call("PutKeyPolicy", {"KeyId": stack.key_arn, "PolicyName": "default", "Policy": policy}, at=at)
    text = base64.b64encode(b"share").decode()
    asked: dict[str, object] = {"KeyId": stack.key_arn, "Plaintext": text, "EncryptionContext": context}
    blob = client(stack, "publisher").call("Encrypt", asked, at=at)["CiphertextBlob"]
    client(stack, "enclave").call("Decrypt", {"CiphertextBlob": blob, "EncryptionContext": context}, at=at)


def by_hand(stack: Stack, step: str, *more: str) -> int:
    """Without a stack: every address named."""
    said = json.loads((stack.folder / "stack.json").read_text())["kms"]
    named = ("--kms-url", said["url"], "--kms-ca", said["ca"], "--credentials", said["credentials"])
    about = ("--id", ID, "--model", MODEL.hex(), "--key-arn", stack.key_arn) if step == "open" else (ID,)
    return main(["authority", "incident", step, *about, *named, "--json", *more])


def tag(stack: Stack) -> list[dict[str, str]]:
    answer: Any = stack.kms.call("ListResourceTags", {"KeyId": stack.key_arn}, at=stack.owner.clock.utc())
    return list(answer["Tags"])


def steps(folder: Path) -> list[str]:
    return [json.loads(line)["step"] for line in (folder / f"{ID}.jsonl").read_text().splitlines()]


def test_the_steps_are_in_the_stack_s_folder_and_the_key_has_the_tag(alone: Stack, capsys: Capture) -> None:
    assert incident(alone, "open", "--id", ID, "--reason", "laptop stolen") == 0
    said = json.loads(capsys.readouterr().out)
    file = alone.folder / "incidents" / f"{ID}.jsonl"
    assert said == {"incident": ID, "model": MODEL.hex(), "file": str(file), "line": 1, "kms": "done"}
    line = json.loads(file.read_text())
    assert (line["step"], line["key"], line["reason"]) == ("open", alone.key_arn, "laptop stolen")
    assert tag(alone) == [{"TagKey": "anchorhold-incident", "TagValue": ID}]


def test_the_key_is_disabled_silence_proved_and_the_report_says_what_is_asserted(alone: Stack, capsys: Capture) -> None:
    incident(alone, "open", "--id", ID)
    capsys.readouterr()
    assert incident(alone, "contain", "--no-wait") == 1
    early = json.loads(capsys.readouterr().out)
    assert [(one["authority"], one["proved"]) for one in early["authorities"]] == [("kms", False)]
    assert alone.disabled()
    assert incident(alone, "contain", "--kms-lease", LEASE_S) == 0
    assert json.loads(capsys.readouterr().out)["silent"] is True
    out = alone.folder / "report"
    assert incident(alone, "report", "--kms-lease", LEASE_S, "--out", str(out)) == 0
    assert steps(alone.folder / "incidents") == ["open", "contain", "contain", "silent", "report"]
    report = json.loads((out / "report.json").read_text())
    assert [one["seq"] for one in report["steps"]] == [1, 2, 3, 4], "the step `report` itself came after"
    assert {one["operation"] for one in report["uses"]} >= {"Encrypt", "Decrypt", "TagResource", "DisableKey"}
    assert (report["asserted"], report["silent"]) == (f"{ID}.jsonl", True)
    assert "the steps: asserted by the operator" in report["not_checked"]
    assert "Asserted by the operator" in (out / "report.md").read_text()


def test_a_torn_step_is_in_the_report_as_not_checked(alone: Stack) -> None:
    incident(alone, "open", "--id", ID)
    with (alone.folder / "incidents" / f"{ID}.jsonl").open("a") as file:
        file.write('{"incident":')
    out = alone.folder / "report"
    assert incident(alone, "report", "--out", str(out)) == 1
    assert "the last line of the incident file, which has no end" in (out / "report.md").read_text()


def test_a_use_after_the_revocation_contradicts_silence(alone: Stack, capsys: Capture) -> None:
    incident(alone, "open", "--id", ID)
    assert incident(alone, "contain", "--kms-lease", LEASE_S) == 0
    alone.kms.call("EnableKey", {"KeyId": alone.key_arn}, at=alone.owner.clock.utc())
    use(alone, "serve")
    capsys.readouterr()
    assert incident(alone, "report", "--kms-lease", LEASE_S, "--out", str(alone.folder / "report")) == 1
    # What the file says of silence proves nothing: the journal is judged again.
    assert incident(alone, "reencrypt", "--out", str(alone.folder / "resealed")) == 1
    assert "silence was not proved yet" in capsys.readouterr().err


def test_without_a_kms_s_journal_the_key_is_disabled_and_nothing_is_called_proved(
    alone: Stack, tmp_path: Path, capsys: Capture
) -> None:
    state = ("--incident-state", str(tmp_path / "kept"))
    assert by_hand(alone, "open", *state) == 0
    capsys.readouterr()
    assert by_hand(alone, "contain", *state) == 3
    said = capsys.readouterr()
    assert json.loads(said.out) == {"silent": False, "authorities": []}
    assert "silence cannot be judged" in said.err
    assert "--kms-journal FILE" in said.err
    assert "CloudTrail" in said.err
    assert alone.disabled()
    out = tmp_path / "report"
    assert by_hand(alone, "report", *state, "--out", str(out)) == 3
    assert "the KMS's journal: none was given" in json.loads((out / "report.json").read_text())["not_checked"]
    assert steps(tmp_path / "kept") == ["open", "contain", "report"]
    assert by_hand(alone, "reencrypt", *state, "--out", str(tmp_path / "resealed")) == 1


def test_an_export_is_judged_as_far_as_it_goes_and_what_it_lacks_is_said(
    alone: Stack, tmp_path: Path, capsys: Capture
) -> None:
    state = ("--incident-state", str(tmp_path / "kept"), "--kms-lease", LEASE_S)
    by_hand(alone, "open", *state[:2])
    before, key = exported(alone, "before.jsonl", capsys)
    assert by_hand(alone, "contain", *state, "--kms-journal", str(before), "--kms-journal-key", key) == 1
    said = capsys.readouterr()
    assert "no revocation stands" in said.out
    assert "it needs the DisableKey" in said.err
    alone.owner.clock.passed += 3
    tag(alone)  # any entry after the last lease's end
    after, key = exported(alone, "after.jsonl", capsys)
    given = ("--kms-journal", str(after), "--kms-journal-key", key)
    assert by_hand(alone, "contain", *state, "--no-wait", *given) == 0
    assert json.loads(capsys.readouterr().out)["silent"] is True
    assert by_hand(alone, "reencrypt", *state[:2], "--out", str(tmp_path / "resealed")) == 0
    listed = "\n".join(json.loads(capsys.readouterr().out)["steps"])
    assert "CreateKey at the KMS" in listed
    assert "anchorhold authority" not in listed, "there is no owner authority to order it"


def test_a_key_that_the_incident_is_not_about_is_left_alone(alone: Stack, capsys: Capture) -> None:
    incident(alone, "open", "--id", ID)
    other = alone.key_arn[:-1] + ("1" if alone.key_arn.endswith("0") else "0")
    assert incident(alone, "contain", "--key-arn", other) == 1
    assert "nothing was done" in capsys.readouterr().err
    assert not alone.disabled()
    assert incident(alone, "open", "--id", "INC-2", "--key", other, "--key-arn", alone.key_arn) == 1
    assert "nothing was done" in capsys.readouterr().err
    # The stack's key may be another one by now: the incident's is disabled.
    record = json.loads((alone.folder / "stack.json").read_text())
    record["kms"]["key_arn"] = other
    (alone.folder / "stack.json").write_text(json.dumps(record))
    assert incident(alone, "contain", "--kms-lease", LEASE_S) == 0
    assert alone.disabled()


def test_what_a_kms_only_incident_needs_is_said_before_anything_is_made(alone: Stack, capsys: Capture) -> None:
    assert by_hand(alone, "open") == 2
    assert "--incident-state DIR" in capsys.readouterr().err
    assert incident(alone, "open", "--id", ID, "--key", "wrapping-1") == 2
    assert "expected the ARN of the KMS's key, got 'wrapping-1'" in capsys.readouterr().err
    # The stack's key is that of its own model.
    assert incident(alone, "open", "--id", ID, "--model", OTHER_MODEL.hex()) == 2
    assert "--key-arn ARN" in capsys.readouterr().err
    assert incident(alone, "open", "--id", "../x") == 2
    assert incident(alone, "contain") == 2
    assert "was not opened here" in capsys.readouterr().err
    assert not (alone.folder / "incidents").exists()


def test_a_damaged_file_is_refused_with_the_way_to_stop_it(alone: Stack, capsys: Capture) -> None:
    incident(alone, "open", "--id", ID)
    (alone.folder / "incidents" / f"{ID}.jsonl").write_text("no step\n")
    assert incident(alone, "contain") == 2
    assert "authority revoke --at kms" in capsys.readouterr().err
    assert not alone.disabled()


def test_where_an_owner_authority_is_named_its_journal_has_the_steps_and_no_file_is_made(
    stack: Stack, tmp_path: Path, capsys: Capture
) -> None:
    assert incident(stack, "open", "--id", ID, "--incident-state", str(tmp_path / "kept")) == 2
    assert "an owner's journal has the steps" in capsys.readouterr().err
    assert incident(stack, "open", "--id", ID) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"incident", "model", "owner_entry", "kms"}
    assert not (tmp_path / "kept").exists()
    assert not (stack.folder / "incidents").exists()
    # An owner authority that is named by half is no KMS-only deployment.
    without(stack, "owner")
    assert incident(stack, "open", "--id", ID, "--token-file", "nowhere") == 2
    assert "the owner authority is not named" in capsys.readouterr().err
