"""Bringing a database to the schema of this version, at each start; never down."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from cupola.store.database import Database, DatabaseProblem

__all__ = ["SCRIPTS", "configuration", "head", "upgrade"]

SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 7_262_011
"""PostgreSQL advisory lock: one replica migrates, the others wait."""


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration, for code and for `alembic` commands of developers."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The revision of this version's schema."""
    found = ScriptDirectory.from_config(configuration()).get_current_head()
    assert found is not None
    return found


def upgrade(database: Database) -> None:
    """Create or migrate the tables. Raises DatabaseProblem when the database is newer than this version."""
    with database.engine.connect() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        current = MigrationContext.configure(connection).get_current_revision()
        if current == head():
            connection.rollback()
            return
        known = {script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()}
        if current is not None and current not in known:
            raise DatabaseProblem(
                f"the database was last used by a newer version of Cupola (schema {current}): "
                "start that version, or restore a backup from before the upgrade"
            )
        command.upgrade(configuration(connection), "head")
        connection.commit()
