"""Every use passes the guard; the journal names the rule that denied, and KMS hears its own error's name alone."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.authority.guard.cases import zone_by_day
from tests.authority.xks.conformance.proxy import Proxy, encrypt_body, request_metadata
from tests.authority.xks.conftest import KEYS, PATIENCE_S, Stage, make_stage, now_ms, policy, served_plain

from anchorhold.authority.guard.switch import KILL_FILE
from anchorhold.authority.xks.app import make_app
from anchorhold.authority.xks.denials import MOST


@contextmanager
def _face(folder: Path, guard_policy: str) -> Iterator[tuple[Stage, Proxy]]:
    stage = make_stage(folder / "state", guard_policy)
    with served_plain(stage) as proxy:
        yield stage, proxy
    stage.desk.close()


def _allow(**more: object) -> dict[str, object]:
    return {"name": "one", "faces": ["xks"], "principals": ["*"], "operations": ["*"], "keys": ["*"]} | more


@pytest.mark.parametrize(
    "tuple_",
    [
        _allow(principals=["arn:aws:iam::123456789012:role/Other"]),
        _allow(operations=["xks:Decrypt"]),
        _allow(keys=["another"]),
        _allow(faces=["kms"]),
        _allow(via_service=["ebs"]),
        _allow(vpc=["vpc-1"]),
        _allow(vpce=["vpce-1"]),
    ],
    ids=["principal", "operation", "key", "face", "service", "vpc", "vpce"],
)
def test_what_no_tuple_names_is_denied(tmp_path: Path, tuple_: dict[str, object]) -> None:
    with _face(tmp_path, policy(tuple_)) as (stage, proxy):
        proxy.encrypt(KEYS.full).fails("AccessDeniedException")
        entry = stage.last()
        assert (entry["allowed"], entry["rule"], entry["error"]) == (False, "guard-allow", "AccessDeniedException")


def test_a_new_face_allows_nothing(tmp_path: Path) -> None:
    with _face(tmp_path, '{"version":1,"allow":[]}') as (stage, proxy):
        proxy.encrypt(KEYS.full).fails("AccessDeniedException")
        proxy.metadata(KEYS.full).fails("AccessDeniedException")
        proxy.health().succeeds()
        assert stage.last()["operation"] == "GetHealthStatus"


def test_registers_that_kms_tells_are_judged_and_called_told(tmp_path: Path) -> None:
    image = "ab" * 48
    with _face(tmp_path, policy(_allow(told=[{"PCR0": image}]))) as (stage, proxy):
        proxy.encrypt(KEYS.full).fails("AccessDeniedException")
        assert stage.last()["rule"] == "guard-told"
        for name in ("kmsRecipientAttestationImageSha384", "kmsRecipientAttestationPCR0"):
            meta = request_metadata("Encrypt", **{name: image.upper()})
            proxy.call(KEYS.full, "encrypt", encrypt_body() | {"requestMetadata": meta}).succeeds()
            entry = stage.last()
            assert (entry["guard"]["registers"], entry["kms"]["told"]) == ("told", {"PCR0": image})
        meta = request_metadata("Encrypt", kmsRecipientAttestationPCR0="cd" * 48)
        proxy.call(KEYS.full, "encrypt", encrypt_body() | {"requestMetadata": meta}).fails("AccessDeniedException")


def test_what_kms_tells_is_never_taken_for_measured(tmp_path: Path) -> None:
    image = "ab" * 48
    with _face(tmp_path, policy(_allow(measured=[{"PCR0": image}]))) as (stage, proxy):
        meta = request_metadata("Encrypt", kmsRecipientAttestationImageSha384=image)
        proxy.call(KEYS.full, "encrypt", encrypt_body() | {"requestMetadata": meta}).fails("AccessDeniedException")
        assert stage.last()["rule"] == "guard-measured"


@pytest.mark.parametrize(
    "fields",
    [
        {"kmsRecipientAttestationPCR0": "ab", "kmsRecipientAttestationImageSha384": "cd"},
        {"kmsRecipientAttestationPCR32": "ab"},
        {"kmsRecipientAttestationPCR1": "no hex"},
        {"kmsRecipientAttestationPCR1": 7},
    ],
)
def test_registers_that_are_not_in_the_form_are_not_dropped(plain: Proxy, fields: dict[str, object]) -> None:
    meta = request_metadata("Encrypt", **fields)
    plain.call(KEYS.full, "encrypt", encrypt_body() | {"requestMetadata": meta}).fails("ValidationException")


def test_partition_and_region_are_those_of_the_key_of_kms(tmp_path: Path) -> None:
    with _face(tmp_path, policy(partitions=["aws"], regions=["eu-central-1"])) as (stage, proxy):
        proxy.encrypt(KEYS.full).succeeds()
        for arn, rule in (
            ("arn:aws:kms:us-east-1:123456789012:key/1", "guard-region"),
            ("arn:aws-cn:kms:eu-central-1:123456789012:key/1", "guard-partition"),
            ("no arn at all", "guard-partition"),
        ):
            meta = request_metadata("Encrypt", kmsKeyArn=arn)
            answer = proxy.call(KEYS.full, "encrypt", encrypt_body() | {"requestMetadata": meta})
            answer.fails("AccessDeniedException")
            assert stage.last()["rule"] == rule


def test_the_kill_switch_is_seen_by_the_next_request_and_says_invalid_state(tmp_path: Path) -> None:
    with _face(tmp_path, policy()) as (stage, proxy):
        made = proxy.encrypt(KEYS.full).succeeds()
        (stage.folder / KILL_FILE).write_text("incident 7\n")
        proxy.encrypt(KEYS.full).fails("InvalidStateException")
        proxy.decrypt(KEYS.full, made).fails("InvalidStateException")
        proxy.metadata(KEYS.full).fails("InvalidStateException")
        assert stage.last()["rule"] == "guard-kill"
    with served_plain(stage) as proxy:  # and after a restart
        proxy.decrypt(KEYS.full, made).fails("InvalidStateException")


@pytest.mark.parametrize(
    ("limit", "rule"),
    [
        ({"buckets": [{"name": "b", "per": "key", "operations": ["xks:Decrypt"], "uses": 2, "seconds": 3600}]}, "rate"),
        ({"budgets": [{"name": "b", "per": "principal", "operations": ["xks:Decrypt"], "uses": 2}]}, "budget"),
    ],
    ids=["bucket", "budget"],
)
def test_too_many_uses_are_throttled(tmp_path: Path, limit: dict[str, object], rule: str) -> None:
    with _face(tmp_path, policy(zone=zone_by_day(), **limit)) as (stage, proxy):
        made = proxy.encrypt(KEYS.full).succeeds()
        for _ in range(2):
            proxy.decrypt(KEYS.full, made).succeeds()
        proxy.decrypt(KEYS.full, made).fails("ThrottlingException")
        assert stage.last()["rule"] == f"guard-{rule}"
        proxy.encrypt(KEYS.full).succeeds()


def test_a_key_serves_the_key_of_kms_and_the_operations_it_is_bound_to(tmp_path: Path) -> None:
    with _face(tmp_path, policy()) as (stage, proxy):
        stage.desk.change_key(KEYS.full, now_ms(), kms_key="arn:aws:kms:eu-central-1:123456789012:key/other")
        proxy.encrypt(KEYS.full).fails("AccessDeniedException")
        assert stage.last()["rule"] == "kms-key"
        stage.desk.change_key(KEYS.full, now_ms(), kms_key=None, kms_operations=frozenset({"Decrypt"}))
        proxy.encrypt(KEYS.full).fails("AccessDeniedException")
        assert stage.last()["rule"] == "kms-operation"


def test_reencrypt_is_refused_until_a_key_is_made_for_it(stage: Stage, plain: Proxy) -> None:
    meta = request_metadata("ReEncrypt")
    plain.call(KEYS.full, "encrypt", encrypt_body() | {"requestMetadata": meta}).fails("AccessDeniedException")
    assert stage.last()["rule"] == "kms-operation"


def test_the_journal_has_every_use_and_no_plaintext(stage: Stage, plain: Proxy) -> None:
    word = b"a-plaintext-that-nobody-may-log"
    made = plain.encrypt(KEYS.full, word, None).succeeds()
    used = stage.last()
    assert (used["operation"], used["key"], used["allowed"], used["version"]) == ("Encrypt", KEYS.full, True, 1)
    assert used["credential"] == stage.credential.access_key_id
    assert used["kms"]["request"].startswith("conformance-")
    plain.decrypt(KEYS.full, made, None).succeeds()
    assert stage.last()["operation"] == "Decrypt"
    raw = b"".join(stage.desk.journal())
    for secret in (word, base64.b64encode(word), stage.credential.secret_access_key.encode()):
        assert secret not in raw
    files = b"".join(path.read_bytes() for path in stage.folder.rglob("*") if path.is_file())
    assert word not in files
    assert stage.credential.secret_access_key.encode() not in files


def test_who_is_not_let_in_is_journaled_within_a_budget(tmp_path: Path) -> None:
    stage, now = make_stage(tmp_path / "state", policy()), now_ms()
    # The face's clock stands: however long the requests take, nothing of the budget comes back.
    with served_plain(stage, make_app(stage.folder, lambda: now, budget_s=PATIENCE_S)) as proxy:
        wrong = proxy.signed(secret="x" * 43)
        for _ in range(MOST + 10):
            wrong.metadata(KEYS.full).fails("AuthenticationFailedException")
        entries = [entry for entry in stage.journal() if entry.type == "xks-refused"]
        assert len(entries) == MOST
        assert entries[0].body["error"] == "AuthenticationFailedException"
    stage.desk.close()
