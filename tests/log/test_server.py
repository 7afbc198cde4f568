"""The log as a process: appends, tiles, refusals, restart."""

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from anchorhold.attestation.transcript import tree
from anchorhold.attestation.transcript.append import MAX_REQUEST, AppendReply, AppendRequest
from anchorhold.attestation.transcript.bodies import Anomaly
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.transcript.entry import Entry, SigningKeys, sign_record
from anchorhold.attestation.types import Milliseconds, Sha384, StatementDigest
from anchorhold.log.files import cas_path, put
from anchorhold.log.store import init_state

pytestmark = pytest.mark.slow
KEY = Ed25519PrivateKey.generate()
KEYS = SigningKeys(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())
START_S = 30.0


def record(number: int) -> bytes:
    boot = StatementDigest(Sha384(b"b" * 48))
    return sign_record(Entry(boot, 1, b"p" * 48, Milliseconds(number), Anomaly("test", "", "")), KEYS).raw


class Log:
    """One log process."""

    def __init__(self, state: Path) -> None:
        ready = state.parent / "ready.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "anchorhold.log", "--state", str(state), "--ready-file", str(ready)]
        self.process = subprocess.Popen(command)
        deadline = time.monotonic() + START_S
        while not ready.exists():
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.port = json.loads(ready.read_text())["port"]

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def append(self, number: int, *attachments: bytes, since: int = 0) -> AppendReply:
        status, body = self.ask("POST", "/append", AppendRequest(record(number), attachments, since).encode())
        assert status == 200, body
        return AppendReply.decode(body)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    init_state(tmp_path / "log", "log.example/1", KEY)
    return tmp_path / "log"


@pytest.fixture
def log(state: Path) -> Iterator[Log]:
    log = Log(state)
    yield log
    log.stop()


def test_an_append_is_answered_with_its_proof_and_kept(log: Log, state: Path) -> None:
    vkey = Vkey.of("log.example/1", KEY.public_key())
    first = vkey.open_checkpoint(log.append(0, b"document").checkpoint)
    reply = log.append(1, since=1)
    head = vkey.open_checkpoint(reply.checkpoint)
    assert (reply.index, head.size) == (1, 2)
    tree.verify_consistency(first.size, head.size, first.root, head.root, reply.consistency)
    assert log.ask("GET", "/checkpoint") == (200, reply.checkpoint)
    status, bundle = log.ask("GET", "/tile/entries/000.p/2")
    leaves = [tree.leaf_hash(one) for one in tree.decode_bundle(bundle, 2)]
    assert (status, tree.root_of(leaves)) == (200, head.root)
    assert log.ask("GET", "/tile/0/000.p/1") == (200, leaves[0])
    tree.verify_inclusion(leaves[1], reply.index, head.size, reply.proof, head.root)
    digest = put(state, b"document")
    assert log.ask("GET", f"/{cas_path(digest)}") == (200, b"document")


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"junk", 400), (AppendRequest(b"junk", (), 0).encode(), 400)]
)
def test_what_is_no_record_is_refused(log: Log, body: bytes, status: int) -> None:
    assert log.ask("POST", "/append", body)[0] == status
    assert log.append(0).index == 0


def test_too_much_is_refused(log: Log) -> None:
    assert log.ask("POST", "/append", b"x" * (MAX_REQUEST + 1))[0] == 413


def test_a_sender_who_saw_a_longer_log_gets_no_signature(log: Log) -> None:
    assert log.ask("POST", "/append", AppendRequest(record(0), (), 7).encode())[0] == 503


def test_no_path_leaves_the_public_folders(log: Log) -> None:
    for path in (
        "/private/log.key",
        "/tile/../../private/log.key",
        "/tile/entries/..%2f..%2fprivate/log.key",
        "/cas/sha256/../../private/log.key",
        "/cas/sha256/..%2f..%2f..%2fprivate%2flog.key",
        "/tile/0/000.p/257",
        "/tile/64/000",
    ):
        assert log.ask("GET", path)[0] == 404, path


def test_a_killed_log_comes_back_with_all_it_answered_for(state: Path) -> None:
    log = Log(state)
    for number in range(3):
        log.append(number)
    log.process.kill()
    log.process.wait(timeout=20)
    again = Log(state)
    assert again.append(1).index == 1
    assert again.append(3, since=3).index == 3
    assert again.stop() == 0


def test_a_tile_of_a_number_nobody_has_is_not_found(log: Log) -> None:
    for path in (
        "/tile/0/" + "x999/" * 5 + "999",
        "/tile/0/" + "x000/" * 1_500 + "000",
        "/tile/63/000",
        "/tile/64/000",
    ):
        assert log.ask("GET", path)[0] == 404, path[:40]
