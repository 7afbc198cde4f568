"""Requests that wait together share one commit; none is answered before it, and each in time or with a word."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError
from tests.authority.xks.conformance.proxy import encrypt_body, metadata_body
from tests.authority.xks.conftest import KEYS, PREFIX, Stage, make_stage, now_ms

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Decision, Guard, Use
from anchorhold.authority.keystore.opener import open_keystore
from anchorhold.authority.xks.app import journal_key
from anchorhold.authority.xks.authenticate import Signatures
from anchorhold.authority.xks.batches import Batches, TooMany
from anchorhold.authority.xks.decide import Around
from anchorhold.authority.xks.denials import MOST, Denials
from anchorhold.authority.xks.face import COMMIT_S, XksFace
from anchorhold.authority.xks.faults import Error, XksFault
from anchorhold.authority.xks.health import Health
from anchorhold.authority.xks.paths import parse_path
from anchorhold.authority.xks.state import DATABASE, SCHEMA, State
from anchorhold.authority.xks.turn import Asked
from anchorhold.wire import sigv4

WAIT_S = 10


class _Slow:
    """A key store in whose hands a use stays until it is let go."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.let_go = threading.Event()
        self.entered = threading.Event()

    def encrypt(self, handle: str, plaintext: bytes, aad: bytes, iv: bytes | None) -> tuple[bytes, bytes, bytes]:
        self.entered.set()
        assert self.let_go.wait(WAIT_S)
        made: tuple[bytes, bytes, bytes] = self._inner.encrypt(handle, plaintext, aad, iv)
        return made

    def decrypt(self, handle: str, iv: bytes, ciphertext: bytes, tag: bytes, aad: bytes) -> bytes:
        opened: bytes = self._inner.decrypt(handle, iv, ciphertext, tag, aad)
        return opened


class _Bench:
    """A face without HTTP, on a clock of ours, and how many transactions it took."""

    def __init__(self, folder: Path) -> None:
        self.stage: Stage = make_stage(folder)
        self.state = State.load(folder / DATABASE)
        self.keystore = open_keystore(folder)
        self.store = _Slow(self.keystore)
        self.store.let_go.set()
        self.at = 0.0
        self.later_ms = 0

    def face(self, guard: Guard | None = None, ticks: Callable[[], float] | None = None) -> XksFace:
        health = Health(self.store, "slow", "model", lambda: self.at)
        return XksFace(
            self.state,
            Around(self.state.identity(), guard or Guard(SCHEMA, self.stage.folder), self.store, health),
            self.keystore,
            self.state.journal(journal_key(self.state, self.keystore)),
            clock=lambda: Milliseconds(now_ms() + self.later_ms),
            ticks=ticks or (lambda: self.at),
            signatures=Signatures(),
            denials=Denials(),
        )

    def asked(self, body: dict[str, Any] | None = None, operation: str = "encrypt", deadline: float = 1.0) -> Asked:
        raw = json.dumps(encrypt_body() if body is None else body).encode()
        path = f"{PREFIX}/kms/xks/v1/keys/{KEYS.full}/{operation}"
        headers = self.stage.proxy("http://x").signing.headers("x", path, raw)
        request = sigv4.Request("POST", path, "", tuple(headers.items()), raw)
        return Asked(request, parse_path(path, "", PREFIX), "request", deadline)

    def entries(self) -> list[dict[str, Any]]:
        return [dict(entry.body) for entry in self.stage.journal() if entry.type == "xks"]


@pytest.fixture
def bench(tmp_path: Path) -> _Bench:
    return _Bench(tmp_path / "state")


def _error(reply: object) -> Error:
    assert isinstance(reply, XksFault)
    return reply.error


def test_requests_that_wait_together_are_run_together() -> None:
    begin, runs = threading.Event(), []

    def run(batch: Sequence[int]) -> Sequence[int]:
        assert begin.wait(WAIT_S)
        runs.append(tuple(batch))
        return [number * 2 for number in batch]

    batches = Batches(run, most=4)
    answers = [batches.submit(number) for number in range(7)]
    begin.set()
    assert [answer.result(WAIT_S) for answer in answers] == [0, 2, 4, 6, 8, 10, 12]
    batches.close()
    assert sum(runs, ()) == tuple(range(7))
    assert max(len(one) for one in runs) == 4


def test_more_than_can_wait_is_refused_at_once() -> None:
    begin = threading.Event()
    taken = threading.Event()

    def run(batch: Sequence[int]) -> Sequence[int]:
        taken.set()
        assert begin.wait(WAIT_S)
        return list(batch)

    batches = Batches(run, most=1, waiting=2)
    first = batches.submit(0)
    assert taken.wait(WAIT_S)
    rest = [batches.submit(number) for number in (1, 2)]
    with pytest.raises(TooMany):
        batches.submit(3)
    begin.set()
    assert [one.result(WAIT_S) for one in (first, *rest)] == [0, 1, 2]
    batches.close()


def test_a_run_that_fails_answers_nobody() -> None:
    def run(batch: Sequence[int]) -> Sequence[int]:
        raise OSError(f"no space for {len(batch)}")

    batches: Batches[int, int] = Batches(run)
    with pytest.raises(OSError, match="no space"):
        batches.submit(1).result(WAIT_S)
    with pytest.raises(OSError, match="no space"):
        batches.submit(2).result(WAIT_S)
    batches.close()


def test_a_batch_is_one_transaction_with_an_entry_for_each_request(bench: _Bench) -> None:
    face, commits = bench.face(), list[int]()
    sql.event.listen(bench.state._store.engine, "commit", lambda connection: commits.append(1))
    replies = face.run([bench.asked() for _ in range(5)])
    assert not [reply for reply in replies if isinstance(reply, XksFault)]
    assert len(commits) == 1
    assert len(bench.entries()) == 5


