"""The owner face: keys of tenants, and which share is under which."""

import sqlalchemy as sql
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "tenant_keys",
        sql.Column("key_id", sql.Text(), nullable=False),
        sql.Column("tenant", sql.Text(), nullable=False),
        sql.Column("tag", sql.Text(), nullable=False),
        sql.Column("pool", sql.Text(), nullable=True),
        sql.Column("wrapped", sql.LargeBinary(), nullable=True),
        sql.Column("made", sql.BigInteger(), nullable=False),
        sql.Column("shredded", sql.BigInteger(), nullable=True),
        sql.Column("backups", sql.Integer(), nullable=False),
        sql.PrimaryKeyConstraint("key_id"),
    )
    op.create_index(op.f("ix_tenant_keys_tenant"), "tenant_keys", ["tenant"], unique=False)
    op.add_column("shares", sql.Column("tenant_key", sql.Text(), nullable=True))
    # Every release asks whose the model is.
    op.create_index(op.f("ix_shares_model"), "shares", ["model"], unique=False)
    op.create_index(op.f("ix_shares_tenant_key"), "shares", ["tenant_key"], unique=False)
