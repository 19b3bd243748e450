"""`cupola up`: check, supervise or have supervised, and say how the platform is used."""

import contextlib
import http.client
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from cupola import config
from cupola.cli import checks, place, reach
from cupola.cli.place import Credentials, shown
from cupola.cli.view import View
from cupola.config import Settings
from cupola.processes import output, privileges, running
from cupola.processes.supervisor import AlreadySupervised, CannotStart, Event, Supervisor, extras, programs

__all__ = ["Wish", "chosen_settings", "up"]

_ANSWER_SECONDS = 10.0
_START_SECONDS = 180.0
"""Seconds after which a detached start is reported as not finished."""


@dataclass(frozen=True)
class Wish:
    """What the command line asks for."""

    config: Path | None
    flags: dict[str, Any]
    detach: bool
    push: tuple[Path, ...]


def chosen_settings(file: Path | None, flags: dict[str, Any]) -> Settings:
    """The merged settings. Raises a click error that names the setting."""
    try:
        return config.load(file, flags=flags)
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error


def up(wish: Wish) -> int:
    """Run the command; its exit status."""
    settings = chosen_settings(wish.config, wish.flags)
    console = Console(highlight=False)
    before = place.kept_settings(settings.data_dir)
    checks.prepare(settings, before)
    credentials = place.ensure_credentials(settings)
    if _runs_as_wished(settings):
        console.print(f"Cupola runs already in {escape(shown(settings.data_dir))}.")
        _wait_until_ready(settings)
        welcome(console, settings, credentials, attached=False)
        return _push_all(settings, wish.push)
    _take_over(console, settings, before)
    if wish.detach:
        _detached(console, settings, credentials)
        return _push_all(settings, wish.push)
    return _Foreground(console, settings, credentials, wish.push).run()


def _runs_as_wished(settings: Settings) -> bool:
    holder = running.read(settings.run_dir, "supervisor")
    return holder is not None and holder.fingerprint == _fingerprint(settings)


def _wait_until_ready(settings: Settings) -> None:
    """For a supervisor that somebody else started, perhaps a moment ago. Raises a click error when it gives up."""
    deadline = time.monotonic() + _START_SECONDS
    names = [program.name for program in programs(settings) if not program.optional]
    while not all((settings.run_dir / f"{name}.ready").exists() for name in names):
        if running.read(settings.run_dir, "supervisor") is None or time.monotonic() > deadline:
            raise click.ClickException(
                f"the platform does not get ready: see `{place.command('logs', settings.data_dir)}`"
            )
        time.sleep(0.05)


def _fingerprint(settings: Settings) -> str:
    return running.fingerprint(msgspec.json.encode(settings, enc_hook=str))


def _take_over(console: Console, settings: Settings, before: Settings | None) -> None:
    """Make the supervisor with other settings or code leave; its processes stay and are replaced one by one."""
    found = running.open_running(settings.run_dir, "supervisor")
    if found is None:
        return
    holder, pidfd = found
    what = ", ".join(_changes(before, settings)) if before else ""
    console.print(
        f"Taking over from the running supervisor (process {holder.pid}): "
        f"{escape(what) if what else 'the code has changed'}. Apps keep running."
    )
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGUSR1)
        if not select.select([pidfd], [], [], 15)[0]:
            raise click.ClickException(
                f"process {holder.pid} supervises {shown(settings.data_dir)} and does not let go: "
                f"stop it with `{place.command('down', settings.data_dir)}` first"
            )
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def _changes(before: Settings, after: Settings) -> list[str]:
    old, new = (msgspec.to_builtins(settings, enc_hook=str) for settings in (before, after))
    found = []
    for section, values in new.items():
        if isinstance(values, dict):
            for name, value in values.items():
                if (had := old[section].get(name)) != value:
                    found.append(f"{section}.{name} {had!r} \u2192 {value!r}")
        elif old.get(section) != values:
            found.append(f"{section} {old.get(section)!r} \u2192 {values!r}")
    return found


