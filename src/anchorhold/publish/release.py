"""Making release statements: a signer's keys, a bundle that grows, signatures added one person at a time.

What is made is what `attestation/release/` checks; nothing here decides whether a release holds. A changed list has a
higher version and no signature: who signed the old one has not signed the new one.
"""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from anchorhold.attestation.cose import sign1
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.bundle import MAX_BUNDLE, BundledStatement, UnverifiedBundle
from anchorhold.attestation.release.quorum import Quorum, Signer, SignerRole, signer_from_json
from anchorhold.attestation.release.signed import Kind, Signature, UnverifiedSigned, signature_label, statement_digest
from anchorhold.attestation.release.statement import Reason, ReleaseDigest, ReleaseList, ReleaseStatement, Revocation
from anchorhold.attestation.types import Milliseconds
from anchorhold.publish.errors import PublishError
from anchorhold.publish.files import PRIVATE_MODE, write_new, write_whole

KEY_FILE = "release-signer.key.json"
PUBLIC_FILE = "release-signer.json"
SEED_BYTES = 32  # of both: RFC 8032 5.1.5, FIPS 204 (the seed form)
MAX_KEY_FILE = 16_384  # bytes; a public key of 1952 in hex is most of it


class ReleaseRefused(PublishError):
    """A step that would make a bundle no quorum should sign."""

    code = "release-refused"


@dataclass(frozen=True, slots=True)
class ReleaseSigner:
    """One person's two private keys."""

    name: str
    role: SignerRole
    ed25519: Ed25519PrivateKey
    ml_dsa_65: MLDSA65PrivateKey

    @classmethod
    def generate(cls, name: str, role: SignerRole) -> "ReleaseSigner":
        """Fresh keys from the system's randomness."""
        return cls(name, role, Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())

    @property
    def public(self) -> Signer:
        """What relying parties pin."""
        return Signer(
            self.name,
            self.role,
            self.ed25519.public_key().public_bytes_raw(),
            self.ml_dsa_65.public_key().public_bytes_raw(),
        )

    def sign(self, signed: UnverifiedSigned) -> UnverifiedSigned:
        """`signed` with both signatures of this signer; as it was where they are there already and hold."""
        if signed.signers(Quorum((self.public,), 1, 1)):
            return signed
        identity = self.public.identity
        label = signature_label(signed.kind)
        mine = Signature(
            identity,
            sign1(signed.digest, self.ed25519, aad=label),
            sign1(signed.digest, self.ml_dsa_65, aad=label),
        )
        others = [one for one in signed.signatures if one.signer != identity]
        together = sorted((*others, mine), key=lambda one: one.signer)
        return replace(signed, signatures=tuple(together))


def create_signer(folder: Path, name: str, role: SignerRole) -> Signer:
    """Fresh keys in `folder`, the private file readable by its owner alone; never over another.

    A private file that is alone there was left by a run that broke off, and this one ends it: the same keys, for the
    same name and role. Raises OSError or PublishError.
    """
    signer = ReleaseSigner.generate(name, role)
    public = signer.public  # checks the name before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    secret = {
        "name": name,
        "role": role.value,
        "ed25519_seed": signer.ed25519.private_bytes_raw().hex(),
        "ml_dsa_65_seed": signer.ml_dsa_65.private_bytes_raw().hex(),
    }
    try:
        write_new(folder / KEY_FILE, json.dumps(secret).encode(), mode=PRIVATE_MODE)
    except FileExistsError:
        if (folder / PUBLIC_FILE).exists():
            raise
        public = _left_alone(folder, name, role)
    write_whole(folder / PUBLIC_FILE, json.dumps(public.as_json(), indent=2).encode() + b"\n")
    return public


def load_signer(folder: Path) -> ReleaseSigner:
    """What `create_signer` wrote. Raises PublishError."""
    path = folder / KEY_FILE
    try:
        members = json.loads(_read(path, MAX_KEY_FILE))
        signer = ReleaseSigner(
            members["name"],
            SignerRole(members["role"]),
            Ed25519PrivateKey.from_private_bytes(bytes.fromhex(members["ed25519_seed"])),
            MLDSA65PrivateKey.from_seed_bytes(bytes.fromhex(members["ml_dsa_65_seed"])),
        )
        _ = signer.public  # a name that is none is found here
    except (OSError, ValueError, KeyError, TypeError, RecursionError, EvidenceError) as error:
        raise PublishError(f"release signer: {str(path)!r} is not readable as one") from error
    return signer


