"""A throw-away PostgreSQL server for one test run, where the programs for it are installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["NoPostgres", "server"]

_ACCOUNTS = ("postgres", "nobody")
"""Who the server runs as when the tests run as root, which PostgreSQL refuses to be."""
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "lock_timeout": "20s",
}


class NoPostgres(Exception):
    """There can be no server here; the text says why."""


@contextmanager
def server() -> Iterator[str]:
    """Run a server on a Unix socket in a directory of its own; gives its URL (database `postgres`).

    CUPOLA_TEST_POSTGRES names a server to use instead. Raises NoPostgres.
    """
    given = os.environ.get("CUPOLA_TEST_POSTGRES", "")
    if given:
        yield given
        return
    programs = _programs()
    identity = _identity()
    directory = Path(tempfile.mkdtemp(prefix="cupola-postgres-"))
    try:
        if identity:
            shutil.chown(directory, identity["user"])
        data = directory / "data"
        make = [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "cupola",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ]
        _run([*make, "--no-instructions"], directory, identity)
        options = " ".join(f"-c {name}={value!r}" for name, value in _SETTINGS.items())
        start = [programs / "pg_ctl", "-D", data, "-w", "-l", directory / "log", "-o", f"-k {directory} {options}"]
        _run([*start, "start"], directory, identity)
        with _ends_with_us(programs, directory, identity):
            yield f"postgresql://cupola@/postgres?host={directory}"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _ends_with_us(programs: Path, directory: Path, identity: dict[str, Any]) -> Iterator[None]:
    """The server stops at the end, and also when this process is killed: a shell waits for the end of a pipe."""
    script = 'read -r _; "$0/pg_ctl" -D "$1/data" -m immediate stop >/dev/null 2>&1; rm -rf "$1"'
    command = ["/bin/sh", "-c", script, str(programs), str(directory)]
    watch = subprocess.Popen(command, stdin=subprocess.PIPE, cwd="/", start_new_session=True, **identity)
    assert watch.stdin is not None
    try:
        yield
    finally:
        watch.stdin.close()
        watch.wait()


def _programs() -> Path:
    """The directory of initdb and pg_ctl, of the newest version that is installed."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda found: float(found.parent.parent.name),
        reverse=True,
    )
    if installed:
        return installed[0].parent
    found = shutil.which("initdb")
    if found is None:
        raise NoPostgres(
            "PostgreSQL is not installed here: neither /usr/lib/postgresql/*/bin/initdb nor initdb on PATH"
        )
    return Path(found).resolve().parent


def _identity() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    for name in _ACCOUNTS:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    raise NoPostgres(f"PostgreSQL does not run as root, and there is no account {' or '.join(_ACCOUNTS)}")


def _run(command: list[Any], directory: Path, identity: dict[str, Any]) -> None:
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if command[-1] != "start" else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if command[-1] != "start" else subprocess.DEVNULL,
        check=False,
        **identity,
    )
    if done.returncode != 0:
        log = directory / "log"
        said = (done.stdout or b"").decode() + (log.read_text() if log.exists() else "")
        raise NoPostgres(f"{Path(command[0]).name} failed: {said.strip()[-500:]}")