def test_one_request_that_is_refused_takes_no_other_with_it(bench: _Bench) -> None:
    malformed = bench.asked({"requestMetadata": {}})
    good, bad, also = bench.face().run([bench.asked(), malformed, bench.asked()])
    assert not isinstance(good, XksFault)
    assert not isinstance(also, XksFault)
    assert _error(bad) is Error.VALIDATION
    assert [entry["allowed"] for entry in bench.entries()] == [True, False, True]


@pytest.mark.parametrize(
    "name", ["awsPrincipalArn", "kmsRequestId", "kmsKeyArn", "awsSourceVpc", "awsSourceVpce", "kmsViaService"]
)
def test_a_text_that_no_database_keeps_is_refused_for_its_own_request_alone(bench: _Bench, name: str) -> None:
    """In PostgreSQL the character U+0000 would end the transaction, and with it the whole batch."""
    body = encrypt_body()
    body["requestMetadata"][name] = body["requestMetadata"].get(name, "vpc-1") + "\0"
    good, bad = bench.face().run([bench.asked(), bench.asked(body)])
    assert not isinstance(good, XksFault)
    assert _error(bad) is Error.VALIDATION
    assert "U+0000" in bench.entries()[-1]["detail"]


def test_what_cannot_be_journaled_is_not_answered(bench: _Bench) -> None:
    with bench.state.transaction() as transaction:
        transaction.connection.execute(sql.text("DROP TABLE journal"))
    with pytest.raises(SQLAlchemyError):
        bench.face().run([bench.asked()])


def test_a_request_that_waited_too_long_is_not_begun(bench: _Bench) -> None:
    face = bench.face()
    bench.at = 1.0 - COMMIT_S
    (reply,) = face.run([bench.asked(deadline=1.0)])
    assert _error(reply) is Error.DEPENDENCY_TIMEOUT
    assert not bench.store.entered.is_set()


def test_a_key_store_that_does_not_answer_is_a_dependency_timeout_and_journaled(bench: _Bench) -> None:
    asked = bench.asked(deadline=COMMIT_S + 0.05)
    begun = iter([True])

    def ticks() -> float:
        """None has passed when the request is begun; all of it once the key store has it."""
        if next(begun, False):
            return 0.0
        assert bench.store.entered.wait(WAIT_S)
        return asked.deadline

    face = bench.face(ticks=ticks)
    bench.store.let_go.clear()
    (reply,) = face.run([asked])
    bench.store.let_go.set()
    assert _error(reply) is Error.DEPENDENCY_TIMEOUT
    (entry,) = bench.entries()
    assert (entry["allowed"], entry["rule"], entry["error"]) == (False, "key-store", "DependencyTimeoutException")


def test_a_key_store_that_hangs_is_unavailable_in_health(bench: _Bench) -> None:
    face = bench.face()
    bench.store.let_go.clear()
    path = f"{PREFIX}/kms/xks/v1/health"
    body = metadata_body()
    asked = bench.asked(body, deadline=COMMIT_S + 0.05)
    raw = json.dumps(body).encode()
    headers = bench.stage.proxy("http://x").signing.headers("x", path, raw)
    request = sigv4.Request("POST", path, "", tuple(headers.items()), raw)
    (reply,) = face.run([Asked(request, parse_path(path, "", PREFIX), "request", asked.deadline)])
    bench.store.let_go.set()
    assert not isinstance(reply, XksFault)
    fleet: Any = reply["ekmFleetDetails"]
    assert fleet[0]["healthStatus"] == "UNAVAILABLE"


def test_a_fault_of_ours_in_one_decision_is_internal_for_it_alone(bench: _Bench) -> None:
    class Failing(Guard):
        def decide(self, connection: sql.Connection, use: Use, now: Milliseconds) -> Decision:
            if use.request_id == "fail":
                raise ZeroDivisionError
            return super().decide(connection, use, now)

    failing = encrypt_body()
    failing["requestMetadata"]["kmsRequestId"] = "fail"
    face = bench.face(Failing(SCHEMA, bench.stage.folder))
    good, bad, also = face.run([bench.asked(), bench.asked(failing), bench.asked()])
    assert not isinstance(good, XksFault)
    assert not isinstance(also, XksFault)
    assert _error(bad) is Error.INTERNAL
    assert [(entry["allowed"], entry["rule"]) for entry in bench.entries()] == [
        (True, "guard-allowed"),
        (False, "internal"),
        (True, "guard-allowed"),
    ]


def test_a_request_is_judged_by_the_time_at_which_its_turn_comes(bench: _Bench) -> None:
    """While it waits for another process's write, that one may forget its signature as too old."""
    face, answers = bench.face(), list[object]()
    waiting = threading.Thread(target=lambda: answers.extend(face.run([bench.asked()])))
    with State.load(bench.stage.folder / DATABASE).transaction():
        waiting.start()
        time.sleep(0.2)
        bench.later_ms = 301_000  # beyond the window of five minutes
    waiting.join(WAIT_S)
    assert [_error(one) for one in answers] == [Error.AUTHENTICATION_FAILED]
    assert bench.entries() == []


def test_processes_share_the_journals_room_for_strangers() -> None:
    now = now_ms()
    for sharers in (1, 2, 7, 60):
        budgets = [Denials(sharers) for _ in range(sharers)]
        at_once = [one.take(now) for one in budgets for _ in range(2 * MOST)]
        assert MOST - sharers < len(at_once) - at_once.count(None) <= MOST
        later = [one.take(Milliseconds(now + 60_000)) for one in budgets for _ in range(2 * MOST)]
        assert len(later) - later.count(None) <= MOST
        told = sum(one for one in at_once + later if one is not None)
        assert told == at_once.count(None)
