"""Key material that was made elsewhere: wrapped, imported, expired, deleted, imported again, and what is refused."""

import base64
import secrets
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import load_der_public_key
from tests.authority.hsm import token_for_tests

from anchorhold.authority.keystore import Choice, FullKeystore, Kind, open_keystore
from anchorhold.authority.kms.app import DATABASE
from anchorhold.authority.kms.state import State

from .asking import b64, refuses
from .conftest import CONTEXT, Kms, allow, policy, refused

MATERIAL, OTHER = bytes(range(32)), bytes(range(32, 64))
HOUR, DAY = 3_600_000, 86_400_000
NEVER: dict[str, Any] = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
ALGORITHMS = ("RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256", "RSA_AES_KEY_WRAP_SHA_1")


def new(kms: Kms, **more: object) -> str:
    text = policy(kms, allow(kms, "admin", "kms:*"), allow(kms, "publisher", "kms:*"))
    made = kms.call("admin", "CreateKey", Policy=text, **({"Origin": "EXTERNAL"} | more))
    return str(made["KeyMetadata"]["Arn"])


def wrap(public_key: str, material: bytes, algorithm: str) -> bytes:
    """What AWS's manual has a caller do, by `cryptography`."""
    public = load_der_public_key(base64.b64decode(public_key))
    assert isinstance(public, rsa.RSAPublicKey)
    function = hashes.SHA1() if algorithm.endswith("_SHA_1") else hashes.SHA256()
    oaep = padding.OAEP(padding.MGF1(function), function, None)
    if algorithm.startswith("RSAES_OAEP"):
        return public.encrypt(material, oaep)
    aes = secrets.token_bytes(32)
    return public.encrypt(aes, oaep) + aes_key_wrap_with_padding(aes, material)


def parameters(kms: Kms, arn: str, algorithm: str = ALGORITHMS[0]) -> dict[str, Any]:
    asked = {"WrappingAlgorithm": algorithm, "WrappingKeySpec": "RSA_2048"}
    return kms.call("admin", "GetParametersForImport", KeyId=arn, **asked)


def bring(kms: Kms, arn: str, material: bytes = MATERIAL, *, got: dict[str, Any] | None = None, **more: object) -> str:
    """Imports, and answers the id of the material."""
    answer = kms.call("admin", "ImportKeyMaterial", **asked(kms, arn, material, got), **(more or NEVER))
    return str(answer["KeyMaterialId"])


def asked(kms: Kms, arn: str, material: bytes = MATERIAL, got: dict[str, Any] | None = None) -> dict[str, Any]:
    got = got or parameters(kms, arn)
    wrapped = wrap(got["PublicKey"], material, ALGORITHMS[0])
    return {"KeyId": arn, "ImportToken": got["ImportToken"], "EncryptedKeyMaterial": b64(wrapped)}


def state(kms: Kms, arn: str) -> str:
    return str(kms.call("admin", "DescribeKey", KeyId=arn)["KeyMetadata"]["KeyState"])


def sealed(kms: Kms, arn: str) -> str:
    blob = kms.call("publisher", "Encrypt", KeyId=arn, Plaintext=b64(b"share"), EncryptionContext=CONTEXT)
    return str(blob["CiphertextBlob"])


def opened(kms: Kms, blob: str) -> bytes:
    answer = kms.call("publisher", "Decrypt", CiphertextBlob=blob, EncryptionContext=CONTEXT)
    return base64.b64decode(answer["Plaintext"])


def store(kms: Kms) -> FullKeystore:
    return open_keystore(kms.folder)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_waits_for_its_material_and_works_with_it(kms: Kms, algorithm: str) -> None:
    arn = new(kms)
    assert state(kms, arn) == "PendingImport"
    refused("KMSInvalidStateException", lambda: sealed(kms, arn))
    got = parameters(kms, arn, algorithm)
    assert got["ParametersValidTo"] == (kms.now + DAY) / 1000
    wrapped = b64(wrap(got["PublicKey"], MATERIAL, algorithm))
    sent = {"KeyId": arn, "ImportToken": got["ImportToken"], "EncryptedKeyMaterial": wrapped}
    kms.call("admin", "ImportKeyMaterial", **sent, **NEVER)
    assert state(kms, arn) == "Enabled"
    assert opened(kms, sealed(kms, arn)) == b"share"


