"""A chosen enclave turned hostile, and anybody else, acting in a tenant's name: what they make is refused.

The hostile one is played by whoever holds its channel key: it opened its slot, so it has K, the whole sealed request
with credential and signature, and its own R. It makes real requests out of that for enclaves that run untouched.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.binding import Serve, nsm_nonce
from anchorhold.attestation.canonical import decode_map
from anchorhold.attestation.channel.body import (
    Chat,
    Message,
    Role,
    Sampling,
    SealedRequest,
    decode_sealed,
    encode_infer,
    encode_sealed,
    tenant_message,
)
from anchorhold.attestation.channel.client import Channel, ClientExchange, Options, TenantKey
from anchorhold.attestation.channel.enclave import EnclaveExchange, Received
from anchorhold.attestation.channel.errors import RecordInvalid, Truncated
from anchorhold.attestation.channel.header import (
    Opening,
    decode_opening,
    encode_header,
    encode_opening,
    header_digest,
    open_slot,
    request_record_key,
    response_record_key,
    seal_slot,
    slot_digest,
)
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.channel.receipt import verify_receipt
from anchorhold.attestation.channel.record import (
    Direction,
    FrameKind,
    RecordKind,
    RecordOpener,
    RecordSealer,
    frame,
)
from anchorhold.attestation.channel.tenant import TenantCredential, issue_credential
from anchorhold.attestation.errors import Mismatch, SignatureInvalid
from anchorhold.attestation.types import KeyId, Milliseconds, Sha384
from anchorhold.attestation.verify import verify_live
from anchorhold.client.sdk import AsyncClient, Settings
from anchorhold.enclave.serve.tenancy import Party, verified_party
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import MODEL, PURPOSE, START, LoopbackEnclave, ManualClock, loopback_configuration
from anchorhold.sim.pki import SimulatedPki

PKI = SimulatedPki.create(START)
ISSUER = Ed25519PrivateKey.generate()
OWNER = Ed25519PrivateKey.generate()
CONFIGURATION = loopback_configuration(OWNER, credential_issuer=ISSUER.public_key().public_bytes_raw())
REQUEST = Chat((Message(Role.USER, "pay 10 to A"),), Sampling(16), PURPOSE)
ALTERED = Chat((Message(Role.USER, "pay 99 to B"),), Sampling(16), PURPOSE)
BOOT_SECRET = bytes(32)


def booted() -> LoopbackEnclave:
    """One boot of the same deployment as all others here."""
    return LoopbackEnclave(PKI, configuration=CONFIGURATION, owner_key=OWNER)


def tenant(name: str = "acme") -> TenantKey:
    key = Ed25519PrivateKey.generate()
    end = Milliseconds(ManualClock().ms() + 3_600_000)
    credential = TenantCredential(name, key.public_key().public_bytes_raw(), MODEL, (PURPOSE,), (), end)
    return TenantKey(issue_credential(credential, ISSUER), key)


def channel(enclave: LoopbackEnclave) -> Channel:
    trust, nonce = loopback_trust(enclave), secrets.token_bytes(32)
    said = enclave.attest(nonce)
    evidence = verify_live(said.document, trust.policy, trust.anchor, enclave.clock.now, nsm_nonce(Serve, nonce))
    return Channel(evidence, said.statement, model=trust.model, configuration=trust.configuration)


def party(received: Received, issuer: Ed25519PrivateKey = ISSUER) -> Party:
    """Whose request it is, as an enclave finds out."""
    return verified_party(
        received,
        issuer=issuer.public_key().public_bytes_raw(),
        model=MODEL,
        now=ManualClock().ms(),
        boot_secret=BOOT_SECRET,
        entropy=secrets.token_bytes,
    )


def arrives(enclave: LoopbackEnclave, frames: Sequence[bytes]) -> Received:
    """The whole request at that enclave."""
    exchange = EnclaveExchange(enclave.epochs, secrets.token_bytes)
    received = [exchange.receive(one) for one in frames][-1]
    assert received is not None
    return received


@dataclass(frozen=True)
class Loot:
    """What a chosen enclave has of a request: everything but the other enclaves' R."""

    opening: Opening
    k: bytes
    r: bytes
    sealed: SealedRequest

    @property
    def record_key(self) -> bytes:
        return request_record_key(self.k, self.opening.digest)


def turned(enclave: LoopbackEnclave, frames: Sequence[bytes]) -> Loot:
    """What `enclave` has once it has turned hostile."""
    opening = decode_opening(frames[0][1:])
    key_id = enclave.epochs.current().key_id
    at, own = opening.header.targets.index(key_id), enclave.epochs.find(key_id)
    assert own is not None
    k, r = open_slot(opening.slots[at], own.key, statement=own.statement, header=opening.digest, index=at)
    opener = RecordOpener(request_record_key(k, opening.digest), Direction.REQUEST, Padding.BASIC)
    record = opener.open(frames[1][1:], final=True)
    return Loot(opening, k, r, decode_sealed(record.content))


