"""One exchange over one connection: sealed frames in, sealed frames and a receipt out (DESIGN 3, 5, 12.2).

The lease is asked before every record that carries anything of the answer. Once it has ended, the one thing still
said is that it ended: an error record and the receipt. Before a response key is agreed a refusal is a hint, which
proves nothing.
"""

import asyncio
from dataclasses import dataclass

from anchorhold.attestation.channel.body import Finish, FinishReason, adapter_of
from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.channel.enclave import EnclaveExchange, Received
from anchorhold.attestation.channel.errors import UnknownKey
from anchorhold.attestation.channel.padding import longest_tail_s
from anchorhold.attestation.channel.receipt import Asserted, Receipt, sign_receipt
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.purpose import NotGranted
from anchorhold.attestation.types import Milliseconds
from anchorhold.enclave.keys.lease import LeaseEnded
from anchorhold.enclave.model.engine import EmbeddingChunk, EngineRefused, EngineRequest
from anchorhold.enclave.serve.asked import engine_request
from anchorhold.enclave.serve.egress import EgressClass
from anchorhold.enclave.serve.quota import QuotasFull, QuotaSpent
from anchorhold.enclave.serve.replay import MemoryFull, Replayed
from anchorhold.enclave.serve.said import said
from anchorhold.enclave.serve.service import AdapterRefused, AdmissionGate, BothGates, Lent, Service
from anchorhold.enclave.serve.shaper import Way, outlet
from anchorhold.enclave.serve.tenancy import Party, verified_party
from anchorhold.wire.frames import Frame, FrameError, FrameReader, FrameWriter, unwrap_proto, wrap_proto
from anchorhold.wire.messages import Kind

CLOSING_TIMEOUT_S = 10.0  # for the last two records: a client that stopped reading holds nothing for ever
CUT_TIMEOUT_S = 0.5  # for the same two records when the lease has ended: the wipe waits for nobody longer
REQUEST_TIMEOUT_S = 30.0  # from the first frame to the final request record: who sends slower holds memory

_ENGINE_CODES = {
    "bad-request": Code.BAD_REQUEST,
    "busy": Code.BUSY,
    "prompt-too-long": Code.TOO_LONG,
    "too-long": Code.TOO_LONG,
    "template-refused": Code.BAD_REQUEST,
    "unsupported": Code.UNSUPPORTED,
}


async def serve_infer(
    reader: FrameReader, writer: FrameWriter, service: Service, *, first: Frame | None = None
) -> None:
    """Serve one connection to its end; `first` is a frame the caller has read already. The caller closes it.

    Never raises for what the other side does: it gets a hint, an error record, or silence.
    """
    arrived = service.boottime()
    exchange = EnclaveExchange(service.epochs, service.entropy)
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            received = await _receive(reader, exchange, first)
    except TimeoutError:
        return await _hint(writer, service, Code.TIMEOUT)
    except (EvidenceError, FrameError) as error:
        return await _hint(writer, service, _hint_code(error))
    except OSError:
        return None
    answer = _Answer(writer, service, exchange, received, arrived)
    await _until_gone(reader, answer)
    return None


