"""Serves a WSGI application with the standard library: python serve.py MODULE:NAME; for apps that bring no server."""

import importlib
import os
import signal
import socketserver
import sys
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """One thread per connection."""

    daemon_threads = True
    request_queue_size = 128


class Handler(WSGIRequestHandler):
    """Does not look up the names of clients."""

    def address_string(self) -> str:
        """The client's address as it is."""
        return str(self.client_address[0])


def main(name: str) -> None:
    """Serve `module:variable`, or `module:function()` for a factory, on $PORT."""
    module, _, attribute = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    application = getattr(importlib.import_module(module), attribute.removesuffix("()"))
    if attribute.endswith("()"):
        application = application()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(os.environ.get("PORT", "8080"))
    with Server(("0.0.0.0", port), Handler) as server:  # noqa: S104 - apps listen where the router reaches them
        server.set_app(application)
        print(f"Serving {name} on port {port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
