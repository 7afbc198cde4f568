"""The wire to an untrusted gateway, and nothing but the wire: bytes out, bytes in (DESIGN 3, last paragraph)."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc

from anchorhold.attestation.types import KeyId
from anchorhold.client.errors import Unavailable
from anchorhold.client.session import AttestAnswer
from anchorhold.client.tls import NO_TLS
from anchorhold.v1.gateway_pb2 import AttestRequest, EnclavesRequest
from anchorhold.v1.gateway_pb2 import Frame as FrameMessage
from anchorhold.v1.gateway_pb2_grpc import GatewayStub

KEY_IDS_METADATA = "anchorhold-key-ids"  # the targets of the header, in hex, with commas between
ALIAS_METADATA = "anchorhold-alias"
HINT_METADATA = "anchorhold-hint"
ATTEST_TIMEOUT_S = 30.0
MAX_MESSAGE = 1 << 20  # bytes; the largest honest message is a record of 65,813
# Where the proxy of the environment is obeyed, the environment chooses who sees the traffic.
OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
)


class GatewayBroke(Exception):
    """The stream ended with an error instead of an end. `hint` is an unauthenticated code, None when there was none."""

    def __init__(self, message: str, hint: str | None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ListedEnclave:
    """One line of `Enclaves`: a name to ask for evidence by, and a state. Nobody vouches for either."""

    enclave: str
    state: str


class Gateway(Protocol):
    """What a client needs of whoever stands between it and the enclave. Nothing it returns is believed."""

    async def enclaves(self) -> Sequence[ListedEnclave]:
        """Which there are, as it says. Raises Unavailable."""
        ...

    async def attest(self, nonce: bytes, *, with_configuration: bool, enclave: str = "") -> AttestAnswer:
        """Evidence of the enclave of that name, of any for an empty one. Raises Unavailable."""
        ...

    def infer(
        self, frames: Sequence[bytes], *, key_ids: Sequence[KeyId], alias: str, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        """The frames of the answer. Raises GatewayBroke."""
        ...

    async def close(self) -> None: ...


class GrpcGateway:
    """`Gateway` over grpc.aio. To be made inside the event loop that uses it."""

    tls = NO_TLS

    def __init__(self, address: str, channel: grpc.aio.Channel | None = None) -> None:
        """In clear to `address`, unless `channel` leads there in another way."""
        self._address = address
        self._channel = channel if channel is not None else grpc.aio.insecure_channel(address, options=OPTIONS)
        self._stub = GatewayStub(self._channel)

    async def enclaves(self) -> Sequence[ListedEnclave]:
        try:
            answer = await self._stub.Enclaves(EnclavesRequest(), timeout=ATTEST_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"gateway {self._address}: no list of enclaves: {_status(error)}") from error
        return [ListedEnclave(one.enclave_id, one.state) for one in answer.enclaves]

    async def attest(self, nonce: bytes, *, with_configuration: bool, enclave: str = "") -> AttestAnswer:
        request = AttestRequest(nonce=nonce, with_configuration=with_configuration, enclave=enclave)
        try:
            answer = await self._stub.Attest(request, timeout=ATTEST_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"gateway {self._address}: no evidence: {_status(error)}") from error
        return AttestAnswer(
            answer.document,
            answer.statement,
            answer.owner_lease,
            answer.kms_lease,
            answer.configuration,
            answer.nonce_proof,
        )

    async def infer(
        self, frames: Sequence[bytes], *, key_ids: Sequence[KeyId], alias: str, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        metadata = ((KEY_IDS_METADATA, ",".join(one.hex() for one in key_ids)), (ALIAS_METADATA, alias))
        call = self._stub.Infer(_messages(frames), metadata=metadata, timeout=timeout_s)
        try:
            async for message in call:
                yield message.body
        except grpc.aio.AioRpcError as error:
            raise GatewayBroke(f"gateway {self._address}: {_status(error)}", _hint(error)) from error
        finally:
            call.cancel()

    async def close(self) -> None:
        await self._channel.close()


async def _messages(frames: Sequence[bytes]) -> AsyncIterator[FrameMessage]:
    for body in frames:
        yield FrameMessage(body=body)


def _status(error: grpc.aio.AioRpcError) -> str:
    # The details are the other side's words: quoted, cut.
    return f"{error.code().name.lower()} {error.details()!r:.120}"


def _hint(error: grpc.aio.AioRpcError) -> str | None:
    for key, value in error.trailing_metadata() or ():
        if key == HINT_METADATA and isinstance(value, str):
            return value[:64]
    return None
