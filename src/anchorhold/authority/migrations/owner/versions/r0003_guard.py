"""The owner face: guard."""

import sqlalchemy as sql
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "guard_approvals",
        sql.Column("id", sql.LargeBinary(), nullable=False),
        sql.Column("kind", sql.Text(), nullable=False),
        sql.Column("subject", sql.Text(), nullable=False),
        sql.Column("not_before", sql.BigInteger(), nullable=False),
        sql.Column("not_after", sql.BigInteger(), nullable=False),
        sql.Column("max_uses", sql.Integer(), nullable=False),
        sql.Column("used", sql.Integer(), nullable=False),
        sql.Column("raw", sql.LargeBinary(), nullable=False),
        sql.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "guard_denials",
        sql.Column("n", sql.Integer(), autoincrement=False, nullable=False),
        sql.Column("at", sql.BigInteger(), nullable=False),
        sql.Column("face", sql.Text(), nullable=False),
        sql.Column("principal", sql.Text(), nullable=False),
        sql.Column("operation", sql.Text(), nullable=False),
        sql.Column("key", sql.Text(), nullable=False),
        sql.Column("rule", sql.Text(), nullable=False),
        sql.Column("detail", sql.Text(), nullable=False),
        sql.Column("alerts", sql.Text(), nullable=False),
        sql.Column("request_id", sql.Text(), nullable=True),
        sql.PrimaryKeyConstraint("n"),
    )
    op.create_table(
        "guard_levels",
        sql.Column("name", sql.Text(), nullable=False),
        sql.Column("subject", sql.Text(), nullable=False),
        sql.Column("parts", sql.BigInteger(), nullable=False),
        sql.Column("at", sql.BigInteger(), nullable=False),
        sql.PrimaryKeyConstraint("name", "subject"),
    )
    op.create_table(
        "guard_operators",
        sql.Column("name", sql.Text(), nullable=False),
        sql.Column("role", sql.Text(), nullable=False),
        sql.Column("token", sql.LargeBinary(), nullable=False),
        sql.Column("created", sql.BigInteger(), nullable=False),
        sql.PrimaryKeyConstraint("name"),
        sql.UniqueConstraint("token"),
    )
    op.create_table(
        "guard_policies",
        sql.Column("seq", sql.Integer(), autoincrement=False, nullable=False),
        sql.Column("digest", sql.LargeBinary(), nullable=False),
        sql.Column("body", sql.Text(), nullable=False),
        sql.Column("at", sql.BigInteger(), nullable=False),
        sql.PrimaryKeyConstraint("seq"),
    )
    op.create_table(
        "guard_seen",
        sql.Column("kind", sql.Text(), nullable=False),
        sql.Column("value", sql.Text(), nullable=False),
        sql.Column("at", sql.BigInteger(), nullable=False),
        sql.PrimaryKeyConstraint("kind", "value"),
    )
    op.create_table(
        "guard_signatures",
        sql.Column("id", sql.LargeBinary(), nullable=False),
        sql.Column("key", sql.LargeBinary(), nullable=False),
        sql.Column("signature", sql.LargeBinary(), nullable=False),
        sql.PrimaryKeyConstraint("id", "key"),
    )
    op.create_table(
        "guard_spent",
        sql.Column("name", sql.Text(), nullable=False),
        sql.Column("subject", sql.Text(), nullable=False),
        sql.Column("day", sql.Integer(), nullable=False),
        sql.Column("uses", sql.Integer(), nullable=False),
        sql.PrimaryKeyConstraint("name", "subject"),
    )
    op.create_table(
        "guard_starts",
        sql.Column("subject", sql.Text(), nullable=False),
        sql.Column("not_after", sql.BigInteger(), nullable=False),
        sql.PrimaryKeyConstraint("subject"),
    )
    op.create_table(
        "guard_switch",
        sql.Column("id", sql.Integer(), autoincrement=False, nullable=False),
        sql.Column("reason", sql.Text(), nullable=False),
        sql.Column("since", sql.BigInteger(), nullable=False),
        sql.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "guard_tickets",
        sql.Column("digest", sql.LargeBinary(), nullable=False),
        sql.Column("principal", sql.Text(), nullable=False),
        sql.Column("key", sql.Text(), nullable=False),
        sql.Column("operation", sql.Text(), nullable=False),
        sql.Column("purpose", sql.Text(), nullable=False),
        sql.Column("not_before", sql.BigInteger(), nullable=False),
        sql.Column("not_after", sql.BigInteger(), nullable=False),
        sql.Column("max_uses", sql.Integer(), nullable=False),
        sql.Column("used", sql.Integer(), nullable=False),
        sql.Column("raw", sql.LargeBinary(), nullable=False),
        sql.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "guard_unmatched",
        sql.Column("request_id", sql.Text(), nullable=False),
        sql.Column("principal", sql.Text(), nullable=False),
        sql.Column("key", sql.Text(), nullable=False),
        sql.Column("at", sql.BigInteger(), nullable=False),
        sql.PrimaryKeyConstraint("request_id"),
    )
