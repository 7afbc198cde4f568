"""One certificate read strictly, and what a verifier may remember of certificates between two documents.

The numbers are those of `verify.py`. Nothing here says that a certificate is true, only what it says.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from anchorhold.attestation.errors import EvidenceError, Malformed

# Certificates, and paths of at most six, in a cache: a few hundred hosts and their enclaves, about 10 MB at the worst.
CACHE_LIMIT = 1024
_KNOWN_CRITICAL = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
# What AWS's CAs carry. None of these says anything about certificates further down but pathLen, which is judged anew.
_PLAIN = _KNOWN_CRITICAL | {
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.CRL_DISTRIBUTION_POINTS,
}

# RFC 5280 appendix A. The longest common name in the published documents has 54 characters.
_NAME_BOUNDS = {
    NameOID.COMMON_NAME: (1, 64),
    NameOID.COUNTRY_NAME: (2, 2),
    NameOID.JURISDICTION_COUNTRY_NAME: (2, 2),
}

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ChainInvalid(EvidenceError):
    """The certificates do not lead from the leaf to the pinned root at that time. `code` says which rule."""

    code = "chain"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What one certificate says. Whether its issuer said so is another question."""

    der: bytes
    parsed: x509.Certificate
    key: ec.EllipticCurvePublicKey
    constraints: x509.BasicConstraints
    usage: x509.KeyUsage
    subject: bytes
    issuer: bytes
    begins: datetime
    ends: datetime
    plain: bool


def read_certificate(der: bytes, name: str) -> Certificate:
    """The certificate in `der`; `name` is for the error. Raises Malformed or ChainInvalid."""
    parsed, key = read_key(der, name)
    # 2.7 Both extensions that the walk judges are there.
    try:
        constraints = parsed.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = parsed.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise ChainInvalid(f"{name} certificate: {error}") from error
    plain = {one.oid for one in parsed.extensions} <= _PLAIN
    subject, issuer = parsed.subject.public_bytes(), parsed.issuer.public_bytes()
    begins, ends = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    return Certificate(der, parsed, key, constraints, usage, subject, issuer, begins, ends, plain)


def read_key(der: bytes, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePublicKey]:
    """The certificate in `der` and its P-384 key. Raises Malformed or ChainInvalid."""
    # 2.2 X.509, each part of it readable.
    try:
        parsed = x509.load_der_x509_certificate(der)
        key = parsed.public_key()
        critical = {one.oid for one in parsed.extensions if one.critical}
        _ = parsed.subject, parsed.issuer  # read here, where what cannot be read is caught
    except (
        ValueError,
        TypeError,
        Warning,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
    ) as error:
        raise Malformed(f"{name} certificate: not a readable X.509 certificate") from error
    # 2.2 What the library only warns of, so that the verdict is the same where warnings are errors and where not.
    if parsed.serial_number <= 0 or not _in_bounds(parsed.subject) or not _in_bounds(parsed.issuer):
        raise Malformed(f"{name} certificate: expected a positive serial number and names within their bounds")
    # 2.3 Version 1 has no extensions, so nothing in it says who may sign what.
    if parsed.version is not x509.Version.v3:
        raise ChainInvalid(f"{name} certificate: expected version 3, got {parsed.version.name}")
    # 2.4 One signature algorithm throughout (facts of 100 published documents).
    if parsed.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA384:
        raise ChainInvalid(f"{name} certificate: expected ecdsa-with-SHA384", code="algorithm")
    # 2.5 One curve throughout.
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ChainInvalid(f"{name} certificate: expected a P-384 key", code="algorithm")
    # 2.6 RFC 5280 4.2: a critical extension that is not understood refuses.
    if unknown := critical - _KNOWN_CRITICAL:
        shown = sorted(oid.dotted_string for oid in unknown)
        raise ChainInvalid(f"{name} certificate: unknown critical extensions {shown}")
    return parsed, key


def _in_bounds(name: x509.Name) -> bool:
    bounded = ((one.value, _NAME_BOUNDS[one.oid]) for one in name if one.oid in _NAME_BOUNDS)
    return all(
        least <= len(value.encode() if isinstance(value, str) else value) <= most for value, (least, most) in bounded
    )


class ChainCache:
    """What a verifier remembers between two documents: certificates and paths whose every signature held.

    Keyed by the bytes themselves and bounded; the least recently used goes first. Only what held is kept, and every
    rule and every time is judged anew at each use: what is saved is reading, and computing signatures. One thread at a
    time.
    """

    def __init__(self, limit: int = CACHE_LIMIT) -> None:
        self._certificates: _Recent[bytes, Certificate] = _Recent(limit)
        self._paths: _Recent[tuple[bytes, ...], bool] = _Recent(limit)

    def __len__(self) -> int:
        """How many certificates and paths are remembered."""
        return len(self._certificates) + len(self._paths)

    def read(self, der: bytes, name: str) -> Certificate:
        """`read_certificate`, spared where a path through these bytes has held."""
        return self._certificates.get(der) or read_certificate(der, name)

    def vouched(self, path: list[Certificate]) -> int:
        """How many of `path`, its trusted root first, are known to be signed each by the one before it."""
        ders = tuple(one.der for one in path)
        return next((count for count in range(len(ders), 1, -1) if self._paths.get(ders[:count])), 1)

    def vouch(self, path: list[Certificate]) -> None:
        """Remember that every signature of `path` held, from its trusted root down."""
        ders = tuple(one.der for one in path)
        self._paths.put(ders, True)
        for one in path:
            self._certificates.put(one.der, one)
        # What stands above the leaf vouches for other leaves too, unless something in it may bind those below in a way
        # that only the second opinion knows (name constraints): then the path is known whole or not at all.
        for count in range(2, len(path)):
            if not all(one.plain for one in path[:count]):
                break
            self._paths.put(ders[:count], True)


class _Recent(Generic[K, V]):
    """A map of at most `limit` members, the least recently used forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        value = self._kept.get(key)
        if value is not None:
            self._kept.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        self._kept[key] = value
        self._kept.move_to_end(key)
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
