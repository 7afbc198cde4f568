"""What an auditor brings: whom to believe. Nothing of it comes from the transcript."""

from dataclasses import dataclass
from typing import Protocol

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import Policy
from anchorhold.attestation.release.past import PastRelease, ReleaseNotInForce
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import ConfigDigest, ModelDigest
from anchorhold.attestation.verify import OWN_WORD, Evidence, verify_at


@dataclass(frozen=True, slots=True)
class Deployment:
    """One accepted deployment: root, measurements, configuration and model."""

    name: str
    anchor: Anchor
    policy: Policy
    configuration: ConfigDigest
    model: ModelDigest
    release: PastRelease | None = None
    """The release whose measurements these are, where a list and not a hand pinned them."""


@dataclass(frozen=True, slots=True)
class AuditTrust:
    """The trusted log key, and every deployment that may stand in its log."""

    log: Vkey
    deployments: tuple[Deployment, ...]

    def verify_kept(self, raw: bytes, deployment: Deployment) -> Evidence:
        """A kept document, dated by its own word: there are no witnesses yet. Raises EvidenceError."""
        evidence = verify_at(raw, deployment.policy, deployment.anchor, OWN_WORD)
        if deployment.release is not None:
            deployment.release.check(evidence.timestamp_ms)
        return evidence

    def find(self, raw: bytes) -> tuple[Deployment, Evidence]:
        """The deployment a document belongs to.

        Raises where none takes it: that its release was not in force, else the first deployment's refusal.
        """
        refusal: EvidenceError | None = None
        for deployment in self.deployments:
            try:
                return deployment, self.verify_kept(raw, deployment)
            except EvidenceError as error:
                if refusal is None or isinstance(error, ReleaseNotInForce):
                    refusal = error
        assert refusal is not None  # a trust holds at least one deployment
        raise refusal


class EvidenceStore(Protocol):
    """The attachments of a transcript, by SHA-256."""

    def fetch(self, digest: bytes) -> bytes:
        """The content. Raises EvidenceMissing, or Mismatch where the content has another digest."""
        ...


class EvidenceMissing(EvidenceError):
    """An entry names an attachment that this copy does not hold."""

    code = "evidence-missing"
