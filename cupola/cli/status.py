"""`cupola status`: which processes run, for how long, with how much memory, and where the platform answers."""

import contextlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from cupola.cli import place
from cupola.cli.place import shown
from cupola.cli.up import answers
from cupola.config import Settings
from cupola.processes import running
from cupola.processes.supervisor import programs

__all__ = ["DOWN", "ProcessStatus", "Status", "look", "status"]

DOWN = 3
"""Exit status when the platform is not completely up, as service managers use it."""


@dataclass(frozen=True)
class ProcessStatus:
    """One process of the platform; memory in bytes (its own, without apps), uptime in seconds."""

    name: str
    state: str
    pid: int | None = None
    memory: int | None = None
    uptime: float | None = None


@dataclass(frozen=True)
class Status:
    """The whole platform. `problem` says why it is not up."""

    data_dir: str
    up: bool
    problem: str = ""
    api: str = ""
    apps_domain: str = ""
    isolation: str = ""
    certificate: str = ""
    instances: int = 0
    supervised: bool = False
    processes: list[ProcessStatus] = field(default_factory=list)


def status(data_dir: Path, as_json: bool) -> int:
    """Run the command; its exit status."""
    found = look(data_dir)
    if as_json:
        print(json.dumps(asdict(found), indent=2))  # noqa: T201  # the answer itself
    else:
        _show(Console(highlight=False), found, data_dir)
    return 0 if found.up else DOWN


def look(data_dir: Path) -> Status:
    """The state of the platform in `data_dir`. Waits a second at most for its answer."""
    settings = place.kept_settings(data_dir)
    if settings is None:
        return Status(str(data_dir), up=False, problem="there is no platform here")
    names = [program.name for program in programs(settings)]
    processes = [_process(settings, name) for name in names]
    supervisor = _process(settings, "supervisor")
    missing = [one.name for one in processes if one.state != "ready"]
    if len(missing) == len(names) and all(one.pid is None for one in processes):
        problem = "not running"
    elif missing:
        problem = f"{', '.join(missing)} not ready"
    elif not_answered := answers(settings, patience=0):
        problem = f"{settings.api_url} does not answer: {not_answered}"
    else:
        problem = ""
    instances = settings.data_dir / "cell" / "instances"
    return Status(
        str(data_dir),
        up=not problem,
        problem=problem,
        api=settings.api_url,
        apps_domain=settings.apps_domain,
        isolation=_read(settings.run_dir / "cell.ready"),
        certificate=_certificate(settings),
        instances=sum(1 for _ in instances.iterdir()) if instances.is_dir() else 0,
        supervised=supervisor.pid is not None,
        processes=[*([supervisor] if supervisor.pid else []), *processes],
    )


def _certificate(settings: Settings) -> str:
    if not settings.platform.system_domain:
        return ""
    from cupola.cli.certificates import summary

    return summary(settings)


def _process(settings: Settings, name: str) -> ProcessStatus:
    found = running.read(settings.run_dir, name)
    if found is None:
        return ProcessStatus(name, "down")
    is_ready = name == "supervisor" or (settings.run_dir / f"{name}.ready").exists()
    return ProcessStatus(
        name,
        "ready" if is_ready else "starting",
        found.pid,
        _memory(name, found.pid),
        round(time.time() - found.since, 1),
    )


def _memory(name: str, pid: int) -> int | None:
    """Resident bytes of a process and of the helpers that run the platform's own code."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        total = int(process.memory_info().rss)
        # The supervisor's children are the other processes, which have lines of their own.
        for child in process.children() if name != "supervisor" else ():
            with contextlib.suppress(psutil.Error):
                if any("cupola." in word for word in child.cmdline()):
                    total += int(child.memory_info().rss)
        return total
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _show(console: Console, found: Status, data_dir: Path) -> None:
    if found.up:
        console.print("[bold green]Cupola is up[/]")
    else:
        console.print(f"[bold red]Cupola is not up[/]: {found.problem} ({shown(data_dir)})", soft_wrap=True)
    if not found.processes:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("process", "state", "pid", "memory", "uptime"):
        table.add_column(title, justify="right" if title in ("pid", "memory", "uptime") else "left")
    for one in found.processes:
        table.add_row(
            one.name,
            one.state,
            str(one.pid or ""),
            f"{one.memory / 2**20:.0f} MiB" if one.memory else "",
            _duration(one.uptime) if one.uptime is not None else "",
        )
    console.print(table)
    if not found.supervised and any(one.pid for one in found.processes):
        console.print(f"Nobody supervises these processes: `{place.command('up', data_dir)}` takes them over.")
    if found.up:
        console.print(f"API        {found.api}", markup=False)
        console.print(f"Apps       *.{found.apps_domain}, {found.instances} running instances", markup=False)
        console.print(f"Isolation  {found.isolation}", markup=False)
        if found.certificate:
            console.print(f"TLS        {found.certificate}", markup=False)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
