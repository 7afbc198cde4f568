"""Both ends of the channel, joined frame by frame: what holds, and what each end refuses."""

import secrets
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import labels
from anchorhold.attestation.binding import Genesis, Serve, encode_statement, nsm_nonce, statement_digest
from anchorhold.attestation.canonical import decode, encode
from anchorhold.attestation.channel.body import Chat, Finish, FinishReason, Message, Role, Sampling, tenant_message
from anchorhold.attestation.channel.client import Channel, ClientExchange, Delta, EpochOver, Failed, Finished, Options
from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.channel.enclave import EnclaveExchange, Received
from anchorhold.attestation.channel.errors import (
    ChannelError,
    OutOfOrder,
    RecordInvalid,
    SlotInvalid,
    Truncated,
    UnknownKey,
)
from anchorhold.attestation.channel.header import (
    decode_opening,
    encode_header,
    encode_opening,
    open_slot,
    request_record_key,
)
from anchorhold.attestation.channel.padding import MAX_CONTENT, Padding
from anchorhold.attestation.channel.receipt import Asserted, Receipt, sign_receipt
from anchorhold.attestation.channel.record import (
    Direction,
    FrameKind,
    RecordKind,
    RecordOpener,
    RecordSealer,
    frame,
)
from anchorhold.attestation.cose import parse_sign1, sign1
from anchorhold.attestation.errors import Malformed, Mismatch, SignatureInvalid, TooLarge
from anchorhold.attestation.types import ConfigDigest, Milliseconds, ModelDigest, Sha384
from anchorhold.attestation.verify import Evidence, verify_live
from anchorhold.sim.link import loopback_trust
from anchorhold.sim.loopback import PURPOSE, START, LoopbackEnclave
from anchorhold.sim.pki import SimulatedPki

PKI = SimulatedPki.create(START)
REQUEST = Chat((Message(Role.USER, "hi"),), Sampling(16), PURPOSE)
FINISH = Finish(FinishReason.STOP, 7, 2)


@pytest.fixture
def enclave() -> LoopbackEnclave:
    return LoopbackEnclave(PKI)


def evidence(enclave: LoopbackEnclave) -> tuple[Evidence, bytes]:
    trust, nonce = loopback_trust(enclave), secrets.token_bytes(32)
    said = enclave.attest(nonce)
    verified = verify_live(said.document, trust.policy, trust.anchor, enclave.clock.now, nsm_nonce(Serve, nonce))
    return verified, said.statement


def channel(enclave: LoopbackEnclave) -> Channel:
    trust = loopback_trust(enclave)
    return Channel(*evidence(enclave), model=trust.model, configuration=trust.configuration)


class Ends:
    """A client's request to some enclaves, and the exchange of one of them."""

    def __init__(self, *enclaves: LoopbackEnclave, at: int = 0, options: Options | None = None) -> None:
        self.enclave = enclaves[at]
        self.client = ClientExchange(
            [channel(one) for one in enclaves], REQUEST, options or Options("tiny"), entropy=secrets.token_bytes
        )
        self.exchange = EnclaveExchange(self.enclave.epochs, secrets.token_bytes)

    def request(self) -> Received:
        received = None
        for sent in self.client.frames:
            received = self.exchange.receive(sent)
        assert received is not None
        return received

    def receipt(self, received: Received, change: Callable[[Receipt], Receipt] = lambda one: one) -> bytes:
        digest, count = self.exchange.response_digest
        receipt = Receipt(
            received.digest,
            digest,
            count,
            self.exchange.dummies,
            received.header.commit,
            self.exchange.response_commit,
            channel(self.enclave).serve.model,
            received.statement,
            PURPOSE,
            None,
            bytes(16),
            1,
            Asserted(Milliseconds(1), Milliseconds(2), 0, 0),
        )
        return sign_receipt(change(receipt), self.enclave.receipt_key)

    def answer(self, received: Received, *, dummies: int = 1) -> None:
        self.client.receive(self.exchange.answer())
        assert isinstance(self.client.receive(self.exchange.delta("Par")), Delta)
        for _ in range(dummies):
            self.client.receive(self.exchange.dummy())
        assert isinstance(self.client.receive(self.exchange.delta("is")), Delta)
        assert self.client.receive(self.exchange.finish(FINISH)) is None, "finish is not reported without the receipt"


