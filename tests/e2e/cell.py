"""More cells for tests: another parent with its enclave on the hypervisor, authorities and log of a stack that is up.

What a hostile operator may choose (image, configuration, where egress and records really go) is an argument here; the
processes are the real ones.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation.document import parse_document
from anchorhold.attestation.transcript.bodies import Body, Genesis
from anchorhold.attestation.transcript.entry import Entry
from anchorhold.authority.journal import JournalEntry, check_journal
from anchorhold.authority.kms.app import DATABASE as KMS_DATABASE
from anchorhold.authority.kms.setup import JOURNAL_PUBLIC
from anchorhold.authority.owner.authority import DATABASE as OWNER_DATABASE
from anchorhold.authority.owner.setup import read_public
from anchorhold.cli.deaths import numbered_entries, unverified_entries
from anchorhold.client.sdk import Answer, Client, Settings
from anchorhold.client.trust import Trust, parse_trust
from anchorhold.log.files import cas_path
from anchorhold.sim.processes import Recorded, as_json, from_json, save, start, stop, wait_ready
from anchorhold.sim.stack import phase_of

POLL_S = 0.05
PATIENCE_S = 90.0  # a start on a loaded machine
SOURCES = ("kms", "owner")


def wait_until(what: str, done: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Poll what other processes make true."""
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(POLL_S)


def whole_lines(path: Path) -> list[str]:
    """The lines of a log that another process writes: without the one that has no end yet."""
    return path.read_text().rpartition("\n")[0].splitlines()


def ask(trust: Trust, *, max_tokens: int = 4) -> Answer:
    """One question, by a client of its own."""
    with Client(trust) as client:
        return client.ask("hello", Settings(max_tokens=max_tokens))


class Base:
    """What cells share: the state folder of a stack that is up, by file alone."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.config: dict[str, Any] = json.loads((state / "parent.json").read_text())

    @property
    def trust(self) -> Trust:
        return parse_trust((self.state / "trust.json").read_bytes())

    @property
    def measurements(self) -> dict[int, bytes]:
        """Registers 0, 1, 2 and 16 of the stack's own deployment, which both custodians release to."""
        record = json.loads((self.state / "stack.json").read_text())
        return {int(index): bytes.fromhex(value) for index, value in record["measurements"].items()}

    def process(self, name: str) -> Recorded:
        """The process recorded under `name`: hypervisor, kms, owner, log or parent."""
        return next(one for one in self._recorded() if one.name == name)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self.process(name)
        _kill(process)

    def restart(self, name: str) -> None:
        """The process of an authority or of the log again, at its address of before; recorded for `sim down`."""
        ready = self.state / f"ready/{name}.json"
        port = json.loads(ready.read_text())["port"]
        ready.unlink()
        module = ["anchorhold.log"] if name == "log" else ["anchorhold.cli.main", "authority", "serve"]
        where = ["--state", str(self.state / name), "--listen", f"127.0.0.1:{port}", "--ready-file", str(ready)]
        process = start(name, ["-m", *module, *where], self.state / "logs")
        wait_ready(process, ready.exists, self.state / "logs")
        others = [one for one in self._recorded() if one.name != name]
        record = json.loads((self.state / "stack.json").read_text())
        save(self.state / "stack.json", record | {"processes": as_json([process, *others])})

    @contextmanager
    def down(self, name: str) -> Iterator[None]:
        """The process killed, and there again on leaving."""
        self.kill(name)
        try:
            yield
        finally:
            self.restart(name)

    def journal(self, name: str) -> tuple[JournalEntry, ...]:
        """An authority's journal, read from its database, signatures and chain checked."""
        state = self.state / name
        if name == "owner":
            database, key = state / OWNER_DATABASE, read_public(state).journal_key
        else:
            database, key = state / KMS_DATABASE, (state / JOURNAL_PUBLIC).read_text().strip()
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            rows = connection.execute("select signed from journal order by seq").fetchall()
        return check_journal((row[0] for row in rows), Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)))

    def entries(self) -> tuple[Entry, ...]:
        """Everything in the transcript."""
        return tuple(unverified_entries(self.state / "log"))

    def hypervisor_events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in whole_lines(self.state / "hypervisor/hypervisor.log")]

    def _recorded(self) -> list[Recorded]:
        return from_json(json.loads((self.state / "stack.json").read_text())["processes"])


