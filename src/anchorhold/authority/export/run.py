"""Runs every export of one authority beside it: a thread each, each with its own cursor, until it is told to end.

A process of its own that only reads the journal: what hangs here holds up no release.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.authority.export.anchor import LogContradicts
from anchorhold.authority.export.events import event_of
from anchorhold.authority.export.follow import PAGE, Cursor, CursorFile, JournalChanged, Source, entries_after
from anchorhold.authority.export.sinks import Sink, SinkAway

FOLDER = "exports"  # of the state folder: cursors, dead letters, checkpoints
POLL_S = 1.0
AGAIN_S = 5.0  # after a sink was away


@dataclass(slots=True)
class Progress:
    """Where one export has got to, for people."""

    exported: int = 0
    trouble: str | None = None
    """What keeps it from going on, or kept it for a while."""
    stopped: bool = False
    """It does not go on before a person has looked."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose journal it is."""

    authority: str
    face: str
    key: Ed25519PublicKey


class Runner:
    """All exports of one journal."""

    def __init__(
        self,
        identity: Identity,
        source: Source,
        sinks: Mapping[str, Sink],
        *,
        folder: Path,
        ending: threading.Event | None = None,
    ) -> None:
        """`ending` set, every export ends at its next entry; nothing that was taken is lost."""
        self._identity = identity
        self._source = source
        self._sinks = dict(sinks)
        self._folder = folder
        self._ending = ending or threading.Event()
        self.progress = {name: Progress() for name in sinks}

    def drain(self) -> None:
        """Every export up to the journal's present end, once."""
        self._together(self._drain_one)

    def follow(self) -> None:
        """Until `ending`."""
        self._together(self._follow_one)

    def _together(self, work: Callable[[str], None]) -> None:
        threads = [threading.Thread(target=work, args=(name,), name=f"export-{name}") for name in self._sinks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _follow_one(self, name: str) -> None:
        while not self._ending.is_set():
            self._drain_one(name)
            if self.progress[name].stopped:
                return
            self._ending.wait(AGAIN_S if self.progress[name].trouble else POLL_S)

    def _drain_one(self, name: str) -> None:
        progress = self.progress[name]
        try:
            self._drained(name, progress)
        except (SinkAway, OSError) as error:
            progress.trouble = str(error)
        except (JournalChanged, LogContradicts) as error:
            progress.trouble, progress.stopped = str(error), True
        except Exception as error:  # noqa: BLE001 - a thread that ends in silence would read as all is well
            progress.trouble = f"internal: {type(error).__name__}"
        else:
            progress.trouble = None

    def _drained(self, name: str, progress: Progress) -> None:
        place, sink = CursorFile(self._folder / f"{name}.cursor"), self._sinks[name]
        cursor = place.read()
        progress.exported = cursor.count
        identity, taken = self._identity, 0
        try:
            for exported in entries_after(self._source, identity.key, cursor):
                if self._ending.is_set():
                    break
                sink.take(event_of(exported, authority=identity.authority, face=identity.face))
                cursor, taken = Cursor(exported.entry.seq + 1, exported.digest), taken + 1
                if taken % PAGE == 0:
                    self._keep(place, sink, cursor, progress)
        finally:
            # Also where the next one was not taken: what was, is not offered again.
            if taken % PAGE:
                self._keep(place, sink, cursor, progress)

    def _keep(self, place: CursorFile, sink: Sink, cursor: Cursor, progress: Progress) -> None:
        sink.settle()
        place.write(cursor)
        progress.exported = cursor.count
