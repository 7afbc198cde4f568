"""Key pairs of the KMS face: signatures, key agreement, RSA encryption, and pairs that leave."""

import hashlib
import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key
from tests.authority.hsm import token_for_tests

from anchorhold.authority.keystore import Choice, Kind
from anchorhold.enclave.keys.envelope import open_envelope

from .asking import b64, raw, refuses
from .conftest import CONTEXT, MEASUREMENTS, RSA_KEY, Kms, allow, policy, recipient, refused, spki

MESSAGE = b"a release statement"
RSASSA = [f"RSASSA_{scheme}_SHA_{bits}" for scheme in ("PSS", "PKCS1_V1_5") for bits in (256, 384, 512)]
SIGNERS = {
    "RSA_2048": RSASSA,
    "ECC_NIST_P256": ["ECDSA_SHA_256"],
    "ECC_NIST_P384": ["ECDSA_SHA_384"],
    "ECC_NIST_P521": ["ECDSA_SHA_512"],
    "ECC_NIST_EDWARDS25519": ["ED25519_SHA_512"],
}
CURVES = {"ECC_NIST_P256": ec.SECP256R1(), "ECC_NIST_P384": ec.SECP384R1(), "ECC_NIST_P521": ec.SECP521R1()}


def new(kms: Kms, spec: str, usage: str, *statements: dict[str, object]) -> str:
    """A pair that the publisher may do everything with, or what the statements say."""
    text = policy(kms, *(statements or (allow(kms, "publisher", "kms:*"),)))
    made = kms.call("admin", "CreateKey", KeySpec=spec, KeyUsage=usage, Policy=text)
    return str(made["KeyMetadata"]["Arn"])


def public(kms: Kms, arn: str) -> Any:
    return load_der_public_key(raw(kms.call("publisher", "GetPublicKey", KeyId=arn), "PublicKey"))


def verify_elsewhere(key: Any, signature: bytes, algorithm: str) -> None:
    """With `cryptography` over the public key alone. Raises InvalidSignature."""
    function = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm.rpartition("_")[2]]
    match key:
        case ed25519.Ed25519PublicKey():
            key.verify(signature, MESSAGE)
        case ec.EllipticCurvePublicKey():
            key.verify(signature, MESSAGE, ec.ECDSA(function))
        case rsa.RSAPublicKey() if "PSS" in algorithm:
            key.verify(signature, MESSAGE, padding.PSS(padding.MGF1(function), function.digest_size), function)
        case rsa.RSAPublicKey():
            key.verify(signature, MESSAGE, padding.PKCS1v15(), function)
        case _:
            raise TypeError


@pytest.mark.parametrize("spec", [pytest.param("RSA_2048", marks=pytest.mark.slow), *list(SIGNERS)[1:]])
def test_each_algorithm_of_a_key_signs_what_others_verify(kms: Kms, spec: str) -> None:
    arn = new(kms, spec, "SIGN_VERIFY")
    shown = kms.call("publisher", "GetPublicKey", KeyId=arn)
    assert shown["SigningAlgorithms"] == SIGNERS[spec]
    assert kms.call("admin", "DescribeKey", KeyId=arn)["KeyMetadata"]["SigningAlgorithms"] == SIGNERS[spec]
    for algorithm in SIGNERS[spec]:
        asked = {"KeyId": arn, "Message": b64(MESSAGE), "SigningAlgorithm": algorithm}
        signature = raw(kms.call("publisher", "Sign", **asked), "Signature")
        verify_elsewhere(public(kms, arn), signature, algorithm)
        assert kms.call("publisher", "Verify", **asked, Signature=b64(signature))["SignatureValid"] is True
        changed = asked | {"Message": b64(MESSAGE + b"s")}
        flipped = signature[:-1] + bytes([signature[-1] ^ 1])
        for wrong in (changed | {"Signature": b64(signature)}, asked | {"Signature": b64(flipped)}):
            refuses(kms, "KMSInvalidSignatureException", "publisher", "Verify", **wrong)


