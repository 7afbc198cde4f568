"""A face as the command line serves it, in processes of its own, to be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

START_SECONDS = 60


class FaceProcess:
    """`anchorhold authority serve` on a state folder. In a session of its own, so that a kill takes all of it."""

    def __init__(
        self,
        state_dir: Path,
        *,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
        more: Sequence[str] = (),
    ) -> None:
        ready = state_dir.parent / f"{state_dir.name}.ready"
        ready.unlink(missing_ok=True)
        self.log = state_dir.parent / f"{state_dir.name}.log"
        command = [
            sys.executable, "-m", "anchorhold.cli.main", "authority", "serve", "--state", str(state_dir),
            "--listen", "127.0.0.1:0", "--ready-file", str(ready), "--workers", str(workers), *more,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise AssertionError(f"the authority did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.01)
        self.port: int = json.loads(ready.read_text())["port"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def children(self) -> list[int]:
        """The workers; Python's own tracker of shared resources is none, nor is one that has just gone."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in found if b"spawn_main" in _command(int(pid))]

    def kill(self) -> None:
        """SIGKILL to every process of it, now."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(START_SECONDS)

    @property
    def code(self) -> int | None:
        return self._process.poll()


def _command(pid: int) -> bytes:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
