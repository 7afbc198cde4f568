"""The owner face: authority complete."""

import sqlalchemy as sql
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "denials",
        sql.Column("id", sql.Integer(), autoincrement=False, nullable=False),
        sql.Column("left", sql.Integer(), nullable=False),
        sql.Column("at", sql.BigInteger(), nullable=False),
        sql.Column("left_out", sql.BigInteger(), nullable=False),
        sql.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "shares",
        sql.Column("blob", sql.LargeBinary(length=48), nullable=False),
        sql.Column("model", sql.LargeBinary(), nullable=False),
        sql.Column("purpose_class", sql.Text(), nullable=False),
        sql.Column("wrapped", sql.LargeBinary(), nullable=False),
        sql.PrimaryKeyConstraint("blob"),
    )
