"""Manifests: applied to a space, compared with it, written for an app."""

from collections.abc import Sequence
from typing import Any

import yaml
from sqlalchemy import Row

from cupola import errors
from cupola.api import access
from cupola.api.apps import APPS
from cupola.api.spaces import SPACES
from cupola.domain.access import has_in_space
from cupola.domain.manifests import apply, diff, generate, parse
from cupola.domain.route_options import hashing
from cupola.rest.operation import Accepted, Call, Operation, Reply
from cupola.store import jobs

__all__ = ["OPERATIONS"]


def _yaml(call: Call[Any, Any]) -> list[dict[str, Any]]:
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"application/x-yaml", "text/yaml", "application/yaml", "text/x-yaml"}:
        raise errors.bad_request("Content-Type must be yaml")
    return parse.load(call.raw_body)


def _lane(manifests: Sequence[parse.AppManifest]) -> str:
    """Manifests with services wait for brokers; others wait for nobody."""
    return "broker" if any(manifest.services for manifest in manifests) else "default"


def apply_manifest(call: Call[Row[Any], None]) -> Accepted:
    """Apply a manifest to a space: make the apps that are missing, then change all of them in a job."""
    manifests = parse.parse(_yaml(call), hashing=hashing(call.tx))
    apply.create_missing(call.tx, call.settings, call.actor, call.row, manifests, call.warnings)
    call.warnings += apply.warnings_of(manifests)
    payload = {
        "space_guid": call.row.guid,
        "request_id": call.request_id,
        # The manifest may hold secrets in env.
        "manifest": call.tx.vault.seal(call.raw_body, "jobs.manifest"),
    }
    guid = jobs.enqueue(
        call.tx,
        "space.apply_manifest",
        payload,
        actor=call.actor,
        lane=_lane(manifests),
        resource_guid=call.row.guid,
        resource_type="spaces",
    )
    return Accepted(guid)


def apply_app_manifest(call: Call[Row[Any], None]) -> Accepted:
    """Apply a manifest of one application to an app (an operation of earlier API versions)."""
    manifests = parse.parse(_yaml(call), hashing=hashing(call.tx))
    names = [manifest.name for manifest in manifests]
    if len(names) != 1 or names[0].lower() != call.row.name_key:
        raise errors.unprocessable(
            f"The manifest must have exactly one application, named '{call.row.name}' as the app is. "
            "Manifests of several applications are applied to their space."
        )
    call.warnings += apply.warnings_of(manifests)
    payload = {
        "guid": call.row.guid,
        "request_id": call.request_id,
        "manifest": call.tx.vault.seal(call.raw_body, "jobs.manifest"),
    }
    guid = jobs.enqueue(
        call.tx,
        "app.apply_manifest",
        payload,
        actor=call.actor,
        lane=_lane(manifests),
        resource_guid=call.row.guid,
        resource_type="apps",
    )
    return Accepted(guid)


def manifest_diff(call: Call[Row[Any], None]) -> Reply:
    """What applying a manifest to a space would change."""
    applications = _yaml(call)
    parse.parse(applications, hashing=hashing(call.tx))
    return Reply(201, {"diff": diff.diff(call.tx, call.row, applications)})


def may_read(call: Call[Row[Any], Any]) -> None:
    """Admins, admin_read_only and developers: a manifest shows the environment."""
    if not call.actor.reads_secrets and not has_in_space(call.tx, call.actor, call.row.space_guid, access.DEVELOPER):
        raise errors.not_authorized()


def show_manifest(call: Call[Row[Any], None]) -> Reply:
    """The manifest of an app as it is."""
    document = {"applications": [generate.application(call.tx, call.row)]}
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=False, allow_unicode=True, explicit_start=True)
    return Reply(200, text.encode(), {"Content-Type": "application/x-yaml"})


_WRITE = access.in_space(*access.DEVELOPER)

OPERATIONS: list[Operation] = [
    Operation(
        "POST",
        "/v3/spaces/{guid}/actions/apply_manifest",
        apply_manifest,
        target=SPACES,
        allow=_WRITE,
        status=202,
        job=True,
        consumes="application/x-yaml",
    ),
    Operation(
        "POST",
        "/v3/spaces/{guid}/manifest_diff",
        manifest_diff,
        target=SPACES,
        allow=_WRITE,
        status=201,
        writes=False,
        consumes="application/x-yaml",
    ),
    Operation(
        "POST",
        "/v3/apps/{guid}/actions/apply_manifest",
        apply_app_manifest,
        target=APPS,
        allow=_WRITE,
        status=202,
        job=True,
        consumes="application/x-yaml",
        deprecated=True,
    ),
    Operation(
        "GET", "/v3/apps/{guid}/manifest", show_manifest, target=APPS, allow=may_read, produces="application/x-yaml"
    ),
]
