"""The manifest: descriptor, wrapped shares, salt, commitment, hash of each ciphertext body. This is what is signed.

`decode_manifest` gives an `UnverifiedManifest`, good for showing and nothing else; a `Manifest` comes only from
`signature.verify_manifest`.
"""

from dataclasses import dataclass
from enum import StrEnum

from anchorhold.attestation.canonical import Value, check_map, decode_map, encode
from anchorhold.attestation.errors import Malformed, Mismatch, NotCanonical, TooLarge
from anchorhold.attestation.sealed.body import sealed_size
from anchorhold.attestation.sealed.descriptor import Descriptor, decode_descriptor, descriptor_digest
from anchorhold.attestation.sealed.names import body_name, check_id
from anchorhold.attestation.sealed.shares import CHECK_BYTES, COMMITMENT_BYTES, MAX_SHARES, SALT_BYTES
from anchorhold.attestation.types import ModelDigest

VERSION = 1
FORMAT = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM"
HASH = "sha256"
HASH_BYTES = 32
MAX_MANIFEST = 4 << 20  # bytes; 4096 files take about 1 MiB
MAX_BLOB = 6144  # bytes; KMS takes ciphertexts of at most this size
MAX_KEY = 2048  # characters; KMS's limit for a key id
MAX_WRAPPED = 64  # wrapped copies: sources x roles x purpose classes


class ShareKind(StrEnum):
    """Which kind of authority wrapped a share."""

    KMS = "kms"
    OWNER = "owner"


class ShareRole(StrEnum):
    """What a wrapped secret is for: a part of the model key, or a lease's proof that the KMS still says yes."""

    SHARE = "share"
    LEASE = "lease"


class PurposeClass(StrEnum):
    """The coarse use a copy was sealed for (DESIGN 12.7)."""

    SERVE = "serve"
    EVALUATE = "evaluate"
    RESEAL = "reseal"


@dataclass(frozen=True, slots=True)
class Body:
    """One sealed file: the plaintext's name, the body's length and the SHA-256 of the body."""

    name: str
    size: int
    digest: bytes

    @property
    def body(self) -> str:
        """The name of the sealed file, beside `signed/` and over the window."""
        return body_name(self.name)


@dataclass(frozen=True, slots=True)
class WrappedShare:
    """One copy of a share or a lease secret, wrapped by a source for one purpose class."""

    source: str
    kind: ShareKind
    role: ShareRole
    purpose_class: PurposeClass
    key: str
    blob: bytes
    check: bytes

    @property
    def order(self) -> tuple[str, str, str]:
        """What the manifest's list is sorted by, and unique in."""
        return self.source, self.role.value, self.purpose_class.value


@dataclass(frozen=True, slots=True)
class UnverifiedManifest:
    """A well-formed manifest that nobody has checked the signature of."""

    descriptor: Descriptor
    digest: ModelDigest
    salt: bytes
    commitment: bytes
    bodies: tuple[Body, ...]
    shares: tuple[WrappedShare, ...]

    def wrapped(self, role: ShareRole, purpose_class: PurposeClass) -> tuple[WrappedShare, ...]:
        """The copies of one role for one purpose class, in the order of their sources: the order of the model key."""
        return tuple(one for one in self.shares if one.role is role and one.purpose_class is purpose_class)


@dataclass(frozen=True, slots=True)
class Manifest(UnverifiedManifest):
    """A manifest whose signature, signer and D have been checked."""


def encode_manifest(
    descriptor: bytes, *, salt: bytes, commitment: bytes, bodies: tuple[Body, ...], shares: tuple[WrappedShare, ...]
) -> bytes:
    """Canonical CBOR; decodes it again, so a manifest that nobody could read is never written."""
    raw = encode({
        "v": VERSION,
        "descriptor": descriptor,
        "format": FORMAT,
        "salt": salt,
        "commitment": commitment,
        "bodies": [{"name": b.name, "size": b.size, "algorithm": HASH, "digest": b.digest} for b in bodies],
        "shares": [_share_map(share) for share in sorted(shares, key=lambda one: one.order)],
    })  # fmt: skip
    decode_manifest(raw)
    return raw


