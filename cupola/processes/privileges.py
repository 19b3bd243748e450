"""What the platform's processes may do to the machine. Each gives up, before it serves anybody, what it does not need.

    controller, router    no capabilities (while it binds a port below 1024, the router has the one for that), no system
                          calls that only administration needs; files: the controller writes the data directory, the
                          router sees its own part of it; another user than root where `platform.user` names one
    cell                  the capabilities that making containers takes
    databases             like the router; it reads what was decided about databases, and writes nothing
    all                   not dumpable (nobody reads their memory), no core files, no new privileges by exec

Imports little: the supervisor and the router use it.
"""

import contextlib
import os
import re
import resource
import ssl
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from cupola.config import Account, Settings
from cupola.runtime.local import kernel

__all__ = [
    "CELL_CAPABILITIES",
    "become",
    "confine_cell",
    "confine_controller",
    "confine_databases",
    "confine_router",
    "finish_router",
    "guard",
    "share",
    "unreachable",
]

_NET_BIND_SERVICE = 10
CELL_CAPABILITIES = {
    "chown": 0, "dac_override": 1, "dac_read_search": 2, "fowner": 3, "fsetid": 4, "kill": 5, "setgid": 6, "setuid": 7,
    "setpcap": 8, "net_bind_service": 10, "net_admin": 12, "sys_chroot": 18, "sys_ptrace": 19, "sys_admin": 21,
    "sys_resource": 24, "mknod": 27,
}  # fmt: skip
"""By number in linux/capability.h: users and owners of containers, namespaces, mounts, networks, limits."""
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/proc", "/dev", "/sys/devices/system/cpu",
    "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/gai.conf",
    "/etc/nsswitch.conf", "/etc/passwd", "/etc/group", "/etc/services", "/etc/protocols", "/etc/localtime",
    "/etc/timezone", "/etc/mime.types", "/etc/ld.so.cache", "/etc/alternatives", "/etc/krb5.conf", "/etc/ldap",
    "/usr/share/zoneinfo", "/run/systemd/resolve", "/var/lib/ca-certificates",
)  # fmt: skip
"""What programs read of a machine; of /etc nothing that is not for every user."""
_OF_THE_DATABASE = (".pgpass", ".pg_service.conf", ".postgresql")
"""What PostgreSQL's library reads at home."""
_PATH = re.compile(r"(?:^|=)(/[^\s&,;]+)")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/shm")  # noqa: S108 - semaphores lie there


def guard() -> None:
    """Nobody of this user looks into this process, and it leaves no core file. Not inherited by another program."""
    kernel.not_dumpable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def become(settings: Settings, account: Account, name: str) -> None:
    """In the fork that becomes the process `name`, before exec: be another user."""
    keep = _for_ports(settings) if name == "router" else []
    kernel.bound_capabilities(keep)
    kernel.keep_capabilities()
    os.setgroups([account.gid])
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    kernel.drop_capabilities(keep)
    os.environ["HOME"] = str(settings.data_dir)


def _for_ports(settings: Settings) -> list[int]:
    """The capabilities that the public ports take."""
    platform = settings.platform
    ports = [platform.https_port, platform.http_port] if platform.system_domain else [platform.port]
    return [_NET_BIND_SERVICE] if any(0 < port < 1024 for port in ports) else []


def confine_controller(settings: Settings) -> None:
    """At the start of the process, while it has one thread."""
    guard()
    kernel.drop_capabilities()
    writable = [settings.data_dir, tempfile.gettempdir(), *_DEVICES, "/proc/self"]
    home = [os.path.expanduser(f"~/{name}") for name in _OF_THE_DATABASE]  # noqa: PTH111 - plain strings
    _confine([*_SYSTEM, *_interpreter(), *_named(settings), *home], [str(path) for path in writable])


def confine_router(settings: Settings) -> None:
    """At the start of the process, while it has one thread; `finish_router` once it listens."""
    guard()
    kernel.drop_capabilities([number for number in _for_ports(settings) if _has(number)])
    data, run = settings.data_dir, settings.run_dir
    # What is not there now could not be read later.
    (data / "tls").mkdir(mode=0o700, exist_ok=True)
    others = [part for place in (*_SYSTEM, *_interpreter(), *_named(settings)) for part in _beside(Path(place), data)]
    own = [data / "tls", run / "router.token"]
    _confine([str(path) for path in (*others, *own)], [str(data / "router"), *_DEVICES], [str(run)])


def finish_router() -> None:
    """No port is bound after this."""
    kernel.drop_capabilities()


