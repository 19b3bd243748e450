"""The command line on one screen: every command with its options; the work is in the module of its name."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cupola import __version__

__all__ = ["cupola"]

_F = TypeVar("_F", bound=Callable[..., Any])
_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _data_dir(function: _F) -> _F:
    return click.option(
        "--data-dir",
        type=_DIRECTORY,
        help="The platform's directory. [CUPOLA_DATA_DIR, else ~/.local/share/cupola]",
    )(function)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="cupola")
@_data_dir
@click.pass_context
def cupola(context: click.Context, data_dir: Path | None) -> None:
    """Cloud Foundry in one command: `cupola up`, then `cf login` and `cf push`, or `cupola push`."""
    context.obj = data_dir


@cupola.command()
@_data_dir
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the one origin. [9080]")
@click.option("--listen", metavar="ADDRESS", help="Address to listen on. [127.0.0.1; with --system-domain every one]")
@click.option("--system-domain", metavar="DOMAIN", help="Serve api.DOMAIN and so on by https, as a server does.")
@click.option("--apps-domain", metavar="DOMAIN", help="Domain of apps. [apps.localhost, or apps.SYSTEM-DOMAIN]")
@click.option("--https-port", type=click.IntRange(1, 65535), help="Port of https with --system-domain. [443]")
@click.option("--http-port", type=click.IntRange(0, 65535), help="Port of http with --system-domain; 0: none. [80]")
@click.option(
    "--isolation",
    type=click.Choice(["auto", "root", "rootless", "process", "none"]),
    help="How apps are isolated. [auto]",
)
@click.option("--config", type=_FILE, envvar="CUPOLA_CONFIG", help="TOML file with settings.")
@click.option(
    "--set", "assignments", metavar="SECTION.KEY=VALUE", multiple=True, help="Any other setting; may be repeated."
)
@click.option("--detach", is_flag=True, help="Return when the platform is ready, and leave it running.")
@click.option(
    "--push",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    help="App to push once the platform is ready, unless it is there already.",
)
def up(
    data_dir: Path | None,
    port: int | None,
    listen: str | None,
    system_domain: str | None,
    apps_domain: str | None,
    https_port: int | None,
    http_port: int | None,
    isolation: str | None,
    config: Path | None,
    assignments: tuple[str, ...],
    detach: bool,
    push: tuple[Path, ...],
) -> None:
    """Start the platform, or take over one that runs. Ctrl-C stops it with its apps."""
    from cupola.cli.up import Wish, up

    flags: dict[str, Any] = {
        "data_dir": str(data_dir or click.get_current_context().obj or "") or None,
        "platform.port": port,
        "platform.listen": listen,
        "platform.system_domain": system_domain,
        "platform.apps_domain": apps_domain,
        "platform.https_port": https_port,
        "platform.http_port": http_port,
        "runtime.isolation": isolation,
        **_pairs(assignments, "--set"),
    }
    sys.exit(up(Wish(config, flags, detach, push)))


@cupola.command()
@_data_dir
def down(data_dir: Path | None) -> None:
    """Stop the apps and the platform."""
    from cupola.cli.down import down

    sys.exit(down(_place(data_dir)))


@cupola.command()
@_data_dir
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show what runs. Exit status 0 when the platform is up, 3 when it is not."""
    from cupola.cli.status import status

    sys.exit(status(_place(data_dir), as_json))


@cupola.command()
@_data_dir
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--config", type=_FILE, help="As for `up`: examine what would be started.")
@click.option("--system-domain", metavar="DOMAIN", help="As for `up`.")
@click.option("--set", "assignments", metavar="SECTION.KEY=VALUE", multiple=True, help="As for `up`.")
def doctor(
    data_dir: Path | None,
    as_json: bool,
    config: Path | None,
    system_domain: str | None,
    assignments: tuple[str, ...],
) -> None:
    """Say what this machine offers, what it lacks, what follows and what helps."""
    from cupola.cli.doctor import doctor

    given = {"platform.system_domain": system_domain, **_pairs(assignments, "--set")}
    flags = {name: value for name, value in given.items() if value is not None}
    sys.exit(doctor(_place(data_dir), as_json, (config, flags) if config or flags else None))


