"""One thing and who signed it (release-statements.md 3): the form of statement, list and revocation alike.

`[kind, payload, [[signer, ed25519, ml_dsa_65], ...]]` in canonical CBOR. Both signatures are COSE_Sign1 over the
labelled digest of the payload, with the kind's own label as external_aad. A statement in this form is a leaf of logs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, decode, encode
from anchorhold.attestation.cose import Algorithm, PublicKey, parse_sign1
from anchorhold.attestation.digest import labelled, same
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, WrongAlgorithm
from anchorhold.attestation.release.quorum import MAX_SIGNERS, Quorum, Signer
from anchorhold.attestation.release.statement import (
    MAX_LIST,
    MAX_REVOCATION,
    ReleaseDigest,
    ReleaseStatement,
    check_sorted,
)
from anchorhold.attestation.transcript.tree import MAX_ENTRY
from anchorhold.attestation.types import SHA384_BYTES, Sha384

MAX_ED25519 = 192  # bytes; the COSE_Sign1 over a digest takes 123
MAX_ML_DSA_65 = 3_456  # bytes; it takes 3,370
MAX_SIGNED_LIST = MAX_LIST + MAX_SIGNERS * 3_712  # bytes; signers with both signatures and their framing
MAX_SIGNED_REVOCATION = MAX_REVOCATION + MAX_SIGNERS * 3_712
MAX_SIGNED_HEARTBEAT = MAX_SIGNED_REVOCATION  # its payload is as small


class Kind(Enum):
    """What is signed."""

    STATEMENT = "release-statement"
    LIST = "release-list"
    REVOCATION = "release-revocation"
    HEARTBEAT = "release-heartbeat"


@dataclass(frozen=True, slots=True)
class _Rules:
    digest: bytes
    signature: bytes
    whole: int


_RULES: Mapping[Kind, _Rules] = {
    Kind.STATEMENT: _Rules(labels.RELEASES_STATEMENT, labels.RELEASES_STATEMENT_SIGNATURE, MAX_ENTRY),
    Kind.LIST: _Rules(labels.RELEASES_LIST, labels.RELEASES_LIST_SIGNATURE, MAX_SIGNED_LIST),
    Kind.REVOCATION: _Rules(labels.RELEASES_REVOCATION, labels.RELEASES_REVOCATION_SIGNATURE, MAX_SIGNED_REVOCATION),
    Kind.HEARTBEAT: _Rules(labels.RELEASES_HEARTBEAT, labels.RELEASES_HEARTBEAT_SIGNATURE, MAX_SIGNED_HEARTBEAT),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """Both signatures of one signer, unverified. `signer` says whose they claim to be."""

    signer: Sha384
    ed25519: bytes
    ml_dsa_65: bytes


@dataclass(frozen=True, slots=True)
class UnverifiedSigned:
    """Parsed, and nobody has checked a signature. `signatures` are sorted by signer, each signer once."""

    kind: Kind
    payload: bytes
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        if len(self.signatures) > MAX_SIGNERS:
            raise Malformed(f"{self.kind.value}: expected at most {MAX_SIGNERS} signers, got {len(self.signatures)}")
        check_sorted(f"{self.kind.value}: signers", tuple(one.signer for one in self.signatures))

    @property
    def digest(self) -> Sha384:
        """What both algorithms sign; for a statement the digest it is named by."""
        return labelled(_RULES[self.kind].digest, self.payload)

    def encode(self) -> bytes:
        """The canonical bytes."""
        return encode([
            self.kind.value,
            self.payload,
            [[one.signer, one.ed25519, one.ml_dsa_65] for one in self.signatures],
        ])  # fmt: skip

    def signers(self, quorum: Quorum) -> tuple[Signer, ...]:
        """Those of the quorum whose two signatures both hold, each once, in the quorum's order."""
        return tuple(signer for signer, fault in self._judged(quorum) if fault is None)

    def faults(self, quorum: Quorum) -> tuple[str, ...]:
        """For people: who of the quorum does not count, and why."""
        return tuple(f"{signer.name}: {fault}" for signer, fault in self._judged(quorum) if fault is not None)

    def _judged(self, quorum: Quorum) -> list[tuple[Signer, str | None]]:
        given = {one.signer: one for one in self.signatures}
        return [(signer, self._fault(signer, given.get(signer.identity))) for signer in quorum.signers]

    def _fault(self, signer: Signer, given: Signature | None) -> str | None:
        if given is None:
            return "did not sign"
        ed25519, ml_dsa_65 = signer.keys()
        try:
            self._check(given.ed25519, Algorithm.EDDSA, ed25519, MAX_ED25519)
            self._check(given.ml_dsa_65, Algorithm.ML_DSA_65, ml_dsa_65, MAX_ML_DSA_65)
        except EvidenceError as error:
            return str(error)
        return None

    def _check(self, raw: bytes, algorithm: Algorithm, key: PublicKey, limit: int) -> None:
        parsed = parse_sign1(raw, algorithm.name, limit=limit)
        if parsed.algorithm is not algorithm or not parsed.tagged:
            raise WrongAlgorithm(f"expected a tagged {algorithm.name} signature, got {parsed.algorithm.name}")
        signed = parsed.verify(key, aad=_RULES[self.kind].signature, what=algorithm.name)
        if not same(signed, self.digest):
            raise Mismatch(f"{algorithm.name}: digest signed", expected=self.digest, actual=signed)