def confine_databases(settings: Settings, server: str = "") -> None:
    """At the start of the process, while it has one thread and listens already. `server` is a URL, which may name files."""
    guard()
    kernel.drop_capabilities()
    data = settings.data_dir
    places = [part for place in (*_SYSTEM, *_interpreter()) for part in _beside(Path(place), data)]
    home = [os.path.expanduser(f"~/{name}") for name in _OF_THE_DATABASE]  # noqa: PTH111 - plain strings
    named = _PATH.findall(unquote(server).partition("?")[2])
    _confine([*map(str, places), *home, *named], list(_DEVICES), [str(settings.run_dir)])


def confine_cell() -> None:
    """After it has found out what this machine can do: that is done by forks which must be able to write about themselves."""
    guard()
    kernel.no_new_privileges()
    if os.geteuid() == 0:
        kernel.drop_capabilities([number for number in CELL_CAPABILITIES.values() if _has(number)])


def _confine(readable: Iterable[str], writable: Iterable[str], placeable: Iterable[str] = ()) -> None:
    kernel.no_new_privileges()
    if kernel.landlock_abi():
        kernel.landlock_restrict(readable, writable, placeable)
    with contextlib.suppress(OSError):  # a kernel without seccomp
        kernel.seccomp_deny()


def _has(capability: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return bool(int(line.split()[1], 16) >> capability & 1)
    return False


def _interpreter() -> Iterator[str]:
    """Where Python and its packages lie, and what OpenSSL reads; some modules are imported when they are needed."""
    places = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, str(Path(__file__).resolve().parents[2])]
    found = ssl.get_default_verify_paths()
    places += [found.openssl_cafile, found.openssl_capath, found.cafile or "", found.capath or ""]
    places += [os.environ.get(name, "") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")]
    for place in dict.fromkeys(places):
        if place and place != "/" and os.path.exists(place):  # noqa: PTH110 - plain strings
            yield place
            yield os.path.realpath(place)


def _beside(place: Path, data: Path) -> Iterator[Path]:
    """`place` if the data directory is not in it, else what lies there beside it: in a checkout, the code but not `.cupola`."""
    if not data.resolve().is_relative_to(place):
        yield place
    elif place != data.resolve():
        with contextlib.suppress(OSError):
            for child in place.iterdir():
                yield from _beside(child, data)


def _named(settings: Settings) -> Iterator[str]:
    """Files and directories that settings name, such as certificates, also within a URL. Of a link both ends: one
    renewed is another file."""
    for value in _texts(msgspec.to_builtins(settings, enc_hook=str)):
        for named in _PATH.findall(value):
            if named not in ("/", str(settings.data_dir)) and os.path.exists(named):  # noqa: PTH110 - plain strings
                for path in (named, os.path.realpath(named)):
                    yield path if os.path.isdir(path) else os.path.dirname(path)  # noqa: PTH112, PTH120 - as above


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield value


def unreachable(settings: Settings, account: Account) -> str:
    """The first path that the account's processes need and cannot use, or an empty string. As root."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([account.gid])
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
            os.write(writing, os.fsencode(_first_unreachable(settings)))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        found = os.fsdecode(answer.read())
    os.waitpid(pid, 0)
    return found


def _first_unreachable(settings: Settings) -> str:
    tls = settings.tls
    named = [tls.certificate, tls.key, tls.apps_certificate, tls.apps_key, tls.domains_dir, tls.acme_ca_file]
    needed = [sys.executable, os.path.realpath(sys.executable), __file__, *filter(None, named)]
    for path in needed:
        if not os.access(path, os.R_OK):
            return path
    parent = str(settings.data_dir.parent)
    return "" if os.access(parent, os.X_OK) else parent


_SHARED = {"": 0o1770, "run": 0o1770, "logs": 0o710, "cell": 0o710, "cell/instances": 0o710}
"""Directories that root keeps and the account enters; where it may write, it removes nothing that is root's."""
_GIVEN = ("blobs", "keys", "resources", "router", "tls", "logs/ring")
_GIVEN_FILES = ("credentials.json", "run/settings.json", "run/router.token", "run/cell.token", "run/ssh.token")


def share(settings: Settings, account: Account) -> None:
    """As root: make the data directory one that the account's processes can work in, and root's still root's. Repeatable."""
    data = settings.data_dir
    for name, mode in _SHARED.items():
        directory = data / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(directory, 0, account.gid)
        directory.chmod(mode)
    for name in _GIVEN:
        directory = data / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_uid != account.uid:
            _give_tree(directory, account)
    for path in (*(data / name for name in _GIVEN_FILES), *data.glob("cupola.db*")):
        with contextlib.suppress(FileNotFoundError):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _give_tree(directory: Path, account: Account) -> None:
    for place, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.chown(os.path.join(place, name), account.uid, account.gid, follow_symlinks=False)  # noqa: PTH118 - a walk
    # Last, so that an interrupted walk is walked again.
    os.chown(directory, account.uid, account.gid)
