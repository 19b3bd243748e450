"""`cupola push`: an app directory onto the platform, through the public API as any client would do it.

The order is one function, `_push_one`; what each step needs is in manifest.py, bits.py and client.py.
"""

import asyncio
import base64
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.text import Text

from cupola.cli import bits, manifest, place
from cupola.cli.bits import BitsProblem, File
from cupola.cli.client import Api, ApiProblem, connected, local_connector
from cupola.cli.manifest import Application, Flags, ManifestProblem

__all__ = ["Order", "Target", "push"]

_PAUSE = 0.2
"""Seconds between looks at a build or at instances."""
_START_SECONDS = 300.0
"""Seconds for the first instance to run, as in the official client."""
_MATCH_AT_ONCE = 1000
"""Resources per question whether the platform has them."""
_LAST_LINES = 20


@dataclass(frozen=True)
class Target:
    """Whose platform: `url` empty means the one in `data_dir`, as its first user."""

    data_dir: Path
    url: str = ""
    user: str = ""
    password: str = ""
    organization: str = ""
    space: str = ""


@dataclass(frozen=True)
class Order:
    """What to push and how."""

    directories: tuple[Path, ...]
    manifest: Path | None
    flags: Flags
    strategy: str = ""
    start: bool = True
    if_missing: bool = False


def push(target: Target, order: Order) -> int:
    """Run the command; its exit status."""
    console = Console(highlight=False)
    try:
        asyncio.run(_push(console, target, order))
    except (ApiProblem, ManifestProblem, BitsProblem) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        console.print("Interrupted: what the platform has begun goes on.")
        return 130
    return 0


async def _push(console: Console, target: Target, order: Order) -> None:
    batches = [manifest.applications(directory, order.manifest, order.flags) for directory in order.directories]
    url, user, password, organization, space = _identity(target)
    here = None if target.url else local_connector(place.required_settings(target.data_dir))
    trust_proxies = here is None and urlsplit(url).hostname not in {"localhost", "127.0.0.1", "::1"}
    async with connected(url, user, password, trust_proxies=trust_proxies, connector=here) as api:
        space_guid = await _space(api, organization, space)
        console.print(f"Pushing to {organization} / {space} at {url} as {user}", style="dim")
        for batch in batches:
            missing = await _missing(api, space_guid, batch) if order.if_missing else batch
            for app in batch:
                if app not in missing:
                    console.print(f"{app.name} is there already.")
                    found = await _find(api, space_guid, app.name)
                    await _wait_until_running(console, api, found, await api.last_line(found["guid"]))
                    await _summary(console, api, found)
            if missing:
                await _apply(console, api, space_guid, missing)
            for app in missing:
                await _push_one(console, api, space_guid, app, order)


async def _push_one(console: Console, api: Api, space_guid: str, app: Application, order: Order) -> None:
    found = await _find(api, space_guid, app.name)
    package = await _image(api, found, app.docker) if app.docker else await _upload(console, api, found, app.path)
    droplet = await _stage(console, api, found, package)
    if not order.start:
        await api.patch(f"/v3/apps/{found['guid']}/relationships/current_droplet", {"data": {"guid": droplet}})
        console.print(f"{app.name} is staged and not started.")
        return
    began = await api.last_line(found["guid"])
    if order.strategy and found["state"] == "STARTED":
        await _deploy(console, api, found, droplet, order.strategy)
    else:
        _say(console, f"Starting {app.name}")
        await api.patch(f"/v3/apps/{found['guid']}/relationships/current_droplet", {"data": {"guid": droplet}})
        await api.post(f"/v3/apps/{found['guid']}/actions/restart")
    await _wait_until_running(console, api, found, began)
    await _summary(console, api, found)


def _identity(target: Target) -> tuple[str, str, str, str, str]:
    """URL, user, password, organization and space."""
    if target.url:
        if not target.user or not target.password:
            raise click.ClickException("give --user and, in CUPOLA_PASSWORD, the password for the platform at --api")
        return target.url, target.user, target.password, target.organization, target.space
    settings = place.required_settings(target.data_dir)
    # Where users are kept elsewhere, a first user of earlier days is nobody.
    kept = None if settings.identity.mode == "external" else place.credentials(target.data_dir)
    user = target.user or (kept.username if kept else "")
    password = target.password or (kept.password if kept and user == kept.username else "")
    if not user:
        raise click.ClickException("put a user's name into CUPOLA_USER and the password into CUPOLA_PASSWORD")
    if not password:
        raise click.ClickException(f"put the password of {user} into CUPOLA_PASSWORD")
    defaults = settings.defaults
    return (
        settings.api_url,
        user,
        password,
        target.organization or defaults.organization,
        target.space or defaults.space,
    )


