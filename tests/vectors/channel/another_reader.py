"""Reads `exchange.json` without a line of this project: `python -I another_reader.py exchange.json`; prints JSON.

Written from the words of docs/spec/channel.md alone. HPKE is pyhpke's, ML-KEM kyber-py's, X25519 stands here (RFC
7748), CBOR is cbor2's. It is given the private halves and the frames, and says what it makes of them; with `published`
it opens the HPKE working group's own vectors, with `open` and `seal` what it is given; these three on stdin.
"""

import hashlib
import hmac
import json
import sys
from enum import Enum
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kyber_py.ml_kem import ML_KEM_768  # type: ignore[import-untyped]  # it ships no types
from pyhpke import AEADId, CipherSuite, KDFId
from pyhpke.aead import AEAD
from pyhpke.kdf import KDF

delattr(openssl, "hpke")  # the HPKE that ours is built on, by its back door

V1 = b"anchorhold/v1/"
SUITE = b"MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"
FORBIDDEN = (
    "anchorhold",
    "cryptography.hazmat.primitives.hpke",
    "cryptography.hazmat.primitives.asymmetric.mlkem",
)
XWING_LABEL = b"\\.//^\\"
PRIME = 2**255 - 19


def x25519(scalar: bytes, point: bytes) -> bytes:
    """RFC 7748 5: the ladder, in the open and slow."""
    k = int.from_bytes(scalar, "little") & ~7 & ~(1 << 255) | 1 << 254
    x1 = int.from_bytes(point, "little") & ~(1 << 255)
    x2, z2, x3, z3 = 1, 0, x1, 1
    for at in reversed(range(255)):
        if swap := k >> at & 1:
            x2, x3, z2, z3 = x3, x2, z3, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % PRIME, b * b % PRIME, d * a % PRIME, c * b % PRIME
        x3, z3 = (da + cb) ** 2 % PRIME, x1 * (da - cb) ** 2 % PRIME
        e = aa - bb
        x2, z2 = aa * bb % PRIME, e * (aa + 121665 * e) % PRIME
        if swap:
            x2, x3, z2, z3 = x3, x2, z3, z2
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")


BASE = (9).to_bytes(32, "little")


class KemId(Enum):
    """pyhpke knows no hybrid: the number of this one, as it goes into the key schedule."""

    MLKEM768_X25519 = 0x647A


class Hybrid:
    """The KEM MLKEM768-X25519 (X-Wing), to pyhpke's interface. A private key is 96 bytes: d, z and the scalar."""

    id = KemId.MLKEM768_X25519

    def encap(self, public: bytes, sks: object = None, eks: object = None) -> tuple[bytes, bytes]:
        secret, ciphertext = ML_KEM_768.encaps(public[:1184])
        ephemeral = bytes(range(32))  # of a test: nothing is kept secret with it
        shared = x25519(ephemeral, public[1184:])
        point = x25519(ephemeral, BASE)
        return self._combine(secret, shared, point, public[1184:]), ciphertext + point

    def decap(self, enc: bytes, private: bytes, pks: object = None) -> bytes:
        _, decapsulation_key = ML_KEM_768.key_derive(private[:64])
        secret = ML_KEM_768.decaps(decapsulation_key, enc[:1088])
        shared = x25519(private[64:], enc[1088:])
        return self._combine(secret, shared, enc[1088:], x25519(private[64:], BASE))

    @staticmethod
    def _combine(mlkem: bytes, x: bytes, ciphertext: bytes, public: bytes) -> bytes:
        return hashlib.sha3_256(mlkem + x + ciphertext + public + XWING_LABEL).digest()


def suite(aead: AEADId = AEADId.AES256_GCM) -> CipherSuite:
    kem: Any = Hybrid()
    number = kem.id.value.to_bytes(2, "big")
    return CipherSuite(
        kem, KDF(KDFId.HKDF_SHA256, b"HPKE" + number + b"\x00\x01" + aead.value.to_bytes(2, "big")), AEAD(aead)
    )


def open_hpke(sealed: bytes, private: bytes, info: bytes, aad: bytes = b"", aead: AEADId = AEADId.AES256_GCM) -> bytes:
    key: Any = private
    return suite(aead).create_recipient_context(sealed[:1120], key, info=info).open(sealed[1120:], aad=aad)


def seal_hpke(plaintext: bytes, public: bytes, info: bytes) -> bytes:
    key: Any = public
    enc, context = suite().create_sender_context(key, info=info)
    return enc + context.seal(plaintext)


