"""The owner face's schema as revisions began."""

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "identity",
        sql.Column("name", sql.Text, primary_key=True),
        sql.Column("custodian", sql.Text, nullable=False),
        sql.Column("anchor_class", sql.Text, nullable=False),
        sql.Column("key_id", sql.Text, nullable=False),
    )
    op.create_table(
        "anchors",
        sql.Column("name", sql.Text, primary_key=True),
        sql.Column("root_der", sql.LargeBinary, nullable=False),
    )
    op.create_table(
        "sealed_keys",
        sql.Column("use", sql.Text, primary_key=True),
        sql.Column("sealed", sql.LargeBinary, nullable=False),
    )
    op.create_table(
        "models",
        sql.Column("model", sql.LargeBinary, primary_key=True),
        sql.Column("alias", sql.Text, nullable=False),
        sql.Column("measurements", sql.LargeBinary, nullable=False),
        sql.Column("purposes", sql.LargeBinary, nullable=False),
        sql.Column("purpose_class", sql.Text, nullable=False),
        sql.Column("ttl_ms", sql.Integer, nullable=False),
        sql.Column("revoked_at", sql.BigInteger),
        sql.Column("last_not_after", sql.BigInteger, nullable=False),
    )
    op.create_table(
        "boots",
        sql.Column("boot_id", sql.LargeBinary, primary_key=True),
        sql.Column("genesis", sql.LargeBinary, nullable=False),
        sql.Column("model", sql.LargeBinary, nullable=False),
        sql.Column("last_request", sql.BigInteger, nullable=False),
        sql.Column("last_seen", sql.BigInteger, nullable=False),
    )
    op.create_table(
        "used_challenges",
        sql.Column("challenge", sql.LargeBinary, primary_key=True),
        sql.Column("expires", sql.BigInteger, nullable=False),
    )
    op.create_table(
        "journal",
        sql.Column("seq", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("signed", sql.LargeBinary, nullable=False),
    )
