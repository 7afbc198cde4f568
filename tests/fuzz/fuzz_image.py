"""Any bytes give an image's measurements, a ramdisk's entries or an EvidenceError, nothing else, in bounded time.

What is read as an image writes the same bytes again, measured whole or in pieces; the listing never raises.
"""

from tests.fuzz import seeds as kept
from tests.fuzz.choices import Choices

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.cpio import Entry, Mode, read_cpio, write_cpio
from anchorhold.attestation.measure.eif import read_eif, write_eif, write_image
from anchorhold.attestation.measure.form import Architecture
from anchorhold.attestation.measure.listing import RamdiskLister
from anchorhold.attestation.measure.pcr import inspect, measure

MAX_LEN = 8_192
TOKENS = (b".eif", b"070701", b"TRAILER!!!\0", b"\x00\x04\x00\x00", b"\x1f\x8b\x08", b"070702")
_RAMDISK = write_cpio((Entry("a", Mode.FOLDER), Entry("a/b", Mode.FILE, b"body"), Entry("c", Mode.PROGRAM, b"x")))


def seeds() -> list[bytes]:
    """A whole image, a ramdisk, and the vectors of both."""
    image = write_eif(
        architecture=Architecture.X86_64, kernel=b"k", cmdline=b"c", metadata=b"{}", ramdisks=(_RAMDISK, b"two")
    )
    return [image, _RAMDISK, *kept.under("eif", ".eif", ".cpio", ".bin")]


def one_input(data: bytes) -> None:
    """The same bytes as an image, in pieces, and as a ramdisk."""
    _image(data)
    try:
        entries = read_cpio(data)
    except EvidenceError:
        pass
    else:
        assert write_cpio(entries) == data
    lister = RamdiskLister()
    lister.take(memoryview(data))
    lister.finish()


def _image(data: bytes) -> None:
    choices = Choices(data)
    size = 1 + choices.byte()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    try:
        image = read_eif(data)
    except EvidenceError:
        refused = True
    else:
        refused = False
        assert write_image(image) == data
    try:
        registers = measure(data)
    except EvidenceError:
        # A signature section may be there and not hold: an image that can be read and not measured.
        registers = None
    try:
        streamed = dict(inspect(pieces, listing=True).registers)
    except EvidenceError:
        streamed = None
    assert streamed == registers
    assert not (refused and registers)
