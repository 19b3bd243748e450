"""Deployments, tasks, and what only some documents offer for apps and operators."""

from collections.abc import Callable

from cupola.store.deployments import deployments
from tests.house.town import Recipe, Town
from tests.scripted_cell import staged_droplet


def _deployed_app(town: Town) -> str:
    app = str(town.cloud.app("deployed-app", town["space"])["guid"])
    droplet = staged_droplet(town.cloud.database, app)
    path = f"/v3/apps/{app}"
    town.cloud.admin.ok("PATCH", path + "/relationships/current_droplet", {"data": {"guid": droplet}})
    town.cloud.admin.ok("POST", path + "/actions/start")
    return app


def _deployment(town: Town) -> str:
    """A canary that waits for a person."""
    body = {"strategy": "canary", "relationships": {"app": {"data": {"guid": town["deployed_app"]}}}}
    guid = str(town.cloud.admin.ok("POST", "/v3/deployments", body, 201)["guid"])
    with town.cloud.database.write() as tx:
        tx.run(deployments.update().where(deployments.c.guid == guid).values(status_reason="PAUSED"))
    return guid


def _task(town: Town) -> str:
    path = f"/v3/apps/{town['deployed_app']}/tasks"
    return str(town.cloud.admin.ok("POST", path, {"command": "migrate"}, 202)["guid"])


MAKERS: dict[str, Callable[[Town], str]] = {"deployed_app": _deployed_app, "deployment": _deployment, "task": _task}

_LABELS = {"metadata": {"labels": {"tier": "gold"}}}
_YAML = {"Content-Type": "application/x-yaml"}
_MANIFEST = b"applications: [{name: town-app, env: {A: b}}]"
_APP = {"app": {"data": {"guid": "$deployed_app"}}}

RECIPES = {
    "GET /v3/deployments": Recipe(sees="deployment"),
    "POST /v3/deployments": Recipe(body={"relationships": _APP}),
    "GET /v3/deployments/{guid}": Recipe("deployment"),
    "PATCH /v3/deployments/{guid}": Recipe("deployment", _LABELS),
    "POST /v3/deployments/{guid}/actions/cancel": Recipe("deployment"),
    "POST /v3/deployments/{guid}/actions/continue": Recipe("deployment"),
    "GET /v3/tasks": Recipe(sees="task"),
    "GET /v3/apps/{guid}/tasks": Recipe("deployed_app", sees="task"),
    "POST /v3/apps/{guid}/tasks": Recipe("deployed_app", {"command": "migrate"}),
    "GET /v3/tasks/{guid}": Recipe("task"),
    "PATCH /v3/tasks/{guid}": Recipe("task", _LABELS),
    "POST /v3/tasks/{guid}/actions/cancel": Recipe("task"),
    "PUT /v3/tasks/{guid}/actions/cancel": Recipe("task"),
    "PUT /v3/tasks/{guid}/cancel": Recipe("task"),
    "PATCH /v3/internal/builds/{guid}": Recipe("build", _LABELS),
    "PATCH /v3/apps/{guid}/builds": Recipe("app", _LABELS),
    "POST /v3/apps/{guid}/actions/apply_manifest": Recipe("app", content=_MANIFEST, headers=_YAML),
    "POST /v3/audit_events": Recipe(body={"type": "custom.ticket", "space": {"guid": "$space"}}),
    "POST /v3/feature_flags": Recipe(body={"name": "task_creation", "enabled": True}),
    "POST /v3/admin/actions/clear_buildpack_cache": Recipe(),
    "GET /v3/info/usage_summary": Recipe(),
}
