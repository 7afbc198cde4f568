"""What can be seen of a stack from its state folder: its processes, its enclave's phase, the end of a console."""

import json
import socket
from contextlib import suppress
from pathlib import Path

from anchorhold.sim.processes import Recorded, recorded, start_time, tail
from anchorhold.wire import frames
from anchorhold.wire.messages import Kind, Port, unpack_fields


def running(state: Path) -> list[Recorded]:
    """The recorded processes of `state` that still run. Raises StackError where the record is damaged."""
    return [process for process in recorded(state / "stack.json") if process.alive()]


def ask_shutdown(window: Path) -> bool:
    """Ask for a clean end; whether anybody took the request."""
    return _window(window, Kind.SHUTDOWN) is not None


def phase_of(window: Path) -> str | None:
    """The enclave's phase by its own word; None while nobody listens."""
    answer = _window(window, Kind.STATUS)
    return None if answer is None else unpack_fields(answer).get("phase", b"").decode("ascii", "replace")


def enclave_pids(state: Path) -> list[int]:
    """Pids of the enclaves that the youngest hypervisor's log says have started and not ended, and that do run.

    Those of an earlier one ended with it, and their pids may be anybody's by now.
    """
    started: dict[str, int] = {}
    try:
        lines = (state / "hypervisor/hypervisor.log").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):  # a line cut by a full disk or a kill names nobody
            event = json.loads(line)
            if event["event"] == "hypervisor-started":
                started.clear()
            elif event["event"] == "enclave-started":
                started[event["enclave"]] = event["pid"]
            elif event["event"] == "enclave-ended":
                started.pop(event["enclave"], None)
    return [pid for pid in started.values() if start_time(pid) is not None]


def console_tail(state: Path) -> str | None:
    """The end of the youngest enclave's console."""
    consoles = sorted((state / "hypervisor").rglob("*console*"), key=lambda path: path.stat().st_mtime)
    return tail(consoles[-1]) if consoles else None


def _window(window: Path, kind: Kind) -> bytes | None:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(5.0)
            stream.connect(str(window))
            stream.sendall(f"CONNECT {Port.SERVICE}\n".encode())
            if not stream.recv(64).startswith(b"OK "):
                return None
            stream.sendall(frames.encode(kind))
            answer = frames.read_frame(stream)
    except (OSError, frames.FrameError):
        return None
    return answer.body if answer is not None and answer.kind == Kind.STATUS_IS else None
