"""The owner face: wrapping keys, of which a state made before has its first, and orders to seal models anew."""

import sqlalchemy as sql
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "wrapping_keys",
        sql.Column("place", sql.Integer(), autoincrement=False, nullable=False),
        sql.Column("key_id", sql.Text(), nullable=False),
        sql.Column("made", sql.BigInteger(), nullable=False),
        sql.Column("retired", sql.BigInteger(), nullable=True),
        sql.PrimaryKeyConstraint("place"),
        sql.UniqueConstraint("key_id"),
    )
    op.create_table(
        "reseal_orders",
        sql.Column("model", sql.LargeBinary(48), nullable=False),
        sql.Column("measurements", sql.LargeBinary(), nullable=False),
        sql.Column("expires", sql.BigInteger(), nullable=False),
        sql.Column("reason", sql.Text(), nullable=False),
        sql.Column("at", sql.BigInteger(), nullable=False),
        sql.PrimaryKeyConstraint("model"),
    )
    op.execute("INSERT INTO wrapping_keys (place, key_id, made, retired) SELECT 0, key_id, 0, NULL FROM identity")
