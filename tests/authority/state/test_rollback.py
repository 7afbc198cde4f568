"""A database that was put back to an earlier day is not served: by its mark, at start and while it runs."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from anchorhold.attestation.lease import MAX_TTL_MS
from anchorhold.authority.backup import BackupRefused, write_backup
from anchorhold.authority.faces import face_of
from anchorhold.authority.mark import SLOT_BYTES, Head, Mark, MarkFailed, RolledBack
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.state import State
from anchorhold.authority.place import DatabaseRefused
from anchorhold.authority.restore import accept_rollback, loss, restore
from anchorhold.authority.store import add_mark, mark_file, new_store, read_mark
from anchorhold.cli.main import main
from anchorhold.sim.owner_face import MODEL, OTHER_MODEL, Authority, measurements, owner_face

DATABASE = "owner.sqlite"


def copied(authority: Authority, name: str) -> Path:
    """The database as a thief or a tired operator copies it."""
    folder = authority.state_dir.parent / name
    folder.mkdir()
    for file in authority.state_dir.glob(f"{DATABASE}*"):
        shutil.copy(file, folder / file.name)
    return folder


def put_back(authority: Authority, folder: Path) -> None:
    for file in authority.state_dir.glob(f"{DATABASE}*"):
        file.unlink()
    for file in folder.iterdir():
        shutil.copy(file, authority.state_dir / file.name)


def revoked(authority: Authority) -> None:
    authority.restart()
    authority.order("revoke", model=MODEL, reason="incident-1")
    authority.served.stop()


def moved_away(authority: Authority) -> None:
    for file in authority.state_dir.glob(f"{DATABASE}*"):
        file.rename(file.with_name(f"gone-{file.name}"))


def revocations(authority: Authority) -> dict[bytes, bool]:
    state = State.load(authority.state_dir / DATABASE)
    with state.transaction() as transaction:
        found = {bytes(model.model): model.revoked_at is not None for model in transaction.models()}
    state.close()
    return found


def test_an_older_database_under_a_newer_mark_is_refused_at_start(stopped: Authority) -> None:
    before = copied(stopped, "before")
    revoked(stopped)
    put_back(stopped, before)
    with pytest.raises(RolledBack, match="ends with entry 2, and it had come to entry 3"):
        stopped.restart()


def test_the_same_database_is_served(stopped: Authority) -> None:
    revoked(stopped)
    put_back(stopped, copied(stopped, "now"))
    stopped.restart()
    stopped.served.stop()
    assert revocations(stopped)[MODEL]


def test_another_history_of_the_same_length_is_refused(stopped: Authority) -> None:
    before = copied(stopped, "before")
    revoked(stopped)
    marked = mark_file(stopped.state_dir / DATABASE).read_bytes()
    put_back(stopped, before)
    accept_rollback(stopped.state_dir, "a lie", stopped.clock.ms())
    mark_file(stopped.state_dir / DATABASE).write_bytes(marked)
    with pytest.raises(RolledBack, match="entry 3 of the journal is not the one that it was"):
        State.load(stopped.state_dir / DATABASE)


def test_a_longer_history_that_left_out_the_marked_entry_is_refused(stopped: Authority) -> None:
    before = copied(stopped, "before")
    revoked(stopped)
    marked = mark_file(stopped.state_dir / DATABASE).read_bytes()
    put_back(stopped, before)
    accept_rollback(stopped.state_dir, "a lie", stopped.clock.ms())
    stopped.restart()
    stopped.order("reinstate", model=MODEL, reason="a lie")
    stopped.served.stop()
    mark_file(stopped.state_dir / DATABASE).write_bytes(marked)
    with pytest.raises(RolledBack, match="entry 3 of the journal is not the one that it was"):
        State.load(stopped.state_dir / DATABASE)


def test_a_database_that_is_put_back_under_a_running_authority_decides_nothing_more(stopped: Authority) -> None:
    stopped.restart()
    _, blob = stopped.share()
    before = copied(stopped, "before")
    stopped.order("revoke", model=MODEL, reason="incident-1")
    stopped.served.stop()  # open files would go on showing what was unlinked; the pool opens anew
    stopped.restart()
    state_dir = stopped.state_dir
    for file in before.iterdir():
        (state_dir / file.name).write_bytes(file.read_bytes())
    for file in state_dir.glob(f"{DATABASE}-*"):
        if not (before / file.name).exists():
            file.unlink()
    with pytest.raises(AdminFailed) as caught:
        stopped.order("reinstate", model=OTHER_MODEL, reason="over")
    assert caught.value.code == "unavailable"
    assert blob


def test_a_mark_outside_the_folder_sees_the_whole_folder_put_back(stopped: Authority, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere" / "owner.mark"
    outside.parent.mkdir()
    add_mark(stopped.state_dir / DATABASE, outside)
    folder = tmp_path / "image"
    shutil.copytree(stopped.state_dir, folder)
    revoked(stopped)
    shutil.rmtree(stopped.state_dir)
    folder.rename(stopped.state_dir)
    with pytest.raises(RolledBack):
        stopped.restart()


def test_a_mark_that_is_gone_or_damaged_stops_the_authority(stopped: Authority) -> None:
    file = mark_file(stopped.state_dir / DATABASE)
    kept = file.read_bytes()
    file.write_bytes(bytes(len(kept)))
    with pytest.raises(MarkFailed, match="damaged"):
        stopped.restart()
    file.unlink()
    with pytest.raises(MarkFailed, match="cannot be read"):
        stopped.restart()


def test_a_torn_write_of_the_mark_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    Mark.make(path)
    heads = [Head(seq, bytes([seq]) * 48) for seq in range(1, 6)]
    mark = Mark((path,))
    for before, head in zip([None, *heads], heads, strict=False):
        whole = path.read_bytes()
        mark.advance(head)
        now = path.read_bytes()
        at = next(index for index in range(len(now)) if now[index] != whole[index]) // SLOT_BYTES * SLOT_BYTES
        for cut in (0, 1, 20, 40, 80):
            path.write_bytes(now[: at + cut] + whole[at + cut :])
            assert Mark((path,)).read().seq == (head.seq if path.read_bytes() == now else before.seq if before else -1)
        path.write_bytes(now)


def test_the_mark_never_moves_back(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    Mark.make(path)
    Mark((path,)).advance(Head(7, b"\x07" * 48))
    Mark((path,)).advance(Head(5, b"\x05" * 48))
    assert Mark((path,)).read() == Head(7, b"\x07" * 48)


def test_an_accepted_rollback_closes_everything_and_the_journal_says_what_is_missing(stopped: Authority) -> None:
    before = copied(stopped, "before")
    revoked(stopped)
    put_back(stopped, before)
    assert loss(stopped.state_dir).first == 3
    assert accept_rollback(stopped.state_dir, "disk lost", stopped.clock.ms()) == 2
    assert revocations(stopped) == {MODEL: True, OTHER_MODEL: True}
    entry = stopped.journal()[-1]
    assert (entry.type, entry.body["first"], entry.body["last"]) == ("accept-rollback", 3, 3)
    stopped.restart()
    stopped.order("reinstate", model=OTHER_MODEL, reason="checked")
    stopped.served.stop()


def test_an_order_to_seal_anew_that_was_withdrawn_does_not_come_back_with_an_accepted_rollback(
    stopped: Authority,
) -> None:
    stopped.restart()
    expires = stopped.clock.ms() + 3_600_000
    stopped.order("reseal", model=MODEL, measurements=[measurements()], expires=expires, reason="rotation")
    stopped.served.stop()
    before = copied(stopped, "before")
    stopped.restart()
    stopped.order("reseal-end", model=MODEL, reason="the enclave is not what it seemed")
    stopped.served.stop()
    put_back(stopped, before)
    accept_rollback(stopped.state_dir, "disk lost", stopped.clock.ms())
    state = State.load(stopped.state_dir / DATABASE)
    with state.transaction() as transaction:
        assert transaction.reseals.of(MODEL, stopped.clock.ms()) is None
    state.close()


def test_leases_of_the_days_that_are_lost_may_run_as_long_as_the_longest_lease(stopped: Authority) -> None:
    before = copied(stopped, "before")
    revoked(stopped)
    put_back(stopped, before)
    accept_rollback(stopped.state_dir, "disk lost", stopped.clock.ms())
    stopped.restart()
    answer = stopped.order("revoke", model=MODEL, reason="incident-1")
    stopped.served.stop()
    assert answer["last_not_after"] == stopped.clock.ms() + MAX_TTL_MS


def test_a_challenge_from_before_an_accepted_rollback_is_void(stopped: Authority) -> None:
    stopped.restart()
    status, raw = stopped.call("/v1/challenge", {})
    assert status == 200
    before = copied(stopped, "before")
    stopped.order("revoke", model=MODEL, reason="incident-1")
    stopped.served.stop()
    key = stopped_challenge_key(stopped)
    put_back(stopped, before)
    accept_rollback(stopped.state_dir, "disk lost", stopped.clock.ms())
    stopped.restart()
    stopped.served.stop()
    assert stopped_challenge_key(stopped) != key
    assert raw


def stopped_challenge_key(authority: Authority) -> bytes:
    state = State.load(authority.state_dir / DATABASE)
    try:
        return state.sealed_keys()["challenge"]
    finally:
        state.close()


def test_there_is_no_rollback_to_accept_where_nothing_is_missing(stopped: Authority) -> None:
    with pytest.raises(DatabaseRefused, match="nothing is missing"):
        accept_rollback(stopped.state_dir, "why not", stopped.clock.ms())


def test_a_backup_comes_back_whole(stopped: Authority, tmp_path: Path) -> None:
    revoked(stopped)
    entries = len(stopped.journal())
    summary = write_backup(stopped.state_dir, tmp_path / "backup", stopped.clock.ms())
    assert summary.head.seq == entries  # `init` is entry 0 and is not among them
    moved_away(stopped)
    done = restore(stopped.state_dir, tmp_path / "backup", stopped.clock.ms())
    assert done.missing == ""
    assert revocations(stopped) == {MODEL: True, OTHER_MODEL: False}
    assert [entry.type for entry in stopped.journal()][entries:] == ["restore"]


def test_a_backup_from_before_a_revocation_is_restored_and_not_served(stopped: Authority, tmp_path: Path) -> None:
    write_backup(stopped.state_dir, tmp_path / "backup", stopped.clock.ms())
    revoked(stopped)
    moved_away(stopped)
    done = restore(stopped.state_dir, tmp_path / "backup", stopped.clock.ms())
    assert "1 entries" in done.missing
    with pytest.raises(RolledBack):
        stopped.restart()
    accept_rollback(stopped.state_dir, "disk lost", stopped.clock.ms())
    assert revocations(stopped)[MODEL]


def test_a_restore_without_a_mark_is_not_served(stopped: Authority, tmp_path: Path) -> None:
    write_backup(stopped.state_dir, tmp_path / "backup", stopped.clock.ms())
    moved_away(stopped)
    mark_file(stopped.state_dir / DATABASE).unlink()
    done = restore(stopped.state_dir, tmp_path / "backup", stopped.clock.ms())
    assert "not known" in done.missing
    with pytest.raises(MarkFailed):
        stopped.restart()


def test_a_restore_never_overwrites_a_database(stopped: Authority, tmp_path: Path) -> None:
    write_backup(stopped.state_dir, tmp_path / "backup", stopped.clock.ms())
    with pytest.raises(FileExistsError):
        restore(stopped.state_dir, tmp_path / "backup", stopped.clock.ms())


@pytest.mark.parametrize("where", [3, 100, 0.3, 0.5, 0.7, -40, -1])
def test_a_backup_with_a_changed_byte_is_refused_and_nothing_is_made(
    stopped: Authority, tmp_path: Path, where: float
) -> None:
    file = tmp_path / "backup"
    write_backup(stopped.state_dir, file, stopped.clock.ms())
    raw = bytearray(file.read_bytes())
    raw[int(where * len(raw)) if 0 < where < 1 else int(where)] ^= 1
    file.write_bytes(raw)
    moved_away(stopped)
    with pytest.raises(BackupRefused):
        restore(stopped.state_dir, file, stopped.clock.ms())
    with pytest.raises(FileNotFoundError):
        face_of(stopped.state_dir)


def test_a_backup_that_changes_after_it_was_checked_is_refused_and_nothing_is_made(
    stopped: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "backup"
    write_backup(stopped.state_dir, file, stopped.clock.ms())
    moved_away(stopped)

    @contextmanager
    def changing(*given: Any, **named: Any) -> Iterator[Connection]:
        with new_store(*given, **named) as connection:
            raw = file.read_bytes()
            assert raw.count(b"dnameeadmin") == 1, "an operator's row: the journal alone would not tell"
            file.write_bytes(raw.replace(b"dnameeadmin", b"dnameenimda"))
            yield connection

    monkeypatch.setattr("anchorhold.authority.restore.new_store", changing)
    with pytest.raises(BackupRefused, match="digest"):
        restore(stopped.state_dir, file, stopped.clock.ms())
    with pytest.raises(FileNotFoundError):
        face_of(stopped.state_dir)


@pytest.mark.parametrize("left", [1, 5, 40, 400])
def test_a_backup_that_was_cut_short_is_refused(stopped: Authority, tmp_path: Path, left: int) -> None:
    file = tmp_path / "backup"
    write_backup(stopped.state_dir, file, stopped.clock.ms())
    file.write_bytes(file.read_bytes()[:-left])
    moved_away(stopped)
    with pytest.raises(BackupRefused):
        restore(stopped.state_dir, file, stopped.clock.ms())


def test_a_backup_of_another_authority_is_refused(stopped: Authority, tmp_path: Path) -> None:
    with owner_face(tmp_path / "other") as other:
        write_backup(other.state_dir, tmp_path / "backup", other.clock.ms())
    moved_away(stopped)
    with pytest.raises(BackupRefused, match="signature"):
        restore(stopped.state_dir, tmp_path / "backup", stopped.clock.ms())


def test_a_backup_of_one_moment_is_made_while_calls_are_answered(stopped: Authority, tmp_path: Path) -> None:
    stopped.restart()
    store_head, _ = read_mark(stopped.state_dir / DATABASE)
    summary = write_backup(stopped.state_dir, tmp_path / "backup", stopped.clock.ms())
    stopped.order("revoke", model=MODEL, reason="incident-1")
    stopped.served.stop()
    assert summary.head == store_head


def test_the_commands_say_what_is_missing_and_close_everything(
    stopped: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, file = ["--state", str(stopped.state_dir)], str(tmp_path / "backup")
    assert main(["authority", "mark", *state, "--add", str(tmp_path / "second.mark")]) == 0
    assert main(["authority", "backup-state", *state, file]) == 0
    assert main(["authority", "backup-state", *state, file]) == 1
    revoked(stopped)
    moved_away(stopped)
    assert main(["authority", "restore-state", *state, file]) == 1
    assert main(["authority", "serve", *state, "--listen", "127.0.0.1:0"]) == 2
    assert "is not served: the journal ends with entry 2" in capsys.readouterr().err
    assert main(["authority", "accept-rollback", *state, "--reason", "disk lost"]) == 1
    assert main(["authority", "accept-rollback", *state, "--reason", "disk lost", "--yes"]) == 0
    assert main(["authority", "accept-rollback", *state, "--reason", "disk lost", "--yes"]) == 0
    assert main(["authority", "mark", *state, "--json"]) == 0
    assert '"entry": 3' in capsys.readouterr().out
    assert revocations(stopped) == {MODEL: True, OTHER_MODEL: True}
