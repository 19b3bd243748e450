"""A database cluster of our own: its programs, how it is made, and how its server is started.

    NoPostgres    it cannot be had here; the text says what is missing and what helps

PostgreSQL does not run as root, and what belongs to root it does not see: it gets its two directories as open
descriptors, and is told their names below /proc/self/fd. Nothing on the way to them has to be opened for it.
"""

import locale
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cupola.config import Account
from cupola.databases import choice

__all__ = ["ADMIN", "HOST", "NoPostgres", "Place", "account", "arguments", "find", "host_rules", "make", "version"]

ADMIN = "cupola"
"""The superuser. It comes in by the socket alone, with a password."""
HOST = "127.0.0.1"
OLDEST = 13
"""The first version that drops a database with its connections, and lets owners add trusted extensions."""
_MAX_CONNECTIONS = 300
_ACCOUNTS = ("postgres", "nobody")
"""Who the server runs as when the platform is started by root; the first that there is."""
_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/lib/postgresql*/bin", "/usr/local/pgsql/bin")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")


class NoPostgres(Exception):
    """There can be no cluster here."""


@dataclass(frozen=True)
class Place:
    """The cluster's directories."""

    root: Path

    @classmethod
    def of(cls, data_dir: Path) -> "Place":
        """That of a platform."""
        return cls(choice.directory(data_dir))

    @property
    def data(self) -> Path:
        """What PostgreSQL calls its data directory; it is there when it is complete."""
        return self.root / "postgres"

    @property
    def socket(self) -> Path:
        """The directory of the server's socket."""
        return self.root / "socket"


def find(wanted: int | None = None) -> tuple[Path, int]:
    """The directory of PostgreSQL's programs and its major version: the wanted one, else the newest. Raises NoPostgres."""
    found: dict[int, Path] = {}
    for directory in _directories():
        if all((directory / name).exists() for name in ("initdb", "postgres")):
            number = _major(directory / "postgres")
            if number is not None:
                found.setdefault(number, directory)
    if wanted is not None and wanted not in found:
        raise NoPostgres(
            f"the databases were made by PostgreSQL {wanted}, which is not installed here: install it (Debian, Ubuntu: "
            f"postgresql-{wanted})"
        )
    usable = [number for number in found if number >= OLDEST]
    if not usable:
        raise NoPostgres(
            "PostgreSQL's programs initdb and postgres are not installed: install the package `postgresql`, "
            "or name a server (`cupola services enable --server postgresql://ADMIN:PASSWORD@HOST`)"
        )
    number = max(usable) if wanted is None else wanted
    return found[number], number


def _directories() -> Iterable[Path]:
    for pattern in _PLACES:
        yield from sorted(Path("/").glob(pattern.removeprefix("/")))
    on_path = shutil.which("initdb")
    if on_path:
        yield Path(on_path).resolve().parent


def _major(program: Path) -> int | None:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    said = _VERSION.search(done.stdout)
    return int(said[1]) if said else None


def version(place: Place) -> int | None:
    """The version that made the cluster; None when there is none yet."""
    try:
        return int((place.data / "PG_VERSION").read_text().strip())
    except (OSError, ValueError):
        return None


def account() -> Account | None:
    """Who the server runs as; None for ourselves. Raises NoPostgres."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(found.pw_uid, found.pw_gid)
    raise NoPostgres(
        "PostgreSQL does not run as root, and this machine has no user "
        f"{' or '.join(_ACCOUNTS)} for it: make one, or name a server with --server"
    )


def make(place: Place, programs: Path, user: Account | None, password: str) -> None:
    """Make the cluster unless it is there. One that was begun and not finished is made anew. Raises NoPostgres, OSError."""
    # Closed by the directory around it: the broker, which is yet another user, passes.
    given(place.socket, user).chmod(0o711)
    if place.data.exists():
        return
    begun = place.root / "postgres.new"
    shutil.rmtree(begun, ignore_errors=True)
    given(begun, user)
    secret = given(place.root / "initdb", user) / "password"
    handles = [os.open(directory, os.O_PATH | os.O_DIRECTORY) for directory in (begun, secret.parent)]
    try:
        descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(password)
            if user is not None:
                os.fchown(descriptor, user.uid, user.gid)
        command = [
            str(programs / "initdb"), "--pgdata", f"/proc/self/fd/{handles[0]}", "--username", ADMIN,
            "--auth", "scram-sha-256", "--pwfile", f"/proc/self/fd/{handles[1]}/password", "--encoding", "UTF8",
            *_locale(), "--no-instructions",
        ]  # fmt: skip
        done = subprocess.run(
            command,
            cwd="/",
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            pass_fds=handles,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    finally:
        for handle in handles:
            os.close(handle)
        shutil.rmtree(secret.parent, ignore_errors=True)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NoPostgres(f"initdb failed: {said[-1] if said else f'status {done.returncode}'}")
    begun.rename(place.data)


def given(directory: Path, user: Account | None) -> Path:
    """A directory that is the server's."""
    directory.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        os.chown(directory, user.uid, user.gid, follow_symlinks=False)
    return directory


def environment() -> dict[str, str]:
    """What PostgreSQL's programs see of the environment."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}


def _locale() -> list[str]:
    """Letters of all languages where the system knows them; sorting is by bytes, which no update of the system changes."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return ["--no-locale"]
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return ["--locale", "C.UTF-8"]


def arguments(programs: Path, data: int, socket: int, port: int) -> list[str]:
    """The command line of the server; `data` and `socket` are descriptors of its directories."""
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": f"/proc/self/fd/{socket}",
        "hba_file": f"/proc/self/fd/{data}/pg_hba.conf",
        "password_encryption": "scram-sha-256",
        "max_connections": str(_MAX_CONNECTIONS),
        "logging_collector": "off",
        # What apps do wrong is theirs, and their statements may hold secrets.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "log_statement": "none",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [str(programs / "postgres"), "-D", f"/proc/self/fd/{data}", *options]


def host_rules() -> str:
    """Who comes in from where (pg_hba.conf): the superuser by the socket, roles of bindings by TCP to what is theirs."""
    rules = (
        ("local", "all", ADMIN, "scram-sha-256"),
        ("local", "all", "all", "reject"),
        ("host", "all", ADMIN, "all", "reject"),
        ("host", "postgres,template1", "all", "all", "reject"),
        ("host", "all", "all", f"{HOST}/32", "scram-sha-256"),
    )
    return "".join(" ".join(rule) + "\n" for rule in ((("# Written at every start.",), *rules)))
