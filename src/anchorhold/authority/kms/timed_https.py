"""One HTTPS connection that ends by one moment of the monotonic clock, whatever its other end does.

A socket's own timeout is for one operation: who sends a byte now and then has as many of them as he likes. Here every
operation has what is left of the whole. Python's TLS keeps one operation's timeout over all that it reads for it.
"""

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

Resolve = Callable[[str, int], Sequence[tuple[Any, ...]]]
"""Addresses of host and port, as `socket.getaddrinfo` answers them."""

MAX_RESOLVING = 4  # threads; the system's resolver cannot be called off, so what hangs in it is left there
_RESOLVERS = ThreadPoolExecutor(MAX_RESOLVING, "xks-resolve")


def resolve(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    """By the system. Raises OSError, and UnicodeError for what is no name of a host."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment by which all is done."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds, more than none. Raises TimeoutError."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for this call is over")
        return left


class TimedSocket(ssl.SSLSocket):
    """What `context.sslsocket_class` makes. `deadline` is set as soon as it is made."""

    deadline: Deadline

    def send(self, *arguments: Any, **more: Any) -> int:
        self.settimeout(self.deadline.left())
        return super().send(*arguments, **more)

    def recv_into(self, *arguments: Any, **more: Any) -> int:
        self.settimeout(self.deadline.left())
        return super().recv_into(*arguments, **more)


class TimedConnection(http.client.HTTPSConnection):
    """To `host` and `port` under a context that makes timed sockets."""

    def __init__(self, host: str, port: int, *, context: ssl.SSLContext, deadline: Deadline, resolve: Resolve) -> None:
        super().__init__(host, port, context=context)
        self._tls, self._deadline, self._resolve = context, deadline, resolve

    def connect(self) -> None:
        """Raises TimeoutError, OSError, and UnicodeError for what is no name of a host."""
        plain = self._reached()
        try:
            plain.settimeout(self._deadline.left())
            made = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
        if not isinstance(made, TimedSocket):
            raise TypeError(f"expected a TimedSocket of the context, got {type(made).__name__}")
        made.deadline = self._deadline
        self.sock = made

    def _reached(self) -> socket.socket:
        last = OSError(f"no address of {self.host!r}")
        for family, kind, protocol, _, address in self._addresses():
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(self._deadline.left())
                plain.connect(address)
            except OSError as error:
                plain.close()
                last = error
            else:
                return plain
        raise last

    def _addresses(self) -> Sequence[tuple[Any, ...]]:
        asked = _RESOLVERS.submit(self._resolve, self.host, self.port)
        try:
            return asked.result(self._deadline.left())
        finally:
            asked.cancel()
