"""An authority that is killed has forgotten nothing that it answered (program.py); a seeded sample.

ANCHORHOLD_CRASH=300 runs so many points on each database.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from tests.authority.crash import disk
from tests.authority.crash.answered import Lost, Told, check_answers
from tests.authority.crash.disk import lose_unsynced
from tests.authority.crash.owner import PRINCIPAL, OwnerLoad, owner_marks
from tests.authority.crash.program import FAULTS, MARKS, Run
from tests.authority.crash.seeded import Seeded
from tests.authority.crash.xks import XksLoad
from tests.authority.postgres import Postgres, binaries, postgres

from anchorhold.attestation.errors import EvidenceError
from anchorhold.authority.guard.switch import KILL_FILE
from anchorhold.authority.keystore import open_keystore
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.place import StateRefused
from anchorhold.authority.xks.envelope import handle_of
from anchorhold.sim.owner_face import PURPOSE, descriptor

pytestmark = pytest.mark.slow
POINTS = int(os.environ.get("ANCHORHOLD_CRASH", "9"))  # on each database, over all faces
SEED = int(os.environ.get("ANCHORHOLD_CRASH_SEED", "1"))
MOST_LIES = 20  # power cuts of a disk that lies about syncing, until one is noticed


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Iterator[Postgres | None]:
    """None: SQLite."""
    if request.param == "sqlite":
        yield None
        return
    if binaries() is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: postgresql)")
    with postgres(disk.build) as running:
        yield running


@pytest.mark.parametrize("face", MARKS)
def test_a_killed_authority_has_forgotten_nothing_that_it_answered(
    tmp_path: Path, face: str, server: Postgres | None
) -> None:
    run = Run(tmp_path, face, SEED, server)
    for number in range(max(POINTS // len(MARKS), 1)):
        run.point(FAULTS[number % len(FAULTS)])
    run.last_check()
    assert run.tally.answered >= run.tally.points
    assert run.tally.entries >= run.tally.answered
    if run.tally.by_fault.get("full"):
        assert run.tally.noticed


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path, "owner", SEED, None)
    yield made
    made.process.kill()
    made.nursery.close()


def test_a_disk_that_lies_about_syncing_is_found_out(on_sqlite: Run) -> None:
    """The control: the same check, on a disk that takes every sync for nothing, must fail."""

    def power_cuts() -> None:
        for _ in range(MOST_LIES):
            on_sqlite.point("loss", honest=False)

    with pytest.raises((Lost, StateRefused, EvidenceError)):
        power_cuts()


def test_an_answer_that_no_journal_holds_is_found_out(on_sqlite: Run) -> None:
    on_sqlite.point("kill")
    on_sqlite.answers.add(Told("release", b"never journaled"))
    with pytest.raises(Lost, match="does not say what was answered"):
        check_answers(on_sqlite.state_dir, on_sqlite.answers, owner_marks)


def test_a_journal_that_was_written_anew_is_found_out(on_sqlite: Run) -> None:
    on_sqlite.point("kill")
    kept = on_sqlite.answers.journal
    on_sqlite.answers.journal = (*kept[:-1], kept[-1] + b"x")
    with pytest.raises(Lost, match="gone or another"):
        check_answers(on_sqlite.state_dir, on_sqlite.answers, owner_marks)


# What is taken away while the face is down, and the word for it.
LOSSES = {
    "approval": ("DELETE FROM guard_approvals", "approval"),
    "voice": ("DELETE FROM guard_signatures", "approval"),
    "policy": ("DELETE FROM guard_policies WHERE seq = (SELECT max(seq) FROM guard_policies)", "policy"),
    "kill": ("DELETE FROM guard_switch", "killed"),
    "ticket": ("DELETE FROM guard_tickets", "tickets are gone"),
}


@pytest.mark.parametrize("lost", LOSSES)
def test_what_a_guard_has_forgotten_is_found_out(on_sqlite: Run, lost: str) -> None:
    load = on_sqlite.load
    assert isinstance(load, OwnerLoad)
    on_sqlite._start({})
    load.guard.put()
    load.guard.ticket(b"\xd1" * 48, PRINCIPAL, PURPOSE)
    load.guard.approve(both=True)  # the last that can be: it is looked for while its time runs
    load.guard.kill(rearm=False)
    on_sqlite.process.kill()
    statement, word = LOSSES[lost]
    with closing(sqlite3.connect(on_sqlite.state_dir / "owner.sqlite")) as database, database:
        assert database.execute(statement).rowcount
    if lost == "kill":
        (on_sqlite.state_dir / KILL_FILE).unlink()
    on_sqlite._start({})
    tickets = partial(load.guard.check_tickets, on_sqlite.state_dir)
    with pytest.raises(Lost, match=word):
        (tickets if lost == "ticket" else load.check_live)()


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("DELETE FROM tenant_keys", "is gone"),
        ("UPDATE tenant_keys SET shredded = 1", "expected False, got True"),
        ("UPDATE tenant_keys SET wrapped = x'00' WHERE pool IS NOT NULL", "does not open"),
    ],
)
def test_what_is_gone_of_a_tenant_s_key_is_found_out(on_sqlite: Run, statement: str, word: str) -> None:
    load = on_sqlite.load
    assert isinstance(load, OwnerLoad)
    on_sqlite._start({})
    for chance in (1, 3):
        load.tenants.once([], chance)
    on_sqlite.process.kill()
    with closing(sqlite3.connect(on_sqlite.state_dir / "owner.sqlite")) as database, database:
        assert database.execute(statement).rowcount
    on_sqlite._start({})
    with pytest.raises((Lost, AdminFailed), match=word):
        load.check_live()


def test_an_adapter_s_number_that_is_forgotten_is_found_out(on_sqlite: Run) -> None:
    load = on_sqlite.load
    assert isinstance(load, OwnerLoad)
    on_sqlite._start({})
    assert load.adapters.once(load._register(descriptor("one"), Seeded(SEED))) == "granted"
    load.check_live()
    on_sqlite.process.kill()
    with closing(sqlite3.connect(on_sqlite.state_dir / "owner.sqlite")) as database, database:
        assert database.execute("DELETE FROM adapter_requests").rowcount == 1
    on_sqlite._start({})
    with pytest.raises(Lost, match="counts again"):
        load.check_live()


def test_an_external_key_that_opens_nothing_any_more_is_found_out(tmp_path: Path) -> None:
    run = Run(tmp_path, "xks", SEED, None)
    assert isinstance(run.load, XksLoad)
    while not run.load.sealed:
        run.point("kill")
    with closing(open_keystore(run.state_dir)) as store:
        for key in {key for key, _, _ in run.load.sealed}:
            store.destroy(handle_of(key, 1))
    with pytest.raises(Lost, match="does not open"):
        run.last_check()
    run.process.kill()
    run.nursery.close()


def test_a_release_after_a_kill_is_found_out(on_sqlite: Run) -> None:
    load = on_sqlite.load
    assert isinstance(load, OwnerLoad)
    on_sqlite._start({})
    model = load._register(descriptor("one"), Seeded(SEED))
    load.guard.killed = "a kill that nobody obeys"
    with pytest.raises(Lost, match="after a revocation or a kill"):
        load._release(model)


def test_the_disk_keeps_what_was_synced_and_only_risks_the_rest(tmp_path: Path) -> None:
    """The model of the disk itself, on a record made by hand."""
    before, folder, record = tmp_path / "before", tmp_path / "folder", tmp_path / "record"
    before.mkdir()
    folder.mkdir()
    (before / "old").write_bytes(b"o" * 1024)

    def note(op: bytes, name: str, offset: int = 0, content: bytes = b"") -> bytes:
        path = str(folder / name).rstrip("/").encode()
        return disk._HEAD.pack(op, len(path), offset, len(content)) + path + content

    moved = str(folder / "new").encode()
    record.write_bytes(
        note(b"W", "old", 0, b"A" * 512)
        + note(b"S", "old")
        + note(b"W", "old", 512, b"B" * 512)
        + note(b"C", "tmp")
        + note(b"W", "tmp", 0, b"N" * 8)
        + note(b"S", "tmp")
        + note(b"R", "tmp", 0, moved)
    )
    seen: set[tuple[bytes, bool]] = set()
    for seed in range(40):
        lose_unsynced(before, record, folder, Seeded(seed))
        old = (folder / "old").read_bytes()
        assert old[:512] == b"A" * 512
        seen.add((old[512:513], (folder / "new").exists()))
    assert seen == {(b"o", False), (b"o", True), (b"B", False), (b"B", True)}
    record.write_bytes(record.read_bytes() + note(b"S", "", 0))
    for seed in range(10):
        lose_unsynced(before, record, folder, Seeded(seed))
        assert (folder / "new").read_bytes() == b"N" * 8
