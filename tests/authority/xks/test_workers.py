"""`serve --workers` of an XKS face: several processes are one proxy, for KMS, for the administrator and the operator.

A worker is asked by itself by halting the others: they all accept on one socket.
"""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.authority.crash.face import FaceProcess
from tests.authority.guard.doors import asked
from tests.authority.state.conftest import fresh_url, server
from tests.authority.xks.conformance.proxy import Answer, Proxy, encrypt_body
from tests.authority.xks.conftest import KEYS, PREFIX, Stage, make_stage, now_ms, policy

from anchorhold.attestation import canonical
from anchorhold.authority.guard.switch import Latch
from anchorhold.authority.xks.desk_app import make_desk_app
from anchorhold.authority.xks.server import client_ca

__all__ = ["fresh_url", "server"]  # fixtures are used by their names

pytestmark = pytest.mark.slow
WORKERS = 2
PLAIN = "--plain-http-behind-tls-terminator"
PATIENCE_S = 60.0  # of a test with what it waits for


@dataclass
class Several:
    """One XKS face of several workers over plain HTTP, its state folder, and its guard's desk."""

    stage: Stage
    process: FaceProcess
    proxy: Proxy

    def workers(self) -> list[int]:
        """Once all of them are there."""
        until = time.monotonic() + PATIENCE_S
        while len(found := self.process.children()) < WORKERS:
            assert time.monotonic() < until
            time.sleep(0.05)
        return found

    @contextmanager
    def alone(self, worker: int) -> Iterator[None]:
        """Only this one accepts. The others stand between two calls, so they hold nothing."""
        others = [pid for pid in self.workers() if pid != worker]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    def each(self, call: Callable[[], Answer]) -> list[Answer]:
        """The answer of every worker."""
        answers = []
        for worker in self.workers():
            with self.alone(worker):
                answers.append(patient(call))
        return answers

    def ask(self, act: str, **fields: canonical.Value) -> Mapping[str, canonical.Value]:
        """One act at the desk, which is a process of its own."""
        return asked(make_desk_app(self.stage.folder, now_ms), self.stage.folder, act, None, **fields)


