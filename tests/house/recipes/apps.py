"""Apps and what hangs on them: processes, packages, builds, droplets, sidecars, revisions, manifests."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import insert

from cupola.store.instances import instances
from cupola.store.staging import builds, droplets
from tests.house.recipes.platform import archive
from tests.house.town import Recipe, Town


def _of_app(name: str) -> dict[str, Any]:
    return {"app": {"data": {"guid": name}}}


def _package(town: Town, app: str) -> str:
    body = {"type": "bits", "relationships": _of_app(app)}
    return str(town.cloud.admin.ok("POST", "/v3/packages", body, 201)["guid"])


def _ready_package(town: Town) -> str:
    guid = _package(town, town["app"])
    answer = town.cloud.admin.post(
        f"/v3/packages/{guid}/upload", files={"bits": ("a.zip", archive(), "application/zip")}
    )
    assert answer.status_code == 200, answer.text
    return guid


def _droplet(town: Town) -> str:
    body = {"relationships": _of_app(town["app"]), "process_types": {"web": "serve", "worker": "work"}}
    guid = str(town.cloud.admin.ok("POST", "/v3/droplets", body, 201)["guid"])
    files = {"bits": ("droplet.tgz", b"bits", "application/gzip")}
    assert town.cloud.admin.post(f"/v3/droplets/{guid}/upload", files=files).status_code == 202
    with town.cloud.database.write() as tx:
        tx.run(droplets.update().where(droplets.c.guid == guid).values(package_guid=town["ready_package"]))
    return guid


def _waiting_droplet(town: Town) -> str:
    body = {"relationships": _of_app(town["app"])}
    return str(town.cloud.admin.ok("POST", "/v3/droplets", body, 201)["guid"])


def _build(town: Town) -> str:
    body = {"package": {"guid": town["ready_package"]}}
    guid = str(town.cloud.admin.ok("POST", "/v3/builds", body, 201)["guid"])
    with town.cloud.database.write() as tx:
        tx.run(builds.update().where(builds.c.guid == guid).values(state="FAILED"))
    return guid


def _started(town: Town) -> str:
    """An app with a droplet, started, and with an instance that its cell reported; gives its web process."""
    app, admin = town["app"], town.cloud.admin
    body = {"data": {"guid": town["droplet"]}}
    admin.ok("PATCH", f"/v3/apps/{app}/relationships/current_droplet", body)
    admin.ok("POST", f"/v3/apps/{app}/actions/start")
    process = admin.ok("GET", f"/v3/apps/{app}/processes/web")
    reported = {
        "process_guid": process["guid"],
        "index": 0,
        "version": process["version"],
        "instance_guid": "instance-0",
        "cell_id": "cell",
        "state": "RUNNING",
        "since": 0,
        "endpoints": [],
        "ports": [],
    }
    with town.cloud.database.write() as tx:
        tx.run(insert(instances).values(reported))
    return str(process["guid"])


def _stop(town: Town) -> None:
    town.cloud.admin.ok("POST", f"/v3/apps/{town['app']}/actions/stop")


def _sidecar(town: Town) -> str:
    body = {"name": "town-sidecar", "command": "help", "process_types": ["web"]}
    return str(town.cloud.admin.ok("POST", f"/v3/apps/{town['app']}/sidecars", body, 201)["guid"])


def _revision(town: Town) -> str:
    town["process"]
    found = town.cloud.admin.ok("GET", f"/v3/apps/{town['app']}/revisions")["resources"]
    return str(found[0]["guid"])


def _default_stack(town: Town) -> str:
    name = town.cloud.settings.defaults.stack
    return str(town.cloud.admin.ok("GET", f"/v3/stacks?names={name}")["resources"][0]["guid"])


MAKERS: dict[str, Callable[[Town], str]] = {
    "app": lambda town: str(town.cloud.app("town-app", town["space"])["guid"]),
    "other_app": lambda town: str(town.cloud.app("other-app", town["space"])["guid"]),
    "default_stack": _default_stack,
    "ready_package": _ready_package,
    "waiting_package": lambda town: _package(town, town["app"]),
    "build": _build,
    "droplet": _droplet,
    "spare_droplet": _droplet,
    "waiting_droplet": _waiting_droplet,
    "process": _started,
    "sidecar": _sidecar,
    "revision": _revision,
}

_LABELS = {"metadata": {"labels": {"tier": "gold"}}}
_YAML = {"Content-Type": "application/x-yaml"}
_MANIFEST = b"applications: [{name: town-app, instances: 2}]"
_WEB = {"type": "web"}
_FILE = {"checksum": {"value": "0" * 40}, "size_in_bytes": 70_000, "path": "big", "mode": "644"}

RECIPES = {
    "GET /v3/apps": Recipe(sees="app"),
    "GET /v3/apps/{guid}": Recipe("app"),
    "POST /v3/apps": Recipe(body={"name": "new", "relationships": {"space": {"data": {"guid": "$space"}}}}),
    "PATCH /v3/apps/{guid}": Recipe("app", _LABELS),
    "DELETE /v3/apps/{guid}": Recipe("app"),
    "POST /v3/apps/{guid}/actions/start": Recipe("app", first=_stop),
    "POST /v3/apps/{guid}/actions/stop": Recipe("app"),
    "POST /v3/apps/{guid}/actions/restart": Recipe("app"),
    "POST /v3/apps/{guid}/actions/clear_buildpack_cache": Recipe("app"),
    "GET /v3/apps/{guid}/env": Recipe("app"),
    "GET /v3/apps/{guid}/environment_variables": Recipe("app"),
    "PATCH /v3/apps/{guid}/environment_variables": Recipe("app", {"var": {"A": "b"}}),
    "GET /v3/apps/{guid}/permissions": Recipe("app"),
    "GET /v3/apps/{guid}/ssh_enabled": Recipe("app"),
    "GET /v3/apps/{guid}/features": Recipe("app"),
    "GET /v3/apps/{guid}/features/{name}": Recipe("app", path={"name": "ssh"}),
    "PATCH /v3/apps/{guid}/features/{name}": Recipe("app", {"enabled": True}, path={"name": "ssh"}),
    "PATCH /v3/apps/{guid}/features/{name}?revisions": Recipe("app", {"enabled": True}, path={"name": "revisions"}),
    "GET /v3/apps/{guid}/relationships/current_droplet": Recipe("app"),
    "PATCH /v3/apps/{guid}/relationships/current_droplet": Recipe("app", {"data": {"guid": "$spare_droplet"}}),
    "GET /v3/apps/{guid}/droplets/current": Recipe("app"),
    "GET /v3/processes": Recipe(sees="process"),
    "GET /v3/processes/{guid}": Recipe("process"),
    "PATCH /v3/processes/{guid}": Recipe("process", {"command": "serve --loudly"}),
    "POST /v3/processes/{guid}/actions/scale": Recipe("process", {"instances": 2}),
    "GET /v3/processes/{guid}/stats": Recipe("process"),
    "GET /v3/processes/{guid}/process_instances": Recipe("process"),
    "GET /v3/processes/{guid}/sidecars": Recipe("process", sees="sidecar"),
    "DELETE /v3/processes/{guid}/instances/{index}": Recipe("process", path={"index": "0"}),
    "GET /v3/apps/{guid}/processes": Recipe("app", sees="process"),
    "GET /v3/apps/{guid}/processes/{type}": Recipe("app", path=_WEB),
    "PATCH /v3/apps/{guid}/processes/{type}": Recipe("app", {"command": "serve --loudly"}, path=_WEB),
    "POST /v3/apps/{guid}/processes/{type}/actions/scale": Recipe("app", {"instances": 2}, path=_WEB),
    "GET /v3/apps/{guid}/processes/{type}/stats": Recipe("app", path=_WEB),
    "DELETE /v3/apps/{guid}/processes/{type}/instances/{index}": Recipe("app", path={**_WEB, "index": "0"}),
    "GET /v3/packages": Recipe(sees="ready_package"),
    "GET /v3/packages/{guid}": Recipe("ready_package"),
    "GET /v3/apps/{guid}/packages": Recipe("app", sees="ready_package"),
    "POST /v3/packages": Recipe(body={"type": "bits", "relationships": _of_app("$app")}),
    "POST /v3/packages?source_guid": Recipe(
        body={"relationships": _of_app("$other_app")}, query="source_guid=$ready_package"
    ),
    "PATCH /v3/packages/{guid}": Recipe("ready_package", _LABELS),
    "DELETE /v3/packages/{guid}": Recipe("ready_package"),
    "POST /v3/packages/{guid}/upload": Recipe(
        "waiting_package", files={"bits": ("a.zip", archive(), "application/zip")}
    ),
    "GET /v3/packages/{guid}/download": Recipe("ready_package"),
    "GET /v3/packages/{guid}/droplets": Recipe("ready_package", sees="droplet"),
    "POST /v3/resource_matches": Recipe(body={"resources": [_FILE]}),
    "GET /v3/builds": Recipe(sees="build"),
    "GET /v3/builds/{guid}": Recipe("build"),
    "GET /v3/apps/{guid}/builds": Recipe("app", sees="build"),
    "POST /v3/builds": Recipe(body={"package": {"guid": "$ready_package"}}),
    "PATCH /v3/builds/{guid}": Recipe("build", _LABELS),
    "GET /v3/droplets": Recipe(sees="droplet"),
    "GET /v3/droplets/{guid}": Recipe("droplet"),
    "GET /v3/apps/{guid}/droplets": Recipe("app", sees="droplet"),
    "POST /v3/droplets": Recipe(body={"relationships": _of_app("$app")}),
    "POST /v3/droplets?source_guid": Recipe(
        body={"relationships": _of_app("$other_app")}, query="source_guid=$droplet"
    ),
    "PATCH /v3/droplets/{guid}": Recipe("droplet", _LABELS),
    "DELETE /v3/droplets/{guid}": Recipe("spare_droplet"),
    "POST /v3/droplets/{guid}/upload": Recipe(
        "waiting_droplet", files={"bits": ("droplet.tgz", b"bits", "application/gzip")}
    ),
    "GET /v3/droplets/{guid}/download": Recipe("droplet"),
    "GET /v3/apps/{guid}/sidecars": Recipe("app", sees="sidecar"),
    "POST /v3/apps/{guid}/sidecars": Recipe("app", {"name": "new", "command": "help", "process_types": ["web"]}),
    "GET /v3/sidecars/{guid}": Recipe("sidecar"),
    "PATCH /v3/sidecars/{guid}": Recipe("sidecar", {"command": "more"}),
    "DELETE /v3/sidecars/{guid}": Recipe("sidecar"),
    "GET /v3/apps/{guid}/revisions": Recipe("app", sees="revision"),
    "GET /v3/apps/{guid}/revisions/deployed": Recipe("app", sees="revision"),
    "GET /v3/apps/{guid}/revisions/{version}": Recipe("app", path={"version": "1"}),
    "PATCH /v3/apps/{guid}/revisions/{version}": Recipe("app", _LABELS, path={"version": "1"}),
    "GET /v3/apps/{guid}/revisions/{version}/environment_variables": Recipe("app", path={"version": "1"}),
    "GET /v3/revisions/{guid}": Recipe("revision"),
    "PATCH /v3/revisions/{guid}": Recipe("revision", _LABELS),
    "GET /v3/revisions/{guid}/environment_variables": Recipe("revision"),
    "GET /v3/apps/{guid}/manifest": Recipe("app"),
    "POST /v3/spaces/{guid}/actions/apply_manifest": Recipe("space", content=_MANIFEST, headers=_YAML),
    "POST /v3/spaces/{guid}/manifest_diff": Recipe("space", content=_MANIFEST, headers=_YAML),
}
