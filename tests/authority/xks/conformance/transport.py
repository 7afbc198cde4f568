"""Paths, methods, connections, TLS."""

import json
import socket
import ssl
from urllib.parse import urlsplit

from tests.authority.xks.conformance.proxy import TIMEOUT_S, Proxy, encrypt_body, expect, metadata_body


def get_is_405(proxy: Proxy) -> None:
    for method in ("GET", "PUT", "DELETE"):
        for path in (f"{proxy.prefix}/health", proxy.path(proxy.keys.full, "encrypt")):
            status = proxy.send(path, b"", {"Host": proxy.host}, method).status
            expect(status == 405, f"{method}: expected 405, got {status}")


def an_unknown_key_is_404(proxy: Proxy) -> None:
    key = "no-such-key"
    made = proxy.encrypt(proxy.keys.full).succeeds()
    for answer in (proxy.metadata(key), proxy.encrypt(key), proxy.decrypt(key, made)):
        answer.fails("KeyNotFoundException")


def an_unknown_path_is_404(proxy: Proxy) -> None:
    head = proxy.prefix.removesuffix("/kms/xks/v1")
    body = json.dumps(encrypt_body()).encode()
    paths = (
        f"{head}/wrong/kms/xks/v1/keys/{proxy.keys.full}/encrypt",
        f"{head}/kms/xks/v2/keys/{proxy.keys.full}/encrypt",
        proxy.path(proxy.keys.full, "sign"),
        f"{proxy.prefix}/keys/{proxy.keys.full}",
    )
    for path in paths:
        proxy.send(path, body).fails("InvalidUriPathException")


def an_id_of_128_characters_is_an_id(proxy: Proxy) -> None:
    proxy.metadata("k" * 128).fails("KeyNotFoundException")
    if proxy.keys.longest is not None:
        expect(len(proxy.keys.longest) == 128, "the suite's own longest key")
        proxy.metadata(proxy.keys.longest).succeeds()
        proxy.encrypt(proxy.keys.longest).succeeds()


def an_id_of_129_characters_is_none(proxy: Proxy) -> None:
    proxy.metadata("k" * 129).fails("InvalidUriPathException", "KeyNotFoundException", "ValidationException")


def a_connection_serves_more_than_one_request(proxy: Proxy) -> None:
    path = proxy.path(proxy.keys.full, "metadata")
    with proxy.connection() as connection:
        sockets = []
        for _ in range(2):
            proxy.send_over(connection, path, json.dumps(metadata_body()).encode()).succeeds()
            sockets.append(connection.sock)
        expect(sockets[0] is not None and sockets[0] is sockets[1], "the connection was closed after one request")


def tls_is_1_2_or_newer(proxy: Proxy) -> None:
    if proxy.tls is None:
        return
    with proxy.connection() as connection:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        expect(connection.sock.version() in ("TLSv1.2", "TLSv1.3"), f"got {connection.sock.version()}")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    expect(not _shakes_hands(proxy, old), "TLS 1.1 is taken")


def a_caller_without_kmss_certificate_gets_no_answer(proxy: Proxy) -> None:
    if proxy.tls is None:
        return
    bare = ssl.create_default_context(cafile=proxy.ca)
    expect(not _answers(proxy, bare), "a caller without a client certificate is answered")


def _shakes_hands(proxy: Proxy, context: ssl.SSLContext) -> bool:
    place = urlsplit(proxy.url)
    assert place.hostname is not None
    try:
        with (
            socket.create_connection((place.hostname, place.port or 443), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=place.hostname),
        ):
            return True
    except OSError:
        return False


def _answers(proxy: Proxy, context: ssl.SSLContext) -> bool:
    """TLS 1.3 lets a client finish its handshake before the server refuses it, so a request must be tried."""
    other = Proxy(proxy.url, proxy.signing, proxy.keys, context, proxy.ca)
    try:
        other.metadata(proxy.keys.full)
    except (OSError, ssl.SSLError):
        return False
    except Exception as error:
        if type(error).__name__ in ("RemoteDisconnected", "BadStatusLine"):
            return False
        raise
    return True