def wait(done: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


def patient(call: Callable[[], Answer]) -> Answer:
    """A loaded machine has requests time out, which is right and not what these tests are about."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with suppress(OSError, http.client.HTTPException):
            answer = call()
            if answer.status != 503:
                return answer
        time.sleep(0.1)
    raise AssertionError(f"no answer in {PATIENCE_S} s")


@contextmanager
def served(folder: Path, guard_policy: str | None = None, database: str | None = None) -> Iterator[Several]:
    stage = make_stage(folder, guard_policy, database=database)
    process = FaceProcess(folder, workers=WORKERS, more=(PLAIN,))
    try:
        yield Several(stage, process, stage.proxy(f"http://127.0.0.1:{process.port}{PREFIX}"))
    finally:
        process.kill()
        stage.desk.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def several(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Several]:
    """On each database."""
    url: Callable[[], str] | None = None if request.param == "sqlite" else request.getfixturevalue("fresh_url")
    with served(tmp_path / "state", database=None if url is None else url()) as running:
        yield running


def encrypt(proxy: Proxy) -> Callable[[], Answer]:
    return lambda: proxy.encrypt(KEYS.full)


def test_what_one_worker_took_no_other_takes_again(several: Several) -> None:
    proxy, sent = several.proxy, list[tuple[str, bytes, dict[str, str]]]()

    def fresh() -> Answer:
        """One that timed out may have been taken all the same: it is not asked again."""
        path, body = proxy.path(KEYS.full, "encrypt"), json.dumps(encrypt_body()).encode()
        sent.append((path, body, proxy.signing.headers(proxy.host, path, body)))
        return proxy.send(*sent[-1])

    first, *others = several.workers()
    with several.alone(first):
        patient(fresh).succeeds()
    for worker in others:
        with several.alone(worker):
            patient(lambda: proxy.send(*sent[-1])).fails("AuthenticationFailedException")
    told = [entry.body["kms"] for entry in several.stage.journal() if entry.type == "xks"]
    taken = [one["request"] for one in told if isinstance(one, dict)]
    assert taken.count(json.loads(sent[-1][1])["requestMetadata"]["kmsRequestId"]) == 1


def test_every_worker_obeys_the_next_request_after_a_credential_or_a_key_changed(several: Several) -> None:
    stage, desk = several.stage, several.stage.desk
    for answer in several.each(encrypt(several.proxy)):
        answer.succeeds()
    added = desk.add_credential(now_ms())
    newer = several.proxy.signed(access_key_id=added.access_key_id, secret=added.secret_access_key)
    for answer in several.each(encrypt(newer)):
        answer.succeeds()
    desk.retire_credential(stage.credential.access_key_id, now_ms())
    for answer in several.each(encrypt(several.proxy)):
        answer.fails("AuthenticationFailedException")
    # A ciphertext of one worker opens in the others, also under a version that none of them had seen.
    desk.rotate_key(KEYS.full, now_ms())
    sealed = [answer.succeeds() for answer in several.each(encrypt(newer))]
    for one in sealed:
        for answer in several.each(lambda one=one: newer.decrypt(KEYS.full, one)):  # type: ignore[misc]  # bound here
            answer.succeeds()
    desk.change_key(KEYS.full, now_ms(), enabled=False)
    for answer in several.each(encrypt(newer)):
        answer.fails("InvalidStateException")


def test_one_kill_stops_every_worker_at_its_next_request(several: Several) -> None:
    for answer in several.each(encrypt(several.proxy)):
        answer.succeeds()
    several.ask("kill", reason="drill")
    for answer in several.each(encrypt(several.proxy)):
        answer.fails("InvalidStateException")
    assert several.stage.last()["rule"] == "guard-kill"


def test_no_request_that_came_after_a_kill_under_load_is_served(several: Several) -> None:
    several.workers()
    stop, killed = threading.Event(), threading.Event()
    early, late = list[int](), list[int]()

    def load() -> None:
        while not stop.is_set():
            mine = late if killed.is_set() else early
            with suppress(OSError, http.client.HTTPException):
                mine.append(several.proxy.encrypt(KEYS.full).status)

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        wait(lambda: 200 in early)
        several.ask("kill", reason="drill")
        killed.set()
        wait(lambda: len(late) >= len(threads) and set(late) - {503})
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert 200 not in late


def test_a_shut_latch_is_shut_for_all_and_one_acknowledgement_opens_it_for_all(several: Several) -> None:
    Latch(several.stage.folder).shut("drill")
    for answer in several.each(encrypt(several.proxy)):
        answer.fails("InvalidStateException")
    assert several.stage.last()["rule"] == "guard-log"
    several.ask("acknowledge")
    for answer in several.each(encrypt(several.proxy)):
        answer.succeeds()


def test_workers_give_out_one_bucket(several: Several) -> None:
    bucket = {"name": "b", "per": "key", "operations": ["xks:Encrypt"], "uses": 5, "seconds": 86_400}
    several.ask("put", policy=policy(buckets=[bucket]))
    several.workers()
    threads = [threading.Thread(target=lambda: patient(encrypt(several.proxy))) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    decided = [entry.body["guard"] for entry in several.stage.journal() if entry.type == "xks"]
    rules = [one["rule"] for one in decided if isinstance(one, dict)]
    # A use that was allowed and then timed out is one of the five.
    assert (len(rules) - rules.count("guard-rate"), len(rules) >= 24) == (5, True)


def test_a_worker_that_is_killed_under_load_is_replaced_and_the_journal_has_one_end_and_every_answer(
    several: Several,
) -> None:
    before, stop = several.workers(), threading.Event()
    answered: list[str] = []

    def load() -> None:
        while not stop.is_set():
            body = encrypt_body()
            with suppress(OSError, http.client.HTTPException):
                if several.proxy.call(KEYS.full, "encrypt", body).status == 200:
                    answered.append(body["requestMetadata"]["kmsRequestId"])

    def more() -> None:
        """Another one is answered from now on."""
        known = len(answered)
        wait(lambda: len(answered) > known)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for pid in before:
            more()
            os.kill(pid, signal.SIGKILL)
        wait(lambda: len(set(several.process.children()) - set(before)) >= WORKERS)
        more()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    patient(encrypt(several.proxy)).succeeds()
    kms = [entry.body["kms"] for entry in several.stage.journal() if entry.type == "xks" and entry.body["allowed"]]
    journaled = [one["request"] for one in kms if isinstance(one, dict)]
    assert answered
    assert set(answered) <= set(journaled)
    assert len(set(journaled)) == len(journaled)
    times = [entry.t for entry in several.stage.journal()]
    assert times == sorted(times)


def test_each_worker_asks_for_the_clients_certificate_and_all_end_with_a_signal(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "state")
    process = FaceProcess(stage.folder, workers=WORKERS)
    ca = str(client_ca(stage.folder).parent / "ca.pem")
    proxy = stage.proxy(f"https://localhost:{process.port}{PREFIX}", stage.tls, ca)
    running = Several(stage, process, proxy)
    try:
        for answer in running.each(encrypt(proxy)):
            answer.succeeds()
        pids = running.workers()
        process.stop()
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    finally:
        process.kill()
        stage.desk.close()
