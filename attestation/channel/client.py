"""The client's end of one exchange, sans-I/O (DESIGN 3.1 to 3.7).

A `Channel` is only made from verified `Evidence`; an exchange is only made from channels. What the enclave says is
reported as it comes, marked provisional by its type: only `Finished` and `Failed`, which need the verified receipt,
are the enclave's whole answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import labels
from anchorhold.attestation.binding import Serve, bind, key_id, statement_digest
from anchorhold.attestation.canonical import decode_map
from anchorhold.attestation.channel.body import (
    Embed,
    Finish,
    InferRequest,
    SealedRequest,
    decode_code,
    decode_finish,
    encode_infer,
    encode_sealed,
    tenant_message,
)
from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.channel.enclave import Entropy
from anchorhold.attestation.channel.errors import ChannelError, Truncated
from anchorhold.attestation.channel.header import (
    MAX_DEADLINE,
    MAX_SLOTS,
    SECRET,
    Header,
    check_commitment,
    encode_header,
    encode_opening,
    header_digest,
    request_commitment,
    request_record_key,
    response_commitment,
    response_record_key,
    seal_slot,
    slot_digest,
)
from anchorhold.attestation.channel.padding import Padding, response_step
from anchorhold.attestation.channel.pieces import Embedding, TokenLogprob, decode_embedding, decode_scored
from anchorhold.attestation.channel.receipt import (
    Receipt,
    receipt_commitment,
    receipt_salt,
    receipt_tag,
    verify_receipt,
)
from anchorhold.attestation.channel.record import (
    MAX_RECORD,
    Direction,
    FrameKind,
    Record,
    RecordKind,
    RecordOpener,
    RecordsDigest,
    RecordSealer,
    frame,
    parse_frame,
    seal_request,
)
from anchorhold.attestation.channel.seal import SUITE, check_public
from anchorhold.attestation.channel.states import Event, Machine, State
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.types import ConfigDigest, KeyId, Milliseconds, ModelDigest, Sha384, StatementDigest
from anchorhold.attestation.verify import Evidence

MAX_ANSWER_BODY = 128


class EpochOver(EvidenceError):
    """A channel key whose epoch has ended on the client's clock: ask for evidence again."""

    code = "epoch-over"


class Channel:
    """The right to seal to one enclave: exists only as the result of verification."""

    __slots__ = ("evidence", "key_id", "serve", "statement")

    def __init__(
        self, evidence: Evidence, raw_statement: bytes, *, model: ModelDigest, configuration: ConfigDigest
    ) -> None:
        """Raises EvidenceError unless the evidence attests exactly this `serve` statement, D and C."""
        # 1. The statement is the one the document carries, it is a `serve`, and no KMS key rides along.
        serve = bind(evidence, raw_statement, Serve)
        # 2. Suite, D and C are those asked for (docs/spec/channel.md 2).
        for what, expected, actual in (
            ("suite", SUITE, serve.suite),
            ("model (D)", model, serve.model),
            ("configuration (C)", configuration, serve.configuration),
        ):
            if expected != actual:
                raise Mismatch(what, expected=expected, actual=actual)
        check_public(serve.channel_key)
        self.evidence = evidence
        self.serve = serve
        self.statement: StatementDigest = statement_digest(serve)
        self.key_id: KeyId = key_id(self.statement)

    def check_epoch(self, now: Milliseconds) -> None:
        """Raises EpochOver at and after the end of the epoch."""
        if now >= self.serve.not_after:
            raise EpochOver(f"the channel key's epoch ended at {self.serve.not_after}, now {now}")


@dataclass(frozen=True, slots=True, repr=False)
class TenantKey:
    """A credential and the key that proves it is ours."""

    credential: bytes
    key: Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Options:
    """What the clear header says."""

    alias: str
    padding: Padding = Padding.BASIC
    deadline: Milliseconds = MAX_DEADLINE
    admission: bytes = b""


