"""The registers a Nitro hypervisor will report for an image, computed from its bytes alone.

PCR0, 1, 2 and 8 = SHA384(0^48 || SHA384(content)), section data only, in file order
(aws-nitro-enclaves-image-format, eif_hasher.rs); PCR3 and 4 = SHA384(0^48 || text). AWS's formulas, so no label of
ours. PCR0 puts no lengths between sections: PCR1 and 2 pin the split.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from anchorhold.attestation.measure.form import LIMITS, SectionKind
from anchorhold.attestation.measure.listing import Listing, RamdiskLister
from anchorhold.attestation.measure.scan import Layout, Scanner
from anchorhold.attestation.measure.signature import ImageSigner, read_signature

ZERO = bytes(48)
"""What PCR0, 1, 2 and 8 show in debug mode, and every register nobody has extended."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An image that is well formed, its registers, and what lies where in it.

    `digests` is the plain SHA-384 of each section's data, in file order. `listings` is empty unless asked for.
    """

    layout: Layout
    digests: tuple[bytes, ...]
    registers: Mapping[int, bytes]
    cmdline: bytes
    metadata: bytes
    signer: ImageSigner | None
    listings: tuple[Listing, ...]


def measure(eif: bytes) -> dict[int, bytes]:
    """PCR0, 1 and 2 of an image, and PCR8 if it is signed. Raises EvidenceError for any other bytes."""
    return dict(inspect((eif,)).registers)


def inspect(pieces: Iterable[bytes], *, listing: bool = False) -> Measured:
    """Measure an image given in pieces of any size, in the memory of one piece. Raises EvidenceError.

    With `listing`, each ramdisk's entries too.
    """
    sink = _Measuring(listing=listing)
    scanner = Scanner(sink)
    for piece in pieces:
        scanner.feed(piece)
    layout = scanner.finish()
    whole = {kind: bytes(held) for kind, held in sink.held.items()}
    registers = {index: _extended(hasher) for index, hasher in enumerate((sink.image, sink.boot, sink.application))}
    signer = None
    if SectionKind.SIGNATURE in whole:
        signer = read_signature(whole[SectionKind.SIGNATURE], registers[0])
        registers[8] = _extended(hashlib.sha384(signer.certificate))
    return Measured(
        layout,
        tuple(hasher.digest() for hasher in sink.sections),
        registers,
        whole[SectionKind.CMDLINE],
        whole[SectionKind.METADATA],
        signer,
        tuple(lister.finish() for lister in sink.listers),
    )


def coverage(layout: Layout) -> dict[int, tuple[int, ...]]:
    """For each register, the numbers of the sections it covers (PCR8: the section its certificate stands in)."""
    boot = (*layout.of(SectionKind.KERNEL), *layout.of(SectionKind.CMDLINE))
    first, *others = layout.of(SectionKind.RAMDISK)
    covered = {0: (*boot, first, *others), 1: (*boot, first), 2: tuple(others)}
    signature = layout.of(SectionKind.SIGNATURE)
    return covered | ({8: signature} if signature else {})


def measurements(pcrs: Mapping[int, bytes]) -> dict[str, str]:
    """The registers as nitro-cli prints them under `Measurements`."""
    return {"HashAlgorithm": "Sha384 { ... }", **{f"PCR{index}": pcrs[index].hex() for index in sorted(pcrs)}}


def role_register(role_arn: str) -> bytes:
    """PCR3: the IAM role of the parent instance."""
    return hashlib.sha384(ZERO + role_arn.encode("ascii")).digest()


def instance_register(instance_id: str) -> bytes:
    """PCR4: the id of the parent instance. One hash, unlike the registers of content."""
    return hashlib.sha384(ZERO + instance_id.encode("ascii")).digest()


@dataclass
class _Measuring:
    """Three running registers, a digest a section, and the sections small enough to hold."""

    listing: bool
    image: "hashlib._Hash" = field(default_factory=hashlib.sha384)
    boot: "hashlib._Hash" = field(default_factory=hashlib.sha384)
    application: "hashlib._Hash" = field(default_factory=hashlib.sha384)
    sections: list["hashlib._Hash"] = field(default_factory=list)
    held: dict[SectionKind, bytearray] = field(default_factory=dict)
    listers: list[RamdiskLister] = field(default_factory=list)
    _targets: tuple["hashlib._Hash", ...] = ()
    _kind: SectionKind = SectionKind.KERNEL
    _ramdisks: int = 0

    def begin(self, kind: SectionKind) -> None:
        self._kind = kind
        self.sections.append(hashlib.sha384())
        if kind in LIMITS:
            self.held[kind] = bytearray()
        if kind is SectionKind.RAMDISK:
            self._targets = (self.image, self.application if self._ramdisks else self.boot)
            self._ramdisks += 1
            if self.listing:
                self.listers.append(RamdiskLister())
        else:
            self._targets = (self.image, self.boot) if kind in (SectionKind.KERNEL, SectionKind.CMDLINE) else ()

    def take(self, piece: memoryview) -> None:
        for hasher in (*self._targets, self.sections[-1]):
            hasher.update(piece)
        if self._kind in LIMITS:
            self.held[self._kind] += piece
        elif self._kind is SectionKind.RAMDISK and self.listing:
            self.listers[-1].take(piece)


def _extended(content: "hashlib._Hash") -> bytes:
    return hashlib.sha384(ZERO + content.digest()).digest()
