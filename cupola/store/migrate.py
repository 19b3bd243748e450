"""Bringing a database to the schema of this version, at each start; never down.

Alembic costs a third of a second to import, so it is imported when there is something to migrate: revisions are
numbered files, and the database says at which one it is.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from cupola.store import counts
from cupola.store.database import Database, DatabaseProblem

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["SCRIPTS", "configuration", "head", "revisions", "upgrade"]

SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 7_262_011
"""PostgreSQL advisory lock: one replica migrates, the others wait."""


def configuration(connection: Connection | None = None) -> "Config":
    """Alembic's configuration, for code and for `alembic` commands of developers."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    return config


def revisions() -> list[str]:
    """All revisions of this version, oldest first: the names of the numbered files."""
    return sorted(file.stem for file in (SCRIPTS / "versions").glob("[0-9]*.py"))


def head() -> str:
    """The revision of this version's schema."""
    return revisions()[-1]


def upgrade(database: Database) -> None:
    """Create or migrate the tables. Raises DatabaseProblem when the database is newer than this version."""
    with database.engine.connect() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        current = _current(connection)
        if current is not None and current not in revisions():
            raise DatabaseProblem(
                f"the database was last used by a newer version of Cupola (schema {current}): "
                "start that version, or restore a backup from before the upgrade"
            )
        if current != head():
            from alembic import command

            command.upgrade(configuration(connection), "head")
        counts.ensure(connection)
        connection.commit()


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found
