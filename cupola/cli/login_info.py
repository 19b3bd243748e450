"""`cupola login-info`: how to log in."""

from pathlib import Path

import click

from cupola.cli import certificates, place
from cupola.cli.place import shown
from cupola.cli.up import login_command

__all__ = ["login_info"]


def login_info(data_dir: Path, password: bool) -> int:
    """Run the command; its exit status."""
    settings = place.required_settings(data_dir)
    kept = None
    if settings.identity.mode == "external":
        if password:
            raise click.ClickException(f"passwords are kept by {settings.uaa_url} (identity.mode = external)")
    elif (kept := place.credentials(data_dir)) is None:
        raise click.ClickException(
            f"{data_dir / 'credentials.json'} is gone: the first user's password is not known here"
        )
    if password and kept is not None:
        click.echo(kept.password)
        return 0
    click.echo(f"API       {settings.api_url}")
    if kept is None:
        click.echo(f"Users     of {settings.uaa_url}")
    else:
        click.echo(f"User      {kept.username}")
        click.echo(f"Password  in {shown(kept.file)}; `{place.command('login-info --password', data_dir)}` prints it")
    authority = certificates.authority_file(settings)
    if authority is not None:
        click.echo(f"Trust     export SSL_CERT_FILE={shown(authority)}   (or add --skip-ssl-validation below)")
    click.echo(f"Log in    {login_command(settings, kept)}")
    if kept is not None:
        click.echo(f"Token     {_token_command(settings.uaa_url, kept.username, data_dir, authority)}")
    return 0


def _token_command(uaa: str, user: str, data_dir: Path, authority: Path | None) -> str:
    password = place.command("login-info --password", data_dir)
    trust = f"--cacert {shown(authority)} " if authority else ""
    return (
        f"curl -s {trust}-u cf: {uaa}/oauth/token -d grant_type=password -d username={user} "
        f'--data-urlencode "password=$({password})"'
    )
