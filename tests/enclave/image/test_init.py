"""The measured init starts the enclave from exactly the measured files, or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

import anchorhold
from anchorhold.enclave.image.init import EXIT_REFUSED

pytestmark = pytest.mark.slow

MAIN = b"import sys\ndef main(argv):\n    print('began', *argv[::2])\n    return 7\n"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder as the hypervisor unpacks it: init and a `main` that exits with 7."""
    root = tmp_path.resolve() / "image"
    enclave = root / "anchorhold" / "enclave"
    enclave.mkdir(parents=True)
    (root / "anchorhold" / "__init__.py").touch()
    (enclave / "__init__.py").touch()
    (enclave / "__main__.py").write_bytes(MAIN)
    init = Path(anchorhold.__file__).parent / "enclave" / "image" / "init.py"
    (root / "init.py").write_bytes(init.read_bytes())
    return root


def _start(root: Path, changed: dict[str, str] | None = None, flags: tuple[str, ...] = ("-I", "-B")) -> tuple[int, str]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    options = {"image": str(root), "nsm-fd": "0", "window": "/nowhere", "python": sys.executable}
    options |= {"prefix": sys.prefix, "version": version} | (changed or {})
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = [sys.executable, *flags, str(root / "init.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=30)
    return done.returncode, done.stdout + done.stderr


def test_it_hands_over_to_the_enclave_and_keeps_its_exit_code(image: Path) -> None:
    assert _start(image) == (7, "began --image --nsm-fd --window\n")


@pytest.mark.parametrize("flags", [("-I",), ("-B",), ("-s", "-P", "-B"), ()])
def test_an_interpreter_that_is_not_isolated_is_refused(image: Path, flags: tuple[str, ...]) -> None:
    code, said = _start(image, flags=flags)
    assert (code, "began" in said) == (EXIT_REFUSED, False)
    assert "-I -B" in said


@pytest.mark.parametrize("name", ["python", "prefix", "version"])
def test_another_interpreter_than_the_one_meant_is_refused_with_both_sides(image: Path, name: str) -> None:
    code, said = _start(image, {name: "/another"})
    assert code == EXIT_REFUSED
    assert f"{name} differs: expected '/another', got " in said


def test_planted_bytecode_is_refused_before_anything_runs(image: Path) -> None:
    (image / "anchorhold" / "enclave" / "__pycache__").mkdir()
    code, said = _start(image)
    assert (code, "began" in said) == (EXIT_REFUSED, False)
    assert "__pycache__" in said


@pytest.mark.parametrize("name", ["extra.so", "extra.pyc", "extra.pth"])
def test_a_library_in_the_image_is_refused(image: Path, name: str) -> None:
    (image / "anchorhold" / name).touch()
    assert _start(image)[0] == EXIT_REFUSED


def test_a_link_in_the_image_is_refused(image: Path) -> None:
    (image / "anchorhold" / "wire").symlink_to(Path(anchorhold.__file__).parent / "wire")
    assert _start(image)[0] == EXIT_REFUSED


def test_an_image_that_is_not_where_init_lies_is_refused(image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    code, said = _start(image, {"image": str(other)})
    assert (code, "began" in said) == (EXIT_REFUSED, False)


def test_an_image_without_the_enclave_takes_nothing_from_the_checkout(image: Path) -> None:
    """The interpreter has this very project installed: it must not stand in for what the image lacks."""
    (image / "anchorhold" / "enclave" / "__main__.py").unlink()
    code, said = _start(image)
    assert code == 1
    assert "ModuleNotFoundError: 'anchorhold.enclave.__main__' is not in the image" in said


def test_an_import_from_outside_hidden_from_the_finder_is_found_afterwards(image: Path) -> None:
    """Code that loads a module past the finder, as another package's `.pth` hook might, does not get away with it."""
    spec = "importlib.util.spec_from_file_location('anchorhold.wire', '/dev/null')"
    sneak = (
        f"import importlib.util, sys, types\nmodule = types.ModuleType('anchorhold.wire')\nmodule.__spec__ = {spec}\n"
    )
    (image / "anchorhold" / "enclave" / "__main__.py").write_bytes(
        sneak.encode() + b"module.__file__ = '/dev/null'\nsys.modules['anchorhold.wire'] = module\n" + MAIN
    )
    code, said = _start(image)
    assert (code, "began" in said) == (EXIT_REFUSED, False)
    assert "module 'anchorhold.wire' did not come from the image" in said


def test_an_exception_is_told_without_its_text(image: Path) -> None:
    """An exception may quote the prompt it choked on, and the console is a file of the host."""
    main = b"def main(argv):\n    words = 'marker' + str(40 + 2)\n    raise ValueError(words)\n"
    (image / "anchorhold" / "enclave" / "__main__.py").write_bytes(main)
    code, said = _start(image)
    assert code == 1
    assert "ValueError" in said
    assert "marker42" not in said


@pytest.mark.parametrize("words", [["--image"], ["--nsm-fd", "0"], ["--image", "a", "--image", "b"] * 3])
def test_missing_or_repeated_options_are_refused(image: Path, words: list[str]) -> None:
    command = [sys.executable, "-I", "-B", str(image / "init.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == EXIT_REFUSED
    assert "expected the options" in done.stderr
