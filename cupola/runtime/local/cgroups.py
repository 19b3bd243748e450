"""Limits and accounting by control groups, version 1 or 2, whichever has the controllers.

Groups of one platform lie below `cupola-<platform id>`; `probe` makes and removes one to see whether it works.
"""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Cgroups", "Group", "find"]

_ROOT = Path("/sys/fs/cgroup")
_MIB = 1024 * 1024


@dataclass
class Group:
    """One instance's groups: a directory per controller (version 1), or the same one (version 2)."""

    directories: dict[str, Path] = field(default_factory=dict)
    version: int = 0

    def procs(self) -> list[str]:
        """The files to write a process's number into, to move it."""
        return sorted({str(directory / "cgroup.procs") for directory in self.directories.values()})

    def memory(self) -> int | None:
        """Bytes used without reclaimable page cache; None when not accounted."""
        directory = self.directories.get("memory")
        if directory is None:
            return None
        name = "memory.usage_in_bytes" if self.version == 1 else "memory.current"
        used = _number(directory / name)
        inactive = _stat(directory / "memory.stat", "total_inactive_file" if self.version == 1 else "inactive_file")
        return None if used is None else max(used - inactive, 0)

    def cpu_seconds(self) -> float | None:
        """Seconds of CPU since the group was made; None when not accounted."""
        if self.version == 2 and "cpu" in self.directories:
            return _stat(self.directories["cpu"] / "cpu.stat", "usage_usec") / 1e6
        if "cpuacct" in self.directories:
            used = _number(self.directories["cpuacct"] / "cpuacct.usage")
            return None if used is None else used / 1e9
        return None

    def out_of_memory(self) -> bool:
        """Whether the kernel ended a process here because the limit was reached."""
        directory = self.directories.get("memory")
        if directory is None:
            return False
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        return _stat(directory / name, "oom_kill") > 0

    def kill(self) -> None:
        """End every process in the groups."""
        for directory in self.directories.values():
            with contextlib.suppress(OSError, ValueError):
                for pid in (directory / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), 9)

    def remove(self) -> bool:
        """Remove the empty groups; False when processes are left."""
        done = True
        for directory in set(self.directories.values()):
            try:
                directory.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                done = False
        return done


@dataclass(frozen=True)
class Cgroups:
    """What this machine offers: controller to directory in which groups may be made."""

    version: int
    parents: dict[str, Path]

    def group(self, name: str) -> Group:
        """The group's directories, whether they exist or not."""
        return Group({controller: parent / name for controller, parent in self.parents.items()}, self.version)

    def make(self, name: str, memory_bytes: int, pids: int, cpu_share: float) -> Group:
        """Make the group with its limits; `cpu_share` (0 to 1] is its weight relative to others. Raises OSError."""
        group = self.group(name)
        for directory in group.directories.values():
            directory.mkdir(exist_ok=True)
        memory, cpu, pid = (group.directories.get(kind) for kind in ("memory", "cpu", "pids"))
        if memory is not None and memory_bytes > 0:
            if self.version == 1:
                _write(memory / "memory.limit_in_bytes", memory_bytes)
                _try(memory / "memory.memsw.limit_in_bytes", memory_bytes)
            else:
                _write(memory / "memory.max", memory_bytes)
                _try(memory / "memory.swap.max", 0)
                _try(memory / "memory.oom.group", 1)
        if pid is not None:
            _write(pid / "pids.max", pids)
        if cpu is not None:
            shares = max(int(1024 * cpu_share), 2)
            _try(*((cpu / "cpu.shares", shares) if self.version == 1 else (cpu / "cpu.weight", max(shares // 10, 1))))
        return group

    def remove(self) -> None:
        """Remove the platform's own groups, when no instance is left in them."""
        for parent in set(self.parents.values()):
            with contextlib.suppress(OSError):
                parent.rmdir()


def find(platform: str, root: Path = _ROOT) -> Cgroups | None:
    """The groups this process may use, or None. Tries by making the platform's own parent group."""
    own = _own_paths()
    for found in (_unified(platform, root, own), _legacy(platform, root)):
        if found is not None and "memory" in found.parents:
            return found
    return None


def _own_paths() -> dict[str, str]:
    paths = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _number, controllers, path = line.split(":", 2)
            paths[controllers] = path
    return paths


def _unified(platform: str, root: Path, own: dict[str, str]) -> Cgroups | None:
    top = root if (root / "cgroup.controllers").exists() else root / "unified"
    try:
        offered = set((top / "cgroup.controllers").read_text().split())
    except OSError:
        return None
    if not {"memory", "pids"} <= offered:
        return None
    # As root at the top; a plain user below the group that systemd delegated (its parent, as it holds processes).
    bases = [top] if os.getuid() == 0 else [top / own.get("", "/").lstrip("/")]
    for base in bases:
        parent = base / f"cupola-{platform}"
        try:
            parent.mkdir(exist_ok=True)
            wanted = [name for name in ("memory", "pids", "cpu") if name in offered]
            for directory in (base, parent):
                for name in wanted:
                    _write(directory / "cgroup.subtree_control", f"+{name}")
        except OSError:
            with contextlib.suppress(OSError):
                parent.rmdir()
            continue
        return Cgroups(2, dict.fromkeys(wanted, parent))
    return None


def _legacy(platform: str, root: Path) -> Cgroups | None:
    parents = {}
    for controller in ("memory", "pids", "cpu", "cpuacct"):
        parent = root / controller / f"cupola-{platform}"
        try:
            if not (root / controller / "cgroup.procs").exists():
                continue
            parent.mkdir(exist_ok=True)
        except OSError:
            continue
        if os.access(parent, os.W_OK):
            parents[controller] = parent
    return Cgroups(1, parents) if parents else None


def _write(path: Path, value: object) -> None:
    path.write_text(str(value))


def _try(path: Path, value: object) -> None:
    with contextlib.suppress(OSError):
        path.write_text(str(value))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _stat(path: Path, name: str) -> int:
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return 0
