"""The toy hypervisor: a process of its own that owns the simulated root and the NSM state of every enclave it starts.

It measures the bytes of an image and starts exactly those. Its answers have nitro-cli's form and are no evidence; the
documents of its NSM are, under a root that everyone reports as `simulated`. When it ends, its enclaves end.
`python -m anchorhold.sim.hypervisor --state DIR --control SOCK`: `DIR/root.pem` is its root, `DIR/hypervisor.log` its
log, `DIR/enclaves/ID/console.log` what an enclave printed (real hardware keeps a console in debug mode only).
"""

import argparse
import asyncio
import fcntl
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.eif import SectionKind, read_eif
from anchorhold.attestation.measure.pcr import ZERO, instance_register, measure, measurements
from anchorhold.sim.control import ControlRefused, Json, serve
from anchorhold.sim.machine import LaunchRefused, Machine, Transact, remove
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki

MAX_ENCLAVES = 4  # what one parent instance can have
FIRST_CID = 16  # 0..3 have a meaning on vsock; in simulation the number names nothing
MODULE_DIGITS = 16
INSTANCE_DIGITS = 17
NOT_SIMULATED = (
    "memory isolation from the same user and root",
    "file system",
    "interpreter",
    "clock",
    "entropy",
    "vsock",
)

MAX_MOVE_MS = 86_400_000  # a day: a certificate of the toy root is still valid then

MakeNsm = Callable[[dict[int, bytes], str], Transact]
"""From the registers at boot and the module id to an NSM's transact."""


class Event(Enum):
    """What the hypervisor's log may hold."""

    STARTED = "hypervisor-started"
    STOPPED = "hypervisor-stopped"
    ENCLAVE_STARTED = "enclave-started"
    ENCLAVE_REFUSED = "enclave-refused"
    ENCLAVE_ENDED = "enclave-ended"


@dataclass(frozen=True, slots=True)
class Enclave:
    """One running enclave as nitro-cli describes it."""

    name: str
    enclave_id: str
    cid: int
    debug: bool
    pcrs: dict[int, bytes]
    metadata: Json
    machine: Machine

    def started(self) -> Json:
        """The answer of run-enclave. No memory is set aside, so none is named."""
        cpus = sorted(os.sched_getaffinity(0))
        return {
            "EnclaveName": self.name,
            "EnclaveID": self.enclave_id,
            "ProcessID": self.machine.pid,
            "EnclaveCID": self.cid,
            "NumberOfCPUs": len(cpus),
            "CPUIDs": cpus,
            "MemoryMiB": 0,
        }

    def described(self) -> Json:
        """One item of describe-enclaves. The measurements are of the file, as nitro-cli's are: not evidence."""
        return {
            **self.started(),
            "State": "RUNNING",
            "Flags": "DEBUG_MODE" if self.debug else "NONE",
            "Measurements": measurements(self.pcrs),
            "ImageName": self.metadata.get("ImageName"),
            "ImageVersion": self.metadata.get("ImageVersion"),
            "Metadata": self.metadata,
        }


