"""The disk limit of instances: who holds an instance to it, and how much it has used (reference/local-runtime.md).

project   a project quota of ext4 or xfs, where the file system of the data directory has them switched on
btrfs     a subvolume with a quota group, likewise
loop      an ext4 image for each instance, mounted in its namespace
tmpfs     memory; only where the setting says so, because it counts as the instance's memory
polling   disk use is read, and an instance over its limit ended
"""

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cupola.runtime.engine import EngineError
from cupola.runtime.local import images, quotas
from cupola.runtime.local.droplets import disk_usage, remove_tree

__all__ = ["MOUNTED", "Kind", "Space", "Spaces", "candidates", "left", "mounted", "remove"]

Kind = Literal["project", "btrfs", "loop", "tmpfs", "polling"]
MOUNTED: frozenset[Kind] = frozenset({"loop", "tmpfs"})
"""Kinds that are a mount in the namespace of an instance, below an overlay."""
_IMAGE = "disk.img"
_JOURNAL_MIB = 4
_KEPT = 64
"""Templates; each takes some 150 KB."""
_MIB = 1024 * 1024
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
"""Where mkfs.ext4 is looked for: not every user's PATH has the system's programs."""


@dataclass(frozen=True)
class Space:
    """What one instance may write, given by its record directory. `carried` are bytes of a droplet that lies elsewhere."""

    kind: Kind
    directory: Path
    carried: int = 0

    @property
    def is_cheap(self) -> bool:
        """Whether `used` asks the kernel for one figure instead of looking at each file."""
        return self.kind in ("project", "loop", "tmpfs")

    def used(self, pid: int) -> int:
        """Bytes used, the droplet included; `pid` is the instance's init. When that has ended, the droplet alone."""
        return self.carried + self._written(pid)

    def _written(self, pid: int) -> int:
        try:
            if self.kind == "project":
                return quotas.project_used(self.directory / "files")
            if self.kind in MOUNTED:
                found = os.statvfs(f"/proc/{pid}/root/tmp")
                return (found.f_blocks - found.f_bfree) * found.f_frsize
        except OSError:
            return 0
        return disk_usage(self.directory / "files")


def left(mebibytes: int, carried: int) -> int:
    """MiB that an instance may write of its limit besides the droplet that it carries (bytes); 0 for a limit of 0, which is none.

    Raises EngineError when there is not one.
    """
    if mebibytes <= 0:
        return 0
    taken = -(-carried // _MIB)
    if taken >= mebibytes:
        raise EngineError(
            f"cannot create the container: the droplet takes {taken} MB, and the app may have {mebibytes} MB of disk: "
            "give it more (`disk_quota` in the manifest, or `cf scale -k`), or push less",
        )
    return mebibytes - taken


def mounted(kind: Kind, directory: Path, mebibytes: int) -> dict[str, str | int] | None:
    """`space` of launch.json."""
    if kind == "loop":
        return {"image": str(directory / _IMAGE)}
    return {"bytes": mebibytes * _MIB} if kind == "tmpfs" else None


class Spaces:
    """Makes spaces of one kind. Blocking; for any thread. New images are kept in `templates`, one of each size."""

    def __init__(self, kind: Kind, templates: Path) -> None:
        self._kind = kind
        self._templates = templates
        self._making = threading.Lock()

    def kind(self, mebibytes: int, *, overlay: bool) -> Kind:
        """The kind for an instance with this limit (0: none), whose files lie on an overlay or not."""
        if mebibytes <= 0 or (self._kind in MOUNTED and not overlay):
            return "polling"
        return self._kind

    def make(self, kind: Kind, directory: Path, mebibytes: int) -> None:
        """Make the space of the instance with this record directory. Raises OSError."""
        files = directory / "files"
        if kind == "btrfs":
            quotas.make_subvolume(files, mebibytes * _MIB)
            files.chmod(0o755)
            return
        files.mkdir(mode=0o755)
        if kind == "project":
            quotas.limit_project(files, mebibytes * _MIB)
        if kind == "loop":
            images.copy_image(str(self._template(mebibytes)), str(directory / _IMAGE))

    def _template(self, mebibytes: int) -> Path:
        path = self._templates / f"{mebibytes}.ext4"
        with self._making:
            if path.exists():
                os.utime(path)
            else:
                self._templates.mkdir(mode=0o700, exist_ok=True)
                _make_image(str(path), mebibytes)
                for old in sorted(self._templates.glob("*.ext4"), key=lambda one: one.stat().st_mtime)[:-_KEPT]:
                    old.unlink()
        return path


def _make_image(path: str, mebibytes: int) -> None:
    """Make the image, whole or not at all: so large that `mebibytes` fit in. Raises OSError."""
    new = f"{path}.{os.urandom(4).hex()}.new"
    # Files of an instance end with it; the journal is for speed alone: without one, ext4 looks at every inode that was
    # freed in the last minutes before it takes one.
    journal = _JOURNAL_MIB if mebibytes >= 16 * _JOURNAL_MIB else 0
    options = ["-J", f"size={journal}"] if journal else ["-O", "^has_journal"]
    options += ["-O", "^resize_inode", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]
    try:
        with open(new, "wb") as file:
            # A 32nd goes to the table of inodes.
            file.truncate((mebibytes + mebibytes // 30 + journal + 1) * _MIB)
        environment = {"PATH": _PATH, "LC_ALL": "C"}
        done = subprocess.run(
            ["mkfs.ext4", "-q", "-F", "-m", "0", "-i", "8192", *options, new],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if done.returncode != 0:
            raise OSError(f"mkfs.ext4 failed: {done.stderr.strip().partition(chr(10))[0]}")
        os.rename(new, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)


def remove(directory: Path) -> None:
    """Remove a record directory with the limit that a file system keeps for it, whatever the kind."""
    files = directory / "files"
    if os.getuid() == 0 and files.is_dir():
        with contextlib.suppress(OSError):
            quotas.release_project(files)
        with contextlib.suppress(OSError):
            quotas.delete_subvolume(files)
    remove_tree(directory)


def candidates(wanted: str, mode: str, directory: Path, *, overlay: bool) -> Iterator[Kind]:
    """Kinds that may work for instances of this mode below `directory`, the best first; a trial shows whether they do."""
    is_root = os.getuid() == 0
    if is_root and wanted in ("auto", "project") and quotas.is_enforced(directory):
        yield "project"
    if is_root and wanted in ("auto", "btrfs") and _has_groups(directory):
        yield "btrfs"
    if is_root and mode == "root" and overlay and wanted in ("auto", "loop") and shutil.which("mkfs.ext4", path=_PATH):
        yield "loop"
    if wanted == "tmpfs" and mode in ("root", "rootless") and overlay:
        yield "tmpfs"
    if wanted in ("auto", "polling"):
        yield "polling"


def _has_groups(directory: Path) -> bool:
    trial = directory / f"quota-{os.getpid()}"
    try:
        quotas.make_subvolume(trial, _MIB)
        quotas.delete_subvolume(trial)
    except OSError:
        return False
    return True
