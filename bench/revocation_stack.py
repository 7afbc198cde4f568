"""Revocations of a whole stack: real processes, the tiny model, a relay before the owner face, boot after boot.

The last token is when a client had it, so its way here is in the figure; the wipe is what the death record says, and
the end of the process is what the hypervisor's log says.
"""

import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.common import CACHE, ROOT
from bench.revocation_relay import Relay

from anchorhold.attestation.configuration import EngineSettings
from anchorhold.attestation.transcript.bodies import Death
from anchorhold.authority.owner.client import AdminClient
from anchorhold.cli.deaths import unverified_entries
from anchorhold.client.errors import ClientError
from anchorhold.client.sdk import Client
from anchorhold.client.sdk import Settings as Asking
from anchorhold.client.trust import parse_trust
from anchorhold.publish.tiny import make_tiny_model
from anchorhold.sim.control import call
from anchorhold.sim.deploy import Settings
from anchorhold.sim.processes import Recorded, as_json, from_json, save, start, stop, wait_ready
from anchorhold.sim.stack import Options, Stack, down, phase_of

LEASE_MS = 2_000  # the shortest there is
CONTEXT, MAX_TOKENS = 8_448, 8_192  # the tiny model's own 2,048 tokens are over before a lease is
ENGINE = EngineSettings("float32", 2 * CONTEXT, 4, 1)
PATIENCE_S, POLL_S = 180.0, 0.05
FIRST_TOKENS = 20
SLOW_S = 0.02  # of each piece
MODULE_JUMP_MS = 5_000


@dataclass(slots=True)
class Ended:
    """One revoked boot, in milliseconds of this machine's clock."""

    at: float
    tokens: list[float] = field(default_factory=list)
    wiped: float | None = None
    gone: float = 0.0


class Stream(threading.Thread):
    """One long answer, and when each piece of it came."""

    def __init__(self, trust: Path) -> None:
        super().__init__(daemon=True)
        self._trust = parse_trust(trust.read_bytes())
        self.tokens: list[float] = []

    def run(self) -> None:
        try:
            with Client(self._trust) as client:
                for _ in client.stream("Tell me everything.", Asking(max_tokens=MAX_TOKENS)):
                    self.tokens.append(time.time_ns() / 1e6)
        except ClientError:
            return  # the lease is over: what every answer here ends with


class Desk:
    """A stack that is up, ordered about from outside it."""

    def __init__(self, state: Path, relay: Relay) -> None:
        self._state = state
        self._relay = relay
        record = json.loads((state / "stack.json").read_text())
        owner = record["owner"]
        self._model = bytes.fromhex(record["model"])
        self._owner = AdminClient(owner["url"], Path(owner["ca"]), Path(owner["token_file"]).read_text().strip())

    def revoked_boot(self, condition: str) -> Ended:
        """A stream is under way when its model is revoked under `condition`; returns when the process is gone."""
        gone, deaths = len(self._ends()), len(self._deaths())
        stream = Stream(self._state / "trust.json")
        stream.start()
        _until("tokens", lambda: len(stream.tokens) >= FIRST_TOKENS)
        self._relay.delay_s = SLOW_S if condition == "slow" else 0.0
        self._relay.cut = condition == "partitioned"
        if condition == "clock jumps":
            self._move_module(MODULE_JUMP_MS)
        at = self._owner.call("revoke", {"model": self._model, "reason": "bench"})["at"]
        assert isinstance(at, int)
        if condition == "restarted":
            self._restart_owner()
        _until("the enclave's end", lambda: len(self._ends()) > gone)
        stream.join(PATIENCE_S)
        self._relay.cut, self._relay.delay_s = False, 0.0
        if condition == "clock jumps":
            self._move_module(-MODULE_JUMP_MS)
        died = self._deaths()[deaths:]
        # After clock doubt there is no enclave time to name.
        wiped = float(died[0].wiped_ms) if died and died[0].wiped_ms else None
        return Ended(float(at), stream.tokens, wiped, self._ends()[gone])

    def next_boot(self) -> None:
        """The model again, and another enclave of the same image."""
        self._owner.call("reinstate", {"model": self._model, "reason": "bench"})
        (self._state / "window/w").unlink(missing_ok=True)  # left by the one before
        told = json.loads((self._state / "parent.json").read_text())["enclave"]
        command = [*told["command"], "run-enclave", "--eif-path", told["eif"], *told["args"]]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
        _until("SERVING", lambda: phase_of(self._state / "window/w") == "SERVING")

    def _ends(self) -> list[float]:
        lines = (self._state / "hypervisor/hypervisor.log").read_text().splitlines()
        return [float(event["at"]) for line in lines if (event := json.loads(line))["event"] == "enclave-ended"]

    def _deaths(self) -> list[Death]:
        return [entry.body for entry in unverified_entries(self._state / "log") if isinstance(entry.body, Death)]

    def _move_module(self, by_ms: int) -> None:
        call(self._state / "hv.sock", {"command": "move-clock", "ms": by_ms})

    def _restart_owner(self) -> None:
        record = json.loads((self._state / "stack.json").read_text())
        recorded = from_json(record["processes"])
        stop([one for one in recorded if one.name == "owner"])
        ready, logs = self._state / "ready/owner.json", self._state / "logs"
        port = json.loads(ready.read_text())["port"]
        ready.unlink()
        serve = ["-m", "anchorhold.cli.main", "authority", "serve", "--state", str(self._state / "owner")]
        again = start("owner", [*serve, "--listen", f"127.0.0.1:{port}", "--ready-file", str(ready)], logs)
        wait_ready(again, ready.exists, logs)
        others: list[Recorded] = [one for one in recorded if one.name != "owner"]
        save(self._state / "stack.json", record | {"processes": as_json([again, *others])})


@contextmanager
def stack() -> Iterator[Desk]:
    """A stack with the tiny model, the shortest lease, and a relay between its parent and its owner face."""
    room = Path(tempfile.mkdtemp(prefix="ah-"))
    relays: list[Relay] = []

    def through_a_relay(config: dict[str, Any]) -> dict[str, Any]:
        relays.append(Relay(urlsplit(f"//{config['egress']['owner']}").port or 0))
        return config | {"egress": config["egress"] | {"owner": f"127.0.0.1:{relays[0].port}"}}

    settings = Settings(lease_ms=LEASE_MS, engine=ENGINE)
    try:
        model, lock = str(_long_model(room / "long")), ROOT / "requirements/enclave.lock"
        Stack(Options(room / "s", model, CACHE, settings=settings, lock=lock, rewire=through_a_relay)).up()
        yield Desk(room / "s", relays[0])
    finally:
        down(room / "s")
        for relay in relays:
            relay.close()
        shutil.rmtree(room, ignore_errors=True)


def _long_model(folder: Path) -> Path:
    make_tiny_model(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    return folder


def _until(what: str, done: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {PATIENCE_S:.0f} s: {what}")
        time.sleep(POLL_S)
