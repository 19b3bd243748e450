"""The stack's root filesystem: the host's /usr read-only, a chosen /etc, a small /dev, on a tmpfs of the spawner's own.

It is built once per spawner, in its private mount namespace; each instance gets a copy of the mounts.
"""

import os
import shutil
from typing import Any

from cupola.runtime.local import kernel

__all__ = ["ETC", "build_etc", "enter", "prepare"]

ETC = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "debian_version", "fonts", "inputrc", "java",
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "lsb-release", "mime.types",
    "nsswitch.conf", "os-release", "pki", "php", "profile", "protocols", "services", "ssl/certs", "ssl/openssl.cnf",
    "terminfo", "timezone",
)  # fmt: skip
"""What of the host's /etc instances see, beside java-*; never shadow, ssh or ssl/private."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def build_etc(target: str, name_server: str) -> None:
    """Fill `target` with the instances' /etc: chosen files of the host, and users, groups, hosts of our own.

    Names are asked of `name_server`, or where it is empty as the host does.
    """
    os.makedirs(target, exist_ok=True)
    names = [*ETC, *(name for name in os.listdir("/etc") if name.startswith("java-"))]
    for name in names:
        source, copy = os.path.join("/etc", name), os.path.join(target, name)
        try:
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            if os.path.isdir(source):
                shutil.copytree(source, copy, symlinks=True, dirs_exist_ok=True, ignore_dangling_symlinks=True)
            elif os.path.exists(source):
                shutil.copyfile(source, copy)
        except (OSError, shutil.Error):
            continue  # a file that the platform's user may not read is not for instances either
    _write(target, "passwd", _USERS)
    _write(target, "group", _GROUPS)
    _write(target, "hosts", _read("/etc/hosts") or "127.0.0.1 localhost\n::1 localhost\n")
    _write(target, "resolv.conf", f"nameserver {name_server}\n" if name_server else _read("/etc/resolv.conf"))
    for place in ("cf-service-bindings", "cf-instance-credentials", "cf-system-certificates"):
        os.makedirs(os.path.join(target, place), exist_ok=True)


_USERS = """root:x:0:0:root:/root:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
vcap:x:2000:2000:vcap:/home/vcap:/bin/bash
"""
_GROUPS = """root:x:0:
tty:x:5:
nogroup:x:65534:
vcap:x:2000:
"""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _write(directory: str, name: str, text: str) -> None:
    with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
        file.write(text)


def prepare(configuration: dict[str, Any]) -> None:
    """Give the spawner its namespaces and build the template tree.

    `configuration`: `mode`, `etc` (directory made by `build_etc`), `scratch` (an empty directory to mount on),
    `own_network` (whether instances have one), `spares` (forks to have ready), `favordynmods`, `rootfs` (directory instead of the host's /usr, or empty), `read_only` (host paths shown at the same place).
    """
    mode = configuration["mode"]
    if mode not in ("root", "rootless"):
        return
    if mode == "rootless":
        uid, gid = os.getuid(), os.getgid()
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
        _map("self", f"0 {uid} 1", f"0 {gid} 1")
    else:
        kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | (kernel.MS_SLAVE if mode == "root" else kernel.MS_PRIVATE))
    scratch = configuration["scratch"]
    kernel.mount("tmpfs", scratch, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=1m")
    _build(scratch, configuration)


def _map(pid: str, uids: str, gids: str) -> None:
    with open(f"/proc/{pid}/setgroups", "w", encoding="utf-8") as file:
        file.write("deny")
    with open(f"/proc/{pid}/uid_map", "w", encoding="utf-8") as file:
        file.write(uids)
    with open(f"/proc/{pid}/gid_map", "w", encoding="utf-8") as file:
        file.write(gids)


def _build(root: str, configuration: dict[str, Any]) -> None:
    for name in ("home/vcap", "tmp", "proc", "dev", "etc", "usr", "run", "root", "var", "opt", "srv", "sys", ".old"):
        os.makedirs(os.path.join(root, name), exist_ok=True)
    os.symlink("../tmp", os.path.join(root, "var/tmp"))
    os.symlink("../run", os.path.join(root, "var/run"))
    base = configuration["rootfs"] or "/"
    bind_read_only(os.path.join(base, "usr"), os.path.join(root, "usr"))
    for name in _LINKS:
        host = os.path.join(base, name)
        if os.path.islink(host):
            os.symlink(os.readlink(host), os.path.join(root, name))
        elif os.path.isdir(host):
            os.makedirs(os.path.join(root, name))
            bind_read_only(host, os.path.join(root, name))
    etc = os.path.join(base, "etc") if configuration["rootfs"] else configuration["etc"]
    bind_read_only(etc, os.path.join(root, "etc"))
    for host in configuration["read_only"]:
        if host.startswith("/usr/"):
            continue
        inside = root + host
        os.makedirs(inside, exist_ok=True)
        bind_read_only(host, inside)
    _devices(os.path.join(root, "dev"))


def _devices(dev: str) -> None:
    kernel.mount("tmpfs", dev, "tmpfs", kernel.MS_NOSUID, "mode=0755,size=64k")
    for name in _DEVICES:
        with open(os.path.join(dev, name), "w", encoding="utf-8"):
            pass
        kernel.mount(f"/dev/{name}", os.path.join(dev, name), "", kernel.MS_BIND)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", os.path.join(dev, name))
    os.symlink("pts/ptmx", os.path.join(dev, "ptmx"))
    os.makedirs(os.path.join(dev, "pts"))
    os.makedirs(os.path.join(dev, "shm"))


def bind_read_only(source: str, target: str) -> None:
    """Show `source` at `target`, read-only, without devices and with void set-user-id bits."""
    kernel.mount(source, target, "", kernel.MS_BIND | kernel.MS_REC)
    remount(target, kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV)


def remount(target: str, flags: int) -> None:
    """Give the bind mount at `target` these flags, and those that a user namespace does not let go."""
    flags |= kernel.MS_BIND | kernel.MS_REMOUNT
    try:
        kernel.mount("none", target, "", flags)
    except PermissionError:
        present = os.statvfs(target).f_flag
        flags |= present & (kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | 1024 | 2048)
        kernel.mount("none", target, "", flags | ((1 << 21) if present & 4096 else 0))


def enter(root: str) -> None:
    """Make `root`, a mount point, the root of this mount namespace and let go of the old one."""
    os.chdir(root)
    kernel.pivot_root(".", ".old")
    os.chdir("/")
    kernel.umount("/.old", kernel.MNT_DETACH)
