"""The tables of the KMS face's database, in column types that SQLite and PostgreSQL both have.

Key material is not here: a material row names a handle of the keystore. Secrets of principals are sealed by it.
"""

import sqlalchemy as sql

from anchorhold.authority.guard import Guard
from anchorhold.authority.journal import Journal

TABLES = sql.MetaData()
realm = sql.Table(
    "realm",
    TABLES,
    sql.Column("partition", sql.Text, nullable=False),
    sql.Column("region", sql.Text, nullable=False),
    sql.Column("account", sql.Text, nullable=False),
    sql.Column("anchor_class", sql.Text, nullable=False),
)
anchors = sql.Table(
    "anchors",
    TABLES,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("root_der", sql.LargeBinary, nullable=False),
)
principals = sql.Table(
    "principals",
    TABLES,
    sql.Column("access_key_id", sql.Text, primary_key=True),
    sql.Column("name", sql.Text, nullable=False, unique=True),
    sql.Column("arn", sql.Text, nullable=False),
    sql.Column("secret", sql.LargeBinary, nullable=False),
    sql.Column("identity_policy", sql.Text),
)
networks = sql.Table(  # which addresses are a VPC's: what fills aws:SourceVpc and aws:SourceVpce
    "networks",
    TABLES,
    sql.Column("cidr", sql.Text, primary_key=True),
    sql.Column("vpc", sql.Text, nullable=False),
    sql.Column("vpce", sql.Text),
)
keys = sql.Table(
    "keys",
    TABLES,
    sql.Column("key_id", sql.Text, primary_key=True),
    sql.Column("state", sql.Text, nullable=False),
    sql.Column("usage", sql.Text, nullable=False),
    sql.Column("spec", sql.Text, nullable=False),
    sql.Column("origin", sql.Text, nullable=False),
    sql.Column("description", sql.Text, nullable=False),
    sql.Column("policy", sql.Text, nullable=False),
    sql.Column("created", sql.BigInteger, nullable=False),
    sql.Column("deletion_date", sql.BigInteger, index=True),  # asked for at every call
    sql.Column("pending_window", sql.Integer),
    sql.Column("custom_key_store_id", sql.Text),
    sql.Column("xks_key_id", sql.Text),
)
materials = sql.Table(  # one row a version; blobs name theirs, so what an old one sealed goes on opening
    "materials",
    TABLES,
    sql.Column("key_id", sql.Text, sql.ForeignKey(keys.c.key_id), primary_key=True),
    sql.Column("version", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("material_id", sql.Text, nullable=False),
    sql.Column("handle", sql.Text, nullable=False, unique=True),
    sql.Column("state", sql.Text, nullable=False),
    sql.Column("made", sql.BigInteger, nullable=False),
    sql.Column("rotation", sql.Text),
    sql.Column("imported", sql.Boolean),
    sql.Column("expires", sql.BigInteger, index=True),
    sql.Column("description", sql.Text),
)
aliases = sql.Table(
    "aliases",
    TABLES,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("key_id", sql.Text, sql.ForeignKey(keys.c.key_id), nullable=False, index=True),
    sql.Column("created", sql.BigInteger, nullable=False),
    sql.Column("updated", sql.BigInteger, nullable=False),
)
tags = sql.Table(
    "tags",
    TABLES,
    sql.Column("key_id", sql.Text, sql.ForeignKey(keys.c.key_id), primary_key=True),
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("value", sql.Text, nullable=False),
)
grants = sql.Table(
    "grants",
    TABLES,
    sql.Column("grant_id", sql.Text, primary_key=True),
    sql.Column("key_id", sql.Text, sql.ForeignKey(keys.c.key_id), nullable=False, index=True),
    sql.Column("name", sql.Text),
    sql.Column("grantee", sql.Text, nullable=False),
    sql.Column("retiring", sql.Text, index=True),
    sql.Column("operations", sql.Text, nullable=False),  # a JSON list, sorted
    sql.Column("context_equals", sql.Text),  # a JSON object, or no such constraint
    sql.Column("context_subset", sql.Text),
    sql.Column("created", sql.BigInteger, nullable=False),
)
import_parameters = (
    sql.Table(  # a wrapping pair in the keystore under `handle`, and the digest of the token that names it
        "import_parameters",
        TABLES,
        sql.Column("token", sql.Text, primary_key=True),
        sql.Column("key_id", sql.Text, sql.ForeignKey(keys.c.key_id), nullable=False, index=True),
        sql.Column("handle", sql.Text, nullable=False, unique=True),
        sql.Column("algorithm", sql.Text, nullable=False),
        sql.Column("valid_to", sql.BigInteger, nullable=False),
    )
)
custom_key_stores = sql.Table(
    "custom_key_stores",
    TABLES,
    sql.Column("store_id", sql.Text, primary_key=True),
    sql.Column("name", sql.Text, nullable=False, unique=True),
    sql.Column("endpoint", sql.Text, nullable=False),
    sql.Column("path", sql.Text, nullable=False),
    sql.Column("connectivity", sql.Text, nullable=False),
    sql.Column("vpc_service", sql.Text),
    sql.Column("access_key_id", sql.Text, nullable=False),
    sql.Column("secret", sql.LargeBinary, nullable=False),
    sql.Column("state", sql.Text, nullable=False),
    sql.Column("error", sql.Text),
    sql.Column("created", sql.BigInteger, nullable=False),
)
journal_keys = sql.Table("journal_keys", TABLES, sql.Column("sealed", sql.LargeBinary, nullable=False))
Journal.define(TABLES)
Guard.define(TABLES)
