"""Volumes that brokers give to apps: which of them this platform mounts.

Device type `shared`, driver `localdriver`: a directory of this machine, named by its volume id below
`services.volumes_dir`, which every instance of every app that is bound to it sees. Whatever else a broker asks for is
refused when the app is bound, so that it is not the app that fails to start.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["DRIVER", "problem"]

DRIVER = "localdriver"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", re.ASCII)
_OURS = ("/home/vcap/app", "/home/vcap/deps", "/etc", "/proc", "/sys", "/dev", "/bin", "/lib", "/sbin", "/usr")
"""Places of the platform's own, which nothing is mounted over."""


def problem(mounts: Sequence[Mapping[str, Any]]) -> str | None:
    """Why these volumes cannot be mounted here, or None."""
    for mount in mounts:
        found = _problem(mount)
        if found is not None:
            return f"The service broker asks for a volume that this platform cannot mount: {found}"
    places = [mount["container_dir"].rstrip("/") for mount in mounts]
    if len(set(places)) != len(places):
        return "The service broker asks for two volumes at the same container_dir"
    return None


def _problem(mount: Mapping[str, Any]) -> str | None:
    if mount["device_type"] != "shared":
        return f"device_type is '{mount['device_type']}', and only 'shared' can be mounted"
    if mount["driver"] != DRIVER:
        return f"driver is '{mount['driver']}', and only '{DRIVER}' (a directory of this machine) can be mounted"
    if mount["mode"] not in {"r", "rw"}:
        return f"mode is '{mount['mode']}', and must be 'r' or 'rw'"
    if not _ID.fullmatch(mount["device"]["volume_id"]):
        return "device.volume_id may have letters, digits, '.', '_' and '-' only"
    place = mount["container_dir"].rstrip("/")
    if not place.startswith("/") or ".." in place.split("/") or "//" in place:
        return "container_dir must be an absolute path without '..'"
    for own in _OURS:
        if place == own or place.startswith(own + "/") or own.startswith(place + "/"):
            return f"container_dir is {mount['container_dir']}, which is the platform's own"
    return None
