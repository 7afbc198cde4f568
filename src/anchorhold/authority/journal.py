"""The authority's journal, written: signed, numbered, chained entries in the transcript's form (docs/spec/journal.md).

An entry is COSE_Sign1 (Ed25519, label JOURNAL) over canonical CBOR {v, seq, prev, t, type, body}; `prev` is the
labelled digest of the signed entry before it. It is written in the transaction that changes the state, and committed
before the answer leaves: what was answered was journaled. Never a share, a key, a token or a prompt.
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.cose import sign1
from anchorhold.attestation.errors import TooLarge
from anchorhold.attestation.journal import MAX_ENTRY_BYTES, VERSION, JournalEntry, check_journal, entry_digest
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority import mark

__all__ = ["Journal", "JournalEntry", "check_journal", "listed"]

MAX_LISTED = 512  # digests that one entry names: 26 KiB of its 64

Entry = tuple[str, Mapping[str, canonical.Value]]
"""Type and body of an entry to come."""


class Journal:
    """The journal table of one database. One writer: the caller holds the transaction."""

    def __init__(
        self, tables: sql.MetaData, key: Ed25519PrivateKey, noted: Mapping[str, canonical.Value] | None = None
    ) -> None:
        self._tables = tables
        self._table = tables.tables["journal"]
        self._key = key
        self._noted = noted or {}

    def noting(self, fields: Mapping[str, canonical.Value]) -> "Journal":
        """The same journal, whose entries say `fields` too: who ordered them, and why they were let."""
        return Journal(self._tables, self._key, fields)

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
        """Sign and store the next entry within the caller's transaction; its number. Raises TooLarge."""
        return self.append_all(connection, now, [(kind, body)])

    def append_all(self, connection: Connection, now: Milliseconds, entries: Sequence[Entry]) -> int:
        """As `append`, for several entries in order, at least one; the last one's number.

        Raises TooLarge for an entry that no reader would take: the caller's transaction is not to be committed then.
        """
        last = connection.execute(
            sql.select(self._table.c.seq, self._table.c.signed).order_by(self._table.c.seq.desc()).limit(1)
        ).first()
        first, prev = (0, b"") if last is None else (last.seq + 1, entry_digest(last.signed))
        # What was ever answered is still here (docs/spec/authority-state.md 5): nothing is added to a shorter one.
        mark.journaling(connection, mark.EMPTY if last is None else mark.Head(last.seq, prev), self._digest(connection))
        rows: list[dict[str, object]] = []
        for seq, (kind, body) in enumerate(entries, first):
            fields: dict[str, canonical.Value] = {"v": VERSION, "seq": seq, "prev": prev, "t": now, "type": kind}
            signed = sign1(canonical.encode({**fields, "body": {**body, **self._noted}}), self._key, aad=labels.JOURNAL)
            if len(signed) > MAX_ENTRY_BYTES:
                raise TooLarge(f"journal entry {seq} ({kind})", limit=MAX_ENTRY_BYTES, actual=len(signed))
            rows.append({"seq": seq, "signed": signed})
            prev = entry_digest(signed)
        connection.execute(sql.insert(self._table), rows)
        end = first + len(rows) - 1
        mark.journaled(connection, mark.Head(end, prev))
        return end

    def _digest(self, connection: Connection) -> mark.DigestAt:
        def at(seq: int) -> bytes | None:
            row = connection.execute(sql.select(self._table.c.signed).where(self._table.c.seq == seq)).first()
            return None if row is None else entry_digest(row.signed)

        return at

    def count(self, connection: Connection) -> int:
        """How many entries there are."""
        return connection.execute(sql.select(sql.func.count()).select_from(self._table)).scalar_one()

    def page(self, connection: Connection, first: int, most: int) -> tuple[bytes, ...]:
        """Signed entries from number `first` on, in order, at most `most` of them."""
        column = self._table.c
        asked = sql.select(column.signed).where(column.seq >= first).order_by(column.seq).limit(most)
        return tuple(bytes(row.signed) for row in connection.execute(asked))

    def signed_entries(self, connection: Connection) -> tuple[bytes, ...]:
        """Every signed entry, in order."""
        return tuple(
            row.signed for row in connection.execute(sql.select(self._table.c.signed).order_by(self._table.c.seq))
        )


def listed(name: str, digests: Sequence[bytes]) -> dict[str, canonical.Value]:
    """Members of an entry that names digests: the first of them, so that it always fits, and how many there are."""
    return {name: list(digests[:MAX_LISTED]), f"{name}_count": len(digests)}