class NotPermitted(LeaseEnded):
    """The lease in force does not grant this purpose to this tenant."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _CutOff(FrameError):
    """The request stream ended before its final record."""


async def _receive(reader: FrameReader, exchange: EnclaveExchange, first: Frame | None) -> Received:
    frame = first if first is not None else await reader.read()
    while True:
        if frame is None or frame.kind == Kind.INFER_END:
            raise _CutOff("the request ended before its final record")
        if frame.kind != Kind.INFER_FRAME:
            raise FrameError(f"expected kind {Kind.INFER_FRAME:#04x}, got {frame.kind:#04x}")
        received = exchange.receive(unwrap_proto(frame.body))
        if received is not None:
            return received
        frame = await reader.read()


def _hint_code(error: Exception) -> Code:
    if isinstance(error, UnknownKey):
        return Code.UNKNOWN_KEY
    return Code.TRUNCATED if isinstance(error, _CutOff) else Code.MALFORMED


async def _hint(writer: FrameWriter, service: Service, code: Code) -> None:
    body = code.value.encode()
    service.ledger.count(EgressClass.HINT, len(body))
    try:
        await writer.write(Kind.HINT, body)
    except OSError:
        return


async def _until_gone(reader: FrameReader, answer: "_Answer") -> None:
    """Answer, unless the client goes first: then what was being generated for it is cancelled."""
    work = asyncio.create_task(answer.run())
    gone = asyncio.create_task(_gone(reader))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (work, gone):
            if not task.done():
                task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
    if (
        not work.cancelled()
        and (error := work.exception()) is not None
        and not isinstance(error, (OSError, TimeoutError))
    ):
        raise error


async def _gone(reader: FrameReader) -> None:
    """Returns when the other side closed, or sent what cannot come after a whole request."""
    try:
        frame = await reader.read()
        if frame is not None and frame.kind == Kind.INFER_END:
            await reader.read()
    except (OSError, FrameError):
        return


@dataclass(slots=True)
class _Progress:
    """What the receipt says beside the digests."""

    party: Party | None = None
    lease: bytes | None = None


class _Answer:
    """The answer to one whole request."""

    def __init__(
        self, writer: FrameWriter, service: Service, exchange: EnclaveExchange, received: Received, arrived: float
    ) -> None:
        self._writer = writer
        self._service = service
        self._exchange = exchange
        self._received = received
        self._arrived = arrived
        self._opened = service.clock_ms()
        self._progress = _Progress()
        self._admitted = self._refused = False
        self._gate: AdmissionGate = service.gate
        self._lent: Lent | None = None
        self._outlet = outlet(Way(exchange, self._check, self._send), received.header.padding)

    async def run(self) -> None:
        """From the answer's opening to its final record. Raises OSError when the client is gone."""
        try:
            await self._run()
        finally:
            if self._lent is not None:
                self._lent.release()

    async def _run(self) -> None:
        await self._send(self._exchange.answer())
        self._outlet.begin()
        outcome = self._admit() or await self._generate()
        if outcome is not Code.LEASE_ENDED:
            outcome = await self._filled(outcome)
        if isinstance(outcome, Finish):
            outcome = self._still_leased(outcome)
        async with asyncio.timeout(CUT_TIMEOUT_S if outcome is Code.LEASE_ENDED else CLOSING_TIMEOUT_S):
            await self._conclude(outcome)

    async def _conclude(self, outcome: Finish | Code) -> None:
        concluded = self._exchange.finish(outcome) if isinstance(outcome, Finish) else self._exchange.error(outcome)
        await self._send(concluded)
        receipt = self._receipt()
        # The log has the commitment before the client has the receipt: a kept receipt is never one the log never saw.
        tag, commitment = self._exchange.log_entry(receipt)
        self._service.scribe.receipt(commitment, tag)
        if outcome is not Code.LEASE_ENDED:
            await self._turn()
        await self._send(self._exchange.close(receipt))
        await self._writer.write(Kind.INFER_END)

    def _admit(self) -> Code | None:
        """Why this request is not served, or None."""
        service, received = self._service, self._received
        # 1. Whose it is (docs/spec/channel.md 6.2).
        try:
            self._progress.party = verified_party(
                received,
                issuer=service.configuration.credential_issuer,
                model=service.configuration.model,
                now=service.clock_ms(),
                boot_secret=service.namespace_secret,
                entropy=service.entropy,
            )
        except EvidenceError:
            return Code.TENANT
        # 2. Taken once. After the tenant check, so that nobody else's copy uses up a tenant's request.
        try:
            service.replay.enter(received.encapsulation, received.header.commit)
        except Replayed:
            return Code.REPLAYED
        except MemoryFull:
            return Code.BUSY
        # Its key is open still, so the memory has forgotten nothing since the slot was opened, not in a pause either.
        if not service.epochs.takes(received.statement):
            return Code.BUSY
        # 3. For a purpose this deployment serves.
        if received.request.reason not in service.configuration.purposes:
            service.refusals.count(Code.PURPOSE.value)
            return Code.PURPOSE
        # 4. Under a lease of the key and of the log, which grants this purpose to this tenant.
        try:
            service.gate.admit()
            self._progress.lease = service.gate.lease_id
            self._permitted()
        except LeaseEnded as error:
            return Code(error.code)
        # 5. Within what its credential gives it. Last, so that what is refused for another reason costs nothing.
        if (refused := self._over_quota()) is not None:
            return refused
        self._admitted = True
        return None

    def _over_quota(self) -> Code | None:
        party = self._progress.party
        if party is None or party.name is None or party.quota is None:
            return None
        try:
            self._service.quotas.take(party.name, party.quota)
        except QuotaSpent:
            return Code.QUOTA
        except QuotasFull:
            return Code.BUSY
        return None

    def _check(self) -> None:
        """Before every record of the answer: the lease, and that it still grants this use. Raises LeaseEnded.

        For an answer that a renewed lease no longer covers the lease has ended: it is cut, and told so, as at any end.
        """
        self._gate.check()
        if self._admitted:
            try:
                self._permitted()
            except NotPermitted as error:
                raise LeaseEnded("the lease in force no longer grants this use") from error

    def _permitted(self) -> None:
        service, party = self._service, self._progress.party
        name = None if party is None else party.name
        try:
            self._gate.permit(reason=self._received.request.reason, tenant=name, now_ms=service.clock_ms())
        except NotGranted as error:
            if not self._refused:
                service.refusals.count(error.code)
            self._refused = True
            raise NotPermitted(error.code) from error

    async def _borrow(self) -> Code | None:
        """From here on the adapter's leases count beside the model's, where the request names one."""
        adapter, room = adapter_of(self._received.request), self._service.adapters
        if adapter is None:
            return None
        if room is None:
            return Code.UNSUPPORTED
        try:
            self._lent = await room.lend(adapter)
        except AdapterRefused as error:
            self._service.refusals.count(error.code.value)
            return self._lease_code() or error.code
        self._gate = BothGates(self._service.gate, self._lent.gate)
        try:
            self._permitted()
        except NotPermitted as error:
            self._gate = self._service.gate  # nothing is said with the adapter: the refusal is under the model's leases
            return Code(error.code)
        return None

    async def _generate(self) -> Finish | Code:
        left = self._received.header.deadline / 1000 - (self._service.boottime() - self._arrived)
        party = self._progress.party
        assert party is not None, "admitted"
        try:
            async with asyncio.timeout(max(0.0, left)):
                if (refused := await self._borrow()) is not None:
                    return refused
                return await self._outlet.carry(self._stream(engine_request(self._received, party.namespace)))
        except TimeoutError:
            return Code.DEADLINE
        except LeaseEnded as error:
            return Code(error.code)
        except asyncio.CancelledError:
            return self._cut()
        except EngineRefused as error:
            # An engine wiped under us breaks because the lease ended: say that.
            return self._lease_code() or _ENGINE_CODES.get(error.code, Code.ENGINE)
        except OSError:
            raise  # the client is gone
        except Exception:  # noqa: BLE001 - of whatever kind: its text may quote the prompt, so only a code goes on
            return self._lease_code() or Code.ENGINE
        finally:
            self._service.engine.cancel(self._received.digest[:16].hex())

    async def _stream(self, request: EngineRequest) -> Finish | Code:
        async for chunk in self._service.engine.submit(request):
            for piece in said(chunk):
                await self._outlet.put(piece)
            if isinstance(chunk, EmbeddingChunk):
                if chunk.last:
                    return Finish(FinishReason.STOP, chunk.prompt_tokens, 0)
            elif chunk.finish_reason is not None:
                return Finish(FinishReason(chunk.finish_reason), chunk.prompt_tokens, chunk.completion_tokens)
        return self._lease_code() or Code.ENGINE

    async def _filled(self, outcome: Finish | Code) -> Finish | Code:
        """The same, when its turn has come: in `strict` that takes time, in which the lease may end."""
        try:
            async with asyncio.timeout(2 * longest_tail_s(self._received.header.padding) + CLOSING_TIMEOUT_S):
                await self._outlet.fill()
        except LeaseEnded as error:
            return Code(error.code)
        except asyncio.CancelledError:
            return self._cut()
        return outcome

    async def _turn(self) -> None:
        try:
            await self._outlet.turn()
        except asyncio.CancelledError:
            self._cut()

    def _cut(self) -> Code:
        """To be called when cancelled: the server cuts every stream at the end of the lease, and the client hears why.

        Raises CancelledError again for a client that left.
        """
        code, task = self._lease_code(), asyncio.current_task()
        if code is None or task is None:
            raise asyncio.CancelledError
        task.uncancel()
        return code

    def _still_leased(self, finish: Finish) -> Finish | Code:
        return self._lease_code() or finish

    def _lease_code(self) -> Code | None:
        try:
            self._check()
        except LeaseEnded as error:
            return Code(error.code)
        return None

    def _receipt(self) -> bytes:
        service, received, exchange = self._service, self._received, self._exchange
        response, records = exchange.response_digest
        party = self._progress.party
        return sign_receipt(
            Receipt(
                request=received.digest,
                response=response,
                records=records,
                dummies=exchange.dummies,
                request_commit=received.header.commit,
                response_commit=exchange.response_commit,
                model=service.configuration.model,
                statement=received.statement,
                purpose=received.request.reason,
                tenant=None if party is None else party.tenant,
                lease=self._progress.lease,
                sequence=service.sequence(),
                asserted=Asserted(self._opened, Milliseconds(service.clock_ms()), 0, exchange.bytes_out),
                adapter=adapter_of(received.request),
            ),
            service.receipt_key,
        )

    async def _send(self, raw: bytes) -> None:
        body = wrap_proto(raw)
        # Counted first: what a broken connection swallowed was handed out all the same.
        self._service.ledger.count(EgressClass.RESPONSE, len(body))
        await self._writer.write(Kind.INFER_FRAME, body)
