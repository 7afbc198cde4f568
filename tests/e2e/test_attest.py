"""Many clients at once through real processes: they share documents, and each has its own word that it is fresh."""

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from anchorhold.attestation.errors import Mismatch
from anchorhold.client.gateway import GrpcGateway
from anchorhold.client.releases import Releases
from anchorhold.client.sdk import AsyncClient, Settings, utc_now
from anchorhold.client.session import AttestAnswer, open_session
from anchorhold.client.trust import Trust
from anchorhold.sim.deploy import Settings as Deployment

from .conftest import TINY, Running, bring_up

pytestmark = pytest.mark.slow
CALLERS = 48
EPOCH_MS = 2_000


def asked(trust: Trust) -> dict[bytes, AttestAnswer]:
    """What as many callers at once are told, by their nonces."""

    async def all_of_them() -> dict[bytes, AttestAnswer]:
        nonces = [secrets.token_bytes(32) for _ in range(CALLERS)]
        gateway = GrpcGateway(trust.gateway)
        try:
            told = await asyncio.gather(*(gateway.attest(nonce, with_configuration=True) for nonce in nonces))
        finally:
            await gateway.close()
        return dict(zip(nonces, told, strict=True))

    return asyncio.run(all_of_them())


def test_callers_at_once_share_documents_and_each_is_shown_that_it_is_fresh(stack: Running) -> None:
    trust = stack.trust
    told = asked(trust)
    now = utc_now()
    assert trust.releases is not None
    accepted = Releases(trust, trust.releases).accepted(now)
    for nonce, answer in told.items():
        open_session(answer, trust, nonce=nonce, now=now, releases=accepted)
    documents = {answer.document for answer in told.values()}
    shared = [(nonce, one) for nonce, one in told.items() if one.nonce_proof]
    assert len(shared) >= 2
    assert len(documents) < CALLERS, "one call of the module answers several"
    (mine, ours), (_, theirs) = shared[:2]
    for swapped in (replace(ours, nonce_proof=theirs.nonce_proof), replace(ours, nonce_proof=b"")):
        with pytest.raises(Mismatch) as refusal:
            open_session(swapped, trust, nonce=mine, now=now, releases=accepted)
        assert refusal.value.code == "nonce"


def test_keys_rotate_under_load_and_every_request_is_answered(folder: Path) -> None:
    running = bring_up(folder, Deployment(epoch_ms=EPOCH_MS, engine=TINY))
    statements: set[bytes] = set()

    async def one(client: AsyncClient) -> None:
        while len(statements) < 4:
            answer = await client.ask("hello", Settings(max_tokens=8))
            statements.add(answer.receipt.receipt.statement)

    async def all_of_them() -> list[int]:
        clients = [AsyncClient(running.trust) for _ in range(6)]
        try:
            async with asyncio.timeout(120):
                await asyncio.gather(*(one(client) for client in clients))
        finally:
            await asyncio.gather(*(client.close() for client in clients))
        return [client.resealed for client in clients]

    assert asyncio.run(all_of_them()) == [0] * 6, "each request was taken as it came, on the old key or the new"
    assert len(statements) >= 4
