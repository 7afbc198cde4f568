"""One call to an external key store proxy has one deadline, whatever the proxy does with it, and one name a failure."""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms.timed_https import TimedSocket
from anchorhold.authority.kms.xks_proxy import INVALID, TIMED_OUT, UNREACHABLE, Proxy, ProxyFailed, ProxyTls
from anchorhold.authority.tls import TlsFiles, make_tls
from anchorhold.wire import sigv4

NOW = Milliseconds(1_790_000_000_000)
CREDENTIALS = sigv4.Credentials("A" * 20, "s" * 43)
BODY = json.dumps({"said": "all is well"}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
SOON_S, PATIENCE_S = 0.25, 30.0
DRIP_S = 0.02  # a byte; an answer takes several times SOON_S, and each byte comes well within it
Serve = Callable[[socket.socket, ssl.SSLContext], None]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_tls(tmp_path_factory.mktemp("tls"), now=datetime.fromtimestamp(time.time_ns() // 10**9, UTC))


@contextmanager
def serving(files: TlsFiles, serve: Serve) -> Iterator[int]:
    """The port of a proxy that does with its one caller what `serve` says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with suppress(OSError), listener.accept()[0] as caller:
                serve(caller, context)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(PATIENCE_S)


def proxy_at(files: TlsFiles, endpoint: str, timeout_s: float, **more: Any) -> Proxy:
    context = ssl.create_default_context(cafile=files.authority)
    context.sslsocket_class = TimedSocket
    return Proxy(endpoint, "/kms/xks/v1", "eu-central-1", CREDENTIALS, ProxyTls(context, timeout_s, **more))


def code_of(proxy: Proxy) -> str:
    with pytest.raises(ProxyFailed) as caught:
        proxy.call("health", {}, NOW)
    return caught.value.code


def _drip(sock: socket.socket, raw: bytes) -> None:
    for byte in raw:
        sock.sendall(bytes([byte]))
        time.sleep(DRIP_S)


def _asked(caller: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    inside = context.wrap_socket(caller, server_side=True)
    request = b""
    # What were left unread when it closes would take the answer with it.
    while not _whole(request) and (more := inside.recv(65_536)):
        request += more
    return inside


def _whole(request: bytes) -> bool:
    """Whether header and body are there: they come in two records."""
    head, _, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return length is not None and len(body) >= int(length[1])


def _answers(caller: socket.socket, context: ssl.SSLContext) -> None:
    with _asked(caller, context) as inside:
        inside.sendall(ANSWER)


def _drips_its_answer(caller: socket.socket, context: ssl.SSLContext) -> None:
    with _asked(caller, context) as inside:
        _drip(inside, ANSWER)


def _drips_one_record(caller: socket.socket, context: ssl.SSLContext) -> None:
    """TLS in memory, so that the bytes of one record go out one by one."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    inside = context.wrap_bio(incoming, outgoing, server_side=True)

    def until(step: Callable[[], object]) -> None:
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                caller.sendall(outgoing.read())
                incoming.write(caller.recv(65_536))
            else:
                return

    until(inside.do_handshake)
    until(lambda: inside.read(65_536))
    inside.write(ANSWER)
    _drip(caller, outgoing.read())


def _drips_its_handshake(caller: socket.socket, _context: ssl.SSLContext) -> None:
    caller.recv(65_536)
    _drip(caller, b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03" + bytes(100))


def _says_nothing(caller: socket.socket, _context: ssl.SSLContext) -> None:
    while caller.recv(65_536):
        pass


def test_an_answer_in_time_is_the_answer(files: TlsFiles) -> None:
    for serve in (_answers, _drips_its_answer, _drips_one_record):
        with serving(files, serve) as port:
            answer = proxy_at(files, f"https://localhost:{port}", PATIENCE_S).call("health", {}, NOW)
            assert answer == {"said": "all is well"}


@pytest.mark.parametrize("serve", [_drips_its_answer, _drips_one_record, _drips_its_handshake, _says_nothing])
def test_a_proxy_that_drips_has_no_more_time_than_one_that_is_silent(files: TlsFiles, serve: Serve) -> None:
    with serving(files, serve) as port:
        assert code_of(proxy_at(files, f"https://localhost:{port}", SOON_S)) == TIMED_OUT


def test_a_resolver_that_hangs_is_left_alone(files: TlsFiles) -> None:
    ended = threading.Event()

    def hangs(_host: str, _port: int) -> tuple[()]:
        ended.wait(PATIENCE_S)
        return ()

    assert code_of(proxy_at(files, "https://localhost", SOON_S, resolve=hangs)) == TIMED_OUT
    ended.set()


@pytest.mark.parametrize("host", ["exa mple.org", "a" * 70 + ".org", ".org", "a..b"])
def test_what_no_host_can_be_called_is_not_reached(files: TlsFiles, host: str) -> None:
    assert code_of(proxy_at(files, f"https://{host}", PATIENCE_S)) == UNREACHABLE


def test_the_next_address_is_tried(files: TlsFiles) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    with serving(files, _answers) as port:

        def two(_host: str, _port: int) -> list[tuple[Any, ...]]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
            return [(*kind, ("127.0.0.1", nobody)), (*kind, ("127.0.0.1", port))]

        proxy = proxy_at(files, "https://localhost", PATIENCE_S, resolve=two)
        assert proxy.call("health", {}, NOW)
    assert code_of(proxy_at(files, "https://localhost", PATIENCE_S, resolve=lambda _host, _port: ())) == UNREACHABLE


def test_an_answer_that_is_no_json_is_invalid(files: TlsFiles) -> None:
    def talks(caller: socket.socket, context: ssl.SSLContext) -> None:
        with _asked(caller, context) as inside:
            inside.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    with serving(files, talks) as port:
        assert code_of(proxy_at(files, f"https://localhost:{port}", PATIENCE_S)) == INVALID


def test_the_state_folder_s_context_makes_timed_sockets(tmp_path: Path, files: TlsFiles) -> None:
    folder = tmp_path / "xks-client"
    folder.mkdir()
    for name, file in (("ca.pem", files.authority), ("client.pem", files.certificate), ("client.key", files.key)):
        (folder / name).write_bytes(file.read_bytes())
    context = ProxyTls.load(tmp_path).context
    assert context is not None
    assert context.sslsocket_class is TimedSocket
