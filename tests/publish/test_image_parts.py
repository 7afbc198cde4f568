"""A real enclave's image from its parts: nothing of the machine that built it is in it."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from anchorhold.attestation.measure.eif import Architecture, SectionKind, read_eif
from anchorhold.attestation.measure.listing import Listed, RamdiskLister
from anchorhold.attestation.measure.pcr import measure
from anchorhold.publish.image import ImageRefused
from anchorhold.publish.image_parts import Parts, assemble, kernel_architecture
from anchorhold.publish.ramdisk import MOUNT_POINTS, RamdiskRefused, boot_ramdisk, root_ramdisk

BZIMAGE = bytes(0x202) + b"HdrS" + bytes(100)
ARM64 = bytes(0x38) + b"ARM\x64" + bytes(100)
COMMAND, ENVIRONMENT = ("python3", "-I", "/app.py"), ("LANG=C",)


def _parts(kernel: bytes = BZIMAGE, cmdline: bytes = b"quiet", arch: Architecture = Architecture.X86_64) -> Parts:
    return Parts(arch, kernel, cmdline, (boot_ramdisk(b"init", b"nsm"), b"root"), "name", "1")


def _entries(ramdisk: bytes) -> dict[str, Listed]:
    lister = RamdiskLister()
    lister.take(memoryview(ramdisk))
    listing = lister.finish()
    assert listing.note == ""
    return {entry.name: entry for entry in listing.entries}


def _folder(at: Path) -> Path:
    (at / "etc").mkdir(parents=True)
    (at / "app.py").write_text("print()\n")
    (at / "run.sh").write_text("#!/bin/sh\n")
    (at / "run.sh").chmod(0o755)
    (at / "etc" / "ünïcode").write_text("x")
    (at / "lib64").symlink_to("lib")
    return at


def test_the_newline_of_a_command_line_file_is_not_measured() -> None:
    """nitro-cli trims its blob: with the newline PCR0 would be another."""
    assert assemble(_parts(cmdline=b"quiet\n")) == assemble(_parts(cmdline=b"quiet"))
    assert read_eif(assemble(_parts(cmdline=b"a b\n"))).of(SectionKind.CMDLINE) == (b"a b",)


def test_a_name_and_version_are_shown_and_not_measured() -> None:
    one = _parts()
    other = Parts(one.architecture, one.kernel, one.cmdline, one.ramdisks, "other", "2")
    assert assemble(one) != assemble(other)
    assert measure(assemble(one)) == measure(assemble(other))


@pytest.mark.parametrize("cmdline", [b"", b"\n", b"a\nb", b"a\0b", b"\xff", b"x" * 2048])
def test_a_command_line_the_kernel_would_read_otherwise_is_refused(cmdline: bytes) -> None:
    with pytest.raises(ImageRefused, match="command line"):
        assemble(_parts(cmdline=cmdline))


def test_a_kernel_says_what_it_runs_on() -> None:
    assert kernel_architecture(BZIMAGE) is Architecture.X86_64
    assert kernel_architecture(ARM64) is Architecture.AARCH64
    assert kernel_architecture(b"kernel") is None


def test_a_kernel_of_another_architecture_is_refused() -> None:
    with pytest.raises(ImageRefused, match="expected one for aarch64, got x86_64"):
        assemble(_parts(arch=Architecture.AARCH64))
    assert read_eif(assemble(_parts(kernel=ARM64, arch=Architecture.AARCH64))).architecture is Architecture.AARCH64


def test_the_boot_ramdisk_is_in_linuxkits_form() -> None:
    """Written out here once more: inodes from 721, device 3:1, 2017-04-18, padded to 512."""
    raw = boot_ramdisk(b"init", None)
    fields = [int(raw[6 + 8 * number : 14 + 8 * number], 16) for number in range(13)]
    assert fields == [721, 0o40755, 0, 0, 2, 1_492_533_000, 0, 3, 1, 0, 0, len("dev") + 1, 0]
    assert len(raw) % 512 == 0
    assert b"000002d1" in raw
    assert list(_entries(raw)) == ["dev", "init"]
    assert list(_entries(boot_ramdisk(b"init", b"driver"))) == ["dev", "init", "nsm.ko"]


def test_a_folder_becomes_the_root_file_system(tmp_path: Path) -> None:
    entries = _entries(root_ramdisk(_folder(tmp_path / "root"), COMMAND, ENVIRONMENT))
    modes = {name: stat.filemode(entry.mode) for name, entry in entries.items()}
    assert modes["rootfs/app.py"] == "-rw-r--r--"
    assert modes["rootfs/run.sh"] == "-rwxr-xr-x"
    assert entries["rootfs/lib64"].target == "lib"
    assert {f"rootfs/{name}" for name in (*MOUNT_POINTS, "etc", "etc/ünïcode")} <= entries.keys()
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries.values()} == {(0, 0, 1_492_533_000)}
    assert b"python3\n-I\n/app.py\n" in root_ramdisk(tmp_path / "root", COMMAND, ENVIRONMENT)


def test_a_folder_of_another_place_user_date_and_mode_gives_the_same_ramdisk(tmp_path: Path) -> None:
    one, other = _folder(tmp_path / "one"), _folder(tmp_path / "elsewhere" / "two")
    for number, path in enumerate(sorted(other.rglob("*"), reverse=True)):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o111 | 0o600)
            os.utime(path, (number, number))
    assert root_ramdisk(one, COMMAND, ENVIRONMENT) == root_ramdisk(other, COMMAND, ENVIRONMENT)


def _pipe(root: Path) -> None:
    os.mkfifo(root / "pipe")


def _file_for_proc(root: Path) -> None:
    (root / "proc").write_text("")


@pytest.mark.parametrize("spoil", [_pipe, _file_for_proc])
def test_what_cannot_be_reproduced_or_mounted_is_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    root = _folder(tmp_path / "root")
    spoil(root)
    with pytest.raises(RamdiskRefused, match="expected a"):
        root_ramdisk(root, COMMAND, ENVIRONMENT)


def test_a_folder_that_is_absent_or_a_command_of_no_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RamdiskRefused, match="expected a folder"):
        root_ramdisk(tmp_path / "absent", COMMAND, ENVIRONMENT)
    with pytest.raises(RamdiskRefused, match="at least one word"):
        root_ramdisk(_folder(tmp_path / "root"), (), ENVIRONMENT)


@pytest.mark.parametrize("item", ["", "two\nlines", "nul\0"])
def test_an_item_that_is_not_one_line_is_refused(tmp_path: Path, item: str) -> None:
    root = _folder(tmp_path / "root")
    for command, environment in (((item,), ENVIRONMENT), (COMMAND, (item,))):
        with pytest.raises(RamdiskRefused, match="cannot stand on one line"):
            root_ramdisk(root, command, environment)
