"""One toy enclave: unpacks exactly the measured bytes, starts them, answers their NSM requests, tells how they ended.

Simulated: the folder is private and read-only, but the same user and root can still reach it and the process's memory.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anchorhold.attestation.measure.cpio import Entry, Mode, read_cpio, tree, write_cpio
from anchorhold.attestation.measure.eif import EnclaveImage, SectionKind

MAX_NSM_REQUEST = 65_536  # bytes; over 0x1000 the NSM itself answers InputTooLarge, over this the line is cut
MAX_REPORT = 4096  # bytes of the launcher's one line
MAX_SOCKET_PATH = 107  # bytes; sun_path has 108 with its NUL
MAX_PORT_SUFFIX = len("_65535")
LAUNCH_SECONDS = 20  # two interpreter starts on a loaded machine; a launcher that hangs is ended
_LENGTH_BYTES = 4
_LAUNCHER = Path(__file__).with_name("launch.py")

Transact = Callable[[bytes], bytes]


class LaunchRefused(Exception):
    """An image or a window that no enclave can be started with; nothing runs."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What the launcher closed around the enclave, and what the host did not let it close."""

    closed: tuple[str, ...]
    still_open: tuple[str, ...]


def unpack(image: EnclaveImage, folder: Path) -> None:
    """Exactly the ramdisks' files, laid over one another as the kernel does, in a new folder nobody can write.

    Raises EvidenceError for a ramdisk that is not in our one form, LaunchRefused for a file given twice.
    """
    files: dict[str, Entry] = {}
    for ramdisk in image.of(SectionKind.RAMDISK):
        for entry in read_cpio(ramdisk):
            if entry.mode is not Mode.FOLDER and files.setdefault(entry.name, entry) is not entry:
                raise LaunchRefused(f"image: {entry.name!r} stands in two ramdisks")
    entries = tree(files.values())
    write_cpio(entries)  # one name cannot be a file in one ramdisk and a folder in another
    folder.mkdir(mode=0o700)
    for entry in entries:
        if entry.mode is Mode.FOLDER:
            (folder / entry.name).mkdir(mode=0o700)
            continue
        with (folder / entry.name).open("xb") as file:
            file.write(entry.body)
            os.fchmod(file.fileno(), entry.mode & 0o500)
    for path in (folder, *(folder / entry.name for entry in entries if entry.mode is Mode.FOLDER)):
        path.chmod(0o500)


def prepare(image: EnclaveImage, folder: Path, window: Path) -> tuple[list[str], list[str]]:
    """Make `folder` with the unpacked image; the command and the environment that stand in it.

    Raises LaunchRefused, EvidenceError or OSError.
    """
    size = len(os.fsencode(window))
    if size + MAX_PORT_SUFFIX > MAX_SOCKET_PATH:
        raise LaunchRefused(f"window path: expected at most {MAX_SOCKET_PATH - MAX_PORT_SUFFIX} bytes, got {size}")
    folder.mkdir(mode=0o700, parents=True)
    root = folder / "image"
    unpack(image, root)
    command, environment = _lines(root / "cmd"), _lines(root / "env")
    if command[:1] != ["python3"] or command[-1:] != ["/init.py"]:
        raise LaunchRefused(f"image: cmd: expected python3 with options and /init.py, got {command!r}")
    return command, environment


class Machine:
    """A started enclave. `ended` is done once the process is gone and its folder removed."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process, isolation: Isolation) -> None:
        self.folder = folder
        self.isolation = isolation
        self._process = process
        self._nsm: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The enclave's process."""
        return self._process.pid

    @classmethod
    async def start(cls, image: EnclaveImage, folder: Path, window: Path, transact: Transact) -> "Machine":
        """Unpack, launch, connect the NSM. Raises LaunchRefused, EvidenceError or OSError."""
        root = folder / "image"
        try:
            command, environment = prepare(image, folder, window)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            with contextlib.ExitStack() as on_failure, theirs:
                on_failure.enter_context(ours)
                init = [sys.executable, *command[1:-1], str(root / "init.py")]
                arguments = [*init, *_init_options(root, theirs.fileno(), window)]
                process, isolation = await _launch(arguments, environment, theirs.fileno(), folder)
                on_failure.pop_all()
        except BaseException:
            remove(root)
            raise
        machine = cls(folder, process, isolation)
        machine._nsm = asyncio.create_task(_serve_nsm(ours, transact))
        return machine

    def kill(self) -> None:
        """End it at once, like the power of a machine."""
        if self._process.returncode is None:
            _kill_group(self._process.pid)

    async def ended(self) -> int:
        """The exit code, negative for a signal, once it has ended and its files are gone. The console stays."""
        code = await self._process.wait()
        _kill_group(self._process.pid)  # what it may have started
        if self._nsm is not None:
            self._nsm.cancel()
            await asyncio.gather(self._nsm, return_exceptions=True)
        remove(self.folder / "image")
        return code


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def remove(folder: Path) -> None:
    """Take away an unpacked image, read-only folders included."""
    if folder.is_dir():
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o700)
        shutil.rmtree(folder)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise LaunchRefused(f"image: expected a file {path.name!r}")
    return path.read_bytes().decode("ascii", "replace").splitlines()


def _init_options(root: Path, nsm_fd: int, window: Path) -> list[str]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    options = {"image": str(root), "nsm-fd": str(nsm_fd), "window": str(window)}
    options |= {"python": sys.executable, "prefix": sys.prefix, "version": version}
    return [word for name, value in options.items() for word in (f"--{name}", value)]


async def _launch(
    program: list[str], environment: list[str], nsm_fd: int, folder: Path
) -> tuple[asyncio.subprocess.Process, Isolation]:
    report, report_end = os.pipe()
    try:
        with (folder / "console.log").open("xb") as console:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-B", str(_LAUNCHER), str(report_end), str(os.getpid()), *program),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=dict(item.split("=", 1) for item in environment),
                cwd="/",
                pass_fds=(nsm_fd, report_end),
                start_new_session=True,
            )
    finally:
        os.close(report_end)
    try:
        told = json.loads(await asyncio.wait_for(_read_report(report), LAUNCH_SECONDS))
        return process, Isolation(tuple(told["closed"]), tuple(told["open"]))
    except (TimeoutError, ValueError, KeyError, TypeError) as error:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        code = await process.wait()
        raise LaunchRefused(f"the launcher ended with {code} before the enclave began; see the console") from error


async def _read_report(descriptor: int) -> bytes:
    reader = asyncio.StreamReader(limit=MAX_REPORT)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb"))
    try:
        # The launcher's end closes when it becomes the enclave, or dies.
        return await reader.read(-1)
    finally:
        transport.close()


async def _serve_nsm(ours: socket.socket, transact: Transact) -> None:
    """Requests and answers, each after its length in 4 bytes, one at a time as /dev/nsm does."""
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        while True:
            size = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
            if size > MAX_NSM_REQUEST:
                return
            answer = transact(await reader.readexactly(size))
            writer.write(len(answer).to_bytes(_LENGTH_BYTES, "big") + answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()
