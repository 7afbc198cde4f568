"""A sink gets every entry once, in order, from where it had got to; a journal that changed behind it stops it."""

import json
import os
import threading
from pathlib import Path

import pytest
from tests.authority.disk_room import room_for

from anchorhold.authority.export.events import Event
from anchorhold.authority.export.follow import CursorFile, JournalChanged
from anchorhold.authority.export.run import Runner
from anchorhold.authority.export.sinks import LineFile, SinkAway

from .conftest import Journal


class Kept:
    """A sink that keeps numbers, and is away when told."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.away_at: int | None = None

    def take(self, event: Event) -> None:
        seq = event.exported.entry.seq
        if seq == self.away_at:
            raise SinkAway("away")
        self.seqs.append(seq)

    def settle(self) -> None:
        return


def drained(journal: Journal, folder: Path, **sinks: Kept | LineFile) -> Runner:
    runner = Runner(journal.identity, journal, sinks, folder=folder)
    runner.drain()
    return runner


def test_each_entry_comes_once_and_in_order_over_many_runs(journal: Journal, tmp_path: Path) -> None:
    sink = Kept()
    for _ in range(300):  # more than a page
        journal.add()
    drained(journal, tmp_path, one=sink)
    journal.add()
    drained(journal, tmp_path, one=sink)
    drained(journal, tmp_path, one=sink)
    assert sink.seqs == list(range(304))


def test_a_sink_that_is_away_loses_nothing_and_holds_up_no_other(journal: Journal, tmp_path: Path) -> None:
    away, there = Kept(), Kept()
    away.away_at = 1
    runner = drained(journal, tmp_path, away=away, there=there)
    assert there.seqs == [0, 1, 2]
    assert (away.seqs, runner.progress["away"].trouble, runner.progress["away"].stopped) == ([0], "away", False)
    away.away_at = None
    drained(journal, tmp_path, away=away)
    assert away.seqs == [0, 1, 2]


@pytest.mark.parametrize("change", ["rolled back", "rewritten", "another key"])
def test_a_journal_that_changed_behind_the_cursor_stops_the_export(
    journal: Journal, tmp_path: Path, change: str
) -> None:
    sink = Kept()
    drained(journal, tmp_path, one=sink)
    if change == "rolled back":
        journal.entries.pop()
    elif change == "rewritten":
        journal.entries.pop()
        journal.add("guard-kill", reason="nothing to see", operator="mallory")
        journal.add()
    else:
        journal.entries.append(Journal().add())
    runner = drained(journal, tmp_path, one=sink)
    assert runner.progress["one"].stopped
    assert runner.progress["one"].trouble is not None
    assert sink.seqs == [0, 1, 2], "nothing of the other journal was exported"


def test_a_cursor_that_does_not_read_back_is_no_beginning(journal: Journal, tmp_path: Path) -> None:
    for content in ("", "{", '{"count": 0, "digest": ""}', '{"count": true, "digest": "' + "00" * 48 + '"}', "[]"):
        (tmp_path / "one.cursor").write_text(content)
        with pytest.raises(JournalChanged):
            CursorFile(tmp_path / "one.cursor").read()


def test_follow_gives_what_comes_later_and_ends_when_told(journal: Journal, tmp_path: Path) -> None:
    seen, ending = threading.Event(), threading.Event()

    class Tells(Kept):
        def take(self, event: Event) -> None:
            super().take(event)
            if event.exported.entry.seq == 3:
                seen.set()

    runner = Runner(journal.identity, journal, {"one": Tells()}, folder=tmp_path, ending=ending)
    thread = threading.Thread(target=runner.follow)
    thread.start()
    journal.add()
    assert seen.wait(10)
    ending.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_file_is_only_ever_appended_to_and_half_a_line_is_ended(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"seq": 0, "sig')
    drained(journal, tmp_path, file=LineFile(path, "cloudtrail"))
    lines = path.read_bytes().splitlines()
    assert lines[0] == b'{"seq": 0, "sig'
    assert [json.loads(line)["anchorholdJournal"]["seq"] for line in lines[1:]] == [0, 1, 2]


def test_a_file_that_is_a_link_is_not_followed(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").symlink_to(tmp_path / "elsewhere")
    runner = drained(journal, tmp_path, file=LineFile(tmp_path / "out.jsonl", "ocsf"))
    assert runner.progress["file"].trouble is not None
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_under_a_file_is_an_absence_and_the_entry_comes_again(journal: Journal, tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full")
    runner = drained(journal, tmp_path, file=LineFile(Path("/dev/full"), "signed"))
    assert "space" in str(runner.progress["file"].trouble).lower()
    assert not (tmp_path / "file.cursor").exists()


def test_a_line_that_a_full_disk_cut_short_comes_again_whole(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    drained(journal, tmp_path / "other", file=LineFile(path, "cloudtrail"))
    first = path.read_bytes().index(b"\n") + 1
    path.unlink()
    file = LineFile(path, "cloudtrail")
    with room_for(first + 100):
        runner = drained(journal, tmp_path, file=file)
    assert (runner.progress["file"].exported, path.stat().st_size) == (1, first + 100)
    assert "large" in str(runner.progress["file"].trouble)
    drained(journal, tmp_path, file=file)
    lines = path.read_bytes().splitlines()
    seqs = [json.loads(line)["anchorholdJournal"]["seq"] for line in (lines[0], *lines[2:])]
    assert seqs == [0, 1, 2], "half a line is ended, and its entry stands whole after it"


class Hangs:
    """A file on a terminal that hangs up before the second entry: nothing on it can be synced."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        self._file = LineFile(Path(os.ttyname(slave)), "signed")
        os.close(slave)

    def take(self, event: Event) -> None:
        if event.exported.entry.seq == 1:
            os.close(self._master)
        self._file.take(event)

    def settle(self) -> None:
        self._file.settle()


def test_the_cursor_stays_where_what_was_taken_before_a_failure_is_not_on_disk(
    journal: Journal, tmp_path: Path
) -> None:
    runner = Runner(journal.identity, journal, {"one": Hangs()}, folder=tmp_path)
    runner.drain()
    assert runner.progress["one"].trouble is not None
    assert not (tmp_path / "one.cursor").exists()
