"""`cupola keys`: the keys that seal secrets in the database, and those that sign tokens; shown and replaced.

Works whether the platform runs or not: what runs takes new keys at once. What is interrupted the controller completes.
"""

import time
from pathlib import Path

import click
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from cupola.bell import Bells
from cupola.cli.place import required_settings, shown
from cupola.config import Settings
from cupola.secrets.vault import Vault, VaultProblem
from cupola.store.database import Database, DatabaseProblem
from cupola.store.reseal import KEEP_SECONDS, Progress, leftovers, reseal
from cupola.uaa.service import Identity

__all__ = ["rotate", "show"]


def show(data_dir: Path) -> int:
    """Print which keys there are; never the keys."""
    settings = required_settings(data_dir)
    vault, database = _opened(settings)
    identity = Identity(settings, database)
    try:
        keys = vault.keys
        for key, since in keys.items():
            began = time.strftime("%Y-%m-%d %H:%M", time.localtime(since)) if since else "the first start"
            state = "seals" if key == vault.active else "opens what it sealed"
            click.echo(f"secrets  {key:<12}  {state}, since {began}")
        with database.read() as tx:
            left = leftovers(tx, vault) if len(keys) > 1 else 0
        if left:
            click.echo(f"secrets  {left} rows are not sealed by the newest key yet: the controller does that")
        for place, found in enumerate(identity.keys.jwks()["keys"]):
            click.echo(f"tokens   {found['kid']:<12}  {'verifies' if place else 'signs'}")
    finally:
        identity.close()
        database.close()
    return 0


def rotate(data_dir: Path, *, secrets: bool, tokens: bool) -> int:
    """Replace keys, and seal the database's secrets anew."""
    settings = required_settings(data_dir)
    vault, database = _opened(settings)
    console = Console(highlight=False)
    try:
        if tokens:
            _rotate_tokens(settings, database)
        if secrets:
            key = vault.rotate()
            click.echo(f"secrets are sealed by the key {key} from now on")
            _seal_anew(console, database, vault)
    except OSError as error:
        raise click.ClickException(f"{error.strerror}: {error.filename}") from error
    except DBAPIError as error:
        raise click.ClickException(f"the database cannot be used: {error.orig}") from error
    finally:
        database.close()
    return 0


def _rotate_tokens(settings: Settings, database: Database) -> None:
    identity = Identity(settings, database)
    try:
        key = identity.rotate_keys()
    finally:
        identity.close()
    click.echo(f"tokens are signed by the key {key} from now on; those of older keys are good until they end")


def _seal_anew(console: Console, database: Database, vault: Vault) -> None:
    with console.status("Sealing secrets anew") as status:

        def told(progress: Progress) -> None:
            status.update(f"Sealing secrets anew: {progress.resealed} rows")

        done = reseal(database, vault, told)
    click.echo(f"{done.resealed} rows were sealed anew")
    if done.unopened:
        click.echo(f"{done.unopened} rows look sealed and do not open: the log above names them", err=True)
    click.echo(f"the old key is kept for {KEEP_SECONDS / 3600:.0f} hours, then forgotten; backups of today need it")


def _opened(settings: Settings) -> tuple[Vault, Database]:
    data = settings.data_dir
    try:
        vault = Vault.load_or_create(data / "keys")
        database = Database(settings.database.url, data / "cupola.db", vault, Bells(), threads=2)
        database.check()
    except (DatabaseProblem, VaultProblem) as error:
        raise click.ClickException(f"{error} ({shown(data)})") from error
    return vault, database
