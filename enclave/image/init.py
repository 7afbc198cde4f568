"""The measured init: the first code of the image. It starts the enclave from exactly the measured files, or not at all.

Standard library only, and it imports nothing of the project before it has checked where that would come from.
On the simulated platform the hypervisor unpacks the image into a folder and starts `python3 -I -B init.py` there.
A refusal is one line on the console and exit code 70. An exception of the enclave is told without its text, which may
quote what it was working on.
"""

import ctypes
import importlib
import os
import resource
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType

PACKAGE = "anchorhold"
MAIN = "anchorhold.enclave.__main__"
EXIT_REFUSED = 70  # EX_SOFTWARE: no exit code of the enclave's own
_PR_SET_DUMPABLE = 4  # linux/prctl.h


class InitRefused(Exception):
    """The process is not the one the image describes. Nothing of the enclave has run."""


class MeasuredLoader(SourceFileLoader):
    """Source only: bytecode would run in place of the measured file, with -B too."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        return compile(self.get_data(path), path, "exec", dont_inherit=True)


class MeasuredFinder:
    """Stands first on `sys.meta_path`: this project comes from the image, whatever is installed beside it."""

    def __init__(self, image: Path) -> None:
        self._image = image

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec within the image; None for what is not this project's. Raises ImportError."""
        if fullname != PACKAGE and not fullname.startswith(f"{PACKAGE}."):
            return None
        found = PathFinder.find_spec(fullname, [str(self._image)] if fullname == PACKAGE else path)
        if found is None or found.origin is None:
            raise ModuleNotFoundError(f"{fullname!r} is not in the image", name=fullname)
        if not is_measured(found.origin, self._image):
            raise ImportError(f"{fullname!r} would come from outside the image", name=fullname)
        found.loader = MeasuredLoader(fullname, found.origin)
        found.cached = None
        return found


def is_measured(origin: str, image: Path) -> bool:
    """Whether `origin` is a source file in the image, no link on the way."""
    path = Path(origin)
    return path.suffix == ".py" and path.resolve() == path and path.is_relative_to(image)


def check_interpreter(options: dict[str, str]) -> None:
    """The interpreter that runs is the one the hypervisor meant, isolated and writing no bytecode.

    A child that lost its user can silently find another standard library. Raises InitRefused.
    """
    if not (sys.flags.isolated and sys.flags.dont_write_bytecode):
        raise InitRefused("expected the interpreter's options -I -B")
    version = ".".join(str(part) for part in sys.version_info[:3])
    actual = {"python": sys.executable, "prefix": sys.prefix, "version": version}
    for name, value in actual.items():
        if options[name] != value:
            raise InitRefused(f"{name} differs: expected {options[name]!r}, got {value!r}")


def check_image(image: Path) -> None:
    """The image folder holds plain source and no bytecode. Raises InitRefused."""
    if not image.is_absolute() or image.resolve() != image or not image.is_dir():
        raise InitRefused("expected the image folder as an absolute path without links")
    if Path(__file__).resolve().parent != image:
        raise InitRefused("expected init to lie in the image folder")
    for path in image.rglob("*"):
        if path.is_symlink() or path.name == "__pycache__" or path.suffix in (".pyc", ".so", ".pth"):
            raise InitRefused(f"expected plain source in the image, got {str(path.relative_to(image))!r}")


def check_modules(image: Path) -> int:
    """Every module of this project that is loaded came from the image; how many there are. Raises InitRefused."""
    loaded = [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]
    for name in loaded:
        origin = getattr(sys.modules[name], "__file__", None)
        if not isinstance(origin, str) or not is_measured(origin, image):
            raise InitRefused(f"module {name!r} did not come from the image")
    return len(loaded)


def close_process(nsm_fd: int) -> None:
    """No core dump, no reading of this memory by the same user, and no child inherits the NSM. Raises OSError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")
    os.set_inheritable(nsm_fd, False)


def tell_without_text(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A `sys.excepthook`: where it happened and of which type; the text only of an import, which quotes names."""
    text = f": {error}" if isinstance(error, ImportError) else ""
    sys.stderr.write(f"{''.join(traceback.format_tb(trace))}{kind.__qualname__}{text}\n")


def read_options(arguments: Sequence[str]) -> dict[str, str]:
    """`--name value` pairs, each of the six exactly once. Raises InitRefused."""
    names = ("image", "nsm-fd", "window", "python", "prefix", "version")
    options = {name.removeprefix("--"): value for name, value in zip(arguments[::2], arguments[1::2], strict=False)}
    if len(arguments) != 2 * len(names) or options.keys() != set(names):
        raise InitRefused(f"expected the options {' '.join(names)}")
    return options


def run(arguments: Sequence[str]) -> int:
    """Check, import, check again, and hand over to the enclave's `main(argv)`. Raises InitRefused."""
    # 1. The process: who runs this, with which options, out of which folder.
    options = read_options(arguments)
    check_interpreter(options)
    image = Path(options["image"])
    check_image(image)
    # 2. Nothing of this project may be loaded yet: the interpreter's site files run before this line.
    if any(name == PACKAGE or name.startswith(f"{PACKAGE}.") for name in sys.modules):
        raise InitRefused(f"{PACKAGE!r} was imported before init")
    close_process(int(options["nsm-fd"]))
    sys.excepthook = tell_without_text
    threading.excepthook = lambda told: tell_without_text(
        told.exc_type, told.exc_value or SystemExit(), told.exc_traceback
    )
    # 3. The image first on the path, and its finder before every other: an editable checkout stays unread.
    sys.path.insert(0, str(image))
    sys.meta_path.insert(0, MeasuredFinder(image))
    main = importlib.import_module(MAIN)
    # 4. Where everything really came from.
    check_modules(image)
    passed = ("image", "nsm-fd", "window")
    status: int = main.main([word for name in passed for word in (f"--{name}", options[name])])
    # 5. What was imported while it ran came from there too.
    check_modules(image)
    return status


if __name__ == "__main__":
    try:
        _status = run(sys.argv[1:])
    except InitRefused as error:
        sys.stderr.write(f"anchorhold init: refused: {error}\n")
        _status = EXIT_REFUSED
    sys.exit(_status)
