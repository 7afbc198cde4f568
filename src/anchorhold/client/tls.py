"""TLS to the gateway: whose certificate the trust file pins, and which key exchange was really negotiated.

gRPC's own TLS does the handshake and asks for X25519MLKEM768 first. It does not tell a Python client what came of it,
so its connection runs through a tunnel in this process that changes no byte and reads one thing: the group in the
ServerHello, which the handshake's Finished vouches for. Where every hop must be post-quantum, a connection whose
ServerHello says otherwise is closed before that reaches gRPC, so nothing of ours is ever sent on it; and a gateway that
was post-quantum once may not become classical while the client lives.

The gateway stays a stranger: its certificate says whose machine this is, and proves nothing about any enclave.
"""

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from cryptography import x509

MAX_HELLO = 65_536  # bytes before a ServerHello is whole; an honest one takes 1,300
MAX_PEM = 65_536
CHUNK = 65_536
OPENING_S = 10.0  # to reach the gateway and have its ServerHello; one that says nothing is no gateway
_HANDSHAKE, _CHANGE_CIPHER = 22, 20
_SERVER_HELLO = 2
_SUPPORTED_VERSIONS, _KEY_SHARE = 43, 51
_TLS_1_3 = b"\x03\x04"
# RFC 8446 4.1.3: a ServerHello with this random asks for another ClientHello.
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
GROUPS = {
    0x0017: "P-256",
    0x0018: "P-384",
    0x0019: "P-521",
    0x001D: "X25519",
    0x001E: "X448",
    0x0201: "MLKEM768",
    0x0202: "MLKEM1024",
    0x11EB: "SecP256r1MLKEM768",
    0x11EC: "X25519MLKEM768",
    0x11ED: "SecP384r1MLKEM1024",
    0x6399: "X25519Kyber768Draft00",
}
POST_QUANTUM = frozenset({"MLKEM768", "MLKEM1024", "SecP256r1MLKEM768", "X25519MLKEM768", "SecP384r1MLKEM1024"})
"""Kyber's draft is not among them: it is not the algorithm that was standardised."""
CLASSICAL_TLS = "TLS 1.2 or older"


class HelloInvalid(Exception):
    """What a server sent first is no ServerHello that can be read."""


@dataclass(frozen=True, slots=True)
class TlsPin:
    """The gateway's name in its certificate, and the certificates (PEM) under one of which it must stand."""

    server: str
    certificates: str

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if len(self.certificates) > MAX_PEM:
            raise ValueError(f"tls: certificates: expected at most {MAX_PEM} characters, got {len(self.certificates)}")
        try:
            x509.load_pem_x509_certificates(self.certificates.encode())
        except ValueError as error:
            raise ValueError("tls: certificates: expected one or more in PEM") from error


@dataclass(frozen=True, slots=True)
class GatewayTls:
    """What was seen of the connection to a gateway: `group` is None where there is TLS and nothing was seen of it."""

    encrypted: bool
    server: str = ""
    group: str | None = None


NO_TLS = GatewayTls(encrypted=False)


@runtime_checkable
class ObservesTls(Protocol):
    """A gateway that can say how its connection is protected. One that cannot is `unknown` in the ledger."""

    @property
    def tls(self) -> GatewayTls: ...


def post_quantum(group: str) -> bool:
    """Whether a key exchange of that name holds against a quantum computer."""
    return group in POST_QUANTUM


class HelloReader:
    """Bytes from a TLS server, in any pieces, until its ServerHello is whole. Sans-I/O."""

    def __init__(self) -> None:
        self._records = b""
        self._handshake = b""
        self.retried = False
        """Whether the server has asked for another ClientHello, which its bytes so far then are to bring about."""

    def feed(self, data: bytes) -> str | None:
        """The key exchange that the server chose, None where more bytes are needed. Raises HelloInvalid."""
        self._records += data
        if len(self._records) + len(self._handshake) > MAX_HELLO:
            raise HelloInvalid(f"ServerHello: expected at most {MAX_HELLO} bytes")
        while (record := self._record()) is not None:
            kind, content = record
            if kind == _CHANGE_CIPHER and self.retried and content == b"\x01" and not self._handshake:
                continue  # RFC 8446 D.4: for old boxes between, after a retry
            if kind != _HANDSHAKE or not content:
                raise HelloInvalid(f"ServerHello: expected a handshake record, got type {kind}")
            self._handshake += content
            while (message := self._message()) is not None:
                group = self._hello(message)
                if group is not None:
                    return group
        return None

    def _record(self) -> tuple[int, bytes] | None:
        if self._records and self._records[0] not in (_HANDSHAKE, _CHANGE_CIPHER):
            # Before its length is believed: whoever speaks no TLS is not waited for.
            raise HelloInvalid(f"ServerHello: expected a handshake record, got type {self._records[0]}")
        if len(self._records) < 5:
            return None
        end = 5 + int.from_bytes(self._records[3:5], "big")
        if len(self._records) < end:
            return None
        kind, content = self._records[0], self._records[5:end]
        self._records = self._records[end:]
        return kind, content

    def _message(self) -> bytes | None:
        if len(self._handshake) < 4:
            return None
        if self._handshake[0] != _SERVER_HELLO:
            raise HelloInvalid(f"ServerHello: expected it first, got handshake message {self._handshake[0]}")
        end = 4 + int.from_bytes(self._handshake[1:4], "big")
        if len(self._handshake) < end:
            return None
        body, self._handshake = self._handshake[4:end], self._handshake[end:]
        return body

    def _hello(self, body: bytes) -> str | None:
        extensions = _extensions(body)
        if extensions.get(_SUPPORTED_VERSIONS) != _TLS_1_3:
            return CLASSICAL_TLS
        if body[2:34] == _RETRY:
            if self.retried:
                raise HelloInvalid("ServerHello: a second retry")
            self.retried = True
            return None
        share = extensions.get(_KEY_SHARE, b"")
        if len(share) < 4:
            raise HelloInvalid("ServerHello: no key share")
        number = int.from_bytes(share[:2], "big")
        return GROUPS.get(number, f"unknown group {number:#06x}")


