"""What the window answers beside inference: documents with their paths, and which keys are open."""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from anchorhold.attestation.channel.nonces import bound_nonce
from anchorhold.attestation.document import parse_document
from anchorhold.attestation.types import KEY_ID_BYTES
from anchorhold.enclave.phases import Phases
from anchorhold.enclave.serve.egress import EgressClass, Ledger
from anchorhold.enclave.serve.server import Offer, Server
from anchorhold.sim.loopback import OWNER, LoopbackEnclave
from anchorhold.wire.frames import Frame, FrameReader, FrameWriter
from anchorhold.wire.messages import Kind, pack_fields, unpack_fields

from .held_module import PKI, WAIT_S, HeldModule, until


class Window:
    """A server on a socket of its own."""

    def __init__(self, path: Path, module: HeldModule) -> None:
        self.path, self.module, self.ledger = path, module, Ledger()
        enclave = module.enclave
        offer = Offer(module, enclave.raw_configuration, enclave.gate.leases, frozenset({OWNER}))
        self.server = Server(enclave.service, offer, Phases(), self.ledger, on_shutdown=lambda: None)

    async def ask(self, kind: Kind, body: bytes = b"") -> Frame:
        """One exchange of one frame each way."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        out = FrameWriter(writer)
        try:
            await out.write(kind, body)
            frame = await FrameReader(reader).read()
        finally:
            await out.close()
        assert frame is not None
        return frame

    async def attest(self, nonce: bytes) -> Frame:
        return await self.ask(Kind.ATTEST, pack_fields({"nonce": nonce, "configuration": b""}))


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Window]:
    module = HeldModule(LoopbackEnclave(PKI))
    window = Window(folder / "w", module)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(window.path))
    listener.listen()
    await window.server.start(listener, greets=False)
    try:
        yield window
    finally:
        module.go.set()
        await window.server.stop()


def test_callers_who_wait_share_a_document_and_each_has_its_path(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as window:
            nonces = [secrets.token_bytes(32) for _ in range(6)]
            asked = [asyncio.create_task(window.attest(nonces[0]))]
            assert await asyncio.to_thread(window.module.asked.acquire, timeout=WAIT_S)
            asked += [asyncio.create_task(window.attest(nonce)) for nonce in nonces[1:]]
            await asyncio.to_thread(until, lambda: window.server.attests_waiting == len(nonces) - 1)
            window.module.go.set()
            frames = await asyncio.gather(*asked)
            assert {frame.kind for frame in frames} == {Kind.ATTESTED}
            answers = [unpack_fields(frame.body) for frame in frames]
            assert "nonce_proof" not in answers[0], "who is alone gets what it always got"
            for nonce, answer in zip(nonces, answers, strict=True):
                bound = bound_nonce(nonce, answer.get("nonce_proof", b""))
                assert parse_document(answer["document"]).nonce == bound
            assert len({answer["document"] for answer in answers}) == 2
            assert window.ledger.snapshot()[EgressClass.EVIDENCE.value] == sum(len(frame.body) for frame in frames)

    asyncio.run(work())


@pytest.mark.parametrize("size", [0, 15, 65])
def test_a_nonce_of_another_length_is_a_hint(tmp_path: Path, size: int) -> None:
    async def work() -> None:
        async with opened(tmp_path) as window:
            frame = await window.attest(bytes(size))
            assert (frame.kind, frame.body) == (Kind.HINT, b"nonce")
            assert window.module.nonces == []

    asyncio.run(work())


def test_the_status_names_the_keys_that_are_open(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as window:
            enclave = window.module.enclave
            window.module.go.set()

            async def key_ids() -> bytes:
                return unpack_fields((await window.ask(Kind.STATUS)).body)["key_ids"]

            assert await key_ids() == b"", "a key is drawn when somebody asks for a document"
            await window.attest(bytes(32))
            first = await key_ids()
            assert first == enclave.epochs.current().key_id
            enclave.clock.advance(599)
            enclave.renew()
            enclave.clock.advance(1)
            await window.attest(bytes(32))
            both = await key_ids()
            assert both == first + enclave.epochs.current().key_id
            assert len(both) == 2 * KEY_ID_BYTES
            enclave.clock.advance(60)
            assert await key_ids() == both[KEY_ID_BYTES:]

    asyncio.run(work())