def test_a_whole_exchange(enclave: LoopbackEnclave) -> None:
    ends = Ends(enclave)
    received = ends.request()
    assert received.request == REQUEST
    ends.answer(received)
    done = ends.client.receive(ends.exchange.close(ends.receipt(received)))
    assert isinstance(done, Finished)
    assert done.finish == FINISH
    ends.client.end()
    assert (done.receipt.tag, done.receipt.commitment) == ends.exchange.log_entry(done.receipt.raw)


def test_an_error_is_the_enclaves_word_only_with_its_receipt(enclave: LoopbackEnclave) -> None:
    ends = Ends(enclave)
    received = ends.request()
    ends.client.receive(ends.exchange.answer())
    assert ends.client.receive(ends.exchange.error(Code.BUSY)) is None
    done = ends.client.receive(ends.exchange.close(ends.receipt(received)))
    assert isinstance(done, Failed)
    assert done.code == "busy"


def test_nothing_is_acted_on_before_the_final_request_record(enclave: LoopbackEnclave) -> None:
    ends = Ends(enclave)
    assert ends.exchange.receive(ends.client.frames[0]) is None
    with pytest.raises(OutOfOrder):
        ends.exchange.answer()


def test_a_large_request_takes_several_records(enclave: LoopbackEnclave) -> None:
    request = replace(REQUEST, messages=(Message(Role.USER, "x" * (2 * MAX_CONTENT)),))
    client = ClientExchange([channel(enclave)], request, Options("tiny"), entropy=secrets.token_bytes)
    assert len(client.frames) == 4
    exchange = EnclaveExchange(enclave.epochs, secrets.token_bytes)
    received = [exchange.receive(sent) for sent in client.frames]
    assert received[:-1] == [None, None, None]
    assert received[-1] is not None
    assert received[-1].request == request


@pytest.mark.parametrize("at", [0, 1, 2])
def test_each_chosen_enclave_can_answer_and_the_client_knows_which(at: int) -> None:
    enclaves = [LoopbackEnclave(PKI) for _ in range(3)]
    ends = Ends(*enclaves, at=at)
    received = ends.request()
    ends.answer(received)
    assert isinstance(ends.client.receive(ends.exchange.close(ends.receipt(received))), Finished)
    by = ends.client.answered_by
    assert by is not None
    assert by.serve.boot_id == enclaves[at].boot_id


def test_a_chosen_enclave_cannot_answer_for_another() -> None:
    """B has K and reads the request. The answer under B's own secret names B; under a made-up one it names nobody."""
    first, second = LoopbackEnclave(PKI), LoopbackEnclave(PKI)
    ends = Ends(first, second, at=1)
    received = ends.request()
    ends.answer(received)
    lying = ends.receipt(received, lambda one: replace(one, statement=first.epochs.current().statement))
    with pytest.raises(Mismatch) as caught:
        ends.client.receive(ends.exchange.close(lying))
    assert caught.value.what == "receipt: statement digest"


def test_a_chosen_enclave_cannot_change_the_request_of_another_unseen() -> None:
    """B, which has K, re-seals the request records for A; A answers something else, and the client sees it."""
    first, second = LoopbackEnclave(PKI), LoopbackEnclave(PKI)
    ends = Ends(first, second, at=0)
    record = ends.client.frames[1]
    opening = decode_opening(ends.client.frames[0][1:])
    key_b = second.epochs.find(opening.header.targets[1])
    assert key_b is not None
    k, _ = open_slot(opening.slots[1], key_b.key, statement=key_b.statement, header=opening.digest, index=1)
    key = request_record_key(k, opening.digest)
    plain = RecordOpener(key, Direction.REQUEST, Padding.BASIC).open(record[1:], final=True).content
    forged = RecordSealer(key, Direction.REQUEST, Padding.BASIC).seal(
        RecordKind.BODY, plain.replace(b"hi", b"ha"), final=True
    )
    ends.exchange.receive(ends.client.frames[0])
    received = ends.exchange.receive(forged)
    assert received is not None
    assert received.request == replace(REQUEST, messages=(Message(Role.USER, "ha"),))
    ends.client.receive(ends.exchange.answer())
    with pytest.raises(RecordInvalid):
        ends.client.receive(ends.exchange.delta("x"))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda one: replace(one, request=bytes(48)), "request digest"),
        (lambda one: replace(one, response=bytes(48)), "response digest"),
        (lambda one: replace(one, records=3), "number of response records"),
        (lambda one: replace(one, dummies=0), "number of dummies"),
        (lambda one: replace(one, request_commit=bytes(32)), "commitment of the request key"),
        (lambda one: replace(one, response_commit=bytes(32)), "commitment of the response secret"),
        (lambda one: replace(one, model=ModelDigest(bytes(48))), "model (D)"),
        (lambda one: replace(one, purpose="other"), "purpose"),
        (lambda one: replace(one, adapter=ModelDigest(bytes(48))), "adapter"),
    ],
)
def test_a_receipt_about_anything_else_is_refused(
    enclave: LoopbackEnclave, change: Callable[[Receipt], Receipt], what: str
) -> None:
    ends = Ends(enclave)
    received = ends.request()
    ends.answer(received)
    with pytest.raises(Mismatch) as caught:
        ends.client.receive(ends.exchange.close(ends.receipt(received, change)))
    assert caught.value.what == f"receipt: {what}"
    with pytest.raises(Truncated):
        ends.client.end()


