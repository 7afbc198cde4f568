"""Any bytes give accepted releases or an EvidenceError, nothing else, in bounded time and memory.

The first byte chooses: the rest is a bundle as it stands, or decisions about what to change before the signers sign
again, so that the fuzzer reaches what stands behind the signatures. Whatever is accepted must be due, current and ours.
"""

from collections.abc import Sequence
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from tests.fuzz import seeds as kept
from tests.fuzz.choices import Choices, edited

from anchorhold.attestation.canonical import Value, decode, encode
from anchorhold.attestation.cose import sign1
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.labels import (
    RELEASES_LIST,
    RELEASES_LIST_SIGNATURE,
    RELEASES_REVOCATION,
    RELEASES_REVOCATION_SIGNATURE,
    RELEASES_STATEMENT,
    RELEASES_STATEMENT_SIGNATURE,
)
from anchorhold.attestation.release.quorum import Quorum, Signer, SignerRole
from anchorhold.attestation.release.statement import Reason, ReleaseDigest, ReleaseList, ReleaseStatement, Revocation
from anchorhold.attestation.release.verify import verify_releases
from anchorhold.attestation.transcript.checkpoint import Checkpoint, Vkey, sign_checkpoint
from anchorhold.attestation.transcript.tree import HashTree, inclusion_proof, leaf_hash
from anchorhold.attestation.types import Milliseconds, Platform

MAX_LEN = 20_000
TOKENS = (b"product", b"version", b"statements", b"revoked", b"not_before", b"not_after", b"simulated", b"\x58\x30")
ORIGIN = "example.org/log"
LOG = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
VKEY = Vkey.of(ORIGIN, LOG.public_key())
NOW = Milliseconds(1_768_478_400_000)
WEEK = Milliseconds(7 * 86_400_000)
FLOOR = 3
PRODUCT = "anchorhold"
_LABELS = {
    "release-statement": (RELEASES_STATEMENT, RELEASES_STATEMENT_SIGNATURE),
    "release-list": (RELEASES_LIST, RELEASES_LIST_SIGNATURE),
    "release-revocation": (RELEASES_REVOCATION, RELEASES_REVOCATION_SIGNATURE),
}
_ODD: tuple[Value, ...] = (None, True, 0, 1, -1, FLOOR - 1, 2**53, 2**64 - 1, "", "other", b"", b"z" * 48, [], {})


class _Keys:
    def __init__(self, name: str, seed: bytes) -> None:
        self.ed25519 = Ed25519PrivateKey.from_private_bytes(seed * 32)
        self.ml_dsa_65 = MLDSA65PrivateKey.from_seed_bytes(seed * 32)
        self.public = Signer(
            name,
            SignerRole.OWNER,
            self.ed25519.public_key().public_bytes_raw(),
            self.ml_dsa_65.public_key().public_bytes_raw(),
        )

    def sign(self, kind: str, payload: bytes) -> Value:
        label, external = _LABELS[kind]
        digest = labelled(label, payload)
        return [
            self.public.identity,
            sign1(digest, self.ed25519, aad=external),
            sign1(digest, self.ml_dsa_65, aad=external),
        ]


# Most payloads come again and again, and signing is most of the time.
@lru_cache(maxsize=256)
def _signature(number: int, kind: str, payload: bytes) -> Value:
    return KEYS[number].sign(kind, payload)


KEYS = tuple(_Keys(name, seed) for name, seed in (("a", b"\x01"), ("b", b"\x02"), ("c", b"\x03")))
QUORUM = Quorum(tuple(one.public for one in KEYS), 2, 1)


def _statement(name: str, fill: int, begins: int = -1_000, ends: int = 1_000) -> bytes:
    registers = {index: bytes([fill + index]) * 48 for index in (0, 1, 2)}
    times = Milliseconds(NOW + begins), Milliseconds(NOW + ends)
    return ReleaseStatement(PRODUCT, name, Platform.SIMULATED, (registers,), *times).encode()


STATEMENTS = (_statement("1.0", 1), _statement("1.1", 9), _statement("2.0", 17, begins=500))


def _digest(statement: bytes) -> ReleaseDigest:
    return ReleaseDigest(labelled(RELEASES_STATEMENT, statement))


def _list(statements: Sequence[bytes]) -> bytes:
    digests = tuple(sorted(_digest(one) for one in statements))
    return ReleaseList(PRODUCT, FLOOR, NOW, digests, ()).encode()


