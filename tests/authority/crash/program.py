"""Kills an authority at random points under load and asks what it still knows.

Run: python -m tests.authority.crash.program --points 300 --seed 1 [--database sqlite|postgresql]
[--face owner|kms|xks].

Each point: the face is served in a process of its own; what was answered before is checked against what it says; some
clients load it; a fault comes at a random moment, and then SIGKILL. Faults, by turns:

- `kill`: SIGKILL to the authority;
- `full`: the disk is full first, until that is noticed. SQLite: from a random byte on every write says ENOSPC.
  PostgreSQL: from a random moment on every write of the server says so; then the server is killed too;
- `loss`: SQLite: of what was not synced any part is lost, sectors of one write too. PostgreSQL: SIGKILL to the server
  and to the authority at once.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.authority.crash import disk
from tests.authority.crash.answered import Answers, check_answers
from tests.authority.crash.face import FaceProcess
from tests.authority.crash.guarding import acknowledge
from tests.authority.crash.kms import KmsLoad, kms_marks
from tests.authority.crash.nursery import ForkedFace, Nursery
from tests.authority.crash.owner import OwnerLoad, made, owner_marks
from tests.authority.crash.seeded import Seeded
from tests.authority.crash.xks import XksLoad, xks_marks
from tests.authority.postgres import Postgres, binaries, postgres

CLIENTS = 3
LOAD_SECONDS = (0.0, 0.7)  # from the first answer to the fault; a call takes about 20 ms
FULL_SECONDS = 0.2  # how long a full disk is endured after it was first noticed
PATIENCE_SECONDS = 30.0  # for a first answer, and for a full disk to be noticed
FULL_BYTES = (2_000, 150_000)  # until the disk is full
LOOKED_AT = 12  # keys at each start, those of the point before among them; all of them at the end
FAULTS = ("kill", "full", "loss")
MARKS = {"owner": owner_marks, "kms": kms_marks, "xks": xks_marks}


Mortal = FaceProcess | ForkedFace


@dataclass(slots=True)
class Tally:
    """What a run has shown."""

    points: int = 0
    answered: int = 0
    entries: int = 0
    noticed: int = 0
    latched: int = 0
    found_killed: int = 0
    unsynced: int = 0
    by_fault: dict[str, int] = field(default_factory=dict)
    by_kind: dict[str, int] = field(default_factory=dict)
    """Answers, by what they were about."""


class Run:
    """One face on one database, over many points."""

    def __init__(self, folder: Path, face: str, seed: int, server: Postgres | None) -> None:
        self.folder, self.face, self.server = folder, face, server
        self.chance = Seeded(seed, face, server is None)
        self.tally = Tally()
        url = None if server is None else f"{server.url}&schema=crash_{face}_{seed}"
        if face == "owner":
            self.load: OwnerLoad | KmsLoad | XksLoad = OwnerLoad(made(folder, 1, url))
        elif face == "xks":
            self.load = XksLoad.made(folder, url)
        else:
            self.load = KmsLoad.made(folder, url)
        self.shim = disk.build(folder) if server is None else None
        self.process.stop()
        self.nursery = Nursery(None if self.shim is None else str(self.shim))

    @property
    def state_dir(self) -> Path:
        return self.load.authority.state_dir if isinstance(self.load, OwnerLoad) else self.load.state_dir

    @property
    def answers(self) -> Answers:
        return self.load.answers

    @property
    def process(self) -> Mortal:
        served = self.load.authority.served if isinstance(self.load, OwnerLoad) else self.load.process
        assert isinstance(served, FaceProcess | ForkedFace)
        return served

    def point(self, fault: str, *, honest: bool = True) -> None:
        """One start, check, load, fault and check. Raises AssertionError, EvidenceError or StateRefused."""
        if isinstance(self.load, XksLoad):
            # Its desk is another process, whose writes no shim sees: they belong to what was before.
            self.tally.latched += self.load.acknowledge()
        before, record = self.folder / "before", self.folder / "record"
        shutil.rmtree(before, ignore_errors=True)
        record.unlink(missing_ok=True)
        shutil.copytree(self.state_dir, before)
        self._start(self._environment(fault, record))
        if fault != "full" or self.server is not None:
            self._acknowledge()
            self.load.check_live(LOOKED_AT)
        self._under_load(fault)
        self.process.kill()
        if self.server is not None and fault != "kill":
            self.server.kill()
            self.server.free_disk()
            self.server.start()
        if self.server is None and fault == "loss":
            outcome = disk.lose_unsynced(before, record, self.state_dir, self.chance, honest=honest)
            self.tally.unsynced += outcome.writes
        check_answers(self.state_dir, self.answers, MARKS[self.face])
        if isinstance(self.load, OwnerLoad):
            self.load.guard.check_tickets(self.state_dir)
            self.tally.found_killed = self.load.guard.found_killed
        self.tally.points += 1
        self.tally.by_fault[fault] = self.tally.by_fault.get(fault, 0) + 1
        self.tally.answered, self.tally.noticed = len(self.answers.told), self.answers.faults
        self.tally.entries = len(self.answers.journal)
        self.tally.by_kind = dict(Counter(told.kind for told in self.answers.told))

    def last_check(self) -> None:
        """A last start: everything that was answered is there."""
        if isinstance(self.load, XksLoad):
            self.tally.latched += self.load.acknowledge()
        self._start({})
        self._acknowledge()
        self.load.check_live()
        self.process.kill()
        self.nursery.close()

    def _start(self, environment: dict[str, str]) -> None:
        process = self.nursery.start(self.state_dir, environment)
        if isinstance(self.load, OwnerLoad):
            self.load.authority.served = process
        else:
            self.load.process = process

    def _acknowledge(self) -> None:
        """What a full disk has shut an operator opens; before that nothing is served."""
        if not isinstance(self.load, XksLoad):
            self.tally.latched += acknowledge(self.state_dir, self.process.port)

    def _environment(self, fault: str, record: Path) -> dict[str, str]:
        if self.shim is None or fault == "kill":
            return {}
        shim = {"SHIM_ROOT": str(self.state_dir)}
        if fault == "full":
            return shim | {"SHIM_BUDGET": str(int(self.chance.between(*FULL_BYTES)))}
        return shim | {"SHIM_LOG": str(record)}

    def _under_load(self, fault: str) -> None:
        stop, failed = threading.Event(), []
        point = self.chance.below(1 << 30)

        def client(number: int) -> None:
            try:
                self.load.client(Seeded(point, number), stop)
            except BaseException as error:  # noqa: BLE001 - raised again where the run sees it
                failed.append(error)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        told, faults = len(self.answers.told), self.answers.faults
        _wait(lambda: len(self.answers.told) > told or self.answers.faults > faults or bool(failed))
        time.sleep(self.chance.between(*LOAD_SECONDS))
        if fault == "full":
            if self.server is not None:
                self.server.fill_disk()
            _wait(lambda: self.answers.faults > faults or bool(failed))
            time.sleep(FULL_SECONDS)
        self.process.kill()
        stop.set()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not done() and time.monotonic() < until:
        time.sleep(0.002)


def runs(folder: Path, databases: tuple[str, ...], faces: tuple[str, ...], seed: int) -> Iterator[tuple[str, Run]]:
    """Each face on each database."""
    with ExitStack() as stack:
        for database in databases:
            server = stack.enter_context(postgres(disk.build)) if database == "postgresql" else None
            for face in faces:
                home = folder / f"{database}-{face}"
                home.mkdir()
                yield database, Run(home, face, seed, server)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=200, help="on each database, over all faces")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--face", choices=tuple(MARKS), action="append")
    options = parser.parse_args(arguments)
    databases, faces = tuple(options.database or ("sqlite", "postgresql")), tuple(options.face or MARKS)
    if "postgresql" in databases and binaries() is None:
        sys.stderr.write("postgresql is not installed: apt-get install postgresql\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="anchorhold-crash-") as folder:
        for database, run in runs(Path(folder), databases, faces, options.seed):
            began = time.monotonic()
            for number in range(options.points // len(faces)):
                run.point(FAULTS[number % len(FAULTS)])
            run.last_check()
            sys.stdout.write(
                f"{database} {run.face} seed {options.seed}: {run.tally} in {time.monotonic() - began:.0f} s\n"
            )
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
