"""The owner face: which model an adapter is for, and each adapter's last request in each boot."""

import sqlalchemy as sql
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "adapter_requests",
        sql.Column("boot_id", sql.LargeBinary(), nullable=False),
        sql.Column("adapter", sql.LargeBinary(), nullable=False),
        sql.Column("last_request", sql.BigInteger(), nullable=False),
        sql.PrimaryKeyConstraint("boot_id", "adapter"),
    )
    # Of every model registered before it is null, and rightly: there were no adapters.
    op.add_column("models", sql.Column("base", sql.LargeBinary(), nullable=True))
