"""The authority's journal: signed, numbered, chained entries in the transcript's form (docs/spec/release.md 7).

An entry is COSE_Sign1 (Ed25519, label JOURNAL) over canonical CBOR {v, seq, prev, t, type, body}; `prev` is the
labelled digest of the signed entry before it. It is written in the transaction that changes the state, and committed
before the answer leaves: what was answered was journaled. Never a share, a key, a token or a prompt.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy.engine import Connection

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.cose import parse_sign1, sign1
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.types import Milliseconds

VERSION = 1
MAX_ENTRY_BYTES = 65_536
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "v": int,
    "seq": int,
    "prev": bytes,
    "t": int,
    "type": str,
    "body": dict,
}


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One verified entry."""

    seq: int
    t: Milliseconds
    type: str
    body: Mapping[str, canonical.Value]


class Journal:
    """The journal table of one database. One writer: the caller holds the transaction."""

    def __init__(self, tables: sql.MetaData, key: Ed25519PrivateKey) -> None:
        self._table = tables.tables["journal"]
        self._key = key

    @staticmethod
    def define(tables: sql.MetaData) -> None:
        """Add the table to a schema."""
        sql.Table(
            "journal",
            tables,
            sql.Column("seq", sql.Integer, primary_key=True, autoincrement=False),
            sql.Column("signed", sql.LargeBinary, nullable=False),
        )

    def append(self, connection: Connection, now: Milliseconds, kind: str, body: Mapping[str, canonical.Value]) -> int:
        """Sign and store the next entry within the caller's transaction; its number."""
        last = connection.execute(
            sql.select(self._table.c.seq, self._table.c.signed).order_by(self._table.c.seq.desc()).limit(1)
        ).first()
        seq, prev = (0, b"") if last is None else (last.seq + 1, labelled(labels.JOURNAL_CHAIN, last.signed))
        payload = canonical.encode({"v": VERSION, "seq": seq, "prev": prev, "t": now, "type": kind, "body": body})
        signed = sign1(payload, self._key, aad=labels.JOURNAL)
        connection.execute(sql.insert(self._table).values(seq=seq, signed=signed))
        return seq

    def count(self, connection: Connection) -> int:
        """How many entries there are."""
        return connection.execute(sql.select(sql.func.count()).select_from(self._table)).scalar_one()

    def signed_entries(self, connection: Connection) -> tuple[bytes, ...]:
        """Every signed entry, in order."""
        return tuple(
            row.signed for row in connection.execute(sql.select(self._table.c.signed).order_by(self._table.c.seq))
        )


def check_journal(signed_entries: Iterable[bytes], key: Ed25519PublicKey) -> tuple[JournalEntry, ...]:
    """The entries, once signatures, numbers and chain hold. Raises EvidenceError."""
    entries: list[JournalEntry] = []
    prev = b""
    for seq, raw in enumerate(signed_entries):
        payload = parse_sign1(raw, f"journal entry {seq}", limit=MAX_ENTRY_BYTES).verify(
            key, aad=labels.JOURNAL, what=f"journal entry {seq}"
        )
        fields = canonical.decode_map(payload, f"journal entry {seq}", limit=MAX_ENTRY_BYTES, fields=_FIELDS)
        for name, expected in (("v", VERSION), ("seq", seq), ("prev", prev)):
            if fields[name] != expected:
                raise Mismatch(f"{name} of journal entry {seq}", expected=expected, actual=fields[name])
        entries.append(
            JournalEntry(
                seq,
                Milliseconds(cast("int", fields["t"])),
                cast("str", fields["type"]),
                cast("dict[str, canonical.Value]", fields["body"]),
            )
        )
        prev = labelled(labels.JOURNAL_CHAIN, raw)
    return tuple(entries)
