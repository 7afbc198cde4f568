"""The last receipts, in memory: verified, found again by id, handed out in the form an auditor takes."""

from collections import OrderedDict
from dataclasses import dataclass, field

from anchorhold.attestation.channel.client import VerifiedReceipt
from anchorhold.attestation.transcript.kept import KeptReceipt
from anchorhold.attestation.types import Milliseconds

MAX_RECEIPTS = 256  # about 1 kB each; older ones are dropped: whoever needs them for longer fetches them


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A receipt, and what is shown of it beside. Nothing of the conversation is in it."""

    id: str
    task: str
    outcome: str
    """`stop`, `length`, or the code of a refusal."""
    tokens: tuple[int, int] | None
    at: Milliseconds
    receipt: VerifiedReceipt = field(repr=False)

    def summary(self) -> dict[str, object]:
        """For the status."""
        receipt = self.receipt.receipt
        return {
            "id": self.id,
            "at": self.at,
            "task": self.task,
            "outcome": self.outcome,
            "prompt_tokens": None if self.tokens is None else self.tokens[0],
            "completion_tokens": None if self.tokens is None else self.tokens[1],
            "purpose": receipt.purpose,
            "sequence": receipt.sequence,
            "model": receipt.model.hex(),
            "statement": receipt.statement.hex(),
            "commitment": self.receipt.commitment.hex(),
            "tag": self.receipt.tag.hex(),
        }

    def file(self) -> bytes:
        """What `anchorhold audit verify --receipt` takes."""
        return KeptReceipt(self.receipt.raw, self.receipt.salt, self.receipt.tag).encode()


class Receipts:
    """The last `limit` of them."""

    def __init__(self, limit: int = MAX_RECEIPTS) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, KeptAnswer] = OrderedDict()

    def keep(
        self, task: str, outcome: str, tokens: tuple[int, int] | None, receipt: VerifiedReceipt, at: Milliseconds
    ) -> str:
        """Its id: the head of its commitment, which is what the log has of it."""
        named = receipt.commitment[:16].hex()
        self._kept[named] = KeptAnswer(named, task, outcome, tokens, at, receipt)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return named

    def find(self, named: str) -> KeptAnswer | None:
        return self._kept.get(named)

    def file(self, named: str) -> bytes | None:
        """What an auditor takes, None where it is not kept (any more)."""
        found = self.find(named)
        return None if found is None else found.file()

    def last(self, count: int) -> tuple[KeptAnswer, ...]:
        """The latest first."""
        return tuple(reversed(self._kept.values()))[:count]
