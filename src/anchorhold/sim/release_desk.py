"""The release desk of a simulated stack: an owner and an operator who sign the image that this run built, two of two.

What people do with `anchorhold release make|sign|log`, through the same functions. The list names one release, that of
today's image; an image of yesterday is accepted no more, and one that was revoked is not released again.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from anchorhold import __version__
from anchorhold.attestation.release.bundle import BundledStatement, UnverifiedBundle
from anchorhold.attestation.release.pin import ReleasePin
from anchorhold.attestation.release.quorum import Quorum, SignerRole
from anchorhold.attestation.release.signed import Kind, UnverifiedSigned, statement_digest
from anchorhold.attestation.release.statement import ReleaseDigest, ReleaseStatement, Revocation
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.publish.release import (
    ReleaseSigner,
    create_signer,
    load_signer,
    new_bundle,
    read_bundle,
    sign_bundle,
    write_bundle,
)
from anchorhold.publish.release_log import Append, log_statements
from anchorhold.sim.processes import StackError

PRODUCT = "anchorhold-sim"
LIST_FILE = "releases.cbor"
SIGNERS = (SignerRole.OWNER, SignerRole.OPERATOR)
LIFE_MS = 90 * 86_400_000  # of a statement; a run in its second half signs it again
MEASURED = (0, 1, 2)
Ended = Mapping[ReleaseDigest, tuple[BundledStatement, Revocation]]


class ReleaseDesk:
    """The signers and the list of one state folder; both outlive a run, so that versions only grow."""

    def __init__(self, state: Path) -> None:
        self.list = state / LIST_FILE
        folders = [state / "release" / role.value for role in SIGNERS]
        for folder, role in zip(folders, SIGNERS, strict=True):
            if not folder.exists():
                create_signer(folder, role.value, role)
        self.signers: tuple[ReleaseSigner, ...] = tuple(load_signer(folder) for folder in folders)

    def pin(self, source: str | None) -> ReleasePin:
        """What a trust file says of this desk: both must sign a release, either may end one."""
        quorum = Quorum(tuple(signer.public for signer in self.signers), len(self.signers), 1)
        return ReleasePin(PRODUCT, quorum, source)

    def publish(self, image: Mapping[int, bytes], log: Vkey, append: Append, now: Milliseconds) -> UnverifiedBundle:
        """The next list, naming `image` alone, signed by all and logged.

        Raises EvidenceError, PublishError, or StackError for an image whose release was revoked.
        """
        before = read_bundle(self.list) if self.list.exists() else None
        bundle = self._next(before, {index: image[index] for index in MEASURED}, now)
        for signer in self.signers:
            bundle = sign_bundle(bundle, signer)
        bundle = log_statements(bundle, append, log)
        write_bundle(self.list, bundle)
        return bundle

    def _next(
        self, before: UnverifiedBundle | None, measured: Mapping[int, bytes], now: Milliseconds
    ) -> UnverifiedBundle:
        name = f"{__version__}+{measured[0].hex()[:12]}"
        end = Milliseconds(now + LIFE_MS)
        fresh = ReleaseStatement(PRODUCT, name, Platform.SIMULATED, (measured,), now, end)
        bundle = new_bundle([fresh], issued_at=now)
        if before is None:
            return bundle
        ended = self._ended(before, now)
        _refuse_revoked(ended, measured)
        # The statement of an unchanged image stands as it was signed and logged, and revocations stay what they are.
        kept = next((one for one in before.statements if _still(one, fresh, now)), bundle.statements[0])
        listed = replace(
            bundle.unverified_list,
            version=before.unverified_list.version + 1,
            statements=(statement_digest(kept.signed),),
            revoked=tuple(revocation for _, (_, revocation) in sorted(ended.items())),
        )
        statements = sorted((kept, *(one for one, _ in ended.values())), key=lambda one: one.signed.digest)
        return UnverifiedBundle(UnverifiedSigned(Kind.LIST, listed.encode(), ()), listed, tuple(statements), ())

    def _ended(self, before: UnverifiedBundle, now: Milliseconds) -> Ended:
        """What a signer of this desk has revoked and would still be in force."""
        quorum = self.pin(None).quorum
        signed = [Revocation.decode(one.payload) for one in before.revocations if one.signers(quorum)]
        revoked = {one.digest: one for one in (*signed, *before.unverified_list.revoked)}
        named = {statement_digest(one.signed): one for one in before.statements}
        return {
            digest: (named[digest], revocation)
            for digest, revocation in revoked.items()
            if digest in named and named[digest].unverified_statement.not_after > now
        }


def _refuse_revoked(ended: Ended, measured: Mapping[int, bytes]) -> None:
    """Signed anew it would have another digest, and nobody would have meant to take the revocation back."""
    for one, _ in ended.values():
        if one.unverified_statement.holds(measured):
            raise StackError(
                f"the release of this image was revoked: {one.unverified_statement.release!r}",
                hint="change the image, or begin anew with another --state DIR",
            )


def _still(one: BundledStatement, fresh: ReleaseStatement, now: Milliseconds) -> bool:
    said = one.unverified_statement
    same = (said.release, said.platform, said.measurements) == (fresh.release, fresh.platform, fresh.measurements)
    return same and said.not_before <= now and said.not_after - now >= LIFE_MS // 2
