"""The keys, and one good request and answer in parts, from which every vector is made by changing one thing."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anchorhold.attestation import labels
from anchorhold.attestation.binding import key_id
from anchorhold.attestation.canonical import Value, decode, encode
from anchorhold.attestation.channel import header as h
from anchorhold.attestation.channel.body import (
    Finish,
    FinishReason,
    SealedRequest,
    encode_finish,
    encode_sealed,
    tenant_message,
)
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.channel.receipt import Asserted, Receipt, encode_receipt
from anchorhold.attestation.channel.record import (
    COUNTER_BYTES,
    Direction,
    FrameKind,
    RecordKind,
    RecordsDigest,
    RecordSealer,
    frame,
)
from anchorhold.attestation.channel.seal import HYBRID_SEED, HybridPrivateKey
from anchorhold.attestation.channel.tenant import TenantCredential, issue_credential
from anchorhold.attestation.cose import sign1
from anchorhold.attestation.types import KeyId, Milliseconds, ModelDigest, Sha384, StatementDigest

FOLDER = Path(__file__).parent
SLOTS = FOLDER / "slots.json"
EXCHANGE = json.loads((FOLDER / "exchange.json").read_text())
K, R, NONCE = (bytes([byte]) * 32 for byte in (0x4B, 0x22, 0x4E))
KEY = HybridPrivateKey(bytes(range(HYBRID_SEED)))
RECEIPT_KEY = Ed25519PrivateKey.from_private_bytes(bytes([0x52]) * 32)
ISSUER = Ed25519PrivateKey.from_private_bytes(bytes([0x49]) * 32)
TENANT = Ed25519PrivateKey.from_private_bytes(bytes([0x54]) * 32)
STATEMENT = StatementDigest(Sha384(bytes.fromhex(EXCHANGE["statement_digest"])))
MODEL = ModelDigest(bytes([0xD1]) * 48)
PURPOSE = "customer-chat"
ADAPTER = ModelDigest(bytes([0xAD]) * 48)
NOW = Milliseconds(1_700_000_000_000)
BODY = bytes.fromhex(EXCHANGE["body"])
HEADER: dict[str, Value] = {
    "v": 1,
    "targets": [key_id(STATEMENT)],
    "alias": "tiny",
    "admission": b"label",
    "padding": "basic",
    "deadline": 60_000,
    "commit": h.request_commitment(K),
}


@dataclass(frozen=True)
class Vector:
    """Frames for one end of an exchange, and what must come of them: an error's code, or what was taken."""

    name: str
    end: str
    clause: str
    fault: str
    expect: str
    frames: tuple[bytes, ...]

    def text(self) -> str:
        """The file."""
        about = f"end: {self.end}\nclause: {self.clause}\nexpect: {self.expect}\n# {self.fault}\n"
        return about + "".join(f"{one.hex()}\n" for one in self.frames)


@cache
def _kept() -> dict[str, str]:
    found: dict[str, str] = json.loads(SLOTS.read_text()) if SLOTS.exists() else {}
    return found


def kept_slots() -> str:
    """The file of slots: what the library's own randomness made once stays as it is."""
    return json.dumps(_kept(), indent=1) + "\n"


def slot(header: bytes, *, index: int = 0, secrets: bytes = K + R, statement: StatementDigest = STATEMENT) -> bytes:
    """One slot under exactly this, the same each time."""
    digest = h.header_digest(header)
    if header == bytes.fromhex(EXCHANGE["header"]) and (index, secrets, statement) == (0, K + R, STATEMENT):
        return bytes.fromhex(EXCHANGE["slot"])
    name = f"{digest.hex()[:16]}-{index}-{Sha384(statement).hex()[:8]}-{secrets.hex()[:4]}{secrets.hex()[64:68]}"
    if name not in _kept():
        made = h.seal_slot(secrets, KEY.public, statement=statement, header=digest, index=index)
        _kept()[name] = made.hex()
    return bytes.fromhex(_kept()[name])


def header(**changes: Value) -> bytes:
    """The good header, but for these fields."""
    return encode({**HEADER, **changes})


def opening(raw_header: bytes, *slots: bytes) -> bytes:
    return frame(FrameKind.OPEN, encode({"header": raw_header, "slots": list(slots)}))


def bodied(**more: Value) -> bytes:
    """The good body, and these fields."""
    fields = decode(BODY, "body", limit=1 << 16)
    assert isinstance(fields, dict)
    return encode({**fields, **more})


