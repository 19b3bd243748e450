"""The identity server and the API behind a real socket, for client libraries that bring their own HTTP."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from cupola.jobs.runner import Runner
from cupola.processes.handlers import handlers
from tests.uaa.house import House, Platform, opened

__all__ = ["served"]


@contextmanager
def served(platform: Platform, *, tls: tuple[Path, Path] | None = None, **flags: Any) -> Iterator[House]:
    """A platform whose addresses are those of a listening socket; it runs jobs. `tls`: files of certificate and key."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with opened(platform, platform__port=port, **flags) as house:
            certificate, key = tls or (None, None)
            config = uvicorn.Config(
                house.http.app, log_config=None, lifespan="off", ssl_certfile=certificate, ssl_keyfile=key
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            runner = Runner(house.database, handlers(house.settings), house.settings.jobs, house.database.bells)
            portal = house.http.portal
            assert portal is not None
            portal.call(partial(runner.start, alone=True))
            try:
                yield house
            finally:
                portal.call(runner.stop)
                server.should_exit = True
                thread.join(10)
