"""The image: one for one source, whatever machine built it, and not one byte of the measured set is free."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import anchorhold
from anchorhold.attestation.measure.cpio import Mode, read_cpio
from anchorhold.attestation.measure.eif import SectionKind, read_eif
from anchorhold.attestation.measure.pcr import measure
from anchorhold.attestation.types import Platform
from anchorhold.publish.image import INIT_SOURCE, ImageRefused, build_image, read_trees

PACKAGE = Path(anchorhold.__file__).parent
LOCK = b"torch==2.13.0 --hash=sha256:00\n"


def _flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:] if content else b"#"


def _copy(to: Path) -> Path:
    """This installation's package as plain folders, as a wheel lays it out."""
    package = to / "anchorhold"
    package.mkdir(parents=True)
    shutil.copy(PACKAGE / "__init__.py", package)
    for folder in ("wire", "enclave", "attestation"):
        shutil.copytree((PACKAGE / folder).resolve(), package / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return package


def test_a_flipped_byte_in_any_measured_file_changes_pcr0(capsys: pytest.CaptureFixture[str]) -> None:
    trees = read_trees(PACKAGE)
    genuine = measure(build_image(trees, LOCK, Platform.SIMULATED))
    seen = {genuine[0]}
    for name, source in trees.items():
        pcrs = measure(build_image({**trees, name: _flipped(source)}, LOCK, Platform.SIMULATED))
        assert pcrs[0] not in seen, name
        assert pcrs[2] != genuine[2], name
        seen.add(pcrs[0])
    pcrs = measure(build_image(trees, _flipped(LOCK), Platform.SIMULATED))
    assert pcrs[0] not in seen
    assert pcrs[1] != genuine[1]
    with capsys.disabled():
        os.write(1, f"\n{len(trees)} measured files and the lock: each changes PCR0\n".encode())


def test_a_file_added_renamed_or_taken_away_changes_pcr0() -> None:
    trees = read_trees(PACKAGE)
    genuine = measure(build_image(trees, LOCK, Platform.SIMULATED))[0]
    name, source = next((name, source) for name, source in trees.items() if name != INIT_SOURCE)
    fewer = {other: kept for other, kept in trees.items() if other != name}
    for changed in (fewer, {**fewer, f"{name}x": source}, {**trees, "anchorhold/enclave/more.py": b""}):
        assert measure(build_image(changed, LOCK, Platform.SIMULATED))[0] != genuine


def test_the_image_is_the_same_from_another_path_time_mode_and_order(tmp_path: Path) -> None:
    package = _copy(tmp_path / "elsewhere")
    for number, path in enumerate(sorted(package.rglob("*"), reverse=True)):
        path.chmod(0o700)
        os.utime(path, (number, number))
    theirs = read_trees(package)
    ours = read_trees(PACKAGE)
    shuffled = {name: ours[name] for name in sorted(ours, key=lambda name: name[::-1])}
    assert build_image(theirs, LOCK, Platform.SIMULATED) == build_image(shuffled, LOCK, Platform.SIMULATED)


def test_no_path_user_or_bytecode_is_in_the_image(tmp_path: Path) -> None:
    package = _copy(tmp_path)
    cache = package / "enclave" / "__pycache__"
    cache.mkdir()
    (cache / "boot.cpython-311.pyc").write_bytes(b"planted")
    trees = read_trees(package)
    assert trees == read_trees(PACKAGE)
    eif = build_image(trees, LOCK, Platform.SIMULATED)
    for trace in (str(tmp_path).encode(), str(PACKAGE.parent.parent).encode(), b"planted", b"pycache/"):
        assert trace not in eif


def test_the_image_holds_exactly_the_measured_set() -> None:
    trees = read_trees(PACKAGE)
    image = read_eif(build_image(trees, LOCK, Platform.SIMULATED))
    first, second = (read_cpio(raw) for raw in image.of(SectionKind.RAMDISK))
    assert {entry.name: entry.body for entry in first} == {"enclave.lock": LOCK, "init.py": trees[INIT_SOURCE]}
    files = {entry.name: entry.body for entry in second if entry.mode is not Mode.FOLDER}
    assert files.keys() == trees.keys() | {"cmd", "env"}
    assert all(files[name] == source for name, source in trees.items())
    assert {name.split("/")[1] for name in trees} == {"__init__.py", "attestation", "enclave", "wire"}


def test_the_placeholders_call_themselves_placeholders() -> None:
    image = read_eif(build_image(read_trees(PACKAGE), LOCK, Platform.SIMULATED))
    assert b"placeholder" in image.of(SectionKind.KERNEL)[0]
    assert b"placeholder" in image.of(SectionKind.CMDLINE)[0]
    assert b"simulated" in image.of(SectionKind.METADATA)[0]


def _link(package: Path) -> None:
    (package / "enclave" / "linked.py").symlink_to(package / "__init__.py")


def _link_folder(package: Path) -> None:
    (package / "enclave" / "linked").symlink_to(package / "wire")


def _library(package: Path) -> None:
    (package / "enclave" / "fast.so").write_bytes(b"\x7fELF")


def _hidden(package: Path) -> None:
    (package / "attestation" / ".swap.py").write_bytes(b"")


def _stray_bytecode(package: Path) -> None:
    (package / "attestation" / "cose.pyc").write_bytes(b"")


def _pipe(package: Path) -> None:
    os.mkfifo(package / "wire" / "pipe.py")


def _no_folder(package: Path) -> None:
    shutil.rmtree(package / "wire")


@pytest.mark.parametrize("spoil", [_link, _link_folder, _library, _hidden, _stray_bytecode, _pipe, _no_folder])
def test_what_is_not_source_is_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    package = _copy(tmp_path)
    spoil(package)
    with pytest.raises(ImageRefused):
        read_trees(package)


def test_a_set_without_its_init_is_refused() -> None:
    trees = read_trees(PACKAGE)
    del trees[INIT_SOURCE]
    with pytest.raises(ImageRefused, match=r"init\.py"):
        build_image(trees, LOCK, Platform.SIMULATED)


def test_the_measured_set_alone_is_no_image_of_a_real_enclave() -> None:
    with pytest.raises(ImageRefused, match="from its parts"):
        build_image(read_trees(PACKAGE), LOCK, Platform.NITRO_ENCLAVE)
