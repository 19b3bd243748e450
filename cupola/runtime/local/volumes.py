"""Volumes in the mount namespace of an instance. In forks of the spawner: only the standard library."""

import os

from cupola.runtime.local import kernel, stack

__all__ = ["mount_volumes"]


def mount_volumes(volumes: list[list[str]], root: str, owner: int) -> None:
    """In the instance's mount namespace: show each volume at its place. `owner` is its user namespace, or -1."""
    if any(place.startswith("/var/") for _, place, _ in volumes):
        # /var is shared with other instances, which need not know the names of these volumes.
        kernel.mount("tmpfs", root + "/var", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=1m")
        os.symlink("../tmp", root + "/var/tmp")
        os.symlink("../run", root + "/var/run")
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    for outside, place, mode in volumes:
        target = root + place
        os.makedirs(target, exist_ok=True)
        if owner >= 0:
            # Files belong to one user on the disk, whichever users the instances are that see them.
            kernel.idmapped_clone(outside, target, owner)
        else:
            kernel.mount(outside, target, "", kernel.MS_BIND)
        stack.remount(target, flags | (kernel.MS_RDONLY if mode == "r" else 0))
