"""A PostgreSQL of our own, from Debian's binaries, in a folder of its own, on a Unix socket: for tests, the crash
program and a developer (`make pg-up`, `make pg-down`).

Run: python tests/authority/postgres.py up FOLDER | down FOLDER. `up` prints the URL. The server refuses to run as
root, so root's is run as the user `postgres`, or as `nobody`.
"""

import argparse
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BINARIES = Path("/usr/lib/postgresql")
OWNER = "anchorhold"
START_SECONDS = 60
# As installed, but for size: fsync and full_page_writes stay on, because what is promised is promised with them.
SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "16MB",
    "max_connections": "100",
    "max_wal_size": "64MB",
    "autovacuum": "off",
}


def binaries() -> Path | None:
    """The newest server's folder, or None: Debian keeps them off the PATH."""
    found = sorted(BINARIES.glob("*/bin/postgres"), key=lambda path: int(path.parent.parent.name))
    return found[-1].parent if found else None


@dataclass(frozen=True, slots=True)
class Postgres:
    """One server; `folder` holds data and socket. `shim` is put before libc in it: it can fill the disk."""

    folder: Path
    shim: Path | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{OWNER}@/postgres?host={self.folder}"

    @classmethod
    def create(cls, folder: Path, shim: Path | None = None) -> "Postgres":
        """A new, running server in `folder`, which must not exist."""
        folder.mkdir(mode=0o700)
        user = _user()
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        made = cls(folder, shim)
        made._run("initdb", "-A", "trust", "-U", OWNER, "-E", "UTF8", "--locale=C", "-D", str(folder / "data"))
        with (folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
            file.write(f"unix_socket_directories = '{folder}'\n")
        made.start()
        return made

    def start(self) -> None:
        """Returns when it takes connections, recovery included."""
        # A server that was killed leaves its pid file; pg_ctl sees that nobody has that number, or starts anyway.
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-l", str(self.folder / "server.log"), "-w",
            "-t", str(START_SECONDS), "start",
        )  # fmt: skip

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "fast", "-w", "stop", check=False)

    def kill(self) -> None:
        """SIGKILL to the postmaster and each of its children: nobody says goodbye, nothing is flushed.

        A full disk may have ended it before: then there is nobody to kill.
        """
        try:
            pid = self.pid
        except FileNotFoundError:
            return
        family = (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
        for one in family:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        while any(Path(f"/proc/{one}").exists() for one in family):
            time.sleep(0.01)

    def fill_disk(self) -> None:
        """From now on every write of every process of the server says that there is no room."""
        assert self.shim is not None
        self._full.touch()

    def free_disk(self) -> None:
        self._full.unlink(missing_ok=True)

    @property
    def _full(self) -> Path:
        return self.folder.parent / "full"

    @property
    def pid(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _preload(self) -> dict[str, str]:
        if self.shim is None:
            return {}
        return {"LD_PRELOAD": str(self.shim), "SHIM_ROOT": str(self.folder), "SHIM_FULL": str(self._full)}

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        home = binaries()
        assert home is not None, "Debian's postgresql is not installed"
        user = _user()
        done = subprocess.run(
            [str(home / program), *arguments],
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"} | self._preload(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if check and done.returncode:
            log = self.folder / "server.log"
            raise RuntimeError(f"{program}: exit {done.returncode}; {log.read_text()[-2000:] if log.exists() else ''}")


def _user() -> pwd.struct_passwd | None:
    """Whom the server runs as; None: as we are."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres", names["nobody"])


@contextmanager
def postgres(build_shim: Callable[[Path], Path] | None = None) -> Iterator[Postgres]:
    """A server for as long as the block lasts, in a temporary folder that its user can reach."""
    with tempfile.TemporaryDirectory(prefix="anchorhold-pg-") as above:
        Path(above).chmod(0o755)
        shim = None if build_shim is None else build_shim(Path(above))
        made = Postgres.create(Path(above) / "pg", shim)
        try:
            yield made
        finally:
            made.stop()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("order", choices=("up", "down"))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    if binaries() is None:
        sys.stderr.write("postgresql is not installed: apt-get install postgresql\n")
        return 2
    server = Postgres(options.folder.absolute())
    if options.order == "down":
        server.stop()
        return 0
    if server.folder.exists():
        server.start()
    else:
        server.folder.parent.mkdir(parents=True, exist_ok=True)
        server = Postgres.create(server.folder)
    sys.stdout.write(f"{server.url}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