@dataclass(frozen=True, slots=True, repr=False)
class Delta:
    """Text under the enclave's response key, in order; provisional until `Finished`."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """A receipt whose signature and every recomputable field agree with what this client sent and got."""

    receipt: Receipt
    raw: bytes = field(repr=False)
    tag: bytes
    commitment: Sha384
    salt: bytes = field(repr=False)
    """With it an auditor can recompute the commitment (`attestation/transcript/kept.py` is the file's form)."""


@dataclass(frozen=True, slots=True)
class Finished:
    finish: Finish
    receipt: VerifiedReceipt


@dataclass(frozen=True, slots=True)
class Failed:
    """The enclave's own word that it did not do it, and why."""

    code: str
    receipt: VerifiedReceipt


Answered = Delta | Embedding | Finished | Failed


class ClientExchange:
    """One request to up to eight enclaves, and the one answer to it. After any error it is of no further use."""

    def __init__(
        self,
        channels: Sequence[Channel],
        request: InferRequest,
        options: Options,
        *,
        entropy: Entropy,
        tenant: TenantKey | None = None,
    ) -> None:
        """Raises Malformed for a request no enclave would take."""
        if not 1 <= len(channels) <= MAX_SLOTS:
            raise Malformed(f"enclaves: expected 1 to {MAX_SLOTS}, got {len(channels)}")
        self._channels = tuple(channels)
        self._options = options
        self._asked = request
        self._vectors: list[int] = []  # bytes of each that came
        self._machine = Machine()
        # Fresh for every send, a retry too: K for all, R_i for each (DESIGN 3.2).
        self._request_key = entropy(SECRET)
        self._response_secrets = tuple(entropy(SECRET) for _ in channels)
        self._commit = request_commitment(self._request_key)
        self._digests: tuple[RecordsDigest, ...] = ()
        self._frames = self._seal(encode_infer(request), tenant)
        self._chosen: int | None = None
        self._records: RecordOpener | None = None
        self._got = RecordsDigest(labels.RESPONSE_DIGEST)
        self._conclusion: Record | None = None
        self._dummies = 0

    @property
    def frames(self) -> tuple[bytes, ...]:
        """The whole request, in order."""
        return self._frames

    @property
    def answered_by(self) -> Channel | None:
        """The enclave under whose response key the answer stands."""
        return None if self._chosen is None else self._channels[self._chosen]

    def receive(self, raw: bytes) -> Answered | None:
        """What one frame of the answer says. Raises EvidenceError."""
        try:
            return self._receive(raw)
        except EvidenceError:
            self._machine.fail()
            raise

    def end(self) -> None:
        """The stream ended. Raises Truncated unless the final record came and held."""
        if self._machine.state is not State.DONE:
            was = self._machine.state
            self._machine.fail()
            raise Truncated(f"the stream ended in state {was.value!r}, before the final record")

    def _seal(self, body: bytes, tenant: TenantKey | None) -> tuple[bytes, ...]:
        targets = tuple(channel.key_id for channel in self._channels)
        options = self._options
        raw_header = encode_header(
            Header(targets, options.alias, options.admission, options.padding, options.deadline, self._commit)
        )
        digest = header_digest(raw_header)
        slots = tuple(
            seal_slot(
                self._request_key + secret,
                channel.serve.channel_key,
                statement=channel.statement,
                header=digest,
                index=index,
            )
            for index, (channel, secret) in enumerate(zip(self._channels, self._response_secrets, strict=True))
        )
        inside = _sealed_request(body, digest, tuple(slot_digest(slot) for slot in slots), tenant)
        sealer = RecordSealer(request_record_key(self._request_key, digest), Direction.REQUEST, options.padding)
        records = seal_request(inside, sealer)
        self._digests = tuple(RecordsDigest(labels.REQUEST_DIGEST, raw_header, slot) for slot in slots)
        for running in self._digests:
            for record in records:
                running.add(record[1:])
        self._machine.move(Event.OPENING)
        self._machine.move(Event.REQUEST_FINAL)
        return (frame(FrameKind.OPEN, encode_opening(raw_header, slots)), *records)

    def _receive(self, raw: bytes) -> Answered | None:
        kind, body = parse_frame(raw, limit=MAX_RECORD)
        if kind is FrameKind.ANSWER:
            self._machine.move(Event.ANSWER)
            self._open_answer(body)
            return None
        if kind not in (FrameKind.RECORD, FrameKind.FINAL):
            raise ChannelError(f"an enclave does not send frames of kind {kind.name}")
        if self._records is None:
            self._machine.move(Event.DELTA)  # raises: no record before the answer's opening
        assert self._records is not None
        record = self._records.open(body, final=kind is FrameKind.FINAL)
        event = _EVENTS.get((record.kind, record.final))
        if event is None:
            raise ChannelError(f"a {record.kind.name} record cannot stand there: final {record.final}")
        self._machine.require(event)
        answered = self._take(record)
        self._machine.move(event)
        if not record.final:
            self._got.add(body)
        return answered

    def _open_answer(self, body: bytes) -> None:
        members = decode_map(body, "answer", limit=MAX_ANSWER_BODY, fields={"nonce": bytes, "commit": bytes})
        nonce, commit = members["nonce"], members["commit"]
        assert isinstance(nonce, bytes)
        assert isinstance(commit, bytes)
        if len(nonce) != SECRET:
            raise Malformed(f"answer: nonce: expected {SECRET} bytes, got {len(nonce)}")
        # The commitment says which of the chosen enclaves answers; only that one and we know its R_i.
        for index, secret in enumerate(self._response_secrets):
            if response_commitment(secret) == commit:
                key = response_record_key(secret, nonce, self._digests[index].digest(), self._channels[index].statement)
                self._chosen = index
                self._records = RecordOpener(key, Direction.RESPONSE, self._options.padding)
                return
        expected = response_commitment(self._response_secrets[0])
        check_commitment("commitment of the response secret", expected=expected, actual=commit)

    def _take(self, record: Record) -> Answered | None:
        if record.kind in (RecordKind.DELTA, RecordKind.LOGPROBS, RecordKind.EMBEDDING):
            return self._piece(record)
        if record.kind is RecordKind.RECEIPT:
            return self._conclude(record.content)
        if record.kind is RecordKind.DUMMY:
            self._dummies += 1
        elif record.kind is not RecordKind.PART:
            self._conclusion = record
        return None

    def _piece(self, record: Record) -> Delta | Embedding:
        """Only what was asked for: an answer of another kind is refused, under whatever key."""
        if isinstance(self._asked, Embed):
            if record.kind is not RecordKind.EMBEDDING:
                raise ChannelError(f"a {record.kind.name} record does not answer texts to embed")
            return self._embedding(decode_embedding(record.content), len(self._asked.inputs))
        if record.kind is RecordKind.DELTA:
            return Delta(_text(record.content))
        wanted = self._asked.sampling.logprobs
        if record.kind is RecordKind.EMBEDDING or wanted is None:
            raise ChannelError(f"a {record.kind.name} record was not asked for")
        scored = decode_scored(record.content)
        if any(len(one.top) > wanted for one in scored.tokens):
            raise ChannelError(f"logprobs: expected at most {wanted} alternatives")
        return Delta(scored.text, scored.tokens)

    def _embedding(self, embedding: Embedding, asked: int) -> Embedding:
        if embedding.index != len(self._vectors) or embedding.index >= asked:
            raise ChannelError(f"embedding: expected number {len(self._vectors)} of {asked}, got {embedding.index}")
        if self._vectors and len(embedding.raw) != self._vectors[0]:
            raise ChannelError(f"embedding: expected {self._vectors[0]} bytes as before, got {len(embedding.raw)}")
        self._vectors.append(len(embedding.raw))
        return embedding

    def _conclude(self, raw_receipt: bytes) -> Answered:
        assert self._conclusion is not None, "the state table has a conclusion before the final record"
        conclusion = self._conclusion
        self._check_step(conclusion)
        receipt = self._check_receipt(raw_receipt)
        if conclusion.kind is RecordKind.FINISH:
            if isinstance(self._asked, Embed) and len(self._vectors) != len(self._asked.inputs):
                raise ChannelError(f"expected {len(self._asked.inputs)} embeddings, got {len(self._vectors)}")
            return Finished(decode_finish(conclusion.content), receipt)
        return Failed(decode_code(conclusion.content), receipt)

    def _check_step(self, conclusion: Record) -> None:
        """An answer in `strict` fills a step, unless its lease ended: then nothing more may be sent, and all see it."""
        records = self._got.count + 1
        cut = conclusion.kind is RecordKind.ERROR and conclusion.content == Code.LEASE_ENDED.encode()
        if self._options.padding is Padding.STRICT and not cut and records != response_step(records):
            raise ChannelError(f"records of the answer: expected {response_step(records)} under strict, got {records}")

    def _check_receipt(self, raw: bytes) -> VerifiedReceipt:
        assert self._chosen is not None
        channel, secret = self._channels[self._chosen], self._response_secrets[self._chosen]
        # 1. Signed by the receipt key of the verified `serve` statement (docs/spec/channel.md 7).
        receipt = verify_receipt(raw, channel.serve.receipt_key)
        # 2. About exactly what was sent and what came.
        for what, expected, actual in (
            ("request digest", self._digests[self._chosen].digest(), receipt.request),
            ("response digest", self._got.digest(), receipt.response),
            ("number of response records", self._got.count, receipt.records),
            ("number of dummies", self._dummies, receipt.dummies),
            ("commitment of the request key", self._commit, receipt.request_commit),
            ("commitment of the response secret", response_commitment(secret), receipt.response_commit),
            ("model (D)", channel.serve.model, receipt.model),
            ("statement digest", channel.statement, receipt.statement),
            ("purpose", self._asked.reason, receipt.purpose),
            ("adapter", None if isinstance(self._asked, Embed) else self._asked.adapter, receipt.adapter),
        ):
            if expected != actual:
                raise Mismatch(f"receipt: {what}", expected=expected, actual=actual, code="receipt")
        commitment = receipt_commitment(secret, raw)
        return VerifiedReceipt(receipt, raw, receipt_tag(secret), commitment, receipt_salt(secret))


_EVENTS: dict[tuple[RecordKind, bool], Event] = {
    (RecordKind.DELTA, False): Event.DELTA,
    (RecordKind.LOGPROBS, False): Event.DELTA,
    (RecordKind.EMBEDDING, False): Event.EMBEDDING,
    (RecordKind.DUMMY, False): Event.DUMMY,
    (RecordKind.PART, False): Event.PART,
    (RecordKind.FINISH, False): Event.CONCLUSION,
    (RecordKind.ERROR, False): Event.CONCLUSION,
    (RecordKind.RECEIPT, True): Event.RECEIPT,
}


def _sealed_request(body: bytes, header: Sha384, slots: tuple[Sha384, ...], tenant: TenantKey | None) -> bytes:
    if tenant is None:
        return encode_sealed(SealedRequest(body, slots, None, None))
    signature = tenant.key.sign(tenant_message(header, slots, body))
    return encode_sealed(SealedRequest(body, slots, tenant.credential, signature))


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("delta record: not UTF-8") from error
