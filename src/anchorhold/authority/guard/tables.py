"""The guard's tables. Portable types and statements alone; the caller's transaction is the only writer."""

import sqlalchemy as sql


def define(tables: sql.MetaData) -> None:
    """Add them to a schema."""
    sql.Table(
        "guard_policies",
        tables,
        sql.Column("seq", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("digest", sql.LargeBinary, nullable=False),
        sql.Column("body", sql.Text, nullable=False),
        sql.Column("at", sql.BigInteger, nullable=False),
    )
    sql.Table(
        "guard_switch",
        tables,
        sql.Column("id", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("reason", sql.Text, nullable=False),
        sql.Column("since", sql.BigInteger, nullable=False),
    )
    sql.Table(
        "guard_seen",
        tables,
        sql.Column("kind", sql.Text, primary_key=True),
        sql.Column("value", sql.Text, primary_key=True),
        sql.Column("at", sql.BigInteger, nullable=False),
    )
    sql.Table(
        "guard_levels",
        tables,
        sql.Column("name", sql.Text, primary_key=True),
        sql.Column("subject", sql.Text, primary_key=True),
        sql.Column("parts", sql.BigInteger, nullable=False),
        sql.Column("at", sql.BigInteger, nullable=False),
    )
    sql.Table(
        "guard_spent",
        tables,
        sql.Column("name", sql.Text, primary_key=True),
        sql.Column("subject", sql.Text, primary_key=True),
        sql.Column("day", sql.Integer, nullable=False),
        sql.Column("uses", sql.Integer, nullable=False),
    )
    sql.Table(
        "guard_starts",
        tables,
        sql.Column("subject", sql.Text, primary_key=True),
        sql.Column("not_after", sql.BigInteger, nullable=False),
    )
    sql.Table(
        "guard_unmatched",
        tables,
        sql.Column("request_id", sql.Text, primary_key=True),
        sql.Column("principal", sql.Text, nullable=False),
        sql.Column("key", sql.Text, nullable=False),
        sql.Column("at", sql.BigInteger, nullable=False),
    )
    sql.Table(
        "guard_tickets",
        tables,
        sql.Column("digest", sql.LargeBinary, primary_key=True),
        sql.Column("principal", sql.Text, nullable=False),
        sql.Column("key", sql.Text, nullable=False),
        sql.Column("operation", sql.Text, nullable=False),
        sql.Column("purpose", sql.Text, nullable=False),
        sql.Column("not_before", sql.BigInteger, nullable=False),
        sql.Column("not_after", sql.BigInteger, nullable=False),
        sql.Column("max_uses", sql.Integer, nullable=False),
        sql.Column("used", sql.Integer, nullable=False),
        sql.Column("raw", sql.LargeBinary, nullable=False),
    )
    sql.Table(
        "guard_approvals",
        tables,
        sql.Column("id", sql.LargeBinary, primary_key=True),
        sql.Column("kind", sql.Text, nullable=False),
        sql.Column("subject", sql.Text, nullable=False),
        sql.Column("not_before", sql.BigInteger, nullable=False),
        sql.Column("not_after", sql.BigInteger, nullable=False),
        sql.Column("max_uses", sql.Integer, nullable=False),
        sql.Column("used", sql.Integer, nullable=False),
        sql.Column("raw", sql.LargeBinary, nullable=False),
    )
    sql.Table(
        "guard_signatures",
        tables,
        sql.Column("id", sql.LargeBinary, primary_key=True),
        sql.Column("key", sql.LargeBinary, primary_key=True),
        sql.Column("signature", sql.LargeBinary, nullable=False),
    )
    sql.Table(
        "guard_operators",
        tables,
        sql.Column("name", sql.Text, primary_key=True),
        sql.Column("role", sql.Text, nullable=False),
        sql.Column("token", sql.LargeBinary, nullable=False, unique=True),
        sql.Column("created", sql.BigInteger, nullable=False),
    )
    sql.Table(
        "guard_denials",
        tables,
        sql.Column("n", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("at", sql.BigInteger, nullable=False),
        sql.Column("face", sql.Text, nullable=False),
        sql.Column("principal", sql.Text, nullable=False),
        sql.Column("operation", sql.Text, nullable=False),
        sql.Column("key", sql.Text, nullable=False),
        sql.Column("rule", sql.Text, nullable=False),
        sql.Column("detail", sql.Text, nullable=False),
        sql.Column("alerts", sql.Text, nullable=False),
        sql.Column("request_id", sql.Text),
    )
