"""The enclave's end of one exchange, sans-I/O: frames in, frames out (DESIGN 3.2, 3.3).

It decides nothing about tenants, leases or models; it says what was asked, under which key, bound to what. Nothing is
returned before the final request record is in.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import encode
from anchorhold.attestation.channel.body import (
    MAX_REQUEST,
    Finish,
    InferRequest,
    SealedRequest,
    decode_infer,
    decode_sealed,
    encode_finish,
    tenant_message,
)
from anchorhold.attestation.channel.errors import ChannelError, UnknownKey
from anchorhold.attestation.channel.header import (
    MAX_OPENING,
    SECRET,
    Header,
    Opening,
    check_commitment,
    decode_opening,
    encapsulation,
    open_slot,
    request_commitment,
    request_record_key,
    response_commitment,
    response_record_key,
    slot_digest,
)
from anchorhold.attestation.channel.pieces import Embedding, Scored, encode_embedding, encode_scored
from anchorhold.attestation.channel.receipt import receipt_commitment, receipt_tag
from anchorhold.attestation.channel.record import (
    MAX_RECORD,
    Direction,
    FrameKind,
    RecordKind,
    RecordOpener,
    RecordsDigest,
    RecordSealer,
    check_request_step,
    frame,
    parse_frame,
)
from anchorhold.attestation.channel.seal import HybridPrivateKey
from anchorhold.attestation.channel.states import Event, Machine
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, TooLarge
from anchorhold.attestation.types import KeyId, Sha384, StatementDigest

Entropy = Callable[[int], bytes]
"""So many uniform random bytes."""
MAX_REQUEST_RECORDS = 1_024  # a whole request fits in 5 full records; more is an attack on our memory


@dataclass(frozen=True, slots=True)
class OpenKey:
    """One channel key that requests may be sealed to now, with the statement that attests it."""

    key: HybridPrivateKey = field(repr=False)
    statement: StatementDigest


class ChannelKeys(Protocol):
    """The channel keys of the open epochs."""

    def find(self, key_id: KeyId) -> OpenKey | None: ...


@dataclass(frozen=True, slots=True, repr=False)
class Received:
    """A whole request, opened: from *somebody* who holds the public channel key; who, is for the tenant check."""

    header: Header
    request: InferRequest
    sealed: SealedRequest
    tenant_message: bytes
    encapsulation: bytes
    statement: StatementDigest
    digest: Sha384


@dataclass(slots=True, repr=False)
class _Open:
    """What exists once the slot is open."""

    opening: Opening
    index: int
    statement: StatementDigest
    response_secret: bytes
    records: RecordOpener
    seen: RecordsDigest
    plain: bytearray


class EnclaveExchange:
    """One request and its answer. After any error it is of no further use."""

    def __init__(self, keys: ChannelKeys, entropy: Entropy) -> None:
        self._keys = keys
        self._entropy = entropy
        self._machine = Machine()
        self._open: _Open | None = None
        self._received: Received | None = None
        self._sealer: RecordSealer | None = None
        self._sent = RecordsDigest(labels.RESPONSE_DIGEST)
        self.bytes_out = 0
        self.dummies = 0

    def receive(self, raw: bytes) -> Received | None:
        """The whole request once its final record is in, else None. Raises EvidenceError."""
        try:
            return self._receive(raw)
        except EvidenceError:
            self._machine.fail()
            raise

    def answer(self) -> bytes:
        """The first frame of the answer: a fresh nonce and the commitment of R_i."""
        self._machine.move(Event.ANSWER)
        opened, received = self._require_open(), self._require_received()
        nonce = self._entropy(SECRET)
        key = response_record_key(opened.response_secret, nonce, received.digest, opened.statement)
        self._sealer = RecordSealer(key, Direction.RESPONSE, received.header.padding)
        return frame(FrameKind.ANSWER, encode({"nonce": nonce, "commit": self.response_commit}))

    def delta(self, text: str) -> bytes:
        return self._record(Event.DELTA, RecordKind.DELTA, text.encode())

    def scored(self, scored: Scored) -> bytes:
        return self._record(Event.DELTA, RecordKind.LOGPROBS, encode_scored(scored))

    def embedding(self, embedding: Embedding) -> bytes:
        return self._record(Event.EMBEDDING, RecordKind.EMBEDDING, encode_embedding(embedding))

    def part(self, content: bytes) -> bytes:
        """A full piece of a content that takes more than one frame of `strict`."""
        return self._record(Event.PART, RecordKind.PART, content)

    def rest(self, kind: RecordKind, content: bytes) -> bytes:
        """The record, DELTA, LOGPROBS or EMBEDDING, of a content whose parts, where it has any, are sent."""
        return self._record(Event.EMBEDDING if kind is RecordKind.EMBEDDING else Event.DELTA, kind, content)

    def dummy(self) -> bytes:
        self.dummies += 1
        return self._record(Event.DUMMY, RecordKind.DUMMY, b"")

    def finish(self, finish: Finish) -> bytes:
        return self._record(Event.CONCLUSION, RecordKind.FINISH, encode_finish(finish))

    def error(self, code: str) -> bytes:
        return self._record(Event.CONCLUSION, RecordKind.ERROR, code.encode("ascii"))

    def close(self, raw_receipt: bytes) -> bytes:
        """The final record."""
        self._machine.move(Event.RECEIPT)
        assert self._sealer is not None
        return self._sealer.seal(RecordKind.RECEIPT, raw_receipt, final=True)

    @property
    def response_digest(self) -> tuple[Sha384, int]:
        """Digest and number of the response records sealed so far."""
        return self._sent.digest(), self._sent.count

    @property
    def response_commit(self) -> bytes:
        return response_commitment(self._require_open().response_secret)

    def log_entry(self, raw_receipt: bytes) -> tuple[bytes, Sha384]:
        """What the log may have of this exchange: public run tag and salted commitment."""
        secret = self._require_open().response_secret
        return receipt_tag(secret), receipt_commitment(secret, raw_receipt)

    def _receive(self, raw: bytes) -> Received | None:
        kind, body = parse_frame(raw, limit=max(MAX_OPENING, MAX_RECORD))
        if kind is FrameKind.OPEN:
            self._machine.move(Event.OPENING)
            self._open = self._open_slot(decode_opening(body))
            return None
        if kind not in (FrameKind.RECORD, FrameKind.FINAL):
            raise ChannelError(f"a client does not send frames of kind {kind.name}")
        final = kind is FrameKind.FINAL
        self._machine.move(Event.REQUEST_FINAL if final else Event.REQUEST_RECORD)
        opened = self._require_open()
        self._take_record(opened, body, final=final)
        if final:
            self._received = _read_request(opened)
            opened.plain.clear()
        return self._received

    def _open_slot(self, opening: Opening) -> _Open:
        # 1. Which of the targets is a key of ours (docs/spec/channel.md 3.3).
        index, ours = self._find(opening.header.targets)
        # 2. The slot opens under this header, this statement and this place only.
        request_key, response_secret = open_slot(
            opening.slots[index], ours.key, statement=ours.statement, header=opening.digest, index=index
        )
        # 3. K is the K the header commits to: AES-GCM alone would let one ciphertext open under two keys.
        check_commitment(
            "commitment of the request key", expected=request_commitment(request_key), actual=opening.header.commit
        )
        key = request_record_key(request_key, opening.digest)
        records = RecordOpener(key, Direction.REQUEST, opening.header.padding)
        seen = RecordsDigest(labels.REQUEST_DIGEST, opening.raw_header, opening.slots[index])
        return _Open(opening, index, ours.statement, response_secret, records, seen, bytearray())

    def _find(self, targets: tuple[KeyId, ...]) -> tuple[int, OpenKey]:
        for index, key_id in enumerate(targets):
            found = self._keys.find(key_id)
            if found is not None:
                return index, found
        raise UnknownKey("the request is sealed to no channel key that is open now")

    def _take_record(self, opened: _Open, body: bytes, *, final: bool) -> None:
        if opened.seen.count >= MAX_REQUEST_RECORDS:
            raise TooLarge("request records", limit=MAX_REQUEST_RECORDS, actual=opened.seen.count + 1)
        record = opened.records.open(body, final=final)
        opened.seen.add(body)
        if final:
            check_request_step(opened.seen.count, opened.opening.header.padding)
        if record.kind is RecordKind.DUMMY and not final:
            return
        if record.kind is not RecordKind.BODY:
            raise Malformed(f"request record: expected BODY, got {record.kind.name}")
        if len(opened.plain) + len(record.content) > MAX_REQUEST:
            raise TooLarge("request", limit=MAX_REQUEST, actual=len(opened.plain) + len(record.content))
        opened.plain += record.content

    def _record(self, event: Event, kind: RecordKind, content: bytes) -> bytes:
        self._machine.move(event)
        assert self._sealer is not None
        raw = self._sealer.seal(kind, content)
        self._sent.add(raw[1:])
        self.bytes_out += len(raw)
        return raw

    def _require_open(self) -> _Open:
        assert self._open is not None, "the state table has an opening before everything"
        return self._open

    def _require_received(self) -> Received:
        assert self._received is not None, "the state table has a whole request before an answer"
        return self._received


def _read_request(opened: _Open) -> Received:
    # 4. The sealed list of slots is the list that came in clear, with ours at its place: nobody added an enclave.
    sealed = decode_sealed(bytes(opened.plain))
    came = tuple(slot_digest(slot) for slot in opened.opening.slots)
    if sealed.slots[opened.index : opened.index + 1] != came[opened.index : opened.index + 1]:
        raise Mismatch("own slot in the sealed list", expected=came[opened.index], actual=b"".join(sealed.slots))
    if sealed.slots != came:
        raise Mismatch("sealed list of slots", expected=b"".join(came), actual=b"".join(sealed.slots))
    own = opened.opening.slots[opened.index]
    return Received(
        opened.opening.header,
        decode_infer(sealed.body),
        sealed,
        tenant_message(opened.opening.digest, sealed.slots, sealed.body),
        encapsulation(own),
        opened.statement,
        opened.seen.digest(),
    )
