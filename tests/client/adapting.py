"""An enclave that uses adapters, as the channel shows one: it answers with what was asked for, and a test bends that.

It loads nothing and checks no lease; the credential and the tenant's signature it does check.
"""

import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.channel.body import Chat, Complete, Finish, FinishReason
from anchorhold.attestation.channel.client import TenantKey
from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.channel.enclave import EnclaveExchange, Received
from anchorhold.attestation.channel.receipt import Asserted, Receipt, sign_receipt
from anchorhold.attestation.channel.tenant import TenantCredential, issue_credential, verify_credential
from anchorhold.attestation.types import KeyId, Milliseconds, ModelDigest
from anchorhold.sim.link import Link
from anchorhold.sim.loopback import MODEL, PURPOSE, LoopbackEnclave, ManualClock, loopback_configuration
from anchorhold.sim.pki import SimulatedPki

ADAPTER, OTHER = ModelDigest(bytes([0xAD]) * 48), ModelDigest(bytes([0xAE]) * 48)
TEXT = "Of course."
Adapter = ModelDigest | None


class AdaptingLink(Link):
    """Keeps what it was asked. `says` is what its receipts name for what was asked; `refuses` is its answer to all."""

    def __init__(self, now: datetime) -> None:
        owner_key, self.issuer = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        issuer = self.issuer.public_key().public_bytes_raw()
        configuration = loopback_configuration(owner_key, credential_issuer=issuer)
        pki = SimulatedPki.create(now)
        super().__init__(LoopbackEnclave(pki, ManualClock(now), configuration, owner_key=owner_key))
        self.asked: list[Received] = []
        self.says: Callable[[Adapter], Adapter] = lambda asked: asked
        self.refuses: Code | None = None

    @property
    def adapters(self) -> list[Adapter]:
        """What each request so far named."""
        return [_adapter(one) for one in self.asked]

    def tenant(self, *adapters: ModelDigest, key: Ed25519PrivateKey | None = None) -> TenantKey:
        """A credential that lists these."""
        key = key or Ed25519PrivateKey.generate()
        public, end = key.public_key().public_bytes_raw(), Milliseconds(self.enclave.clock.ms() + 3_600_000)
        credential = TenantCredential("acme", public, MODEL, (PURPOSE,), adapters, end)
        return TenantKey(issue_credential(credential, self.issuer), key)

    async def infer(
        self, frames: Sequence[bytes], *, key_ids: Sequence[KeyId], alias: str, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        self.up += frames
        exchange = EnclaveExchange(self.enclave.epochs, secrets.token_bytes)
        received = [exchange.receive(one) for one in frames][-1]
        assert received is not None
        self._check(received)
        self.asked.append(received)
        yield exchange.answer()
        if self.refuses is None:
            yield exchange.delta(TEXT)
            yield exchange.finish(Finish(FinishReason.STOP, 7, 2))
        else:
            yield exchange.error(self.refuses)
        yield exchange.close(self._receipt(exchange, received))

    def _check(self, received: Received) -> None:
        sealed = received.sealed
        if sealed.credential is not None and sealed.signature is not None:
            credential = verify_credential(sealed.credential, self.issuer.public_key())
            credential.public_key.verify(sealed.signature, received.tenant_message)

    def _receipt(self, exchange: EnclaveExchange, received: Received) -> bytes:
        digest, count = exchange.response_digest
        receipt = Receipt(
            received.digest,
            digest,
            count,
            exchange.dummies,
            received.header.commit,
            exchange.response_commit,
            MODEL,
            received.statement,
            PURPOSE,
            None,
            bytes(16),
            len(self.asked),
            Asserted(Milliseconds(1), Milliseconds(2), 0, 0),
            self.says(_adapter(received)),
        )
        return sign_receipt(receipt, self.enclave.receipt_key)


def _adapter(received: Received) -> Adapter:
    return received.request.adapter if isinstance(received.request, Chat | Complete) else None
