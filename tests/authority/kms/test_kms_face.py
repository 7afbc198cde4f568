"""The KMS face in one process: who may do what, with which document, under which of AWS's error names."""

import base64
import json
import secrets
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from anchorhold.attestation.anchors import AWS_NITRO_G1
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.keystore import Choice, init_keystore
from anchorhold.authority.kms import setup
from anchorhold.authority.kms.app import DATABASE
from anchorhold.authority.kms.operations import OTHER_OPERATIONS
from anchorhold.authority.kms.state import State
from anchorhold.enclave.keys.envelope import open_envelope
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.sim.nsm import ToyNsm, sign_document
from anchorhold.sim.pki import SimulatedPki
from anchorhold.wire import sigv4

from .conftest import CONTEXT, MEASUREMENTS, MODULE, RSA_KEY, Kms, allow, policy, recipient, refused, spki


def test_the_measured_enclave_gets_the_share_and_nobody_sees_it(kms: Kms) -> None:
    arn = kms.key(allow(kms, "publisher", "kms:Encrypt"), allow(kms, "enclave", "kms:Decrypt"))
    share = secrets.token_bytes(32)
    made = kms.call(
        "publisher", "Encrypt", KeyId=arn, Plaintext=base64.b64encode(share).decode(), EncryptionContext=CONTEXT
    )
    answer = kms.decrypt(arn, made["CiphertextBlob"], kms.document())
    assert answer.keys() == {"KeyId", "EncryptionAlgorithm", "CiphertextForRecipient"}
    assert answer["KeyId"] == arn
    assert open_envelope(base64.b64decode(answer["CiphertextForRecipient"]), RSA_KEY) == share


def test_conditions_on_four_registers_admit_the_measured_enclave(kms: Kms) -> None:
    arn, blob = kms.attested_key()
    answer = kms.decrypt(arn, blob, kms.document())
    assert len(open_envelope(base64.b64decode(answer["CiphertextForRecipient"]), RSA_KEY)) == 32


@pytest.mark.parametrize("register", [0, 1, 2])
def test_one_different_register_is_refused(kms: Kms, register: int) -> None:
    arn, blob = kms.attested_key()
    other = kms.document(measurements=MEASUREMENTS | {register: b"x" * 48})
    error = refused("AccessDeniedException", lambda: kms.decrypt(arn, blob, other))
    assert error.status == 400
    assert error.message == (
        f"User: {kms.arn('enclave')} is not authorized to perform: kms:Decrypt on resource: {arn} "
        "because no resource-based policy allows the kms:Decrypt action"
    )


def test_an_absent_register_is_refused_like_a_different_one(kms: Kms) -> None:
    arn, blob = kms.attested_key()
    toy = ToyNsm(kms.pki, MEASUREMENTS, MODULE, lambda: kms.now)
    unlocked = NsmClient(toy.transact).attest(public_key=spki(RSA_KEY))  # register 16 is not in it
    refused("AccessDeniedException", lambda: kms.decrypt(arn, blob, unlocked))


def test_no_document_is_refused(kms: Kms) -> None:
    arn, blob = kms.attested_key()
    refused("AccessDeniedException", lambda: kms.decrypt(arn, blob, None))


