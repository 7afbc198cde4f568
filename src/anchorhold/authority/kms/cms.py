"""CiphertextForRecipient: CMS EnvelopedData in the exact form AWS KMS emits (facts of its published samples).

Indefinite-length BER around definite members, one KeyTransRecipientInfo named by the SHA-256 of the SPKI, RSAES-OAEP
with SHA-256 throughout, AES-256-CBC. The envelope is not authenticated: what it carries must prove itself.
"""

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_ENVELOPED_DATA = bytes.fromhex("06092a864886f70d010703")
_DATA = bytes.fromhex("06092a864886f70d010701")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")
_VERSION_2 = bytes.fromhex("020102")
# AlgorithmIdentifier rsaesOaep { [0] sha256 NULL, [1] mgf1 { sha256 NULL } }: byte for byte as in the real samples.
_RSAES_OAEP_SHA256 = bytes.fromhex(
    "303c06092a864886f70d010107302fa00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500"
)
_SEQUENCE, _SET, _OCTETS, _CONTEXT_0, _CONTEXT_0_PRIMITIVE = 0x30, 0x31, 0x04, 0xA0, 0x80
IV_BYTES = 16
CONTENT_KEY_BYTES = 32


def seal_for_recipient(plaintext: bytes, recipient: rsa.RSAPublicKey, *, content_key: bytes, iv: bytes) -> bytes:
    """`plaintext` for the holder of `recipient`. `content_key` (32) and `iv` (16) are fresh random bytes."""
    # Key and IV are drawn for this one message, so CBC under a random IV never meets the same key twice.
    encryptor = Cipher(algorithms.AES256(content_key), modes.CBC(iv)).encryptor()
    padder = PKCS7(128).padder()
    padded = padder.update(plaintext) + padder.finalize()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    encrypted_key = recipient.encrypt(content_key, oaep)
    spki = recipient.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key_identifier = _definite(_CONTEXT_0_PRIMITIVE, hashlib.sha256(spki).digest())
    recipient_info = _definite(
        _SEQUENCE, _VERSION_2, key_identifier, _RSAES_OAEP_SHA256, _definite(_OCTETS, encrypted_key)
    )
    algorithm = _definite(_SEQUENCE, _AES_256_CBC, _definite(_OCTETS, iv))
    content = _indefinite(_CONTEXT_0, _definite(_OCTETS, ciphertext))
    enveloped = _indefinite(
        _SEQUENCE, _VERSION_2, _definite(_SET, recipient_info), _indefinite(_SEQUENCE, _DATA, algorithm, content)
    )
    return _indefinite(_SEQUENCE, _ENVELOPED_DATA, _indefinite(_CONTEXT_0, enveloped))


def _definite(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 0x80:  # X.690 8.1.3.4: the short form
        return bytes([tag, len(body)]) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size, "big") + body


def _indefinite(tag: int, *parts: bytes) -> bytes:
    # X.690 8.1.3.6: length octet 80, closed by two zero octets.
    return bytes([tag, 0x80]) + b"".join(parts) + b"\0\0"
