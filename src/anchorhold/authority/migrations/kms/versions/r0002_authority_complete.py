"""The KMS face: key states and materials, aliases, tags, grants, networks.

Keys keep their ids, policies and whether they are enabled. What they sealed before was in another form of blob, which
is not read any more.
"""

import sqlalchemy as sql
from alembic import op

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled

_MATERIAL_HEX = 64
revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "networks",
        sql.Column("cidr", sql.Text(), nullable=False),
        sql.Column("vpc", sql.Text(), nullable=False),
        sql.Column("vpce", sql.Text(), nullable=True),
        sql.PrimaryKeyConstraint("cidr"),
    )
    op.create_table(
        "aliases",
        sql.Column("name", sql.Text(), nullable=False),
        sql.Column("key_id", sql.Text(), nullable=False),
        sql.Column("created", sql.BigInteger(), nullable=False),
        sql.Column("updated", sql.BigInteger(), nullable=False),
        sql.ForeignKeyConstraint(
            ["key_id"],
            ["keys.key_id"],
        ),
        sql.PrimaryKeyConstraint("name"),
    )
    with op.batch_alter_table("aliases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_aliases_key_id"), ["key_id"], unique=False)

    op.create_table(
        "grants",
        sql.Column("grant_id", sql.Text(), nullable=False),
        sql.Column("key_id", sql.Text(), nullable=False),
        sql.Column("name", sql.Text(), nullable=True),
        sql.Column("grantee", sql.Text(), nullable=False),
        sql.Column("retiring", sql.Text(), nullable=True),
        sql.Column("operations", sql.Text(), nullable=False),
        sql.Column("context_equals", sql.Text(), nullable=True),
        sql.Column("context_subset", sql.Text(), nullable=True),
        sql.Column("created", sql.BigInteger(), nullable=False),
        sql.ForeignKeyConstraint(
            ["key_id"],
            ["keys.key_id"],
        ),
        sql.PrimaryKeyConstraint("grant_id"),
    )
    with op.batch_alter_table("grants", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_grants_key_id"), ["key_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_grants_retiring"), ["retiring"], unique=False)

    op.create_table(
        "materials",
        sql.Column("key_id", sql.Text(), nullable=False),
        sql.Column("version", sql.Integer(), autoincrement=False, nullable=False),
        sql.Column("material_id", sql.Text(), nullable=False),
        sql.Column("handle", sql.Text(), nullable=False),
        sql.Column("state", sql.Text(), nullable=False),
        sql.Column("made", sql.BigInteger(), nullable=False),
        sql.Column("rotation", sql.Text(), nullable=True),
        sql.Column("imported", sql.Boolean(), nullable=True),
        sql.Column("expires", sql.BigInteger(), nullable=True),
        sql.Column("description", sql.Text(), nullable=True),
        sql.ForeignKeyConstraint(
            ["key_id"],
            ["keys.key_id"],
        ),
        sql.PrimaryKeyConstraint("key_id", "version"),
        sql.UniqueConstraint("handle"),
    )
    with op.batch_alter_table("materials", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_materials_expires"), ["expires"], unique=False)

    op.create_table(
        "import_parameters",
        sql.Column("token", sql.Text(), nullable=False),
        sql.Column("key_id", sql.Text(), nullable=False),
        sql.Column("handle", sql.Text(), nullable=False),
        sql.Column("algorithm", sql.Text(), nullable=False),
        sql.Column("valid_to", sql.BigInteger(), nullable=False),
        sql.ForeignKeyConstraint(["key_id"], ["keys.key_id"]),
        sql.PrimaryKeyConstraint("token"),
        sql.UniqueConstraint("handle"),
    )
    with op.batch_alter_table("import_parameters", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_import_parameters_key_id"), ["key_id"], unique=False)

    op.create_table(
        "tags",
        sql.Column("key_id", sql.Text(), nullable=False),
        sql.Column("name", sql.Text(), nullable=False),
        sql.Column("value", sql.Text(), nullable=False),
        sql.ForeignKeyConstraint(
            ["key_id"],
            ["keys.key_id"],
        ),
        sql.PrimaryKeyConstraint("key_id", "name"),
    )
    with op.batch_alter_table("keys", schema=None) as batch_op:
        # The defaults are for the rows that are there; a new row names each.
        batch_op.add_column(sql.Column("state", sql.Text(), nullable=False, server_default="Disabled"))
        batch_op.add_column(sql.Column("usage", sql.Text(), nullable=False, server_default="ENCRYPT_DECRYPT"))
        batch_op.add_column(sql.Column("spec", sql.Text(), nullable=False, server_default="SYMMETRIC_DEFAULT"))
        batch_op.add_column(sql.Column("origin", sql.Text(), nullable=False, server_default="AWS_KMS"))
        batch_op.add_column(sql.Column("deletion_date", sql.BigInteger(), nullable=True))
        batch_op.add_column(sql.Column("pending_window", sql.Integer(), nullable=True))
        batch_op.add_column(sql.Column("custom_key_store_id", sql.Text(), nullable=True))
        batch_op.add_column(sql.Column("xks_key_id", sql.Text(), nullable=True))
        batch_op.create_index(batch_op.f("ix_keys_deletion_date"), ["deletion_date"], unique=False)
    _move_keys(op.get_bind())
    with op.batch_alter_table("keys", schema=None) as batch_op:
        for name in ("state", "usage", "spec", "origin"):
            batch_op.alter_column(name, existing_type=sql.Text(), existing_nullable=False, server_default=None)
        batch_op.drop_column("enabled")


def _move_keys(connection: sql.engine.Connection) -> None:
    """A key of revision 0001 has one material, which the keystore holds under the key's own id."""
    keys = sql.table("keys", *(sql.column(name) for name in ("key_id", "state", "created")), sql.column("enabled"))
    materials = sql.table(
        "materials",
        *(sql.column(name) for name in ("key_id", "version", "material_id", "handle", "state", "made")),
    )
    for row in connection.execute(sql.select(keys.c.key_id, keys.c.enabled, keys.c.created)).all():
        named = labelled(labels.KMS_MATERIAL, row.key_id.encode(), b"1").hex()[:_MATERIAL_HEX]
        state = "Enabled" if row.enabled else "Disabled"
        connection.execute(sql.update(keys).where(keys.c.key_id == row.key_id).values(state=state))
        connection.execute(
            sql.insert(materials).values(
                key_id=row.key_id,
                version=1,
                material_id=named,
                handle=row.key_id,
                state="CURRENT",
                made=row.created,
            )
        )
