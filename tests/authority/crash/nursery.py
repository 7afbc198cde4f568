"""Faces forked from a process that has everything imported: hundreds of starts, each a process of its own.

Run as a program it is that process: a line of JSON on its input starts a face, and its answer is the pid.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

START_SECONDS = 60
SHIM_NAMES = ("SHIM_ROOT", "SHIM_LOG", "SHIM_BUDGET")


class ForkedFace:
    """`anchorhold authority serve`, forked; in a process group of its own."""

    def __init__(self, pid: int, ready: Path, log: Path) -> None:
        self.pid = pid
        until = time.monotonic() + START_SECONDS
        while not ready.exists():
            if not _alive(pid) or time.monotonic() > until:
                raise AssertionError(f"the authority did not start: {log.read_text()[-2000:]}")
            time.sleep(0.005)
        self.port: int = json.loads(ready.read_text())["port"]

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        while _alive(self.pid):
            time.sleep(0.002)

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        while _alive(self.pid):
            time.sleep(0.002)


class Nursery:
    """The process that faces are forked from; `preload` is put before libc in it and in them."""

    def __init__(self, preload: str | None) -> None:
        environment = dict(os.environ) | ({} if preload is None else {"LD_PRELOAD": preload})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.authority.crash.nursery"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, state_dir: Path, environment: Mapping[str, str]) -> ForkedFace:
        ready, log = (state_dir.parent / f"{state_dir.name}.{end}" for end in ("ready", "log"))
        ready.unlink(missing_ok=True)
        order = {"state": str(state_dir), "ready": str(ready), "log": str(log), "environment": dict(environment)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return ForkedFace(int(self._process.stdout.readline()), ready, log)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _child(order: dict[str, object]) -> int:
    from anchorhold.cli.main import main

    os.setpgid(0, 0)
    log = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, descriptor in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(descriptor, number)
    environment = order["environment"]
    assert isinstance(environment, dict)
    os.environ.update(environment)
    if "LD_PRELOAD" in os.environ:
        ctypes.CDLL(None).shim_begin()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    state, ready = str(order["state"]), str(order["ready"])
    return main(["authority", "serve", "--state", state, "--listen", "127.0.0.1:0", "--ready-file", ready])


def _serve_orders() -> int:
    import anchorhold.authority.serve
    import anchorhold.cli.authority  # noqa: F401 - imported once, here

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody is waited for: the dead leave at once
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if pid == 0:
            os._exit(_child(json.loads(line)))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(_serve_orders())
