"""Which releases hold at a moment: numbered steps (docs/spec/release-statements.md 5). Bytes and time are arguments.

The list is refused whole, or each statement in it is accepted or refused with a code. Accepted is only what k people
of the relying party's own quorum signed, twice each, and nobody revoked.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import InitVar, dataclass
from types import MappingProxyType

from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.policy import DEFAULT_MAX_AGE_MS, PcrIndex, Policy, PolicyInvalid
from anchorhold.attestation.release.bundle import BundledStatement, UnverifiedBundle
from anchorhold.attestation.release.quorum import Quorum, Signer
from anchorhold.attestation.release.signed import UnverifiedSigned, statement_digest
from anchorhold.attestation.release.statement import ReleaseDigest, ReleaseList, ReleaseStatement, Revocation
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import ConfigDigest, Milliseconds, Platform, Sha384

LIST_LEEWAY_MS = 300_000  # a signing desk's clock and a client's may differ by five minutes (Kerberos, RFC 4120 5.2)
DEFAULT_MAX_LIST_AGE_MS = Milliseconds(7 * 86_400_000)
_SEAL = object()

NOT_SIGNED = "release-threshold"
OTHER_PRODUCT = "release-product"
REVOKED = "release-revoked"
NOT_YET = "release-not-yet"
EXPIRED = "release-expired"
NOT_LOGGED = "release-not-logged"
NOT_LISTED = "release-not-listed"
"""Why a statement is refused, in the order of the checks but the last: a revocation is named before all else."""


class ListRefused(EvidenceError):
    """A release list that may not be used; `code` says which rule it breaks."""

    code = "list"


class NoAcceptedRelease(ListRefused):
    """A list that holds, of which no statement does. `refused` has each with its code.

    The list itself was verified, so its version counts for who remembers versions.
    """

    code = "no-accepted-release"

    def __init__(self, listed: ReleaseList, refused: Sequence[tuple[ReleaseStatement, str]]) -> None:
        named = ", ".join(f"{one.release}: {code}" for one, code in refused) or "the list is empty"
        super().__init__(f"release list: expected an accepted release, got none: {named}")
        self.version = listed.version
        self.issued_at = listed.issued_at
        self.digest = listed.digest
        self.refused = tuple(refused)


@dataclass(frozen=True, slots=True)
class AcceptedReleases:
    """What a verified list accepts at the moment it was verified for. Only `verify_releases` makes one."""

    product: str
    version: int
    issued_at: Milliseconds
    digest: Sha384
    """Of the list: two lists of one version with two digests are two histories."""
    accepted: tuple[ReleaseStatement, ...]
    refused: tuple[tuple[ReleaseStatement, str], ...]
    signers: Mapping[ReleaseDigest, tuple[Signer, ...]]
    """Who signed each accepted statement."""
    list_signers: tuple[Signer, ...]
    logged: bool
    """Whether inclusion in a log was demanded of every accepted statement."""
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("AcceptedReleases comes from verify_releases only")

    def policy(
        self,
        *,
        configuration: ConfigDigest | None,
        max_age_ms: Milliseconds = DEFAULT_MAX_AGE_MS,
        platform: Platform | None = None,
    ) -> Policy:
        """The policy that takes an enclave of any accepted release, with register 16 for `configuration`.

        `platform` chooses where the list holds several. Raises PolicyInvalid.
        """
        chosen = [one for one in self.accepted if platform in (None, one.platform)]
        platforms = frozenset(one.platform for one in chosen)
        if len(platforms) != 1:
            names = sorted(one.value for one in platforms)
            raise PolicyInvalid(f"releases: expected accepted releases of one platform, got {names}")
        if configuration is not None and Platform.NITRO_TPM in platforms:
            raise PolicyInvalid("releases: nitro-tpm binds its configuration in register 12, not in 16")
        extra = {} if configuration is None else {int(PcrIndex.CONFIGURATION): pcr16(configuration)}
        named = [
            (f"{statement.product} {statement.release}", {**one, **extra})
            for statement in chosen
            for one in statement.measurements
        ]
        # Two statements of one release may repeat a set, with other dates.
        unique = [pair for number, pair in enumerate(named) if pair not in named[:number]]
        return Policy(platforms, tuple(one for _, one in unique), max_age_ms, tuple(name for name, _ in unique))

    def refusal(self, pcrs: Mapping[int, bytes]) -> str | None:
        """Why an enclave with these registers is not accepted: a refused release's code, None where no release fits."""
        if any(one.holds(pcrs) for one in self.accepted):
            return None
        return next((code for one, code in self.refused if one.holds(pcrs)), None)


