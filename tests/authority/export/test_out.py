"""The ways out against real receivers on this machine: syslog, a webhook, a log."""

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.authority.disk_room import room_for

from anchorhold.attestation.journal import is_head_leaf, verify_head
from anchorhold.attestation.transcript.append import AppendReply, AppendRequest
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.export.anchor import Anchor, Every
from anchorhold.authority.export.run import Runner
from anchorhold.authority.export.sinks import LineFile, Sink, Syslog
from anchorhold.authority.export.webhook import TRIES, Webhook
from anchorhold.log.server import append
from anchorhold.log.store import Store, init_state

from .conftest import Journal

SECRET = b"a secret of sixteen bytes or more"
NOW = Milliseconds(1_790_000_100_000)


def drained(journal: Journal, folder: Path, sink: Sink) -> Runner:
    runner = Runner(journal.identity, journal, {"one": sink}, folder=folder)
    runner.drain()
    return runner


def test_udp_and_unix_datagrams_carry_one_entry_each(journal: Journal, tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(tmp_path / "log"))
        for at, (receiver, address) in enumerate(
            ((udp, f"udp://127.0.0.1:{udp.getsockname()[1]}"), (unix, f"unix:{tmp_path / 'log'}"))
        ):
            receiver.settimeout(5)
            (tmp_path / str(at)).mkdir()
            assert drained(journal, tmp_path / str(at), Syslog(address, "ocsf", "host")).progress["one"].trouble is None
            got = [receiver.recv(65_536) for _ in range(3)]
            assert [b" seq=%d " % seq in message for seq, message in enumerate(got)] == [True] * 3
            assert got[2].startswith(b"<105>1 "), "an alert"


