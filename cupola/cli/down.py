"""`cupola down`: stop the apps and the platform, whether somebody supervises it or not."""

import os
import select
import signal
import time
from pathlib import Path

import click
from rich.console import Console

from cupola.cli import place
from cupola.cli.place import shown
from cupola.cli.view import View
from cupola.config import Settings
from cupola.processes import output, running
from cupola.processes.supervisor import AlreadySupervised, Event, Supervisor, extras, programs

__all__ = ["down"]


def down(data_dir: Path) -> int:
    """Run the command; its exit status. A platform that does not run is down already."""
    console = Console(highlight=False)
    settings = place.kept_settings(data_dir)
    if settings is None:
        console.print(f"There is no platform in {shown(data_dir)}.", markup=False)
        return 0
    found = running.open_running(settings.run_dir, "supervisor")
    names = [program.name for program in programs(settings)]
    if found is None:
        return _stop_alone(console, settings, names)
    holder, pidfd = found
    view = View(console, names, f"Stopping apps and platform in {shown(data_dir)}")
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        _watch(view, pidfd, settings.run_dir, names)
    except ProcessLookupError:
        pass
    finally:
        view.end()
        os.close(pidfd)
    left = [name for name in names if running.read(settings.run_dir, name)]
    if left:
        raise click.ClickException(
            f"{', '.join(left)} still run{'s' if len(left) == 1 else ''} after the supervisor (process {holder.pid}) ended: "
            f"repeat this command, and see {settings.data_dir / 'logs' / 'supervisor.log'}"
        )
    console.print("Cupola is down.")
    return 0


def _watch(view: View, pidfd: int, run_dir: Path, names: list[str]) -> None:
    """Show which processes are gone until the supervisor is."""
    alive = {name for name in names if running.read(run_dir, name)}
    for name in sorted(alive):
        view.event(Event(name, "stopping"))
    gone = False
    while not gone:
        gone = bool(select.select([pidfd], [], [], 0.1)[0])
        for name in sorted(alive):
            if running.read(run_dir, name) is None:
                alive.discard(name)
                view.event(Event(name, "stopped"))
        view.tick()


def _stop_alone(console: Console, settings: Settings, names: list[str]) -> int:
    view: View | None = None

    def tell(event: Event) -> None:
        if view is not None:
            view.event(event)

    supervisor = Supervisor(
        settings, programs(settings), tell, lambda: view.tick() if view else None, lambda: extras(settings)
    )
    try:
        supervisor.lock()
        if not supervisor.adopt() and not supervisor.has_instances():
            console.print(f"Cupola is not running in {shown(settings.data_dir)}.", markup=False)
            return 0
        view = View(console, names, f"Stopping apps and platform in {shown(settings.data_dir)}")
        started = time.monotonic()
        supervisor.stop()
        view.end()
        console.print(f"Cupola is down ({time.monotonic() - started:.1f} s).")
    except AlreadySupervised as error:
        raise click.ClickException(f"{error}: repeat this command") from error
    finally:
        if view is not None:
            view.end()
        supervisor.close()
    if supervisor.has_instances():
        raise click.ClickException(
            f"some app instances could not be stopped: see {output.place(settings.data_dir, 'cell')}"
        )
    return 0