def verify_releases(
    raw: bytes,
    quorum: Quorum,
    *,
    product: str,
    now: Milliseconds,
    max_list_age: Milliseconds,
    version_floor: int,
    log: Vkey | None,
) -> AcceptedReleases:
    """The releases of `product` that `quorum` accepts at `now`. Raises EvidenceError.

    5.1 the bytes are a bundle; 5.2 k of the quorum signed the list; 5.3 it is of `product`; 5.4 it is not from the
    future, nor older than `max_list_age`; 5.5 its version is at least `version_floor`; 5.6 every statement it names is
    there; 5.7 revocations: of the list, and those signed by enough; 5.8 each statement is judged; 5.9 one at least is
    accepted.
    """
    if max_list_age <= 0 or version_floor < 0:
        raise ValueError("verify_releases: expected a maximum age over 0 and a version floor of at least 0")
    # 5.1 The form (4).
    bundle = UnverifiedBundle.decode(raw)
    listed = bundle.unverified_list
    list_signers = _check_list(
        bundle, quorum, product=product, now=now, max_list_age=max_list_age, version_floor=version_floor
    )
    # 5.7 A revocation needs no list and waits for nothing.
    ends = revocations(bundle.revocations, quorum, product)
    revoked = {one.digest for one in listed.revoked} | ends.keys()
    # 5.8 Each statement by itself.
    signers = {statement_digest(one.signed): one.signed.signers(quorum) for one in bundle.statements}
    judge = _Judge(signers, quorum.threshold, product, now, log, set(listed.statements), revoked)
    codes = [(one, judge.refusal(one)) for one in bundle.statements]
    refused = tuple((one.unverified_statement, code) for one, code in codes if code is not None)
    accepted = {statement_digest(one.signed): one.unverified_statement for one, code in codes if code is None}
    # 5.9 An empty acceptance is no policy.
    if not accepted:
        raise NoAcceptedRelease(listed, refused)
    return AcceptedReleases(
        product,
        listed.version,
        listed.issued_at,
        listed.digest,
        tuple(accepted.values()),
        refused,
        MappingProxyType({digest: signers[digest] for digest in accepted}),
        list_signers,
        log is not None,
        _SEAL,
    )


def _check_list(
    bundle: UnverifiedBundle,
    quorum: Quorum,
    *,
    product: str,
    now: Milliseconds,
    max_list_age: Milliseconds,
    version_floor: int,
) -> tuple[Signer, ...]:
    """Clauses 5.2 to 5.6; who signed the list."""
    listed = bundle.unverified_list
    # 5.2 k distinct signers, both signatures of each (3.3).
    signers = bundle.list.signers(quorum)
    if len(signers) < quorum.threshold:
        faults = "; ".join(bundle.list.faults(quorum))
        raise ListRefused(
            f"release list: expected {quorum.threshold} signers, got {len(signers)}: {faults}", code="list-threshold"
        )
    # 5.3 Of another product it says nothing about this one.
    if listed.product != product:
        raise Mismatch("release list: product", expected=product, actual=listed.product, code="list-product")
    # 5.4 Age: who withholds revocations can do so for this long.
    _check_age(listed.issued_at, now, max_list_age)
    # 5.5 Versions only grow.
    if listed.version < version_floor:
        raise ListRefused(
            f"release list: version: expected at least {version_floor}, got {listed.version}", code="list-rolled-back"
        )
    # 5.6 The list is complete here.
    if missing := sorted(set(listed.statements) - {statement_digest(one.signed) for one in bundle.statements}):
        raise ListRefused(
            f"release list: expected every statement it names, missing {missing[0].hex()}", code="list-incomplete"
        )
    return signers


@dataclass(frozen=True, slots=True)
class _Judge:
    signers: Mapping[ReleaseDigest, tuple[Signer, ...]]
    threshold: int
    product: str
    now: Milliseconds
    log: Vkey | None
    listed: Set[ReleaseDigest]
    revoked: Set[ReleaseDigest]

    def refusal(self, one: BundledStatement) -> str | None:
        """Clauses 5.8.1 to 5.8.7; None where the statement holds."""
        statement, digest = one.unverified_statement, statement_digest(one.signed)
        # 5.8.1 Revoked is said before all else: it is what people must hear.
        if digest in self.revoked:
            return REVOKED
        # 5.8.2 The list leaves it out: it was never in force, or is over.
        if digest not in self.listed:
            return NOT_LISTED
        # 5.8.3 k distinct signers of its own; the list's do not stand for them.
        if len(self.signers[digest]) < self.threshold:
            return NOT_SIGNED
        # 5.8.4 A statement of another product on this list.
        if statement.product != self.product:
            return OTHER_PRODUCT
        # 5.8.5 The public delay.
        if self.now < statement.not_before:
            return NOT_YET
        # 5.8.6 Its end is the first moment at which it does not hold.
        if self.now >= statement.not_after:
            return EXPIRED
        # 5.8.7 The public can see it.
        if self.log is not None and not _logged(one, self.log):
            return NOT_LOGGED
        return None


def _check_age(issued_at: Milliseconds, now: Milliseconds, max_list_age: Milliseconds) -> None:
    if issued_at > now + LIST_LEEWAY_MS:
        raise ListRefused(
            f"release list: issued at: expected at most {now + LIST_LEEWAY_MS}, got {issued_at}", code="list-in-future"
        )
    if now - issued_at > max_list_age:
        raise ListRefused(
            f"release list: age: expected at most {max_list_age} ms, got {now - issued_at}", code="list-too-old"
        )


def revocations(given: Iterable[UnverifiedSigned], quorum: Quorum, product: str) -> dict[ReleaseDigest, Milliseconds]:
    """What is revoked by enough distinct signers, with the first moment by which enough of them say so.

    Each signer has one voice on a statement, with the earliest `at` they signed. What fewer signed, or is of another
    product, has no effect.
    """
    voices: dict[ReleaseDigest, dict[Sha384, Milliseconds]] = {}
    for one in given:
        said = Revocation.decode(one.payload)
        if said.product != product:
            continue
        moments = voices.setdefault(said.digest, {})
        for signer in one.signers(quorum):
            moments[signer.identity] = min(said.at, moments.get(signer.identity, said.at))
    enough = quorum.revocation_threshold
    return {
        digest: sorted(moments.values())[enough - 1] for digest, moments in voices.items() if len(moments) >= enough
    }


def _logged(one: BundledStatement, log: Vkey) -> bool:
    if one.log is None:
        return False
    try:
        one.log.verify(one.signed.encode(), log)
    except EvidenceError:
        return False
    return True