async def _space(api: Api, organization: str, space: str) -> str:
    if not organization or not space:
        raise ApiProblem("name the organization and the space with --org and --space")
    org = await api.one("/v3/organizations", f"the organization {organization}", names=organization)
    found = await api.one(
        "/v3/spaces", f"the space {space} in {organization}", names=space, organization_guids=org["guid"]
    )
    return str(found["guid"])


async def _find(api: Api, space_guid: str, name: str) -> dict[str, Any]:
    return await api.one("/v3/apps", f"the app {name}", names=name, space_guids=space_guid)


async def _missing(api: Api, space_guid: str, batch: list[Application]) -> list[Application]:
    names = ",".join(app.name for app in batch)
    found = await api.get("/v3/apps", names=names, space_guids=space_guid)
    # One that was never started is what an interrupted push left.
    there = {app["name"] for app in found["resources"] if app["state"] == "STARTED"}
    return [app for app in batch if app.name not in there]


async def _apply(console: Console, api: Api, space_guid: str, batch: list[Application]) -> None:
    _say(console, f"Applying the manifest of {', '.join(app.name for app in batch)}")
    await api.post_yaml(f"/v3/spaces/{space_guid}/actions/apply_manifest", manifest.document(batch))


# Bits to a package


async def _image(api: Api, app: dict[str, Any], docker: dict[str, Any]) -> str:
    data = {"image": docker.get("image"), "username": docker.get("username")}
    password = os.environ.get("CF_DOCKER_PASSWORD")
    data = {name: value for name, value in {**data, "password": password}.items() if value is not None}
    body = {"type": "docker", "relationships": {"app": {"data": {"guid": app["guid"]}}}, "data": data}
    return str((await api.post("/v3/packages", body))["guid"])


async def _upload(console: Console, api: Api, app: dict[str, Any], path: Path) -> str:
    body = {"type": "bits", "relationships": {"app": {"data": {"guid": app["guid"]}}}}
    if await asyncio.to_thread(path.is_file):
        package = await api.post("/v3/packages", body)
        await _send(console, api, package["guid"], path, [], f"Uploading {path.name}")
        return str(package["guid"])
    files = await asyncio.to_thread(bits.collect, path)
    matched = await _matches(api, files)
    package = await api.post("/v3/packages", body)
    with tempfile.TemporaryDirectory(prefix="cupola-push-") as directory:
        archive = Path(directory) / "package.zip"
        names = {resource["path"] for resource in matched}
        # Directories and links have no resources, so an archive may be needed for them alone.
        rest = [file for file in files if file.name not in names]
        count = await asyncio.to_thread(bits.write_zip, files, names, archive) if rest else 0
        known = f", {len(matched)} are known already" if matched else ""
        title = f"Uploading {count} of {sum(file.kind == 'file' for file in files)} files{known}"
        await _send(console, api, package["guid"], archive if rest else None, matched, title)
    return str(package["guid"])


async def _matches(api: Api, files: list[File]) -> list[dict[str, Any]]:
    resources = bits.matchable(files)
    found: list[dict[str, Any]] = []
    for first in range(0, len(resources), _MATCH_AT_ONCE):
        answer = await api.post("/v3/resource_matches", {"resources": resources[first : first + _MATCH_AT_ONCE]})
        found += answer["resources"]
    return found


async def _send(
    console: Console, api: Api, package: str, archive: Path | None, resources: list[dict[str, Any]], title: str
) -> None:
    _say(console, title)
    with _bar(console, archive) as progress:
        sent = await api.upload(f"/v3/packages/{package}/upload", archive, resources, progress)
    while sent["state"] not in ("READY", "FAILED", "EXPIRED"):
        await asyncio.sleep(_PAUSE)
        sent = await api.get(f"/v3/packages/{package}")
    if sent["state"] != "READY":
        raise ApiProblem(f"the upload failed: {(sent.get('data') or {}).get('error') or sent['state']}")


@contextlib.contextmanager
def _bar(console: Console, archive: Path | None) -> Iterator[Callable[[int], None]]:
    """A progress bar for uploads that one can watch."""
    size = archive.stat().st_size if archive else 0
    if size < 1024 * 1024 or not console.is_terminal:
        yield lambda _sent: None
        return
    columns = (TextColumn("       "), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=size)
        yield lambda sent: progress.update(task, completed=sent)


# A package to a droplet


async def _stage(console: Console, api: Api, app: dict[str, Any], package: str) -> str:
    """Build; its log is shown as it grows. Returns the droplet's guid."""
    _say(console, f"Staging {app['name']}")
    lines = _Lines(console, api, app["guid"], await api.last_line(app["guid"]) + 1, "STG")
    build = await api.post("/v3/builds", {"package": {"guid": package}})
    while build["state"] == "STAGING":
        await lines.show()
        await asyncio.sleep(_PAUSE)
        build = await api.get(f"/v3/builds/{build['guid']}")
    await lines.show()
    if build["state"] != "STAGED":
        raise ApiProblem(f"staging of {app['name']} failed: {build['error'] or 'no reason was given'}")
    return str(build["droplet"]["guid"])


