"""The path from a document's leaf to the pinned root at a given time (docs/spec/evidence.md 2).

Walked by hand, because the leaf has neither SAN nor EKU and web verifiers refuse it; then walked again by OpenSSL
with the time set, and the two must agree. The bundle's own root is compared with the anchor and never used.
Revocation is off: AWS uses none.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID
from OpenSSL import crypto

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch

NOT_BEFORE_LEEWAY = timedelta(seconds=5)  # a verifier's clock may be a few seconds slow; never used after notAfter
_KNOWN_CRITICAL = {x509.BasicConstraints.oid, x509.KeyUsage.oid}
_Extension = TypeVar("_Extension", x509.BasicConstraints, x509.KeyUsage)


class ChainInvalid(EvidenceError):
    """The certificates do not lead from the leaf to the pinned root at that time. `code` says which rule."""

    code = "chain"


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


def verify_chain(certificate: bytes, cabundle: tuple[bytes, ...], anchor: Anchor, at: datetime) -> Path:
    """The path from `certificate` to `anchor`, valid at `at`. Raises ChainInvalid (and its kinds) or Malformed.

    1. the bundle begins with exactly the anchor's root;
    2. each certificate is X.509 v3, P-384, ecdsa-with-SHA384, with no critical extension unknown here;
    3. each is valid at the time, the root too;
    4. each issuer is a CA whose pathLen and keyUsage allow what it signed, and did sign it;
    5. the leaf is no CA and may sign;
    6. OpenSSL agrees.
    """
    # 1. The root is the anchor's, byte for byte (evidence.md 2.1).
    if not cabundle or cabundle[0] != anchor.root_der:
        got = Anchor("", cabundle[0]).fingerprint if cabundle else "(none)"
        raise WrongRoot(f"root differs: expected {anchor.fingerprint}, got {got}")
    # 2. Form and algorithms (evidence.md 2.2).
    names = ["root", *(f"intermediate {at}" for at in range(1, len(cabundle))), "leaf"]
    path = [_load(der, name) for der, name in zip((anchor.root_der, *cabundle[1:], certificate), names, strict=True)]
    # 3. Time (evidence.md 2.3).
    moment = _moment(path, at)
    for one, name in zip(reversed(path), reversed(names), strict=True):
        _check_time(one, name, moment)
    # 4. Issuers (evidence.md 2.4).
    for index, issuer in enumerate(path[:-1]):
        _check_issuer(issuer, path[index + 1], below=len(path) - 2 - index, name=names[index])
    # 5. The leaf (evidence.md 2.5).
    key = _check_leaf(path[-1])
    # 6. The second opinion (evidence.md 2.6).
    _ask_openssl(path, moment)
    leaf_end = path[-1].not_valid_after_utc
    return Path(path[-1], key, leaf_end, min((one.not_valid_after_utc for one in path[1:-1]), default=leaf_end))


def leaf_key(certificate: bytes) -> ec.EllipticCurvePublicKey:
    """The P-384 key of a leaf whose path nobody has checked: what it signed is worth what its chain is worth."""
    return _p384_key(_load(certificate, "leaf"), "leaf")


def check_identity(path: Path, module_id: str) -> None:
    """The leaf's common name begins with the module id it speaks for. Raises Mismatch."""
    names = path.leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    common = str(names[0].value) if len(names) == 1 else ""
    # 5.7 The dot too: one module id may begin another.
    if not common.startswith(module_id + "."):
        raise Mismatch("leaf name", expected=module_id + ".*", actual=common, code="identity")


def _load(der: bytes, name: str) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        critical = {extension.oid for extension in certificate.extensions if extension.critical}
        hasher = certificate.signature_hash_algorithm
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension) as error:
        raise Malformed(f"{name} certificate: not a readable X.509 certificate") from error
    if certificate.version is not x509.Version.v3:
        raise ChainInvalid(f"{name} certificate: expected version 3, got {certificate.version.name}")
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA384 or not isinstance(hasher, SHA384):
        raise ChainInvalid(f"{name} certificate: expected ecdsa-with-SHA384", code="algorithm")
    if unknown := critical - _KNOWN_CRITICAL:
        shown = sorted(oid.dotted_string for oid in unknown)
        raise ChainInvalid(f"{name} certificate: unknown critical extensions {shown}")
    _p384_key(certificate, name)
    return certificate


def _p384_key(certificate: x509.Certificate, name: str) -> ec.EllipticCurvePublicKey:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Malformed(f"{name} certificate: not a readable key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ChainInvalid(f"{name} certificate: expected a P-384 key", code="algorithm")
    return key


def _moment(path: list[x509.Certificate], at: datetime) -> datetime:
    latest = max(one.not_valid_before_utc for one in path)
    # Subtracted from the one that is later than a trusted root's: `at` may be the last second a datetime holds.
    return latest if latest - NOT_BEFORE_LEEWAY <= at < latest else at


def _check_time(certificate: x509.Certificate, name: str, moment: datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if moment < begin:
        raise NotYetValid(f"{name} certificate: valid from {_second(begin)}, judged at {_second(moment)}")
    if moment > end:
        raise Expired(f"{name} certificate: expired at {_second(end)}, judged at {_second(moment)}")


def _second(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


def _check_issuer(issuer: x509.Certificate, subject: x509.Certificate, *, below: int, name: str) -> None:
    constraints = _extension(issuer, x509.BasicConstraints, name)
    if not constraints.ca:
        raise ChainInvalid(f"{name} certificate: signs another one but is no CA")
    if constraints.path_length is not None and constraints.path_length < below:
        raise ChainInvalid(f"{name} certificate: path length {constraints.path_length}, but {below} CAs follow")
    if not _extension(issuer, x509.KeyUsage, name).key_cert_sign:
        raise ChainInvalid(f"{name} certificate: signs another one without keyCertSign")
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise ChainInvalid(f"{name} certificate did not issue the next one") from error


def _check_leaf(leaf: x509.Certificate) -> ec.EllipticCurvePublicKey:
    constraints = _extension(leaf, x509.BasicConstraints, "leaf")
    if constraints.ca or constraints.path_length is not None:
        raise ChainInvalid("leaf certificate: expected no CA")
    usage = _extension(leaf, x509.KeyUsage, "leaf")
    if not usage.digital_signature or usage.key_cert_sign:
        raise ChainInvalid("leaf certificate: expected digitalSignature without keyCertSign")
    return _p384_key(leaf, "leaf")


def _extension(certificate: x509.Certificate, kind: type[_Extension], name: str) -> _Extension:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound as error:
        raise ChainInvalid(f"{name} certificate: no {kind.__name__} extension") from error


def _ask_openssl(path: list[x509.Certificate], moment: datetime) -> None:
    root, *intermediates, leaf = (crypto.X509.from_cryptography(one) for one in path)
    store = crypto.X509Store()
    store.add_cert(root)
    store.set_time(moment)
    try:
        crypto.X509StoreContext(store, leaf, intermediates).verify_certificate()
    except crypto.X509StoreContextError as error:
        raise ChainInvalid(f"OpenSSL refuses the path: {error}") from error