@dataclass(frozen=True)
class Request:
    """A request under one header, with its slots."""

    raw_header: bytes
    slots: tuple[bytes, ...]

    @property
    def opening(self) -> bytes:
        return opening(self.raw_header, *self.slots)

    @property
    def digests(self) -> tuple[Sha384, ...]:
        return tuple(h.slot_digest(one) for one in self.slots)

    @property
    def key(self) -> bytes:
        return h.request_record_key(K, h.header_digest(self.raw_header))

    def sealed(self, body: bytes = BODY, **changes: object) -> bytes:
        """The sealed request, but for these members."""
        members: dict[str, object] = {"body": body, "slots": self.digests, "credential": None, "signature": None}
        return encode_sealed(SealedRequest(**{**members, **changes}))  # type: ignore[arg-type]  # the cases name real ones

    def signed(
        self, credential: bytes, key: Ed25519PrivateKey = TENANT, *, body: bytes | None = None, **more: Value
    ) -> bytes:
        """With a tenant's signature over this request, `more` in its body; or over `body`, which it does not have."""
        own = bodied(**more)
        message = tenant_message(h.header_digest(self.raw_header), self.digests, own if body is None else body)
        return self.sealed(own, credential=credential, signature=key.sign(message))

    def sealer(self, direction: Direction = Direction.REQUEST, padding: Padding = Padding.BASIC) -> RecordSealer:
        return RecordSealer(self.key, direction, padding)

    def frames(self, inside: bytes) -> tuple[bytes, ...]:
        """The opening, and everything in one record."""
        return self.opening, self.sealer().seal(RecordKind.BODY, inside, final=True)


GOOD = Request(header(), (slot(header()),))


def credential(**changes: object) -> TenantCredential:
    members: dict[str, object] = {
        "tenant": "acme",
        "key": TENANT.public_key().public_bytes_raw(),
        "model": MODEL,
        "purposes": (PURPOSE,),
        "adapters": (),
        "not_after": Milliseconds(NOW + 3_600_000),
    }
    return TenantCredential(**{**members, **changes})  # type: ignore[arg-type]  # the cases name real ones


def issued(issuer: Ed25519PrivateKey = ISSUER, **changes: object) -> bytes:
    return issue_credential(credential(**changes), issuer)


def raw_record(key: bytes, plain: bytes, *, number: int = 0, direction: int = 0, final: bool = True) -> bytes:
    """A record of any plaintext: what the sealer would not write."""
    nonce = number.to_bytes(COUNTER_BYTES, "big")
    sealed = AESGCM(key).encrypt(nonce, plain, bytes([direction]) + nonce + bytes([final]))
    return frame(FrameKind.FINAL if final else FrameKind.RECORD, sealed)


# The answer

ANSWER = frame(FrameKind.ANSWER, encode({"nonce": NONCE, "commit": h.response_commitment(R)}))
REQUEST_FRAMES = tuple(bytes.fromhex(one) for one in EXCHANGE["request_frames"])
REQUEST_DIGEST = Sha384(bytes.fromhex(EXCHANGE["request_digest"]))
RESPONSE_KEY = bytes.fromhex(EXCHANGE["response_record_key"])
FINISH = encode_finish(Finish(FinishReason.STOP, 7, 2))
Parts = Sequence[tuple[RecordKind, bytes]]
HONEST: Parts = (
    (RecordKind.DELTA, b"Par"),
    (RecordKind.DUMMY, b""),
    (RecordKind.DELTA, b"is."),
    (RecordKind.FINISH, FINISH),
)


@dataclass
class Answer:
    """Records of an answer, and the receipt over them."""

    parts: Parts = HONEST
    change: Callable[[Receipt], Receipt] = lambda one: one

    def __post_init__(self) -> None:
        self.sealer = RecordSealer(RESPONSE_KEY, Direction.RESPONSE, Padding.BASIC)
        self.records = [self.sealer.seal(kind, content) for kind, content in self.parts]

    @property
    def receipt(self) -> bytes:
        """Its payload."""
        running = RecordsDigest(labels.RESPONSE_DIGEST)
        for one in self.records:
            running.add(one[1:])
        honest = Receipt(
            request=REQUEST_DIGEST,
            response=running.digest(),
            records=running.count,
            dummies=sum(kind is RecordKind.DUMMY for kind, _ in self.parts),
            request_commit=h.request_commitment(K),
            response_commit=h.response_commitment(R),
            model=MODEL,
            statement=STATEMENT,
            purpose=PURPOSE,
            tenant=None,
            lease=bytes([0x1E]) * 16,
            sequence=1,
            asserted=Asserted(Milliseconds(1), Milliseconds(2), 0, 900),
        )
        return encode_receipt(self.change(honest))

    def signed(self, key: Ed25519PrivateKey = RECEIPT_KEY, aad: bytes = labels.RECEIPT) -> bytes:
        return sign1(self.receipt, key, aad=aad)

    def frames(self, raw_receipt: bytes | None = None) -> tuple[bytes, ...]:
        """Opening, records, receipt."""
        raw = self.signed() if raw_receipt is None else raw_receipt
        return ANSWER, *self.records, self.sealer.seal(RecordKind.RECEIPT, raw, final=True)


def another_id() -> KeyId:
    return KeyId(bytes(16))