def read_signer(path: Path) -> Signer:
    """A public signer file. Raises PublishError."""
    try:
        return signer_from_json(json.loads(_read(path, MAX_KEY_FILE)))
    except (OSError, ValueError, RecursionError, EvidenceError) as error:
        raise PublishError(f"release signer: {str(path)!r}: {error}") from error


def new_bundle(statements: Sequence[ReleaseStatement], *, issued_at: Milliseconds) -> UnverifiedBundle:
    """An unsigned bundle, version 1, over statements of one product. Raises ReleaseRefused or EvidenceError."""
    products = {one.product for one in statements}
    if len(products) != 1:
        raise ReleaseRefused(f"release list: expected statements of one product, got {sorted(products)}")
    bundled = [BundledStatement.of(UnverifiedSigned(Kind.STATEMENT, one.encode(), ())) for one in statements]
    fresh = ReleaseList(products.pop(), 1, issued_at, _digests(bundled), ())
    return _bundle(fresh, bundled, ())


def add_statements(
    bundle: UnverifiedBundle, statements: Sequence[ReleaseStatement], *, issued_at: Milliseconds
) -> UnverifiedBundle:
    """The next version, with `statements` beside those there are. Raises ReleaseRefused or EvidenceError."""
    product = bundle.unverified_list.product
    for statement in statements:
        if statement.product != product:
            raise ReleaseRefused(f"release list: expected product {product!r}, got {statement.product!r}")
        if any(statement_digest(one.signed) == statement.digest for one in bundle.statements):
            raise ReleaseRefused(f"release {statement.release!r}: this very statement is in the bundle already")
        if any(one.digest == statement.digest for one in bundle.unverified_list.revoked):
            raise ReleaseRefused(f"release {statement.release!r}: the list revokes this very statement")
    added = [BundledStatement.of(UnverifiedSigned(Kind.STATEMENT, one.encode(), ())) for one in statements]
    return _next(bundle, [*bundle.statements, *added], issued_at)


def renew(bundle: UnverifiedBundle, *, issued_at: Milliseconds) -> UnverifiedBundle:
    """The next version: expired statements leave with their revocations, what is signed as revoked enters the list."""
    return _next(bundle, list(bundle.statements), issued_at)


def sign_bundle(bundle: UnverifiedBundle, signer: ReleaseSigner) -> UnverifiedBundle:
    """This signer's signatures on the list and on every statement it names.

    A statement with a new signature is another leaf: its proof of logging goes.
    """
    named = set(bundle.unverified_list.statements)
    statements = [
        one if statement_digest(one.signed) not in named else _signed(one, signer) for one in bundle.statements
    ]
    return replace(bundle, list=signer.sign(bundle.list), statements=tuple(statements))


def revoke(
    bundle: UnverifiedBundle,
    digest: ReleaseDigest,
    signer: ReleaseSigner,
    *,
    reason: Reason,
    at: Milliseconds,
    quorum: Quorum | None = None,
) -> UnverifiedBundle:
    """This signer's signature on the revocation of `digest`, said now, at `at`.

    It joins one that a signer of `quorum` began (without one: that this signer did), for the same reason and not from
    the future; who handed the file on could have begun any other. Begun side by side they count together (5.7). The
    list stays as it is, so it goes on being valid for the other releases. Raises ReleaseRefused.
    """
    if all(statement_digest(one.signed) != digest for one in bundle.statements):
        raise ReleaseRefused(f"release {digest.hex()}: not in this bundle")
    fresh = Revocation(bundle.unverified_list.product, digest, at, reason)
    known = quorum or Quorum((signer.public,), 1, 1)
    begun = [one for one in bundle.revocations if _begun(one, fresh, known)]
    mine = signer.sign(begun[0] if begun else UnverifiedSigned(Kind.REVOCATION, fresh.encode(), ()))
    others = [one for one in bundle.revocations if one not in begun[:1]]
    return replace(bundle, revocations=_sorted([*others, mine]))


def revokers(bundle: UnverifiedBundle, digest: ReleaseDigest) -> int:
    """How many are said to have signed a revocation of `digest`, each once; nothing is verified."""
    said = [(Revocation.decode(one.payload), one) for one in bundle.revocations]
    product = bundle.unverified_list.product
    return len({
        each.signer for what, one in said if (what.product, what.digest) == (product, digest) for each in one.signatures
    })  # fmt: skip