_LEAF_HEAD = b"\x83" + encode(Kind.STATEMENT.value)  # a list of three, the first of them this text


def signature_label(kind: Kind) -> bytes:
    """The external_aad of both signatures over a thing of this kind."""
    return _RULES[kind].signature


def parse_signed(raw: bytes, kind: Kind) -> UnverifiedSigned:
    """Strictly. Raises Malformed, NotCanonical or TooLarge."""
    what = kind.value
    members = decode(raw, what, limit=_RULES[kind].whole)
    if not isinstance(members, list) or len(members) != 3:
        raise Malformed(f"{what}: expected a list of 3")
    named, payload, signatures = members
    if named != kind.value:
        raise Mismatch(f"{what}: kind", expected=kind.value, actual=named)
    if not isinstance(payload, bytes) or not isinstance(signatures, list):
        raise Malformed(f"{what}: expected bytes, then a list of signatures")
    return UnverifiedSigned(kind, payload, tuple(_signature(one, what) for one in signatures))


def statement_digest(signed: UnverifiedSigned) -> ReleaseDigest:
    """The digest a list names this statement by."""
    return ReleaseDigest(signed.digest)


def is_release_leaf(raw: bytes) -> bool:
    """Whether a leaf of the log is a signed release statement in form. Nothing about it is verified."""
    # Records of enclaves are the other leaves; most leaves are told apart by their first bytes.
    if not raw.startswith(_LEAF_HEAD):
        return False
    try:
        parse_release_leaf(raw)
    except EvidenceError:
        return False
    return True


def parse_release_leaf(raw: bytes) -> ReleaseStatement:
    """A leaf of the log that is a signed release statement: its form alone is judged. Raises EvidenceError."""
    signed = parse_signed(raw, Kind.STATEMENT)
    if not signed.signatures:
        raise Malformed("release-statement: expected a signature, got none")
    return ReleaseStatement.decode(signed.payload)


def _signature(value: Value, what: str) -> Signature:
    if not isinstance(value, list) or len(value) != 3:
        raise Malformed(f"{what}: signature: expected a list of 3")
    signer, ed25519, ml_dsa_65 = value
    if not isinstance(signer, bytes) or not isinstance(ed25519, bytes) or not isinstance(ml_dsa_65, bytes):
        raise Malformed(f"{what}: signature: expected a signer and two signatures, all bytes")
    if len(signer) != SHA384_BYTES:
        raise Malformed(f"{what}: signer: expected {SHA384_BYTES} bytes, got {len(signer)}")
    if len(ed25519) > MAX_ED25519 or len(ml_dsa_65) > MAX_ML_DSA_65:
        raise Malformed(f"{what}: signatures: expected at most {MAX_ED25519} and {MAX_ML_DSA_65} bytes")
    return Signature(Sha384(signer), ed25519, ml_dsa_65)