class _Foreground:
    """Supervises in this process, shows what happens, pushes what was asked for once the platform answers."""

    def __init__(
        self, console: Console, settings: Settings, credentials: Credentials | None, push: tuple[Path, ...]
    ) -> None:
        self._console = console
        self._settings = settings
        self._credentials = credentials
        self._push = list(push)
        self._pushing: subprocess.Popen[bytes] | None = None
        self._was_up = False
        wanted = programs(settings)
        self._view = View(console, [program.name for program in wanted], _title(settings))
        self._supervisor = Supervisor(settings, wanted, self._tell, self._view.tick, lambda: extras(settings))

    def run(self) -> int:
        privileges.guard()
        try:
            self._supervisor.lock()
            self._supervisor.run()
        except (CannotStart, AlreadySupervised) as error:
            self._view.end()
            raise click.ClickException(str(error)) from error
        except OSError as error:
            self._view.end()
            raise click.ClickException(f"{error.strerror}: {error.filename or self._settings.data_dir}") from error
        finally:
            self._view.end()
            self._end_push()
            self._supervisor.close()
        return 0

    def _tell(self, event: Event) -> None:
        self._view.event(event)
        if event.process:
            return
        if event.state == "ready":
            self._was_up = True
            self._view.end()
            announce(self._console, self._settings, self._credentials, self._view.seconds, attached=True)
            if self._push:
                self._pushing = subprocess.Popen(push_command(self._settings, self._push))
        elif event.state == "stopping":
            self._view.end()
            self._end_push()
            self._view.resume("Stopping apps and platform" if self._was_up else "Stopping what was started")
        elif event.state == "stopped":
            self._view.end()
            if self._was_up:
                self._console.print("Cupola is down.")

    def _end_push(self) -> None:
        if self._pushing is not None:
            if self._pushing.poll() is None:
                self._pushing.terminate()
            self._pushing.wait()
            self._pushing = None


def _title(settings: Settings) -> str:
    return f"Starting Cupola in {shown(settings.data_dir)}"


def _detached(console: Console, settings: Settings, credentials: Credentials | None) -> None:
    view = View(console, [program.name for program in programs(settings)], _title(settings))
    settings.run_dir.mkdir(mode=0o700, exist_ok=True)
    wanted = settings.run_dir / f"settings-{os.getpid()}.json"
    config.write_resolved(settings, wanted)
    reading, writing = os.pipe()
    log, _ = output.open_for_append(settings.data_dir / "logs" / "supervisor.log")
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cupola.processes.supervisor", str(wanted), str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[writing],
            start_new_session=True,
            cwd=settings.run_dir,
            env={**os.environ, "PYTHONPATH": _search_path()},
        )
    finally:
        os.close(writing)
        os.close(log)
    try:
        with os.fdopen(reading, "rb", buffering=0) as events:
            _follow(view, events.fileno(), settings)
    finally:
        view.end()
    announce(console, settings, credentials, view.seconds, attached=False)
    # It is meant to outlive this command, so nobody waits for it here.
    process.returncode = 0