class ModuleClock:
    """What every NSM of this hypervisor reads: the machine's clock, and whatever it was moved by."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._moved_ms = 0

    def ms(self) -> int:
        return self._clock_ms() + self._moved_ms

    def move(self, by_ms: int) -> int:
        """By how much it is off now."""
        self._moved_ms += by_ms
        return self._moved_ms


class Hypervisor:
    """Starts, lists and ends enclaves; see the module's docstring."""

    def __init__(
        self, state: Path, make_nsm: MakeNsm, clock_ms: Callable[[], int], module_clock: ModuleClock | None = None
    ) -> None:
        """`module_clock` is what `make_nsm` reads, where commands may move it."""
        self._module_clock = module_clock
        self._state = state
        self._make_nsm = make_nsm
        self._clock_ms = clock_ms
        self._instance = f"i-{secrets.token_hex(INSTANCE_DIGITS)[:INSTANCE_DIGITS]}"
        self._enclaves: dict[str, Enclave] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._next_cid = FIRST_CID

    async def handle(self, request: Json) -> object:
        """One control command. Raises ControlRefused."""
        command = request.get("command")
        if command == "run-enclave":
            return await self._run(request)
        if command == "describe-enclaves":
            return [enclave.described() for enclave in self._enclaves.values()]
        if command == "terminate-enclave":
            return await self._terminate(_text(request, "enclave_id"))
        if command == "move-clock" and self._module_clock is not None:
            return {"MovedMs": self._module_clock.move(_whole(request, "ms"))}
        raise ControlRefused("malformed", f"unknown command {command!r}")

    async def close(self) -> None:
        """End every enclave and wait until each is gone."""
        for enclave in self._enclaves.values():
            enclave.machine.kill()
        while self._watches:
            await asyncio.gather(*self._watches)
        self.log(Event.STOPPED)

    def log(self, event: Event, **fields: object) -> None:
        """One line of JSON: ids, numbers, registers and exit codes only."""
        line = json.dumps({"at": self._clock_ms(), "event": event.value, **fields})
        with (self._state / "hypervisor.log").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    async def _run(self, request: Json) -> Json:
        path, window = Path(_text(request, "eif_path")), Path(_text(request, "window"))
        debug = request.get("debug_mode") is True
        if len(self._enclaves) >= MAX_ENCLAVES:
            raise ControlRefused("too-many", f"expected at most {MAX_ENCLAVES} enclaves at a time")
        enclave_id = f"{self._instance}-enc{secrets.token_hex(MODULE_DIGITS // 2)}"
        try:
            enclave = await self._start(enclave_id, path, window, name=_text(request, "enclave_name"), debug=debug)
        except (EvidenceError, LaunchRefused, OSError, ValueError) as error:
            self.log(Event.ENCLAVE_REFUSED, enclave=enclave_id, reason=type(error).__name__)
            raise ControlRefused("refused", str(error)) from error
        self._enclaves[enclave_id] = enclave
        isolation = enclave.machine.isolation
        self.log(
            Event.ENCLAVE_STARTED,
            enclave=enclave_id,
            pid=enclave.machine.pid,
            debug=debug,
            pcrs=measurements(enclave.pcrs),
            closed=isolation.closed,
            open=isolation.still_open,
            not_simulated=NOT_SIMULATED,
        )
        watch = asyncio.create_task(self._watch(enclave))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return enclave.started()

    async def _start(self, enclave_id: str, path: Path, window: Path, *, name: str, debug: bool) -> Enclave:
        # 1. The file is read once: the bytes measured are the bytes unpacked.
        eif = await asyncio.to_thread(path.read_bytes)
        image = read_eif(eif)
        measured = measure(eif)
        # 2. Debug mode shows zeros for the image, and only for the image (facts of 44 real debug documents).
        pcrs = dict.fromkeys(measured, ZERO) if debug else measured
        transact = self._make_nsm({**pcrs, 4: instance_register(self._instance)}, enclave_id)
        # 3. What nitro-cli reads from the unmeasured metadata, for its answers alone.
        metadata = json.loads(image.of(SectionKind.METADATA)[0])
        folder = self._state / "enclaves" / enclave_id
        machine = await Machine.start(image, folder, window, transact)
        cid, self._next_cid = self._next_cid, self._next_cid + 1
        described = metadata if isinstance(metadata, dict) else {}
        return Enclave(name, enclave_id, cid, debug, pcrs, described, machine)

    async def _terminate(self, enclave_id: str) -> Json:
        enclave = self._enclaves.get(enclave_id)
        if enclave is None:
            raise ControlRefused("no-such-enclave", f"no enclave {enclave_id!r} is running")
        enclave.machine.kill()
        while enclave_id in self._enclaves:
            await asyncio.wait(self._watches, return_when=asyncio.FIRST_COMPLETED)
        return {"EnclaveName": enclave.name, "EnclaveID": enclave_id, "Terminated": True}

    async def _watch(self, enclave: Enclave) -> None:
        code = await enclave.machine.ended()
        del self._enclaves[enclave.enclave_id]
        how: Json = {"exit": code} if code >= 0 else {"signal": signal.Signals(-code).name}
        self.log(Event.ENCLAVE_ENDED, enclave=enclave.enclave_id, **how)


def _text(request: Json, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str) or not value:
        raise ControlRefused("malformed", f"field {name!r}: expected text")
    return value


def _whole(request: Json, name: str) -> int:
    value = request.get(name)
    if not isinstance(value, int) or abs(value) > MAX_MOVE_MS:
        raise ControlRefused("malformed", f"field {name!r}: expected at most {MAX_MOVE_MS} ms either way")
    return value


async def operate(state: Path, control: Path, clock_ms: Callable[[], int]) -> None:
    """Answer at `control` until SIGTERM or SIGINT, then end every enclave."""
    pki = prepare(state, clock_ms())
    module = ModuleClock(clock_ms)
    hypervisor = Hypervisor(state, lambda pcrs, name: ToyNsm(pki, pcrs, name, module.ms).transact, clock_ms, module)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await serve(control, hypervisor.handle)
    hypervisor.log(Event.STARTED, pid=os.getpid())
    try:
        await stop.wait()
    finally:
        server.close()
        await hypervisor.close()


def own(state: Path) -> int:
    """The state folder for this process alone, as long as the descriptor is open. Raises BlockingIOError or OSError."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def prepare(state: Path, now_ms: int) -> SimulatedPki:
    """The state folder: the root, kept over restarts, and nothing of enclaves that ended with their hypervisor."""
    for left in state.glob("enclaves/*/image"):
        remove(left)
    pki = SimulatedPki.load(state, datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=now_ms))
    partial = state / "root.pem.partial"
    partial.write_bytes(pki.root_pem)
    partial.replace(state / "root.pem")
    return pki


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and operate."""
    parser = argparse.ArgumentParser(prog="hypervisor", description="the toy hypervisor of the simulated platform")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR")
    parser.add_argument("--control", type=Path, required=True, metavar="SOCK", help="its Unix socket, for nitro_cli")
    options = parser.parse_args(arguments)
    try:
        own(options.state)
        asyncio.run(operate(options.state.resolve(), options.control, lambda: time.time_ns() // 1_000_000))
        options.control.unlink(missing_ok=True)
    except BlockingIOError:
        sys.stderr.write(f"hypervisor: error: another one runs with its state in {str(options.state)!r}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"hypervisor: error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
