"""The router: the platform's public port. `python -m cupola.processes.router`, CUPOLA_SETTINGS set.

    SIGTERM     accepts nothing more, finishes the requests it has for at most router.drain_seconds, and ends

Exit status 3: cannot start, the reason is on stderr. One per data directory. It serves from its last table while the
controller is away. Never imports the database.
"""

import asyncio
import fcntl
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path

import uvloop

from cupola.config import ConfigError, Settings, read_resolved
from cupola.logs.spool import Spool, SpoolError
from cupola.processes import privileges
from cupola.router import kept
from cupola.router.certificates import CertificateError, Certificates
from cupola.router.edge import Edge
from cupola.router.link import Link
from cupola.router.route_services import RouteServices
from cupola.router.server import PortInUse, Server, listeners
from cupola.router.service import Service

__all__ = ["CANNOT_START", "main"]

CANNOT_START = 3
_log = logging.getLogger("cupola.router")
Part = Coroutine[None, None, None]


class AlreadyRunning(Exception):
    """Another router holds this data directory."""


async def _serve(settings: Settings) -> None:
    (settings.run_dir / "router.ready").unlink(missing_ok=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    directory = settings.data_dir / "router"
    spool = Spool(directory / "logs", "router")
    public = settings.platform.system_domain != ""
    certificates = Certificates(settings) if public else None
    edge = Edge(settings) if public else None
    services = RouteServices(settings) if settings.services.route_services else None
    api = str(settings.run_dir / "api.sock")
    service = Service(settings.router, settings.system_hosts, api, spool, loop, edge, services)
    known = kept.read(directory / "table.msgpack")
    if known is not None:
        service.table.replace(known)
        _log.info("serving %d routes from before the start", len(known.routes))
    server = Server(service)
    keeper = kept.Keeper(service.table, directory / "table.msgpack")
    link = Link(settings.run_dir, service.table, spool, keeper.changed)
    parts = [keeper.run, link.run]
    try:
        if certificates is not None:
            if not await _finished(certificates.load(), stop):
                return
            parts.append(certificates.run)
        await server.open(listeners(settings, certificates.context if certificates is not None else None))
        privileges.finish_router()
        await _until(stop, settings, server, [part() for part in parts])
    finally:
        spool.close()


async def _until(stop: asyncio.Event, settings: Settings, server: Server, parts: list[Part]) -> None:
    """Serve until `stop`, then drain."""
    ready_file = settings.run_dir / "router.ready"
    work = [asyncio.create_task(part) for part in parts]
    waiting = asyncio.create_task(_wait(stop))
    ready_file.write_text(str(server.ports[0]))
    _log.info("listening on %s, ports %s", settings.listen, ", ".join(map(str, dict.fromkeys(server.ports))))
    _spare_collections()
    try:
        done, _ = await asyncio.wait([*work, waiting], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        ready_file.unlink(missing_ok=True)
        waiting.cancel()
        await server.drain(settings.router.drain_seconds)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


async def _finished(work: Coroutine[None, None, None], stop: asyncio.Event) -> bool:
    """Do `work` unless `stop` comes first; whether it was done."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(_wait(stop))
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        working.result()
        return True
    finally:
        working.cancel()
        stopping.cancel()


def _spare_collections() -> None:
    """What the process is made of stays, and a request makes no cycles: collections would only cost latency."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)


def _hold(directory: Path) -> int:
    """Be the only router of this data directory; the lock ends with the process. Raises AlreadyRunning."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise AlreadyRunning(
            f"another router uses {directory}: stop it (`cupola down`) or use another data_dir"
        ) from None
    return descriptor


def _allow_many_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    """Run the process; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        settings = read_resolved(Path(os.environ["CUPOLA_SETTINGS"]))
        lock = _hold(settings.data_dir / "router")
        privileges.confine_router(settings)
    except KeyError:
        _log.error("CUPOLA_SETTINGS is not set: it names the settings.json in the run directory; use `cupola up`")
        return CANNOT_START
    except (ConfigError, AlreadyRunning) as error:
        _log.error("the router cannot start: %s", error)
        return CANNOT_START
    try:
        _allow_many_connections()
        uvloop.run(_serve(settings))
    except (PortInUse, SpoolError, CertificateError) as error:
        _log.error("the router cannot start: %s", error)
        return CANNOT_START
    finally:
        os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
