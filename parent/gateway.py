"""The public face: grpc.aio, with `Infer` as raw bytes so that nothing here can parse a sealed body (DESIGN 7).

Every refusal is one of a few status codes and a hint; a client takes none of them as the enclave's word.
"""

import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
import grpc.aio

from anchorhold.parent.cell import BROKEN, Cell, NoSuchEnclave
from anchorhold.parent.health import Event, Health
from anchorhold.parent.records import NOT_FOUND, OK, LogClient, LogUnreachable, public_path
from anchorhold.parent.relay import KEY_ID_BYTES, Hint
from anchorhold.parent.request import Request
from anchorhold.v1 import gateway_pb2 as pb
from anchorhold.wire.frames import MAX_BODY

SERVICE = "anchorhold.v1.Gateway"
HINT_METADATA = "anchorhold-hint"
KEY_IDS_METADATA = "anchorhold-key-ids"  # in hex, with commas between: whom the client sealed to
MAX_TARGETS = 8
_KEY_ID = re.compile(rf"[0-9a-f]{{{2 * KEY_ID_BYTES}}}")
MAX_EXCHANGES = 256  # at once; each holds two streams and a task
MAX_ATTESTS = 64  # at once; the security module answers one at a time
MAX_TRANSCRIPTS = 8  # at once; each holds a whole file of the log
MAX_NONCE = 64
CHUNK = 64 * 1024  # bytes of a transcript file in one message
# A client that vanished without a word gives its exchange back: pings it does not answer end the connection.
KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS = 30_000, 10_000


class CannotListen(Exception):
    """The public address is taken, or not ours."""


class BadTargets(Exception):
    """The metadata that should name key ids is not in the form."""


class Gateway:
    """The four methods of the service."""

    def __init__(self, cell: Cell, log: LogClient, health: Health) -> None:
        self._cell, self._log, self._health = cell, log, health
        self._open = {"infer": 0, "attest": 0, "transcript": 0}

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc.aio server registers."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Infer": grpc.stream_stream_rpc_method_handler(self.infer),
                "Attest": grpc.unary_unary_rpc_method_handler(
                    self.attest, pb.AttestRequest.FromString, pb.AttestResponse.SerializeToString
                ),
                "Enclaves": grpc.unary_unary_rpc_method_handler(
                    self.enclaves, pb.EnclavesRequest.FromString, pb.EnclavesResponse.SerializeToString
                ),
                "Transcript": grpc.unary_stream_rpc_method_handler(
                    self.transcript, pb.TranscriptRequest.FromString, pb.TranscriptChunk.SerializeToString
                ),
            },
        )

    async def infer(self, frames: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """One exchange, body by body."""
        await self._enter("infer", MAX_EXCHANGES, context)
        request = Request(frames)
        try:
            targets = targets_of(context.invocation_metadata() or ())
            async with aclosing(self._cell.infer(request, targets)) as answer:
                async for body in answer:
                    yield body
        except BadTargets:
            await request.drain()
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "key-ids")
        except Hint as hint:
            await request.drain()
            await _abort(context, grpc.StatusCode.UNAVAILABLE, hint.code)
        except BROKEN:
            self._health.event(Event.EXCHANGE_CUT)
            await request.drain()
            await _abort(context, grpc.StatusCode.UNAVAILABLE)
        finally:
            request.close()
            self._open["infer"] -= 1

    async def attest(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Evidence of an enclave, unjudged: of the one named, or of any."""
        if len(request.nonce) > MAX_NONCE:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "nonce")
        await self._enter("attest", MAX_ATTESTS, context)
        try:
            fields = await self._cell.attest(
                request.nonce, with_configuration=request.with_configuration, name=request.enclave
            )
        except NoSuchEnclave:
            await _abort(context, grpc.StatusCode.NOT_FOUND, "no-such-enclave")
        except Hint as hint:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, hint.code)
        except BROKEN:
            await _abort(context, grpc.StatusCode.UNAVAILABLE)
        finally:
            self._open["attest"] -= 1
        return pb.AttestResponse(**fields)

    async def enclaves(self, _request: Any, _context: grpc.aio.ServicerContext) -> Any:
        """What this parent runs, as it believes."""
        listed = [(one.listed(), one.relay.key_ids) for one in self._cell.members]
        return pb.EnclavesResponse(
            enclaves=[
                pb.EnclaveHint(enclave_id=one.name, model_alias=one.alias, state=one.state, key_ids=sorted(key_ids))
                for one, key_ids in listed
            ]
        )

    async def transcript(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        """One public file of the log."""
        if not public_path(request.path):
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "path")
        await self._enter("transcript", MAX_TRANSCRIPTS, context)
        try:
            status, content = await self._log.get(f"/{request.path}")
            if status != OK:
                code = grpc.StatusCode.NOT_FOUND if status == NOT_FOUND else grpc.StatusCode.UNAVAILABLE
                await _abort(context, code, f"log-{status}")
            for start in range(0, len(content), CHUNK):
                yield pb.TranscriptChunk(data=content[start : start + CHUNK])
        except LogUnreachable:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, "log-unreachable")
        finally:
            self._open["transcript"] -= 1

    async def _enter(self, kind: str, most: int, context: grpc.aio.ServicerContext) -> None:
        if self._open[kind] >= most:
            await _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        self._open[kind] += 1


def make_server(gateway: Gateway) -> grpc.aio.Server:
    """A server of bounded messages and no proxy; the caller adds a port and starts it."""
    options = [
        ("grpc.max_receive_message_length", MAX_BODY),
        ("grpc.max_send_message_length", MAX_BODY + 1024),
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((gateway.handler(),))
    return server


def bind(server: grpc.aio.Server, address: str, tls: tuple[bytes, bytes] | None = None) -> int:
    """The port that the server listens on, over TLS where `tls` has key and certificate. Raises CannotListen."""
    try:
        port: int = (
            server.add_insecure_port(address)
            if tls is None
            # gRPC's TLS takes X25519MLKEM768 from whoever offers it.
            else server.add_secure_port(address, grpc.ssl_server_credentials([tls]))
        )
    except RuntimeError as error:
        raise CannotListen(f"cannot listen on {address}") from error
    if not port:
        raise CannotListen(f"cannot listen on {address}")
    return port


def targets_of(metadata: Any) -> tuple[bytes, ...]:
    """The key ids that a request names, none where it names none. Raises BadTargets."""
    named = [value for key, value in metadata if key == KEY_IDS_METADATA]
    if not named:
        return ()
    texts = str(named[0]).split(",", MAX_TARGETS)
    if len(named) > 1 or len(texts) > MAX_TARGETS or any(_KEY_ID.fullmatch(text) is None for text in texts):
        raise BadTargets(f"expected 1 to {MAX_TARGETS} key ids of {KEY_ID_BYTES} bytes, in hex, once")
    return tuple(bytes.fromhex(text) for text in texts)


async def _abort(context: grpc.aio.ServicerContext, code: grpc.StatusCode, hint: str = "window") -> NoReturn:
    context.set_trailing_metadata(((HINT_METADATA, hint),))
    await context.abort(code, f"unauthenticated: {hint}")
    raise AssertionError("abort raises")
