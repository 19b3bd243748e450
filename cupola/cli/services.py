"""`cupola services`: offer PostgreSQL databases to everybody, or no more.

A switch, and then nothing but the public API: the broker is registered like any other. Each step is looked at before it
is done, so a command that was killed is completed by running it again.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from cupola.cli import place
from cupola.cli.client import Api, ApiProblem, connected, local_connector
from cupola.cli.place import shown
from cupola.config import Settings
from cupola.databases import choice, cluster, servers
from cupola.databases.choice import Choice, Unreadable
from cupola.databases.cluster import NoPostgres, Place
from cupola.databases.plans import SERVICE_ID
from cupola.databases.servers import BadServer
from cupola.processes import output, running
from cupola.processes.program import Program, extras

__all__ = ["BROKER", "Operator", "Status", "disable", "enable", "status"]

BROKER = "cupola-databases"
"""Name of the broker, as `cf service-brokers` shows it."""
_USER = "cupola"
_READY_SECONDS = 120.0
"""Seconds for a cluster to be made on a slow disk."""
_GONE_SECONDS = 90.0
_SHOWN = 5
"""Instances that are named in a refusal."""


@dataclass(frozen=True)
class Operator:
    """Who acts; empty: the first user."""

    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Status:
    """Whether databases are offered, and how. `server` without secrets; `instances` -1 where the platform is down."""

    enabled: bool
    server: str = ""
    own: bool = False
    broker: str = ""
    registered: bool = False
    processes: dict[str, str] = field(default_factory=dict)
    instances: int = -1
    bindings: int = -1


def enable(data_dir: Path, server: str | None, operator: Operator) -> int:
    """Offer databases, on a cluster of our own or on a named server. Repeatable."""
    settings = place.required_settings(data_dir)
    console = Console(highlight=False)
    if server == "-":
        # Other users of the machine read command lines, but not this.
        server = sys.stdin.readline().strip()
    before = _kept(settings)
    chosen = _chosen(settings, before, server)
    _require_supervisor(settings)
    if chosen != before:
        choice.write(settings.data_dir, chosen, settings.account)
    with console.status("Starting the database server" if chosen.server else "Making a database cluster"):
        _start(settings)
    with console.status("Registering the service broker"):
        asyncio.run(_register(settings, operator, chosen))
    where = (
        servers.named(chosen.server).shown if chosen.server else f"a cluster of its own, {cluster.HOST}:{chosen.port}"
    )
    console.print(f"PostgreSQL databases are offered, on {where}.", markup=False)
    console.print("  cf create-service postgresql small NAME", markup=False)
    console.print("  cf bind-service APP NAME, then cf restage APP", markup=False)
    return 0


def disable(data_dir: Path, operator: Operator) -> int:
    """Offer no databases any more, once there are none. Repeatable."""
    settings = place.required_settings(data_dir)
    console = Console(highlight=False)
    chosen = _kept(settings)
    if chosen is None or not (chosen.enabled or _running(settings)):
        console.print("Databases are not offered.")
        return 0
    _require_supervisor(settings)
    with console.status("Removing the service broker"):
        asyncio.run(_unregister(settings, operator))
    if chosen.enabled:
        choice.write(settings.data_dir, msgspec.structs.replace(chosen, enabled=False), settings.account)
    with console.status("Stopping the database server"):
        _stop(settings)
    console.print("Databases are not offered any more.")
    kept = Place.of(settings.data_dir).data
    if kept.exists():
        console.print(f"The empty cluster stays in {shown(kept)} for the next time.", markup=False)
    return 0


def status(data_dir: Path, as_json: bool, operator: Operator) -> int:
    """Say whether databases are offered, and how."""
    settings = place.required_settings(data_dir)
    found = _look(settings, operator)
    if as_json:
        print(json.dumps(asdict(found), indent=2))  # noqa: T201  # the answer itself
        return 0
    if not found.enabled:
        click.echo(f"Databases are not offered: `{place.command('services enable', data_dir)}`")
        return 0
    click.echo(f"Databases   offered, on {'a cluster of its own, ' if found.own else ''}{found.server}")
    for name, state in found.processes.items():
        click.echo(f"{name:<11} {state}")
    if found.instances < 0:
        click.echo("instances   not known while the platform does not answer")
    elif not found.registered:
        click.echo(f"broker      not registered: repeat `{place.command('services enable', data_dir)}`")
    else:
        click.echo(f"broker      {found.broker}")
        click.echo(f"instances   {found.instances}, with {found.bindings} bindings and keys")
    return 0


# What is decided


def _kept(settings: Settings) -> Choice | None:
    try:
        return choice.read(settings.data_dir)
    except Unreadable as error:
        raise click.ClickException(str(error)) from error


def _chosen(settings: Settings, before: Choice | None, server: str | None) -> Choice:
    """What is wished for, once it is known to be possible."""
    enabled = before is not None and before.enabled
    url = before.server if server is None and enabled and before is not None else server or ""
    try:
        if url:
            found = servers.named(url)
            _require_same_place(before, found.shown)
            servers.examine(found, settings.database.url)
        else:
            _require_same_place(before, "")
            cluster.account()
            cluster.find(cluster.version(Place.of(settings.data_dir)))
        return _with_ports(settings, choice.made(before, url))
    except (BadServer, NoPostgres) as error:
        raise click.ClickException(str(error)) from error


def _with_ports(settings: Settings, chosen: Choice) -> Choice:
    """The broker moves where its port was taken meanwhile; the server cannot, because apps know where it is."""
    if not chosen.server and not choice.is_free(chosen.port) and running.read(settings.run_dir, "postgres") is None:
        raise click.ClickException(
            f"port {chosen.port} of {cluster.HOST}, where apps know the databases, is taken: stop the program that has it "
            "and repeat this command"
        )
    if not choice.is_free(chosen.broker_port) and running.read(settings.run_dir, "databases") is None:
        return msgspec.structs.replace(chosen, broker_port=choice.free_port(other_than=chosen.port))
    return chosen


def _require_same_place(before: Choice | None, wished: str) -> None:
    """Databases do not move by themselves."""
    if before is None or not before.enabled:
        return
    now = servers.named(before.server).shown if before.server else ""
    if now != wished:
        raise click.ClickException(
            f"databases are offered on {now or 'a cluster of its own'} already: delete the service instances and "
            "`cupola services disable` before you name another server"
        )


# Processes


def _require_supervisor(settings: Settings) -> None:
    if running.read(settings.run_dir, "supervisor") is None:
        raise click.ClickException(
            f"the platform is not supervised: start it with `{place.command('up', settings.data_dir)}` and repeat this"
        )


def _ask_to_look(settings: Settings) -> None:
    if not running.ask_to_look(settings.run_dir):
        _require_supervisor(settings)
        raise click.ClickException(
            f"the supervisor is of an earlier version: `{place.command('up --detach', settings.data_dir)}` replaces it"
        )


def _running(settings: Settings) -> list[str]:
    """Names of the processes that run."""
    return [one.name for one in extras(settings) if running.read(settings.run_dir, one.name) is not None]


def _start(settings: Settings) -> None:
    wanted = [one for one in extras(settings) if one.wanted]
    offsets = {one.name: _size(settings, one.name) for one in wanted}
    _ask_to_look(settings)
    deadline = time.monotonic() + _READY_SECONDS
    while missing := [one for one in wanted if not _is_ready(settings, one, newly=True)]:
        for one in missing:
            for line in output.tail(output.place(settings.data_dir, one.name), offsets[one.name]):
                if line.startswith(f"the {one.name} cannot start: "):
                    raise click.ClickException(f"{line}. What was decided stays: put it right and repeat this command")
        if time.monotonic() > deadline:
            names = ", ".join(one.name for one in missing)
            said = output.tail(output.place(settings.data_dir, missing[0].name), offsets[missing[0].name])
            raise click.ClickException(
                f"{names} not ready within {_READY_SECONDS:.0f} s ({said[-1].strip() if said else 'silent'}): see "
                f"`{place.command(f'logs {missing[0].name}', settings.data_dir)}`, and repeat this command"
            )
        time.sleep(0.05)


def _is_ready(settings: Settings, program: Program, *, newly: bool = False) -> bool:
    """`newly`: it was started with what was decided last."""
    found = running.read(settings.run_dir, program.name)
    if found is None or (newly and found.fingerprint.rpartition("-")[2] != program.version):
        return False
    return (settings.run_dir / f"{program.name}.ready").exists()


def _size(settings: Settings, name: str) -> int:
    file = output.place(settings.data_dir, name)
    return file.stat().st_size if file.exists() else 0


def _stop(settings: Settings) -> None:
    _ask_to_look(settings)
    deadline = time.monotonic() + _GONE_SECONDS
    while left := _running(settings):
        if time.monotonic() > deadline:
            raise click.ClickException(
                f"{', '.join(left)} did not end within {_GONE_SECONDS:.0f} s: repeat this command"
            )
        time.sleep(0.05)


# The API


def _login(settings: Settings, operator: Operator) -> tuple[str, str]:
    kept = None if settings.identity.mode == "external" else place.credentials(settings.data_dir)
    user = operator.user or (kept.username if kept else "")
    password = operator.password or (kept.password if kept and user == kept.username else "")
    if not user or not password:
        raise click.ClickException("put an administrator's name into CUPOLA_USER and the password into CUPOLA_PASSWORD")
    return user, password


async def _find(api: Api) -> dict[str, Any] | None:
    found = (await api.get("/v3/service_brokers", names=BROKER))["resources"]
    return dict(found[0]) if found else None


async def _register(settings: Settings, operator: Operator, chosen: Choice) -> None:
    body = {
        "name": BROKER,
        "url": f"http://{cluster.HOST}:{chosen.broker_port}",
        "authentication": {"type": "basic", "credentials": {"username": _USER, "password": chosen.broker_password}},
    }
    try:
        async with connected(settings.api_url, *_login(settings, operator), connector=local_connector(settings)) as api:
            broker = await _find(api)
            if broker is None:
                await api.post("/v3/service_brokers", body)
            else:
                await _require_ours(api, broker)
                await api.patch(f"/v3/service_brokers/{broker['guid']}", body)
            broker = await api.one("/v3/service_brokers", f"the service broker {BROKER}", names=BROKER)
            plans = await api.get("/v3/service_plans", service_broker_guids=broker["guid"], per_page=100)
            for plan in plans["resources"]:
                # One that somebody has given to some is not given to all.
                if plan["visibility_type"] == "admin":
                    await api.patch(f"/v3/service_plans/{plan['guid']}/visibility", {"type": "public"})
    except (ApiProblem, OSError) as error:
        raise click.ClickException(f"the broker cannot be registered: {error}. Repeat this command") from error


async def _require_ours(api: Api, broker: dict[str, Any]) -> None:
    offerings = (await api.get("/v3/service_offerings", service_broker_guids=broker["guid"]))["resources"]
    is_here = broker["url"].startswith(f"http://{cluster.HOST}:")
    if not is_here or any(one["broker_catalog"]["id"] != SERVICE_ID for one in offerings):
        raise ApiProblem(
            f"there is another service broker with the name {BROKER}, at {broker['url']}: rename it "
            f"(`cf rename-service-broker {BROKER} NAME`)"
        )


async def _unregister(settings: Settings, operator: Operator) -> None:
    try:
        async with connected(settings.api_url, *_login(settings, operator), connector=local_connector(settings)) as api:
            broker = await _find(api)
            if broker is None:
                return
            names = await _instances(api, broker)
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                raise click.ClickException(
                    f"{len(names)} databases are in use ({', '.join(names[:_SHOWN])}{more}): delete them first, "
                    "as with `cf delete-service NAME`"
                )
            await api.delete(f"/v3/service_brokers/{broker['guid']}")
    except (ApiProblem, OSError) as error:
        raise click.ClickException(f"the broker cannot be removed: {error}") from error


async def _instances(api: Api, broker: dict[str, Any]) -> list[str]:
    plans = (await api.get("/v3/service_plans", service_broker_guids=broker["guid"], per_page=100))["resources"]
    if not plans:
        return []
    guids = ",".join(plan["guid"] for plan in plans)
    return [str(one["name"]) for one in await _all(api, "/v3/service_instances", service_plan_guids=guids)]


async def _all(api: Api, path: str, **query: str | int) -> list[dict[str, Any]]:
    found = []
    page = await api.get(path, per_page=5000, **query)
    while True:
        found += page["resources"]
        following = page["pagination"]["next"]
        if not following:
            return found
        page = await api.get(following["href"])


def _look(settings: Settings, operator: Operator) -> Status:
    chosen = _kept(settings)
    if chosen is None or not chosen.enabled:
        return Status(enabled=False)
    processes = {
        one.name: "ready" if _is_ready(settings, one) else "not ready" for one in extras(settings) if one.wanted
    }
    server = servers.named(chosen.server).shown if chosen.server else f"{cluster.HOST}:{chosen.port}"
    known = Status(True, server, not chosen.server, BROKER, processes=processes)
    try:
        registered, instances, bindings = asyncio.run(_count(settings, operator))
    except (ApiProblem, OSError):
        return known
    return Status(True, server, not chosen.server, BROKER, registered, processes, instances, bindings)


async def _count(settings: Settings, operator: Operator) -> tuple[bool, int, int]:
    async with connected(settings.api_url, *_login(settings, operator), connector=local_connector(settings)) as api:
        broker = await _find(api)
        if broker is None:
            return False, 0, 0
        plans = (await api.get("/v3/service_plans", service_broker_guids=broker["guid"], per_page=100))["resources"]
        guids = ",".join(plan["guid"] for plan in plans)
        counts = []
        for path in ("/v3/service_instances", "/v3/service_credential_bindings"):
            page = await api.get(path, service_plan_guids=guids, per_page=1) if guids else None
            counts.append(page["pagination"]["total_results"] if page else 0)
        return True, counts[0], counts[1]
