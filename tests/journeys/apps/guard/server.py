"""A route service: whoever knows the word gets through to the app."""

import os
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIGNED = ("X-CF-Proxy-Signature", "X-CF-Proxy-Metadata", "X-CF-Forwarded-Url")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("X-Word") != "sesame":
            self.answer(401, b"the word?")
            return
        headers = {name: self.headers[name] for name in SIGNED} | {"X-Guarded": "yes"}
        request = urllib.request.Request(self.headers["X-CF-Forwarded-Url"], headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                self.answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
