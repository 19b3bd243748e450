"""What `cupola up` and `cupola down` show while they work: a live list of processes, or plain lines without a terminal."""

import time
from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cupola.processes.supervisor import Event, State

__all__ = ["View"]

_FRAMES_PER_SECOND = 10
_WORDS: dict[State, tuple[str, str]] = {
    "adopted": ("runs already, not ready yet", "yellow"),
    "starting": ("starting", "yellow"),
    "ready": ("ready", "green"),
    "waiting": ("failed", "red"),
    "replacing": ("restarting with new settings or code", "yellow"),
    "stopping": ("stopping", "yellow"),
    "stopped": ("stopped", "dim"),
    "killed": ("killed", "red"),
    "failed": ("cannot start", "red"),
}
_SPINS = frozenset({"adopted", "starting", "replacing", "stopping"})
_HINT_AFTER = 15.0
"""Seconds after which a process that is still starting gets a hint where to look."""


@dataclass
class _Line:
    state: State
    text: str = ""
    since: float = field(default_factory=time.monotonic)
    took: float | None = None


class View:
    """One per command. `event` takes what happens; `tick` keeps the shown time moving."""

    def __init__(self, console: Console, names: list[str], title: str) -> None:
        self.console = console
        self.started = time.monotonic()
        self._title = title
        self._lines: dict[str, _Line] = {}
        self._names = names
        self._live: Live | None = None
        self._shown = 0.0
        self._spinner = Spinner("dots")
        if console.is_terminal:
            self._live = Live(self._render(), console=console, auto_refresh=False)
            self._live.start()
        else:
            console.print(title)

    @property
    def seconds(self) -> float:
        """Seconds since the view began."""
        return time.monotonic() - self.started

    def event(self, event: Event) -> None:
        """Show what happened to a process."""
        if not event.process:
            return
        before = self._lines.get(event.process)
        line = _Line(event.state, event.text)
        if before is not None and event.state not in _SPINS:
            line.took = line.since - before.since
        self._lines[event.process] = line
        if self._live is None:
            self._print(event, line)
        else:
            self.tick(now=True)

    def tick(self, now: bool = False) -> None:
        """Refresh the live list, ten times a second at most."""
        moment = time.monotonic()
        if self._live is not None and (now or moment - self._shown > 1 / _FRAMES_PER_SECOND):
            self._shown = moment
            self._live.update(self._render(), refresh=True)

    def end(self) -> None:
        """From now on events are single lines with their time of day."""
        if self._live is not None:
            self._live.update(self._render(), refresh=True)
            self._live.stop()
            self._live = None

    def resume(self, title: str) -> None:
        """Begin a new live list, of processes that end."""
        self._title, self.started = title, time.monotonic()
        self._lines.clear()
        if self.console.is_terminal:
            self._live = Live(self._render(), console=self.console, auto_refresh=False)
            self._live.start()
        else:
            self.console.print(title)

    def _print(self, event: Event, line: _Line) -> None:
        words, style = _WORDS[line.state]
        took = f" ({line.took:.1f} s)" if line.took is not None else ""
        text = f": {line.text}" if line.text else ""
        stamp = datetime.now().strftime("%H:%M:%S")  # noqa: DTZ005  # the user's own time of day is meant
        self.console.print(
            Text.assemble((stamp, "dim"), f" {event.process} ", (words, style), took, text), soft_wrap=True
        )

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        slow = False
        for name in self._names:
            line = self._lines.get(name)
            if line is None:
                continue
            words, style = _WORDS[line.state]
            took = time.monotonic() - line.since if line.state in _SPINS else line.took
            slow = slow or (line.state in ("starting", "adopted") and (took or 0) > _HINT_AFTER)
            mark: RenderableType = self._spinner if line.state in _SPINS else Text(_mark(line.state), style)
            text = Text(words, style) + Text(f": {line.text}" if line.text else "", "default")
            table.add_row("", mark, name, text, Text(f"{took:.1f} s" if took is not None else "", "dim"))
        parts: list[RenderableType] = [Text(self._title, "bold"), table]
        if slow:
            parts.append(Text("  This takes long. In another terminal, `cupola logs` shows what they do.", "dim"))
        return Group(*parts)


def _mark(state: State) -> str:
    return {"ready": "\u2714", "stopped": "\u2022"}.get(state, "\u2718")
