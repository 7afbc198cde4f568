"""Opens a KMS `CiphertextForRecipient`: one strict CMS profile over asn1crypto, one uniform error.

The profile is what AWS KMS emits, and the two freedoms a writer has in it (RFC 4055 2.1: a hash's parameters NULL or
absent; X.690 8.1.3: definite or indefinite lengths): EnvelopedData version 2, one recipient named by the SHA-256 of our
SPKI, RSAES-OAEP with SHA-256 spelled out, AES-256-CBC, content primitive or in segments. The envelope is not
authenticated, so what comes out is only a claim: the share proves itself by its check value. Every fault, from a wrong
tag to bad padding, is the same `EnvelopeInvalid`, so nobody learns from it where it failed.
"""

import hashlib
from typing import Any, cast

from asn1crypto import cms
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MAX_ENVELOPE = 6_144  # bytes; the KMS model's limit on CiphertextForRecipient
MAX_CONTENT = 4_112  # bytes; 4096 of plaintext, padded to whole blocks
MAX_SEGMENTS = 16  # real content has one; the form allows more
BLOCK = 16
CONTENT_KEY_BYTES = 32
# rsaesOaep { [0] sha256, [1] mgf1 { sha256 } }, no label: compared whole, so no default of SHA-1 slips in. With NULL
# as AWS KMS writes it, without as OpenSSL does; RFC 4055 2.1 has both mean the same.
_OAEP = (
    bytes.fromhex(
        "303c06092a864886f70d010107302fa00f300d06096086480165030402010500"
        "a11c301a06092a864886f70d010108300d06096086480165030402010500"
    ),
    bytes.fromhex(
        "303806092a864886f70d010107302ba00d300b0609608648016503040201a11a301806092a864886f70d010108300b0609608648016503040201"
    ),
)
_UNIFORM = "the KMS envelope does not open"


class EnvelopeInvalid(Exception):
    """The envelope does not open. Says nothing more, on purpose."""

    def __init__(self) -> None:
        super().__init__(_UNIFORM)


class _Broken(Exception):
    """A clause of the profile that does not hold; never leaves this file."""


def parse_envelope(raw: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """(key identifier, encrypted key, IV, ciphertext) of an envelope in the profile. Raises EnvelopeInvalid."""
    try:
        return _parse(raw)
    except Exception:  # noqa: BLE001 - asn1crypto raises ValueError, TypeError, KeyError and more; all are one refusal
        raise EnvelopeInvalid from None


def open_envelope(raw: bytes, key: rsa.RSAPrivateKey) -> bytearray:
    """The content for the holder of `key`, for the caller to wipe. Raises EnvelopeInvalid."""
    identifier, encrypted_key, iv, ciphertext = parse_envelope(raw)
    try:
        # 1. The envelope is for our key: recipients are named by SHA-256 of the SPKI (measured on real samples).
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        _require(identifier == hashlib.sha256(spki).digest())
        # 2. The content key, by OAEP with SHA-256 throughout.
        _require(len(encrypted_key) == key.key_size // 8)
        oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
        content_key = key.decrypt(encrypted_key, oaep)
        _require(len(content_key) == CONTENT_KEY_BYTES)
        # 3. The content, by AES-256-CBC with PKCS#7 padding.
        return _decrypt(content_key, iv, ciphertext)
    except Exception:  # noqa: BLE001 - one refusal for OAEP, padding and length: no oracle
        raise EnvelopeInvalid from None


def _decrypt(content_key: bytes, iv: bytes, ciphertext: bytes) -> bytearray:
    decryptor = Cipher(algorithms.AES256(content_key), modes.CBC(iv)).decryptor()
    padded = bytearray(len(ciphertext) + BLOCK)
    size = decryptor.update_into(ciphertext, padded)
    decryptor.finalize()
    unpadder = PKCS7(8 * BLOCK).unpadder()
    plaintext = bytearray(unpadder.update(bytes(padded[:size])) + unpadder.finalize())
    padded[:] = bytes(len(padded))
    return plaintext


def _parse(raw: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    _require(0 < len(raw) <= MAX_ENVELOPE)
    # 1. ContentInfo carries EnvelopedData and nothing follows it.
    outer: Any = cms.ContentInfo.load(raw, strict=True)
    _require(outer["content_type"].native == "enveloped_data")
    enveloped = outer["content"]
    _require(enveloped["version"].native == "v2")
    for name in ("originator_info", "unprotected_attrs"):
        _require(not _present(enveloped[name]))
    # 2. Exactly one recipient, by key transport to a key identifier.
    _require(len(enveloped["recipient_infos"]) == 1)
    recipient = enveloped["recipient_infos"][0]
    _require(recipient.name == "ktri")
    recipient = recipient.chosen
    _require(recipient["version"].native == "v2" and recipient["rid"].name == "subject_key_identifier")
    identifier = _octets(recipient["rid"].chosen)
    _require(len(identifier) == hashlib.sha256().digest_size)
    _require(recipient["key_encryption_algorithm"].dump() in _OAEP)
    # 3. The content: plain data under AES-256-CBC.
    content = enveloped["encrypted_content_info"]
    _require(content["content_type"].native == "data")
    algorithm = content["content_encryption_algorithm"]
    _require(algorithm["algorithm"].native == "aes256_cbc")
    iv = _octets(algorithm["parameters"])
    _require(len(iv) == BLOCK)
    ciphertext = _content(content["encrypted_content"])
    _require(0 < len(ciphertext) <= MAX_CONTENT and len(ciphertext) % BLOCK == 0)
    return identifier, _octets(recipient["encrypted_key"]), iv, ciphertext


def _present(value: Any) -> bool:
    return bool(value.native is not None)


def _octets(value: Any) -> bytes:
    octets = value.native
    _require(isinstance(octets, bytes))
    return cast("bytes", octets)


def _content(value: Any) -> bytes:
    """[0] IMPLICIT OCTET STRING: primitive, or constructed from definite primitive OCTET STRINGs."""
    contents = cast("bytes", value.contents)
    _require(isinstance(contents, bytes))
    if value.method == 0:
        return contents
    segments, at, count = bytearray(), 0, 0
    while at < len(contents) and contents[at : at + 2] != b"\0\0":
        count += 1
        _require(contents[at] == 0x04 and count <= MAX_SEGMENTS)
        size, at = _length(contents, at + 1)
        _require(at + size <= len(contents))
        segments += contents[at : at + size]
        at += size
    _require(contents[at:] in (b"", b"\0\0"))
    return bytes(segments)


def _length(raw: bytes, at: int) -> tuple[int, int]:
    first = raw[at]
    if first < 0x80:
        return first, at + 1
    octets = first & 0x7F
    _require(octets in (1, 2))  # more than 65,535 bytes is over MAX_ENVELOPE anyway; 0 is the indefinite form
    return int.from_bytes(raw[at + 1 : at + 1 + octets], "big"), at + 1 + octets


def _require(holds: bool) -> None:
    if not holds:
        raise _Broken
