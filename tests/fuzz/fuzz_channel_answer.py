"""Any bytes give an answer's parts or an EvidenceError, nothing else, in bounded time and memory: the client's end.

The bytes are decisions of an enclave that has turned hostile, or of a parent before it: which frames, records and
receipts, sealed under the true response key or not. A whole answer needs the true receipt over exactly what came, and
before that every end of the stream is Truncated.
"""

import secrets
from collections.abc import Callable

from tests.fuzz.choices import Choices, edited

from anchorhold.attestation import labels
from anchorhold.attestation.binding import Serve, nsm_nonce
from anchorhold.attestation.canonical import encode
from anchorhold.attestation.channel.body import (
    Chat,
    Embed,
    Finish,
    FinishReason,
    InferRequest,
    Message,
    Role,
    Sampling,
    encode_finish,
)
from anchorhold.attestation.channel.client import Channel, ClientExchange, Failed, Finished, Options
from anchorhold.attestation.channel.enclave import EnclaveExchange, Received
from anchorhold.attestation.channel.errors import Truncated
from anchorhold.attestation.channel.header import response_commitment, response_record_key
from anchorhold.attestation.channel.padding import Padding, capacity
from anchorhold.attestation.channel.pieces import (
    Candidate,
    Embedding,
    Scored,
    TokenLogprob,
    decode_embedding,
    decode_scored,
    encode_embedding,
    encode_scored,
)
from anchorhold.attestation.channel.receipt import Asserted, Receipt, decode_receipt, encode_receipt, sign_receipt
from anchorhold.attestation.channel.record import Direction, FrameKind, RecordKind, RecordsDigest, RecordSealer, frame
from anchorhold.attestation.cose import parse_sign1
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import Milliseconds
from anchorhold.attestation.verify import verify_live
from anchorhold.sim.link import loopback_trust
from anchorhold.sim.loopback import PURPOSE, START, LoopbackEnclave
from anchorhold.sim.pki import SimulatedPki

MAX_LEN = 4_096
TOKENS = (b"nonce", b"commit", b"reason", b"stop", b"vector", b"tokens", b"\x58\x20", b"\x1f", b"lease-ended")
_ENCLAVE = LoopbackEnclave(SimulatedPki.create(START))
_PLAIN = Sampling(16)
REQUESTS: tuple[InferRequest, ...] = (
    Chat((Message(Role.USER, "hi"),), _PLAIN, PURPOSE),
    Chat((Message(Role.USER, "hi"),), Sampling(16, logprobs=2), PURPOSE),
    Embed(("one", "two"), PURPOSE),
)
CONTENTS = (
    b"text",
    encode_scored(Scored("a", (TokenLogprob(b"a", -5, (Candidate(b"b", -7),)),))),
    encode_embedding(Embedding(0, bytes(8))),
    encode_embedding(Embedding(1, bytes(8))),
    encode_finish(Finish(FinishReason.STOP, 7, 2)),
    b"busy",
    b"",
)
_KINDS = tuple(RecordKind)
_AGAIN: tuple[tuple[Callable[[bytes], object], Callable[..., bytes]], ...] = (
    (decode_scored, encode_scored),
    (decode_embedding, encode_embedding),
    (decode_receipt, encode_receipt),
)


def _channel() -> Channel:
    trust, nonce = loopback_trust(_ENCLAVE), bytes(32)
    said = _ENCLAVE.attest(nonce)
    evidence = verify_live(said.document, trust.policy, trust.anchor, START, nsm_nonce(Serve, nonce))
    return Channel(evidence, said.statement, model=trust.model, configuration=trust.configuration)


CHANNEL = _channel()


def _honest(request: int) -> bytes:
    """Decisions that make an answer which is whole: an opening, two parts, a conclusion, the receipt."""
    parts = {0: (0, 0), 1: (1, 1), 2: (2, 3)}[request]
    kinds = {0: RecordKind.DELTA, 1: RecordKind.LOGPROBS, 2: RecordKind.EMBEDDING}[request]
    records = b"".join(_record(kinds, part) for part in parts) + _record(RecordKind.FINISH, 4)
    return bytes([1, request, 0, 0, len(parts) + 1]) + records + bytes([1])


def _record(kind: RecordKind, content: int) -> bytes:
    return bytes([0, _KINDS.index(kind), content, 0])


def seeds() -> list[bytes]:
    """Honest answers of each task, an error, and each content as it stands."""
    failed = bytes([1, 0, 0, 0, 1]) + _record(RecordKind.ERROR, 5) + bytes([1])
    return [*(_honest(at) for at in range(3)), failed, b"\x01", *(b"\x00" + one for one in CONTENTS)]


