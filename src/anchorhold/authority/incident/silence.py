"""Silence, proved or not: after a revocation nothing was renewed, and the last lease given before it has ended.

An enclave needs a lease from every source, so one authority's proof suffices; a renewal after a revocation, at either,
contradicts it. Leases for class `reseal` are no service and are given by an order of their own: they are counted apart.

Where entries may be missing, as before an accepted rollback and before a journal that a restore began, a lease may have
been given in them until that entry, and what was revoked may have been given back: that entry counts as a grant for the
longest lease, and a revocation stands only after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from anchorhold.attestation.journal import JournalEntry
from anchorhold.attestation.lease import MAX_TTL_MS
from anchorhold.attestation.purpose import RESEAL
from anchorhold.attestation.types import Milliseconds, ModelDigest
from anchorhold.authority.incident.uses import KMS, OWNER, KmsEvent, concerns, is_gap

_LEASING = ("Decrypt",)  # what a KMS-side lease stands on


@dataclass(frozen=True, slots=True)
class Silence:
    """One authority's word about it, by the numbers of its own entries."""

    authority: str
    proved: bool
    why: str
    revoked_seq: int | None
    revoked_at: Milliseconds | None
    last_grant_seq: int | None
    last_lease_end: Milliseconds
    renewed_seqs: tuple[int, ...]
    resealing_seqs: tuple[int, ...]
    entries: int
    asked_at: Milliseconds


def owner_silence(entries: Sequence[JournalEntry], model: ModelDigest, now: Milliseconds) -> Silence:
    """From an owner's verified journal, whole up to `now`, which is that authority's own clock. An adapter's silence is
    proved by its own leases, and a model's without those: an adapter's lease is no leave to serve.

    1. A revocation of the model stands: the first after the last reinstatement, and after the last gap. 2. No lease was
    given after it. 3. The last one given before it has ended, and those that a gap may hide.
    """
    mine = [one for one in entries if concerns(one, model)]
    gaps = [one for one in entries if is_gap(one)]
    reopened = max((one.seq for one in [*gaps, *(one for one in mine if one.type == "reinstate")]), default=-1)
    revoked = next((one for one in mine if one.type == "revoke" and one.seq > reopened), None)
    granted = [one for one in mine if one.type == "release"]
    return _judged(
        OWNER,
        None if revoked is None else (revoked.seq, revoked.t),
        [(one.seq, _end(one)) for one in granted if one.body.get("purpose_class") != RESEAL]
        + [(one.seq, one.t + MAX_TTL_MS) for one in gaps],
        [one.seq for one in granted if one.body.get("purpose_class") == RESEAL],
        len(entries),
        now,
    )


def kms_silence(
    events: Sequence[KmsEvent], key: str, ttl_ms: int, propagation_ms: int, entries: int, now: Milliseconds
) -> Silence:
    """From a KMS's verified journal: a lease there is the enclave's word, a `Decrypt` and the ttl after it.

    1. DisableKey stands: an EnableKey after it counts as undoing it once a boot that serves has used the key again; for
    a resealing alone it does not, and a gap does at once. 2. and 3. as with the owner.
    """
    mine = [one for one in events if one.gap or (key in one.keys and one.allowed)]
    used = [one for one in mine if one.name in _LEASING]
    disabled = _disabled(mine)
    return _judged(
        KMS,
        None if disabled is None else (disabled.seq, disabled.t),
        [(one.seq, one.t + ttl_ms + propagation_ms) for one in used if one.purpose_class != RESEAL]
        + [(one.seq, one.t + MAX_TTL_MS + propagation_ms) for one in mine if one.gap],
        [one.seq for one in used if one.purpose_class == RESEAL],
        entries,
        now,
    )


def proved(found: Sequence[Silence]) -> bool:
    """Whether silence is proved by what all these authorities say together."""
    return any(one.proved for one in found) and not any(one.renewed_seqs for one in found)


def _disabled(events: Sequence[KmsEvent]) -> KmsEvent | None:
    disabled: KmsEvent | None = None
    enabled = False
    for one in events:
        if one.gap:
            disabled, enabled = None, False
        elif one.name == "DisableKey":
            disabled, enabled = disabled or one, False
        elif one.name == "EnableKey":
            enabled = True
        elif enabled and one.name in _LEASING and one.purpose_class != RESEAL:
            disabled = None
    return disabled


def _end(entry: JournalEntry) -> int:
    end = entry.body.get("not_after_ms")
    return end if isinstance(end, int) else 0


def _judged(
    authority: str,
    revoked: tuple[int, Milliseconds] | None,
    granted: Sequence[tuple[int, int]],
    resealing: Sequence[int],
    entries: int,
    now: Milliseconds,
) -> Silence:
    since = None if revoked is None else revoked[0]
    renewed = tuple(seq for seq, _ in granted if since is not None and seq > since)
    end = max((end for _, end in granted), default=0)
    if revoked is None:
        why = "no revocation stands"
    elif renewed:
        why = f"entry {renewed[0]} gave a lease after the revocation in entry {since}"
    elif now < end:
        why = f"the last lease ends at {end}, which is {end - now} ms away"
    else:
        why = f"revoked in entry {since}, nothing given after it, the last lease ended at {end}"
    return Silence(
        authority=authority,
        proved=revoked is not None and not renewed and now >= end,
        why=why,
        revoked_seq=since,
        revoked_at=None if revoked is None else revoked[1],
        last_grant_seq=max((seq for seq, _ in granted), default=None),
        last_lease_end=Milliseconds(end),
        renewed_seqs=renewed,
        resealing_seqs=tuple(resealing),
        entries=entries,
        asked_at=now,
    )
