"""Several controllers start at the same moment on an empty PostgreSQL: each thing is made once, nobody fails."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select

from cupola.config import load
from cupola.processes.controller import Controller
from cupola.store.identity import group_members, identities, identity_groups, oauth_clients
from cupola.store.orgs import organizations
from cupola.store.platform import buildpacks
from cupola.uaa.scopes import CLIENTS, KNOWN_GROUPS
from cupola.uaa.service import Identity
from tests.databases import create_database, drop_database


@pytest.fixture
def empty(postgres_server: str) -> Iterator[str]:
    url = create_database(postgres_server)
    yield url
    drop_database(url)


def _controller(directory: Path, url: str, keys: Path) -> Controller:
    directory.mkdir()
    (directory / "keys").symlink_to(keys, target_is_directory=True)
    credentials = {"admin": {"username": "admin", "password": "the admin's password"}}
    (directory / "credentials.json").write_bytes(msgspec.json.encode(credentials))
    flags = {"data_dir": str(directory), "database.url": url, "identity.shared_secret_argon2_memory_kib": 64}
    return Controller(load(environment={}, flags=flags))


def test_controllers_that_start_at_once(empty: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    controllers = [_controller(tmp_path / str(number), empty, keys) for number in range(3)]
    gate = threading.Barrier(len(controllers))

    def start(controller: Controller) -> None:
        gate.wait()
        controller.prepare()

    with ThreadPoolExecutor(len(controllers)) as threads:
        for done in [threads.submit(start, controller) for controller in controllers]:
            done.result()
    first = controllers[0]
    with first.database.read() as tx:

        def count(table: object) -> int:
            return int(tx.scalar(select(func.count()).select_from(table)))  # type: ignore[arg-type]  # any table

        assert count(oauth_clients) == len(CLIENTS)
        assert count(identity_groups) == len(KNOWN_GROUPS)
        assert (count(identities), count(organizations)) == (1, 1)
        assert count(group_members) > 0
        names = tx.scalars(select(buildpacks.c.name))
        assert len(names) == len(set(names)) > 0
    # All of them sign with one key and know the same secrets.
    everybody = [one.identity for one in controllers if isinstance(one.identity, Identity)]
    assert len({identity.keys.active_jwk()["kid"] for identity in everybody}) == 1
    for controller in controllers:
        controller.identity.close()
        controller.ring.close()
        controller.database.close()


def test_a_controller_that_stops_leaves_no_threads(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    flags = {"data_dir": str(tmp_path), "identity.shared_secret_argon2_memory_kib": 64}
    controller = Controller(load(environment={}, flags=flags))

    async def nothing() -> None:
        return None

    async def work() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(controller.run(stop))
        ready = tmp_path / "run" / "controller.ready"
        async with asyncio.timeout(30):
            while not ready.exists():
                assert not running.done(), running.exception()
                await asyncio.sleep(0.02)
        identity = controller.identity
        assert isinstance(identity, Identity)
        await identity.hashing(lambda: None)
        await identity.thread(lambda: None)
        await identity.outside.run(nothing())
        assert _threads()
        stop.set()
        await running

    asyncio.run(work())
    assert _threads() == []


def _threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(("identity", "passwords"))]