@pytest.mark.parametrize("spec", ["RSA_2048", "ECC_NIST_P384"])
def test_a_digest_and_the_message_it_is_of_are_one_thing(kms: Kms, spec: str) -> None:
    arn, algorithm = new(kms, spec, "SIGN_VERIFY"), SIGNERS[spec][-1]
    digest = hashlib.new("sha" + algorithm.rpartition("_")[2], MESSAGE).digest()
    of_digest = {"Message": b64(digest), "MessageType": "DIGEST"}
    asked = {"KeyId": arn, "SigningAlgorithm": algorithm}
    signature = raw(kms.call("publisher", "Sign", **asked, **of_digest), "Signature")
    verify_elsewhere(public(kms, arn), signature, algorithm)
    assert kms.call("publisher", "Verify", **asked, Message=b64(MESSAGE), Signature=b64(signature))
    short = asked | {"Message": b64(digest[:-1]), "MessageType": "DIGEST"}
    assert algorithm in refuses(kms, "ValidationException", "publisher", "Sign", **short).message


def test_a_pss_signature_with_another_salt_is_refused(kms: Kms) -> None:
    """AWS's salt is as long as the digest; a face that took any would take what AWS refuses."""
    arn = new(kms, "RSA_2048", "SIGN_VERIFY")
    key = rsa.generate_private_key(65537, 2048)
    signature = key.sign(MESSAGE, padding.PSS(padding.MGF1(hashes.SHA256()), 20), hashes.SHA256())
    asked = {"KeyId": arn, "Message": b64(MESSAGE), "SigningAlgorithm": "RSASSA_PSS_SHA_256"}
    refuses(kms, "KMSInvalidSignatureException", "publisher", "Verify", **asked, Signature=b64(signature))


