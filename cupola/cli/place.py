"""Where a platform lives and what is known of it from its data directory alone."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from cupola import config
from cupola.config import ConfigError, Settings
from cupola.secrets import generated

__all__ = ["Credentials", "command", "credentials", "data_directory", "ensure_credentials", "kept_settings", "shown"]

DEFAULT = "~/.local/share/cupola"


@dataclass(frozen=True)
class Credentials:
    """The first user's; in `file`, which only its owner may read."""

    username: str
    password: str
    file: Path


def data_directory(given: Path | None) -> Path:
    """The directory of the platform that is meant: the option, else CUPOLA_DATA_DIR, else the default."""
    chosen = given or Path(os.environ.get("CUPOLA_DATA_DIR") or DEFAULT)
    return chosen.expanduser().absolute()


def kept_settings(data_dir: Path) -> Settings | None:
    """The settings that the platform runs with, or ran with last; None when it never ran."""
    file = data_dir / "run" / "settings.json"
    try:
        return config.read_resolved(file) if file.exists() else None
    except PermissionError:
        raise click.ClickException(f"{data_dir} belongs to another user: run this as that user") from None
    except ConfigError as error:
        raise click.ClickException(f"{error}; `cupola up` writes it anew") from error


def required_settings(data_dir: Path) -> Settings:
    """As `kept_settings`, for commands that need a platform."""
    found = kept_settings(data_dir)
    if found is None:
        raise click.ClickException(
            f"there is no platform in {shown(data_dir)}: start one with `{command('up', data_dir)}`, "
            "or name its directory with --data-dir"
        )
    return found


def ensure_credentials(settings: Settings) -> Credentials | None:
    """The first user's credentials, made at the first start; None where users are kept by another identity server."""
    if settings.identity.mode == "external":
        return None
    file = settings.data_dir / "credentials.json"
    made = {"admin": {"username": settings.platform.admin_user, "password": generated.password(24)}}
    return _parse(file, generated.create_private(file, json.dumps(made).encode()))


def credentials(data_dir: Path) -> Credentials | None:
    """The first user's credentials; None before the first start."""
    file = data_dir / "credentials.json"
    try:
        return _parse(file, file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from error


def _parse(file: Path, content: bytes) -> Credentials:
    try:
        admin = json.loads(content)["admin"]
        return Credentials(str(admin["username"]), str(admin["password"]), file)
    except (ValueError, KeyError, TypeError):
        raise click.ClickException(
            f"{file} is not what the first start wrote: restore it, or write "
            '{"admin": {"username": "admin", "password": "..."}} with the password that you know'
        ) from None


def command(words: str, data_dir: Path) -> str:
    """A command line that the user can copy, for this platform and from this directory."""
    place = "" if data_dir == data_directory(None) else f" --data-dir {shown(data_dir)}"
    return f"{_program()} {words}{place}"


def _program() -> str:
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{shown(Path(sys.executable))} -m cupola.cli"
    found = shutil.which("cupola")
    if found and Path(found).resolve() == started.resolve():
        return "cupola"
    return shown(started.absolute())


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    here, home = Path.cwd(), Path.home()
    if path.is_relative_to(here) and here != Path("/"):
        return str(path.relative_to(here))
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