class Cell:
    """One parent and the enclave it starts. `close` ends both."""

    def __init__(
        self,
        base: Base,
        folder: Path,
        *,
        egress: Mapping[str, str] | None = None,
        log: str | None = None,
        eif: Path | None = None,
        configuration: Path | None = None,
    ) -> None:
        self.base = base
        self.folder = folder
        self.window = folder / "w/w"
        self._known = {event["enclave"] for event in base.hypervisor_events() if "enclave" in event}
        self._parent: Recorded | None = None
        self._listen = "127.0.0.1:0"
        config = dict(base.config)
        config |= {"window": str(self.window), "ready_file": str(folder / "ready.json")}
        config["egress"] = {**config["egress"], **(egress or {})}
        config["enclave"] = {**config["enclave"], "args": ["--window", str(self.window)]}
        if log is not None:
            config["log"] = log
        if eif is not None:
            config["enclave"]["eif"] = str(eif)
        if configuration is not None:
            config["configuration"] = str(configuration)
        self.config = config
        (folder / "w").mkdir(parents=True)

    # The parent

    def start(self) -> "Cell":
        """The parent, which has the enclave started; returns once the parent listens."""
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        (self.folder / "parent.json").write_text(json.dumps({**self.config, "listen": self._listen}))
        command = ["-m", "anchorhold.parent", "--config", str(self.folder / "parent.json")]
        self._parent = start("parent", command, self.folder)
        wait_ready(self._parent, ready.exists, self.folder)
        self._listen = f"127.0.0.1:{json.loads(ready.read_text())['port']}"
        return self

    def kill_parent(self) -> None:
        """SIGKILL: no goodbye to the enclave, sockets left behind."""
        assert self._parent is not None
        _kill(self._parent)

    @property
    def parent_pid(self) -> int:
        assert self._parent is not None
        return self._parent.pid

    def parent_events(self) -> list[str]:
        """What the parent has said, from all its starts."""
        lines = whole_lines(self.folder / "parent.log")
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    @property
    def trust(self) -> Trust:
        """The stack's trust file, at this cell's gateway."""
        return replace(self.base.trust, gateway=self._listen)

    # The enclave

    def serving(self) -> "Cell":
        """Wait until it serves."""

        def served() -> bool:
            assert self.exit() is None, f"the enclave ended: {self.console()}"
            return phase_of(self.window) == "SERVING"

        wait_until("phase SERVING", served)
        return self

    @property
    def enclave(self) -> dict[str, Any] | None:
        """What the hypervisor's log says of this cell's start; None while it says nothing."""
        mine = [e for e in self.base.hypervisor_events() if e["event"] == "enclave-started"]
        return next((event for event in mine if event["enclave"] not in self._known), None)

    @property
    def pid(self) -> int:
        assert self.enclave is not None
        return int(self.enclave["pid"])

    @property
    def image_measurement(self) -> bytes:
        """PCR0 of what runs, by the hypervisor's word."""
        assert self.enclave is not None
        return bytes.fromhex(self.enclave["pcrs"]["PCR0"])

    def exit(self) -> int | str | None:
        """How the enclave ended: exit code or signal; None while it runs or has not begun."""
        if self.enclave is None:
            return None
        for event in self.base.hypervisor_events():
            if event["event"] == "enclave-ended" and event["enclave"] == self.enclave["enclave"]:
                code: int | str = event["exit"] if "exit" in event else event["signal"]
                return code
        return None

    def ended(self, seconds: float = PATIENCE_S) -> int | str:
        """Wait for the end and say how it was."""
        wait_until("the enclave's end", lambda: self.exit() is not None, seconds)
        code = self.exit()
        assert code is not None
        return code

    def console(self) -> str:
        """Everything the enclave wrote to its console."""
        if self.enclave is None:
            return ""
        return (self.base.state / "hypervisor/enclaves" / str(self.enclave["enclave"]) / "console.log").read_text()

    def kill_enclave(self) -> None:
        """SIGKILL to its process, as if the machine lost power."""
        os.kill(self.pid, signal.SIGKILL)

    def entries(self) -> tuple[Entry, ...]:
        """This boot's transcript: the one whose genesis document the hypervisor made for this enclave."""
        if self.enclave is None:
            return ()
        entries = self.base.entries()
        mine = {entry.boot for entry in entries if self._module_of(entry.body) == self.enclave["enclave"]}
        return tuple(entry for entry in entries if entry.boot in mine)

    def _module_of(self, body: Body) -> str | None:
        if not isinstance(body, Genesis):
            return None
        document = (self.base.state / "log" / cas_path(body.document)).read_bytes()
        return parse_document(document).module_id

    def bodies(self) -> tuple[Body, ...]:
        return tuple(entry.body for entry in self.entries())

    def findings(self, *more: str) -> list[dict[str, Any]]:
        """What an auditor with the stack's trust file finds: the log as a whole, this boot, receipts.

        Boots of other tests are left out; some ran another image, which that trust file rightly refuses.
        """
        genesis = self.entries()[0]
        state = self.base.state
        index = next(at for at, entry in numbered_entries(state / "log") if entry == genesis)
        command = [sys.executable, "-m", "anchorhold.cli.main", "audit", "verify", str(state / "log"), "--json"]
        command += ["--trust", str(state / "trust.json"), *more]
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
        return [one for one in found if one["index"] == index or not one["subject"].startswith("Boot ")]

    def close(self) -> None:
        """End the parent (which asks the enclave to close), and the enclave where that did not."""
        if self._parent is not None:
            stop([self._parent])
        if self.enclave is not None and self.exit() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Cells:
    """The cells of one test."""

    def __init__(self, base: Base) -> None:
        self.base = base
        # Not tmp_path: a Unix socket's path has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="ah-"))
        self._made: list[Cell] = []

    def start(
        self,
        *,
        egress: Mapping[str, str] | None = None,
        log: str | None = None,
        eif: Path | None = None,
        configuration: Path | None = None,
    ) -> Cell:
        """A new cell, its parent up and its enclave starting."""
        folder = self.folder / f"c{len(self._made)}"
        made = Cell(self.base, folder, egress=egress, log=log, eif=eif, configuration=configuration)
        self._made.append(made)
        return made.start()

    def close(self) -> None:
        for cell in self._made:
            cell.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _kill(process: Recorded) -> None:
    assert process.alive(), f"{process.name} had ended before it was to be killed"
    os.kill(process.pid, signal.SIGKILL)
    wait_until(f"the end of {process.name}", lambda: not process.alive())
