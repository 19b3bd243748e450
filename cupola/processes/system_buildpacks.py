"""The buildpacks that the platform ships, kept up to date at each start: made once, replaced when their bits changed."""

from sqlalchemy import insert, select

from cupola import buildpacks as shipped
from cupola.blobs.store import LocalStore
from cupola.domain import buildpacks as rules
from cupola.roles import system_actor
from cupola.store import rows
from cupola.store.alone import FIRST_START, alone
from cupola.store.database import Database
from cupola.store.platform import buildpacks, platform_state

__all__ = ["ensure_buildpacks"]


def ensure_buildpacks(database: Database, blobs: LocalStore) -> None:
    """Make the system buildpacks. One that an operator deleted, locked or replaced stays as it is."""
    actor = system_actor()
    for position, name in enumerate(shipped.SYSTEM, start=1):
        blob = blobs.put_stream(iter([shipped.pack(name)]))
        key = f"buildpack_{name}"
        with database.write() as tx:
            alone(tx, FIRST_START)
            known = tx.scalar(select(platform_state.c.value).where(platform_state.c.name == key))
            row = tx.one(select(buildpacks).where(buildpacks.c.name == name, buildpacks.c.lifecycle == "buildpack"))
            if known is None:
                if row is None:
                    row = rules.create(tx, actor, {"name": name, "position": position})
                tx.run(insert(platform_state).values(name=key, value=blob.digest))
            elif row is None or row.locked or row.digest != known or known == blob.digest:
                continue
            else:
                tx.run(platform_state.update().where(platform_state.c.name == key).values(value=blob.digest))
            values = {"digest": blob.digest, "filename": f"{name}.zip", "state": "READY"}
            rows.change(tx, buildpacks, row, values)
