"""How the XKS face listens: TLS with a certificate that names KMS, or plain HTTP on loopback behind a terminator.

The client's chain must end at the pinned CA, and its common name must be the one this state was made for
(`cks.kms.<region>.amazonaws.com`). A connection without it is closed before a byte of it is read.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from anchorhold.authority.kms.wildcards import like
from anchorhold.authority.listening import IDLE_SECONDS, SHUTDOWN_SECONDS
from anchorhold.authority.tls import TlsFiles

CLIENT_CA = "client-ca.pem"
MAX_CONNECTIONS = 1_024  # KMS keeps connections open; a stranger gets no further than the handshake


class NotLoopback(Exception):
    """Plain HTTP was asked for where others could read it."""


def client_ca(state_dir: Path) -> Path:
    """The CA certificates that KMS's client certificate must chain to."""
    return state_dir / "tls" / CLIENT_CA


def make_mtls_server(app: Starlette, state_dir: Path, client_name: str) -> uvicorn.Server:
    """A server that takes connections of `client_name` alone. Raises OSError for unreadable files."""
    files = TlsFiles.within(state_dir)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        lifespan="on",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        http=_protocol(client_name),
        ssl_certfile=str(files.certificate),
        ssl_keyfile=str(files.key),
        ssl_ca_certs=str(client_ca(state_dir)),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
    )
    config.load()
    assert config.ssl is not None
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return uvicorn.Server(config)


def make_plain_server(app: Starlette, host: str) -> uvicorn.Server:
    """HTTP without TLS, for a terminator on this machine that checks the client's certificate. Raises NotLoopback."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise NotLoopback(f"expected a loopback address, got {host!r}")
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        lifespan="on",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        http=H11Protocol,
    )
    config.load()
    return uvicorn.Server(config)


def common_name(certificate: Mapping[str, object] | None) -> str | None:
    """The one common name of a verified certificate, as `ssl` gives it; None if there is not exactly one."""
    subject = cast("tuple[tuple[tuple[str, str], ...], ...]", (certificate or {}).get("subject", ()))
    names = [value for part in subject for name, value in part if name == "commonName"]
    return names[0] if len(names) == 1 else None


def _protocol(client_name: str) -> type[H11Protocol]:
    class NamedClient(H11Protocol):
        """HTTP/1.1 with one client, by the name in its certificate."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
            session = transport.get_extra_info("ssl_object")
            name = None if session is None else common_name(session.getpeercert())
            super().connection_made(transport)
            if name is None or not like(client_name, name):
                transport.abort()

    return NamedClient