def resealed(key: bytes, sealed: SealedRequest) -> bytes:
    """The one record of a request, under any request record key."""
    sealer = RecordSealer(key, Direction.REQUEST, Padding.BASIC)
    return sealer.seal(RecordKind.BODY, encode_sealed(sealed), final=True)


def forged(loot: Loot, target: LoopbackEnclave, *, list_it: bool = True, change: bytes | None = None) -> list[bytes]:
    """A request to `target` alone, made of what the loot holds: a slot of the forger's own, the tenant's signature."""
    epoch = target.epochs.current()
    header = encode_header(replace(loot.opening.header, targets=(KeyId(epoch.key_id),)))
    digest = header_digest(header)
    slot = seal_slot(loot.k + loot.r, epoch.key.public, statement=epoch.statement, header=digest, index=0)
    slots = (slot_digest(slot),) if list_it else loot.sealed.slots
    sealed = replace(loot.sealed, slots=slots, body=loot.sealed.body if change is None else change)
    record = resealed(request_record_key(loot.k, digest), sealed)
    return [frame(FrameKind.OPEN, encode_opening(header, (slot,))), record]


def nonce_of(answer: bytes) -> bytes:
    """The enclave's nonce, in clear in the first frame of an answer."""
    members = decode_map(answer[1:], "answer", limit=128, fields={"nonce": bytes, "commit": bytes})
    nonce = members["nonce"]
    assert isinstance(nonce, bytes)
    return nonce


def sent(*enclaves: LoopbackEnclave, by: TenantKey | None) -> ClientExchange:
    return ClientExchange(
        [channel(one) for one in enclaves], REQUEST, Options("tiny"), entropy=secrets.token_bytes, tenant=by
    )


# A slot made in a tenant's name


def test_a_slot_forged_in_a_tenants_name_to_an_enclave_it_did_not_choose_is_refused() -> None:
    chosen, hostile, third = booted(), booted(), booted()
    frames = sent(chosen, hostile, by=tenant()).frames
    # The control: the tenant's own request is the tenant's, at both.
    assert party(arrives(chosen, frames)).tenant == party(arrives(hostile, frames)).tenant is not None
    received = arrives(third, forged(turned(hostile, frames), third))
    assert received.request == REQUEST, "everything opens: only the signature stands against it"
    with pytest.raises(SignatureInvalid):
        party(received)


def test_the_enclave_answers_a_forged_slot_with_tenant_and_generates_nothing() -> None:
    """Through the whole serving side; the forger reads the answer, for it has made that R itself."""
    chosen, hostile, third = booted(), booted(), booted()
    loot = turned(hostile, sent(chosen, hostile, by=tenant()).frames)
    frames = forged(loot, third)

    async def run() -> list[bytes]:
        link = Link(third)
        return [one async for one in link.infer(frames, key_ids=[], alias="tiny", timeout_s=5)]

    answer, *records = asyncio.run(run())
    received = arrives(third, frames)
    key = response_record_key(loot.r, nonce_of(answer), received.digest, received.statement)
    opener = RecordOpener(key, Direction.RESPONSE, Padding.BASIC)
    said = [opener.open(one[1:], final=one[0] == FrameKind.FINAL) for one in records]
    assert [(one.kind, one.content) for one in said[:-1]] == [(RecordKind.ERROR, b"tenant")]
    receipt = verify_receipt(said[-1].content, third.receipt_key.public_key().public_bytes_raw())
    assert (receipt.tenant, receipt.lease) == (None, None)
    assert third.engine.seen == []


def test_the_list_of_slots_that_the_tenant_signed_does_not_hold_a_forged_one() -> None:
    """The forger keeps the tenant's list, so that the signature over it may hold: the enclave's own slot is missing."""
    chosen, hostile, third = booted(), booted(), booted()
    loot = turned(hostile, sent(chosen, hostile, by=tenant()).frames)
    exchange = EnclaveExchange(third.epochs, secrets.token_bytes)
    opening, record = forged(loot, third, list_it=False)
    exchange.receive(opening)
    with pytest.raises(Mismatch) as caught:
        exchange.receive(record)
    assert caught.value.what == "own slot in the sealed list"


@pytest.mark.parametrize("slots", [(), (0,), (1, 0), (0, 1, 1)], ids=["none", "one", "other order", "three"])
def test_any_other_list_of_slots_is_refused(slots: tuple[int, ...]) -> None:
    """The hostile enclave, with K, writes the record anew for the other one, with another list."""
    chosen, hostile = booted(), booted()
    frames = sent(chosen, hostile, by=None).frames
    loot = turned(hostile, frames)
    listed = tuple(loot.sealed.slots[at] for at in slots) or (Sha384(bytes(48)),)
    exchange = EnclaveExchange(chosen.epochs, secrets.token_bytes)
    exchange.receive(frames[0])
    with pytest.raises(Mismatch) as caught:
        exchange.receive(resealed(loot.record_key, replace(loot.sealed, slots=listed)))
    assert "sealed list" in caught.value.what


# A body altered under K


