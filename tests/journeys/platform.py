"""A whole platform, started the way a user does it, and ways to ask it and its apps."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cupola.processes import running
from tests.ordinary import Ordinary
from tests.ports import free_port

__all__ = ["ROOT", "Answer", "Platform", "eventually", "started"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def eventually(look: Callable[[], Any], seconds: float = 30, what: str = "") -> Any:
    """The first true value of `look`, asked again and again."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or look}; last seen {found!r}"
        time.sleep(0.05)


@dataclass
class Platform:
    data_dir: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    user: Ordinary | None = None
    """Who runs it, when root tests what others have."""

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def password(self) -> str:
        return str(json.loads((self.data_dir / "credentials.json").read_text())["admin"]["password"])

    def cupola(self, *arguments: str, check: bool = True, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the `cupola` command for this platform."""
        python, environment, identity = sys.executable, {**os.environ, "PYTHONPATH": str(ROOT)}, {}
        if self.user is not None:
            python, environment, identity = self.user.python, self.user.environment, self.user.identity
        command = [python, "-m", "cupola.cli", "--data-dir", str(self.data_dir), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT, stdin=subprocess.DEVNULL,
            env={**environment, **self.environment}, **identity,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"cupola {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def up(self, *more: str) -> None:
        self.cupola("up", "--detach", "--port", str(self.port), *more)

    def down(self) -> None:
        self.cupola("down")

    def pid(self, process: str) -> int:
        """The pid of one of the platform's processes."""
        found = running.read(self.data_dir / "run", process)
        assert found is not None, f"no {process} of {self.data_dir} runs"
        return found.pid

    def get(self, host: str, path: str = "/", *, method: str = "GET", headers: dict[str, str] | None = None,
            body: bytes | None = None, timeout: float = 20) -> Answer:  # fmt: skip
        """Ask an app by its host name, through the router."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {"Host": f"{host}:{self.port}", **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def app(self, name: str, path: str = "/", **more: Any) -> Answer:
        return self.get(f"{name}.apps.localhost", path, **more)

    def diagnosis(self) -> str:
        """The end of the processes' logs, for a failed test."""
        files = sorted((self.data_dir / "logs").glob("*.log"))
        ends = ["\n".join(file.read_text(errors="replace").splitlines()[-25:]) for file in files]
        return "\n".join(f"== {file.name}\n{end}" for file, end in zip(files, ends, strict=True))


@contextmanager
def started(data_dir: Path, *more: str) -> Iterator[Platform]:
    """A platform of its own, stopped with its apps at the end."""
    platform = Platform(data_dir, free_port())
    platform.up(*more)
    try:
        yield platform
    finally:
        platform.down()
