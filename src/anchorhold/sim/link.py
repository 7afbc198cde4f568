"""The link from client to loopback enclave: an honest parent without gRPC. A malicious one is a subclass (STYLE 28).

It runs the enclave's real `serve_infer` over a socket pair in the window's own framing; only the two hops are short.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

from anchorhold.attestation.configuration import configuration_digest, decode_configuration, pcr16
from anchorhold.attestation.types import KeyId, Platform
from anchorhold.client.gateway import GatewayBroke, ListedEnclave
from anchorhold.client.session import AttestAnswer
from anchorhold.client.trust import LogPin, Trust
from anchorhold.enclave.serve.exchange import serve_infer
from anchorhold.sim.loopback import LoopbackEnclave
from anchorhold.wire.frames import FrameReader, FrameWriter, unwrap_proto, wrap_proto
from anchorhold.wire.messages import Kind


def loopback_trust(enclave: LoopbackEnclave) -> Trust:
    """What a client pins to accept this enclave's deployment, its root, and nothing else."""
    digest = configuration_digest(enclave.raw_configuration)
    return Trust(
        name="loopback",
        gateway="127.0.0.1:1",
        platforms=frozenset({Platform.SIMULATED}),
        root=enclave.pki.root_pem.decode(),
        measurements={**enclave.measurements, 16: pcr16(digest)},
        configuration=digest,
        model=decode_configuration(enclave.raw_configuration).model,
        alias="tiny",
        max_age_s=300,
        log=LogPin("log.example/1", "log.example/1+00000000+AQ=="),
    )


class Link:
    """Implements the client's `Gateway`. Override `to_enclave`, `to_client` or `evidence` to attack."""

    def __init__(self, enclave: LoopbackEnclave) -> None:
        self.enclave = enclave
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        self.attests = 0
        self.targets: tuple[KeyId, ...] = ()
        self.serving: asyncio.Task[None] | None = None

    def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
        """What the client is shown."""
        return answer

    def to_enclave(self, frames: Sequence[bytes]) -> Sequence[bytes]:
        """What the enclave is sent."""
        return frames

    def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
        """What the client is sent for the enclave's frame number `at`. Raise GatewayBroke to cut."""
        return (frame,)

    def after(self) -> Sequence[bytes]:
        """What the client is sent when the enclave has ended its answer."""
        return ()

    def pick(self) -> LoopbackEnclave:
        """The enclave that gets the request."""
        return self.enclave

    def named(self, enclave: str) -> LoopbackEnclave:
        """The enclave that is asked for evidence."""
        return self.enclave

    async def enclaves(self) -> Sequence[ListedEnclave]:
        return (ListedEnclave("loopback", "running"),)

    async def attest(self, nonce: bytes, *, with_configuration: bool, enclave: str = "") -> AttestAnswer:
        self.attests += 1
        said = self.named(enclave).attest(nonce)
        raw = said.configuration if with_configuration else b""
        answer = AttestAnswer(said.document, said.statement, said.owner_lease, said.kms_lease, raw)
        return self.evidence(answer, nonce)

    async def infer(
        self, frames: Sequence[bytes], *, key_ids: Sequence[KeyId], alias: str, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        self.targets = tuple(key_ids)
        ours, theirs = socket.socketpair()
        self.serving = serving = asyncio.create_task(_serve(self.pick(), theirs))
        stream = await asyncio.open_unix_connection(sock=ours)
        reader, writer = FrameReader(stream[0]), FrameWriter(stream[1])
        try:
            for frame in self.to_enclave(frames):
                self.up.append(frame)
                await writer.write(Kind.INFER_FRAME, wrap_proto(frame))
            with suppress(OSError):
                await writer.write(Kind.INFER_END)
            async for frame in self._answers(reader):
                yield frame
        finally:
            await writer.close()
            await asyncio.gather(serving, return_exceptions=True)
            if not serving.cancelled() and (error := serving.exception()) is not None:
                raise error

    async def _answers(self, reader: FrameReader) -> AsyncGenerator[bytes, None]:
        at = 0
        while (said := await reader.read()) is not None and said.kind != Kind.INFER_END:
            if said.kind == Kind.HINT:
                raise GatewayBroke("the enclave hinted", said.body.decode("ascii", errors="replace"))
            frame = unwrap_proto(said.body)
            self.down.append(frame)
            for shown in self.to_client(at, frame):
                yield shown
            at += 1
        for shown in self.after():
            yield shown

    async def close(self) -> None:
        return None


async def _serve(enclave: LoopbackEnclave, sock: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    out = FrameWriter(writer)
    try:
        await serve_infer(FrameReader(reader), out, enclave.service)
    finally:
        await out.close()


class Fleet(Link):
    """Several enclaves behind one link, named `e0`, `e1`, ...: the first that has a key of the request gets it."""

    def __init__(self, enclaves: Sequence[LoopbackEnclave]) -> None:
        super().__init__(enclaves[0])
        self.fleet = {f"e{at}": enclave for at, enclave in enumerate(enclaves)}
        self.asked: list[str] = []

    def named(self, enclave: str) -> LoopbackEnclave:
        self.asked.append(enclave)
        return self.fleet[enclave or "e0"]

    async def enclaves(self) -> Sequence[ListedEnclave]:
        return tuple(ListedEnclave(name, "running") for name in self.fleet)

    def pick(self) -> LoopbackEnclave:
        able = [one for one in self.fleet.values() if any(one.epochs.find(target) for target in self.targets)]
        return able[0] if able else self.enclave