def test_a_body_altered_under_k_is_not_the_tenants() -> None:
    chosen, hostile = booted(), booted()
    frames = sent(chosen, hostile, by=tenant()).frames
    loot = turned(hostile, frames)
    altered = resealed(loot.record_key, replace(loot.sealed, body=encode_infer(ALTERED)))
    received = arrives(chosen, [frames[0], altered])
    assert received.request == ALTERED, "it opens: K is all that record needs"
    with pytest.raises(SignatureInvalid):
        party(received)


def test_a_body_altered_under_k_is_refused_by_the_client_at_the_first_response_record() -> None:
    """Nobody signed: the enclave answers what it was asked, under a key that hangs on what it was asked."""
    chosen, hostile = booted(), booted()

    class Altering(Link):
        def to_enclave(self, frames: Sequence[bytes]) -> Sequence[bytes]:
            loot = turned(hostile, frames)
            return [frames[0], resealed(loot.record_key, replace(loot.sealed, body=encode_infer(ALTERED)))]

    exchange = sent(chosen, hostile, by=None)
    link = Altering(chosen)

    async def run() -> int:
        at = 0
        async for one in link.infer(exchange.frames, key_ids=[], alias="tiny", timeout_s=5):
            if at == 1:
                with pytest.raises(RecordInvalid):
                    exchange.receive(one)
                return at
            assert exchange.receive(one) is None
            at += 1
        raise AssertionError("no record came")

    assert asyncio.run(run()) == 1, "the opening of the answer, then the first record"
    assert chosen.engine.seen[0].messages[0].content == "pay 99 to B", "the altered request did run"
    with pytest.raises(Truncated):
        exchange.end()


def test_a_signature_does_not_move_to_another_header_or_partition() -> None:
    acme = tenant()
    enclave, hostile = booted(), booted()
    loot = turned(hostile, sent(enclave, hostile, by=acme).frames)
    signed = tenant_message(loot.opening.digest, loot.sealed.slots, loot.sealed.body)
    assert loot.sealed.signature is not None
    acme.key.public_key().verify(loot.sealed.signature, signed)
    with pytest.raises(SignatureInvalid):
        party(arrives(enclave, forged(loot, enclave)))
    with pytest.raises(SignatureInvalid):
        party(arrives(enclave, forged(loot, enclave, change=encode_infer(replace(REQUEST, partition=b"x")))))


# Another's answer


def test_a_chosen_enclave_cannot_read_another_ones_answer() -> None:
    chosen, hostile = booted(), booted()
    exchange = sent(chosen, hostile, by=None)
    loot = turned(hostile, exchange.frames)
    end = EnclaveExchange(chosen.epochs, secrets.token_bytes)
    received = [end.receive(one) for one in exchange.frames][-1]
    assert received is not None
    answer, first = end.answer(), end.delta("secret")
    # Everything but R is known to it: the nonce is in clear, and the request digest it computes itself.
    theirs = response_record_key(loot.r, nonce_of(answer), received.digest, received.statement)
    with pytest.raises(RecordInvalid):
        RecordOpener(theirs, Direction.RESPONSE, Padding.BASIC).open(first[1:], final=False)
    exchange.receive(answer)
    event = exchange.receive(first)
    assert event is not None, "the control: its client reads it"


# As another tenant


@pytest.mark.parametrize("has", ["the credential", "credential and signature", "a credential of its own making"])
def test_a_request_as_another_tenant_gets_nothing_of_that_tenant(has: str) -> None:
    acme, hostile, target = tenant(), booted(), booted()
    theirs = party(arrives(target, sent(target, by=acme).frames))
    assert theirs.tenant is not None
    loot = turned(hostile, sent(hostile, by=acme).frames)
    mine = Ed25519PrivateKey.generate()
    if has == "credential and signature":
        frames: Sequence[bytes] = forged(loot, target)
    elif has == "the credential":
        frames = sent(target, by=TenantKey(acme.credential, mine)).frames
    else:
        end = Milliseconds(ManualClock().ms() + 3_600_000)
        made = TenantCredential("acme", mine.public_key().public_bytes_raw(), MODEL, (PURPOSE,), (), end)
        frames = sent(target, by=TenantKey(issue_credential(made, mine), mine)).frames
    with pytest.raises(SignatureInvalid):
        party(arrives(target, frames))


def test_without_a_credential_nobody_meets_a_tenants_cache_whatever_partition_is_named() -> None:
    acme, target = tenant(), booted()
    for by in (acme, None, None):
        client = AsyncClient(loopback_trust(target), gateway=Link(target), now=target.clock.utc, tenant=by)
        asyncio.run(client.ask("hi", Settings(partition=b"p")))
    spaces = [one.namespace for one in target.engine.seen]
    assert len(set(spaces)) == len(spaces) == 3


def test_another_tenant_of_the_same_deployment_has_another_namespace_and_pseudonym() -> None:
    target = booted()
    parties = [party(arrives(target, sent(target, by=tenant(name)).frames)) for name in ("acme", "acme", "acm")]
    assert parties[0] == parties[1], "two keys of one tenant are one tenant"
    assert parties[2].namespace != parties[0].namespace
    assert parties[2].tenant != parties[0].tenant
