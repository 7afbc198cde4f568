"""A copy of a face's database in one signed file, the same for SQLite and PostgreSQL (docs/spec/authority-state.md 6).

It holds what the tables hold: sealed keys, policies, journal. Key material stays in the keystore. Who has the file
learns policies and principals' names; who changes it is found out.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy.engine import Connection

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.cose import parse_sign1, sign1
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority import migrations
from anchorhold.authority.faces import Face, face_of, open_store_key
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.mark import Head
from anchorhold.authority.store import Store, last_head

VERSION = 1
MAX_FRAME = 1 << 20  # bytes; the largest row is a journal entry, 64 KiB
ROWS_AT_ONCE = 500
_FRAME = struct.Struct(">cI")
_HEADER, _ROW, _SIGNATURE = b"H", b"R", b"S"
_HEADER_FIELDS: dict[str, type | tuple[type, ...]] = {
    "v": int, "face": str, "revision": str, "seq": int, "head": bytes, "t": int,
}  # fmt: skip
_ROW_FIELDS: dict[str, type | tuple[type, ...]] = {"table": str, "row": dict}
_END_FIELDS: dict[str, type | tuple[type, ...]] = {"digest": bytes, "rows": int}


Put = Callable[[str, dict[str, canonical.Value]], None]


class BackupRefused(Exception):
    """A file that is no whole backup of this authority."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a backup is of."""

    face: str
    revision: str
    head: Head
    at: Milliseconds
    rows: int


def write_backup(state_dir: Path, file: Path, now: Milliseconds, ask: Ask | None = None) -> Summary:
    """Copy the database of `state_dir`, as of one moment, to a new `file`.

    Raises FileExistsError or what a start does.
    """
    face = face_of(state_dir)
    store = Store.load(face.path(state_dir), face.name)
    try:
        key = open_store_key(face, store, state_dir, ask)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out, store.snapshot() as connection:
            summary, digest = _write_rows(face, connection, out, now)
            payload = canonical.encode({"digest": digest, "rows": summary.rows})
            out.write(_framed(_SIGNATURE, sign1(payload, key, aad=labels.STATE_BACKUP)))
            out.flush()
            os.fsync(out.fileno())
        return summary
    finally:
        store.close()


def check_backup(file: Path, key: Ed25519PublicKey, put: Put | None = None) -> Summary:
    """What the file is of, once its signature holds over all of it. Raises BackupRefused.

    `put` gets each row with the name of its table, in the order in which they can be inserted, before the signature is
    seen: what it did counts only if this returns.
    """
    running = hashlib.sha384()
    header: dict[str, canonical.Value] | None = None
    rows = 0
    try:
        with file.open("rb") as source:
            for kind, body in _frames(source):
                if kind == _SIGNATURE:
                    end = _signed_end(body, key)
                    _expect("digest", end["digest"], running.digest())
                    _expect("rows", end["rows"], rows)
                    if source.read(1) or header is None:
                        raise Malformed("backup: expected one header first and the signature last")
                    return _summary(header, rows)
                running.update(_framed(kind, body))
                if (kind == _HEADER) != (header is None):
                    raise Malformed("backup: expected one header, and first")
                if kind == _HEADER:
                    header = canonical.decode_map(body, "backup header", limit=MAX_FRAME, fields=_HEADER_FIELDS)
                else:
                    rows += 1
                    if put is not None:
                        put(*_row(body))
    except EvidenceError as error:
        raise BackupRefused(str(error)) from error
    raise BackupRefused("backup: it ends before its signature")


def _row(body: bytes) -> tuple[str, dict[str, canonical.Value]]:
    fields = canonical.decode_map(body, "backup row", limit=MAX_FRAME, fields=_ROW_FIELDS)
    return cast("str", fields["table"]), cast("dict[str, canonical.Value]", fields["row"])


def _write_rows(face: Face, connection: Connection, out: BinaryIO, now: Milliseconds) -> tuple[Summary, bytes]:
    head = last_head(connection)
    revision = migrations.head(face.name)
    running = hashlib.sha384()
    rows = 0

    def put(kind: bytes, value: canonical.Value) -> None:
        framed = _framed(kind, canonical.encode(value))
        running.update(framed)
        out.write(framed)

    header: dict[str, canonical.Value] = {
        "v": VERSION,
        "face": face.name,
        "revision": revision,
        "seq": head.seq,
        "head": head.digest,
        "t": now,
    }
    put(_HEADER, header)
    for table in face.tables.sorted_tables:
        for part in connection.execute(sql.select(table)).mappings().partitions(ROWS_AT_ONCE):
            for row in part:
                put(_ROW, {"table": table.name, "row": dict(row)})
                rows += 1
    return Summary(face.name, revision, head, now, rows), running.digest()


def _signed_end(body: bytes, key: Ed25519PublicKey) -> dict[str, canonical.Value]:
    payload = parse_sign1(body, "backup signature", limit=MAX_FRAME).verify(
        key, aad=labels.STATE_BACKUP, what="backup signature"
    )
    return canonical.decode_map(payload, "backup signature", limit=MAX_FRAME, fields=_END_FIELDS)


def _summary(header: dict[str, canonical.Value], rows: int) -> Summary:
    _expect("version", header["v"], VERSION)
    head = Head(cast("int", header["seq"]), cast("bytes", header["head"]))
    at = Milliseconds(cast("int", header["t"]))
    return Summary(cast("str", header["face"]), cast("str", header["revision"]), head, at, rows)


def _frames(source: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while head := source.read(_FRAME.size):
        if len(head) != _FRAME.size:
            raise Malformed("backup: it ends within a frame")
        kind, length = _FRAME.unpack(head)
        if kind not in (_HEADER, _ROW, _SIGNATURE) or length > MAX_FRAME:
            raise Malformed(f"backup: expected a frame of at most {MAX_FRAME} bytes, got {kind!r} of {length}")
        body = source.read(length)
        if len(body) != length:
            raise Malformed("backup: it ends within a frame")
        yield kind, body


def _framed(kind: bytes, body: bytes) -> bytes:
    return _FRAME.pack(kind, len(body)) + body


def _expect(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise Mismatch(f"{what} of the backup", expected=expected, actual=actual)
