"""Signatures that were made side by side, on copies of one bundle, brought together again.

Only copies of one draft merge: the same list over the same statements. Nothing is verified here; a signature that does
not hold counts for nothing wherever it lies.
"""

from dataclasses import replace

from anchorhold.attestation.release.bundle import BundledStatement, UnverifiedBundle
from anchorhold.attestation.release.signed import UnverifiedSigned
from anchorhold.publish.release import ReleaseRefused


def merge(bundle: UnverifiedBundle, other: UnverifiedBundle) -> UnverifiedBundle:
    """`bundle` with what `other` has beside it. A statement whose signatures grow loses its proof of logging.

    Raises ReleaseRefused for another draft, or EvidenceError where there are more signers than a format holds.
    """
    if bundle.list.payload != other.list.payload:
        mine, theirs = bundle.unverified_list, other.unverified_list
        raise ReleaseRefused(
            f"release list: expected {mine.product} version {mine.version}, {mine.digest.hex()[:16]}, "
            f"got {theirs.product} version {theirs.version}, {theirs.digest.hex()[:16]}"
        )
    if [one.signed.payload for one in bundle.statements] != [one.signed.payload for one in other.statements]:
        raise ReleaseRefused("release bundle: expected the same statements in both")
    return replace(
        bundle,
        list=_together(bundle.list, other.list),
        statements=tuple(_statement(*pair) for pair in zip(bundle.statements, other.statements, strict=True)),
        revocations=_revocations(bundle.revocations, other.revocations),
    )


def _together(one: UnverifiedSigned, other: UnverifiedSigned) -> UnverifiedSigned:
    signatures = {each.signer: each for each in (*other.signatures, *one.signatures)}
    return replace(one, signatures=tuple(signatures[signer] for signer in sorted(signatures)))


def _statement(one: BundledStatement, other: BundledStatement) -> BundledStatement:
    signed = _together(one.signed, other.signed)
    proofs = (each.log for each in (one, other) if each.signed == signed and each.log is not None)
    return replace(one, signed=signed, log=next(proofs, None))


def _revocations(
    ours: tuple[UnverifiedSigned, ...], others: tuple[UnverifiedSigned, ...]
) -> tuple[UnverifiedSigned, ...]:
    merged = {one.payload: one for one in ours}
    for one in others:
        merged[one.payload] = _together(merged[one.payload], one) if one.payload in merged else one
    return tuple(sorted(merged.values(), key=UnverifiedSigned.encode))