def lp(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def sha(label: str, *parts: bytes) -> bytes:
    return hashlib.sha384(lp(V1 + label.encode(), *parts)).digest()


def expand(secret: bytes, info: bytes, size: int) -> bytes:
    return hmac.digest(secret, info + b"\x01", "sha384")[:size]  # one block holds it


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return expand(hmac.digest(salt, secret, "sha384"), info, 32)


def open_record(key: bytes, number: int, direction: int, frame: bytes) -> tuple[int, bytes]:
    """Kind and content of the record in a RECORD or FINAL frame, padded `basic`."""
    nonce = number.to_bytes(12, "big")
    final = {2: b"\x00", 3: b"\x01"}[frame[0]]
    plain = AESGCM(key).decrypt(nonce, frame[1:], bytes([direction]) + nonce + final)
    size = int.from_bytes(plain[1:5], "big")
    assert len(plain) % 256 == 0
    assert len(plain) - 5 - size < 256
    assert not any(plain[5 + size :])
    return plain[0], plain[5 : 5 + size]


def read_request(given: dict[str, Any], statement: bytes) -> dict[str, Any]:
    opening, *records = (bytes.fromhex(one) for one in given["request_frames"])
    assert opening[0] == 1
    members = cbor2.loads(opening[1:])
    raw_header, slots = members["header"], members["slots"]
    header, header_digest = cbor2.loads(raw_header), sha("channel/header", raw_header)
    at = header["targets"].index(sha("key-id", statement)[:16])
    info = lp(V1 + b"channel/slot", SUITE, statement, header_digest, bytes([at]))
    secrets = open_hpke(slots[at], bytes.fromhex(given["channel_seed"]), info)
    k, r = secrets[:32], secrets[32:]
    assert header["commit"] == expand(k, V1 + b"channel/commit-request", 32)
    key = hkdf(k, header_digest, V1 + b"channel/request")
    plain = [open_record(key, number, 0, one) for number, one in enumerate(records)]
    assert records[-1][0] == 3
    sealed = cbor2.loads(b"".join(content for kind, content in plain if kind == 1))
    assert sealed["slots"] == [sha("channel/slot-digest", slot) for slot in slots]
    sent = [one[1:] for one in records]
    request = sha("channel/request-digest", raw_header, slots[at], *sent, len(sent).to_bytes(8, "big"))
    signed = sha("channel/slot-list", *sealed["slots"]), sha("channel/request-body", sealed["body"])
    return {
        "header_digest": header_digest,
        "request_key": k,
        "response_secret": r,
        "slot_digest": sealed["slots"][at],
        "body": sealed["body"],
        "request_record_key": key,
        "request_digest": request,
        "tenant_message": sha("channel/tenant-request", header_digest, *signed),
        "asked": cbor2.loads(sealed["body"])["messages"][0]["content"],
    }


def read_answer(given: dict[str, Any], statement: bytes, asked: dict[str, Any]) -> dict[str, Any]:
    answer, *records = (bytes.fromhex(one) for one in given["response_frames"])
    assert answer[0] == 4
    opening, secret = cbor2.loads(answer[1:]), asked["response_secret"]
    assert opening["commit"] == expand(secret, V1 + b"channel/commit-response", 32)
    key = hkdf(secret, opening["nonce"], lp(V1 + b"channel/response", asked["request_digest"], statement))
    plain = [open_record(key, number, 1, one) for number, one in enumerate(records)]
    assert [kind for kind, _ in plain] == [0x10, 0x10, 0x11, 0x1F]
    raw = plain[-1][1]
    message = cbor2.loads(raw)
    assert message.tag == 18
    protected, unprotected, payload, signature = message.value
    assert (protected, unprotected) == (b"\xa1\x01\x27", {})
    receipt_key = cbor2.loads(bytes.fromhex(given["statement"]))["receipt_key"]
    signed = cbor2.dumps(["Signature1", protected, V1 + b"receipt", payload])
    Ed25519PublicKey.from_public_bytes(receipt_key).verify(signature, signed)
    before = [one[1:] for one in records[:-1]]
    response = sha("channel/response-digest", *before, len(before).to_bytes(8, "big"))
    receipt = cbor2.loads(payload)
    assert (receipt["request"], receipt["response"], receipt["records"]) == (asked["request_digest"], response, 3)
    return {
        "response_record_key": key,
        "response_digest": response,
        "receipt": raw,
        "receipt_tag": expand(secret, V1 + b"receipt/tag", 16),
        "receipt_commitment": sha("receipt/commitment", expand(secret, V1 + b"receipt/salt", 32), raw),
        "text": b"".join(content for kind, content in plain if kind == 0x10).decode(),
    }


def read(given: dict[str, Any]) -> dict[str, Any]:
    """Everything in the file that follows from its private halves and its frames."""
    statement = sha("statement/serve", bytes.fromhex(given["statement"]))
    asked = read_request(given, statement)
    return {
        "statement_digest": statement,
        "key_id": sha("key-id", statement)[:16],
        **asked,
        **read_answer(given, statement, asked),
    }


def published(vector: dict[str, Any]) -> list[bytes]:
    """A vector of the HPKE working group for this KEM, message by message; its private key is a 32-byte seed."""
    private = hashlib.shake_256(bytes.fromhex(vector["skRm"])).digest(96)
    context = suite(AEADId(vector["aead_id"])).create_recipient_context(
        bytes.fromhex(vector["enc"]),
        private,  # type: ignore[arg-type]  # pyhpke passes it to our KEM as it is
        info=bytes.fromhex(vector["info"]),
    )
    return [context.open(bytes.fromhex(one["ct"]), aad=bytes.fromhex(one["aad"])) for one in vector["encryptions"]]


def main() -> None:
    """One of the four, to stdout."""
    what = sys.argv[1]
    made: Any
    if what == "published":
        made = [one.hex() for one in published(json.load(sys.stdin))]
    elif what == "seal":
        made = seal_hpke(*(bytes.fromhex(one) for one in json.load(sys.stdin))).hex()
    elif what == "open":
        sealed, private, info = (bytes.fromhex(one) for one in json.load(sys.stdin))
        made = open_hpke(sealed, private, info).hex()
    else:
        found = read(json.loads(Path(what).read_bytes()))
        made = {name: one.hex() if isinstance(one, bytes) else one for name, one in found.items()}
    used = [name for name in sys.modules if name.startswith(FORBIDDEN)]
    assert not used, f"not another implementation: {used}"
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main()
