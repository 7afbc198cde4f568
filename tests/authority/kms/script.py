"""The script of every supported operation, in an order that works: what is asked, by whom, and what is answered.

A step asks through an unchanged client; `gives` are the members of the answer, no more and no fewer, and botocore's
output shape judges each of them as it comes. What later steps need is kept by name. `tests/authority/kms/
test_kms_script.py` runs it and holds it against the face's own table of operations.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from anchorhold.enclave.keys.envelope import open_envelope

from .conftest import CONTEXT, RSA_KEY, spki
from .process import Face

Kept = dict[str, Any]
Asks = Callable[[Face, Kept], Mapping[str, object]]
OTHER_CONTEXT = {"model": "another"}
MATERIAL = bytes(range(32, 64))
PEER = ec.generate_private_key(ec.SECP256R1())
MESSAGE = b"a release statement"


@dataclass(frozen=True)
class Step:
    """`keeps`: name by member path of the answer. `holds`: what must be true of it besides."""

    operation: str
    asks: Asks
    gives: str = ""
    who: str = "publisher"
    keeps: Mapping[str, str] = field(default_factory=dict)
    holds: Callable[[Kept, Any], bool] = lambda _kept, _answer: True


def script_policy(face: Face) -> str:
    """admin and publisher may do everything with the key; the enclave, what it attests for."""
    whole = [face.credentials[name]["arn"] for name in ("admin", "publisher")]
    statement = {"Effect": "Allow", "Principal": {"AWS": whole}, "Action": "kms:*", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement, *_attested(face)]})


def _attested(face: Face) -> list[dict[str, object]]:
    statements = json.loads(face.policy())["Statement"]
    enclave = next(one for one in statements if one["Principal"]["AWS"] == face.credentials["enclave"]["arn"])
    actions = ["kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyPair", "kms:DeriveSharedSecret"]
    return [enclave | {"Action": actions}]


def _recipient(face: Face) -> dict[str, object]:
    return {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": face.document()}


def _opened(answer: Any) -> bytes:
    return bytes(open_envelope(answer["CiphertextForRecipient"], RSA_KEY))


def _key(**more: object) -> Asks:
    return lambda _face, kept: {"KeyId": kept["key"], **more}


def _new(**more: object) -> Asks:
    return lambda face, _kept: {"Policy": script_policy(face), **more}


def _pair(name: str, **more: object) -> Asks:
    return lambda _face, kept: {"KeyId": kept[name], **more}


def wrap(public_key: bytes, material: bytes) -> bytes:
    """Key material under RSAES_OAEP_SHA_256."""
    public = load_der_public_key(public_key)
    assert isinstance(public, rsa.RSAPublicKey)
    return public.encrypt(material, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))


def _private_is_of(answer: Any, private_der: bytes) -> bool:
    private, public = load_der_private_key(private_der, None), load_der_public_key(answer["PublicKey"])
    return bool(private.public_key() == public)


def _verifies(kept: Kept, answer: Any) -> bool:
    public = load_der_public_key(kept["verifying key"])
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(answer["Signature"], MESSAGE, ec.ECDSA(hashes.SHA256()))
    return True


def _agreed(kept: Kept, secret: bytes) -> bool:
    public = load_der_public_key(kept["agreeing key"])
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return secret == PEER.exchange(ec.ECDH(), public)


KEYS = (
    Step("CreateKey", _new(Description="model", Tags=[{"TagKey": "tenant", "TagValue": "a"}]), "KeyMetadata", "admin",
         {"key": "KeyMetadata.Arn", "key id": "KeyMetadata.KeyId"}),
    Step("CreateKey", _new(), "KeyMetadata", "admin", {"other key": "KeyMetadata.Arn"}),
    Step("DescribeKey", _key(), "KeyMetadata", holds=lambda kept, answer: answer["KeyMetadata"]["Arn"] == kept["key"]),
    Step("ListKeys", lambda _face, _kept: {"Limit": 1}, "Keys NextMarker Truncated", "admin", {"marker": "NextMarker"}),
    Step("ListKeys", lambda _face, kept: {"Marker": kept["marker"]}, "Keys Truncated", "admin",
         holds=lambda _kept, answer: len(answer["Keys"]) >= 1 and not answer["Truncated"]),
    Step("UpdateKeyDescription", _key(Description="model of today")),
    Step("GetKeyPolicy", _key(), "Policy PolicyName", keeps={"policy": "Policy"}),
    Step("PutKeyPolicy", lambda _face, kept: {"KeyId": kept["key"], "Policy": kept["policy"]}),
    Step("ListKeyPolicies", _key(), "PolicyNames Truncated",
         holds=lambda _kept, answer: answer["PolicyNames"] == ["default"]),
    Step("DisableKey", _key()),
    Step("DescribeKey", _key(), "KeyMetadata",
         holds=lambda _kept, answer: answer["KeyMetadata"]["KeyState"] == "Disabled"),
    Step("EnableKey", _key()),
)  # fmt: skip
NAMES = (
    Step("CreateAlias", lambda _face, kept: {"AliasName": "alias/model", "TargetKeyId": kept["key"]}, who="admin"),
    Step("UpdateAlias", lambda _face, kept: {"AliasName": "alias/model", "TargetKeyId": kept["other key"]},
         who="admin"),
    Step("ListAliases", lambda _face, _kept: {}, "Aliases Truncated", "admin",
         holds=lambda kept, answer: [one["TargetKeyId"] in kept["other key"] for one in answer["Aliases"]] == [True]),
    Step("DescribeKey", lambda _face, _kept: {"KeyId": "alias/model"}, "KeyMetadata",
         holds=lambda kept, answer: answer["KeyMetadata"]["Arn"] == kept["other key"]),
    Step("DeleteAlias", lambda _face, _kept: {"AliasName": "alias/model"}, who="admin"),
    Step("TagResource", _key(Tags=[{"TagKey": "purpose", "TagValue": "serve"}])),
    Step("UntagResource", _key(TagKeys=["tenant"])),
    Step("ListResourceTags", _key(), "Tags Truncated",
         holds=lambda _kept, answer: answer["Tags"] == [{"TagKey": "purpose", "TagValue": "serve"}]),
)  # fmt: skip


def _grant(face: Face, kept: Kept) -> dict[str, object]:
    return {
        "KeyId": kept["key"],
        "GranteePrincipal": face.credentials["enclave"]["arn"],
        "RetiringPrincipal": face.credentials["publisher"]["arn"],
        "Operations": ["Encrypt"],
        "Constraints": {"EncryptionContextSubset": CONTEXT},
    }


GRANTS = (
    Step("CreateGrant", _grant, "GrantId GrantToken", keeps={"grant": "GrantId", "token": "GrantToken"}),
    Step("Encrypt", lambda _face, kept: {"KeyId": kept["key"], "Plaintext": b"under a grant",
                                         "EncryptionContext": CONTEXT, "GrantTokens": [kept["token"]]},
         "CiphertextBlob EncryptionAlgorithm KeyId", "enclave"),
    Step("ListGrants", _key(), "Grants Truncated",
         holds=lambda kept, answer: [one["GrantId"] for one in answer["Grants"]] == [kept["grant"]]),
    Step("ListRetirableGrants",
         lambda face, _kept: {"RetiringPrincipal": face.credentials["publisher"]["arn"]},
         "Grants Truncated", "admin", holds=lambda _kept, answer: len(answer["Grants"]) == 1),
    Step("RetireGrant", lambda _face, kept: {"GrantToken": kept["token"]}),
    Step("CreateGrant", _grant, "GrantId GrantToken", keeps={"grant": "GrantId"}),
    Step("RevokeGrant", lambda _face, kept: {"KeyId": kept["key"], "GrantId": kept["grant"]}),
    Step("ListGrants", _key(), "Grants Truncated", holds=lambda _kept, answer: answer["Grants"] == []),
)  # fmt: skip
SECRETS = (
    Step("GenerateRandom", lambda _face, _kept: {"NumberOfBytes": 32}, "Plaintext", "admin",
         holds=lambda _kept, answer: len(answer["Plaintext"]) == 32),
    Step("GenerateRandom", lambda face, _kept: {"NumberOfBytes": 32, "Recipient": _recipient(face)},
         "CiphertextForRecipient", "admin", holds=lambda _kept, answer: len(_opened(answer)) == 32),
    Step("GenerateDataKey", _key(KeySpec="AES_256", EncryptionContext=CONTEXT),
         "CiphertextBlob KeyId KeyMaterialId Plaintext", keeps={"blob": "CiphertextBlob", "secret": "Plaintext"}),
    Step("GenerateDataKeyWithoutPlaintext", _key(NumberOfBytes=64, EncryptionContext=CONTEXT),
         "CiphertextBlob KeyId KeyMaterialId"),
    Step("GenerateDataKey", lambda face, kept: {"KeyId": kept["key"], "KeySpec": "AES_256",
                                                "Recipient": _recipient(face)},
         "CiphertextBlob CiphertextForRecipient KeyId", "enclave",
         holds=lambda _kept, answer: len(_opened(answer)) == 32),
    Step("Encrypt", _key(Plaintext=b"a lease blob", EncryptionContext=CONTEXT),
         "CiphertextBlob EncryptionAlgorithm KeyId", keeps={"lease": "CiphertextBlob"}),
    Step("RotateKeyOnDemand", _key(), "KeyId"),
    Step("GetKeyRotationStatus", _key(), "KeyId KeyRotationEnabled"),
    Step("ListKeyRotations", _key(IncludeKeyMaterial="ALL_KEY_MATERIAL"), "Rotations Truncated",
         holds=lambda _kept, answer: len(answer["Rotations"]) == 2),
    Step("Decrypt", lambda _face, kept: {"CiphertextBlob": kept["lease"], "EncryptionContext": CONTEXT},
         "EncryptionAlgorithm KeyId KeyMaterialId Plaintext",
         holds=lambda _kept, answer: answer["Plaintext"] == b"a lease blob"),
    Step("Decrypt", lambda face, kept: {"CiphertextBlob": kept["blob"], "EncryptionContext": CONTEXT,
                                        "KeyId": kept["key"], "Recipient": _recipient(face)},
         "CiphertextForRecipient EncryptionAlgorithm KeyId", "enclave",
         holds=lambda kept, answer: _opened(answer) == kept["secret"]),
    Step("ReEncrypt", lambda _face, kept: {"CiphertextBlob": kept["blob"], "SourceEncryptionContext": CONTEXT,
                                           "DestinationKeyId": kept["other key"],
                                           "DestinationEncryptionContext": OTHER_CONTEXT},
         "CiphertextBlob DestinationEncryptionAlgorithm DestinationKeyMaterialId KeyId SourceEncryptionAlgorithm "
         "SourceKeyId SourceKeyMaterialId", keeps={"moved": "CiphertextBlob"}),
    Step("Decrypt", lambda _face, kept: {"CiphertextBlob": kept["moved"], "EncryptionContext": OTHER_CONTEXT},
         "EncryptionAlgorithm KeyId KeyMaterialId Plaintext",
         holds=lambda kept, answer: answer["Plaintext"] == kept["secret"]),
)  # fmt: skip
_PUBLIC = "CustomerMasterKeySpec KeyId KeySpec KeyUsage PublicKey"
PAIRS = (
    Step("GenerateDataKeyPair", _key(KeyPairSpec="RSA_2048", EncryptionContext=CONTEXT),
         "KeyId KeyMaterialId KeyPairSpec PrivateKeyCiphertextBlob PrivateKeyPlaintext PublicKey",
         holds=lambda _kept, answer: _private_is_of(answer, answer["PrivateKeyPlaintext"]),
         keeps={"pair blob": "PrivateKeyCiphertextBlob", "private": "PrivateKeyPlaintext"}),
    Step("Decrypt", lambda _face, kept: {"CiphertextBlob": kept["pair blob"], "EncryptionContext": CONTEXT},
         "EncryptionAlgorithm KeyId KeyMaterialId Plaintext",
         holds=lambda kept, answer: answer["Plaintext"] == kept["private"]),
    Step("GenerateDataKeyPair", lambda face, kept: {"KeyId": kept["key"], "KeyPairSpec": "ECC_NIST_P384",
                                                    "Recipient": _recipient(face)},
         "CiphertextForRecipient KeyId KeyPairSpec PrivateKeyCiphertextBlob PublicKey", "enclave",
         holds=lambda _kept, answer: _private_is_of(answer, _opened(answer))),
    Step("GenerateDataKeyPairWithoutPlaintext", _key(KeyPairSpec="ECC_NIST_P256"),
         "KeyId KeyMaterialId KeyPairSpec PrivateKeyCiphertextBlob PublicKey"),
    Step("CreateKey", _new(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY"), "KeyMetadata", "admin",
         {"signer": "KeyMetadata.Arn"}),
    Step("GetPublicKey", _pair("signer"), f"{_PUBLIC} SigningAlgorithms", keeps={"verifying key": "PublicKey"}),
    Step("Sign", _pair("signer", Message=MESSAGE, SigningAlgorithm="ECDSA_SHA_256"),
         "KeyId Signature SigningAlgorithm", keeps={"signature": "Signature"}, holds=_verifies),
    Step("Verify", lambda _face, kept: {"KeyId": kept["signer"], "Message": MESSAGE, "Signature": kept["signature"],
                                        "SigningAlgorithm": "ECDSA_SHA_256"},
         "KeyId SignatureValid SigningAlgorithm", holds=lambda _kept, answer: answer["SignatureValid"]),
    Step("CreateKey", _new(KeySpec="ECC_NIST_P256", KeyUsage="KEY_AGREEMENT"), "KeyMetadata", "admin",
         {"agreer": "KeyMetadata.Arn"}),
    Step("GetPublicKey", _pair("agreer"), f"{_PUBLIC} KeyAgreementAlgorithms", keeps={"agreeing key": "PublicKey"}),
    Step("DeriveSharedSecret", _pair("agreer", KeyAgreementAlgorithm="ECDH", PublicKey=spki(PEER)),
         "KeyAgreementAlgorithm KeyId KeyOrigin SharedSecret",
         holds=lambda kept, answer: _agreed(kept, answer["SharedSecret"])),
    Step("DeriveSharedSecret", lambda face, kept: {"KeyId": kept["agreer"], "KeyAgreementAlgorithm": "ECDH",
                                                   "PublicKey": spki(PEER), "Recipient": _recipient(face)},
         "CiphertextForRecipient KeyAgreementAlgorithm KeyId KeyOrigin", "enclave",
         holds=lambda kept, answer: _agreed(kept, _opened(answer))),
    Step("CreateKey", _new(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT"), "KeyMetadata", "admin",
         {"rsa": "KeyMetadata.Arn"}),
    Step("GetPublicKey", _pair("rsa"), f"{_PUBLIC} EncryptionAlgorithms"),
    Step("Encrypt", _pair("rsa", Plaintext=b"small", EncryptionAlgorithm="RSAES_OAEP_SHA_256"),
         "CiphertextBlob EncryptionAlgorithm KeyId", keeps={"oaep": "CiphertextBlob"}),
    Step("Decrypt", lambda _face, kept: {"KeyId": kept["rsa"], "CiphertextBlob": kept["oaep"],
                                         "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"},
         "EncryptionAlgorithm KeyId Plaintext", holds=lambda _kept, answer: answer["Plaintext"] == b"small"),
)  # fmt: skip
IMPORT = (
    Step("CreateKey", _new(Origin="EXTERNAL"), "KeyMetadata", "admin", {"imported": "KeyMetadata.Arn"},
         lambda _kept, answer: answer["KeyMetadata"]["KeyState"] == "PendingImport"),
    Step("GetParametersForImport",
         _pair("imported", WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048"),
         "ImportToken KeyId ParametersValidTo PublicKey", "admin",
         {"import token": "ImportToken", "wrapping key": "PublicKey"}),
    Step("ImportKeyMaterial", lambda _face, kept: {"KeyId": kept["imported"], "ImportToken": kept["import token"],
                                                   "EncryptedKeyMaterial": wrap(kept["wrapping key"], MATERIAL),
                                                   "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"},
         "KeyId KeyMaterialId", "admin", {"material": "KeyMaterialId"}),
    Step("Encrypt", _pair("imported", Plaintext=b"byok"), "CiphertextBlob EncryptionAlgorithm KeyId"),
    Step("DeleteImportedKeyMaterial", _pair("imported"), "KeyId KeyMaterialId", "admin",
         holds=lambda kept, answer: answer["KeyMaterialId"] == kept["material"]),
    Step("DescribeKey", _pair("imported"), "KeyMetadata",
         holds=lambda _kept, answer: answer["KeyMetadata"]["KeyState"] == "PendingImport"),
)  # fmt: skip
END = (
    Step("ScheduleKeyDeletion", _key(PendingWindowInDays=7), "DeletionDate KeyId KeyState PendingWindowInDays"),
    Step("CancelKeyDeletion", _key(), "KeyId"),
)  # fmt: skip


def _store(**asked: object) -> Asks:
    return lambda _face, kept: {"CustomKeyStoreId": kept["store"]} | asked


STORES = (  # `kept` has `proxy`: an external key store proxy's address and credential
    Step("CreateCustomKeyStore", lambda _face, kept: kept["proxy"], "CustomKeyStoreId", "admin",
         {"store": "CustomKeyStoreId"}),
    Step("ConnectCustomKeyStore", _store(), "", "admin"),
    Step("DescribeCustomKeyStores", _store(), "CustomKeyStores Truncated", "admin",
         holds=lambda _kept, answer: answer["CustomKeyStores"][0]["ConnectionState"] == "CONNECTED"),
    Step("DisconnectCustomKeyStore", _store(), "", "admin"),
    Step("UpdateCustomKeyStore", _store(NewCustomKeyStoreName="renamed"), "", "admin"),
    Step("DescribeCustomKeyStores", _store(), "CustomKeyStores Truncated", "admin",
         holds=lambda _kept, answer: answer["CustomKeyStores"][0]["CustomKeyStoreName"] == "renamed"),
    Step("DeleteCustomKeyStore", _store(), "", "admin"),
)  # fmt: skip
SCRIPT = (*KEYS, *NAMES, *GRANTS, *SECRETS, *PAIRS, *IMPORT, *STORES, *END)
