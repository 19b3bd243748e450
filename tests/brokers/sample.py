"""samples/broker as a process of its own, as its users run it but for the WSGI server."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Sample", "sample"]

SAMPLE = Path(__file__).parents[2] / "samples" / "broker"
_MAIN = """
import sys
from werkzeug.serving import make_server
from app import create_app
server = make_server("127.0.0.1", 0, create_app(), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Sample:
    """Where it is, and what registers it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def body(self, name: str = "jotter", **more: Any) -> dict[str, Any]:
        credentials = {"username": "jotter-user", "password": "jotter-secret"}
        return {"name": name, "url": self.url, "authentication": {"type": "basic", "credentials": credentials}, **more}


@contextmanager
def sample(slow_seconds: float = 0.2) -> Iterator[Sample]:
    """Run the sample broker."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "BROKER_USERNAME": "jotter-user",
        "BROKER_PASSWORD": "jotter-secret",
        "SLOW_SECONDS": str(slow_seconds),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with subprocess.Popen(
        [sys.executable, "-c", _MAIN],
        cwd=SAMPLE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port.isdigit(), "the sample broker did not start"
            yield Sample(f"http://127.0.0.1:{port}")
        finally:
            process.kill()
