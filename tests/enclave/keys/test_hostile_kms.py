"""A KMS with the right certificate and the wrong answers: none of them is taken for a share."""

import base64
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.purpose import Purpose
from anchorhold.authority.kms.cms import seal_for_recipient
from anchorhold.authority.tls import TlsFiles
from anchorhold.enclave.keys.https import MAX_ANSWER
from anchorhold.enclave.keys.source import Refused, SourceUnavailable

from .conftest import Parent, Rig


@dataclass
class Hostile:
    """A KMS with the right certificate that answers what a test tells it."""

    port: int
    answer: Callable[[dict[str, Any]], tuple[int, bytes]]


@pytest.fixture
def hostile(rig: Rig) -> Iterator[Hostile]:
    told = Hostile(0, lambda _: (500, b""))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = told.answer(asked)
            self.send_response(status)
            self.send_header("Location", "https://localhost/")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    files = TlsFiles.within(rig.folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up is expected here
    server.socket = context.wrap_socket(server.socket, server_side=True)
    told.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


def _recipient_key(asked: dict[str, Any]) -> Any:
    payload = cbor2.loads(cbor2.loads(base64.b64decode(asked["Recipient"]["AttestationDocument"]))[2])
    return load_der_public_key(payload["public_key"])


def _sealed(asked: dict[str, Any], content: bytes, **more: object) -> tuple[int, bytes]:
    envelope = seal_for_recipient(content, _recipient_key(asked), content_key=b"k" * 32, iv=b"i" * 16)
    body = {"KeyId": asked["KeyId"], "CiphertextForRecipient": base64.b64encode(envelope).decode()}
    return 200, json.dumps(body | more).encode()


def _error(status: int, name: object) -> Callable[[dict[str, Any]], tuple[int, bytes]]:
    return lambda _: (status, json.dumps({"__type": name, "message": "\x1b[31mwords"}).encode())


ANSWERS: dict[str, tuple[Callable[[Rig, dict[str, Any]], tuple[int, bytes]], type[Exception], str]] = {
    "another key": (lambda rig, asked: _sealed(asked, rig.share, KeyId=asked["KeyId"] + "0"), Refused, "key"),
    "no key": (lambda rig, asked: _sealed(asked, rig.share, KeyId=None), Refused, "key"),
    "a plaintext beside": (lambda rig, asked: _sealed(asked, rig.share, Plaintext="eA=="), Refused, "plaintext"),
    "another secret": (lambda rig, asked: _sealed(asked, b"x" * 32), Refused, "envelope"),
    "a short secret": (lambda rig, asked: _sealed(asked, rig.share[:-1]), Refused, "envelope"),
    "no envelope": (lambda rig, asked: (200, json.dumps({"KeyId": asked["KeyId"]}).encode()), Refused, "envelope"),
    "no base64": (lambda rig, asked: _sealed(asked, b"", CiphertextForRecipient="%%"), Refused, "envelope"),
    "no JSON": (lambda rig, asked: (200, b"[" * 100_000), Refused, "key"),
    "too much": (lambda rig, asked: (200, b"x" * (MAX_ANSWER + 1)), SourceUnavailable, "answer"),
    "a redirect": (lambda rig, asked: (307, b""), Refused, "unknown"),
    "a fault": (
        lambda rig, asked: _error(500, "KMSInternalException")(asked),
        SourceUnavailable,
        "KMSInternalException",
    ),
    "too often": (
        lambda rig, asked: _error(400, "ThrottlingException")(asked),
        SourceUnavailable,
        "ThrottlingException",
    ),
    "a long name": (
        lambda rig, asked: _error(400, "com.amazonaws.kms#NotFoundException")(asked),
        Refused,
        "NotFoundException",
    ),
    "a strange name": (lambda rig, asked: _error(400, "\x1b[31m")(asked), Refused, "unknown"),
    "no name": (lambda rig, asked: _error(400, 7)(asked), Refused, "unknown"),
}


def test_the_hostile_kms_would_be_believed_if_it_were_right(rig: Rig, hostile: Hostile) -> None:
    hostile.answer = lambda asked: _sealed(asked, rig.share)
    released = rig.source(open_stream=Parent(hostile.port).open_stream).request(
        Ask.KEY, number=1, purposes=(Purpose("serve"),)
    )
    assert released.share is not None


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_does_not_hold_is_refused(rig: Rig, hostile: Hostile, name: str) -> None:
    answer, error, code = ANSWERS[name]
    hostile.answer = lambda asked: answer(rig, asked)
    with pytest.raises(error) as caught:
        rig.source(open_stream=Parent(hostile.port).open_stream).request(
            Ask.KEY, number=1, purposes=(Purpose("serve"),)
        )
    assert isinstance(caught.value, Refused | SourceUnavailable)
    assert caught.value.code == code
    assert "\x1b" not in str(caught.value)