def _tampered(kms: Kms) -> bytes:
    raw = bytearray(kms.document())
    raw[len(raw) // 2] ^= 1
    return bytes(raw)


def _resigned(kms: Kms) -> bytes:
    sign1 = cbor2.loads(kms.document())
    fields = cbor2.loads(sign1[2])
    return sign_document(fields, ec.generate_private_key(ec.SECP384R1()))


def _foreign(kms: Kms) -> bytes:
    return kms.document(pki=SimulatedPki.create(datetime.fromtimestamp(kms.now / 1000, UTC)))


def _old(kms: Kms) -> bytes:
    raw = kms.document()
    kms.now += 301_000
    return raw


def _future(kms: Kms) -> bytes:
    kms.now += 60_000
    raw = kms.document()
    kms.now -= 60_000
    return raw


BAD_DOCUMENTS: dict[str, Callable[[Kms], bytes]] = {
    "truncated": lambda kms: kms.document()[:-1],
    "trailing": lambda kms: kms.document() + b"\0",
    "tampered": _tampered,
    "signed by another key": _resigned,
    "under another root": _foreign,
    "old": _old,
    "from the future": _future,
    "debug": lambda kms: kms.document(measurements={3: b"r" * 48, 4: b"i" * 48}),
    "no key": lambda kms: kms.document(public_key=None),
    "not an SPKI": lambda kms: kms.document(public_key=b"x" * 294),
    "an elliptic key": lambda kms: kms.document(public_key=spki(ec.generate_private_key(ec.SECP256R1()))),
    "a short key": lambda kms: kms.document(public_key=spki(rsa.generate_private_key(65537, 1024))),
    "not CBOR": lambda kms: b"hello",
}


@pytest.mark.parametrize("fault", BAD_DOCUMENTS)
def test_a_bad_document_is_refused_even_where_no_condition_asks_for_one(kms: Kms, fault: str) -> None:
    arn = kms.key(allow(kms, "enclave", "kms:Decrypt", "kms:GenerateDataKey"))
    blob = kms.call("enclave", "GenerateDataKey", KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)[
        "CiphertextBlob"
    ]
    assert kms.decrypt(arn, blob, kms.document())
    document = BAD_DOCUMENTS[fault](kms)
    error = refused("ValidationException", lambda: kms.decrypt(arn, blob, document))
    assert "(simulated)" in error.message


def test_a_deny_for_callers_without_a_document_fires(kms: Kms) -> None:
    deny = allow(kms, "enclave", "kms:Decrypt") | {
        "Effect": "Deny",
        "Condition": {"StringNotEqualsIgnoreCase": {"kms:RecipientAttestation:PCR0": MEASUREMENTS[0].hex()}},
    }
    arn = kms.key(allow(kms, "enclave", "kms:*"), deny)
    blob = kms.call("enclave", "GenerateDataKey", KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)[
        "CiphertextBlob"
    ]
    assert kms.decrypt(arn, blob, kms.document())
    error = refused("AccessDeniedException", lambda: kms.decrypt(arn, blob, None))
    assert error.message.endswith("with an explicit deny in a resource-based policy")


def test_a_disabled_key_refuses_and_an_enabled_one_serves_again(kms: Kms) -> None:
    arn, blob = kms.attested_key()
    assert kms.call("admin", "DisableKey", KeyId=arn) == {}
    assert kms.call("admin", "DescribeKey", KeyId=arn)["KeyMetadata"]["KeyState"] == "Disabled"
    error = refused("DisabledException", lambda: kms.decrypt(arn, blob, kms.document()))
    assert error.message == f"{arn} is disabled."
    kms.start()  # a restart forgets nothing
    refused("DisabledException", lambda: kms.decrypt(arn, blob, kms.document()))
    kms.call("admin", "EnableKey", KeyId=arn)
    assert kms.decrypt(arn, blob, kms.document())


@pytest.mark.parametrize("context", [{}, {"model": "tiny"}, CONTEXT | {"role": "lease"}, CONTEXT | {"Role": "share"}])
def test_another_encryption_context_opens_nothing(kms: Kms, context: dict[str, str]) -> None:
    arn, blob = kms.attested_key()
    document = kms.document()
    refused("InvalidCiphertextException", lambda: kms.decrypt(arn, blob, document, EncryptionContext=context))


def test_a_blob_of_another_key_is_refused_by_name_and_a_flipped_one_opens_nothing(kms: Kms) -> None:
    arn, blob = kms.attested_key()
    other, _ = kms.attested_key()
    document = kms.document()
    refused("IncorrectKeyException", lambda: kms.decrypt(other, blob, document))
    raw = bytearray(base64.b64decode(blob))
    for at in (0, 1, 20, len(raw) - 1):
        flipped = bytes(raw[:at]) + bytes([raw[at] ^ 1]) + bytes(raw[at + 1 :])
        moved = base64.b64encode(flipped).decode()
        refused("InvalidCiphertextException", lambda moved=moved: kms.decrypt(arn, moved, document))  # type: ignore[misc]  # bound now
    # The header moved to the other key: the key id is associated data.
    spliced = bytes(raw[:2]) + base64.b64decode(kms.attested_key()[1])[2:18] + bytes(raw[18:])
    parameters = {"CiphertextBlob": base64.b64encode(spliced).decode(), "EncryptionContext": CONTEXT}
    refused(
        "InvalidCiphertextException",
        lambda: kms.call("enclave", "Decrypt", Recipient=recipient(document), **parameters),
    )


def test_a_wrong_secret_an_unknown_caller_and_an_old_signature_have_their_names(kms: Kms) -> None:
    admin = kms.caller("admin")
    wrong = sigv4.Credentials(admin.access_key_id, "wrong")
    refused("InvalidSignatureException", lambda: kms.send(kms.signed(wrong, "CreateKey", b"{}")))
    swapped = sigv4.Credentials(admin.access_key_id, kms.caller("enclave").secret_access_key)
    refused("InvalidSignatureException", lambda: kms.send(kms.signed(swapped, "CreateKey", b"{}")))
    unknown = sigv4.Credentials("AHKAUNKNOWN", admin.secret_access_key)
    refused("UnrecognizedClientException", lambda: kms.send(kms.signed(unknown, "CreateKey", b"{}")))
    session = sigv4.Credentials(admin.access_key_id, admin.secret_access_key, "token")
    refused("UnrecognizedClientException", lambda: kms.send(kms.signed(session, "CreateKey", b"{}")))
    old = kms.signed(admin, "CreateKey", b"{}", at=kms.now - 301_000)
    assert "Signature expired" in refused("InvalidSignatureException", lambda: kms.send(old)).message
    elsewhere = kms.signed(admin, "CreateKey", b"{}", region="us-east-1")
    refused("InvalidSignatureException", lambda: kms.send(elsewhere))
    bare = sigv4.Request("POST", "/", "", (("Host", "localhost"),), b"{}")
    refused("MissingAuthenticationTokenException", lambda: kms.send(bare))
    broken = sigv4.Request("POST", "/", "", (("Host", "localhost"), ("Authorization", "AWS4-HMAC-SHA256 x")), b"{}")
    refused("IncompleteSignatureException", lambda: kms.send(broken))


def test_only_whom_a_policy_names_may_act(kms: Kms) -> None:
    arn, blob = kms.attested_key()
    refused("AccessDeniedException", lambda: kms.call("enclave", "CreateKey"))
    refused("AccessDeniedException", lambda: kms.call("publisher", "PutKeyPolicy", KeyId=arn, Policy=policy(kms)))
    refused("AccessDeniedException", lambda: kms.call("enclave", "DisableKey", KeyId=arn))
    refused("AccessDeniedException", lambda: kms.call("publisher", "Decrypt", KeyId=arn, CiphertextBlob=blob))
    refused("AccessDeniedException", lambda: kms.call("admin", "Decrypt", KeyId=arn, CiphertextBlob=blob))


def test_the_default_policy_gives_everything_to_the_accounts_administrators_only(kms: Kms) -> None:
    arn = kms.call("admin", "CreateKey")["KeyMetadata"]["Arn"]
    assert kms.call("admin", "GenerateDataKey", KeyId=arn, NumberOfBytes=16)["Plaintext"]
    refused("AccessDeniedException", lambda: kms.call("enclave", "GenerateDataKey", KeyId=arn, KeySpec="AES_256"))


def test_every_other_operation_is_refused_by_its_name(kms: Kms) -> None:
    for operation in sorted(OTHER_OPERATIONS):
        error = refused("UnsupportedOperationException", lambda name=operation: kms.call("admin", name))  # type: ignore[misc]  # bound now
        assert operation in error.message
    refused("UnknownOperationException", lambda: kms.call("admin", "Nonsense"))


def test_malformed_requests_have_their_names(kms: Kms) -> None:
    arn, blob = kms.attested_key()
    signed = kms.signed(kms.caller("admin"), "DescribeKey", b'{"KeyId": "a", "KeyId": "b"}')
    refused("SerializationException", lambda: kms.send(signed))
    refused("SerializationException", lambda: kms.send(kms.signed(kms.caller("admin"), "DescribeKey", b"[" * 50_000)))
    refused("NotFoundException", lambda: kms.call("admin", "DescribeKey", KeyId="alias/mine"))
    refused(
        "NotFoundException", lambda: kms.call("admin", "DescribeKey", KeyId=arn.replace("eu-central-1", "us-east-1"))
    )
    refused("ValidationException", lambda: kms.call("admin", "DescribeKey"))
    refused("ValidationException", lambda: kms.call("publisher", "GenerateDataKey", KeyId=arn))
    refused("SerializationException", lambda: kms.call("publisher", "Encrypt", KeyId=arn, Plaintext="%%"))
    refused("UnsupportedOperationException", lambda: kms.call("admin", "CreateKey", MultiRegion=True))
    refused("UnsupportedOperationException", lambda: kms.call("admin", "CreateKey", KeySpec="SM2"))
    refused("MalformedPolicyDocumentException", lambda: kms.call("admin", "CreateKey", Policy="{}"))
    refused("DryRunOperationException", lambda: kms.decrypt(arn, blob, kms.document(), DryRun=True))
    large = kms.signed(kms.caller("admin"), "DescribeKey", b" " * 600_000)
    assert refused("RequestEntityTooLargeException", lambda: kms.send(large)).status == 413


def test_a_policy_that_locks_its_author_out_is_refused(kms: Kms) -> None:
    text = json.dumps({"Statement": [allow(kms, "enclave", "kms:*")]})
    refused("MalformedPolicyDocumentException", lambda: kms.call("admin", "CreateKey", Policy=text))
    assert kms.call("admin", "CreateKey", Policy=text, BypassPolicyLockoutSafetyCheck=True)
    arn, _ = kms.attested_key()
    kept = kms.call("admin", "GetKeyPolicy", KeyId=arn)["Policy"]
    refused("MalformedPolicyDocumentException", lambda: kms.call("admin", "PutKeyPolicy", KeyId=arn, Policy=text))
    assert kms.call("admin", "GetKeyPolicy", KeyId=arn) == {"Policy": kept, "PolicyName": "default"}


def test_every_call_and_refusal_is_in_the_journal_before_its_answer(kms: Kms) -> None:
    arn, blob = kms.attested_key()
    kms.decrypt(arn, blob, kms.document())
    refused("AccessDeniedException", lambda: kms.decrypt(arn, blob, None))
    events = kms.events()
    assert [event["eventName"] for event in events] == ["CreateKey", "GenerateDataKey", "Decrypt", "Decrypt"]
    granted, denied = events[2:]
    assert granted["additionalEventData"]["recipient"]["attestationDocumentEnclaveImageDigest"] == MEASUREMENTS[0].hex()
    assert granted["requestParameters"]["encryptionContext"] == CONTEXT
    assert "errorCode" not in granted
    assert denied["errorCode"] == "AccessDenied"
    assert blob not in json.dumps(events)


@pytest.mark.parametrize("register", [0, 1, 2])
def test_the_journal_of_a_refusal_shows_the_measurement_expected_and_the_one_attested(kms: Kms, register: int) -> None:
    arn, blob = kms.attested_key()
    other = kms.document(measurements=MEASUREMENTS | {register: b"x" * 48})
    error = refused("AccessDeniedException", lambda: kms.decrypt(arn, blob, other))
    event = json.loads(str(kms.journal()[-1].body["event"]))
    (unmet,) = event["anchorholdUnmetConditions"]
    name = f"PCR{register}" if register else "ImageSha384"
    assert unmet["conditionKey"] == f"kms:RecipientAttestation:{name}"
    assert unmet["expected"][0].lower() == MEASUREMENTS[register].hex()
    assert unmet["actual"] == (b"x" * 48).hex()
    assert MEASUREMENTS[register].hex() not in str(error), "the caller learns nothing of it"


def test_a_grant_and_a_refusal_for_another_reason_name_no_condition(kms: Kms) -> None:
    arn, blob = kms.attested_key()
    kms.decrypt(arn, blob, kms.document())
    refused("AccessDeniedException", lambda: kms.call("admin", "Decrypt", CiphertextBlob=blob, KeyId=arn))
    events = kms.events()
    assert not any("anchorholdUnmetConditions" in event for event in events)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE journal SET signed = (SELECT signed FROM journal WHERE seq = 1) WHERE seq = 0",
        # No Ed25519 signature ends so (RFC 8032: S < 2^253), so it is always a change.
        "UPDATE journal SET signed = CAST(substr(signed, 1, length(signed) - 1) || x'ff' AS BLOB) WHERE seq = 0",
        "DELETE FROM journal WHERE seq = 0",
    ],
)
def test_a_changed_or_missing_journal_entry_is_found(kms: Kms, change: str) -> None:
    kms.attested_key()
    assert len(kms.journal()) == 2
    connection = sqlite3.connect(kms.folder / DATABASE)
    with connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(EvidenceError):
        kms.journal()


