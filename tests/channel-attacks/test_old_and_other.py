"""An old epoch, a debug enclave, a document of another kind: genuine, and not what a client may seal to."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from anchorhold.attestation.binding import Serve, nsm_nonce
from anchorhold.attestation.channel.client import EpochOver
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import Platform
from anchorhold.client.errors import ClientError, Hinted
from anchorhold.client.sdk import Answer, AsyncClient
from anchorhold.client.session import AttestAnswer
from anchorhold.client.trust import Trust
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import IMAGE, START, LoopbackEnclave
from anchorhold.sim.pki import SimulatedPki

PKI = SimulatedPki.create(START)
EPOCH_S, GRACE_S = 600, 60
TEXT = "The capital of France is Paris."
Change = Callable[[AttestAnswer], AttestAnswer]


class Shows(Link):
    """Evidence as the first time, in whole or in part, once `old` is set."""

    def __init__(self, enclave: LoopbackEnclave) -> None:
        super().__init__(enclave)
        self.old: Change | None = None
        self.first: AttestAnswer | None = None

    def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
        self.first = self.first or answer
        return answer if self.old is None else self.old(answer)


def client(link: Link, trust: Trust | None = None) -> AsyncClient:
    return AsyncClient(trust or loopback_trust(link.enclave), gateway=link, now=link.enclave.clock.utc)


def code_of(link: Link, trust: Trust | None = None) -> str:
    """The code of the refusal, and that nothing was sealed."""
    sealed = len(link.up)
    with pytest.raises((EvidenceError, ClientError)) as caught:
        asyncio.run(client(link, trust).ask("hi"))
    assert len(link.up) == sealed, "not one byte was sealed"
    return str(getattr(caught.value, "code", None))


# An old epoch


@pytest.mark.parametrize(
    ("kept", "code"),
    [(("document", "statement"), "nonce"), (("statement",), "user-data"), (("document",), "nonce")],
    ids=["whole", "statement", "document"],
)
def test_evidence_of_an_epoch_that_is_over_gains_nothing(kept: tuple[str, ...], code: str) -> None:
    enclave = LoopbackEnclave(PKI, lease_s=3_600.0)
    link = Shows(enclave)
    assert asyncio.run(client(link).ask("hi")).text == TEXT
    first = link.first
    assert first is not None
    enclave.clock.advance(EPOCH_S)
    link.old = lambda answer: replace(answer, **{name: getattr(first, name) for name in kept})
    # Its age alone would refuse a document that old: let it pass, to see that age is not all that stands against it.
    assert code_of(link, replace(loopback_trust(enclave), max_age_s=2 * EPOCH_S)) == code


def test_an_epoch_attested_in_time_and_shown_after_its_end_is_over_by_the_clients_own_clock() -> None:
    """The parent holds the answer to this very nonce back until the epoch is over; document age is no defence here."""
    enclave = LoopbackEnclave(PKI, lease_s=3_600.0)

    class HoldsBack(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            if not self.up:
                self.enclave.clock.advance(EPOCH_S)
            return answer

    link = HoldsBack(enclave)
    trust = replace(loopback_trust(enclave), max_age_s=EPOCH_S + 1)
    with pytest.raises(EpochOver):
        asyncio.run(client(link, trust).ask("hi"))
    assert link.up == []


def test_a_request_held_back_past_grace_is_run_once_under_the_next_epoch_and_counted() -> None:
    """The enclave has dropped the key: all it can say is a hint, and the client seals anew, under a new K."""
    enclave = LoopbackEnclave(PKI, lease_s=3_600.0)

    class HoldsRequest(Link):
        def pick(self) -> LoopbackEnclave:
            if len(self.up) == 0:
                self.enclave.clock.advance(EPOCH_S + GRACE_S)
            return self.enclave

    link = HoldsRequest(enclave)

    async def run() -> tuple[Answer, int]:
        one = client(link)
        return await one.ask("hi"), one.resealed

    answer, resealed = asyncio.run(run())
    assert (answer.text, answer.resealed, resealed) == (TEXT, 1, 1)
    assert len(enclave.engine.seen) == 1
    assert link.attests == 2


def test_a_request_held_back_for_ever_ends_with_the_hint() -> None:
    enclave = LoopbackEnclave(PKI, lease_s=3_600.0)

    class HoldsAll(Link):
        def pick(self) -> LoopbackEnclave:
            self.enclave.clock.advance(EPOCH_S + GRACE_S)
            return self.enclave

    with pytest.raises(Hinted) as caught:
        asyncio.run(client(HoldsAll(enclave)).ask("hi"))
    assert (caught.value.code, caught.value.resealed) == ("unknown-key", 1)
    assert enclave.engine.seen == []


# A debug enclave


def test_a_debug_enclave_of_the_right_image_is_refused_by_that_name() -> None:
    """In debug mode the measurements are zero: whoever pinned them must not be told of another image."""
    debug = LoopbackEnclave(PKI, measurements=dict.fromkeys(IMAGE, bytes(48)))
    genuine = LoopbackEnclave(PKI, clock=debug.clock, configuration=debug.configuration, owner_key=debug.owner_key)
    assert code_of(Link(debug), loopback_trust(genuine)) == "debug"
    assert asyncio.run(client(Link(genuine), loopback_trust(genuine)).ask("hi")).text == TEXT


def test_a_simulated_enclave_is_none_to_a_production_policy() -> None:
    enclave = LoopbackEnclave(PKI)
    production = replace(loopback_trust(enclave), platforms=frozenset({Platform.NITRO_ENCLAVE}))
    assert code_of(Link(enclave), production) == "platform"
    assert code_of(Link(enclave), replace(production, root=None)) == "wrong-root"


# Another kind of document


def test_a_document_that_carries_a_key_for_a_key_service_makes_no_channel() -> None:
    """The nonce and the statement are right; a `serve` document has no public key in it."""
    enclave = LoopbackEnclave(PKI)

    class WithKey(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            epoch = self.enclave.epochs.current()
            document = self.enclave.nsm.attest(
                user_data=epoch.statement, nonce=nsm_nonce(Serve, nonce), public_key=b"\x30" * 294
            )
            return replace(answer, document=document)

    assert code_of(WithKey(enclave)) == "public-key"
