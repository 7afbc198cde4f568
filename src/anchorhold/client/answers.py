"""What comes back whole, each with the receipt over all of it."""

from dataclasses import dataclass, field

from anchorhold.attestation.channel.body import Finish
from anchorhold.attestation.channel.client import VerifiedReceipt
from anchorhold.attestation.channel.pieces import Embedding
from anchorhold.client.session import Session


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer with its verified receipt, from the enclave of `session`, which was one of `sealed_to`.

    `resealed` counts sends that only a hint had answered.
    """

    text: str = field(repr=False)
    finish: Finish
    receipt: VerifiedReceipt
    session: Session
    resealed: int
    sealed_to: tuple[Session, ...] = ()

    @property
    def simulated(self) -> bool:
        """True where the evidence hangs under a root that no silicon stands behind."""
        return self.session.channel.evidence.simulated


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A vector for each text, in their order, with the verified receipt over all of them."""

    vectors: tuple[Embedding, ...] = field(repr=False)
    finish: Finish
    receipt: VerifiedReceipt
    session: Session
    resealed: int
    sealed_to: tuple[Session, ...] = ()
