"""Applying manifests: one app after the other, each in a transaction of its own, then its services, which brokers bind.

The binding at a broker is a job of its own; this one looks for its end and waits no longer than the operator allows.
"""

from functools import partial
from typing import Any

from sqlalchemy import Row

from cupola.config import Settings
from cupola.domain.manifests import apply, parse, services
from cupola.domain.manifests.parse import AppManifest
from cupola.errors import CloudError
from cupola.jobs.outside import Done, Job, Outcome, Outside, OutsideJob, Poll
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.orgs import spaces

__all__ = ["handlers"]

_FIRST = 0.05
"""Seconds until the first look at a binding; each further wait is half as long again."""
_LONGEST = 1.0


def handlers(settings: Settings) -> dict[str, Outside]:
    """Job operation to handler."""
    jobs = _ManifestJobs(settings)
    return {"space.apply_manifest": Outside(jobs.apply), "app.apply_manifest": Outside(jobs.apply)}


class _ManifestJobs:
    """`payload`: `applied` apps are done but for their services, `bound` of those of the last one are done as well;
    `binding` is what a broker is making, `since` (microseconds since 1970)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def apply(self, job: OutsideJob) -> Outcome:
        """Apply what is left of a manifest."""
        manifests = await job.read(lambda tx: _manifests(tx, job))
        for number in range(int(job.payload.get("applied", 0)), len(manifests) + 1):
            if number:
                seconds = await self._services(job, manifests[number - 1])
                if seconds:
                    return Poll(seconds)
            if number < len(manifests):
                await job.write(partial(self._apply, job=job, manifest=manifests[number]))
        return Done()

    async def _services(self, job: OutsideJob, manifest: AppManifest) -> float:
        """Bind services until one of them takes its time: seconds until the next look at it. 0 when all are bound."""
        while True:
            if job.payload.get("binding"):
                waiting = await job.write(lambda tx: self._look(tx, job, manifest))
                if isinstance(waiting, CloudError):
                    raise apply.about(manifest.name, waiting)
                if waiting:
                    return waiting
            elif int(job.payload.get("bound", 0)) < len(manifest.services):
                await job.write(lambda tx: self._bind(tx, job, manifest))
            else:
                return 0.0

    def _apply(self, tx: Tx, job: OutsideJob, manifest: AppManifest) -> None:
        app = _app(tx, self._settings, job, manifest)
        if app is not None:
            apply.apply(tx, self._settings, job.actor, app, manifest)
        job.payload.update(applied=int(job.payload.get("applied", 0)) + 1, bound=0)

    def _bind(self, tx: Tx, job: OutsideJob, manifest: AppManifest) -> None:
        number = int(job.payload.get("bound", 0))
        app = _app(tx, self._settings, job, manifest)
        binding = None
        if app is not None:
            request_id = str(job.payload.get("request_id", ""))
            try:
                binding = services.bind(tx, self._settings, job.actor, app, manifest.services[number], request_id)
            except CloudError as error:
                raise apply.about(manifest.name, error) from error
        job.payload.update(binding=binding, since=tx.now, looks=0, bound=number + (binding is None))

    def _look(self, tx: Tx, job: OutsideJob, manifest: AppManifest) -> float | CloudError:
        """Seconds until the next look at a binding, 0 when it is made; or why the manifest cannot be applied."""
        payload = job.payload
        service = manifest.services[int(payload["bound"])]
        try:
            done = services.outcome(tx, service, payload["binding"])
        except CloudError as error:
            return error
        if done:
            payload.update(binding=None, bound=int(payload["bound"]) + 1)
            return 0.0
        if tx.now - int(payload["since"]) > self._settings.services.manifest_binding_seconds * 1_000_000:
            return services.give_up(tx, self._settings, service, payload["binding"])
        payload["looks"] = int(payload["looks"]) + 1
        return min(_LONGEST, _FIRST * 1.5 ** int(payload["looks"]))


def _manifests(tx: Tx, job: Job) -> list[AppManifest]:
    """The applications of a manifest; none when what it is for is gone."""
    payload = job.payload
    table, guid = (spaces, payload["space_guid"]) if "space_guid" in payload else (apps, payload["guid"])
    if rows.by_guid(tx, table, guid) is None:
        return []
    return parse.parse(parse.load(tx.vault.open(payload["manifest"], "jobs.manifest")))


def _app(tx: Tx, settings: Settings, job: Job, manifest: AppManifest) -> Row[Any] | None:
    """The app that a section is about, made if it was deleted meanwhile; None when its space is gone."""
    if "space_guid" not in job.payload:
        return rows.by_guid(tx, apps, job.payload["guid"])
    space = rows.by_guid(tx, spaces, job.payload["space_guid"])
    if space is None:
        return None
    (app,) = apply.create_missing(tx, settings, job.actor, space, [manifest], [])
    return app
