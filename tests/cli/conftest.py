"""A whole platform, started by the command line in a data directory of its own."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cupola.processes import running
from cupola.runtime.local import cgroups, probe

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"
PROCESSES = ("controller", "router", "cell")


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300", "NO_COLOR": "1"}


@dataclass
class Platform:
    """Where one is, and the command line for it."""

    data: Path
    port: int
    first_start: str = ""
    """What the first `cupola up` printed."""

    def cupola(self, *words: str, status: int = 0, **variables: str) -> str:
        """Run a command; its output. Fails when the exit status is another than expected."""
        done = subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            env=environment() | variables,
            check=False,
            timeout=110,
        )
        assert done.returncode == status, done.stdout + done.stderr + self.logs()
        return done.stdout + done.stderr

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "cupola.cli", "--data-dir", str(self.data), *words]

    def up(self, *words: str, status: int = 0) -> str:
        return self.cupola("up", "--port", str(self.port), *words, status=status)

    def status(self, exit_status: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cupola("status", "--json", status=exit_status))
        return found

    def pid(self, name: str) -> int:
        found = running.read(self.data / "run", name)
        assert found is not None, f"{name} does not run"
        return found.pid

    def pids(self) -> dict[str, int]:
        return {name: self.pid(name) for name in PROCESSES}

    def is_ready(self, name: str) -> bool:
        return running.read(self.data / "run", name) is not None and (self.data / f"run/{name}.ready").exists()

    def get(self, host: str, path: str = "/") -> tuple[int, str]:
        """What the router answers for a host."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Host": f"{host}:{self.port}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def logs(self) -> str:
        files = sorted((self.data / "logs").glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text()[-3000:]}" for file in files)


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for what another process does; the condition's value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


@contextlib.contextmanager
def place(directory: Path) -> Iterator[Platform]:
    """A platform that is not started yet, and is gone afterwards."""
    platform = Platform(directory, free_port())
    try:
        yield platform
    finally:
        subprocess.run(platform.command("down"), env=environment(), check=False, capture_output=True, timeout=110)
        groups = cgroups.find(probe.platform_id(directory)) if directory.exists() else None
        for parent in set(groups.parents.values()) if groups else ():
            with contextlib.suppress(OSError):
                parent.rmdir()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One that runs, for all tests of a module."""
    with place(tmp_path_factory.mktemp("p") / "data") as made:
        made.first_start = made.up("--detach")
        yield made
