"""The tables of each face as the code has them: what its migrations must add up to."""

import sqlalchemy as sql

from anchorhold.authority.kms.state import SCHEMA as KMS
from anchorhold.authority.owner.state import SCHEMA as OWNER
from anchorhold.authority.xks.state import SCHEMA as XKS

SCHEMAS: dict[str, sql.MetaData] = {"owner": OWNER, "kms": KMS, "xks": XKS}