def test_a_receipt_by_another_key_or_under_another_label_is_refused(enclave: LoopbackEnclave) -> None:
    for key, label in ((Ed25519PrivateKey.generate(), labels.RECEIPT), (enclave.receipt_key, labels.LEASE_ASSERTED)):
        ends = Ends(enclave)
        received = ends.request()
        ends.answer(received)
        honest = parse_sign1(ends.receipt(received), "receipt").payload
        with pytest.raises(SignatureInvalid):
            ends.client.receive(ends.exchange.close(sign1(honest, key, aad=label)))


def test_no_record_comes_before_the_answers_opening_or_after_the_final_one(enclave: LoopbackEnclave) -> None:
    ends = Ends(enclave)
    received = ends.request()
    with pytest.raises(OutOfOrder):
        ends.exchange.delta("x")
    ends = Ends(enclave)
    received = ends.request()
    ends.answer(received)
    final = ends.exchange.close(ends.receipt(received))
    ends.client.receive(final)
    with pytest.raises(RecordInvalid):
        ends.client.receive(final)
    with pytest.raises(OutOfOrder):
        ends.exchange.delta("x")


def test_a_final_record_without_a_finish_is_refused(enclave: LoopbackEnclave) -> None:
    ends = Ends(enclave)
    received = ends.request()
    ends.client.receive(ends.exchange.answer())
    with pytest.raises(OutOfOrder):
        ends.exchange.close(ends.receipt(received))


def test_a_refused_exchange_stays_refused(enclave: LoopbackEnclave) -> None:
    ends = Ends(enclave)
    good = ends.client.frames
    with pytest.raises(Malformed):
        ends.exchange.receive(b"")
    with pytest.raises(OutOfOrder):
        ends.exchange.receive(good[0])


# What the enclave refuses of an opening


def change_opening(raw: bytes, **changes: object) -> bytes:
    opening = decode_opening(raw[1:])
    header = replace(opening.header, **changes)  # type: ignore[arg-type]  # the tests name real fields
    return frame(FrameKind.OPEN, encode_opening(encode_header(header), opening.slots))


@pytest.mark.parametrize(
    "changes",
    [{"alias": "other"}, {"admission": b"x"}, {"deadline": 5}, {"padding": Padding.OFF}, {"commit": bytes(32)}],
)
def test_a_changed_header_does_not_open(enclave: LoopbackEnclave, changes: dict[str, object]) -> None:
    ends = Ends(enclave)
    with pytest.raises(SlotInvalid):
        ends.exchange.receive(change_opening(ends.client.frames[0], **changes))


def test_another_key_id_is_unknown(enclave: LoopbackEnclave) -> None:
    ends = Ends(enclave)
    with pytest.raises(UnknownKey):
        ends.exchange.receive(change_opening(ends.client.frames[0], targets=(bytes(16),)))


def test_slots_in_another_order_do_not_open() -> None:
    ends = Ends(LoopbackEnclave(PKI), LoopbackEnclave(PKI))
    opening = decode_opening(ends.client.frames[0][1:])
    swapped = encode_opening(opening.raw_header, opening.slots[::-1])
    with pytest.raises(SlotInvalid):
        ends.exchange.receive(frame(FrameKind.OPEN, swapped))


