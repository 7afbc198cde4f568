"""Trust anchors: one root is pinned here; a document under any other is simulated, whatever anybody says (DESIGN 2)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from anchorhold.attestation.errors import Malformed, TooLarge

MAX_ROOT_PEM = 16_384  # bytes; the G1 root takes 778
# SHA-256 of the certificate's DER. AWS publishes 8cf60e2b..., which is the SHA-256 of the ZIP file around it.
G1_FINGERPRINT = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A root certificate that the caller trusts; `name` is for people."""

    name: str
    root_der: bytes

    @property
    def simulated(self) -> bool:
        """True for every root that is not pinned in this package."""
        return hashlib.sha256(self.root_der).hexdigest() != G1_FINGERPRINT

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER, hex."""
        return hashlib.sha256(self.root_der).hexdigest()


def anchor_from_pem(name: str, pem: bytes) -> Anchor:
    """The one certificate in `pem`. Raises Malformed or TooLarge."""
    if len(pem) > MAX_ROOT_PEM:
        raise TooLarge(f"root {name!r}", limit=MAX_ROOT_PEM, actual=len(pem))
    try:
        roots = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise Malformed(f"root {name!r}: expected a PEM certificate") from error
    if len(roots) != 1:
        raise Malformed(f"root {name!r}: expected one certificate, got {len(roots)}")
    return Anchor(name, roots[0].public_bytes(Encoding.DER))


def _pinned() -> Anchor:
    anchor = anchor_from_pem("aws-nitro-g1", (Path(__file__).parent / "roots" / "aws_nitro_g1.pem").read_bytes())
    if anchor.fingerprint != G1_FINGERPRINT:
        raise RuntimeError(f"pinned root differs: expected {G1_FINGERPRINT}, got {anchor.fingerprint}")
    return anchor


AWS_NITRO_G1 = _pinned()
