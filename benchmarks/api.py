"""The API's most frequent requests beside the same query and JSON written by hand, on the same database, in one run.

    python -m benchmarks.api [apps]            # also on PostgreSQL, where initdb is installed

Both sides run on the loop that the controller has, and do their work on a worker thread. By hand: the driver's own
connection, the SQL as text, a view as one function, no declaration anywhere, and nothing of HTTP. Ours: everything a
request passes from the ASGI scope on, but for the token, which benchmarks/tokens.py weighs. Times are microseconds of CPU
of this process (all threads), the best of forty short rounds that alternate between the sides. Goal: at most twice the
time by hand.
"""

import asyncio
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import uvloop
from sqlalchemy import insert

from cupola import clock, guid
from cupola.api.table import OPERATIONS
from cupola.bell import Bells
from cupola.config import Settings, load
from cupola.domain import bootstrap
from cupola.rest.dispatch import App
from cupola.rest.operation import Services
from cupola.roles import Actor
from cupola.store.apps import apps
from cupola.store.database import Database
from cupola.store.migrate import upgrade
from cupola.store.orgs import organizations, roles, spaces, users
from tests import postgres
from tests.databases import PlainVault, create_database

Ask = Callable[[str], Awaitable[bytes]]
ROUNDS = 40
DEVELOPER = Actor(guid="developer", name="dev", scopes=frozenset({"cloud_controller.read", "cloud_controller.write"}))
READABLE = """space_guid IN (
    SELECT space_guid FROM roles WHERE user_guid = %(actor)s AND space_guid IS NOT NULL
    UNION ALL
    SELECT guid FROM spaces WHERE organization_guid IN (
        SELECT organization_guid FROM roles
        WHERE user_guid = %(actor)s AND organization_guid IS NOT NULL AND type = 'organization_manager'))"""
COLUMNS = "guid, created_at, updated_at, name, state, lifecycle_type, stack, buildpacks, space_guid, droplet_guid, labels, annotations"
ONE = f"SELECT {COLUMNS} FROM apps WHERE guid = %(guid)s AND {READABLE}"
PAGE = f"SELECT {COLUMNS} FROM apps WHERE {READABLE} ORDER BY id LIMIT 50"
COUNT = f"SELECT count(*) FROM apps WHERE {READABLE}"


