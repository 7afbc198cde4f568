"""The XKS face's schema as revisions began: until a first release, the tables as they stand."""

from alembic import op

from anchorhold.authority.xks.state import SCHEMA

revision = "0001"
down_revision = None


def upgrade() -> None:
    SCHEMA.create_all(op.get_bind())
