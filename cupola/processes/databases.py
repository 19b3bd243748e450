"""The broker that sells databases. `python -m cupola.processes.databases`, CUPOLA_SETTINGS set.

    SIGTERM     answers what it was asked, and ends

Runs only after `cupola services enable`. Exit status 3: cannot start, the reason is on stderr. It keeps nothing itself.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn
import uvloop

from cupola import clock
from cupola.config import ConfigError, Settings, read_resolved
from cupola.databases import choice, servers
from cupola.databases.broker import USER, application
from cupola.databases.choice import Choice, Unreadable
from cupola.databases.servers import BadServer
from cupola.processes import privileges

__all__ = ["CANNOT_START", "main"]

CANNOT_START = 3
_HOST = "127.0.0.1"


class PortInUse(Exception):
    """Somebody else listens where the broker is known to be."""


def _listener(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((_HOST, port))
    except OSError as error:
        raise PortInUse(
            f"port {port} of {_HOST}, where the platform knows the broker, cannot be had ({error.strerror}): "
            "stop the program that has it"
        ) from error
    return made


async def _serve(settings: Settings, chosen: Choice, listener: socket.socket) -> None:
    ready = settings.run_dir / "databases.ready"
    broker = application(servers.opened(chosen, settings.data_dir), USER, chosen.broker_password)
    server = uvicorn.Server(
        uvicorn.Config(
            broker,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=10,
        )
    )
    # Signals are the process's own business.
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # older and newer versions differ in it
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.005)
        ready.write_text(clock.format_api(clock.micros()))
        await serving
    finally:
        ready.unlink(missing_ok=True)


def main() -> int:
    """Run the process; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        settings = read_resolved(Path(os.environ["CUPOLA_SETTINGS"]))
        chosen = choice.read(settings.data_dir)
        if chosen is None or not chosen.enabled:
            print("the databases cannot start: they are not enabled", file=sys.stderr)  # noqa: T201  # read by the supervisor
            return CANNOT_START
        listener = _listener(chosen.broker_port)
        privileges.confine_databases(settings, chosen.server)
        uvloop.run(_serve(settings, chosen, listener))
    except (ConfigError, Unreadable, BadServer, PortInUse, OSError) as error:
        print(f"the databases cannot start: {error}", file=sys.stderr)  # noqa: T201  # as above
        return CANNOT_START
    except KeyError:
        print("the databases cannot start: CUPOLA_SETTINGS names no settings file", file=sys.stderr)  # noqa: T201  # as above
        return CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
