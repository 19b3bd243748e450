"""How a build ends: a droplet, or an error in Cloud Foundry's words (reference/app-runtime.md section 5)."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from cupola.config import Settings
from cupola.domain import audit, processes, usage
from cupola.domain.buildpack_names import redacted
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps, buildpack_caches
from cupola.store.apps import processes as process_table
from cupola.store.database import Tx
from cupola.store.platform import buildpacks
from cupola.store.staging import builds, droplets, packages

__all__ = ["fail", "started", "succeed"]

_TEXTS = {
    "NoAppDetectedError": "An app was not successfully detected by any available buildpack",
    "BuildpackCompileFailed": "App staging failed in the buildpack compile phase",
    "BuildpackReleaseFailed": "App staging failed in the buildpack release phase",
    "InsufficientResources": "Insufficient resources",
    "NoCompatibleCell": "Found no compatible cell",
    "StagingTimeExpired": "Staging time expired",
    "StagingError": "Staging error",
}
_COMPLETE = _TEXTS.keys() - {"StagingTimeExpired", "StagingError"}
"""Errors whose text says enough where no reason is known."""
_NO_REASON = "staging failed"


def started(tx: Tx, build_guid: str, at: int) -> None:
    """A cell took the build, at `at` microseconds since 1970; a second start does not move the time."""
    unset = (builds.c.guid == build_guid) & builds.c.started_at.is_(None)
    tx.run(update(builds).where(unset).values(started_at=at))


def fail(tx: Tx, build_guid: str, error_id: str, reason: str = _NO_REASON) -> None:
    """End a build as FAILED; one that has ended is left alone. `reason` says what happened and what to do."""
    build = _staging(tx, build_guid)
    if build is None:
        return
    error_id = error_id or "StagingError"
    text = _TEXTS.get(error_id, _TEXTS["StagingError"])
    if reason != _NO_REASON or error_id not in _COMPLETE:
        text = f"{text}: {reason}"
    usage.staging_stopped(tx, build)
    rows.change(tx, builds, build, {"state": "FAILED", "error_id": error_id, "error_description": text})
    _record(tx, "audit.app.build.failed", build, {"error_id": error_id, "error_message": text})
    _ring(tx)


def succeed(
    tx: Tx,
    settings: Settings,
    build_guid: str,
    *,
    droplet: str,
    sha1: str,
    size: int,
    cache: str,
    result: Mapping[str, Any],
    stack_fingerprint: str,
) -> None:
    """End a build as STAGED with a new droplet; `result` is the builder's result.json.

    FAILED instead, with StagingError, when nothing says how the app starts.
    """
    build = _staging(tx, build_guid)
    if build is None:
        return
    types = dict(result.get("process_types") or {})
    web = processes.newest(tx, build.app_guid, "web")
    if not types and (web is None or not web.command):
        fail(tx, build_guid, "StagingError", "Start command not specified")
        return
    values = {
        "app_guid": build.app_guid,
        "package_guid": build.package_guid,
        "build_guid": build.guid,
        "state": "STAGED",
        "lifecycle_type": build.lifecycle_type,
        "stack": build.stack,
        "digest": droplet,
        "sha1": sha1,
        "size": size,
        "buildpacks": _buildpacks(tx, result.get("lifecycle_metadata") or {}),
        "process_types": types or {"web": ""},
        "sidecars": list(result.get("sidecars") or []),
        "execution_metadata": str(result.get("execution_metadata") or ""),
        "stack_fingerprint": stack_fingerprint,
    }
    made = rows.add(tx, droplets, values)
    usage.staging_stopped(tx, build, made)
    rows.change(tx, builds, build, {"state": "STAGED", "droplet_guid": made.guid})
    usage.buildpack_set(tx, build, made)
    if cache:
        _keep_cache(tx, build, cache)
    _record(tx, "audit.app.build.staged", build, {"droplet_guid": made.guid})
    _expire(tx, settings, build.app_guid, made.guid, build.package_guid)
    _ring(tx)


def _staging(tx: Tx, build_guid: str) -> Row[Any] | None:
    build = rows.by_guid(tx, builds, build_guid)
    return build if build is not None and build.state == "STAGING" else None


def _buildpacks(tx: Tx, metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    used = list(metadata.get("buildpacks") or [])
    known = rows.by_guids(tx, buildpacks, [str(one.get("key", "")).partition("_")[0] for one in used])
    detected = metadata.get("detected_buildpack") or None
    answer = []
    for number, one in enumerate(used):
        key = str(one.get("key", ""))
        own = known.get(key.partition("_")[0])
        answer.append(
            {
                "name": own.name if own is not None else redacted(key),
                "detect_output": detected if number == len(used) - 1 else None,
                "buildpack_name": redacted(str(one.get("name") or "")),
                "version": one.get("version") or None,
            }
        )
    return answer


def _keep_cache(tx: Tx, build: Row[Any], digest: str) -> None:
    key = (buildpack_caches.c.app_guid == build.app_guid) & (buildpack_caches.c.stack == (build.stack or ""))
    tx.run(delete(buildpack_caches).where(key))
    values = {"app_guid": build.app_guid, "stack": build.stack or "", "digest": digest, "updated_at": tx.now}
    tx.run(insert(buildpack_caches).values(values))


def _expire(tx: Tx, settings: Settings, app_guid: str, droplet_guid: str, package_guid: str) -> None:
    app = rows.by_guid(tx, apps, app_guid)
    current = None if app is None else rows.by_guid(tx, droplets, app.droplet_guid)
    spared = {droplet_guid, current.guid if current is not None else ""}
    # While a deployment is in progress, or an app was not restarted, its instances run an older one.
    spared.update(tx.scalars(select(process_table.c.droplet_guid).where(process_table.c.app_guid == app_guid)))
    ended = select(droplets.c.guid).where(
        droplets.c.app_guid == app_guid,
        droplets.c.state.in_(["STAGED", "FAILED"]),
        droplets.c.guid != (current.guid if current is not None else ""),
    )
    old = tx.scalars(ended.order_by(droplets.c.id.desc()).offset(settings.blobs.max_staged_droplets))
    gone = [one for one in old if one not in spared]
    if gone:
        expired = {"state": "EXPIRED", "digest": None, "updated_at": tx.now}
        tx.run(update(droplets).where(droplets.c.guid.in_(gone)).values(expired))
    source = current.package_guid if current is not None else None
    valid = select(packages.c.guid).where(
        packages.c.app_guid == app_guid, packages.c.state == "READY", packages.c.guid != (source or "")
    )
    old = tx.scalars(valid.order_by(packages.c.id.desc()).offset(settings.blobs.max_valid_packages))
    gone = [one for one in old if one != package_guid]
    if gone:
        expired = {"state": "EXPIRED", "digest": None, "updated_at": tx.now}
        tx.run(update(packages).where(packages.c.guid.in_(gone)).values(expired))


def _record(tx: Tx, type_: str, build: Row[Any], data: Mapping[str, Any]) -> None:
    app = rows.by_guid(tx, apps, build.app_guid)
    if app is None:
        return
    actor = Actor(
        guid=build.created_by_guid or "system",
        name=build.created_by_name or "system",
        email=build.created_by_email or "",
        scopes=frozenset(),
        type="user" if build.created_by_guid else "system",
    )
    complete = {"build_guid": build.guid, "package_guid": build.package_guid, **data}
    audit.record(tx, type_, actor, app.guid, "app", app.name, complete, space_guid=app.space_guid)


def _ring(tx: Tx) -> None:
    for bell in ("desired", "staging", "builds"):
        tx.ring(bell)
