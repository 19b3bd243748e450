"""An app that says who it is, and falls over when asked to."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "one"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        # By POST, because a router repeats a GET that an instance did not answer.
        if self.path == "/crash":
            print("about to crash", flush=True)
            os._exit(7)

    def do_GET(self) -> None:
        if self.path.startswith("/say/"):
            print(self.path.removeprefix("/say/"), flush=True)
            print("to stderr: " + self.path.removeprefix("/say/"), file=sys.stderr, flush=True)
        body = json.dumps(
            {
                "version": VERSION,
                "index": os.environ.get("CF_INSTANCE_INDEX"),
                "colour": os.environ.get("COLOUR"),
                "application": json.loads(os.environ["VCAP_APPLICATION"])["name"],
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