def test_a_slot_added_by_somebody_with_k_is_seen() -> None:
    """Second of two slots replaced on the way: the sealed list still names the one the client made."""
    ends = Ends(LoopbackEnclave(PKI), LoopbackEnclave(PKI))
    opening = decode_opening(ends.client.frames[0][1:])
    other = bytes(len(opening.slots[1]))
    ends.exchange.receive(frame(FrameKind.OPEN, encode_opening(opening.raw_header, (opening.slots[0], other))))
    with pytest.raises(Mismatch) as caught:
        ends.exchange.receive(ends.client.frames[1])
    assert caught.value.what == "sealed list of slots"


def test_nine_enclaves_are_too_many(enclave: LoopbackEnclave) -> None:
    with pytest.raises(Malformed):
        Ends(*[enclave] * 9)


def test_a_doubled_or_unknown_field_is_refused(enclave: LoopbackEnclave) -> None:
    ends = Ends(enclave)
    members = decode(ends.client.frames[0][1:], "opening", limit=1 << 16)
    assert isinstance(members, dict)
    with pytest.raises(Malformed):
        ends.exchange.receive(frame(FrameKind.OPEN, encode({**members, "more": 1})))


def test_an_oversized_frame_is_refused_before_it_is_read(enclave: LoopbackEnclave) -> None:
    with pytest.raises(TooLarge):
        Ends(enclave).exchange.receive(bytes(1 << 20))


def test_either_end_refuses_the_others_frames(enclave: LoopbackEnclave) -> None:
    ends = Ends(enclave)
    with pytest.raises(ChannelError):
        ends.client.receive(ends.client.frames[0])
    ends.request()
    answer = ends.exchange.answer()
    with pytest.raises(ChannelError):
        Ends(enclave).exchange.receive(answer)


# A channel exists only as the result of verification


def test_a_channel_needs_evidence_of_exactly_this_statement(enclave: LoopbackEnclave) -> None:
    trust = loopback_trust(enclave)
    verified, statement = evidence(enclave)
    with pytest.raises(TypeError):
        Evidence(*[None] * 8)  # type: ignore[arg-type]  # nobody but the verifier makes one
    with pytest.raises(Mismatch):
        Channel(verified, statement + b"\x00", model=trust.model, configuration=trust.configuration)
    other_model, other_configuration = ModelDigest(bytes(48)), ConfigDigest(bytes(48))
    with pytest.raises(Mismatch):
        Channel(verified, statement, model=other_model, configuration=trust.configuration)
    with pytest.raises(Mismatch):
        Channel(verified, statement, model=trust.model, configuration=other_configuration)


def test_a_genesis_document_makes_no_channel(enclave: LoopbackEnclave) -> None:
    trust = loopback_trust(enclave)
    public = enclave.receipt_key.public_key().public_bytes_raw()
    genesis = Genesis(enclave.boot_id, public, bytes(1952), public, trust.configuration, None)
    nonce = nsm_nonce(Serve, b"n" * 32)
    raw = enclave.nsm.attest(user_data=statement_digest(genesis), nonce=nonce)
    verified = verify_live(raw, trust.policy, trust.anchor, enclave.clock.now, nonce)
    with pytest.raises(Mismatch):
        Channel(verified, encode_statement(genesis), model=trust.model, configuration=trust.configuration)


def test_an_epoch_ends_for_the_client_too(enclave: LoopbackEnclave) -> None:
    one = channel(enclave)
    one.check_epoch(Milliseconds(one.serve.not_after - 1))
    with pytest.raises(EpochOver):
        one.check_epoch(one.serve.not_after)


def test_the_tenant_signs_header_slots_and_body() -> None:
    zero, one, two = Sha384(bytes(48)), Sha384(bytes([1]) * 48), Sha384(bytes([2]) * 48)
    base = (zero, (one, two), b"body")
    said = tenant_message(*base)
    for other in (
        (Sha384(bytes([9]) * 48), base[1], base[2]),
        (base[0], base[1][::-1], base[2]),
        (base[0], base[1][:1], base[2]),
        (base[0], base[1], b"bodies"),
    ):
        assert tenant_message(*other) != said
