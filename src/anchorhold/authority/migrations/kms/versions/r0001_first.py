"""The KMS face's schema as revisions began."""

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "realm",
        sql.Column("partition", sql.Text, nullable=False),
        sql.Column("region", sql.Text, nullable=False),
        sql.Column("account", sql.Text, nullable=False),
        sql.Column("anchor_class", sql.Text, nullable=False),
    )
    op.create_table(
        "anchors",
        sql.Column("name", sql.Text, primary_key=True),
        sql.Column("root_der", sql.LargeBinary, nullable=False),
    )
    op.create_table(
        "principals",
        sql.Column("access_key_id", sql.Text, primary_key=True),
        sql.Column("name", sql.Text, nullable=False, unique=True),
        sql.Column("arn", sql.Text, nullable=False),
        sql.Column("secret", sql.LargeBinary, nullable=False),
        sql.Column("identity_policy", sql.Text),
    )
    op.create_table(
        "keys",
        sql.Column("key_id", sql.Text, primary_key=True),
        sql.Column("enabled", sql.Boolean, nullable=False),
        sql.Column("policy", sql.Text, nullable=False),
        sql.Column("description", sql.Text, nullable=False),
        sql.Column("created", sql.BigInteger, nullable=False),
    )
    op.create_table("journal_keys", sql.Column("sealed", sql.LargeBinary, nullable=False))
    op.create_table(
        "journal",
        sql.Column("seq", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("signed", sql.LargeBinary, nullable=False),
    )