def test_no_answer_without_a_journal(kms: Kms) -> None:
    arn, blob = kms.attested_key()
    connection = sqlite3.connect(kms.folder / DATABASE)
    with connection:
        connection.execute("DROP TABLE journal")
    connection.close()
    error = refused("KMSInternalException", lambda: kms.decrypt(arn, blob, kms.document()))
    assert error.status == 500


def test_the_anchor_class_is_fixed_at_init(kms: Kms, tmp_path: Path) -> None:
    now = Milliseconds(kms.now)
    with pytest.raises(setup.SetupError):
        setup.init(tmp_path / "a", "production", [kms.pki.anchor], now=now)
    with pytest.raises(setup.SetupError):
        setup.init(tmp_path / "b", "simulated", [AWS_NITRO_G1], now=now)
    with pytest.raises(setup.SetupError):
        setup.init(tmp_path / "c", "simulated", [], now=now)
    with pytest.raises(FileExistsError):
        setup.init(kms.folder, "simulated", [kms.pki.anchor], now=now)
    setup.init(tmp_path / "d", "production", [], now=now)
    state = State.load(tmp_path / "d" / DATABASE)
    assert state.anchors() == {AWS_NITRO_G1.name: AWS_NITRO_G1.root_der}
    state.close()


def test_secrets_are_private_and_sealed(kms: Kms) -> None:
    for name in (setup.CREDENTIALS, "keystore.key", "keystore.cbor", "keystore.json", DATABASE, "tls/server.key"):
        assert (kms.folder / name).stat().st_mode & 0o077 == 0, name
    stored = (kms.folder / DATABASE).read_bytes() + (kms.folder / (DATABASE + "-wal")).read_bytes()
    assert kms.caller("enclave").secret_access_key.encode() not in stored
    with pytest.raises(FileExistsError):
        init_keystore(kms.folder, Choice())


def test_a_callers_long_words_do_not_stop_the_journal(kms: Kms) -> None:
    refused("UnsupportedOperationException", lambda: kms.call("admin", "CreateKey", **{"\u20ac" * 50_000: 1}))
    context = {"\0" * 4_000: "\0" * 4_000}
    key = kms.call("admin", "CreateKey")["KeyMetadata"]["KeyId"]
    kms.call("admin", "GenerateDataKey", KeyId=key, KeySpec="AES_256", EncryptionContext=context)
    assert len(kms.journal()) == 3
