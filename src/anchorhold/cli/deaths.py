"""What a transcript folder says about the boots that serve one model: which live, how long their leases are, how they
ended. Read as it stands, unverified: `anchorhold audit verify` is what proves it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.signed import is_release_leaf
from anchorhold.attestation.transcript.bodies import Close, Death, KeyLease, Model
from anchorhold.attestation.transcript.checkpoint import parse_note
from anchorhold.attestation.transcript.entry import Entry, parse_record
from anchorhold.attestation.transcript.tree import TILE_WIDTH, decode_bundle, entries_path
from anchorhold.attestation.types import Milliseconds, ModelDigest

CHECKPOINT = "log/checkpoint"
READ_ATTEMPTS = 20  # of a log in use: each takes milliseconds, and an append cannot overtake them all


@dataclass(slots=True)
class Life:
    """One boot that loaded the model."""

    boot: bytes
    ttl_ms: int = 0
    until_ms: int = 0
    death: Death | None = None
    closed: bool = False

    @property
    def ended(self) -> bool:
        """There is a record of its end."""
        return self.death is not None or self.closed

    def serving(self, now: Milliseconds) -> bool:
        """No record of its end, and a lease that has not run out: one that was killed leaves no record."""
        return not self.ended and now < self.until_ms


class TranscriptUnreadable(Exception):
    """The folder holds no transcript that can be read now."""


def lives(transcript: Path, model: ModelDigest) -> tuple[Life, ...]:
    """Every boot that recorded this model, in order. Raises TranscriptUnreadable."""
    found: dict[bytes, Life] = {}
    leases: dict[bytes, list[KeyLease]] = {}
    for entry in unverified_entries(transcript):
        body = entry.body
        if isinstance(body, Model) and body.model == model:
            found.setdefault(entry.boot, Life(entry.boot))
        elif isinstance(body, KeyLease) and body.adapter is None:
            # An adapter's lease keeps no boot alive.
            leases.setdefault(entry.boot, []).append(body)
        if (life := found.get(entry.boot)) is not None:
            if isinstance(body, Death):
                life.death = body
            life.closed = life.closed or isinstance(body, Close)
    for boot, life in found.items():
        life.ttl_ms = max((lease.ttl_ms for lease in leases.get(boot, [])), default=0)
        life.until_ms = max((lease.until_ms for lease in leases.get(boot, [])), default=0)
    return tuple(found.values())


def unverified_entries(transcript: Path) -> Iterator[Entry]:
    """Every entry under the current checkpoint, in log order. Raises TranscriptUnreadable."""
    yield from (entry for _, entry in numbered_entries(transcript))


def numbered_entries(transcript: Path) -> list[tuple[int, Entry]]:
    """The same, each with its place in the log, where release statements lie between them."""
    # A log that is written to while it is read drops partial bundles: what is gone then is in a newer, larger one.
    for attempt in range(READ_ATTEMPTS):
        try:
            return _entries_now(transcript)
        except FileNotFoundError as error:
            if attempt == READ_ATTEMPTS - 1:
                raise TranscriptUnreadable(f"{str(transcript)!r}: {error}") from error
        except (OSError, ValueError, IndexError, EvidenceError) as error:
            raise TranscriptUnreadable(f"{str(transcript)!r}: {error}") from error
    raise AssertionError("the last attempt returns or raises")


def _entries_now(transcript: Path) -> list[tuple[int, Entry]]:
    entries = []
    size = int(parse_note((transcript / CHECKPOINT).read_bytes()).text.split("\n")[1])
    for start in range(0, size, TILE_WIDTH):
        width = min(TILE_WIDTH, size - start)
        raw = (transcript / "log" / entries_path(start // TILE_WIDTH, width)).read_bytes()
        entries += [
            (index, parse_record(leaf).unverified_entry)
            for index, leaf in enumerate(decode_bundle(raw, width), start)
            if not is_release_leaf(leaf)
        ]
    return entries