@cupola.command()
@click.argument("processes", metavar="[PROCESS]...", nargs=-1)
@_data_dir
@click.option("--lines", "-n", type=click.IntRange(0), default=50, show_default=True, help="Lines of each process.")
@click.option("--follow", "-f", is_flag=True, help="Go on as lines are written.")
def logs(processes: tuple[str, ...], data_dir: Path | None, lines: int, follow: bool) -> None:
    """Show the platform's own logs (apps: `cf logs`)."""
    from cupola.cli.logs import logs

    sys.exit(logs(_place(data_dir), processes, lines, follow))


@cupola.command("login-info")
@_data_dir
@click.option("--password", is_flag=True, help="Print the password and nothing else.")
def login_info(data_dir: Path | None, password: bool) -> None:
    """Say how to log in."""
    from cupola.cli.login_info import login_info

    sys.exit(login_info(_place(data_dir), password))


@cupola.command()
@click.argument(
    "directories", metavar="DIRECTORY...", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@_data_dir
@click.option("--name", help="App to push: its name, or one of the manifest's. [manifest, else the directory]")
@click.option("--manifest", "-f", type=_FILE, help="Manifest. [DIRECTORY/manifest.yml]")
@click.option("--memory", "-m", metavar="SIZE", help="Memory of an instance, as 256M or 1G.")
@click.option("--disk", "-k", metavar="SIZE", help="Disk of an instance.")
@click.option("--instances", "-i", type=click.IntRange(0), help="Number of instances.")
@click.option("--buildpack", "-b", "buildpacks", multiple=True, help="Buildpack; may be repeated.")
@click.option("--command", "-c", help="Start command.")
@click.option(
    "--health-check-type",
    "-u",
    "health_check",
    type=click.Choice(["port", "http", "process"]),
    help="How an instance's health is judged.",
)
@click.option("--no-route", is_flag=True, help="Give the app no route.")
@click.option("--random-route", is_flag=True, help="Give the app a route with a random name.")
@click.option("--no-start", is_flag=True, help="Stage the app and leave it as it is.")
@click.option("--strategy", type=click.Choice(["rolling"]), help="Replace running instances one by one.")
@click.option(
    "--var", "variables", metavar="NAME=VALUE", multiple=True, help="Variable of the manifest; may be repeated."
)
@click.option("--vars-file", type=_FILE, multiple=True, help="YAML file with variables.")
@click.option("--if-missing", is_flag=True, help="Do nothing when the app is there and started.")
@click.option("--api", "url", metavar="URL", help="Another platform than the one in --data-dir.")
@click.option("--user", envvar="CUPOLA_USER", help="User; the password is taken from CUPOLA_PASSWORD. [the first user]")
@click.option("--password", envvar="CUPOLA_PASSWORD", hidden=True)
@click.option("--org", default="", help="Organization. [cupola]")
@click.option("--space", default="", help="Space. [dev]")
def push(
    directories: tuple[Path, ...],
    data_dir: Path | None,
    name: str | None,
    manifest: Path | None,
    memory: str | None,
    disk: str | None,
    instances: int | None,
    buildpacks: tuple[str, ...],
    command: str | None,
    health_check: str | None,
    no_route: bool,
    random_route: bool,
    no_start: bool,
    strategy: str | None,
    variables: tuple[str, ...],
    vars_file: tuple[Path, ...],
    if_missing: bool,
    url: str | None,
    user: str | None,
    password: str | None,
    org: str,
    space: str,
) -> None:
    """Push the app in DIRECTORY (default: here) with its manifest, like `cf push`."""
    from cupola.cli.manifest import Flags, ManifestProblem, read_variables
    from cupola.cli.push import Order, Target, push

    if len(directories) > 1 and (name or manifest):
        raise click.UsageError("--name and --manifest are for one directory")
    try:
        of_files = read_variables(vars_file)
    except ManifestProblem as error:
        raise click.ClickException(str(error)) from error
    flags = Flags(
        name=name,
        memory=memory,
        disk=disk,
        instances=instances,
        command=command,
        buildpacks=buildpacks,
        health_check=health_check,
        no_route=no_route,
        random_route=random_route,
        variables={**of_files, **_pairs(variables, "--var")},
    )
    target = Target(_place(data_dir), url or "", user or "", password or "", org, space)
    order = Order(directories or (Path(),), manifest, flags, strategy or "", not no_start, if_missing)
    sys.exit(push(target, order))


@cupola.group()
def user() -> None:
    """Make users and let them in again, with access to this machine and without a login."""


@user.command("create")
@click.argument("username")
@_data_dir
@click.option("--email", help="[the user name]")
@click.option(
    "--group", "groups", multiple=True, help="Group, such as cloud_controller.admin_read_only; may be repeated."
)
@click.option("--admin", is_flag=True, help="With the rights of the first user.")
@click.option("--password", "asks", is_flag=True, help="Read the password from the terminal or standard input.")
def user_create(
    username: str, data_dir: Path | None, email: str | None, groups: tuple[str, ...], admin: bool, asks: bool
) -> None:
    """Make a user; the password is generated and printed."""
    from cupola.cli.users import create

    sys.exit(create(_place(data_dir), username, email, groups, admin, asks))


@user.command("reset-password")
@click.argument("username")
@_data_dir
@click.option("--password", "asks", is_flag=True, help="Read the password from the terminal or standard input.")
def user_reset_password(username: str, data_dir: Path | None, asks: bool) -> None:
    """Give a user a new password, unlock the account and end its sessions."""
    from cupola.cli.users import reset_password

    sys.exit(reset_password(_place(data_dir), username, asks))


@user.command("import")
@click.argument("file", type=_FILE)
@_data_dir
def user_import(file: Path, data_dir: Path | None) -> None:
    """Make the users of a UAA, with their bcrypt password hashes, from a JSON file."""
    from cupola.cli.users import import_file

    sys.exit(import_file(_place(data_dir), file))


@cupola.group()
def services() -> None:
    """PostgreSQL databases for apps: offer them, or no more."""


def _operator(function: _F) -> _F:
    user = click.option(
        "--user",
        default="",
        envvar="CUPOLA_USER",
        help="Administrator; the password is taken from CUPOLA_PASSWORD. [the first user]",
    )
    password = click.option("--password", default="", envvar="CUPOLA_PASSWORD", hidden=True)
    return user(password(function))


@services.command("enable")
@_data_dir
@click.option(
    "--server",
    metavar="URL",
    help="PostgreSQL server with its administrator, as postgresql://admin:password@host; - reads it from standard input. "
    "[a cluster of its own here]",
)
@_operator
def services_enable(data_dir: Path | None, server: str | None, user: str, password: str) -> None:
    """Offer PostgreSQL databases in the marketplace, for everybody."""
    from cupola.cli.services import Operator, enable

    sys.exit(enable(_place(data_dir), server, Operator(user, password)))


@services.command("disable")
@_data_dir
@_operator
def services_disable(data_dir: Path | None, user: str, password: str) -> None:
    """Offer no databases any more; refused while there are some."""
    from cupola.cli.services import Operator, disable

    sys.exit(disable(_place(data_dir), Operator(user, password)))


@services.command("status")
@_data_dir
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_operator
def services_status(data_dir: Path | None, as_json: bool, user: str, password: str) -> None:
    """Say whether databases are offered, where, and how many there are."""
    from cupola.cli.services import Operator, status

    sys.exit(status(_place(data_dir), as_json, Operator(user, password)))


@cupola.group()
def keys() -> None:
    """The keys that seal secrets in the database, and those that sign tokens."""


@keys.command("show")
@_data_dir
def keys_show(data_dir: Path | None) -> None:
    """Say which keys there are."""
    from cupola.cli.keys import show

    sys.exit(show(_place(data_dir)))


@keys.command("rotate")
@_data_dir
@click.option("--secrets", "only", flag_value="secrets", help="Only the key that seals secrets.")
@click.option("--tokens", "only", flag_value="tokens", help="Only the key that signs tokens.")
def keys_rotate(data_dir: Path | None, only: str | None) -> None:
    """Replace the keys, and seal the database's secrets anew. The platform may run."""
    from cupola.cli.keys import rotate

    sys.exit(rotate(_place(data_dir), secrets=only != "tokens", tokens=only != "secrets"))


def _place(given: Path | None) -> Path:
    from cupola.cli.place import data_directory

    return data_directory(given or click.get_current_context().obj)


def _pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} takes NAME=VALUE, not {text!r}")
        found[name] = value
    return found
