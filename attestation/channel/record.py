"""Frames and the records in them (docs/spec/channel.md 4).

A frame is one byte saying what it is, then its body. A record is AES-256-GCM under the key of one direction of one
exchange; position, direction and whether it is the last are authenticated, so a record cannot be moved, dropped from
the middle, repeated, turned round, or made the end.
"""

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anchorhold.attestation.channel.errors import RecordInvalid
from anchorhold.attestation.channel.padding import (
    BASIC_MULTIPLE,
    HEAD,
    MAX_CONTENT,
    STRICT_CONTENT,
    Padding,
    capacity,
    pad,
    request_step,
    unpad,
)
from anchorhold.attestation.digest import length_prefixed
from anchorhold.attestation.errors import Malformed, TooLarge
from anchorhold.attestation.types import Sha384

TAG = 16
COUNTER_BYTES = 12
MAX_RECORD = MAX_CONTENT + HEAD + BASIC_MULTIPLE + TAG
MAX_RECORDS = 1 << 20  # of one direction; far below AES-GCM's bound, far above any answer


class FrameKind(IntEnum):
    """The first byte of every frame, in clear."""

    OPEN = 0x01
    RECORD = 0x02
    FINAL = 0x03
    ANSWER = 0x04


class Direction(IntEnum):
    REQUEST = 0x00
    RESPONSE = 0x01


class RecordKind(IntEnum):
    """The first byte inside every record."""

    DUMMY = 0x00
    BODY = 0x01
    PART = 0x02
    DELTA = 0x10
    FINISH = 0x11
    ERROR = 0x12
    LOGPROBS = 0x13
    EMBEDDING = 0x14
    RECEIPT = 0x1F


_CUT = frozenset({RecordKind.LOGPROBS, RecordKind.EMBEDDING})  # what is ever sent in PARTs


@dataclass(frozen=True, slots=True)
class Record:
    kind: RecordKind
    content: bytes
    final: bool


def frame(kind: FrameKind, body: bytes) -> bytes:
    return bytes([kind]) + body


def parse_frame(raw: bytes, *, limit: int) -> tuple[FrameKind, bytes]:
    """Raises Malformed or TooLarge."""
    if not raw:
        raise Malformed("frame: expected at least 1 byte, got 0")
    if len(raw) - 1 > limit:
        raise TooLarge("frame", limit=limit, actual=len(raw) - 1)
    try:
        return FrameKind(raw[0]), raw[1:]
    except ValueError as error:
        raise Malformed(f"frame: unknown kind 0x{raw[0]:02x}") from error


class RecordSealer:
    """Seals the records of one direction, in order."""

    def __init__(self, key: bytes, direction: Direction, padding: Padding) -> None:
        self._key = AESGCM(key)
        self._direction = direction
        self._padding = padding
        self._counter = 0

    @property
    def padding(self) -> Padding:
        return self._padding

    def seal(self, kind: RecordKind, content: bytes, *, final: bool = False) -> bytes:
        """The next frame. Raises ValueError past the limits: our own mistake."""
        if self._counter >= MAX_RECORDS:
            raise ValueError(f"records: expected at most {MAX_RECORDS}")
        # Nonce is the record counter: a key lives for one direction of one exchange, so it cannot repeat.
        nonce = self._counter.to_bytes(COUNTER_BYTES, "big")
        aad = _aad(self._direction, nonce, final=final)
        self._counter += 1
        sealed = self._key.encrypt(nonce, pad(kind, content, self._padding), aad)
        return frame(FrameKind.FINAL if final else FrameKind.RECORD, sealed)


class RecordOpener:
    """Opens the records of one direction, in order. After an error it is of no further use.

    A content that came in PARTs is given whole, with the record that ends it; a PART by itself is given empty. An ERROR
    stands for itself: of what was begun before it, nothing is given.
    """

    def __init__(self, key: bytes, direction: Direction, padding: Padding) -> None:
        self._key = AESGCM(key)
        self._direction = direction
        self._padding = padding
        self._counter = 0
        self._parts = bytearray()

    def open(self, sealed: bytes, *, final: bool) -> Record:
        """Raises RecordInvalid, Malformed or TooLarge."""
        if self._counter >= MAX_RECORDS:
            raise TooLarge("records", limit=MAX_RECORDS, actual=self._counter + 1)
        if len(sealed) > MAX_RECORD:
            raise TooLarge("record", limit=MAX_RECORD, actual=len(sealed))
        nonce = self._counter.to_bytes(COUNTER_BYTES, "big")
        try:
            plain = self._key.decrypt(nonce, sealed, _aad(self._direction, nonce, final=final))
        except InvalidTag as error:
            raise RecordInvalid(f"record {self._counter} does not open at its place in this exchange") from error
        self._counter += 1
        kind, content = unpad(plain, self._padding)
        try:
            record = Record(RecordKind(kind), content, final)
        except ValueError as error:
            raise Malformed(f"record {self._counter - 1}: unknown kind 0x{kind:02x}") from error
        return self._whole(record)

    def _whole(self, record: Record) -> Record:
        if record.kind is RecordKind.PART:
            # Full, or there would be several ways to say the same.
            if self._padding is not Padding.STRICT or record.final or len(record.content) != STRICT_CONTENT:
                raise Malformed(f"record {self._counter - 1}: a PART of {len(record.content)} bytes cannot stand there")
            self._parts += record.content
            record = Record(record.kind, b"", final=False)
        elif record.kind is RecordKind.ERROR:
            self._parts.clear()
        elif self._parts:
            if record.kind not in _CUT or record.final or not record.content:
                raise Malformed(f"record {self._counter - 1}: a {record.kind.name} record cannot end a PART")
            record = Record(record.kind, bytes(self._parts) + record.content, final=False)
            self._parts.clear()
        if len(self._parts) + len(record.content) > MAX_CONTENT:
            raise TooLarge("content in parts", limit=MAX_CONTENT, actual=len(self._parts) + len(record.content))
        return record


class RecordsDigest:
    """SHA-384(label, parts..., records..., count) as the records go by."""

    def __init__(self, label: bytes, *parts: bytes) -> None:
        self._hash = hashlib.sha384(length_prefixed(label, *parts))
        self.count = 0

    def add(self, sealed: bytes) -> None:
        self._hash.update(length_prefixed(sealed))
        self.count += 1

    def digest(self) -> Sha384:
        whole = self._hash.copy()
        whole.update(length_prefixed(self.count.to_bytes(8, "big")))
        return Sha384(whole.digest())


def seal_request(inside: bytes, sealer: RecordSealer) -> tuple[bytes, ...]:
    """All records of a request: pieces of it and, in `strict`, dummies before the last one to fill the step."""
    most = capacity(sealer.padding)
    pieces = [inside[at : at + most] for at in range(0, len(inside), most)]
    dummies = request_step(len(pieces)) - len(pieces) if sealer.padding is Padding.STRICT else 0
    return (
        *(sealer.seal(RecordKind.BODY, piece) for piece in pieces[:-1]),
        *(sealer.seal(RecordKind.DUMMY, b"") for _ in range(dummies)),
        sealer.seal(RecordKind.BODY, pieces[-1], final=True),
    )


def check_request_step(records: int, padding: Padding) -> None:
    """Raises Malformed for a whole `strict` request that fills no step: its sender gave its length away."""
    if padding is Padding.STRICT and records != request_step(records):
        raise Malformed(f"request records: expected {request_step(records)} under strict, got {records}")


def _aad(direction: Direction, counter: bytes, *, final: bool) -> bytes:
    return bytes([direction]) + counter + bytes([final])