def _signed(kind: str, payload: bytes, choices: Choices) -> bytes:
    """By the first two, or by whom the decisions say."""
    chosen = choices.byte()
    signers = [number for number in range(len(KEYS)) if (chosen ^ 0b011) >> number & 1]
    signatures = sorted((_signature(number, kind, payload) for number in signers), key=encode)
    return encode([kind, payload, signatures])


def _reshaped(raw: bytes, choices: Choices) -> bytes:
    """One member of a map set to something odd, or bytes edited."""
    if choices.byte() % 4 == 0:
        return edited(raw, choices, 2)
    try:
        value = decode(raw, "seed", limit=1 << 20)
    except EvidenceError:  # edited before
        return raw
    if not isinstance(value, dict) or not value:
        return raw
    name = choices.pick(sorted(value))
    odd: Value = choices.number(1 << 24) + NOW - (1 << 23) if choices.byte() % 2 else choices.pick(_ODD)
    return encode({**value, name: odd})


def _logged(leaves: Sequence[bytes], at: int, choices: Choices) -> Value:
    """A proof of leaf `at` in a log of all of them; sometimes none, or one that does not hold."""
    tree = HashTree([leaf_hash(leaf) for leaf in leaves])
    size = len(leaves)
    note = sign_checkpoint(Checkpoint(ORIGIN, size, tree.root(size)), LOG)
    proof: list[Value] = list(inclusion_proof(at, size, tree.node))
    how = choices.byte() % 8
    if how == 1:
        return None
    if how == 2:
        note = edited(note, choices, 2)
    elif how == 3:
        proof = [*proof, choices.chunk(32)] if choices.byte() % 2 else proof[:-1]
    index = choices.number(size + 1) if how == 4 else at
    return {"index": index, "checkpoint": note, "proof": proof}


def _bundle(choices: Choices) -> bytes:
    statements, whole = list(STATEMENTS), _list(STATEMENTS)
    revocations: list[bytes] = []
    for _ in range(choices.byte() % 3):
        what = choices.byte() % 4
        if what == 0:
            at = choices.number(len(statements))
            statements[at] = _reshaped(statements[at], choices)
            whole = _list(statements) if choices.byte() % 2 else whole
        elif what == 1:
            whole = _reshaped(whole, choices)
        elif what == 2:
            digest = _digest(statements[choices.number(len(statements))])
            revocation = Revocation(PRODUCT, digest, NOW, Reason.DEFECT).encode()
            again = _reshaped(revocation, choices) if choices.byte() % 2 else revocation
            revocations.append(_signed("release-revocation", again, choices))
        else:
            del statements[choices.number(len(statements))]
            statements = statements or [STATEMENTS[0]]
    signed = {_digest(one): _signed("release-statement", one, choices) for one in statements}
    leaves = [signed[digest] for digest in sorted(signed)]
    members: dict[str, Value] = {
        "v": 1,
        "list": _signed("release-list", whole, choices),
        "statements": [{"signed": leaf, "log": _logged(leaves, at, choices)} for at, leaf in enumerate(leaves)],
        "revocations": sorted(set(revocations)),
    }
    return edited(encode(members), choices, 1)


def seeds() -> list[bytes]:
    """No decisions, one of each kind, and a whole bundle."""
    good = _bundle(Choices(b""))
    decisions = [b"\x01" + bytes([1, kind]) + bytes([37 * kind % 256]) * 24 for kind in range(8)]
    return [b"\x01", *decisions, b"\x00" + good, *(b"\x00" + raw for raw in kept.under("release", ".cbor"))]


def one_input(data: bytes) -> None:
    """One bundle, judged without a log and with one."""
    shaped = data[:1] == b"\x01"
    raw = _bundle(Choices(data[1:])) if shaped else data[1:]
    public = _judged(raw, VKEY)
    alone = _judged(raw, None)
    if shaped and not data[1:].strip(b"\0"):
        assert public, "the good bundle is refused"
    # To ask for less can only let more in.
    assert set(public) <= set(alone)


def _judged(raw: bytes, log: Vkey | None) -> tuple[ReleaseDigest, ...]:
    """The statements accepted, none where the list is refused."""
    try:
        releases = verify_releases(
            raw, QUORUM, product=PRODUCT, now=NOW, max_list_age=WEEK, version_floor=FLOOR, log=log
        )
    except EvidenceError:
        return ()
    assert releases.version >= FLOOR
    assert NOW - releases.issued_at <= WEEK
    assert releases.accepted
    for one in releases.accepted:
        assert one.product == PRODUCT
        assert one.not_before <= NOW < one.not_after
        assert len(releases.signers[one.digest]) >= QUORUM.threshold
    assert releases.policy(configuration=None).platforms
    return tuple(one.digest for one in releases.accepted)