def sharing(bundle: UnverifiedBundle, digest: ReleaseDigest) -> tuple[BundledStatement, ...]:
    """Every statement that accepts a measurement set of the statement `digest`, that one among them.

    To end one of them alone would leave the same enclave accepted under another's name.
    """
    wanted = [dict(one) for it in bundle.statements if statement_digest(it.signed) == digest for one in _sets(it)]
    return tuple(it for it in bundle.statements if any(dict(one) in wanted for one in _sets(it)))


def read_bundle(path: Path) -> UnverifiedBundle:
    """A bundle file, unverified. Raises OSError or EvidenceError."""
    return UnverifiedBundle.decode(read_bundle_bytes(path))


def read_bundle_bytes(path: Path) -> bytes:
    """At most one byte over the limit, which the reader then refuses. Raises OSError."""
    return _read(path, MAX_BUNDLE)


def write_bundle(path: Path, bundle: UnverifiedBundle) -> None:
    """The bundle at `path`, whole or not at all, durable on return. Raises OSError or EvidenceError."""
    raw = bundle.encode()
    UnverifiedBundle.decode(raw)  # what we would refuse to read is not written
    write_whole(path, raw)


def _left_alone(folder: Path, name: str, role: SignerRole) -> Signer:
    public = load_signer(folder).public
    if (public.name, public.role) != (name, role):
        raise PublishError(
            f"release signer: {str(folder / KEY_FILE)!r} has no {PUBLIC_FILE} beside it: a run broke off. To end it, "
            f"ask for its name {public.name!r} and role {public.role.value}; or take the file away"
        )
    return public


def _next(
    bundle: UnverifiedBundle, statements: Sequence[BundledStatement], issued_at: Milliseconds
) -> UnverifiedBundle:
    old = bundle.unverified_list
    if issued_at < old.issued_at:
        raise ReleaseRefused(f"release list: issued at: expected at least {old.issued_at}, got {issued_at}")
    kept = [one for one in statements if one.unverified_statement.not_after > issued_at]
    digests = {statement_digest(one.signed) for one in kept}
    # A statement that has expired needs no revocation; one that is missing from the file may come back.
    expired = {statement_digest(one.signed) for one in statements} - digests
    revocations = [one for one in bundle.revocations if _stands(one, old.product, expired)]
    signed = [said for one in revocations if (said := Revocation.decode(one.payload)).digest in digests]
    listed = [one for one in old.revoked if one.digest not in expired]
    # The first word on a statement stays.
    revoked = {one.digest: one for one in (*reversed(signed), *listed)}
    standing = [one for one in kept if statement_digest(one.signed) not in revoked]
    fresh = ReleaseList(
        old.product,
        old.version + 1,
        issued_at,
        _digests(standing),
        tuple(revoked[digest] for digest in sorted(revoked)),
    )
    return _bundle(fresh, kept, revocations)


def _begun(one: UnverifiedSigned, fresh: Revocation, known: Quorum) -> bool:
    said = Revocation.decode(one.payload)
    if said == fresh:
        return True
    return replace(said, at=fresh.at) == fresh and said.at <= fresh.at and bool(one.signers(known))


def _stands(one: UnverifiedSigned, product: str, expired: Set[ReleaseDigest]) -> bool:
    # What nobody signed, or of another product, could have been put there by whoever handed the file on.
    said = Revocation.decode(one.payload)
    return said.product == product and bool(one.signatures) and said.digest not in expired


def _bundle(
    fresh: ReleaseList, statements: Sequence[BundledStatement], revocations: Sequence[UnverifiedSigned]
) -> UnverifiedBundle:
    ordered = sorted(statements, key=lambda one: one.signed.digest)
    return UnverifiedBundle(
        UnverifiedSigned(Kind.LIST, fresh.encode(), ()), fresh, tuple(ordered), _sorted(revocations)
    )


def _signed(one: BundledStatement, signer: ReleaseSigner) -> BundledStatement:
    signed = signer.sign(one.signed)
    return one if signed == one.signed else replace(one, signed=signed, log=None)


def _sorted(revocations: Sequence[UnverifiedSigned]) -> tuple[UnverifiedSigned, ...]:
    return tuple(sorted(revocations, key=UnverifiedSigned.encode))


def _digests(statements: Sequence[BundledStatement]) -> tuple[ReleaseDigest, ...]:
    return tuple(sorted(statement_digest(one.signed) for one in statements))


def _sets(one: BundledStatement) -> tuple[Mapping[int, bytes], ...]:
    return one.unverified_statement.measurements


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit + 1)
