"""One HTTPS request to a source, over a byte stream that the blind parent carries (DESIGN 5).

TLS begins and ends here: 1.2 or newer, only the CA certificates that the attested configuration names for this source,
the host name out of its endpoint. No default context, no environment, no redirects, no retries.
"""

import http.client
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from anchorhold.attestation.configuration import Source
from anchorhold.enclave.keys.source import SourceUnavailable

TIMEOUT_SECONDS = 15.0  # between two bytes; a KMS answers in tens of milliseconds
MAX_ANSWER = 131_072  # bytes; the largest honest answer is under 10,000
HTTPS_PORT = 443


@dataclass(frozen=True, slots=True)
class Answer:
    """What a source said, whatever it means."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def endpoint_of(source: Source) -> tuple[str, int]:
    """Host and port of `https://host[:port]`. Raises ValueError for anything more or less."""
    parts = urlsplit(source.endpoint)
    if parts.scheme != "https" or parts.hostname is None or parts.path not in ("", "/"):
        raise ValueError(f"source {source.name!r}: expected https://host[:port], got {source.endpoint!r}")
    if parts.query or parts.fragment or parts.username is not None or parts.password is not None:
        raise ValueError(f"source {source.name!r}: expected https://host[:port], got {source.endpoint!r}")
    return parts.hostname, parts.port or HTTPS_PORT


def host_header(source: Source) -> str:
    """The Host header for that endpoint, as clients write and sign it."""
    host, port = endpoint_of(source)
    shown = f"[{host}]" if ":" in host else host
    return shown if port == HTTPS_PORT else f"{shown}:{port}"


def tls_context(source: Source) -> ssl.SSLContext:
    """A client context that trusts this source's CA certificates and nothing else. Raises ssl.SSLError."""
    # Not create_default_context: it honours SSLKEYLOGFILE and loads the system's roots.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for authority in source.authorities:
        context.load_verify_locations(cadata=authority)
    return context


def post(
    source: Source,
    open_stream: Callable[[str], socket.socket],
    path: str,
    headers: Mapping[str, str],
    body: bytes,
) -> Answer:
    """One POST on a connection of its own. Raises SourceUnavailable: nothing that comes back unproven is an answer."""
    host, port = endpoint_of(source)
    connection = _Connection(host, port, lambda: open_stream(source.name), tls_context(source))
    try:
        connection.request("POST", path, body, {**headers, "Connection": "close"})
        response = connection.getresponse()
        answer = _read(response)
    except ssl.SSLError as error:
        raise SourceUnavailable(source.name, "tls", error.reason or "the connection is not TLS") from error
    except TimeoutError as error:
        raise SourceUnavailable(source.name, "timeout", f"no answer within {TIMEOUT_SECONDS} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SourceUnavailable(source.name, "unreachable", type(error).__name__) from error
    finally:
        connection.close()
    if len(answer) > MAX_ANSWER:
        raise SourceUnavailable(source.name, "answer", f"expected at most {MAX_ANSWER} bytes")
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, answer)


def _read(response: http.client.HTTPResponse) -> bytes:
    """The whole body, or MAX_ANSWER + 1 bytes of it. Raises HTTPException: a part of an answer is none."""
    if response.length is None and not response.chunked:
        raise http.client.HTTPException("expected a length")
    body = response.read(MAX_ANSWER + 1)
    # read(n) returns short on a cut stream without a word.
    if response.length and len(body) <= MAX_ANSWER:
        raise http.client.IncompleteRead(body, response.length)
    return body


class _Connection(http.client.HTTPSConnection):
    """http.client over a stream that somebody else opens."""

    def __init__(self, host: str, port: int, open_stream: Callable[[], socket.socket], context: ssl.SSLContext) -> None:
        super().__init__(host, port, context=context)
        self._open_stream = open_stream
        self._tls = context

    def connect(self) -> None:
        stream = self._open_stream()
        stream.settimeout(TIMEOUT_SECONDS)
        # A stream cut by the parent is an error here, not an end of file.
        self.sock = self._tls.wrap_socket(stream, server_hostname=self.host, suppress_ragged_eofs=False)