def test_what_a_key_is_not_for_is_refused_by_aws_s_names(kms: Kms) -> None:
    signer, agreer = new(kms, "ECC_NIST_P256", "SIGN_VERIFY"), new(kms, "ECC_NIST_P256", "KEY_AGREEMENT")
    symmetric = kms.key(allow(kms, "publisher", "kms:*"))

    def asks(name: str, operation: str, arn: str, **more: object) -> None:
        refuses(kms, name, "publisher", operation, KeyId=arn, **more)

    ecdsa = {"Message": b64(MESSAGE), "SigningAlgorithm": "ECDSA_SHA_256"}
    agreement = {"KeyAgreementAlgorithm": "ECDH", "PublicKey": b64(spki(ec.generate_private_key(ec.SECP256R1())))}
    error = refuses(kms, "InvalidKeyUsageException", "publisher", "Sign", KeyId=agreer, **ecdsa)
    assert error.message == f"{agreer} key usage is KEY_AGREEMENT which is not valid for Sign."
    for arn in (agreer, symmetric):
        asks("InvalidKeyUsageException", "Sign", arn, **ecdsa)
        asks("InvalidKeyUsageException", "Verify", arn, **ecdsa, Signature=b64(b"signature"))
    asks("InvalidKeyUsageException", "Sign", signer, **ecdsa | {"SigningAlgorithm": "RSASSA_PSS_SHA_256"})
    asks("InvalidKeyUsageException", "Sign", signer, **ecdsa | {"SigningAlgorithm": "ECDSA_SHA_384"})
    asks("UnsupportedOperationException", "Sign", signer, **ecdsa | {"SigningAlgorithm": "ML_DSA_SHAKE_256"})
    asks("ValidationException", "Sign", signer, **ecdsa | {"SigningAlgorithm": "ECDSA_SHA_1"})
    asks("ValidationException", "Sign", signer, Message=b64(MESSAGE))
    asks("ValidationException", "Sign", signer, **ecdsa | {"Message": b64(bytes(4_097))})
    for arn in (signer, symmetric):
        asks("InvalidKeyUsageException", "DeriveSharedSecret", arn, **agreement)
    asks("UnsupportedOperationException", "GetPublicKey", symmetric)
    for arn in (signer, agreer):
        asks("InvalidKeyUsageException", "Encrypt", arn, Plaintext=b64(b"plaintext"))
        asks("InvalidKeyUsageException", "GenerateDataKey", arn, KeySpec="AES_256")
        asks("InvalidKeyUsageException", "GenerateDataKeyPair", arn, KeyPairSpec="ECC_NIST_P256")
        asks("UnsupportedOperationException", "RotateKeyOnDemand", arn)
    edwards = new(kms, "ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
    ed25519_digest = {"Message": b64(bytes(64)), "MessageType": "DIGEST", "SigningAlgorithm": "ED25519_SHA_512"}
    asks("ValidationException", "Sign", edwards, **ed25519_digest)


def test_a_key_s_state_stops_every_use_of_its_pair(kms: Kms) -> None:
    signer, agreer = new(kms, "ECC_NIST_P256", "SIGN_VERIFY"), new(kms, "ECC_NIST_P256", "KEY_AGREEMENT")
    sign = {"KeyId": signer, "Message": b64(MESSAGE), "SigningAlgorithm": "ECDSA_SHA_256"}
    signature = kms.call("publisher", "Sign", **sign)["Signature"]
    peer = b64(spki(ec.generate_private_key(ec.SECP256R1())))
    uses: list[Callable[[], object]] = [
        lambda: kms.call("publisher", "Sign", **sign),
        lambda: kms.call("publisher", "Verify", **sign, Signature=signature),
        lambda: kms.call("publisher", "GetPublicKey", KeyId=signer),
        lambda: kms.call("publisher", "DeriveSharedSecret", KeyId=agreer, KeyAgreementAlgorithm="ECDH", PublicKey=peer),
    ]
    for state, name in (("DisableKey", "DisabledException"), ("ScheduleKeyDeletion", "KMSInvalidStateException")):
        for arn in (signer, agreer):
            kms.call("publisher", state, KeyId=arn)
        for use in uses:
            refused(name, use)


def test_a_dry_run_says_what_the_call_would_have_said(kms: Kms) -> None:
    signer = new(kms, "ECC_NIST_P256", "SIGN_VERIFY")
    asked = {"KeyId": signer, "Message": b64(MESSAGE), "SigningAlgorithm": "ECDSA_SHA_256", "DryRun": True}
    refuses(kms, "DryRunOperationException", "publisher", "Sign", **asked)
    refuses(kms, "AccessDeniedException", "enclave", "Sign", **asked)
    wrong = asked | {"SigningAlgorithm": "ECDSA_SHA_512"}
    refuses(kms, "InvalidKeyUsageException", "publisher", "Sign", **wrong)


def test_a_policy_binds_the_algorithm_and_the_kind_of_message(kms: Kms) -> None:
    only = {"StringEquals": {"kms:SigningAlgorithm": "RSASSA_PSS_SHA_256", "kms:MessageType": "DIGEST"}}
    arn = new(kms, "RSA_2048", "SIGN_VERIFY", allow(kms, "publisher", "kms:Sign") | {"Condition": only})
    asked = {"KeyId": arn, "Message": b64(bytes(32)), "SigningAlgorithm": "RSASSA_PSS_SHA_256", "MessageType": "DIGEST"}
    assert kms.call("publisher", "Sign", **asked)
    for other in ({"MessageType": "RAW"}, {"SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256"}):
        refuses(kms, "AccessDeniedException", "publisher", "Sign", **asked | other)


def test_signing_takes_no_recipient_and_a_measured_condition_lets_nobody_sign(kms: Kms) -> None:
    pinned = {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR0": MEASUREMENTS[0].hex()}}
    arn = new(kms, "ECC_NIST_P256", "SIGN_VERIFY", allow(kms, "enclave", "kms:Sign") | {"Condition": pinned})
    asked = {"KeyId": arn, "Message": b64(MESSAGE), "SigningAlgorithm": "ECDSA_SHA_256"}
    refuses(kms, "AccessDeniedException", "enclave", "Sign", **asked)
    document = recipient(kms.document())
    refuses(kms, "UnsupportedOperationException", "enclave", "Sign", **asked, Recipient=document)


@pytest.mark.parametrize("spec", CURVES)
def test_both_sides_agree_on_one_secret(kms: Kms, spec: str) -> None:
    arn, peer = new(kms, spec, "KEY_AGREEMENT"), ec.generate_private_key(CURVES[spec])
    asked = {"KeyId": arn, "KeyAgreementAlgorithm": "ECDH", "PublicKey": b64(spki(peer))}
    answer = kms.call("publisher", "DeriveSharedSecret", **asked)
    assert raw(answer, "SharedSecret") == peer.exchange(ec.ECDH(), public(kms, arn))
    assert answer["KeyOrigin"] == "AWS_KMS"


def test_a_peer_key_that_is_not_on_the_curve_is_refused(kms: Kms) -> None:
    arn = new(kms, "ECC_NIST_P256", "KEY_AGREEMENT")
    good = spki(ec.generate_private_key(ec.SECP256R1()))
    wrong = {
        "another curve": spki(ec.generate_private_key(ec.SECP384R1())),
        "another kind": spki(RSA_KEY),
        "no point of the curve": good[:-1] + bytes([good[-1] ^ 1]),
        "no key": b"a public key",
        "more than the key": good + b"\0",
    }
    for peer in wrong.values():
        asked = {"KeyId": arn, "KeyAgreementAlgorithm": "ECDH", "PublicKey": b64(peer)}
        refuses(kms, "ValidationException", "publisher", "DeriveSharedSecret", **asked)


def test_a_shared_secret_is_for_the_measured_enclave_alone(kms: Kms) -> None:
    pinned = {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": MEASUREMENTS[0].hex()}}
    attested = allow(kms, "enclave", "kms:DeriveSharedSecret") | {"Condition": pinned}
    arn = new(kms, "ECC_NIST_P256", "KEY_AGREEMENT", attested, allow(kms, "publisher", "kms:GetPublicKey"))
    peer = ec.generate_private_key(ec.SECP256R1())
    asked = {"KeyId": arn, "KeyAgreementAlgorithm": "ECDH", "PublicKey": b64(spki(peer))}
    answer = kms.call("enclave", "DeriveSharedSecret", **asked, Recipient=recipient(kms.document()))
    secret = open_envelope(raw(answer, "CiphertextForRecipient"), RSA_KEY)
    assert secret == peer.exchange(ec.ECDH(), public(kms, arn))
    assert "SharedSecret" not in answer
    refuses(kms, "AccessDeniedException", "enclave", "DeriveSharedSecret", **asked)
    other = recipient(kms.document(measurements=MEASUREMENTS | {0: b"x" * 48}))
    refuses(kms, "AccessDeniedException", "enclave", "DeriveSharedSecret", **asked, Recipient=other)
    first, *_ = (event for event in kms.events() if event["eventName"] == "DeriveSharedSecret")
    recipients = first["additionalEventData"]["recipient"]
    assert recipients["attestationDocumentEnclaveImageDigest"] == MEASUREMENTS[0].hex()


@pytest.mark.parametrize("algorithm", ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"])
def test_an_rsa_key_opens_what_its_public_half_sealed_here_or_elsewhere(kms: Kms, algorithm: str) -> None:
    arn = new(kms, "RSA_2048", "ENCRYPT_DECRYPT")
    function = hashes.SHA1() if algorithm.endswith("_1") else hashes.SHA256()
    most = 256 - 2 * function.digest_size - 2
    content = secrets.token_bytes(most)
    here = kms.call("publisher", "Encrypt", KeyId=arn, Plaintext=b64(content), EncryptionAlgorithm=algorithm)
    elsewhere = public(kms, arn).encrypt(content, padding.OAEP(padding.MGF1(function), function, None))
    for blob in (here["CiphertextBlob"], b64(elsewhere)):
        asked = {"KeyId": arn, "CiphertextBlob": blob, "EncryptionAlgorithm": algorithm}
        assert raw(kms.call("publisher", "Decrypt", **asked), "Plaintext") == content
        sealed = kms.call("publisher", "Decrypt", **asked, Recipient=recipient(kms.document()))
        assert open_envelope(raw(sealed, "CiphertextForRecipient"), RSA_KEY) == content
        assert "Plaintext" not in sealed
        other = asked | {"EncryptionAlgorithm": "RSAES_OAEP_SHA_256" if most > 200 else "RSAES_OAEP_SHA_1"}
        refuses(kms, "InvalidCiphertextException", "publisher", "Decrypt", **other)
    more = {"KeyId": arn, "Plaintext": b64(content + b"!"), "EncryptionAlgorithm": algorithm}
    assert str(most) in refuses(kms, "ValidationException", "publisher", "Encrypt", **more).message


def test_rsa_encryption_has_its_refusals(kms: Kms) -> None:
    arn, signer = new(kms, "RSA_2048", "ENCRYPT_DECRYPT"), new(kms, "RSA_2048", "SIGN_VERIFY")
    symmetric = kms.key(allow(kms, "publisher", "kms:*"))
    oaep = {"Plaintext": b64(b"small"), "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}

    def encrypt(name: str, **asked: object) -> None:
        refuses(kms, name, "publisher", "Encrypt", **asked)

    encrypt("InvalidKeyUsageException", KeyId=signer, **oaep)
    encrypt("InvalidKeyUsageException", KeyId=symmetric, **oaep)
    encrypt("InvalidKeyUsageException", KeyId=arn, Plaintext=b64(b"small"))
    encrypt("ValidationException", KeyId=arn, **oaep, EncryptionContext=CONTEXT)
    blob = kms.call("publisher", "Encrypt", KeyId=arn, **oaep)["CiphertextBlob"]
    asked = {"CiphertextBlob": blob, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
    refuses(kms, "ValidationException", "publisher", "Decrypt", **asked)
    refuses(kms, "InvalidCiphertextException", "publisher", "Decrypt", CiphertextBlob=blob, KeyId=arn)
    moved = {"CiphertextBlob": blob, "SourceKeyId": arn, "DestinationKeyId": symmetric}
    refuses(kms, "InvalidCiphertextException", "publisher", "ReEncrypt", **moved)


@pytest.mark.parametrize("spec", ["RSA_2048", *CURVES, "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519"])
def test_a_data_key_pair_is_a_pair_and_its_private_half_opens_under_the_key(kms: Kms, spec: str) -> None:
    arn = kms.key(allow(kms, "publisher", "kms:*"))
    asked = {"KeyId": arn, "KeyPairSpec": spec, "EncryptionContext": CONTEXT}
    made = kms.call("publisher", "GenerateDataKeyPair", **asked)
    private = load_der_private_key(raw(made, "PrivateKeyPlaintext"), None)
    assert private.public_key() == load_der_public_key(raw(made, "PublicKey"))
    opened = {"CiphertextBlob": made["PrivateKeyCiphertextBlob"], "EncryptionContext": CONTEXT}
    assert kms.call("publisher", "Decrypt", **opened)["Plaintext"] == made["PrivateKeyPlaintext"]
    moved = opened | {"EncryptionContext": {"model": "another"}}
    refuses(kms, "InvalidCiphertextException", "publisher", "Decrypt", **moved)
    bare = kms.call("publisher", "GenerateDataKeyPairWithoutPlaintext", **asked)
    assert bare.keys() == made.keys() - {"PrivateKeyPlaintext"}
    assert bare["PublicKey"] != made["PublicKey"]


@pytest.mark.slow
def test_the_private_half_of_a_data_key_pair_is_for_the_recipient_alone(kms: Kms) -> None:
    pinned = {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR0": MEASUREMENTS[0].hex()}}
    only = {"StringEquals": {"kms:DataKeyPairSpec": "RSA_4096"}}
    arn = kms.key(allow(kms, "enclave", "kms:GenerateDataKeyPair") | {"Condition": pinned | only})
    asked = {"KeyId": arn, "KeyPairSpec": "RSA_4096"}
    made = kms.call("enclave", "GenerateDataKeyPair", **asked, Recipient=recipient(kms.document()))
    assert made.keys() == {"KeyId", "KeyPairSpec", "PublicKey", "PrivateKeyCiphertextBlob", "CiphertextForRecipient"}
    private = load_der_private_key(bytes(open_envelope(raw(made, "CiphertextForRecipient"), RSA_KEY)), None)
    assert private.public_key() == load_der_public_key(raw(made, "PublicKey"))
    refuses(kms, "AccessDeniedException", "enclave", "GenerateDataKeyPair", **asked)
    small = asked | {"KeyPairSpec": "RSA_2048", "Recipient": recipient(kms.document())}
    refuses(kms, "AccessDeniedException", "enclave", "GenerateDataKeyPair", **small)
    without = {"KeyId": arn, "KeyPairSpec": "ECC_NIST_P256", "Recipient": recipient(kms.document())}
    bare = "GenerateDataKeyPairWithoutPlaintext"
    refuses(kms, "UnsupportedOperationException", "enclave", bare, **without)


def test_the_journal_says_how_was_signed_and_not_what(kms: Kms) -> None:
    arn = new(kms, "ECC_NIST_P256", "SIGN_VERIFY")
    signing = {"SigningAlgorithm": "ECDSA_SHA_256", "MessageType": "RAW"}
    made = kms.call("publisher", "Sign", KeyId=arn, Message=b64(MESSAGE), **signing)
    text = str(kms.journal()[-1].body["event"])
    event = json.loads(text)
    assert event["requestParameters"] == {"keyId": arn, "signingAlgorithm": "ECDSA_SHA_256", "messageType": "RAW"}
    assert (event["eventName"], event["resources"][0]["ARN"]) == ("Sign", arn)
    assert b64(MESSAGE) not in text
    assert made["Signature"] not in text


def test_create_key_refuses_what_does_not_go_together(kms: Kms) -> None:
    def create(name: str, **asked: object) -> None:
        refuses(kms, name, "admin", "CreateKey", **asked)

    create("ValidationException", KeySpec="RSA_2048")
    create("ValidationException", KeySpec="RSA_2048", KeyUsage="KEY_AGREEMENT")
    create("ValidationException", KeySpec="ECC_NIST_P256", KeyUsage="ENCRYPT_DECRYPT")
    create("ValidationException", KeySpec="ECC_NIST_EDWARDS25519", KeyUsage="KEY_AGREEMENT")
    create("ValidationException", KeyUsage="SIGN_VERIFY")
    create("ValidationException", KeySpec="RSA_1024", KeyUsage="SIGN_VERIFY")
    create("ValidationException", KeySpec="RSA_2048", CustomerMasterKeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")
    create("UnsupportedOperationException", KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    create("UnsupportedOperationException", KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")
    create("UnsupportedOperationException", KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY", Origin="EXTERNAL")


@pytest.mark.slow
def test_a_pair_in_a_token_signs_agrees_and_decrypts_the_same(kms: Kms) -> None:
    hsm = token_for_tests()
    choice = Choice(Kind.PKCS11, module=hsm.module, token=hsm.label, pin_file=hsm.pin_file)
    kms = Kms(kms.folder.with_name("token"), kms.pki, kms.now, choice)
    for spec, algorithms in SIGNERS.items():
        if spec == "ECC_NIST_EDWARDS25519":  # SoftHSM has it, python-pkcs11 does not name its mechanism
            refused("UnsupportedOperationException", lambda: new(kms, "ECC_NIST_EDWARDS25519", "SIGN_VERIFY"))
            assert len(kms.call("admin", "ListKeys")["Keys"]) == len(SIGNERS) - 1
            continue
        arn = new(kms, spec, "SIGN_VERIFY")
        asked = {"KeyId": arn, "Message": b64(MESSAGE), "SigningAlgorithm": algorithms[0]}
        verify_elsewhere(public(kms, arn), raw(kms.call("publisher", "Sign", **asked), "Signature"), algorithms[0])
    arn, peer = new(kms, "ECC_NIST_P384", "KEY_AGREEMENT"), ec.generate_private_key(ec.SECP384R1())
    asked = {"KeyId": arn, "KeyAgreementAlgorithm": "ECDH", "PublicKey": b64(spki(peer))}
    secret = raw(kms.call("publisher", "DeriveSharedSecret", **asked), "SharedSecret")
    assert secret == peer.exchange(ec.ECDH(), public(kms, arn))
    arn = new(kms, "RSA_2048", "ENCRYPT_DECRYPT")
    oaep = {"KeyId": arn, "EncryptionAlgorithm": "RSAES_OAEP_SHA_1"}  # SoftHSM has no other
    blob = kms.call("publisher", "Encrypt", **oaep, Plaintext=b64(b"small"))["CiphertextBlob"]
    assert raw(kms.call("publisher", "Decrypt", **oaep, CiphertextBlob=blob), "Plaintext") == b"small"
