"""What differs between two images: the register, the section, and the file inside the ramdisk."""

import stat

from anchorhold.attestation.measure.cpio import Entry, Mode, tree, write_cpio
from anchorhold.attestation.measure.difference import Difference, difference
from anchorhold.attestation.measure.eif import Architecture, EnclaveImage, read_eif, write_eif, write_image
from anchorhold.attestation.measure.form import SectionKind
from anchorhold.attestation.measure.pcr import Measured, inspect

BOOT = {"init": b"init", "nsm.ko": b"driver"}
ROOT = {"cmd": b"/app\n", "rootfs/app": b"one", "rootfs/etc/conf": b"x=1"}


def _archive(files: dict[str, bytes], mode: Mode = Mode.FILE) -> bytes:
    return write_cpio(tree(Entry(name, mode, body) for name, body in files.items()))


def _image(*ramdisks: bytes, metadata: bytes = b"{}", cmdline: bytes = b"quiet") -> bytes:
    return write_eif(
        architecture=Architecture.X86_64, kernel=b"kernel", cmdline=cmdline, metadata=metadata, ramdisks=ramdisks
    )


def _measured(eif: bytes) -> Measured:
    return inspect((eif,), listing=True)


OLD = _image(_archive(BOOT), _archive(ROOT))


def _found(new: bytes, old: bytes = OLD) -> Difference:
    return difference(_measured(old), _measured(new))


def _files(found: Difference) -> list[tuple[int, str, tuple[str, ...]]]:
    return [(change.ramdisk, change.name, change.what) for change in found.entries]


def test_an_image_does_not_differ_from_itself() -> None:
    found = _found(OLD)
    assert found.same
    assert found == Difference((), (), (), (), ())


def test_one_changed_file_is_named_with_its_ramdisk_and_registers() -> None:
    found = _found(_image(_archive(BOOT), _archive({**ROOT, "rootfs/app": b"two"})))
    assert not found.same
    assert _files(found) == [(2, "rootfs/app", ("contents",))]
    assert found.registers == (0, 2)
    assert [(change.kind, change.number) for change in found.sections] == [(SectionKind.RAMDISK, 2)]


def test_a_changed_init_shows_in_pcr1_and_not_in_pcr2() -> None:
    found = _found(_image(_archive({**BOOT, "init": b"other"}), _archive(ROOT)))
    assert _files(found) == [(1, "init", ("contents",))]
    assert found.registers == (0, 1)


def test_files_added_and_removed_are_named() -> None:
    renamed = {("rootfs/moved" if name == "rootfs/app" else name): body for name, body in ROOT.items()}
    found = _found(_image(_archive(BOOT), _archive(renamed)))
    assert _files(found) == [(2, "rootfs/app", ("removed",)), (2, "rootfs/moved", ("added",))]


def test_a_mode_alone_is_a_change() -> None:
    found = _found(_image(_archive(BOOT, Mode.PROGRAM), _archive(ROOT)))
    assert _files(found) == [(1, "init", ("mode",)), (1, "nsm.ko", ("mode",))]
    [first, _] = found.entries
    assert first.before is not None
    assert first.after is not None
    assert [stat.filemode(one.mode) for one in (first.before, first.after)] == ["-r--r--r--", "-r-xr-xr-x"]


def _field(archive: bytes, number: int, value: int) -> bytes:
    """One field of the first entry's header."""
    at = 6 + 8 * number
    return archive[:at] + b"%08X" % value + archive[at + 8 :]


def test_owner_and_time_are_changes_of_their_own() -> None:
    boot = _archive(BOOT)
    assert _files(_found(_image(_field(boot, 2, 7), _archive(ROOT)))) == [(1, "init", ("owner",))]
    assert _files(_found(_image(_field(boot, 5, 7), _archive(ROOT)))) == [(1, "init", ("time",))]


def test_bytes_that_no_entry_shows_are_said_to_be_another_form() -> None:
    found = _found(_image(_field(_archive(BOOT), 0, 99), _archive(ROOT)))
    assert found.entries == ()
    assert found.registers == (0, 1)
    assert found.notes == ("ramdisk 1: the same entries in another form (order, inodes or padding)",)


def test_a_ramdisk_that_cannot_be_listed_is_compared_as_a_whole_and_says_so() -> None:
    found = _found(_image(_archive(BOOT), b"\xfd7zXZ\0" + bytes(200)))
    assert "ramdisk 2 after: xz: not unpacked here" in found.notes
    assert {what for _, _, what in _files(found)} == {("removed",)}


def test_a_later_entry_of_the_same_name_is_a_change() -> None:
    """The kernel takes the later of two: hiding a file behind its own name is seen."""
    twice = _archive(BOOT) + _archive({"init": b"planted"})
    assert _files(_found(_image(twice, _archive(ROOT)))) == [(1, "init", ("added",))]


def test_a_ramdisk_added_or_removed_is_a_section() -> None:
    found = _found(_image(_archive(BOOT), _archive(ROOT), b"more"))
    assert [(change.number, change.before, change.after is not None) for change in found.sections] == [(3, None, True)]
    assert found.registers == (0, 2)


def test_what_no_register_covers_is_a_difference_too() -> None:
    metadata = _found(_image(_archive(BOOT), _archive(ROOT), metadata=b'{"ImageName":"other"}'))
    assert not metadata.same
    assert metadata.registers == ()
    assert [change.kind for change in metadata.sections] == [SectionKind.METADATA]
    image = read_eif(OLD)
    header = _found(write_image(EnclaveImage(Architecture.AARCH64, image.sections, memory=1, cpus=9)))
    assert header.header == ("architecture", "default memory", "default CPUs")
    moved = (*image.sections[:2], *image.sections[3:], image.sections[2])
    assert _found(write_image(EnclaveImage(image.architecture, moved))).header == ("order of sections",)


def test_the_command_line_is_a_section_of_pcr0_and_1() -> None:
    found = _found(_image(_archive(BOOT), _archive(ROOT), cmdline=b"quiet nokaslr"))
    assert found.registers == (0, 1)
    assert [change.kind for change in found.sections] == [SectionKind.CMDLINE]
