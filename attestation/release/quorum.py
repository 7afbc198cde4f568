"""Who signs releases, and how many of them must (release-statements.md 2). A relying party pins this, out of band.

A signer is two keys together, Ed25519 and ML-DSA-65: either alone counts for nothing, so that both a quantum computer
and a flaw in a young scheme are survived.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import EvidenceError, Malformed
from anchorhold.attestation.release.statement import check_name
from anchorhold.attestation.types import Sha384

MAX_SIGNERS = 16  # with 16 signatures of each kind a statement still fits into one leaf of the log
ED25519_BYTES = 32
ML_DSA_65_BYTES = 1_952  # FIPS 204, table 2
_SIGNER_FIELDS = {"name", "role", "ed25519", "ml_dsa_65"}


class QuorumInvalid(EvidenceError):
    """A quorum that fewer people could meet than its author can have meant."""

    code = "quorum"


class SignerRole(Enum):
    """Whose word a signature is."""

    OWNER = "owner"
    OPERATOR = "operator"
    CUSTOMER = "customer"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class Signer:
    """One signer, as a relying party names and pins them."""

    name: str
    role: SignerRole
    ed25519: bytes
    ml_dsa_65: bytes

    def __post_init__(self) -> None:
        check_name("signer", self.name)
        # Here and not at the first signature: a key that is none would be a signer who never counts.
        self.keys()

    def keys(self) -> tuple[Ed25519PublicKey, MLDSA65PublicKey]:
        """Raises Malformed."""
        for what, raw, size in (
            ("Ed25519 key", self.ed25519, ED25519_BYTES),
            ("ML-DSA-65 key", self.ml_dsa_65, ML_DSA_65_BYTES),
        ):
            if len(raw) != size:
                raise Malformed(f"signer {self.name!r}: {what}: expected {size} bytes, got {len(raw)}")
        try:
            return Ed25519PublicKey.from_public_bytes(self.ed25519), MLDSA65PublicKey.from_public_bytes(self.ml_dsa_65)
        except ValueError as error:
            raise Malformed(f"signer {self.name!r}: not an Ed25519 and an ML-DSA-65 key") from error

    @property
    def identity(self) -> Sha384:
        """What a signature names its signer by: both keys, in no other pairing."""
        return labelled(labels.RELEASES_SIGNER, self.ed25519, self.ml_dsa_65)

    def as_json(self) -> dict[str, str]:
        """As in a trust file."""
        return {
            "name": self.name,
            "role": self.role.value,
            "ed25519": self.ed25519.hex(),
            "ml_dsa_65": self.ml_dsa_65.hex(),
        }


@dataclass(frozen=True, slots=True)
class Quorum:
    """`threshold` of `signers` make a release; `revocation_threshold` end one, which may be fewer and never more."""

    signers: tuple[Signer, ...]
    threshold: int
    revocation_threshold: int

    def __post_init__(self) -> None:
        count = len(self.signers)
        if not 1 <= count <= MAX_SIGNERS:
            raise QuorumInvalid(f"quorum: expected 1 to {MAX_SIGNERS} signers, got {count}")
        if not 1 <= self.threshold <= count:
            raise QuorumInvalid(f"quorum: expected a threshold from 1 to {count}, got {self.threshold}")
        if not 1 <= self.revocation_threshold <= self.threshold:
            raise QuorumInvalid(
                f"quorum: expected a revocation threshold from 1 to {self.threshold}, got {self.revocation_threshold}"
            )
        # A key held under two names would count twice.
        for what in ("name", "ed25519", "ml_dsa_65"):
            if len({getattr(signer, what) for signer in self.signers}) != count:
                raise QuorumInvalid(f"quorum: expected each {what} once")

    def as_json(self) -> dict[str, object]:
        """As in a trust file."""
        return {
            "threshold": self.threshold,
            "revocation_threshold": self.revocation_threshold,
            "signers": [signer.as_json() for signer in self.signers],
        }


def signer_from_json(value: object) -> Signer:
    """`{name, role, ed25519, ml_dsa_65}`, keys in lower-case hex, strictly. Raises Malformed."""
    if not isinstance(value, dict) or value.keys() != _SIGNER_FIELDS:
        raise Malformed(f"signer: expected the fields {sorted(_SIGNER_FIELDS)}")
    name, role = value["name"], value["role"]
    # Before the lookup: a list has no hash.
    if not isinstance(name, str) or not isinstance(role, str) or role not in {one.value for one in SignerRole}:
        roles = ", ".join(one.value for one in SignerRole)
        raise Malformed(f"signer: expected a name, and a role of {roles}, got {name!r:.80} and {role!r:.40}")
    return Signer(name, SignerRole(role), _hex(value, "ed25519"), _hex(value, "ml_dsa_65"))


def quorum_from_json(value: Mapping[str, object]) -> Quorum:
    """The members `threshold`, `revocation_threshold` and `signers` of `value`. Raises Malformed or QuorumInvalid."""
    threshold, revoking = value.get("threshold"), value.get("revocation_threshold")
    signers = value.get("signers")
    if type(threshold) is not int or type(revoking) is not int:
        raise Malformed("quorum: expected whole numbers in threshold and revocation_threshold")
    if not isinstance(signers, list):
        raise Malformed("quorum: expected a list of signers")
    return Quorum(tuple(signer_from_json(one) for one in signers), threshold, revoking)


def _hex(members: Mapping[str, object], name: str) -> bytes:
    text = members[name]
    if not isinstance(text, str) or re.fullmatch(r"(?:[0-9a-f]{2})*", text) is None:
        raise Malformed(f"signer: {name}: expected lower-case hex")
    return bytes.fromhex(text)