def test_tcp_messages_are_counted_and_a_receiver_that_went_is_connected_to_again(
    journal: Journal, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sink = Syslog(f"tcp://127.0.0.1:{server.getsockname()[1]}", "cloudtrail", "host")
        assert drained(journal, tmp_path, sink).progress["one"].trouble is None
        peer, _ = server.accept()
        with peer, peer.makefile("rb") as stream:
            for seq in range(3):
                size = int(b"".join(iter(lambda: stream.read(1), b" ")))
                assert b" seq=%d " % seq in stream.read(size)


def test_a_syslog_that_is_not_there_is_an_absence(journal: Journal, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        runner = drained(journal, tmp_path, Syslog(f"tcp://127.0.0.1:{unused.getsockname()[1]}", "ocsf", "host"))
    assert runner.progress["one"].trouble is not None
    assert not runner.progress["one"].stopped


@contextmanager
def receiver(statuses: list[int]) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Answers with each status in turn, the last for ever."""
    got: list[tuple[str, bytes]] = []

    class Takes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers["Anchorhold-Signature"], body))
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Takes)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/in?from=test", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def webhook(url: str, folder: Path, pauses: list[float] | None = None) -> Webhook:
    def pause(seconds: float) -> bool:
        (pauses if pauses is not None else []).append(seconds)
        return False

    return Webhook(url, SECRET, folder / "one.dead.jsonl", ca=None, clock=lambda: NOW, pause=pause)


def test_an_alert_arrives_once_signed_and_names_its_entry(journal: Journal, tmp_path: Path) -> None:
    with receiver([204]) as (url, got):
        drained(journal, tmp_path, webhook(url, tmp_path))
    ((signature, body),) = got
    seconds, _, mac = signature.removeprefix("t=").partition(",v1=")
    assert mac == hmac.new(SECRET, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    said = json.loads(body)
    assert (said["seq"], said["alerts"], said["authority"]) == (2, ["guard-kill"], "owner")
    assert SECRET not in body


def test_an_alert_is_tried_again_with_pauses_that_double(journal: Journal, tmp_path: Path) -> None:
    pauses: list[float] = []
    with receiver([500, 302, 503, 200]) as (url, got):
        runner = drained(journal, tmp_path, webhook(url, tmp_path, pauses))
    assert len(got) == 4
    assert pauses == [1.0, 2.0, 4.0]
    assert runner.progress["one"].trouble is None
    assert not (tmp_path / "one.dead.jsonl").exists()


def test_what_nobody_takes_lies_in_the_dead_letter_until_it_is_taken(journal: Journal, tmp_path: Path) -> None:
    with receiver([500]) as (url, got):
        runner = drained(journal, tmp_path, webhook(url, tmp_path))
        assert len(got) == TRIES
        assert runner.progress["one"].exported == 3, "later alerts are not held up"
        (line,) = (tmp_path / "one.dead.jsonl").read_text().splitlines()
        assert json.loads(line)["reason"] == "HTTP status 500"
        assert webhook(url, tmp_path).resend() == (0, 1)
    with receiver([200]) as (url, got):
        assert webhook(url, tmp_path).resend() == (1, 0)
    assert json.loads(got[0][1])["alerts"] == ["guard-kill"]
    assert (tmp_path / "one.dead.jsonl").read_text() == ""


def test_what_is_buried_while_dead_letters_are_offered_again_is_not_lost(journal: Journal, tmp_path: Path) -> None:
    dead = tmp_path / "one.dead.jsonl"
    with receiver([500]) as (url, _):
        drained(journal, tmp_path, webhook(url, tmp_path))
    (tmp_path / "beside").mkdir()

    with socket.socket() as unused, receiver([200]) as (again, got):
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/in"

        def buries_beside() -> Milliseconds:
            if len(dead.read_bytes().splitlines()) == 1:
                drained(journal, tmp_path / "beside", webhook(nobody, tmp_path))
            return NOW

        offering = Webhook(again, SECRET, dead, ca=None, clock=buries_beside, pause=lambda _: False)
        assert offering.resend() == (1, 1)
    assert len(got) == 1
    (line,) = dead.read_text().splitlines()
    assert "refused" in json.loads(line)["reason"]


def test_half_a_dead_letter_of_a_full_disk_does_not_swallow_the_next(journal: Journal, tmp_path: Path) -> None:
    dead = tmp_path / "one.dead.jsonl"
    dead.write_bytes(b'{"reason": "a crash left ha')
    with receiver([500]) as (url, _):
        with room_for(500):
            runner = drained(journal, tmp_path, webhook(url, tmp_path))
        assert (runner.progress["one"].exported, "large" in str(runner.progress["one"].trouble)) == (2, True)
        assert dead.read_bytes() == b'{"reason": "a crash left ha\n'
        drained(journal, tmp_path, webhook(url, tmp_path))
    half, whole = dead.read_bytes().splitlines()
    assert json.loads(json.loads(whole)["body"])["alerts"] == ["guard-kill"]
    assert half == b'{"reason": "a crash left ha'


LOG_KEY = Ed25519PrivateKey.generate()


class Log:
    """A real store behind `Append`; each folder is another history under one key."""

    def __init__(self, folder: Path) -> None:
        self.key = init_state(folder, "log.example/test", LOG_KEY)
        self.store = Store(folder)
        self.leaves: list[bytes] = []

    def append(self, request: AppendRequest) -> AppendReply:
        self.leaves.append(request.record)
        return append(self.store, request)


def anchor(journal: Journal, log: Log, folder: Path, *, every: int = 1_000) -> Anchor:
    return Anchor("owner", journal.key, log.key, log.append, Every(every, 86_400_000), folder / "one.checkpoint")


def test_a_head_goes_to_the_log_at_first_at_alerts_and_once_in_a_while(journal: Journal, tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    for _ in range(5):
        journal.add()
    runner = drained(journal, tmp_path, anchor(journal, log, tmp_path, every=3))
    assert runner.progress["one"].trouble is None
    heads = [verify_head(leaf, journal.key.public_key()) for leaf in log.leaves]
    assert [(head.seq, head.alert) for head in heads] == [(0, None), (2, "guard-kill"), (5, None)]
    assert all(is_head_leaf(leaf) for leaf in log.leaves)


def test_a_log_that_forgets_what_it_showed_stops_the_anchor_also_after_a_restart(
    journal: Journal, tmp_path: Path
) -> None:
    log = Log(tmp_path / "log")
    drained(journal, tmp_path, anchor(journal, log, tmp_path))
    forgetful = Log(tmp_path / "other")
    other = Journal()
    other.add()
    drained(other, tmp_path / "other", anchor(other, forgetful, tmp_path / "other"))
    for _ in range(3):
        other.add("guard-kill", reason="elsewhere", operator="bob")
    drained(other, tmp_path / "other", anchor(other, forgetful, tmp_path / "other"))
    journal.add("guard-kill", reason="again", operator="alice")
    runner = drained(journal, tmp_path, anchor(journal, forgetful, tmp_path))
    assert runner.progress["one"].stopped


def test_a_log_under_another_key_stops_the_anchor(journal: Journal, tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.key = Vkey.of("log.example/test", Ed25519PrivateKey.generate().public_key())
    runner = drained(journal, tmp_path, anchor(journal, log, tmp_path))
    assert runner.progress["one"].stopped
    assert runner.progress["one"].exported == 0


@pytest.mark.parametrize("form", ["signed", "cloudtrail", "ocsf"])
def test_no_form_holds_bytes_that_json_cannot(journal: Journal, tmp_path: Path, form: str) -> None:
    drained(journal, tmp_path, LineFile(tmp_path / "out", form))
    assert len([json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]) == 3
