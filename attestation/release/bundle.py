"""The file that is handed around: one list, its statements, proofs of logging, revocations (release-statements.md 4).

Nothing in it is believed for lying in it: `verify.py` says what holds. Who hands it around may leave things out; the
list's age bounds for how long that goes unseen.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from anchorhold.attestation.canonical import Value, check_map, decode_map, encode
from anchorhold.attestation.errors import Malformed, Mismatch, TooLarge
from anchorhold.attestation.release.signed import Kind, UnverifiedSigned, parse_signed, statement_digest
from anchorhold.attestation.release.statement import MAX_STATEMENTS, ReleaseList, ReleaseStatement, check_sorted
from anchorhold.attestation.transcript.checkpoint import MAX_NOTE, Vkey
from anchorhold.attestation.transcript.tree import MAX_PROOF, MAX_SIZE, leaf_hash, verify_inclusion

VERSION = 1
MAX_REVOCATIONS = 64  # signed revocations that no list holds yet
MAX_BUNDLE = 10 * 2**20  # bytes; 64 full leaves with their proofs and 64 full revocations take 9.4 million
_FIELDS: Mapping[str, type] = {"v": int, "list": bytes, "statements": list, "revocations": list}
_STATEMENT_FIELDS: Mapping[str, type | tuple[type, ...]] = {"signed": bytes, "log": (dict, type(None))}
_LOG_FIELDS: Mapping[str, type] = {"index": int, "checkpoint": bytes, "proof": list}


@dataclass(frozen=True, slots=True)
class Inclusion:
    """What a log answered: its checkpoint and the path to one leaf. Unverified."""

    index: int
    checkpoint: bytes
    proof: tuple[bytes, ...]

    def verify(self, leaf: bytes, log: Vkey) -> None:
        """1. The log's key signs the checkpoint. 2. `leaf` is in its tree. Raises EvidenceError."""
        checkpoint = log.open_checkpoint(self.checkpoint)
        verify_inclusion(leaf_hash(leaf), self.index, checkpoint.size, self.proof, checkpoint.root)


@dataclass(frozen=True, slots=True)
class BundledStatement:
    """A signed statement, and its proof of logging if it has one. The leaf is the signed statement as it stands."""

    signed: UnverifiedSigned
    unverified_statement: ReleaseStatement
    log: Inclusion | None

    @classmethod
    def of(cls, signed: UnverifiedSigned, log: Inclusion | None = None) -> "BundledStatement":
        """Raises EvidenceError for a payload that is no statement."""
        return cls(signed, ReleaseStatement.decode(signed.payload), log)


@dataclass(frozen=True, slots=True)
class UnverifiedBundle:
    """A parsed bundle. Statements are sorted by digest, revocations by their bytes."""

    list: UnverifiedSigned
    unverified_list: ReleaseList
    statements: tuple[BundledStatement, ...]
    revocations: tuple[UnverifiedSigned, ...]

    def __post_init__(self) -> None:
        check_sorted("release bundle: statements", [statement_digest(one.signed) for one in self.statements])
        check_sorted("release bundle: revocations", tuple(one.encode() for one in self.revocations))

    def encode(self) -> bytes:
        """The canonical bytes."""
        return encode({
            "v": VERSION,
            "list": self.list.encode(),
            "statements": [{"signed": one.signed.encode(), "log": _log_map(one.log)} for one in self.statements],
            "revocations": [one.encode() for one in self.revocations],
        })  # fmt: skip

    @classmethod
    def decode(cls, raw: bytes) -> "UnverifiedBundle":
        """Strictly. Raises EvidenceError."""
        members = decode_map(raw, "release bundle", limit=MAX_BUNDLE, fields=_FIELDS)
        whole, statements, revocations = members["list"], members["statements"], members["revocations"]
        assert isinstance(whole, bytes)
        assert isinstance(statements, list)
        if members["v"] != VERSION:
            raise Mismatch("release bundle: version of the form", expected=VERSION, actual=members["v"])
        # Before any is parsed: the count bounds the work.
        if len(statements) > MAX_STATEMENTS:
            raise TooLarge("release bundle: statements", limit=MAX_STATEMENTS, actual=len(statements))
        signed = parse_signed(whole, Kind.LIST)
        return cls(
            signed,
            ReleaseList.decode(signed.payload),
            tuple(_statement(one) for one in statements),
            tuple(parse_signed(one, Kind.REVOCATION) for one in _byte_strings(revocations, MAX_REVOCATIONS)),
        )


def _statement(value: Value) -> BundledStatement:
    members = check_map(value, "release bundle: statement", _STATEMENT_FIELDS)
    signed = members["signed"]
    assert isinstance(signed, bytes)
    log = None if members["log"] is None else _inclusion(members["log"])
    return BundledStatement.of(parse_signed(signed, Kind.STATEMENT), log)


def _inclusion(value: Value) -> Inclusion:
    members = check_map(value, "release bundle: log", _LOG_FIELDS)
    index, checkpoint = members["index"], members["checkpoint"]
    assert isinstance(index, int)
    assert isinstance(checkpoint, bytes)
    if not 0 <= index < MAX_SIZE:
        raise Malformed(f"release bundle: log index: expected 0 to {MAX_SIZE - 1}, got {index}")
    if len(checkpoint) > MAX_NOTE:
        raise TooLarge("release bundle: checkpoint", limit=MAX_NOTE, actual=len(checkpoint))
    return Inclusion(index, checkpoint, _byte_strings(members["proof"], MAX_PROOF))


def _log_map(log: Inclusion | None) -> Value:
    return None if log is None else {"index": log.index, "checkpoint": log.checkpoint, "proof": log.proof}


def _byte_strings(value: Value, limit: int) -> tuple[bytes, ...]:
    assert isinstance(value, list)
    if len(value) > limit:
        raise TooLarge("release bundle: members", limit=limit, actual=len(value))
    strings: list[bytes] = []
    for one in value:
        if not isinstance(one, bytes):
            raise Malformed(f"release bundle: expected bytes, got {type(one).__name__}")
        strings.append(one)
    return tuple(strings)
