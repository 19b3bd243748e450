"""The jobs of bindings of managed instances, the same for apps, keys and routes: bind and unbind.

What a job's payload says is as in instance_jobs.py. A broker that goes on must also show the binding when it is ready
(`bindings_retrievable`): nobody would learn the credentials otherwise.
"""

import logging
from functools import partial
from typing import Any

from sqlalchemy import Row

from cupola.brokers import unbinding, volumes
from cupola.brokers.client import BindingDetails, BindRequest, BrokerClient, LastOperation
from cupola.brokers.facts import BindingFacts, of_binding
from cupola.brokers.instance_jobs import request_of
from cupola.brokers.outcomes import NotDone, broker_failed, late, not_done
from cupola.brokers.parties import Caller
from cupola.brokers.polling import expired, next_poll
from cupola.brokers.problems import BrokerError
from cupola.config import Settings
from cupola.domain import last_operations, service_bindings, service_errors, service_events, service_orphans
from cupola.domain.service_bindings import KINDS, ROUTE, Kind
from cupola.errors import CloudError
from cupola.jobs.outside import Done, Job, Outcome, Outside, OutsideJob, Poll
from cupola.store import rows, sealed
from cupola.store.database import Tx

__all__ = ["BindingJobs", "handlers"]

_log = logging.getLogger(__name__)
_NOT_SHOWN = "The broker responded asynchronously but does not support fetching binding data"
_UNKNOWN = (
    "The platform was stopped while the service broker was asked, and does not know what became of it. "
    "What there may be of it is removed; create the binding again."
)


def handlers(settings: Settings, client: BrokerClient) -> dict[str, Outside]:
    """Job operation to handler."""
    found = {}
    for kind in KINDS.values():
        jobs = BindingJobs(settings, client, kind)
        found[f"{kind.jobs}.create"] = Outside(jobs.bind, jobs.bind_failed)
        found[f"{kind.jobs}.delete"] = Outside(jobs.unbind, jobs.unbind_failed)
    return found


