"""The server of databases that are offered: makes the cluster at the first start, and becomes PostgreSQL.

`python -m cupola.processes.postgres`, CUPOLA_SETTINGS set. Exit status 3: cannot start, the reason is on stderr.
"""

import contextlib
import os
import sys
import time
from pathlib import Path

from cupola.config import Account, ConfigError, read_resolved
from cupola.databases import choice, cluster
from cupola.databases.choice import Unreadable
from cupola.databases.cluster import NoPostgres, Place
from cupola.runtime.local import kernel
from cupola.secrets.generated import write_private

__all__ = ["CANNOT_START", "main"]

CANNOT_START = 3
_RECOVERY_SECONDS = 3600.0
"""How long a server that was killed may take until it is ready again."""
_STATUS_LINE = 7
"""Of postmaster.pid: what the server is about."""


def _tell_when_ready(postmaster: int, data: int, ready: Path) -> None:
    """Leave somebody behind who writes `ready` once the server is: it does not do so itself. No child of the server's."""
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return
    try:
        if os.fork() == 0:
            os.setsid()
            # Only the server is to keep what it will listen on.
            deadline = time.monotonic() + _RECOVERY_SECONDS
            while time.monotonic() < deadline and _is_there(postmaster):
                if _is_ready(postmaster, data):
                    write_private(ready, b"")
                    break
                time.sleep(0.02)
    finally:
        os._exit(0)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _is_ready(postmaster: int, data: int) -> bool:
    try:
        descriptor = os.open("postmaster.pid", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=data)
    except OSError:
        return False
    with os.fdopen(descriptor) as file:
        lines = file.read(4096).splitlines()
    return len(lines) > _STATUS_LINE and lines[0] == str(postmaster) and lines[_STATUS_LINE].strip() == "ready"


def _become(user: Account | None) -> None:
    os.chdir("/")
    if user is not None:
        os.setgroups([user.gid])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        kernel.drop_capabilities()
    kernel.no_new_privileges()


def _write_rules(data: int) -> None:
    # As the server's user: nothing that it may have put there leads elsewhere.
    descriptor = os.open("pg_hba.conf", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=data)
    with os.fdopen(descriptor, "w") as file:
        file.write(cluster.host_rules())


def _start() -> None:
    """Never returns when all is well. Raises what `main` tells."""
    settings = read_resolved(Path(os.environ["CUPOLA_SETTINGS"]))
    chosen = choice.read(settings.data_dir)
    if chosen is None or not chosen.enabled or chosen.server:
        raise NoPostgres("no databases are offered on a server of our own")
    place = Place.of(settings.data_dir)
    programs, _ = cluster.find(cluster.version(place))
    user = cluster.account()
    cluster.make(place, programs, user, chosen.admin_password)
    handles = []
    for directory in (place.data, place.socket):
        handle = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        os.set_inheritable(handle, True)
        handles.append(handle)
    data, socket = handles
    _tell_when_ready(os.getpid(), data, settings.run_dir / "postgres.ready")
    _become(user)
    _write_rules(data)
    command = cluster.arguments(programs, data, socket, chosen.port)
    os.execve(command[0], command, cluster.environment())  # noqa: S606  # there is no shell to avoid


def main() -> int:
    """Become the server; returns an exit status when that is not possible."""
    os.umask(0o077)
    text = "CUPOLA_SETTINGS names no settings file"
    with contextlib.suppress(KeyError):
        try:
            _start()
        except (ConfigError, Unreadable, NoPostgres, OSError) as error:
            text = str(error)
    print(f"the postgres cannot start: {text}", file=sys.stderr)  # noqa: T201  # read by the supervisor
    return CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
