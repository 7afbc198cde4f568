"""An image that AWS's own tool made, and the values that others published for real enclaves."""

import hashlib
import json
import stat
from pathlib import Path

import pytest

from anchorhold.attestation.measure.eif import Architecture, SectionKind, read_eif, write_eif, write_image
from anchorhold.attestation.measure.pcr import inspect, measure
from anchorhold.publish.image_parts import Parts, assemble, kernel_architecture
from anchorhold.publish.ramdisk import boot_ramdisk

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors" / "eif"
# Recorded by public repositories for enclaves on real Graviton hosts, one of them from an attestation document.
PCR1 = "3b4a7e1b5f13c5a1000b3ed32ef8995ee13e9876329f9bc72650b918329ef9cf4e2e4d1e1e37375dab0ba56ba0974d03"
PCR0 = "bb284bdbdb58acc5378b549b0f8aa74663f306dd7f37fe612c2f255ed957d0747ebe5f4e1e521aba45703be7fbb44478"
PCR2 = "fcb50b1cdbd84c5517696f7aec573eb5f725e20856e1c4a8da91288d3830a9a0fa90d1525f8340848665b2d696306a86"
CMDLINE = b"reboot=k panic=30 pci=off nomodules console=ttyS0 random.trust_cpu=on root=/dev/ram0"


@pytest.mark.slow
def test_a_genuine_image_has_the_pcr1_of_real_enclaves(hello: bytes) -> None:
    assert {index: value.hex() for index, value in measure(hello).items()} == {0: PCR0, 1: PCR1, 2: PCR2}


@pytest.mark.slow
def test_a_genuine_image_is_read_and_written_back_byte_for_byte(hello: bytes) -> None:
    image = read_eif(hello)
    assert write_image(image) == hello
    assert image.architecture is Architecture.AARCH64
    assert image.of(SectionKind.CMDLINE) == (CMDLINE,)
    kinds = [section.kind.name for section in image.sections]
    assert kinds == ["KERNEL", "CMDLINE", "METADATA", "RAMDISK", "RAMDISK"]


@pytest.mark.slow
def test_its_ramdisks_are_listed_though_they_are_not_in_our_form(hello: bytes) -> None:
    measured = inspect((hello,), listing=True)
    boot, root = measured.listings
    assert [(entry.name, stat.filemode(entry.mode)) for entry in boot.entries] == [
        ("dev", "drwxr-xr-x"),
        ("init", "-rwxr-xr-x"),
        ("nsm.ko", "-rwxr-xr-x"),
    ]
    assert [entry.name for entry in root.entries if "/" not in entry.name] == ["rootfs", "rootfs", "cmd", "env"]
    assert (boot.note, root.note) == ("", "")
    [shell] = [entry for entry in root.entries if entry.name == "rootfs/lib64"]
    assert shell.target == "lib"


@pytest.mark.slow
def test_from_awss_blobs_alone_pcr1_is_rebuilt(hello: bytes) -> None:
    """Kernel, command line file, init and nsm.ko in: the boot ramdisk is linuxkit's byte for byte."""
    image = read_eif(hello)
    kernel, boot = image.of(SectionKind.KERNEL)[0], image.of(SectionKind.RAMDISK)[0]
    init, driver = (_file(boot, name) for name in (b"init", b"nsm.ko"))
    ramdisk = boot_ramdisk(init, driver)
    assert ramdisk == boot
    assert kernel_architecture(kernel) is Architecture.AARCH64
    parts = Parts(Architecture.AARCH64, kernel, CMDLINE + b"\n", (ramdisk, b"another"), "name", "1")
    assert measure(assemble(parts))[1].hex() == PCR1


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared vectors are not beside this checkout")
def test_published_sets_of_one_ramdisk_follow_the_formula() -> None:
    """PCR0 equals PCR1 and PCR2 is the register of nothing, in ours as in every published set of that shape."""
    known = json.loads((VECTORS / "known-pcrs.json").read_text())
    nothing = hashlib.sha384(bytes(48) + hashlib.sha384(b"").digest()).hexdigest()
    assert known["formula_vectors"][0]["pcr2"] == nothing
    single = [one for one in known["pcr_sets_published"] if one.get("shape") == "single ramdisk"]
    assert single
    for one in single:
        assert (one["pcr0"], one["pcr2"]) == (one["pcr1"], nothing)
    ours = measure(
        write_eif(architecture=Architecture.X86_64, kernel=b"k", cmdline=b"c", metadata=b"{}", ramdisks=(b"only",))
    )
    assert (ours[0], ours[2].hex()) == (ours[1], nothing)


def _file(archive: bytes, name: bytes) -> bytes:
    """The contents of one file, found by hand: not by the code under test."""
    at = 0
    while True:
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        start = at + 110 + fields[11]
        start += -start % 4
        if archive[at + 110 : at + 109 + fields[11]] == name:
            return archive[start : start + fields[6]]
        at = start + fields[6]
        at += -at % 4