@pytest.mark.slow
@pytest.mark.parametrize("two_steps", [False, True])
def test_what_openssl_wraps_is_imported(kms: Kms, tmp_path: Path, two_steps: bool) -> None:
    """By the commands of AWS's manual: pkeyutl for OAEP, enc -id-aes256-wrap-pad for RFC 5649."""
    arn = new(kms)
    got = parameters(kms, arn, ALGORITHMS[2] if two_steps else ALGORITHMS[0])
    (tmp_path / "public.der").write_bytes(base64.b64decode(got["PublicKey"]))
    oaep = "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256"
    pkeyutl = f"openssl pkeyutl -encrypt -pubin -inkey public.der -keyform DER {oaep}"

    def run(command: str, given: bytes) -> bytes:
        return subprocess.run(command.split(), input=given, capture_output=True, check=True, cwd=tmp_path).stdout

    if two_steps:
        aes = secrets.token_bytes(32)
        wrapped = run(pkeyutl, aes)
        wrapped += run(f"openssl enc -id-aes256-wrap-pad -iv A65959A6 -K {aes.hex()}", MATERIAL)
    else:
        wrapped = run(pkeyutl, MATERIAL)
    sent = {"KeyId": arn, "ImportToken": got["ImportToken"], "EncryptedKeyMaterial": b64(wrapped)}
    assert kms.call("admin", "ImportKeyMaterial", **sent, **NEVER)["KeyMaterialId"] == bring(kms, arn, MATERIAL)


def test_deleted_material_takes_its_ciphertext_along_until_the_same_bytes_come_back(kms: Kms) -> None:
    arn = new(kms)
    identifier = bring(kms, arn)
    blob = sealed(kms, arn)
    assert kms.call("admin", "DeleteImportedKeyMaterial", KeyId=arn)["KeyMaterialId"] == identifier
    assert state(kms, arn) == "PendingImport"
    assert not store(kms).has(f"{arn.rpartition('/')[2]}/1")
    refused("KMSInvalidStateException", lambda: opened(kms, blob))
    kms.call("admin", "DeleteImportedKeyMaterial", KeyId=arn)  # no effect
    refused("IncorrectKeyMaterialException", lambda: bring(kms, arn, OTHER))
    assert bring(kms, arn) == identifier
    assert opened(kms, blob) == b"share"