def _extensions(body: bytes) -> dict[int, bytes]:
    # 2 version, 32 random, session id, 2 suite, 1 compression (RFC 8446 4.1.3).
    at = 35 + body[34] + 3 if len(body) > 34 else len(body) + 1
    if at == len(body):
        return {}
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    if at + 2 > len(body) or end != len(body):
        raise HelloInvalid("ServerHello: its lengths do not add up")
    found: dict[int, bytes] = {}
    at += 2
    while at < end:
        number, size = int.from_bytes(body[at : at + 2], "big"), int.from_bytes(body[at + 2 : at + 4], "big")
        if at + 4 + size > end or number in found:
            raise HelloInvalid("ServerHello: its lengths do not add up, or an extension stands twice")
        found[number] = body[at + 4 : at + 4 + size]
        at += 4 + size
    return found


class TlsTunnel:
    """Carries each of gRPC's connections to one gateway. To be made and used inside one event loop."""

    def __init__(self, address: str, *, require_pq: bool, opening_s: float = OPENING_S) -> None:
        self._address, self._require_pq, self._opening_s = address, require_pq, opening_s
        # A folder that only this user may enter: nobody else talks through the tunnel.
        self._folder = tempfile.TemporaryDirectory(prefix="anchorhold-tls-", ignore_cleanup_errors=True)
        self._path = Path(self._folder.name) / "s"
        # Bound at once, so that gRPC may connect before the loop comes to accept.
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self._path))
        self._socket.listen()
        self._server: asyncio.Server | None = None
        self._starting = asyncio.get_running_loop().create_task(self._start())
        self._carrying: set[asyncio.Task[None]] = set()
        self.group: str | None = None
        """The last key exchange that was let through; it counts once an answer has come over it."""
        self.refused: str | None = None
        """The key exchange for which a connection was closed last; None after one that was let through."""

    @property
    def target(self) -> str:
        """What gRPC connects to."""
        return f"unix:{self._path}"

    @property
    def carrying(self) -> int:
        """Connections that are open now."""
        return len(self._carrying)

    async def close(self) -> None:
        """Idempotent."""
        await self._starting
        if self._server is not None:
            self._server.close()
        for task in tuple(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        self._folder.cleanup()

    async def _start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, sock=self._socket)

    def _judge(self, group: str) -> bool:
        # Never below what was seen before: a tier that asked for it was told so of this gateway.
        held = self._require_pq or (self.group is not None and post_quantum(self.group))
        if held and not post_quantum(group):
            self.refused = group
            return False
        self.group, self.refused = group, None
        return True

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(near_out.close)
            host, _, port = self._address.rpartition(":")
            try:
                async with asyncio.timeout(self._opening_s):
                    far, far_out = await asyncio.open_connection(host.strip("[]"), int(port))
            except OSError:  # TimeoutError among them
                return  # gRPC sees an end, and says unavailable
            # Not close: that would wait for a gateway that reads nothing.
            stack.callback(far_out.transport.abort)
            ways = (asyncio.create_task(_pump(near, far_out)), asyncio.create_task(self._down(far, near_out)))
            stack.push_async_callback(_ended, ways)
            # Where either side has ended, nothing that the other says would be heard.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)

    async def _down(self, far: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, HelloInvalid):
            async with asyncio.timeout(self._opening_s):
                may_pass = await self._hello(far, near_out)
            if may_pass:
                await _pump(far, near_out)

    async def _hello(self, far: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> bool:
        """Passes the server's first bytes on once they may pass. Raises HelloInvalid."""
        hello, held, retried = HelloReader(), b"", False
        while data := await far.read(CHUNK):
            held += data
            group = hello.feed(data)
            if group is None and hello.retried is retried:
                continue
            retried = hello.retried
            if group is not None and not self._judge(group):
                return False
            near_out.write(held)
            await near_out.drain()
            held = b""
            if group is not None:
                return True
        return False


async def _ended(ways: Sequence[asyncio.Task[None]]) -> None:
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
