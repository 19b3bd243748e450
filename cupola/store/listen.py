"""Bells across processes on PostgreSQL: what another controller rings after a commit is rung here as well."""

import asyncio

from cupola.store.database import CHANNEL, Database

__all__ = ["listen"]


async def listen(database: Database) -> None:
    """Run for ever; raises when the connection is lost (whoever runs this tries again, and loops have periods)."""
    import psycopg  # costs a quarter of a second, which a platform on SQLite need not wait for

    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        async for notification in connection.notifies():
            database.bells.ring(notification.payload)
            await asyncio.sleep(0)
