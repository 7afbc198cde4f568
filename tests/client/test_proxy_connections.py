"""How many may be connected to the proxy, and how long each may take over a head."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.client.linking import make_link
from tests.client.proxying import Proxying, proxying

from anchorhold.client.proxy.app import Limits

LIMIT_S = 10


def connect(proxy: Proxying) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=LIMIT_S)


def head(proxy: Proxying, more: str = "", asked: str = "GET /anchorhold/status") -> bytes:
    return f"{asked} HTTP/1.1\r\nHost: 127.0.0.1:{proxy.port}\r\n{more}\r\n".encode()


@contextmanager
def connected(proxy: Proxying, sent: bytes) -> Iterator[socket.socket]:
    """A connection whose first bytes are there as it is accepted, however slow this thread is."""
    with proxy.held():
        connection = connect(proxy)
        connection.sendall(sent)
    with connection:
        yield connection


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(4096) == b""
    except ConnectionResetError:
        return True


def test_one_connection_more_than_it_takes_is_closed_and_there_is_room_again_later() -> None:
    with (
        proxying(make_link(), limits=Limits(connections=2, head_s=3600)) as proxy,
        connect(proxy) as first,
        connect(proxy) as second,
    ):
        # Both are counted before a third comes: connections are accepted in order.
        with connect(proxy) as third:
            assert ended(third)
        first.sendall(head(proxy))
        assert first.recv(4096).startswith(b"HTTP/1.1 200 ")
        second.sendall(head(proxy, "Connection: close\r\n"))
        while second.recv(65_536):
            pass
        assert proxy.http.get("/anchorhold/status").status_code == 200


def test_a_head_that_does_not_come_whole_is_not_waited_for() -> None:
    with proxying(make_link(), limits=Limits(head_s=0.3)) as proxy, connect(proxy) as silent, connect(proxy) as slow:
        done = threading.Event()

        def trickle() -> None:
            try:
                slow.sendall(b"GET / HTTP/1.1\r\n")
                while not done.wait(0.02):
                    slow.sendall(b"X: 1\r\n")
            except OSError:
                return

        trickling = threading.Thread(target=trickle)
        trickling.start()
        try:
            assert ended(silent)
            assert ended(slow)
        finally:
            done.set()
            trickling.join()


def test_nor_is_the_second_head_of_a_connection() -> None:
    with proxying(make_link(), limits=Limits(head_s=0.3)) as proxy, connected(proxy, head(proxy)) as kept:
        answer = b""
        while not answer.endswith(b"}"):
            piece = kept.recv(65_536)
            assert piece, answer
            answer += piece
        kept.sendall(head(proxy)[:20])
        assert ended(kept)


def test_what_comes_after_a_whole_head_has_its_own_time() -> None:
    more = "Content-Type: application/json\r\nContent-Length: 100\r\n"
    with (
        proxying(make_link(), limits=Limits(head_s=0.1, body_s=0.5)) as proxy,
        connected(proxy, head(proxy, more, "POST /v1/completions")) as slow,
    ):
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
