"""`cupola user`: users made and let in again by who has a shell on the machine, whether the platform runs or not."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from cupola.bell import Bells
from cupola.cli.place import credentials, required_settings
from cupola.secrets.generated import write_private
from cupola.secrets.vault import Vault, VaultProblem
from cupola.store.database import Database, DatabaseProblem
from cupola.uaa import operators
from cupola.uaa.operators import OperatorProblem
from cupola.uaa.service import Identity

__all__ = ["create", "import_file", "reset_password"]


@contextmanager
def _identity(data_dir: Path) -> Iterator[Identity]:
    settings = required_settings(data_dir)
    if settings.identity.mode == "external":
        raise click.ClickException(f"users are kept by {settings.uaa_url} (identity.mode = external): make them there")
    data = settings.data_dir
    try:
        vault = Vault.load_or_create(data / "keys")
        database = Database(settings.database.url, data / "cupola.db", vault, Bells(), threads=2)
        database.check()
    except (DatabaseProblem, VaultProblem) as error:
        raise click.ClickException(str(error)) from error
    identity = Identity(settings, database)
    try:
        yield identity
    except OperatorProblem as error:
        raise click.ClickException(str(error)) from error
    finally:
        identity.close()
        database.close()


def create(data_dir: Path, username: str, email: str | None, groups: tuple[str, ...], admin: bool, asks: bool) -> int:
    """Make a user and print the password that was generated."""
    given = _asked() if asks else None
    with _identity(data_dir) as identity:
        secret = operators.create_user(identity, username, password=given, email=email, groups=groups, admin=admin)
    _print(f"made the user {username}", None if asks else secret)
    return 0


def reset_password(data_dir: Path, username: str, asks: bool) -> int:
    """Give a user a new password and print it if it was generated."""
    given = _asked() if asks else None
    with _identity(data_dir) as identity:
        secret = operators.reset_password(identity, username, given)
    first = credentials(data_dir)
    if first is not None and first.username.lower() == username.lower():
        # `cupola login-info` and `cupola push` go on to work.
        content = {"admin": {"username": first.username, "password": secret}}
        write_private(first.file, json.dumps(content).encode())
    _print(f"{username} has a new password; sessions end within seconds", None if asks else secret)
    return 0


def import_file(data_dir: Path, file: Path) -> int:
    """Make the users of a file: JSON, a list of users or a SCIM answer with `resources`."""
    try:
        found: Any = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise click.ClickException(f"cannot read {file}: {error}") from error
    entries = found.get("resources") if isinstance(found, dict) else found
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise click.ClickException(f"{file} is neither a JSON list of users nor a SCIM answer with `resources`")
    with _identity(data_dir) as identity:
        done = operators.import_users(identity, entries)
    click.echo(f"imported {len(done.made)} users")
    if done.already_there:
        click.echo(f"{len(done.already_there)} were there already: {', '.join(done.already_there[:20])}")
    return 0


def _asked() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer


def _print(done: str, secret: str | None) -> None:
    click.echo(done)
    if secret is not None:
        click.echo(f"password: {secret}")
