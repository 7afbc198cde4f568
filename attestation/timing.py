"""At what time a document is judged, and what that time is worth (docs/spec/evidence.md 4).

A leaf lives three hours, so a kept document is judged at a past time; how we know that time decides how much the
judgement says.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from anchorhold.attestation.chain import Path
from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.types import Milliseconds

CLOCK_LEEWAY = timedelta(seconds=30)  # between the platform's clock and anybody else's


class TimeGrade(Enum):
    """What the time of a judgement rests on, best last among the replayed ones."""

    OWN_WORD = "T0"
    NOT_BEFORE = "T1"
    BOUNDED = "T2"
    WITNESSED = "T3"
    STATED = "stated"
    LIVE = "live"


class TimeSource(Enum):
    """Who says when."""

    DOCUMENT = "document"
    NONCE = "nonce"
    WITNESS = "witness"
    CALLER = "caller"
    CLOCK = "clock"


def _has_no_zone(dated: datetime | None) -> bool:
    return dated is not None and dated.tzinfo is None


@dataclass(frozen=True, slots=True)
class TimeEvidence:
    """A source and the time it gives; only the document's own word has none."""

    source: TimeSource
    dated: datetime | None = None

    def __post_init__(self) -> None:
        # 4.1 Whoever says when gives a time.
        if (self.dated is None) != (self.source is TimeSource.DOCUMENT):
            raise ValueError(f"time evidence of source {self.source.value}: a time is needed unless it is the document")
        # 4.2 A time with its zone.
        if _has_no_zone(self.dated):
            raise ValueError("time evidence: expected a time with its zone")

    def judged_at(self, timestamp_ms: Milliseconds) -> datetime:
        """The time at which the certificates must be valid: the clock's or the caller's, else the document's own."""
        if self.dated is not None and self.source in (TimeSource.CLOCK, TimeSource.CALLER):
            return self.dated
        return moment(timestamp_ms)

    def grade(self, timestamp_ms: Milliseconds, path: Path) -> TimeGrade:
        """What this evidence makes of the document's timestamp. Raises Mismatch where the two contradict each other."""
        signed = moment(timestamp_ms)
        if self.dated is None:
            return TimeGrade.OWN_WORD
        if self.source is TimeSource.CLOCK:
            return TimeGrade.LIVE
        if self.source is TimeSource.CALLER:
            return TimeGrade.STATED
        if self.source is TimeSource.NONCE:
            # 4.3 A document that carries a nonce is not older than the nonce.
            if signed + CLOCK_LEEWAY < self.dated:
                raise Mismatch("document time", expected=f"not before {self.dated.isoformat()}", actual=str(signed))
            return TimeGrade.NOT_BEFORE
        # 4.4 Nobody has seen a document before it was made.
        if signed > self.dated + CLOCK_LEEWAY:
            raise Mismatch("document time", expected=f"not after {self.dated.isoformat()}", actual=str(signed))
        if self.dated <= path.leaf_not_after:
            return TimeGrade.WITNESSED
        bounded = self.dated <= path.shortest_intermediate_not_after
        return TimeGrade.BOUNDED if bounded else TimeGrade.OWN_WORD


OWN_WORD = TimeEvidence(TimeSource.DOCUMENT)
"""The document's own timestamp: a thief of the leaf key can back-date, so this never verifies anything."""


def moment(timestamp_ms: Milliseconds) -> datetime:
    """The time of a millisecond timestamp, UTC."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=timestamp_ms)
