"""What instances use: from their control groups, else summed over their processes."""

import os
from dataclasses import dataclass

from cupola.runtime.local.cgroups import Group
from cupola.runtime.local.spaces import Space

__all__ = ["Figure", "Meter"]

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Figure:
    """Seconds of CPU, bytes of memory, bytes of disk (None: not measured this time)."""

    cpu_seconds: float
    memory: int
    disk: int | None


@dataclass(frozen=True)
class _Process:
    cpu: float
    memory: int


class Meter:
    """Blocking; use from one worker thread at a time."""

    def take(self, subjects: list[tuple[int, Group | None, Space | None]]) -> list[Figure]:
        """Measure instances, each given by its init's pid, its group and, where disk is to be measured, its space."""
        children: dict[int, list[int]] = {}
        processes: dict[int, _Process] = {}
        if any(not _accounted(group) for _pid, group, _space in subjects):
            children, processes = _scan()
        figures = []
        for pid, group, space in subjects:
            cpu = group.cpu_seconds() if group else None
            memory = group.memory() if group else None
            if cpu is None or memory is None:
                below = _below(pid, children)
                cpu = sum(processes[p].cpu for p in below) if cpu is None else cpu
                memory = sum(processes[p].memory for p in below) if memory is None else memory
            figures.append(Figure(cpu, memory, space.used(pid) if space else None))
        return figures


def _accounted(group: Group | None) -> bool:
    return group is not None and group.memory() is not None and group.cpu_seconds() is not None


def _scan() -> tuple[dict[int, list[int]], dict[int, _Process]]:
    children: dict[int, list[int]] = {}
    processes = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rsplit(b")", 1)[1].split()
        except (OSError, IndexError):
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
        # Of dead children too: their time is what a build mostly consists of.
        cpu = sum(int(fields[i]) for i in (11, 12, 13, 14)) / _TICKS
        processes[int(name)] = _Process(cpu, int(fields[21]) * _PAGE)
    return children, processes


def _below(pid: int, children: dict[int, list[int]]) -> list[int]:
    found: list[int] = []
    waiting = list(children.get(pid, []))
    while waiting:
        current = waiting.pop()
        found.append(current)
        waiting += children.get(current, [])
    return found
