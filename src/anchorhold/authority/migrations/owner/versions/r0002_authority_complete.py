"""The owner face: versions, floors, revocations beside models, heartbeats, kept shares, the budget of denials."""

import sqlalchemy as sql
from alembic import op

from anchorhold.attestation import canonical

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
        "floors",
        sql.Column("model_id", sql.Text(), nullable=False),
        sql.Column("version", sql.Text(), nullable=False),
        sql.Column("at", sql.BigInteger(), nullable=False),
        sql.PrimaryKeyConstraint("model_id"),
    )
    op.create_table(
        "heartbeat",
        sql.Column("slot", sql.Integer(), autoincrement=False, nullable=False),
        sql.Column("signed", sql.LargeBinary(), nullable=False),
        sql.PrimaryKeyConstraint("slot"),
    )
    op.create_table(
        "revocations",
        sql.Column("what", sql.Text(), nullable=False),
        sql.Column("subject", sql.Text(), nullable=False),
        sql.Column("at", sql.BigInteger(), nullable=False),
        sql.PrimaryKeyConstraint("what", "subject"),
    )
    op.create_table(
        "shares",
        sql.Column("blob", sql.LargeBinary(length=48), nullable=False),
        sql.Column("model", sql.LargeBinary(), nullable=False),
        sql.Column("purpose_class", sql.Text(), nullable=False),
        sql.Column("wrapped", sql.LargeBinary(), nullable=False),
        sql.PrimaryKeyConstraint("blob"),
    )
    with op.batch_alter_table("boots", schema=None) as batch_op:
        batch_op.add_column(sql.Column("image", sql.LargeBinary(), nullable=True))
        batch_op.add_column(sql.Column("last_not_after", sql.BigInteger(), nullable=True))
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.add_column(sql.Column("model_id", sql.Text(), nullable=True))
        batch_op.add_column(sql.Column("version", sql.Text(), nullable=True))
        batch_op.add_column(sql.Column("tenants", sql.LargeBinary(), nullable=True))
    _fill(op.get_bind())
    with op.batch_alter_table("boots", schema=None) as batch_op:
        batch_op.alter_column("image", existing_type=sql.LargeBinary(), nullable=False)
        batch_op.alter_column("last_not_after", existing_type=sql.BigInteger(), nullable=False)
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.alter_column("model_id", existing_type=sql.Text(), nullable=False)
        batch_op.alter_column("version", existing_type=sql.Text(), nullable=False)
        batch_op.alter_column("tenants", existing_type=sql.LargeBinary(), nullable=False)


def _fill(connection: sql.engine.Connection) -> None:
    """A model of revision 0001 is version 0 of its alias, under every floor, until it is registered anew; a boot of it
    may hold a lease for as long as any of its model does.
    """
    models = sql.table("models", *(sql.column(n) for n in ("model", "alias", "model_id", "version", "last_not_after")))
    tenants = sql.table("models", sql.column("tenants", sql.LargeBinary))
    boots = sql.table("boots", sql.column("model"), sql.column("last_not_after"), sql.column("image", sql.LargeBinary))
    last = sql.select(models.c.last_not_after).where(models.c.model == boots.c.model).scalar_subquery()
    connection.execute(sql.update(models).values(model_id=models.c.alias, version="0"))
    connection.execute(sql.update(tenants).values(tenants=canonical.encode([])))
    connection.execute(sql.update(boots).values(image=b"", last_not_after=sql.func.coalesce(last, 0)))
