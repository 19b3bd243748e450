"""One HTTP connection to a platform, as the CLI uses it: kept alive for the controller, one call each for others."""

import gzip
import http.client
import json
import urllib.parse
from dataclasses import dataclass
from email.message import Message
from typing import Any

__all__ = ["Answer", "Wire"]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def document(self) -> Any:
        """The JSON body; None without one."""
        if "json" not in self.headers.get("Content-Type", ""):
            return None
        return json.loads(self.body)

    def __str__(self) -> str:
        return f"{self.status} {self.body[:2000].decode(errors='replace')}"


class Wire:
    """Sends to the platform's port whatever the host of the URL is; the host goes into the Host header."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._kept = self._connection()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)

    def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        """One request, never retried and never redirected. The body's length is always declared, as Go does."""
        parts = urllib.parse.urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        alone = headers.get("Connection") == "close"
        connection = self._connection() if alone else self._kept
        try:
            connection.request(method, target, body, {"Host": parts.netloc, **headers})
            answer = connection.getresponse()
            received = answer.read()
        finally:
            if alone:
                connection.close()
        # What says gzip is unpacked on the way, whatever it is: so it is with Go.
        if answer.headers.get("Content-Encoding") == "gzip":
            received = gzip.decompress(received)
        return Answer(answer.status, answer.headers, received)

    def close(self) -> None:
        self._kept.close()