@pytest.mark.slow
def test_new_material_waits_for_its_rotation_and_the_old_goes_on_opening(kms: Kms) -> None:
    arn = new(kms)
    first = bring(kms, arn)
    old = sealed(kms, arn)
    refuses(kms, "KMSInvalidStateException", "admin", "RotateKeyOnDemand", KeyId=arn)
    fresh: dict[str, Any] = {**NEVER, "ImportType": "NEW_KEY_MATERIAL", "KeyMaterialDescription": "second"}
    refused("IncorrectKeyMaterialException", lambda: bring(kms, arn, MATERIAL, **fresh))
    second = bring(kms, arn, OTHER, **fresh)
    refused("KMSInvalidStateException", lambda: bring(kms, arn, bytes(32), **fresh))
    described = kms.call("admin", "DescribeKey", KeyId=arn)["KeyMetadata"]
    assert described["CurrentKeyMaterialId"] == first
    kms.call("admin", "RotateKeyOnDemand", KeyId=arn)
    rotations = kms.call("admin", "ListKeyRotations", KeyId=arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    states = {one["KeyMaterialId"]: (one["KeyMaterialState"], one["ImportState"]) for one in rotations}
    assert states == {first: ("NON_CURRENT", "IMPORTED"), second: ("CURRENT", "IMPORTED")}
    recent = sealed(kms, arn)
    assert opened(kms, old) == opened(kms, recent) == b"share"
    kms.call("admin", "DeleteImportedKeyMaterial", KeyId=arn, KeyMaterialId=first)
    assert state(kms, arn) == "PendingImport"  # until all its material is there
    refused("KMSInvalidStateException", lambda: opened(kms, recent))
    bring(kms, arn, MATERIAL, **NEVER, ImportType="EXISTING_KEY_MATERIAL", KeyMaterialId=first)
    assert opened(kms, old) == opened(kms, recent) == b"share"


def test_material_that_waits_for_rotation_can_go_without_the_key(kms: Kms) -> None:
    arn = new(kms)
    bring(kms, arn)
    second = bring(kms, arn, OTHER, **NEVER, ImportType="NEW_KEY_MATERIAL")
    kms.call("admin", "DeleteImportedKeyMaterial", KeyId=arn, KeyMaterialId=second)
    assert state(kms, arn) == "Enabled"
    refuses(kms, "KMSInvalidStateException", "admin", "RotateKeyOnDemand", KeyId=arn)
    missing = {"KeyId": arn, "KeyMaterialId": "0" * 64}
    refuses(kms, "NotFoundException", "admin", "DeleteImportedKeyMaterial", **missing)


def test_expired_material_is_destroyed_at_its_time_and_journaled(kms: Kms) -> None:
    arn = new(kms)
    expires = kms.now + HOUR
    bring(kms, arn, ValidTo=expires / 1000)
    blob, key_id = sealed(kms, arn), arn.rpartition("/")[2]
    described = kms.call("admin", "DescribeKey", KeyId=arn)["KeyMetadata"]
    assert (described["ExpirationModel"], described["ValidTo"]) == ("KEY_MATERIAL_EXPIRES", expires / 1000)
    kms.now = expires - 1
    assert opened(kms, blob) == b"share"
    kms.now = expires
    refused("KMSInvalidStateException", lambda: opened(kms, blob))
    assert not store(kms).has(f"{key_id}/1")
    described = kms.call("admin", "DescribeKey", KeyId=arn)["KeyMetadata"]
    assert described["KeyState"] == "PendingImport"
    assert "ValidTo" not in described
    (gone,) = (event for event in kms.events() if event["eventName"] == "DeleteExpiredKeyMaterial")
    assert gone["resources"][0]["ARN"] == arn
    bring(kms, arn)
    assert opened(kms, blob) == b"share"


def test_material_expires_when_nobody_names_its_key(kms: Kms) -> None:
    arn = new(kms)
    bring(kms, arn, ValidTo=(kms.now + HOUR) / 1000)
    kms.now += HOUR
    kms.call("admin", "ListKeys")
    assert not store(kms).has(f"{arn.rpartition('/')[2]}/1")


def test_an_import_undoes_no_revocation(kms: Kms) -> None:
    arn = new(kms)
    bring(kms, arn)
    kms.call("admin", "DisableKey", KeyId=arn)
    bring(kms, arn)
    assert state(kms, arn) == "Disabled"
    kms.call("admin", "DeleteImportedKeyMaterial", KeyId=arn)
    bring(kms, arn)
    assert state(kms, arn) == "Disabled"
    refused("DisabledException", lambda: sealed(kms, arn))
    kms.call("admin", "DeleteImportedKeyMaterial", KeyId=arn)
    kms.call("admin", "EnableKey", KeyId=arn)
    assert state(kms, arn) == "PendingImport"


def test_the_time_of_an_import_s_end_is_one_that_can_be_kept(kms: Kms) -> None:
    arn = new(kms)
    sent = asked(kms, arn)
    for wrong in (
        {},
        {"ExpirationModel": "KEY_MATERIAL_EXPIRES"},
        {**NEVER, "ValidTo": (kms.now + HOUR) / 1000},
        {"ValidTo": kms.now / 1000},
        {"ValidTo": (kms.now + 366 * DAY) / 1000},
    ):
        refuses(kms, "ValidationException", "admin", "ImportKeyMaterial", **sent, **wrong)
    for odd in (True, "2027-01-01"):
        refuses(kms, "SerializationException", "admin", "ImportKeyMaterial", **sent, ValidTo=odd)
    assert state(kms, arn) == "PendingImport"


@pytest.mark.slow
def test_a_token_is_for_its_key_for_a_day_and_the_latest_eight_count(kms: Kms) -> None:
    arn, other = new(kms), new(kms)
    got = parameters(kms, arn)
    for_other = asked(kms, arn, got=got) | {"KeyId": other}
    refuses(kms, "InvalidImportTokenException", "admin", "ImportKeyMaterial", **for_other, **NEVER)
    changed = asked(kms, arn, got=got) | {"ImportToken": b64(bytes(32))}
    refuses(kms, "InvalidImportTokenException", "admin", "ImportKeyMaterial", **changed, **NEVER)
    swapped = got | {"ImportToken": parameters(kms, arn)["ImportToken"]}
    refused("InvalidCiphertextException", lambda: bring(kms, arn, got=swapped))
    kms.now += DAY
    bring(kms, arn, got=got)
    bring(kms, arn, got=got)  # as often as one likes, for a day
    kms.now += 1
    refused("ExpiredImportTokenException", lambda: bring(kms, arn, got=got))
    first = parameters(kms, arn)
    for _ in range(7):
        kms.now += 1
        parameters(kms, arn)
    bring(kms, arn, got=first)
    parameters(kms, arn)
    refused("ExpiredImportTokenException", lambda: bring(kms, arn, got=first))
    kms.now += 9 * DAY
    parameters(kms, other)
    refused("InvalidImportTokenException", lambda: bring(kms, arn, got=first))


def test_wrapping_keys_are_destroyed_with_their_time_and_with_their_key(kms: Kms) -> None:
    arn, other = new(kms), new(kms)

    def held() -> list[bool]:
        return [store(kms).has(handle) for handle in handles]

    for key in (arn, other):
        parameters(kms, key)
    loaded = State.load(kms.folder / DATABASE)
    with loaded.transaction() as transaction:
        handles = [transaction.imports.of(key.rpartition("/")[2])[0].handle for key in (arn, other)]
    loaded.close()
    assert held() == [True, True]
    kms.call("admin", "ScheduleKeyDeletion", KeyId=other, PendingWindowInDays=7)
    refused("KMSInvalidStateException", lambda: parameters(kms, other))
    kms.now += 7 * DAY
    kms.call("admin", "ListKeys")
    assert held() == [True, False]
    parameters(kms, arn)
    assert held() == [False, False]


@pytest.mark.slow
def test_what_is_wrapped_wrongly_is_refused_without_a_word_more(kms: Kms) -> None:
    arn = new(kms)
    for algorithm in (ALGORITHMS[0], ALGORITHMS[2]):
        got = parameters(kms, arn, algorithm)
        right = wrap(got["PublicKey"], MATERIAL, algorithm)
        for wrong in (
            right[:-1],
            right + b"\0",
            right[:-1] + bytes([right[-1] ^ 1]),
            bytes([right[0] ^ 1]) + right[1:],
            wrap(got["PublicKey"], MATERIAL, ALGORITHMS[1]),
            b"wrapped",
        ):
            sent = {"KeyId": arn, "ImportToken": got["ImportToken"], "EncryptedKeyMaterial": b64(wrong)}
            fault = refuses(kms, "InvalidCiphertextException", "admin", "ImportKeyMaterial", **sent, **NEVER)
            assert fault.message == ""
    for size in (16, 31, 33):
        refused("IncorrectKeyMaterialException", partial(bring, kms, arn, bytes(size)))
    assert state(kms, arn) == "PendingImport"


@pytest.mark.slow
def test_only_a_key_of_external_origin_is_imported_into(kms: Kms) -> None:
    arn, external = new(kms, Origin="AWS_KMS"), new(kms)
    refused("UnsupportedOperationException", lambda: parameters(kms, arn))
    refuses(kms, "UnsupportedOperationException", "admin", "DeleteImportedKeyMaterial", KeyId=arn)
    moved = asked(kms, external) | {"KeyId": arn}
    refuses(kms, "UnsupportedOperationException", "admin", "ImportKeyMaterial", **moved, **NEVER)
    refuses(kms, "AccessDeniedException", "enclave", "ImportKeyMaterial", **asked(kms, external), **NEVER)
    old = {"KeyId": external, "WrappingAlgorithm": "RSAES_PKCS1_V1_5", "WrappingKeySpec": "RSA_2048"}
    refuses(kms, "UnsupportedOperationException", "admin", "GetParametersForImport", **old)
    both: dict[str, Any] = {**NEVER, "ImportType": "NEW_KEY_MATERIAL", "KeyMaterialId": "0" * 64}
    refused("ValidationException", lambda: bring(kms, external, **both))
    named: dict[str, Any] = {**NEVER, "KeyMaterialId": "0" * 64}
    bring(kms, external)
    refused("IncorrectKeyMaterialException", lambda: bring(kms, external, **named))


def test_what_a_lost_transaction_left_behind_is_not_taken_for_what_is_imported(kms: Kms) -> None:
    """The keystore is not part of the transaction: a crash between both leaves bytes that no row knows of."""
    arn = new(kms)
    handle = f"{arn.rpartition('/')[2]}/1"

    store(kms).import_key(handle, OTHER)
    first = bring(kms, arn)
    blob = sealed(kms, arn)
    for dirty in (False, True):
        kms.call("admin", "DeleteImportedKeyMaterial", KeyId=arn)
        if dirty:
            store(kms).import_key(handle, OTHER)
        assert bring(kms, arn) == first
        assert opened(kms, blob) == b"share"
    assert bring(kms, new(kms)) != first  # the id is of the key and the bytes


def test_neither_journal_nor_database_holds_material_or_token(kms: Kms) -> None:
    arn = new(kms)
    got = parameters(kms, arn)
    bring(kms, arn, got=got)
    kept = b"".join(path.read_bytes() for path in kms.folder.iterdir() if path.is_file())
    for secret in (MATERIAL, base64.b64decode(got["ImportToken"])):
        assert secret not in kept
        assert secret.hex().encode() not in kept
        assert base64.b64encode(secret) not in kept


@pytest.mark.slow
def test_material_is_imported_into_a_token_too(kms: Kms) -> None:
    hsm = token_for_tests()
    choice = Choice(Kind.PKCS11, module=hsm.module, token=hsm.label, pin_file=hsm.pin_file)
    kms = Kms(kms.folder.with_name("token"), kms.pki, kms.now, choice)
    arn = new(kms)
    algorithm = "RSA_AES_KEY_WRAP_SHA_1"  # SoftHSM has no other OAEP
    got = parameters(kms, arn, algorithm)
    wrapped = b64(wrap(got["PublicKey"], MATERIAL, algorithm))
    sent = {"KeyId": arn, "ImportToken": got["ImportToken"], "EncryptedKeyMaterial": wrapped}
    kms.call("admin", "ImportKeyMaterial", **sent, **NEVER)
    blob = sealed(kms, arn)
    kms.call("admin", "DeleteImportedKeyMaterial", KeyId=arn)
    refused("KMSInvalidStateException", lambda: opened(kms, blob))
    kms.call("admin", "ImportKeyMaterial", **sent, **NEVER)
    assert opened(kms, blob) == b"share"
