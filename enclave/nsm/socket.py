"""Simulation's way to the security module: one end of a socket pair that this process alone inherits.

Each message is its length in 4 bytes, big-endian, then the CBOR. Whoever holds the descriptor is the enclave, so it
is kept out of every child process.
"""

import socket

from anchorhold.enclave.nsm.module import MAX_RESPONSE, NsmClient

_LENGTH_BYTES = 4


class InheritedSocket:
    """A connected stream socket; `transact` is what an NsmClient needs."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._stream.set_inheritable(False)

    def transact(self, request: bytes) -> bytes:
        """One request, one answer. Raises OSError."""
        self._stream.sendall(len(request).to_bytes(_LENGTH_BYTES, "big") + request)
        size = int.from_bytes(self._exactly(_LENGTH_BYTES), "big")
        if size > MAX_RESPONSE:
            raise ConnectionError("NSM answer longer than its limit")
        return self._exactly(size)

    def close(self) -> None:
        """Close the line."""
        self._stream.close()

    def _exactly(self, size: int) -> bytes:
        chunks = bytearray()
        while len(chunks) < size:
            chunk = self._stream.recv(size - len(chunks))
            if not chunk:
                raise ConnectionError("the security module closed the line")
            chunks += chunk
        return bytes(chunks)


def open_inherited(descriptor: int) -> NsmClient:
    """The security module behind an inherited descriptor. Raises OSError."""
    return NsmClient(InheritedSocket(socket.socket(fileno=descriptor)).transact)
