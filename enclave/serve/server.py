"""Behind the window: the accept loop and the kinds of exchange it knows (DESIGN 3, 12.2). One connection, one exchange.

`Attest` asks the security module, which answers one request at a time and belongs to renewals first: public requests
wait in a short queue of their own, and what does not fit is refused. Nothing a peer sends ends the loop.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from anchorhold.attestation.binding import Serve, nsm_nonce
from anchorhold.enclave.keys.clock import ClockDoubt
from anchorhold.enclave.keys.lease import LeaseEnded
from anchorhold.enclave.nsm.module import NsmError, SecurityModule
from anchorhold.enclave.phases import Phases
from anchorhold.enclave.serve.egress import EgressClass, Ledger
from anchorhold.enclave.serve.epochs import Wiped
from anchorhold.enclave.serve.exchange import serve_infer
from anchorhold.enclave.serve.service import Service
from anchorhold.enclave.serve.transport import CONNECT_LINE, OK_LINE
from anchorhold.wire.frames import Frame, FrameError, FrameReader, FrameWriter
from anchorhold.wire.messages import Kind, pack_fields, require_fields

MAX_CONNECTIONS = 512  # exchanges at a time; each holds a frame and a request, 400 KiB together
MAX_FRAME = 131_072  # bytes; the largest a client sends is a record of 65,813
MAX_ATTEST_WAITING = 32  # public requests for a document; the next is refused as busy
FIRST_FRAME_S = 10.0  # to say what the connection is for
MIN_NONCE, MAX_NONCE = 16, 64  # bytes of the caller's nonce


@dataclass(frozen=True, slots=True)
class Offer:
    """What the server shows besides answers: documents, leases, the configuration's bytes."""

    nsm: SecurityModule
    configuration: bytes
    leases: Callable[[], dict[str, bytes]]
    owners: frozenset[str]
    """Names of the sources whose leases are signed by their authority; the others are asserted."""


class Server:
    """`run` serves until `stop`; `idle` is set while no exchange is open."""

    def __init__(
        self, service: Service, offer: Offer, phases: Phases, ledger: Ledger, *, on_shutdown: Callable[[], None]
    ) -> None:
        self._service = service
        self._offer = offer
        self._phases = phases
        self._ledger = ledger
        self._on_shutdown = on_shutdown
        self._attest = asyncio.Lock()
        self._attest_waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._infers = 0
        self._server: asyncio.Server | None = None

    @property
    def streams(self) -> int:
        """Inference exchanges that are open."""
        return self._infers

    async def start(self, listener: socket.socket, *, greets: bool) -> None:
        """Accept on `listener` from now on."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(self._tasks) >= MAX_CONNECTIONS:
                writer.close()
                return
            task = asyncio.create_task(self._connection(reader, writer, greets=greets))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        listener.setblocking(False)
        self._server = await asyncio.start_server(accept, sock=listener)

    async def stop(self) -> None:
        """Cut every exchange and accept none."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, greets: bool) -> None:
        frames_in, frames_out = FrameReader(reader, limit=MAX_FRAME), FrameWriter(writer)
        try:
            async with asyncio.timeout(FIRST_FRAME_S):
                if greets:
                    if await reader.readexactly(len(CONNECT_LINE)) != CONNECT_LINE:
                        return
                    writer.write(OK_LINE)
                first = await frames_in.read()
            if first is not None:
                await self._exchange(first, frames_in, frames_out)
        except (OSError, EOFError, FrameError, TimeoutError):
            return  # the other side broke off, or never said what it wanted: the parent's affair
        finally:
            # What is left of a frame belongs to an exchange that was given up: it is not to leave later.
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            writer.close()

    async def _exchange(self, first: Frame, reader: FrameReader, writer: FrameWriter) -> None:
        if first.kind == Kind.INFER_FRAME:
            self._infers += 1
            try:
                await serve_infer(reader, writer, self._service, first=first)
            finally:
                self._infers -= 1
        elif first.kind == Kind.ATTEST:
            await self._limited(first, writer)
        elif first.kind == Kind.STATUS:
            await self._send(writer, Kind.STATUS_IS, self._status(), EgressClass.STATUS)
        elif first.kind == Kind.SHUTDOWN:
            self._on_shutdown()
            await self._send(writer, Kind.STATUS_IS, self._status(), EgressClass.STATUS)
        else:
            await self._send(writer, Kind.HINT, b"unknown-kind", EgressClass.HINT)

    async def _limited(self, first: Frame, writer: FrameWriter) -> None:
        if self._attest_waiting >= MAX_ATTEST_WAITING:
            await self._send(writer, Kind.HINT, b"busy", EgressClass.HINT)
            return
        self._attest_waiting += 1
        try:
            async with self._attest:
                kind, body = await self._attested(first)
        finally:
            self._attest_waiting -= 1
        await self._send(writer, kind, body, EgressClass.EVIDENCE if kind is Kind.ATTESTED else EgressClass.HINT)

    async def _attested(self, first: Frame) -> tuple[Kind, bytes]:
        fields = require_fields(first.body, "nonce", "configuration")
        nonce = fields["nonce"]
        if not MIN_NONCE <= len(nonce) <= MAX_NONCE:
            return Kind.HINT, b"nonce"
        try:
            epoch = self._service.epochs.current()
            leases = self._offer.leases()
            document = await self._document(epoch.statement, nsm_nonce(Serve, nonce))
        except (LeaseEnded, Wiped, ClockDoubt, NsmError):
            return Kind.HINT, b"unavailable"
        signed = [lease for name, lease in sorted(leases.items()) if name in self._offer.owners]
        asserted = [lease for name, lease in sorted(leases.items()) if name not in self._offer.owners]
        answer = {
            "document": document,
            "statement": epoch.raw_statement,
            "owner_lease": signed[0] if signed else b"",
            "kms_lease": asserted[0] if asserted else b"",
            "configuration": self._offer.configuration if fields["configuration"] else b"",
        }
        return Kind.ATTESTED, pack_fields(answer)

    def _document(self, user_data: bytes, nonce: bytes) -> Coroutine[object, object, bytes]:
        return asyncio.to_thread(self._offer.nsm.attest, user_data=user_data, nonce=nonce)

    def _status(self) -> bytes:
        stats = self._service.engine.stats()
        counts = {"phase": self._phases.now.name, "streams": self._infers, "tokens": stats.tokens}
        return pack_fields({name: str(value).encode() for name, value in counts.items()})

    async def _send(self, writer: FrameWriter, kind: Kind, body: bytes, cls: EgressClass) -> None:
        self._ledger.count(cls, len(body))
        await writer.write(kind, body)
