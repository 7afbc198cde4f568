"""Behind the window: the accept loop and the kinds of exchange it knows (DESIGN 3, 12.2). One connection, one exchange.

`Attest` asks the security module, which answers one request at a time and belongs to renewals first: public requests
wait in a short queue of their own (`attests.py`), and what does not fit is refused. Nothing a peer sends ends the loop.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from anchorhold.attestation.channel.nonces import MAX_BATCH
from anchorhold.attestation.types import StatementDigest
from anchorhold.enclave.keys.clock import ClockDoubt
from anchorhold.enclave.keys.lease import LeaseEnded
from anchorhold.enclave.nsm.module import NsmError
from anchorhold.enclave.phases import Phases
from anchorhold.enclave.serve.attests import Attestor, Attests, Busy
from anchorhold.enclave.serve.egress import EgressClass, Ledger
from anchorhold.enclave.serve.epochs import Wiped
from anchorhold.enclave.serve.exchange import serve_infer
from anchorhold.enclave.serve.service import Service
from anchorhold.enclave.serve.transport import CONNECT_LINE, OK_LINE
from anchorhold.wire.frames import Frame, FrameError, FrameReader, FrameWriter
from anchorhold.wire.messages import Kind, pack_fields, require_fields

MAX_CONNECTIONS = 512  # exchanges at a time; each holds a frame and a request, 400 KiB together
MAX_FRAME = 131_072  # bytes; the largest a client sends is a record of 65,813
FIRST_FRAME_S = 10.0  # to say what the connection is for
MIN_NONCE, MAX_NONCE = 16, 64  # bytes of the caller's nonce


@dataclass(frozen=True, slots=True)
class Offer:
    """What the server shows besides answers: documents, leases, the configuration's bytes."""

    nsm: Attestor
    configuration: bytes
    leases: Callable[[], dict[str, bytes]]
    owners: frozenset[str]
    """Names of the sources whose leases are signed by their authority; the others are asserted."""
    max_batch: int = MAX_BATCH
    """Callers who share a document, at most."""


class _Refused(Exception):
    def __init__(self, hint: bytes) -> None:
        super().__init__(hint)
        self.hint = hint


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
        self._attests = Attests(offer.nsm, self._statement, max_batch=offer.max_batch)
        self._tasks: set[asyncio.Task[None]] = set()
        self._infers = 0
        self._server: asyncio.Server | None = None

    @property
    def streams(self) -> int:
        """Inference exchanges that are open."""
        return self._infers

    @property
    def attests_waiting(self) -> int:
        """Callers who wait for the next document."""
        return self._attests.waiting

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
            await self._attest(first, writer)
        elif first.kind == Kind.STATUS:
            await self._send(writer, Kind.STATUS_IS, self._status(), EgressClass.STATUS)
        elif first.kind == Kind.SHUTDOWN:
            self._on_shutdown()
            await self._send(writer, Kind.STATUS_IS, self._status(), EgressClass.STATUS)
        else:
            await self._send(writer, Kind.HINT, b"unknown-kind", EgressClass.HINT)

    async def _attest(self, first: Frame, writer: FrameWriter) -> None:
        try:
            body = await self._attested(first)
        except _Refused as refused:
            await self._send(writer, Kind.HINT, refused.hint, EgressClass.HINT)
        else:
            await self._send(writer, Kind.ATTESTED, body, EgressClass.EVIDENCE)

    async def _attested(self, first: Frame) -> bytes:
        fields = require_fields(first.body, "nonce", "configuration")
        nonce = fields["nonce"]
        if not MIN_NONCE <= len(nonce) <= MAX_NONCE:
            raise _Refused(b"nonce")
        try:
            served = await self._attests.attest(nonce)
            leases = self._offer.leases()
        except Busy as busy:
            raise _Refused(b"busy") from busy
        except (LeaseEnded, Wiped, ClockDoubt, NsmError) as error:
            raise _Refused(b"unavailable") from error
        signed = [lease for name, lease in sorted(leases.items()) if name in self._offer.owners]
        asserted = [lease for name, lease in sorted(leases.items()) if name not in self._offer.owners]
        answer = {
            "document": served.document,
            "statement": served.statement,
            "owner_lease": signed[0] if signed else b"",
            "kms_lease": asserted[0] if asserted else b"",
            "configuration": self._offer.configuration if fields["configuration"] else b"",
        }
        # Left out where there is none: what reads a single caller's answer reads it as ever.
        return pack_fields(answer | ({"nonce_proof": served.proof} if served.proof else {}))

    def _statement(self) -> tuple[bytes, StatementDigest]:
        """Of the epoch that is current now. Raises Wiped."""
        epoch = self._service.epochs.current()
        return epoch.raw_statement, epoch.statement

    def _status(self) -> bytes:
        stats = self._service.engine.stats()
        counts = {"phase": self._phases.now.name, "streams": self._infers, "tokens": stats.tokens}
        said = {name: str(value).encode() for name, value in counts.items()}
        return pack_fields({**said, "key_ids": b"".join(self._service.epochs.key_ids())})

    async def _send(self, writer: FrameWriter, kind: Kind, body: bytes, cls: EgressClass) -> None:
        self._ledger.count(cls, len(body))
        await writer.write(kind, body)
