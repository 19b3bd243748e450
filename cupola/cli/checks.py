"""What must hold before a platform starts; each complaint is one sentence that names the thing and what to do."""

import errno
import os
import pwd
import shutil
import socket
import tempfile
from pathlib import Path

import click

from cupola.cli.place import shown
from cupola.config import ConfigError, Settings
from cupola.processes import privileges, running

__all__ = ["MIN_FREE_MB", "file_system", "is_network", "option_of", "port_problem", "prepare", "public_ports"]

MIN_FREE_MB = 256
"""MiB without which a start is refused: a database that meets a full disk stops everything at a worse moment."""
_NETWORK = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)
_LONGEST_SOCKET = "control.sock.00000"


def prepare(settings: Settings, before: Settings | None) -> None:
    """Make the data directory and check it and the ports. `before`: the settings of what runs there already."""
    _data_directory(settings.data_dir)
    _account(settings)
    taken = set(public_ports(before)) if before and running.read(settings.run_dir, "router") else set()
    if settings.platform.system_domain:
        _certificates(settings)
    for address in public_ports(settings):
        problem = "" if address in taken else port_problem(*address, option_of(settings, address[1]))
        if problem:
            raise click.ClickException(problem)


def _account(settings: Settings) -> None:
    name = settings.platform.user
    if not name:
        return
    try:
        account = settings.account
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    if os.getuid() != 0 and name not in (str(os.getuid()), _user(os.getuid())):
        raise click.ClickException(
            f"platform.user = {name}, but only root can start processes as another user: start this as root, or as {name}"
        )
    problem = privileges.unreachable(settings, account) if account is not None else ""
    if problem:
        raise click.ClickException(
            f"platform.user = {name} cannot use {problem}: give that user access to it and to the directories above it, "
            "or install the platform where every user can read it"
        )


def _certificates(settings: Settings) -> None:
    # Reading certificates takes megabytes that a supervisor on a laptop need not have.
    from cupola.cli.certificates import findings

    for finding in findings(settings):
        if finding.unusable:
            raise click.ClickException(finding.problem)


def _data_directory(path: Path) -> None:
    length = len(os.fsencode(path / "run" / _LONGEST_SOCKET))
    if length > 107:
        raise click.ClickException(
            f"the path {path} is {length - 107} bytes too long for the sockets in it: choose a shorter --data-dir"
        )
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileExistsError:
        raise click.ClickException(f"{path} is a file: choose another --data-dir") from None
    except OSError as error:
        raise click.ClickException(_unwritable(path, error)) from error
    owner = path.stat().st_uid
    if owner != os.getuid():
        raise click.ClickException(
            f"{path} belongs to {_user(owner)}, not to {_user(os.getuid())}: run this as {_user(owner)}, "
            "or choose another --data-dir"
        )
    kind = file_system(path)
    if is_network(kind):
        raise click.ClickException(
            f"{path} is on a network file system ({kind}), where the database would be damaged: "
            "choose a --data-dir on a local disk"
        )
    free = shutil.disk_usage(path).free // (1024 * 1024)
    if free < MIN_FREE_MB:
        raise click.ClickException(
            f"only {free} MiB are free at {path} and a platform needs {MIN_FREE_MB}: make room, "
            "or choose a --data-dir on another disk"
        )


def _unwritable(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {path} is full: make room, or choose a --data-dir on another disk"
    if error.errno == errno.EROFS:
        return f"{path} is on a read-only file system: choose another --data-dir"
    return f"cannot write to {path} ({error.strerror}): give {_user(os.getuid())} access, or choose another --data-dir"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`, as in /proc/mounts; empty when unknown."""
    target = path.resolve()
    best, kind = Path("/"), ""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split(" ")
        mount = Path(fields[1].encode().decode("unicode_escape"))
        # Later mounts hide earlier ones at the same place.
        if target.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, kind = mount, fields[2]
    return kind


def is_network(kind: str) -> bool:
    """Whether a file system of this type is on another machine, so that the database cannot be there."""
    return kind in _NETWORK


def public_ports(settings: Settings) -> list[tuple[str, int]]:
    """Address and port pairs that the router will listen on, those that API and identity are at first."""
    platform = settings.platform
    listen = "127.0.0.1" if settings.listen == "localhost" else settings.listen
    if not platform.system_domain:
        return [(listen, platform.port)]
    return [(listen, platform.https_port), *([(listen, platform.http_port)] if platform.http_port else [])]


def option_of(settings: Settings, port: int) -> str:
    """The option of `cupola up` that chooses this port."""
    platform = settings.platform
    if not platform.system_domain:
        return "--port"
    return "--https-port" if port == platform.https_port else "--http-port"


def port_problem(address: str, port: int, option: str = "--port") -> str:
    """Why nothing can listen there, or an empty string."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Without SO_REUSEPORT, so that another platform's router, which uses it, is noticed.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"port {port} on {address} is in use{_holder(port)}: stop that, or choose another port ({option} {_free_port(address, port)})"
            if error.errno == errno.EACCES:
                return (
                    f"port {port} needs root: run this as root, allow it (`sysctl net.ipv4.ip_unprivileged_port_start={port}`), "
                    f"or choose a port above 1023 with {option}"
                )
            if error.errno == errno.EADDRNOTAVAIL:
                return f"{address} is not an address of this machine: set platform.listen to one that is"
            return f"cannot listen on {address}, port {port}: {error.strerror}"
    return ""


def _free_port(address: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for candidate in range(max(port, 1023) + 1, min(port + 100, 65535)):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((address, candidate))
            except OSError:
                continue
            return candidate
    return 9080


def _holder(port: int) -> str:
    import psutil

    try:
        found = psutil.net_connections("tcp")
    except (OSError, psutil.Error):
        return ""
    for connection in found:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or connection.laddr.port != port:
            continue
        if connection.pid is None:
            continue
        try:
            process = psutil.Process(connection.pid)
            settings = process.environ().get("CUPOLA_SETTINGS", "")
            if settings:
                place = Path(settings).parents[1]
                return f" by the Cupola platform in {place} (stop it with `cupola down --data-dir {shown(place)}`)"
            return f" by {process.name()} (process {connection.pid})"
        except (OSError, psutil.Error):
            return f" by process {connection.pid}"
    return ""
