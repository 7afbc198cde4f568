"""A real enclave's image from its parts: kernel, command line, ramdisks. No nitro-cli, no Docker, no clock.

nitro-cli's blobs are such parts: with its kernel, command line, `init` and `nsm.ko`, PCR1 is the one nitro-cli's own
images have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from anchorhold.attestation.measure.eif import Architecture, write_eif
from anchorhold.attestation.measure.form import MAX_CMDLINE
from anchorhold.publish.image import ImageRefused, image_metadata

_BZIMAGE = (0x202, b"HdrS")  # Linux, Documentation/arch/x86/boot.rst
_ARM64 = (0x38, b"ARM\x64")  # Linux, Documentation/arch/arm64/booting.rst


@dataclass(frozen=True, slots=True)
class Parts:
    """What an image is made of; `name` and `version` are shown by nitro-cli and measured by nobody."""

    architecture: Architecture
    kernel: bytes
    cmdline: bytes
    ramdisks: Sequence[bytes]
    name: str
    version: str


def kernel_architecture(kernel: bytes) -> Architecture | None:
    """What the kernel says of itself, None if it is neither an x86 bzImage nor an arm64 Image."""
    for (at, magic), architecture in ((_BZIMAGE, Architecture.X86_64), (_ARM64, Architecture.AARCH64)):
        if kernel[at : at + len(magic)] == magic:
            return architecture
    return None


def assemble(parts: Parts) -> bytes:
    """The EIF of `parts`. Raises ImageRefused, or EvidenceError for what no image may hold."""
    found = kernel_architecture(parts.kernel)
    if found not in (None, parts.architecture):
        raise ImageRefused(f"kernel: expected one for {parts.architecture.name.lower()}, got {found.name.lower()}")
    return write_eif(
        architecture=parts.architecture,
        kernel=parts.kernel,
        cmdline=_cmdline(parts.cmdline),
        metadata=image_metadata(parts.name, parts.version, system="unknown", kernel="unknown"),
        ramdisks=parts.ramdisks,
    )


def _cmdline(raw: bytes) -> bytes:
    # nitro-cli trims its blob, so the newline at the end of the file is not measured.
    line = raw.strip()
    if not line or not all(0x20 <= byte < 0x7F for byte in line):
        raise ImageRefused("command line: expected one line of printable ASCII")
    if len(line) > MAX_CMDLINE:
        raise ImageRefused(f"command line: expected at most {MAX_CMDLINE} bytes, got {len(line)}")
    return line
