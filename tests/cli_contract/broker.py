"""A small service broker (Open Service Broker API 2.17) for the commands about services, over real HTTP.

The first part of its path makes it one of many: `http://.../p7` offers `db-p7`, `gate-p7` and `mute-p7`. Below `newer` its
plans have a newer version, so that instances can be upgraded.
"""

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["PASSWORD", "USERNAME", "broker"]

USERNAME, PASSWORD = "cellar-man", "a-broker-secret"
PATH = re.compile(r"/(?P<prefix>\w+)(?P<newer>/newer)?/v2/(?P<rest>[^?]*)")
BINDING = re.compile(r"service_instances/[^/]+/service_bindings/[^/]+")
INSTANCE = re.compile(r"service_instances/[^/]+")


def catalog(prefix: str, version: str) -> dict[str, Any]:
    def plan(service: str, name: str) -> dict[str, Any]:
        return {
            "id": f"{service}-{name}-{prefix}",
            "name": name,
            "description": f"A {name} one",
            "free": name == "small",
            "maintenance_info": {"version": version, "description": f"Version {version}"},
        }

    def service(name: str, plans: list[str], **more: Any) -> dict[str, Any]:
        return {
            "id": f"{name}-{prefix}",
            "name": f"{name}-{prefix}",
            "description": f"Something like a {name}",
            "bindable": True,
            "plan_updateable": True,
            "tags": ["trial"],
            "plans": [plan(name, one) for one in plans],
            **more,
        }

    readable = {"instances_retrievable": True, "bindings_retrievable": True}
    return {
        "services": [
            service("db", ["small", "large", "slow"], metadata={"shareable": True}, **readable),
            service("gate", ["open"], requires=["route_forwarding"]),
            service("mute", ["small"], instances_retrievable=False),
        ]
    }


class Handler(BaseHTTPRequestHandler):
    """Everything succeeds at once, but for the plan `slow`, whose instances are never ready."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the controller's log tells enough."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        status, document = self._done(body)
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _done(self, body: dict[str, Any]) -> tuple[int, Any]:
        wanted = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {wanted}":
            return 401, {"description": "wrong username or password"}
        found = PATH.match(self.path)
        if found is None:
            return 404, {}
        rest = found["rest"].removesuffix("/last_operation")
        if rest == "catalog":
            return 200, catalog(found["prefix"], "2.0.0" if found["newer"] else "1.0.0")
        if found["rest"] != rest:
            return 200, {"state": "in progress"}
        if BINDING.fullmatch(rest):
            return self._binding(body)
        if INSTANCE.fullmatch(rest):
            return self._instance(body)
        return 404, {}

    def _instance(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.command == "GET":
            return 200, {"parameters": {"size": 1}}
        if self.command == "PUT" and str(body.get("plan_id")).startswith("db-slow-"):
            return 202, {"operation": "for ever"}
        return (201 if self.command == "PUT" else 200), {}

    def _binding(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.command == "GET":
            return 200, {"credentials": {"password": "p"}, "parameters": {"size": 1}}
        if self.command == "DELETE":
            return 200, {}
        if str(body.get("service_id")).startswith("gate-"):
            return 201, {"route_service_url": "https://gate.example.com"}
        return 201, {"credentials": {"user": "u", "password": "p"}}

    do_GET = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815  # the names that http.server calls


@contextmanager
def broker() -> Iterator[str]:
    """The URL of a broker that runs meanwhile."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
