"""What services put into an instance: files of its bindings, and volumes that outlive it (reference/app-runtime.md 3, 17).

Files lie with the instance's own, and are shown read-only at `/etc/cf-service-bindings` where it has mounts of its own;
elsewhere the variables that name the place name where they really are. Volumes need mounts.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from cupola.runtime.engine import Container, EngineError

__all__ = ["ROOT", "directory", "located", "make_volumes", "outside", "place_inside", "write_files"]

ROOT = "/etc/cf-service-bindings"
_NAME = "cf-service-bindings"
_VARIABLES = ("SERVICE_BINDING_ROOT", "VCAP_SERVICES_FILE_PATH")


def write_files(container: Container, files: Path) -> None:
    """Write the files of a container's bindings below its own `files`."""
    for path, content in container.files.items():
        target = files / _NAME / path
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
        target.chmod(0o644)


def outside(files: Path) -> Path:
    """Where the files lie, seen from outside."""
    return files / _NAME


def directory(container: Container, files: Path) -> Path | None:
    """The same, or None when there are none."""
    return outside(files) if container.files else None


def place_inside(rootfs: str) -> str:
    """Where the files are shown: a root filesystem of the operator's own may not have the usual place."""
    return ROOT if not rootfs or os.path.isdir(rootfs + ROOT) else f"/run/{_NAME}"


def located(env: Mapping[str, str], place: str) -> dict[str, str]:
    """The variables that name the files, which are at `place`."""
    return {name: place + env[name].removeprefix(ROOT) for name in _VARIABLES if env.get(name, "").startswith(ROOT)}


def make_volumes(container: Container, root: Path, owner: int, *, can_mount: bool) -> list[list[str]]:
    """[directory outside, place inside, `r` or `rw`] of a container's volumes; directories are made at their first use.

    `owner` -1: whoever runs the platform. Raises EngineError where instances have no mounts of their own.
    """
    if container.volumes and not can_mount:
        raise EngineError(
            "the app is bound to a service that gives it a volume, and this cell cannot mount volumes: "
            "instances here have no mount namespace (`cupola doctor` says what is missing). Unbind the service, or run "
            "the platform as root or where user namespaces are allowed"
        )
    found = []
    for volume in container.volumes:
        place = root / volume.id
        if not place.is_dir():
            root.mkdir(mode=0o711, parents=True, exist_ok=True)
            place.mkdir(mode=0o755, exist_ok=True)
            if owner >= 0:
                os.chown(place, owner, owner)
        found.append([str(place), volume.place, "r" if volume.read_only else "rw"])
    return found
