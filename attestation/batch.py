"""Many kept documents at once: the same verdicts as one by one, without the same signatures twice (evidence.md 2.2)."""

from collections.abc import Iterable, Sequence

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.chain import ChainCache
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import Policy
from anchorhold.attestation.verify import Evidence, TimeEvidence, verify_at


def verify_batch(
    raws: Sequence[bytes],
    policy: Policy,
    anchor: Anchor,
    times: TimeEvidence | Sequence[TimeEvidence],
    *,
    cache: ChainCache | None = None,
) -> list[Evidence | EvidenceError]:
    """`verify_at` of each document, in order: the evidence, or the error that it raised.

    `times` is one time evidence for all, or one for each. A `cache` of the caller's outlives this batch. Raises
    ValueError where the lengths differ.
    """
    each: Iterable[TimeEvidence] = [times] * len(raws) if isinstance(times, TimeEvidence) else times
    shared = ChainCache() if cache is None else cache
    return [_verdict(raw, policy, anchor, time, shared) for raw, time in zip(raws, each, strict=True)]


def _verdict(
    raw: bytes, policy: Policy, anchor: Anchor, time: TimeEvidence, cache: ChainCache
) -> Evidence | EvidenceError:
    try:
        return verify_at(raw, policy, anchor, time, cache=cache)
    except EvidenceError as error:
        return error