def decode_manifest(raw: bytes) -> UnverifiedManifest:
    """Raises Malformed and its kinds, Mismatch, or NotAllowed."""
    what = "manifest"
    shape: dict[str, type | tuple[type, ...]] = {
        "v": int,
        "descriptor": bytes,
        "format": str,
        "salt": bytes,
        "commitment": bytes,
        "bodies": list,
        "shares": list,
    }
    value = decode_map(raw, what, limit=MAX_MANIFEST, fields=shape)
    for name, expected in (("v", VERSION), ("format", FORMAT)):
        if value[name] != expected:
            raise Mismatch(f"{what}: {name}", expected=expected, actual=value[name], code="format")
    plain, bodies, shares = value["descriptor"], value["bodies"], value["shares"]
    assert isinstance(plain, bytes)
    assert isinstance(bodies, list)
    assert isinstance(shares, list)
    manifest = UnverifiedManifest(
        decode_descriptor(plain),
        descriptor_digest(plain),
        _sized(value["salt"], f"{what}: salt", SALT_BYTES),
        _sized(value["commitment"], f"{what}: commitment", COMMITMENT_BYTES),
        tuple(_body(item) for item in bodies),
        tuple(_share(item) for item in shares),
    )
    _check_bodies(manifest)
    _check_shares(manifest)
    return manifest


def _check_bodies(manifest: UnverifiedManifest) -> None:
    names, wanted = [b.name for b in manifest.bodies], [file.name for file in manifest.descriptor.files]
    if names != wanted:
        raise Mismatch("manifest: names of the bodies", expected=wanted, actual=names, code="body-names")
    for body, file in zip(manifest.bodies, manifest.descriptor.files, strict=True):
        if body.size != sealed_size(file.size):
            raise Mismatch(f"manifest: size of {body.body!r}", expected=sealed_size(file.size), actual=body.size)


def _check_shares(manifest: UnverifiedManifest) -> None:
    if len(manifest.shares) > MAX_WRAPPED:
        raise TooLarge("manifest: shares", limit=MAX_WRAPPED, actual=len(manifest.shares))
    orders = [share.order for share in manifest.shares]
    if orders != sorted(set(orders)):
        raise NotCanonical("manifest: shares: expected them sorted by source, role and purpose, each once")
    sets = [{one.source for one in manifest.wrapped(ShareRole.SHARE, purpose)} for purpose in PurposeClass]
    present = [sources for sources in sets if sources]
    # One model key: every purpose class that is there has a copy of every share.
    if not present or any(sources != present[0] for sources in present) or len(present[0]) > MAX_SHARES:
        shown = [sorted(sources) for sources in present]
        raise Malformed(f"manifest: shares: expected the same 1 to {MAX_SHARES} sources for each purpose, got {shown}")


def _body(item: Value) -> Body:
    shape: dict[str, type | tuple[type, ...]] = {"name": str, "size": int, "algorithm": str, "digest": bytes}
    value = check_map(item, "manifest: body", shape)
    name, size = value["name"], value["size"]
    assert isinstance(name, str)
    assert isinstance(size, int)
    if value["algorithm"] != HASH:
        raise Mismatch(f"manifest: hash of {name!r}", expected=HASH, actual=value["algorithm"], code="algorithm")
    return Body(name, size, _sized(value["digest"], f"manifest: digest of {name!r}", HASH_BYTES))


def _share_map(share: WrappedShare) -> dict[str, Value]:
    return {
        "source": share.source,
        "kind": share.kind.value,
        "role": share.role.value,
        "purpose": share.purpose_class.value,
        "key": share.key,
        "blob": share.blob,
        "check": share.check,
    }


def _share(item: Value) -> WrappedShare:
    texts = ("source", "kind", "role", "purpose", "key")
    value = check_map(item, "manifest: share", dict.fromkeys(texts, str) | dict.fromkeys(("blob", "check"), bytes))
    source, kind, role, purpose, key = (str(value[name]) for name in texts)
    check_id(source, "manifest: share: source")
    blob = value["blob"]
    assert isinstance(blob, bytes)
    if not 0 < len(blob) <= MAX_BLOB:
        raise TooLarge(f"manifest: share of {source!r}: blob", limit=MAX_BLOB, actual=len(blob))
    if not 0 < len(key) <= MAX_KEY:
        raise TooLarge(f"manifest: share of {source!r}: key", limit=MAX_KEY, actual=len(key))
    try:
        words = ShareKind(kind), ShareRole(role), PurposeClass(purpose)
    except ValueError as error:
        raise Malformed(f"manifest: share of {source!r}: {error}") from error
    return WrappedShare(source, *words, key, blob, _sized(value["check"], "manifest: share: check", CHECK_BYTES))


def _sized(value: Value, what: str, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise Malformed(f"{what}: expected {size} bytes")
    return value