class _Lines:
    """The log of an app from some moment on, shown once each."""

    def __init__(self, console: Console, api: Api, source: str, start: int, kind: str) -> None:
        self._console = console
        self._api = api
        self._source = source
        self._start = start
        self._kind = kind

    async def show(self) -> None:
        """Print what is new."""
        while True:
            try:
                batch = await self._api.log_lines(self._source, self._start)
            except ApiProblem:
                return  # the log is a comfort; its absence is no reason to stop
            for envelope in batch:
                self._start = int(envelope["timestamp"]) + 1
                if str(envelope.get("tags", {}).get("source_type", "")).startswith(self._kind):
                    self._console.print(Text(f"   {_payload(envelope)}"), soft_wrap=True)
            if len(batch) < 1000:
                return


def _payload(envelope: dict[str, Any]) -> str:
    raw = base64.b64decode((envelope.get("log") or {}).get("payload") or "")
    # A log line is the app's own text: nothing in it may drive the terminal.
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in raw.decode(errors="replace").rstrip())


# A droplet to instances


async def _deploy(console: Console, api: Api, app: dict[str, Any], droplet: str, strategy: str) -> None:
    _say(console, f"Deploying {app['name']} ({strategy})")
    body = {
        "droplet": {"guid": droplet},
        "strategy": strategy,
        "relationships": {"app": {"data": {"guid": app["guid"]}}},
    }
    deployment = await api.post("/v3/deployments", body)
    began = time.monotonic()
    while deployment["status"]["value"] != "FINALIZED":
        if time.monotonic() - began > _START_SECONDS:
            await api.post(f"/v3/deployments/{deployment['guid']}/actions/cancel")
            raise ApiProblem(
                f"the deployment of {app['name']} did not finish in {_START_SECONDS:.0f} s and was cancelled"
            )
        await asyncio.sleep(_PAUSE)
        deployment = await api.get(f"/v3/deployments/{deployment['guid']}")
    reason = deployment["status"]["reason"]
    if reason != "DEPLOYED":
        raise ApiProblem(f"the deployment of {app['name']} ended as {reason}: the version before goes on running")


async def _wait_until_running(console: Console, api: Api, app: dict[str, Any], began: int) -> None:
    """Until each process with instances has one that runs."""
    processes = (await api.get(f"/v3/apps/{app['guid']}/processes"))["resources"]
    waiting = {process["guid"]: process["type"] for process in processes if process["instances"]}
    deadline = time.monotonic() + _START_SECONDS
    while waiting:
        for guid in list(waiting):
            states = {one["state"] for one in (await api.get(f"/v3/processes/{guid}/stats"))["resources"]}
            if "RUNNING" in states:
                del waiting[guid]
            elif states == {"CRASHED"}:
                await _show_end(console, api, app, began)
                raise ApiProblem(f"{app['name']} ({waiting[guid]}) crashed at its start: its log is above")
        if waiting and time.monotonic() > deadline:
            await _show_end(console, api, app, began)
            raise ApiProblem(
                f"{app['name']} ({', '.join(waiting.values())}) does not run after {_START_SECONDS:.0f} s: its log is above"
            )
        if waiting:
            await asyncio.sleep(_PAUSE)


async def _show_end(console: Console, api: Api, app: dict[str, Any], began: int) -> None:
    """The last lines of the log since the start began."""
    with contextlib.suppress(ApiProblem):
        for envelope in (await api.log_lines(app["guid"], began + 1))[-_LAST_LINES:]:
            kind = envelope.get("tags", {}).get("source_type", "")
            console.print(Text(f"   [{kind}] {_payload(envelope)}"), soft_wrap=True)


async def _summary(console: Console, api: Api, app: dict[str, Any]) -> None:
    """Instances, and the addresses that answer."""
    processes = (await api.get(f"/v3/apps/{app['guid']}/processes"))["resources"]
    for process in processes:
        stats = (await api.get(f"/v3/processes/{process['guid']}/stats"))["resources"]
        running = sum(one["state"] == "RUNNING" for one in stats)
        if process["instances"] or process["type"] == "web":
            console.print(
                f"{app['name']}  {process['type']}  {running}/{process['instances']} running  "
                f"{process['memory_in_mb']} MB each"
            )
    origin = urlsplit(api.url)
    for route in (await api.get(f"/v3/apps/{app['guid']}/routes"))["resources"]:
        host, slash, path = route["url"].partition("/")
        shown = host if ":" in host or origin.port is None else f"{host}:{origin.port}"
        console.print(f"[bold]{origin.scheme}://{shown}{slash}{path}[/]")


def _say(console: Console, text: str) -> None:
    console.print(f"[bold cyan]-->[/] {text}", soft_wrap=True)
