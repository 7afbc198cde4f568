"""What stands where a hostile parent stands: on the bytes to the key sources, and between the enclave and its log."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 65_536
NEVER_S = 60.0  # longer than any test holds on
TIMEOUT_S = 30.0
REQUEST_FLIGHT = 2  # TLS 1.3: ClientHello, then Finished and the request; what the server says after it is an answer


class Wire:
    """A TCP forwarder before a source. It reads nothing (TLS ends in the enclave), but it can hold answers back."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._lock = threading.Lock()
        self._pass_first: int | None = None
        self._held: list[threading.Event] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, *, after: int) -> None:
        """From now on the answers on new connections stay here, but for the first `after` of them."""
        with self._lock:
            self._pass_first = after

    def let_go(self) -> None:
        """Deliver what is held so far. New connections are still held."""
        with self._lock:
            for gate in self._held:
                gate.set()

    def pass_all(self) -> None:
        """Deliver what is held, and hold nothing more."""
        with self._lock:
            self._pass_first = None
        self.let_go()

    def close(self) -> None:
        self.let_go()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(near, self._gate()), daemon=True).start()

    def _gate(self) -> threading.Event:
        gate = threading.Event()
        with self._lock:
            self.connections += 1
            if self._pass_first is None or self._pass_first > 0:
                gate.set()
                self._pass_first = None if self._pass_first is None else self._pass_first - 1
            else:
                self._held.append(gate)
        return gate

    def _carry(self, near: socket.socket, gate: threading.Event) -> None:
        flights = [0]

        def up() -> None:
            with contextlib.suppress(OSError):
                while piece := near.recv(PIECE):
                    flights[0] += 1
                    far.sendall(piece)
                far.shutdown(socket.SHUT_WR)

        with contextlib.suppress(OSError), near, socket.create_connection(self._target) as far:
            threading.Thread(target=up, daemon=True).start()
            while piece := far.recv(PIECE):
                if flights[0] >= REQUEST_FLIGHT:
                    gate.wait(NEVER_S)
                near.sendall(piece)


Spoil = Callable[[bytes], bytes | None]


class LyingLog:
    """An HTTP proxy before the real log: honest, but for what `spoil` makes of the answer to an append.

    None drops the connection without an answer; a `spoil` that does not return leaves the enclave waiting.
    """

    def __init__(self, target: str, spoil: Spoil) -> None:
        self.appends = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*_forward(target, "GET", self.path, b""))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = _forward(target, "POST", self.path, body)
                proxy.appends.set()
                spoilt = spoil(answer)
                if spoilt is not None:
                    self._answer(status, spoilt)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _forward(target: str, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(target.removeprefix("http://"), timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