class BindingJobs:
    """The jobs of one kind of binding."""

    def __init__(self, settings: Settings, client: BrokerClient, kind: Kind) -> None:
        self._settings = settings
        self._client = client
        self._kind = kind

    # Bind.

    async def bind(self, job: OutsideJob) -> Outcome:
        """Have the broker make the binding."""
        facts = await job.read(partial(self._facts, job))
        if last_operations.delete_in_progress(facts.binding):
            raise not_done("create", "delete in progress", keeps=True)
        if not last_operations.in_progress(facts.binding):
            raise not_done("bind", facts.binding.operation_description or "it has ended already", keeps=True)
        if job.payload.get("accepted"):
            return await self._poll_bind(job, facts)
        if job.payload.get("asked"):
            raise not_done("bind", _UNKNOWN, orphan=True)
        job.payload["asked"] = True
        body = await job.write(lambda tx: request_of(tx, job.payload))
        request = BindRequest(facts.ids, facts.resource, facts.context, facts.app_guid, body.get("parameters") or None)
        try:
            answer = await self._client.bind(
                facts.broker,
                Caller.of_job(job),
                facts.instance.guid,
                facts.binding.guid,
                request,
                facts.offer.requires,
            )
        except BrokerError as error:
            raise broker_failed("bind", error) from error
        if answer.details is not None:
            details = answer.details
            return Done(lambda tx: self._bound(tx, job, details, None))
        if not facts.offer.bindings_retrievable:
            invalid = CloudError(
                90001, "CF-ServiceBindingInvalid", 400, f"The service binding is invalid: {_NOT_SHOWN}"
            )
            raise NotDone(invalid, _NOT_SHOWN)
        job.payload["accepted"] = True
        operation = answer.operation
        await job.write(lambda tx: self._started(tx, job, operation))
        return await self._poll_bind(job, facts)

    async def _poll_bind(self, job: OutsideJob, facts: BindingFacts) -> Outcome:
        found = await self._ask(job, facts)
        if found is None or found.state == "in progress":
            return self._again(job, facts, "bind", found)
        if found.state == "failed":
            raise not_done("create", found.description or "The service broker failed to create the binding.")
        try:
            details = await self._client.fetch_binding(
                facts.broker, Caller.of_job(job), facts.instance.guid, facts.binding.guid, facts.offer.requires
            )
        except BrokerError as error:
            raise broker_failed("bind", error) from error
        return Done(lambda tx: self._bound(tx, job, details, found.description))

    def bind_failed(self, tx: Tx, job: Job, error: CloudError) -> None:
        """The binding stays, to be seen and deleted; what the broker may have of it goes."""
        binding = self._row(tx, job)
        if binding is None or binding.operation_type != "create" or (isinstance(error, NotDone) and error.keeps):
            return
        if isinstance(error, NotDone) and error.orphan:
            service_orphans.of_binding(tx, binding)
        rows.change(tx, self._kind.table, binding, last_operations.ended(tx, "create", "failed", _text(error)))

    def _started(self, tx: Tx, job: Job, operation: str | None) -> None:
        binding = self._row(tx, job)
        if binding is None:
            raise self._gone(job)
        values = {
            "operation_state": "in progress",
            "operation_updated_at": tx.now,
            "broker_operation": sealed.seal(tx, self._kind.table.c.broker_operation, operation),
        }
        changed = rows.change(tx, self._kind.table, binding, values)
        self._record(tx, job, "start_create", changed)

    def _record(self, tx: Tx, job: Job, action: str, binding: Row[Any]) -> None:
        request, by_manifest = request_of(tx, job.payload), bool(job.payload.get("by_manifest"))
        service_events.of_binding(tx, action, job.actor, self._kind.event, binding, request, by_manifest=by_manifest)

    def _bound(self, tx: Tx, job: Job, details: BindingDetails, description: str | None) -> None:
        binding = self._row(tx, job)
        if binding is None:
            raise self._gone(job)
        if binding.operation_type != "create":
            raise not_done("create", f"{binding.operation_type} in progress", keeps=True)
        values = {**last_operations.ended(tx, "create", "succeeded", description), **self._given(tx, details)}
        changed = rows.change(tx, self._kind.table, binding, values)
        self._record(tx, job, "create", changed)
        service_bindings.ring(tx, self._kind)

    def _given(self, tx: Tx, details: BindingDetails) -> dict[str, Any]:
        """Columns of what the broker gives. Raises NotDone for volumes that cannot be had here."""
        if self._kind is ROUTE:
            return {"route_service_url": details.route_service_url}
        problem = volumes.problem(details.volume_mounts)
        if problem is not None:
            raise not_done("bind", problem, orphan=True)
        columns = self._kind.table.c
        drain = service_bindings.drain_url(details.syslog_drain_url)
        return {
            "credentials": sealed.seal(tx, columns.credentials, details.credentials),
            "syslog_drain_url": sealed.seal(tx, columns.syslog_drain_url, drain),
            "volume_mounts": sealed.seal(tx, columns.volume_mounts, details.volume_mounts or None),
            "endpoints": details.endpoints or None,
        }

    # Unbind.

    async def unbind(self, job: OutsideJob) -> Outcome:
        """Have the broker remove the binding."""
        facts = await job.read(lambda tx: of_binding(tx, self._kind, job.payload["guid"]))
        if facts is None:
            return Done()
        if not job.payload.get("accepted"):
            if not job.payload.get("begun"):
                job.payload["before"] = last_operations.kept(facts.binding)
                job.payload["begun"] = True
                await job.write(partial(self._begin_deletion, job))
            answer = await unbinding.ask(self._client, Caller.of_job(job), facts)
            if answer.state == "succeeded":
                return Done(partial(self._remove, job))
            job.payload["accepted"] = True
            await job.write(lambda tx: unbinding.goes_on(tx, job.actor, self._kind, self._require(tx, job), answer))
        found = await self._ask(job, facts, deleting=True)
        if found is None or found.state == "in progress":
            return self._again(job, facts, "unbind", found)
        if found.state == "failed":
            raise not_done("delete", found.description or "The service broker failed to delete the binding.")
        return Done(partial(self._remove, job))

    def _begin_deletion(self, job: Job, tx: Tx) -> None:
        binding = self._require(tx, job)
        unbinding.require_idle(binding)
        rows.change(tx, self._kind.table, binding, last_operations.begun(tx, "delete"))
        service_bindings.ring(tx, self._kind)

    def _remove(self, job: Job, tx: Tx) -> None:
        binding = self._row(tx, job)
        if binding is not None:
            service_bindings.remove(tx, job.actor, self._kind, binding)

    def unbind_failed(self, tx: Tx, job: Job, error: CloudError) -> None:
        """The binding stays; one that the broker was busy with is as it was."""
        binding = self._row(tx, job)
        if binding is None or binding.operation_type != "delete":
            return
        if isinstance(error, NotDone) and error.keeps:
            values = job.payload.get("before")
            if not job.payload.get("begun") or values is None:
                return
        else:
            values = last_operations.ended(tx, "delete", "failed", _text(error))
        rows.change(tx, self._kind.table, binding, values)
        service_bindings.ring(tx, self._kind)

    # What they share.

    def _row(self, tx: Tx, job: Job) -> Row[Any] | None:
        return rows.by_guid(tx, self._kind.table, job.payload["guid"])

    def _gone(self, job: Job) -> CloudError:
        return service_errors.not_found_with(f"The binding could not be found: {job.payload['guid']}")

    def _require(self, tx: Tx, job: Job) -> Row[Any]:
        binding = self._row(tx, job)
        if binding is None:
            raise self._gone(job)
        return binding

    def _facts(self, job: Job, tx: Tx) -> BindingFacts:
        facts = of_binding(tx, self._kind, job.payload["guid"])
        if facts is None:
            raise self._gone(job)
        return facts

    async def _ask(self, job: OutsideJob, facts: BindingFacts, *, deleting: bool = False) -> LastOperation | None:
        """How far the broker is; None when it could not be asked, which says nothing about the binding."""
        column = self._kind.table.c.broker_operation
        sealed_operation = await job.read(lambda tx: self._require(tx, job).broker_operation)
        operation = await job.read(lambda tx: sealed.opened(tx, column, sealed_operation))
        try:
            return await self._client.binding_last_operation(
                facts.broker,
                Caller.of_job(job),
                facts.instance.guid,
                facts.binding.guid,
                facts.ids,
                operation,
                deleting=deleting,
            )
        except BrokerError as error:
            _log.info("binding %s: the broker was not asked how far it is: %s", facts.binding.guid, error.text)
            return None

    def _again(self, job: OutsideJob, facts: BindingFacts, verb: str, found: LastOperation | None) -> Outcome:
        polls = int(job.payload.get("polls", 0))
        job.payload["polls"] = polls + 1
        seconds = next_poll(self._settings.brokers, polls, found.retry_after if found is not None else None)
        type_ = "create" if verb == "bind" else "delete"

        def note(tx: Tx) -> None:
            binding = self._row(tx, job)
            if binding is None:
                return  # removed meanwhile: the next look ends the job
            if binding.operation_type != type_:
                raise not_done(type_, f"{binding.operation_type} in progress", keeps=True)
            until = tx.now + int(seconds * 1_000_000)
            if expired(self._settings.brokers, job.created_at, until, facts.offer.maximum_polling_duration):
                raise late(verb, orphan=type_ == "create")
            if found is not None:
                values = {"operation_description": found.description, "operation_updated_at": tx.now}
                rows.change(tx, self._kind.table, binding, values)

        return Poll(seconds, note)


def _text(error: CloudError) -> str:
    return error.description if isinstance(error, NotDone) else error.detail
