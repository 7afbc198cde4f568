"""The registers a Nitro hypervisor will report for an image, computed from its bytes alone.

PCR0, 1, 2 and 8 = SHA384(0^48 || SHA384(content)), section data only, in file order
(aws-nitro-enclaves-image-format, eif_hasher.rs); PCR3 and 4 = SHA384(0^48 || text). AWS's formulas, so no label of
ours. PCR0 puts no lengths between sections: PCR1 and 2 pin the split.
"""

import hashlib
from collections.abc import Mapping

from anchorhold.attestation.measure.eif import SectionKind, read_eif
from anchorhold.attestation.measure.signature import signing_certificate

ZERO = bytes(48)
"""What PCR0, 1, 2 and 8 show in debug mode, and every register nobody has extended."""

_MEASURED = (SectionKind.KERNEL, SectionKind.CMDLINE, SectionKind.RAMDISK)


def measure(eif: bytes) -> dict[int, bytes]:
    """PCR0, 1 and 2 of an image, and PCR8 if it is signed. Raises EvidenceError for any other bytes."""
    image = read_eif(eif)
    content = [section.body for section in image.sections if section.kind in _MEASURED]
    ramdisks = image.of(SectionKind.RAMDISK)
    boot = (*image.of(SectionKind.KERNEL), *image.of(SectionKind.CMDLINE), ramdisks[0])
    pcrs = {0: _register(*content), 1: _register(*boot), 2: _register(*ramdisks[1:])}
    for signature in image.of(SectionKind.SIGNATURE):
        pcrs[8] = _register(signing_certificate(signature, pcrs[0]))
    return pcrs


def measurements(pcrs: Mapping[int, bytes]) -> dict[str, str]:
    """The registers as nitro-cli prints them under `Measurements`."""
    return {"HashAlgorithm": "Sha384 { ... }", **{f"PCR{index}": pcrs[index].hex() for index in sorted(pcrs)}}


def role_register(role_arn: str) -> bytes:
    """PCR3: the IAM role of the parent instance."""
    return hashlib.sha384(ZERO + role_arn.encode("ascii")).digest()


def instance_register(instance_id: str) -> bytes:
    """PCR4: the id of the parent instance. One hash, unlike the registers of content."""
    return hashlib.sha384(ZERO + instance_id.encode("ascii")).digest()


def _register(*content: bytes) -> bytes:
    inner = hashlib.sha384()
    for part in content:
        inner.update(part)
    return hashlib.sha384(ZERO + inner.digest()).digest()