def seed(database: Database, settings: Settings, count: int) -> str:
    """`count` apps in 20 spaces of 5 organizations; gives the guid of one."""
    with database.write() as tx:
        bootstrap.ensure(tx, settings)
        common = {"created_at": tx.now, "updated_at": tx.now}
        named = [
            {"guid": guid.new(), "name": f"org-{number}", "name_key": f"org-{number}", **common} for number in range(5)
        ]
        quota = tx.one(organizations.select())
        assert quota is not None
        tx.run(insert(organizations), [{**one, "quota_guid": quota.quota_guid} for one in named])
        inside = [
            {
                "guid": guid.new(),
                "name": f"space-{number}",
                "name_key": f"space-{number}",
                "organization_guid": named[number % 5]["guid"],
                **common,
            }
            for number in range(20)
        ]
        tx.run(insert(spaces), inside)
        tx.run(insert(users).values(guid=DEVELOPER.guid, is_client=False, **common))
        tx.run(insert(roles), [role(space["guid"], common) for space in inside])
        made = [
            {
                "guid": guid.new(),
                "name": f"app-{number}",
                "name_key": f"app-{number}",
                "space_guid": inside[number % 20]["guid"],
                "stack": "cflinuxfs4",
                "labels": '{"team":"red","tier":"web"}',
                **common,
            }
            for number in range(count)
        ]
        tx.run(insert(apps), made)
    return str(made[count // 2]["guid"])


def role(space: Any, common: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "guid": guid.new(),
        "type": "space_developer",
        "user_guid": DEVELOPER.guid,
        "space_guid": space,
        "target_guid": space,
        **common,
    }


def view(row: Any, api: str) -> dict[str, Any]:
    """An app, by hand; columns by position."""
    path = f"{api}/v3/apps/{row[0]}"
    return {
        "guid": row[0],
        "created_at": clock.format_api(row[1]),
        "updated_at": clock.format_api(row[2]),
        "name": row[3],
        "state": row[4],
        "lifecycle": {"type": row[5], "data": {"buildpacks": [], "stack": row[6]}},
        "relationships": {
            "space": {"data": {"guid": row[8]}},
            "current_droplet": {"data": {"guid": row[9]} if row[9] else None},
        },
        "metadata": {"labels": msgspec.Raw(row[10].encode()), "annotations": msgspec.Raw(row[11].encode())},
        "links": {
            "self": {"href": path},
            "environment_variables": {"href": path + "/environment_variables"},
            "space": {"href": f"{api}/v3/spaces/{row[8]}"},
            "processes": {"href": path + "/processes"},
            "packages": {"href": path + "/packages"},
            "current_droplet": {"href": path + "/droplets/current"},
            "droplets": {"href": path + "/droplets"},
            "tasks": {"href": path + "/tasks"},
            "start": {"href": path + "/actions/start", "method": "POST"},
            "stop": {"href": path + "/actions/stop", "method": "POST"},
            "clear_buildpack_cache": {"href": path + "/actions/clear_buildpack_cache", "method": "POST"},
            "revisions": {"href": path + "/revisions"},
            "deployed_revisions": {"href": path + "/revisions/deployed"},
            "features": {"href": path + "/features"},
        },
    }


def by_hand(connect: Callable[[], Any], named: bool, api: str, threads: ThreadPoolExecutor) -> Ask:
    """The two requests as somebody in a hurry would write them."""
    local = threading.local()

    def cursor() -> Any:
        if not hasattr(local, "connection"):
            local.connection = connect()
        return local.connection.cursor()

    def sql(text: str) -> str:
        return text if named else text.replace("%(actor)s", ":actor").replace("%(guid)s", ":guid")

    one, page, count = sql(ONE), sql(PAGE), sql(COUNT)

    def show(wanted: str) -> bytes:
        row = cursor().execute(one, {"guid": wanted, "actor": DEVELOPER.guid}).fetchone()
        return msgspec.json.encode(view(row, api))

    def listed() -> bytes:
        values = {"actor": DEVELOPER.guid}
        rows = cursor().execute(page, values).fetchall()
        total = cursor().execute(count, values).fetchone()[0]
        pages = -(-total // 50)
        link = f"{api}/v3/apps?page=%d&per_page=50"
        pagination = {
            "total_results": total,
            "total_pages": pages,
            "first": {"href": link % 1},
            "last": {"href": link % pages},
            "next": {"href": link % 2} if pages > 1 else None,
            "previous": None,
        }
        return msgspec.json.encode({"pagination": pagination, "resources": [view(row, api) for row in rows]})

    async def ask(path: str) -> bytes:
        loop = asyncio.get_running_loop()
        if "?" in path:
            return await loop.run_in_executor(threads, listed)
        return await loop.run_in_executor(threads, show, path.rpartition("/")[2])

    return ask


def ours(app: App) -> Ask:
    """A request to the whole application."""
    headers = [(b"host", b"localhost:9080"), (b"authorization", b"bearer x"), (b"accept", b"application/json")]

    async def ask(path: str) -> bytes:
        plain, _, query = path.partition("?")
        scope = {"type": "http", "method": "GET", "path": plain, "query_string": query.encode(), "headers": headers}
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        assert sent[0]["status"] == 200, sent
        return bytes(sent[1]["body"])

    return ask


async def measure(sides: Mapping[str, Ask], path: str, times: int) -> dict[str, float]:
    """Microseconds of CPU of one request, for each side."""
    best: dict[str, float] = {}
    # Many short rounds: on a busy machine the best of them is what the work costs.
    for _ in range(ROUNDS):
        for name, ask in sides.items():
            await ask(path)
            start = time.process_time()
            for _ in range(times):
                await ask(path)
            spent = (time.process_time() - start) / times * 1e6
            best[name] = min(best.get(name, spent), spent)
    return best


def agree(hand: bytes, own: bytes) -> None:
    """Both sides answer the same JSON."""
    assert msgspec.json.decode(hand) == msgspec.json.decode(own)


@contextmanager
def platform(url: str, directory: Path, count: int) -> Iterator[tuple[Database, App, Settings, str]]:
    settings = load(environment={}, flags={"data_dir": str(directory)})
    database = Database(url, directory / "cupola.db", PlainVault(), Bells())
    upgrade(database)
    wanted = seed(database, settings, count)

    async def no_wait(_guid: str, _seconds: float) -> None:
        return None

    services = Services(settings, database, authenticate=lambda _header: DEVELOPER, wait_for_job=no_wait)
    app = App(OPERATIONS, services)
    yield database, app, settings, wanted
    app.close()
    database.close()


def compare(title: str, url: str, connect: Callable[[Path], Any], named: bool, count: int) -> None:
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(8) as threads:
        directory = Path(name)
        with platform(url, directory, count) as (_, app, settings, wanted):
            hand = by_hand(lambda: connect(directory), named, settings.api_url, threads)
            sides = {"by hand": hand, "ours": ours(app)}

            async def run() -> None:
                for path, times in (("/v3/apps?per_page=50", 20), (f"/v3/apps/{wanted}", 100)):
                    agree(await hand(path), await sides["ours"](path))
                    spent = await measure(sides, path, times)
                    shown = path.replace(wanted, "{guid}")
                    ratio = spent["ours"] / spent["by hand"]
                    print(f"{title:11} {shown:24} {spent['by hand']:9.0f} {spent['ours']:9.0f} {ratio:7.2f}")

            uvloop.run(run())


def sqlite(directory: Path) -> Any:
    connection = sqlite3.connect(directory / "cupola.db", isolation_level=None)
    connection.execute("PRAGMA cache_size=-16384")
    return connection


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{'':36} {'by hand':>9} {'ours':>9} {'ratio':>7}   (microseconds of CPU; {count} apps)")
    compare("SQLite", "", sqlite, False, count)
    try:
        with postgres.server() as server:
            url = create_database(server)
            compare("PostgreSQL", url, lambda _: psycopg.connect(url, autocommit=True), True, count)
    except postgres.NoPostgres as problem:
        print(f"PostgreSQL is left out: {problem}")


if __name__ == "__main__":
    main()
