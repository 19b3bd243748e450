"""A droplet, a launcher and a cell's parts, for tests with real processes."""

import asyncio
import contextlib
import inspect
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from cupola.blobs.store import LocalStore
from cupola.config import Settings
from cupola.runtime.engine import Container, Exit
from cupola.runtime.local import cgroups, probe

LAUNCHER = """
import os, sys
home = os.environ["CUPOLA_HOME_ROOT"]
os.environ.update(HOME=home + "/app", TMPDIR=home + "/tmp", DEPS_DIR=home + "/deps")
os.chdir(home + "/app")
os.execvp("/bin/bash", ["bash", "-c", sys.argv[2]])
"""

SERVER = """
import http.server, os, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = 500 if pathlib.Path(os.environ["HOME"], "sick").exists() else 200
        self.send_response(status); self.end_headers(); self.wfile.write(os.environ.get("INSTANCE_INDEX", "").encode())
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
print("listening", flush=True)
server.serve_forever()
"""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests of this directory, each in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def find_modes() -> list[str]:
    """The modes that this user can have on this machine."""
    return ["root", "process", "none"] if os.getuid() == 0 else ["rootless", "process", "none"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data_dir=tmp_path / "data")
    made.runtime.graceful_stop_seconds = 1.0
    made.run_dir.mkdir(parents=True, mode=0o700)
    return made


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    path = tmp_path / "lifecycle" / "launcher.py"
    path.parent.mkdir()
    path.write_text(LAUNCHER)
    return path


@pytest.fixture
def droplet(settings: Settings) -> str:
    """The digest of a droplet with an app that serves HTTP: `python3 server.py`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in (("./app/server.py", SERVER), ("./app/hello.txt", "hello"), ("./staging_info.yml", "{}")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    return LocalStore(settings.data_dir / "blobs").put_stream([buffer.getvalue()]).digest


@pytest.fixture(params=["root", "rootless", "process", "none"])
def choice(request: pytest.FixtureRequest, settings: Settings) -> probe.Choice:
    """How instances are made, in each mode that works here."""
    if request.param not in find_modes():
        pytest.skip(f"mode {request.param} needs {'root' if request.param == 'root' else 'an ordinary user'}")
    try:
        return probe.choose(request.param, settings.data_dir)
    except Exception as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _remove_groups(tmp_path: Path) -> Any:
    yield
    groups = cgroups.find(probe.platform_id(tmp_path / "data"))
    if groups is not None:
        for parent in set(groups.parents.values()):
            for child in parent.iterdir():
                if child.is_dir():
                    with contextlib.suppress(OSError):
                        child.rmdir()
            with contextlib.suppress(OSError):
                parent.rmdir()


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.exits: dict[str, Exit] = {}
        self.lines: list[tuple[str, str, str]] = []

    def exited(self, container: Container, exit: Exit) -> None:
        self.exits[container.guid] = exit

    def output(self, container: Container, source: str, stream: Literal["OUT", "ERR"], lines: list[bytes]) -> None:
        self.lines += [(source, stream, line.decode(errors="replace")) for line in lines]

    def text(self) -> str:
        return "\n".join(line for _, _, line in self.lines)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


async def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait for a condition; its value. Fails when it takes too long."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (value := condition()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError("waited in vain")
        await asyncio.sleep(0.01)
    return value
