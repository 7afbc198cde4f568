"""Writes a face's newest revision from its tables: python -m tests.authority.state.write_revision FACE NUMBER NAME.

It compares the tables with what the revisions before NUMBER make, and writes the file of revision NUMBER, over the one
that is there. Read it before it is committed: moving data is for a person to write. A released revision is not written
again.
"""

import sys
from pathlib import Path

import sqlalchemy as sql
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.runtime.migration import MigrationContext
from tests.authority.state.schemas import SCHEMAS

from anchorhold.authority import migrations

_FORM = '''"""{title}"""

import sqlalchemy as sql
from alembic import op

revision = "{number}"
down_revision = {before}


def upgrade() -> None:
    {steps}
'''


def text_of(face: str, number: str, name: str) -> str:
    """The file of the revision."""
    before = f"{int(number) - 1:04}" if int(number) > 1 else None
    engine = sql.create_engine("sqlite://")
    with engine.begin() as connection:
        if before is not None:
            migrations.upgrade(connection, face, before)
        context = MigrationContext.configure(connection)
        made = produce_migrations(context, SCHEMAS[face])
        assert made.upgrade_ops is not None
        steps = render_python_code(
            made.upgrade_ops, sqlalchemy_module_prefix="sql.", render_as_batch=True, migration_context=context
        )
    steps = "\n".join(line for line in steps.splitlines() if not line.strip().startswith("# ###"))
    title = f"The {face} face: {name.replace('_', ' ')}."
    return _FORM.format(title=title, number=number, before=f'"{before}"' if before else None, steps=steps.strip())


def main(face: str, number: str, name: str) -> int:
    folder = Path(migrations.__file__).parent / face / "versions"
    folder.mkdir(parents=True, exist_ok=True)
    for package in (folder.parent, folder):
        (package / "__init__.py").write_text(f'"""Revisions of the {face} face."""\n')
    text = text_of(face, number, name)
    for old in folder.glob(f"r{number}_*.py"):
        old.unlink()
    (folder / f"r{number}_{name}.py").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
