"""What belongs to the whole platform: stacks, buildpacks, feature flags, variable groups, events, jobs."""

import io
import zipfile
from collections.abc import Callable

from tests.house.town import Recipe, Town


def archive() -> bytes:
    """A zip file with one file in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("bin/detect", "#!/bin/sh\n")
    return buffer.getvalue()


def _stack(town: Town) -> str:
    return str(town.cloud.admin.ok("POST", "/v3/stacks", {"name": "town-stack"}, 201)["guid"])


def _buildpack(town: Town) -> str:
    return str(town.cloud.admin.ok("POST", "/v3/buildpacks", {"name": "town-buildpack"}, 201)["guid"])


def _job(town: Town) -> str:
    answer = town.cloud.admin.delete(f"/v3/buildpacks/{town['doomed_buildpack']}")
    return str(answer.headers["Location"].rpartition("/")[2])


def _doomed(town: Town) -> str:
    return str(town.cloud.admin.ok("POST", "/v3/buildpacks", {"name": "doomed"}, 201)["guid"])


def _event(town: Town) -> str:
    found = town.cloud.admin.ok("GET", f"/v3/audit_events?target_guids={town['app']}&types=audit.app.create")
    return str(found["resources"][0]["guid"])


MAKERS: dict[str, Callable[[Town], str]] = {
    "stack": _stack,
    "buildpack": _buildpack,
    "doomed_buildpack": _doomed,
    "job": _job,
    "audit_event": _event,
}

RECIPES = {
    "GET /": Recipe(),
    "GET /healthz": Recipe(),
    "GET /whoami": Recipe(),
    "GET /v3": Recipe(),
    "GET /v3/info": Recipe(),
    "GET /v2/info": Recipe(),
    "GET /v2/apps": Recipe(sees="app"),
    "GET /v2/spaces": Recipe(sees="space"),
    "GET /v2/stacks": Recipe(sees="default_stack"),
    "GET /v3/stacks": Recipe(sees="stack"),
    "GET /v3/stacks/{guid}": Recipe("stack"),
    "GET /v3/stacks/{guid}/apps": Recipe("default_stack", sees="app"),
    "POST /v3/stacks": Recipe(body={"name": "new"}),
    "PATCH /v3/stacks/{guid}": Recipe("stack", {"metadata": {"labels": {"tier": "gold"}}}),
    "DELETE /v3/stacks/{guid}": Recipe("stack"),
    "GET /v3/buildpacks": Recipe(sees="buildpack"),
    "GET /v3/buildpacks/{guid}": Recipe("buildpack"),
    "POST /v3/buildpacks": Recipe(body={"name": "new"}),
    "PATCH /v3/buildpacks/{guid}": Recipe("buildpack", {"enabled": False}),
    "DELETE /v3/buildpacks/{guid}": Recipe("buildpack"),
    "POST /v3/buildpacks/{guid}/upload": Recipe(
        "buildpack", files={"bits": ("town-buildpack.zip", archive(), "application/zip")}
    ),
    "GET /v3/jobs": Recipe(sees="job"),
    "GET /v3/jobs/{guid}": Recipe("job"),
    "GET /v3/feature_flags": Recipe(),
    "GET /v3/feature_flags/{name}": Recipe(path={"name": "task_creation"}),
    "PATCH /v3/feature_flags/{name}": Recipe(path={"name": "task_creation"}, body={"enabled": False}),
    "GET /v3/environment_variable_groups/{name}": Recipe(path={"name": "running"}),
    "PATCH /v3/environment_variable_groups/{name}": Recipe(path={"name": "running"}, body={"var": {"A": "b"}}),
    "GET /v3/audit_events": Recipe(sees="audit_event"),
    "GET /v3/audit_events/{guid}": Recipe("audit_event"),
}