def _search_path() -> str:
    source = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(dict.fromkeys([source, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))


def _follow(view: View, descriptor: int, settings: Settings) -> None:
    """Show the detached supervisor's events until the platform is ready. Raises a click error when it does not get so."""
    log = settings.data_dir / "logs" / "supervisor.log"
    deadline = time.monotonic() + _START_SECONDS
    pending = b""
    while time.monotonic() < deadline:
        view.tick()
        if not select.select([descriptor], [], [], 0.1)[0]:
            continue
        data = os.read(descriptor, 65536)
        if not data:
            said = output.tail(log)
            raise click.ClickException(f"the supervisor ended ({said[-1] if said else 'silently'}): see {log}")
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            event = msgspec.json.decode(line, type=Event)
            view.event(event)
            if event == Event("", "ready"):
                return
            if not event.process and event.state == "failed":
                raise click.ClickException(event.text)
    raise click.ClickException(
        f"the platform is not ready after {_START_SECONDS:.0f} s and goes on trying: see `{place.command('status', settings.data_dir)}` "
        f"and `{place.command('logs', settings.data_dir)}`"
    )


def announce(
    console: Console, settings: Settings, credentials: Credentials | None, seconds: float, *, attached: bool
) -> None:
    """Say that the platform is up, once it answers, and how it is used."""
    problem = answers(settings)
    if problem:
        console.print(
            f"[yellow]The processes are ready, but {escape(settings.api_url)} does not answer: {escape(problem)}[/]"
        )
    else:
        console.print(f"[bold green]Cupola is up[/] [dim]({seconds:.1f} s)[/]")
    welcome(console, settings, credentials, attached=attached)


def answers(settings: Settings, patience: float = _ANSWER_SECONDS) -> str:
    """Why the API does not answer through the router, or an empty string."""
    host = urlsplit(settings.api_url).netloc
    deadline = time.monotonic() + patience
    problem = ""
    while True:
        connection = None
        try:
            connection = reach.connection(settings, host.partition(":")[0], 5)
            connection.request("GET", "/", headers={"Host": host})
            status = connection.getresponse().status
            if status == 200:
                return ""
            problem = f"status {status}"
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        finally:
            if connection is not None:
                connection.close()
        if time.monotonic() > deadline:
            return problem
        time.sleep(0.02)


def welcome(console: Console, settings: Settings, credentials: Credentials | None, *, attached: bool) -> None:
    """Addresses, credentials and the next steps."""
    data = settings.data_dir
    isolation = _isolation(settings)
    lines = [
        ("API", settings.api_url),
        ("Apps", settings.url_of(f"NAME.{settings.apps_domain}")),
        *_first_user(settings, credentials),
    ]
    if isolation:
        lines.append(("Isolation", isolation))
    lines += _certificates(settings)
    console.print()
    for name, value in lines:
        console.print(f"  [dim]{name:<11}[/]{escape(value)}", soft_wrap=True)
    console.print()
    for name, value in (
        ("Log in", login_command(settings, credentials)),
        ("Push", f"cf push     or without cf:  {place.command('push DIRECTORY', data)}"),
        ("Stop", "Ctrl-C" if attached else place.command("down", data)),
    ):
        console.print(f"  [dim]{name:<11}[/]{escape(value)}", soft_wrap=True)
    console.print()


def _first_user(settings: Settings, credentials: Credentials | None) -> list[tuple[str, str]]:
    if credentials is None:
        return [("Users", f"of {settings.uaa_url}")]
    lines = [("User", f"{credentials.username}, password in {shown(credentials.file)}")]
    with contextlib.suppress(FileExistsError):
        (settings.run_dir / "password-shown").touch(mode=0o600, exist_ok=False)
        lines.append(("Password", f"{credentials.password}   (shown this once)"))
    return lines


def _certificates(settings: Settings) -> list[tuple[str, str]]:
    if not settings.platform.system_domain:
        return []
    # Reading certificates takes megabytes that a supervisor on a laptop need not have.
    from cupola.cli import certificates

    hint = certificates.trust_hint(settings)
    lines = [("TLS", certificates.summary(settings))]
    lines += [("Trust", f"{hint}   (for cf and other clients)")] if hint else []
    return [*lines, *(("Warning", text) for text in certificates.warnings(settings))]


def _isolation(settings: Settings) -> str:
    try:
        mode = (settings.run_dir / "cell.ready").read_text().strip()
    except OSError:
        return ""
    weak = "" if mode == "root" else f"; `{place.command('doctor', settings.data_dir)}` says what is missing"
    return mode + weak


def login_command(settings: Settings, credentials: Credentials | None) -> str:
    """The `cf login` line that logs the first user in without showing the password; any user of another server."""
    who = "--sso"
    if credentials is not None:
        password = place.command("login-info --password", settings.data_dir)
        who = f'-u {credentials.username} -p "$({password})"'
    defaults = settings.defaults
    return f"cf login -a {settings.api_url} {who} -o {defaults.organization} -s {defaults.space}"


def push_command(settings: Settings, directories: list[Path]) -> list[str]:
    """The command that pushes app directories, each unless its app is there already."""
    return [
        sys.executable, "-m", "cupola.cli", "push", "--if-missing", "--data-dir", str(settings.data_dir),
        *(str(directory) for directory in directories),
    ]  # fmt: skip


def _push_all(settings: Settings, directories: tuple[Path, ...]) -> int:
    if not directories:
        return 0
    return subprocess.run(push_command(settings, list(directories)), check=False).returncode
