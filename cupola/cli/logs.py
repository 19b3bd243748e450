"""`cupola logs`: what the platform's own processes wrote. (Apps have their logs in log cache: `cf logs`.)"""

import sys
import time
from pathlib import Path

import click

from cupola.cli import place
from cupola.processes import output
from cupola.processes.supervisor import programs

__all__ = ["logs"]

_LOOK_SECONDS = 0.25


def logs(data_dir: Path, names: tuple[str, ...], lines: int, follow: bool) -> int:
    """Run the command; its exit status."""
    settings = place.required_settings(data_dir)
    known = ["supervisor", *(program.name for program in programs(settings))]
    for name in names:
        if name not in known:
            raise click.ClickException(f"there is no process {name}: choose from {', '.join(known)}")
    chosen = list(names) or known
    width = max(len(name) for name in chosen) if len(chosen) > 1 else 0
    files = {name: output.place(settings.data_dir, name) for name in chosen}
    offsets = {name: file.stat().st_size if file.exists() else 0 for name, file in files.items()}
    for name, file in files.items():
        for line in output.tail(file, max_bytes=max(lines, 1) * 1000)[-lines:] if lines else []:
            _print(name, line, width)
    try:
        while follow:
            for name, file in files.items():
                offsets[name] = _news(name, file, offsets[name], width)
            sys.stdout.flush()
            time.sleep(_LOOK_SECONDS)
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    return 0


def _news(name: str, file: Path, offset: int, width: int) -> int:
    """Print the complete lines after `offset`; where the next look begins."""
    try:
        with file.open("rb") as source:
            size = source.seek(0, 2)
            if size < offset:
                offset = 0  # it was put aside
            source.seek(offset)
            text = source.read(1024 * 1024)
    except OSError:
        return 0
    end = text.rfind(b"\n") + 1
    for line in text[:end].decode(errors="replace").splitlines():
        _print(name, line, width)
    return offset + end


def _print(name: str, line: str, width: int) -> None:
    print(f"{name:<{width}} | {line}" if width else line)  # noqa: T201  # the answer itself
