"""An app that shows what its bindings gave to it."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind, _, name = self.path[1:].partition("/")
        if kind == "file":
            found: object = Path("/" + name).read_text()
        elif kind == "write":
            where, _, text = name.partition("=")
            found = Path("/" + where).write_text(text)
        elif kind == "headers":
            found = dict(self.headers.items())
        else:
            found = dict(os.environ)
        print(f"asked for {self.path}", flush=True)
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
