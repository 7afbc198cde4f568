"""What a request says: required members, their forms, and what must not be refused."""

import base64
import json
from collections.abc import Callable
from typing import Any

from tests.authority.xks.conformance.proxy import (
    Answer,
    Proxy,
    decrypt_body,
    encrypt_body,
    expect,
    metadata_body,
    request_id,
    request_metadata,
)

_INVALID = "ValidationException"
_Change = Callable[[dict[str, Any]], object]


def _changed(body: dict[str, Any], change: _Change) -> dict[str, Any]:
    change(body)
    return body


def _not_invalid(answer: Answer) -> None:
    """Done, or not allowed: never a question of form."""
    if answer.status != 200:
        answer.fails("AccessDeniedException")


def every_required_member_is_required(proxy: Proxy) -> None:
    made = proxy.encrypt(proxy.keys.full).succeeds()
    needed = {
        "encrypt": ("requestMetadata", "plaintext", "encryptionAlgorithm"),
        "decrypt": (
            "requestMetadata",
            "ciphertext",
            "initializationVector",
            "authenticationTag",
            "encryptionAlgorithm",
        ),
        "metadata": ("requestMetadata",),
    }
    for operation, names in needed.items():
        for name in names:
            body = {"encrypt": encrypt_body(), "decrypt": decrypt_body(made), "metadata": metadata_body()}[operation]
            del body[name]
            proxy.call(proxy.keys.full, operation, body).fails(_INVALID)


def request_metadata_is_required_whole(proxy: Proxy) -> None:
    for name in ("awsPrincipalArn", "kmsKeyArn", "kmsOperation", "kmsRequestId"):
        body = encrypt_body()
        del body["requestMetadata"][name]
        proxy.call(proxy.keys.full, "encrypt", body).fails(_INVALID)
    for name in ("awsPrincipalArn", "kmsOperation", "kmsRequestId"):
        body = metadata_body()
        del body["requestMetadata"][name]
        proxy.call(proxy.keys.full, "metadata", body).fails(_INVALID)


def a_body_that_is_no_json_object_is_invalid(proxy: Proxy) -> None:
    path = proxy.path(proxy.keys.full, "encrypt")
    for raw in (b"", b"{", b"[]", b"\xff", b'"text"'):
        proxy.send(path, raw).fails(_INVALID)


def what_is_not_base64_is_invalid(proxy: Proxy) -> None:
    for name in ("plaintext", "additionalAuthenticatedData"):
        proxy.call(proxy.keys.full, "encrypt", encrypt_body() | {name: "no base64!"}).fails(_INVALID)
    made = proxy.encrypt(proxy.keys.full).succeeds()
    for name in ("ciphertext", "initializationVector", "authenticationTag", "ciphertextMetadata"):
        proxy.call(proxy.keys.full, "decrypt", decrypt_body(made) | {name: "no base64!"}).fails(_INVALID)


def other_algorithms_are_invalid(proxy: Proxy) -> None:
    proxy.encrypt(proxy.keys.full, encryptionAlgorithm="AES_CBC").fails(_INVALID)
    proxy.encrypt(proxy.keys.full, ciphertextDataIntegrityValueAlgorithm="MD5").fails(_INVALID)
    made = proxy.encrypt(proxy.keys.full).succeeds()
    proxy.decrypt(proxy.keys.full, made, encryptionAlgorithm="AES_CBC").fails(_INVALID)


def vectors_and_tags_of_other_lengths_are_invalid(proxy: Proxy) -> None:
    made = proxy.encrypt(proxy.keys.full).succeeds()
    for name, length in (("initializationVector", 8), ("authenticationTag", 12)):
        short: dict[str, Any] = {name: base64.b64encode(bytes(length)).decode()}
        proxy.decrypt(proxy.keys.full, made, **short).fails(_INVALID, "InvalidCiphertextException")


def an_unknown_operation_of_kms_is_never_invalid(proxy: Proxy) -> None:
    body = encrypt_body() | {"requestMetadata": request_metadata("OperationOfTheYear2040")}
    _not_invalid(proxy.call(proxy.keys.full, "encrypt", body))


def a_request_id_may_have_any_form(proxy: Proxy) -> None:
    for text in ("x", "not a uuid: " + request_id(), "é"):
        body = encrypt_body() | {"requestMetadata": request_metadata("Encrypt", kmsRequestId=text)}
        proxy.call(proxy.keys.full, "encrypt", body).succeeds()


def members_of_later_versions_are_ignored(proxy: Proxy) -> None:
    meta = request_metadata("Encrypt", fieldOfTheYear2040="x")
    body = encrypt_body() | {"requestMetadata": meta, "anotherOne": {"deep": [1]}}
    proxy.call(proxy.keys.full, "encrypt", body).succeeds()


def optional_metadata_is_taken(proxy: Proxy) -> None:
    optional = {"awsSourceVpc": "vpc-1a2b3c", "awsSourceVpce": "vpce-1a2b3c", "kmsViaService": "ebs"}
    body = encrypt_body() | {"requestMetadata": request_metadata("Encrypt", **optional)}
    _not_invalid(proxy.call(proxy.keys.full, "encrypt", body))


def attestation_fields_of_appendix_b_are_taken(proxy: Proxy) -> None:
    told: dict[str, object] = {f"kmsRecipientAttestationPCR{index}": "ab" * 48 for index in range(17)}
    told["kmsRecipientAttestationImageSha384"] = "ab" * 48
    body = encrypt_body() | {"requestMetadata": request_metadata("Encrypt", **told)}
    _not_invalid(proxy.call(proxy.keys.full, "encrypt", body))


def names_of_2048_characters_are_taken(proxy: Proxy) -> None:
    arn = "arn:aws:iam::123456789012:user/"
    meta = request_metadata("Encrypt", awsPrincipalArn=arn + "a" * (2_048 - len(arn)))
    _not_invalid(proxy.call(proxy.keys.full, "encrypt", encrypt_body() | {"requestMetadata": meta}))


def the_key_of_kms_is_not_needed_for_metadata(proxy: Proxy) -> None:
    expect("kmsKeyArn" not in metadata_body()["requestMetadata"], "the suite's own body")
    proxy.metadata(proxy.keys.full).succeeds()


def no_answer_repeats_a_plaintext_it_refuses(proxy: Proxy) -> None:
    word = b"a-plaintext-that-nobody-may-log"
    answer = proxy.encrypt(proxy.keys.impotent, word)
    shown = json.dumps(answer.body)
    expect(answer.status != 200, "an impotent key encrypts")
    both = (word.decode(), base64.b64encode(word).decode())
    expect(not any(one in shown for one in both), "a refusal repeats the plaintext")
