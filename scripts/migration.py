"""Write migrations from the tables in cupola/store.

    python scripts/migration.py initial              # before the first release: write 0001_initial.py anew
    python scripts/migration.py new "What changes"   # after it: one more revision, to be read before it is committed

Both are written by alembic's comparison with an SQLite database in memory. tests/store/test_migrations.py checks, on
SQLite and on PostgreSQL, that the migrations make what the tables say.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from alembic import autogenerate, command
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import UpgradeOps
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from cupola.store.migrate import SCRIPTS, configuration, head
from cupola.store.schema import Json
from cupola.store.tables import metadata

VERSIONS = SCRIPTS / "versions"
HEADER = '''"""{message}

Written by scripts/migration.py.
"""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {down_revision}
branch_labels = None
depends_on = None


def upgrade() -> None:
'''


def _type(kind: str, value: Any, context: AutogenContext) -> str | Literal[False]:
    # A migration keeps what it once made; it must not follow the code's own types.
    return "sa.Text()" if kind == "type" and isinstance(value, Json) else False


def _write(revision: str, down_revision: str | None, message: str) -> Path:
    """Write the difference between the migrations up to `down_revision` and the tables."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        if down_revision is not None:
            command.upgrade(configuration(connection), down_revision)
        options = {"compare_type": True, "render_item": _type, "render_as_batch": down_revision is not None}
        context = MigrationContext.configure(connection, opts={**options, "target_metadata": metadata})
        operations = autogenerate.produce_migrations(context, metadata).upgrade_ops
    assert isinstance(operations, UpgradeOps)
    if operations.is_empty():
        raise SystemExit("The migrations make what the tables say already: nothing to write.")
    body = autogenerate.render_python_code(operations, render_item=_type, render_as_batch=down_revision is not None)
    body = "\n".join(line for line in body.splitlines() if not line.lstrip().startswith("# ###"))
    file = VERSIONS / f"{revision}.py"
    header = HEADER.format(message=message, revision=revision, down_revision=_quoted(down_revision))
    file.write_text(header + "    " + body.strip() + "\n")
    return file


def _quoted(text: str | None) -> str:
    return "None" if text is None else f'"{text}"'


def main() -> int:
    match sys.argv[1:]:
        case ["initial"]:
            later = [file.name for file in VERSIONS.glob("*.py") if file.stem != "0001_initial"]
            if later:
                print(f"{', '.join(later)} came after the initial migration: use `new`.", file=sys.stderr)
                return 2
            file = _write("0001_initial", None, "The tables of the first version.")
        case ["new", message]:
            number = 1 + max(int(file.stem.split("_")[0]) for file in VERSIONS.glob("[0-9]*.py"))
            words = "_".join("".join(c if c.isalnum() else " " for c in message.lower()).split()[:5])
            file = _write(f"{number:04}_{words}", head(), message)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(file)], check=True)
    print(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
