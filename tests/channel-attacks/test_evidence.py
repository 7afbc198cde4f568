"""Another enclave, another key, another root, an old lease, a hint: what a parent may show instead of the truth.

Each test changes one thing on an otherwise honest link and expects one named error.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from anchorhold.attestation.binding import Serve, decode_statement, encode_statement
from anchorhold.attestation.channel.client import Finished
from anchorhold.attestation.channel.seal import HYBRID_SEED, HybridPrivateKey
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.client.errors import Hinted, LeaseEnded, Refused, Unavailable
from anchorhold.client.gateway import GatewayBroke
from anchorhold.client.sdk import Answer, AsyncClient
from anchorhold.client.session import AttestAnswer
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import START, LoopbackEnclave
from anchorhold.sim.pki import SimulatedPki

PKI = SimulatedPki.create(START)
TEXT = "The capital of France is Paris."


@pytest.fixture
def enclave() -> LoopbackEnclave:
    return LoopbackEnclave(PKI)


def client(link: Link) -> AsyncClient:
    return AsyncClient(loopback_trust(link.enclave), gateway=link, now=link.enclave.clock.utc)


def ask(link: Link) -> Answer:
    return asyncio.run(client(link).ask("hi"))


def deltas_then_error(link: Link) -> tuple[str, Exception]:
    """What was shown before the error, and the error."""

    async def run() -> tuple[str, Exception]:
        shown = ""
        try:
            async for event in client(link).stream("hi"):
                assert not isinstance(event, Finished), "an attacked answer was reported as finished"
                shown += event.text
        except (EvidenceError, Unavailable, Hinted, Refused, LeaseEnded) as error:
            return shown, error
        raise AssertionError("the attack went unseen")

    return asyncio.run(run())


# From another enclave


def test_another_enclaves_answer_is_seen(enclave: LoopbackEnclave) -> None:
    other = LoopbackEnclave(PKI, clock=enclave.clock, configuration=enclave.configuration, owner_key=enclave.owner_key)

    class Elsewhere(Link):
        def pick(self) -> LoopbackEnclave:
            return other

    shown, error = deltas_then_error(Elsewhere(enclave))
    assert isinstance(error, Hinted), "the other enclave cannot open the slot, so all there is, is a hint"
    assert error.code == "unknown-key"
    assert error.resealed == 1
    assert shown == ""
    assert not other.engine.seen


def test_another_clients_answer_from_another_enclave_is_seen(enclave: LoopbackEnclave) -> None:
    other = LoopbackEnclave(PKI, clock=enclave.clock, configuration=enclave.configuration, owner_key=enclave.owner_key)
    genuine = Link(other)
    ask(genuine)

    class Other(Link):
        def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
            return (genuine.down[at],)

    assert isinstance(deltas_then_error(Other(enclave))[1], Mismatch)


def test_a_lease_of_another_boot_is_seen(enclave: LoopbackEnclave) -> None:
    other = LoopbackEnclave(PKI, clock=enclave.clock, configuration=enclave.configuration, owner_key=enclave.owner_key)

    class OtherLease(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            return replace(answer, owner_lease=other.lease("owner"))

    error = deltas_then_error(OtherLease(enclave))[1]
    assert isinstance(error, Mismatch)
    assert error.what == "boot id of the lease"


# A genuine document, the parent's own key


def test_a_parent_that_relays_a_genuine_document_with_its_own_key_gains_nothing(enclave: LoopbackEnclave) -> None:
    mine = HybridPrivateKey(bytes(HYBRID_SEED))

    class OwnKey(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            serve = decode_statement(answer.statement, Serve)
            return replace(answer, statement=encode_statement(replace(serve, channel_key=mine.public)))

    link = OwnKey(enclave)
    error = deltas_then_error(link)[1]
    assert isinstance(error, Mismatch)
    assert error.what == "user_data"
    assert not link.up, "not one byte was sealed to it"


def test_a_parent_with_its_own_enclave_under_its_own_root_gains_nothing(enclave: LoopbackEnclave) -> None:
    mine = LoopbackEnclave(SimulatedPki.create(START), clock=enclave.clock, configuration=enclave.configuration)

    class OwnRoot(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            said = mine.attest(nonce)
            return AttestAnswer(said.document, said.statement, said.owner_lease, said.kms_lease, said.configuration)

    link = OwnRoot(enclave)
    error = deltas_then_error(link)[1]
    assert error.__class__.__name__ == "WrongRoot"
    assert not link.up


def test_other_code_under_the_right_root_gains_nothing(enclave: LoopbackEnclave) -> None:
    changed = LoopbackEnclave(
        PKI,
        clock=enclave.clock,
        configuration=enclave.configuration,
        measurements={**enclave.measurements, 0: b"\x99" * 48},
    )

    class OtherCode(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            said = changed.attest(nonce)
            return replace(answer, document=said.document, statement=said.statement)

    link = OtherCode(enclave)
    error = deltas_then_error(link)[1]
    assert error.__class__.__name__ == "MeasurementMismatch"
    assert not link.up


def test_evidence_made_for_another_nonce_gains_nothing(enclave: LoopbackEnclave) -> None:
    class Stale(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            said = self.enclave.attest(b"an older client's nonce")
            return replace(answer, document=said.document)

    error = deltas_then_error(Stale(enclave))[1]
    assert isinstance(error, Mismatch)
    assert error.what == "nonce"


def test_the_parents_own_configuration_gains_nothing(enclave: LoopbackEnclave) -> None:
    mine = LoopbackEnclave(PKI, clock=enclave.clock)  # another owner key, so another lease key

    class OwnConfiguration(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            return replace(answer, configuration=mine.raw_configuration, owner_lease=mine.lease("owner"))

    error = deltas_then_error(OwnConfiguration(enclave))[1]
    assert isinstance(error, Mismatch)
    assert error.what == "configuration (C)"


def test_a_lease_signed_by_the_parent_gains_nothing(enclave: LoopbackEnclave) -> None:
    mine = LoopbackEnclave(PKI, clock=enclave.clock, boot_id=enclave.boot_id)

    class OwnLease(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            return replace(answer, owner_lease=mine.lease("owner"))

    assert deltas_then_error(OwnLease(enclave))[1].__class__.__name__ == "SignatureInvalid"


def test_a_missing_lease_is_no_lease(enclave: LoopbackEnclave) -> None:
    class NoLease(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            return replace(answer, kms_lease=b"")

    error = deltas_then_error(NoLease(enclave))[1]
    assert isinstance(error, Malformed)
    assert error.code == "lease-missing"


def test_an_asserted_lease_does_not_stand_in_for_the_owners(enclave: LoopbackEnclave) -> None:
    class Asserted(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            return replace(answer, owner_lease=answer.kms_lease)

    assert deltas_then_error(Asserted(enclave))[1].__class__.__name__ == "SignatureInvalid"


# Renewal held back


def test_a_parent_that_holds_back_a_renewal_only_shortens_its_own_time(enclave: LoopbackEnclave) -> None:
    """The old lease shown for ever: the client refuses it once it has expired, before anything is sealed."""
    kept: list[AttestAnswer] = []

    class OldLease(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            kept.append(answer)
            return replace(answer, owner_lease=kept[0].owner_lease)

    link = OldLease(enclave)

    async def run() -> None:
        one = client(link)
        await one.ask("hi")
        sealed = len(link.up)
        enclave.clock.advance(599)
        enclave.renew()
        await one.ask("hi")
        assert len(link.up) > sealed
        sealed = len(link.up)
        enclave.clock.advance(1)
        with pytest.raises(LeaseEnded):
            await one.ask("hi")
        assert len(link.up) == sealed, "nothing was sealed under an expired lease"

    asyncio.run(run())


# Hints


def test_a_hint_costs_one_reseal_under_a_new_key_and_is_never_the_enclaves_word(enclave: LoopbackEnclave) -> None:
    class HintOnce(Link):
        hints = 0

        def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
            if self.hints == 0:
                self.hints = 1
                raise GatewayBroke("as I please", "lease-ended")
            return (frame,)

    link = HintOnce(enclave)
    answer = ask(link)
    assert answer.resealed == 1
    assert link.attests == 2, "one re-verification"
    assert link.up[0] != link.up[2], "a new K, so another header"


def test_hints_without_end_end(enclave: LoopbackEnclave) -> None:
    class HintAlways(Link):
        def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
            raise GatewayBroke("as I please", "lease-ended")

    link = HintAlways(enclave)
    _, error = deltas_then_error(link)
    assert isinstance(error, Hinted), "and not LeaseEnded: nobody vouches for it"
    assert link.attests == 2


def test_the_link_sees_no_plaintext(enclave: LoopbackEnclave) -> None:
    link = Link(enclave)
    marker = "a-marker-of-41-characters-in-the-question"
    asyncio.run(client(link).ask(marker))
    crossed = b"".join(link.up + link.down)
    assert any(marker in message.content for message in enclave.engine.seen[0].messages), "the control finds it"
    for words in (marker, "capital", "Paris"):
        assert words.encode() not in crossed
