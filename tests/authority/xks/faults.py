"""For each clause of the suite, a way to break it. A clause that no fault breaks would prove nothing."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.authority.xks.conformance.proxy import ERRORS, KMS_KEY, flipped
from tests.authority.xks.middleman import Answer, Fault, Middleman, Seen, answer


def _resigning() -> Fault:
    """A proxy that checks no signature."""
    return Fault(before=lambda seen, man: man.resign(seen))


def _changed(operation: str, change: Callable[[Seen, dict[str, Any]], Mapping[str, Any]]) -> Fault:
    """A proxy whose successful answers to one operation say something else."""

    def after(seen: Seen, good: Answer) -> Answer:
        if good[0] != 200 or seen.operation != operation:
            return good
        return answer(200, change(seen, json.loads(good[2])))

    return Fault(after=after)


def _instead(name: str, other: Answer) -> Fault:
    """A proxy that answers otherwise where it should answer with an error."""

    def after(seen: Seen, good: Answer) -> Answer:
        return other if good[0] != 200 and json.loads(good[2] or b"{}").get("errorName") == name else good

    return Fault(after=after)


def _error(name: str, message: str = "no") -> Answer:
    return answer(ERRORS[name], {"errorName": name, "errorMessage": message})


def _refusing(when: Callable[[Seen], bool], name: str = "ValidationException") -> Fault:
    return Fault(before=lambda seen, man: _error(name) if when(seen) else None)


def _edited(change: Callable[[dict[str, Any]], None]) -> Fault:
    """A proxy that reads requests otherwise than they are."""

    def before(seen: Seen, man: Middleman) -> None:
        members = seen.members
        if members:
            change(members)
            seen.body = json.dumps(members).encode()
            man.resign(seen)

    return Fault(before=before)


def _filled(body: dict[str, Any]) -> None:
    """Puts in what is missing and what is wrong, so that nothing is invalid."""
    meta = body.setdefault("requestMetadata", {})
    for name, value in (
        ("awsPrincipalArn", "arn:x"),
        ("kmsOperation", "Encrypt"),
        ("kmsRequestId", "r"),
        ("kmsKeyArn", KMS_KEY),
    ):
        meta.setdefault(name, value)
    body["encryptionAlgorithm"] = "AES_GCM"
    body.setdefault("plaintext", "YQ==")
    if "ciphertextDataIntegrityValueAlgorithm" in body:
        body["ciphertextDataIntegrityValueAlgorithm"] = "SHA_256"


def _without_aad(body: dict[str, Any]) -> None:
    body.pop("additionalAuthenticatedData", None)


def _meta(seen: Seen) -> dict[str, Any]:
    meta = seen.members.get("requestMetadata")
    return meta if isinstance(meta, dict) else {}


def _repeated() -> Fault:
    """A proxy whose encryptions are all the first one."""
    kept: list[Answer] = []

    def after(seen: Seen, good: Answer) -> Answer:
        if seen.operation == "encrypt" and good[0] == 200:
            kept.append(good)
            return kept[0]
        return good

    return Fault(after=after)


def _integrity_of_less(seen: Seen, body: dict[str, Any]) -> Mapping[str, Any]:
    if "ciphertextDataIntegrityValue" in body:
        body["ciphertextDataIntegrityValue"] = flipped(body["ciphertextDataIntegrityValue"])
    return body


def _lenient_get() -> Fault:
    return Fault(before=lambda seen, man: answer(200) if seen.method != "POST" else None)


def _telling() -> Fault:
    """A proxy that looks for the key before it looks at who asks."""
    return _refusing(lambda seen: seen.key == "no-such-key", "KeyNotFoundException")


def _repeating(seen: Seen, good: Answer) -> Answer:
    if good[0] == 200:
        return good
    body = json.loads(good[2])
    return answer(good[0], body | {"errorMessage": f"cannot encrypt {seen.members.get('plaintext', '')}"})


def _rid_is_odd(seen: Seen) -> bool:
    return not str(_meta(seen).get("kmsRequestId", "")).startswith("conformance-")


def _any_prefix(seen: Seen, man: Middleman) -> Answer | None:
    return answer(200) if "/wrong/" in seen.path or "/v2/" in seen.path else None


_OPENED = answer(200, {"plaintext": base64.b64encode(b"secret").decode()})
_WRONG_PLAINTEXT = _changed("decrypt", lambda seen, body: {"plaintext": flipped(body["plaintext"])})
_UNAUTHENTICATED = "AuthenticationFailedException"
FAULTS: dict[str, Fault] = {
    "what is encrypted is decrypted": _WRONG_PLAINTEXT,
    "additional data may be left out": _refusing(lambda seen: "additionalAuthenticatedData" not in seen.members),
    "the parts have the lengths of the specification": _changed(
        "encrypt", lambda seen, body: body | {"ciphertextMetadata": base64.b64encode(bytes(21)).decode()}
    ),
    "the largest sizes are taken": _refusing(lambda seen: len(seen.body) > 16_000),
    "no two encryptions are alike": _repeated(),
    "other additional data does not open": _edited(_without_aad),
    "a changed ciphertext does not open": _instead("InvalidCiphertextException", _OPENED),
    "changed metadata does not open": _instead("InvalidCiphertextException", _OPENED),
    "the integrity value is over all parts": _changed("encrypt", _integrity_of_less),
    "an integrity value is given only where asked": _changed(
        "encrypt", lambda seen, body: body | {"ciphertextDataIntegrityValue": "YQ=="}
    ),
    "an encrypt only key encrypts and does not decrypt": _instead("InvalidKeyUsageException", _OPENED),
    "an encrypt only key gives no integrity value": _instead("InvalidKeyUsageException", answer(200)),
    "a decrypt only key does not encrypt": _instead("InvalidKeyUsageException", answer(200)),
    "an impotent key does neither": _instead("InvalidKeyUsageException", answer(200)),
    "metadata says what a key is for": _changed(
        "metadata", lambda seen, body: body | {"keyUsage": ["ENCRYPT", "DECRYPT"]}
    ),
    "a disabled key says so and is not used": _instead("InvalidStateException", answer(200)),
    "one keys ciphertext is not anothers": _instead("InvalidCiphertextException", _OPENED),
    "health lists the key managers": _changed("health", lambda seen, body: body | {"ekmFleetDetails": []}),
    "a wrong secret is 401": _resigning(),
    "a wrong id is 401": _instead(_UNAUTHENTICATED, _error("ValidationException")),
    "a request without a signature is 401": _resigning(),
    "another services signature is 401": _resigning(),
    "another regions signature is 401": _resigning(),
    "a signature over another body is 401": Fault(
        before=lambda seen, man: man.resign(seen) if b"AES_GCN" in seen.body else None
    ),
    "a signature over another path is 401": _resigning(),
    "host and date must be signed": _resigning(),
    "four minutes either way are taken": _refusing(lambda seen: True, _UNAUTHENTICATED),
    "over five minutes ago is 401": _resigning(),
    "over five minutes ahead is 401": _resigning(),
    "metadata and health are authenticated too": Fault(
        before=lambda seen, man: man.resign(seen) if seen.operation == "health" else None
    ),
    "who is not let in does not learn which keys exist": _telling(),
    "a request is accepted once": _resigning(),
    "every required member is required": _edited(_filled),
    "request metadata is required whole": _edited(_filled),
    "a body that is no json object is invalid": _instead("ValidationException", _error("InternalException")),
    "what is not base64 is invalid": _instead("ValidationException", _error("InternalException")),
    "other algorithms are invalid": _edited(_filled),
    "vectors and tags of other lengths are invalid": _instead("ValidationException", _OPENED),
    "an unknown operation of kms is never invalid": _refusing(
        lambda seen: _meta(seen).get("kmsOperation", "Encrypt") not in ("Encrypt", "Decrypt")
    ),
    "a request id may have any form": _refusing(_rid_is_odd),
    "members of later versions are ignored": _refusing(lambda seen: "anotherOne" in seen.members),
    "optional metadata is taken": _refusing(lambda seen: "kmsViaService" in _meta(seen)),
    "attestation fields of appendix b are taken": _refusing(
        lambda seen: any(name.startswith("kmsRecipient") for name in _meta(seen))
    ),
    "names of 2048 characters are taken": _refusing(lambda seen: len(_meta(seen).get("awsPrincipalArn", "")) > 1_024),
    "the key of kms is not needed for metadata": _refusing(lambda seen: "kmsKeyArn" not in _meta(seen)),
    "no answer repeats a plaintext it refuses": Fault(after=_repeating),
    "get is 405": _lenient_get(),
    "an unknown key is 404": _instead("KeyNotFoundException", _error("ValidationException")),
    "an unknown path is 404": Fault(before=_any_prefix),
    "an id of 128 characters is an id": _refusing(lambda seen: len(seen.key) > 64, "InvalidUriPathException"),
    "an id of 129 characters is none": Fault(before=lambda seen, man: answer(200) if len(seen.key) > 128 else None),
    "a connection serves more than one request": Fault(closes=True),
}
"""By the clause's name. The two clauses about TLS are broken by a server that does not keep them, not by a proxy."""