def one_input(data: bytes) -> None:
    """The rest to each reader, or an answer made of decisions."""
    if data[:1] in (b"", b"\x00"):
        _readers(data[1:])
    else:
        whole = _answer(Choices(data[1:]))
        assert whole or data not in [_honest(at) for at in range(3)], "an honest answer is not whole"


def _readers(raw: bytes) -> None:
    for read, write in (
        (decode_scored, encode_scored),
        (decode_embedding, encode_embedding),
        (decode_receipt, encode_receipt),
    ):
        try:
            value = read(raw)
        except EvidenceError:
            continue
        assert write(value) == raw  # type: ignore[arg-type]  # each with its own
    exchange = ClientExchange([CHANNEL], REQUESTS[0], Options("tiny"), entropy=secrets.token_bytes)
    try:
        exchange.receive(raw)
    except EvidenceError:
        _ends_truncated(exchange)


def _answer(choices: Choices) -> bool:
    """Whether the client took it as whole."""
    asked = REQUESTS[choices.byte() % len(REQUESTS)]
    padding = (Padding.BASIC, Padding.OFF, Padding.STRICT)[choices.byte() % 3]
    secret = b"s" * 32
    exchange = ClientExchange([CHANNEL], asked, Options("tiny", padding), entropy=lambda size: secret[:size])
    received = _received(exchange)
    made = _Made(choices, received, secret, padding)
    concluded: list[object] = []
    for one in made.frames():
        try:
            event = exchange.receive(one)
        except EvidenceError:
            _ends_truncated(exchange)
            return False
        if isinstance(event, Finished | Failed):
            concluded.append(event)
    if not concluded:
        _ends_truncated(exchange)
        return False
    assert len(concluded) == 1
    assert made.signed, "a whole answer without the enclave's own receipt"
    exchange.end()
    return True


def _received(exchange: ClientExchange) -> Received:
    end = EnclaveExchange(_ENCLAVE.epochs, bytes)
    received = [end.receive(one) for one in exchange.frames][-1]
    assert received is not None
    return received


class _Made:
    """Frames of an answer, by decisions."""

    def __init__(self, choices: Choices, received: Received, secret: bytes, padding: Padding) -> None:
        self._choices, self._received, self._secret = choices, received, secret
        key = response_record_key(secret, bytes(32), received.digest, received.statement)
        self._sealer = RecordSealer(key, Direction.RESPONSE, padding)
        self._digest = RecordsDigest(labels.RESPONSE_DIGEST)
        self._most = capacity(padding)
        self._dummies = 0
        self.signed = False

    def frames(self) -> list[bytes]:
        choices = self._choices
        opening = frame(FrameKind.ANSWER, encode({"nonce": bytes(32), "commit": response_commitment(self._secret)}))
        made = [edited(opening, choices, 1)]
        for _ in range(choices.byte() % 48):
            one = choices.byte() % 4
            made.append(self._record(choices) if one != 3 else edited(choices.pick(made), choices, 2))
        if choices.byte() % 2:
            made.append(self._sealer.seal(RecordKind.RECEIPT, self._receipt()[: self._most], final=True))
        return made

    def _record(self, choices: Choices) -> bytes:
        kind, content = choices.pick(_KINDS), edited(choices.pick(CONTENTS), choices, 1)[: self._most]
        sealed = self._sealer.seal(kind, content)
        self._digest.add(sealed[1:])
        self._dummies += kind is RecordKind.DUMMY
        return sealed

    def _receipt(self) -> bytes:
        received = self._received
        honest = Receipt(
            request=received.digest,
            response=self._digest.digest(),
            records=self._digest.count,
            dummies=self._dummies,
            request_commit=received.header.commit,
            response_commit=response_commitment(self._secret),
            model=CHANNEL.serve.model,
            statement=received.statement,
            purpose=PURPOSE,
            tenant=None,
            lease=bytes(16),
            sequence=1,
            asserted=Asserted(Milliseconds(1), Milliseconds(2), 0, 0),
        )
        raw = sign_receipt(honest, _ENCLAVE.receipt_key)
        changed = edited(raw, self._choices, 1)
        self.signed = parse_sign1(raw, "receipt").payload in changed
        return changed


def _ends_truncated(exchange: ClientExchange) -> None:
    try:
        exchange.end()
    except Truncated:
        return
    raise AssertionError("an answer that is not whole ended as one")
