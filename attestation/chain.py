"""The path from a document's leaf to the pinned root at a given time (docs/spec/evidence.md 2).

Walked by hand, because the leaf has neither SAN nor EKU and web verifiers refuse it; then walked again by OpenSSL
with the time set, and the two must agree on the path, certificate by certificate. The signatures are computed once, by
OpenSSL (docs/adr/0002). The bundle's own root is compared with the anchor and never used. Revocation is off: AWS uses
none. The numbers are those of `verify.py`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import crypto

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.certificates import Certificate, ChainCache, ChainInvalid, read_certificate, read_key
from anchorhold.attestation.errors import Mismatch

__all__ = [
    "ChainCache",
    "ChainInvalid",
    "Expired",
    "NotYetValid",
    "Path",
    "WrongRoot",
    "check_identity",
    "leaf_key",
    "verify_chain",
]

NOT_BEFORE_LEEWAY = timedelta(seconds=5)  # a verifier's clock may be a few seconds slow; never used after notAfter


class WrongRoot(ChainInvalid):
    """The bundle begins with a root that is not the anchor's."""

    code = "wrong-root"


class Expired(ChainInvalid):
    """A certificate's time is over at the time given."""

    code = "expired"


class NotYetValid(ChainInvalid):
    """A certificate's time has not begun at the time given: a slow clock, or a document from the future."""

    code = "not-yet-valid"


@dataclass(frozen=True, slots=True)
class Path:
    """A path that holds: its leaf, and until when it and its intermediates are valid."""

    leaf: x509.Certificate
    leaf_key: ec.EllipticCurvePublicKey
    leaf_not_after: datetime
    shortest_intermediate_not_after: datetime


def verify_chain(
    certificate: bytes, cabundle: tuple[bytes, ...], anchor: Anchor, at: datetime, cache: ChainCache | None = None
) -> Path:
    """The path from `certificate` to `anchor`, valid at `at`. Raises ChainInvalid (and its kinds) or Malformed.

    With a `cache` the verdict is the same: signatures that held before are not computed again.
    """
    # 2.1 The root is the anchor's, byte for byte.
    if not cabundle or cabundle[0] != anchor.root_der:
        got = Anchor("", cabundle[0]).fingerprint if cabundle else "(none)"
        raise WrongRoot(f"root differs: expected {anchor.fingerprint}, got {got}")
    names = ["root", *(f"intermediate {index}" for index in range(1, len(cabundle))), "leaf"]
    ders = (anchor.root_der, *cabundle[1:], certificate)
    read = read_certificate if cache is None else cache.read
    path = [read(der, name) for der, name in zip(ders, names, strict=True)]
    moment = _moment(path, at)
    for one, name in zip(reversed(path), reversed(names), strict=True):
        _check_time(one, name, moment)
    for index, issuer in enumerate(path[:-1]):
        _check_issuer(issuer, path[index + 1], below=len(path) - 2 - index, name=names[index])
    _check_leaf(path[-1])
    # 2.16 The second opinion, on what no earlier path has settled; the signatures are computed here.
    _ask_openssl(path, moment, known=1 if cache is None else cache.vouched(path))
    if cache is not None:
        cache.vouch(path)
    leaf = path[-1]
    return Path(leaf.parsed, leaf.key, leaf.ends, min((one.ends for one in path[1:-1]), default=leaf.ends))


def leaf_key(certificate: bytes) -> ec.EllipticCurvePublicKey:
    """The P-384 key of a leaf whose path nobody has checked: what it signed is worth what its chain is worth."""
    return read_key(certificate, "leaf")[1]


def check_identity(path: Path, module_id: str) -> None:
    """The leaf's common name begins with the module id it speaks for. Raises Mismatch."""
    names = path.leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    common = str(names[0].value) if len(names) == 1 else ""
    # 5.7 The dot too: one module id may begin another.
    if not common.startswith(module_id + "."):
        raise Mismatch("leaf name", expected=module_id + ".*", actual=common, code="identity")


def _moment(path: list[Certificate], at: datetime) -> datetime:
    latest = max(one.begins for one in path)
    # Subtracted from the one that is later than a trusted root's: `at` may be the last second a datetime holds.
    return latest if latest - NOT_BEFORE_LEEWAY <= at < latest else at


def _check_time(certificate: Certificate, name: str, moment: datetime) -> None:
    # 2.8 Begun, within the leeway.
    if moment < certificate.begins:
        begins = _second(certificate.begins)
        raise NotYetValid(f"{name} certificate: valid from {begins}, judged at {_second(moment)}")
    # 2.9 Not over, with no leeway.
    if moment > certificate.ends:
        raise Expired(f"{name} certificate: expired at {_second(certificate.ends)}, judged at {_second(moment)}")


def _second(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


def _check_issuer(issuer: Certificate, subject: Certificate, *, below: int, name: str) -> None:
    length = issuer.constraints.path_length
    # 2.10 Who signs a certificate is a CA: else any leaf makes leaves.
    if not issuer.constraints.ca:
        raise ChainInvalid(f"{name} certificate: signs another one but is no CA")
    # 2.11 Not more CAs below it than it may have.
    if length is not None and length < below:
        raise ChainInvalid(f"{name} certificate: path length {length}, but {below} CAs follow")
    # 2.12 Its key is for signing certificates.
    if not issuer.usage.key_cert_sign:
        raise ChainInvalid(f"{name} certificate: signs another one without keyCertSign")
    # 2.13 The next one names it, to the byte: OpenSSL folds case and blanks.
    if subject.issuer != issuer.subject:
        raise ChainInvalid(f"{name} certificate did not issue the next one, which names another issuer")


def _check_leaf(leaf: Certificate) -> None:
    # 2.14 The leaf is at the end. AWS: pathLen undefined; a pathLen without CA is not even readable (2.2).
    if leaf.constraints.ca:
        raise ChainInvalid("leaf certificate: expected no CA")
    # 2.15 Its key is for documents and for nothing else.
    if not leaf.usage.digital_signature or leaf.usage.key_cert_sign:
        raise ChainInvalid("leaf certificate: expected digitalSignature without keyCertSign")


def _ask_openssl(path: list[Certificate], moment: datetime, *, known: int = 1) -> None:
    """OpenSSL's own path check of `path`, of which the first `known` are settled. Raises ChainInvalid."""
    if known == len(path):
        return
    # 2.17 What OpenSSL refuses is refused, in this package's own words.
    try:
        trusted, *rest = (crypto.load_certificate(crypto.FILETYPE_ASN1, one.der) for one in path[known - 1 :])
        store = crypto.X509Store()
        store.add_cert(trusted)
        # pyOpenSSL drops the zone. A time that stands between two certificates' ends can be told in UTC.
        store.set_time(moment.astimezone(UTC))
        if known > 1:
            store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        checked = crypto.X509StoreContext(store, rest[-1], rest[:-1]).get_verified_chain()
    except (crypto.Error, crypto.X509StoreContextError) as error:
        raise ChainInvalid(f"OpenSSL refuses the path: {error}") from error
    taken = [crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in reversed(checked)]
    # 2.18 It was this path: another one, past a forged member of this one, could be true as well.
    if taken != [one.der for one in path[known - 1 :]]:
        raise ChainInvalid(f"OpenSSL takes another path: expected {len(rest) + 1} certificates, got {len(taken)}")
