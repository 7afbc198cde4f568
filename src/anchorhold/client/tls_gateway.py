"""The gateway of a trust file: over TLS where the file pins whose, in clear where it does not."""

from collections.abc import AsyncGenerator, Sequence

import grpc

from anchorhold.attestation.types import KeyId
from anchorhold.client.errors import Unavailable
from anchorhold.client.gateway import OPTIONS, Gateway, GatewayBroke, GrpcGateway, ListedEnclave
from anchorhold.client.hops import HopNotPostQuantum
from anchorhold.client.session import AttestAnswer
from anchorhold.client.tls import GatewayTls, TlsPin, TlsTunnel
from anchorhold.client.trust import Trust


def gateway_of(trust: Trust) -> Gateway:
    """To be called inside the event loop that uses it."""
    if trust.tls is None:
        return GrpcGateway(trust.gateway)
    return TlsGateway(trust.gateway, trust.tls, require_pq=trust.require_pq)


class TlsGateway:
    """`Gateway` over gRPC's own TLS, which accepts the pinned certificates and no other root."""

    def __init__(self, address: str, pin: TlsPin, *, require_pq: bool) -> None:
        self._pin = pin
        self._tunnel = TlsTunnel(address, require_pq=require_pq)
        # The roots are given, so that neither the system's nor the environment's count.
        credentials = grpc.ssl_channel_credentials(root_certificates=pin.certificates.encode())
        named = (("grpc.ssl_target_name_override", pin.server), ("grpc.default_authority", pin.server))
        channel = grpc.aio.secure_channel(self._tunnel.target, credentials, options=(*OPTIONS, *named))
        self._inner = GrpcGateway(address, channel)

    @property
    def tls(self) -> GatewayTls:
        """What is known of the connection now."""
        return GatewayTls(encrypted=True, server=self._pin.server, group=self._tunnel.group)

    async def enclaves(self) -> Sequence[ListedEnclave]:
        try:
            return await self._inner.enclaves()
        except Unavailable as error:
            raise self._telling(error) from error

    async def attest(self, nonce: bytes, *, with_configuration: bool, enclave: str = "") -> AttestAnswer:
        try:
            return await self._inner.attest(nonce, with_configuration=with_configuration, enclave=enclave)
        except Unavailable as error:
            raise self._telling(error) from error

    async def infer(
        self, frames: Sequence[bytes], *, key_ids: Sequence[KeyId], alias: str, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        answer = self._inner.infer(frames, key_ids=key_ids, alias=alias, timeout_s=timeout_s)
        try:
            async for frame in answer:
                yield frame
        except GatewayBroke as error:
            if self._tunnel.refused is not None:
                raise self._refused() from error
            raise
        finally:
            await answer.aclose()

    async def close(self) -> None:
        await self._inner.close()
        await self._tunnel.close()

    def _telling(self, error: Unavailable) -> Unavailable | HopNotPostQuantum:
        return error if self._tunnel.refused is None else self._refused()

    def _refused(self) -> HopNotPostQuantum:
        return HopNotPostQuantum("client-gateway", self._tunnel.refused or "")
