"""A chain of AWS's shape under a root of our own, each certificate described so that a vector may change one thing.

root 30 years > regional 20 days > zonal 6 days > instance 1 day > leaf 3 hours (facts of 100 published documents).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from tests.vectors.evidence import der

START = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)
MODULE = "i-0123456789abcdef0-enc0123456789abcdef"
REGION = "test-1"
# Bits of keyUsage (RFC 5280 4.2.1.3).
SIGNS, REPUDIATES_NOT, CERTIFIES, REVOKES = 0, 1, 5, 6
LEVELS = ("root", "regional", "zonal", "instance", "leaf")

Extra = tuple[str, bool, bytes]


@dataclass(frozen=True)
class Link:
    """One certificate. `None` leaves the thing out, or takes it from the issuer."""

    seed: str
    subject: str
    begins: datetime
    ends: datetime
    path_length: int | None = None
    ca: bool | None = True
    usage: tuple[int, ...] | None = (SIGNS, CERTIFIES, REVOKES)
    constraints_critical: bool = True
    usage_critical: bool = True
    issuer: str | None = None
    signer: str | None = None
    curve: ec.EllipticCurve | None = None
    algorithm: str = der.ECDSA_WITH_SHA384
    outer_algorithm: str | None = None
    version: int | None = 2
    serial: int | None = None
    public_key: bytes | None = None
    extras: tuple[Extra, ...] = ()
    spoil: Callable[[bytes], bytes] = field(default=lambda whole: whole)

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """Its private key."""
        return der.key(self.seed, self.curve)


def _life(**life: int) -> tuple[datetime, datetime]:
    begin = START - timedelta(minutes=30)
    return begin, begin + timedelta(**life)


LINKS: Mapping[str, Link] = {
    "root": Link("root", "vectors.nitro-enclaves", START - timedelta(days=365), START + timedelta(days=29 * 365)),
    "regional": Link("regional", f"1a.{REGION}.vectors.nitro-enclaves", *_life(days=20), path_length=2),
    "zonal": Link("zonal", f"2b.zonal.{REGION}.vectors.nitro-enclaves", *_life(days=6), path_length=1),
    # No level of AWS's: for a path as long as it may be.
    "cell": Link("cell", f"3c.{REGION}.vectors.nitro-enclaves", *_life(days=2), path_length=1),
    "instance": Link(
        "instance",
        f"i-0123456789abcdef0.{REGION}.vectors.nitro-enclaves",
        *_life(days=1),
        path_length=0,
        usage=(CERTIFIES,),
    ),
    "leaf": Link("leaf", f"{MODULE}.{REGION}.vectors", *_life(hours=3), ca=False, usage=(SIGNS,), usage_critical=False),
}


@dataclass(frozen=True)
class Chain:
    """What goes into a document: the bundle root first, the leaf, and the leaf's key."""

    cabundle: tuple[bytes, ...]
    certificate: bytes
    key: ec.EllipticCurvePrivateKey


@cache
def good_chain() -> Chain:
    """The chain as it should be."""
    return chain()


def chain(**changes: Mapping[str, Any]) -> Chain:
    """The chain with these fields of these links changed."""
    return shorter(LEVELS, changes)


def shorter(levels: tuple[str, ...], changes: Mapping[str, Mapping[str, Any]]) -> Chain:
    """The chain of these levels only."""
    links = [replace(LINKS[level], **changes.get(level, {})) for level in levels]
    made = [certificate(link, links[max(index - 1, 0)]) for index, link in enumerate(links)]
    return Chain(tuple(made[:-1]), made[-1], links[-1].key)


def certificate(link: Link, issuer: Link) -> bytes:
    """The DER of `link`, issued by `issuer` unless it says otherwise."""
    algorithm = der.sequence(der.oid(link.algorithm))
    begin, end = der.time(link.begins), der.time(link.ends)
    extensions = _extensions(link)
    signed = der.sequence(
        b"" if link.version is None else der.tlv(0xA0, der.integer(link.version)),
        der.integer(0x1000 + sum(link.seed.encode()) if link.serial is None else link.serial),
        algorithm,
        der.name(link.issuer or issuer.subject),
        der.sequence(begin, end),
        der.name(link.subject),
        link.public_key or der.spki(link.key),
        der.tlv(0xA3, der.sequence(*extensions)) if extensions else b"",
    )
    signer = der.key(link.signer) if link.signer else issuer.key
    signature = der.sign(signer, signed, der.HASHES[link.algorithm])
    outer = der.sequence(der.oid(link.outer_algorithm)) if link.outer_algorithm else algorithm
    return link.spoil(der.sequence(signed, outer, der.tlv(0x03, b"\x00", signature)))


def _extensions(link: Link) -> list[bytes]:
    made = []
    if link.ca is not None:
        length = b"" if link.path_length is None else der.integer(link.path_length)
        value = der.sequence(der.boolean(True) if link.ca else b"", length)
        made.append(der.extension(der.BASIC_CONSTRAINTS, value, critical=link.constraints_critical))
    if link.usage is not None:
        made.append(der.extension(der.KEY_USAGE, der.bits(*link.usage), critical=link.usage_critical))
    return made + [der.extension(kind, value, critical=critical) for kind, critical, value in link.extras]
