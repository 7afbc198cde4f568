"""The seventh way round: material that somebody kept opens the share elsewhere; the generated policy closes it."""

import base64
import json

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.keystore import Choice, init_keystore
from anchorhold.authority.kms import blob as blobs
from anchorhold.authority.kms.key import Material, MaterialState

from .asking import refuses
from .conftest import CONTEXT, Kms, allow, policy
from .test_importing import MATERIAL, NEVER, asked, bring, parameters
from .test_ways_round import generated


def external(kms: Kms) -> str:
    text = policy(kms, allow(kms, "admin", "kms:*"))
    return str(kms.call("admin", "CreateKey", Policy=text, Origin="EXTERNAL")["KeyMetadata"]["Arn"])


def test_who_kept_the_material_opens_a_sealed_share_without_this_kms(kms: Kms) -> None:
    arn = external(kms)
    bring(kms, arn)
    kms.call("admin", "PutKeyPolicy", KeyId=arn, Policy=generated(kms, sealing=True))
    made = kms.call("publisher", "GenerateDataKey", KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)
    for name in ("publisher", "admin"):
        answer = {"KeyId": arn, "CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": CONTEXT}
        refuses(kms, "AccessDeniedException", name, "Decrypt", **answer)
    # No policy binds a copy: the bytes in another keystore, and the blob opens there.
    elsewhere = kms.folder.with_name("elsewhere")
    elsewhere.mkdir()
    kept = init_keystore(elsewhere, Choice())
    kept.import_key("kept", MATERIAL)
    material = Material(arn.rpartition("/")[2], 1, "", "kept", MaterialState.CURRENT, Milliseconds(kms.now))
    blob = base64.b64decode(made["CiphertextBlob"])
    assert blobs.open_blob(kept, material, CONTEXT, blob) == base64.b64decode(made["Plaintext"])


def test_under_the_generated_policy_nobody_imports_and_what_waits_cannot_be_sealed_under(kms: Kms) -> None:
    arn = external(kms)
    got = parameters(kms, arn)
    kms.call("admin", "PutKeyPolicy", KeyId=arn, Policy=generated(kms, sealing=True))
    for name in ("admin", "publisher", "enclave"):
        ask = {"KeyId": arn, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
        refuses(kms, "AccessDeniedException", name, "GetParametersForImport", **ask)
        sent = asked(kms, arn, got=got) | NEVER
        refuses(kms, "AccessDeniedException", name, "ImportKeyMaterial", **sent)
    make = {"KeyId": arn, "KeySpec": "AES_256", "EncryptionContext": CONTEXT}
    refuses(kms, "KMSInvalidStateException", "publisher", "GenerateDataKey", **make)


def test_a_key_policy_can_ask_for_the_origin_of_its_key(kms: Kms) -> None:
    """`kms:KeyOrigin`: a publisher who seals under no imported key is refused one."""
    only = {"StringEquals": {"kms:KeyOrigin": "AWS_KMS"}}
    mine = allow(kms, "publisher", "kms:GenerateDataKey") | {"Condition": only}
    text = json.dumps({"Statement": [allow(kms, "admin", "kms:*"), mine]})
    keys = {}
    for origin in ("AWS_KMS", "EXTERNAL"):
        made = kms.call("admin", "CreateKey", Policy=text, Origin=origin)
        keys[origin] = made["KeyMetadata"]["Arn"]
    bring(kms, keys["EXTERNAL"])
    make = {"KeySpec": "AES_256"}
    assert kms.call("publisher", "GenerateDataKey", KeyId=keys["AWS_KMS"], **make)
    refuses(kms, "AccessDeniedException", "publisher", "GenerateDataKey", KeyId=keys["EXTERNAL"], **make)
