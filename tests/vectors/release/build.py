"""A bundle of releases from fixed keys and times, and each way to spoil one part of it.

ML-DSA signing is randomised here, so a signature that was made once is taken again from the vectors, if it verifies.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from anchorhold.attestation.canonical import Value, decode, encode
from anchorhold.attestation.release.bundle import Inclusion, UnverifiedBundle
from anchorhold.attestation.release.quorum import Quorum, SignerRole
from anchorhold.attestation.release.signed import Kind, Signature, UnverifiedSigned
from anchorhold.attestation.release.statement import Reason, ReleaseList, ReleaseStatement, Revocation
from anchorhold.attestation.transcript.checkpoint import Checkpoint, Vkey, sign_checkpoint
from anchorhold.attestation.transcript.tree import HashTree, inclusion_proof, leaf_hash
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.publish.release import ReleaseSigner, new_bundle, sign_bundle

HERE = Path(__file__).parent
PRODUCT = "gateway"
DAY = 86_400_000
ISSUED = Milliseconds(1_800_000_000_000)
NOW = Milliseconds(ISSUED + DAY)
MAX_AGE = 7 * DAY
LEEWAY = 300_000
LOG_KEY = Ed25519PrivateKey.from_private_bytes(b"log key of the vectors, 32 bytes")
OTHER_LOG_KEY = Ed25519PrivateKey.from_private_bytes(b"another log's key, also 32 bytes")
ORIGIN = "log.example/vectors"
# 0xd2 0x84: COSE_Sign1; protected {1: -49}; unprotected {}; payload of 48 bytes; signature of 3309 (FIPS 204).
_ML_DSA = re.compile(rb"\xd2\x84\x44\xa1\x01\x38\x30\xa0\x58\x30.{48}\x59\x0c\xed(.{3309})", re.DOTALL)


def pool() -> list[bytes]:
    files = sorted(HERE.glob("*.cbor"))
    return list(dict.fromkeys(found for path in files for found in _ML_DSA.findall(path.read_bytes())))


@dataclass
class KnownKey:
    """An ML-DSA-65 key that signs a message once in its life."""

    key: MLDSA65PrivateKey
    pool: list[bytes]
    made: dict[bytes, bytes] = field(default_factory=dict)

    def public_key(self) -> MLDSA65PublicKey:
        return self.key.public_key()

    def sign(self, message: bytes) -> bytes:
        if message not in self.made:
            self.made[message] = next((one for one in self.pool if self._holds(one, message)), b"") or self.key.sign(
                message
            )
        return self.made[message]

    def _holds(self, signature: bytes, message: bytes) -> bool:
        try:
            self.public_key().verify(signature, message)
        except InvalidSignature:
            return False
        return True


POOL = pool()


def signer(name: str, role: SignerRole) -> ReleaseSigner:
    seed = f"{name} of the vectors".encode().ljust(32, b".")
    known = KnownKey(MLDSA65PrivateKey.from_seed_bytes(seed), POOL)
    return ReleaseSigner(name, role, Ed25519PrivateKey.from_private_bytes(seed), cast("MLDSA65PrivateKey", known))


OWNER, OPERATOR, AUDITOR = (signer(name, SignerRole(name)) for name in ("owner", "operator", "auditor"))
STRANGER = signer("stranger", SignerRole.CUSTOMER)
QUORUM = Quorum((OWNER.public, OPERATOR.public, AUDITOR.public), 2, 1)
VKEY = Vkey.of(ORIGIN, LOG_KEY.public_key())


@dataclass(frozen=True)
class Vector:
    """One file, the clause it is about, and what `verify_releases` must say. `given` overrides the common inputs."""

    name: str
    clause: str
    raw: bytes
    expect: Mapping[str, object]
    given: Mapping[str, object] = field(default_factory=dict)


def registers(fill: str) -> dict[int, bytes]:
    return {index: fill.encode() * 48 for index in (0, 1, 2)}


def statement(release: str = "1.0", fill: str = "a", **changes: object) -> ReleaseStatement:
    end = Milliseconds(ISSUED + 90 * DAY)
    made = ReleaseStatement(PRODUCT, release, Platform.NITRO_ENCLAVE, (registers(fill),), ISSUED, end)
    return replace(made, **changes)  # type: ignore[arg-type]  # a vector names the one field it changes


FIRST = statement()


def signed(*statements: ReleaseStatement, by: Sequence[ReleaseSigner] = (OWNER, OPERATOR)) -> UnverifiedBundle:
    bundle = new_bundle(statements or (FIRST,), issued_at=ISSUED)
    for one in by:
        bundle = sign_bundle(bundle, one)
    return bundle


BASE = signed()
INNER = BASE.statements[0]
LISTED = BASE.unverified_list


def by_two(unsigned: UnverifiedSigned) -> UnverifiedSigned:
    return OPERATOR.sign(OWNER.sign(replace(unsigned, signatures=())))


def with_list(fresh: ReleaseList, bundle: UnverifiedBundle = BASE) -> UnverifiedBundle:
    whole = by_two(UnverifiedSigned(Kind.LIST, fresh.encode(), ()))
    return replace(bundle, list=whole, unverified_list=fresh)


def changed(one: UnverifiedSigned, who: ReleaseSigner, **changes: object) -> UnverifiedSigned:
    """`one` with a change to the signature of `who`."""
    identity = who.public.identity
    signatures = [
        replace(each, **changes) if each.signer == identity else each  # type: ignore[arg-type]  # as named
        for each in one.signatures
    ]
    return replace(one, signatures=tuple(sorted(signatures, key=lambda each: each.signer)))


def signature_of(one: UnverifiedSigned, who: ReleaseSigner) -> Signature:
    return next(each for each in one.signatures if each.signer == who.public.identity)


def with_list_signature(**changes: object) -> bytes:
    return replace(BASE, list=changed(BASE.list, OWNER, **changes)).encode()


def with_inner(signed_statement: UnverifiedSigned) -> bytes:
    return replace(BASE, statements=(replace(INNER, signed=signed_statement),)).encode()


def revocation(
    *signers: ReleaseSigner, product: str = PRODUCT, at: int = NOW, of: ReleaseStatement = FIRST
) -> UnverifiedSigned:
    made = Revocation(product, of.digest, Milliseconds(at), Reason.VULNERABILITY)
    unsigned = UnverifiedSigned(Kind.REVOCATION, made.encode(), ())
    for one in signers:
        unsigned = one.sign(unsigned)
    return unsigned


def revoked_by(*signers: ReleaseSigner, **how: object) -> bytes:
    return replace(BASE, revocations=(revocation(*signers, **how),)).encode()  # type: ignore[arg-type]  # passed on


def with_payload(kind: Kind, payload: Mapping[str, Value]) -> bytes:
    """A bundle whose list or statement has a payload that our own classes would not make, signed as if it were one."""
    whole = by_two(UnverifiedSigned(kind, encode(payload), ()))
    if kind is Kind.LIST:
        return rebuilt(BASE.encode(), lambda members: members | {"list": whole.encode()})
    return rebuilt(BASE.encode(), lambda members: members | {"statements": [{"signed": whole.encode(), "log": None}]})


def rebuilt(raw: bytes, change: Callable[[dict[str, Value]], Mapping[str, Value]]) -> bytes:
    members = decode(raw, "bundle", limit=len(raw))
    assert isinstance(members, dict)
    return encode(change(members))


def fields(raw: bytes, **changes: Value) -> dict[str, Value]:
    """A payload's members with `changes`; a change to None takes the member away."""
    members = decode(raw, "payload", limit=len(raw))
    assert isinstance(members, dict)
    return {name: value for name, value in (members | changes).items() if value is not None}


def logged(*, key: Ed25519PrivateKey = LOG_KEY, leaf: bytes | None = None, **changes: object) -> bytes:
    """The base bundle in a log of four leaves, or something that is not quite that."""
    mine = INNER.signed.encode() if leaf is None else leaf
    tree = HashTree([leaf_hash(one) for one in (b"one", mine, b"three", b"four")])
    note = sign_checkpoint(Checkpoint(ORIGIN, 4, tree.root(4)), key)
    proof = replace(Inclusion(1, note, inclusion_proof(1, 4, tree.node)), **changes)  # type: ignore[arg-type]  # as named
    return replace(BASE, statements=(replace(INNER, log=proof),)).encode()


def fresh_list(**changes: object) -> bytes:
    return with_list(replace(LISTED, **changes)).encode()  # type: ignore[arg-type]  # as named


def accepts(*releases: str, **refused: str) -> dict[str, object]:
    return {"accepted": sorted(releases), "refused": {name.replace("_", "."): code for name, code in refused.items()}}


def refuses(code: str, **refused: str) -> dict[str, object]:
    return {"code": code, "refused": {name.replace("_", "."): it for name, it in refused.items()}}


def none(code: str) -> dict[str, object]:
    return refuses("no-accepted-release", **{"1_0": code})
