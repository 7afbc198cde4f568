"""The way to a log: addresses that are none, and logs that take their time."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from anchorhold.attestation.transcript.append import AppendRequest
from anchorhold.publish.errors import PublishError
from anchorhold.publish.release_log import LogUnavailable, http_append

REQUEST = AppendRequest(b"r", (), 0)
DROPS = 400  # of a slow answer, a twentieth of a second each: far longer than anybody here waits


@pytest.fixture
def drip() -> Iterator[str]:
    """The address of a log that answers a byte at a time."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def answer() -> None:
        try:
            stream, _ = listener.accept()
        except OSError:  # nobody came
            return
        with stream, contextlib.suppress(OSError):  # who asked has hung up
            stream.sendall(b"HTTP/1.0 200 OK\r\nX-Slow: ")
            for _ in range(DROPS):
                if over.wait(0.05):
                    return
                stream.sendall(b"x")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    over.set()
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


def test_nobody_there_is_said_so_and_no_address_is_refused() -> None:
    with pytest.raises(LogUnavailable, match="ConnectionRefused"):
        http_append("http://127.0.0.1:1")(REQUEST)
    for wrong in ("ftp://log.example", "log.example", "http://", "http://[::1", "http://h:99999", "http://h:x"):
        with pytest.raises(PublishError, match="expected an http"):
            http_append(wrong)
    with pytest.raises(PublishError, match="expected a port"):
        http_append("http://h:0")


def test_a_host_or_a_path_that_cannot_be_asked_is_a_typed_error_too() -> None:
    for wrong in ("http://a..b/", "http://127.0.0.1:1/\u00fc", "http://127.0.0.1:1/a b"):
        with pytest.raises(LogUnavailable):
            http_append(wrong)(REQUEST)


@pytest.mark.parametrize(
    "address", ["http://me:sesame@h", "http://me:sesame@h:99999", "ftp://me:sesame@h", "me:sesame@h", "http://sesame@h"]
)
def test_a_password_in_an_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(PublishError) as refusal:
        http_append(address)
    assert "without a user" in str(refusal.value)
    assert "sesame" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_a_log_that_drips_is_left_when_the_whole_has_taken_too_long(drip: str) -> None:
    with pytest.raises(LogUnavailable, match="whole answer within"):
        http_append(drip, timeout_s=0.2)(REQUEST)
