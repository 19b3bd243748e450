"""The jobs of managed service instances: provision, update, deprovision (service-brokers.md sections 6 to 8).

Each is durable. What its broker was asked lies in the job's payload before it is asked:

    asked      the request is on its way; a platform that was killed meanwhile does not know what became of it
    accepted   the broker said that it goes on; from then on it is only asked how far it is
    polls      how often it was

An instance is never provisioned twice: what was asked without an answer is taken for failed, and removed as an orphan.
"""

import logging
from typing import Any

import msgspec
from sqlalchemy import Row

from cupola.brokers import unbinding
from cupola.brokers.client import BrokerClient, CatalogIds, LastOperation, Operated, ProvisionRequest, UpdateRequest
from cupola.brokers.facts import Facts, of_instance
from cupola.brokers.outcomes import NotDone, broker_failed, late, not_done, text_of
from cupola.brokers.parties import Caller
from cupola.brokers.polling import expired, next_poll
from cupola.brokers.problems import BrokerError
from cupola.config import Settings
from cupola.domain import (
    last_operations,
    service_bindings,
    service_errors,
    service_events,
    service_instances,
    service_offers,
    service_orphans,
)
from cupola.domain import service_instance_sharing as sharing
from cupola.domain import service_instance_updates as updates
from cupola.errors import CloudError
from cupola.jobs.outside import Done, Job, Outcome, Outside, OutsideJob, Poll
from cupola.roles import Actor
from cupola.store import rows, sealed
from cupola.store.database import Tx
from cupola.store.service_instances import service_instances as table

__all__ = ["InstanceJobs", "handlers", "request_of"]

_log = logging.getLogger(__name__)
_UNKNOWN = (
    "The platform was stopped while the service broker was asked, and does not know what became of it. "
    "What there may be of it is removed; create the service instance again."
)
NO_ROUTES = "Support for route services is disabled. This service instance cannot be bound to a route."
NO_VOLUMES = "Support for volume services is disabled. This service instance cannot be bound to an app."


def handlers(settings: Settings, client: BrokerClient) -> dict[str, Outside]:
    """Job operation to handler."""
    jobs = InstanceJobs(settings, client)
    return {
        "service_instance.create": Outside(jobs.provision, jobs.provision_failed),
        "service_instance.update": Outside(jobs.update, jobs.update_failed),
        "service_instance.delete": Outside(jobs.deprovision, jobs.deprovision_failed),
    }


def request_of(tx: Tx, payload: dict[str, Any]) -> dict[str, Any]:
    """What the user asked for, as `seal_request` kept it."""
    found: dict[str, Any] = msgspec.json.decode(tx.vault.open(payload["request"], "jobs.request"))
    return found


class InstanceJobs:
    """What the jobs share: the settings and the client."""

    def __init__(self, settings: Settings, client: BrokerClient) -> None:
        self._settings = settings
        self._client = client

    # Provision.

    async def provision(self, job: OutsideJob) -> Outcome:
        """Have the broker make the instance."""
        facts = await job.read(lambda tx: _facts(tx, job))
        _require_operation(facts.instance, "create")
        if facts.instance.operation_state in {"succeeded", "failed"}:
            raise not_done("provision", facts.instance.operation_description or "it has ended already", keeps=True)
        if job.payload.get("accepted"):
            return await self._poll_provision(job, facts)
        if job.payload.get("asked"):
            raise not_done("provision", _UNKNOWN, orphan=True)
        job.payload["asked"] = True
        body = await job.write(lambda tx: request_of(tx, job.payload))
        request = ProvisionRequest(
            facts.ids,
            facts.context["organization_guid"],
            facts.context["space_guid"],
            {**facts.context, "instance_name": facts.instance.name, "instance_annotations": facts.annotations},
            body.get("parameters"),
            facts.offer.maintenance_info or None,
        )
        try:
            answer = await self._client.provision(facts.broker, Caller.of_job(job), facts.instance.guid, request)
        except BrokerError as error:
            raise broker_failed("provision", error) from error
        if answer.state == "in progress":
            job.payload["accepted"] = True
            await job.write(lambda tx: self._started(tx, job, "create", answer))
            return await self._poll_provision(job, facts)
        return Done(lambda tx: _provisioned(tx, job, answer.dashboard_url, answer.metadata, ""), self._warnings(facts))

    async def _poll_provision(self, job: OutsideJob, facts: Facts) -> Outcome:
        found = await self._ask(job, facts, facts.ids)
        if found is None or found.state == "in progress":
            return self._again(job, facts, "provision", "create", found)
        if found.state == "failed":
            raise not_done("create managed", found.description or "")
        dashboard_url, metadata = await self._fetched(job, facts)
        return Done(lambda tx: _provisioned(tx, job, dashboard_url, metadata, found.description), self._warnings(facts))

    def provision_failed(self, tx: Tx, job: Job, error: CloudError) -> None:
        """The instance stays, to be seen and deleted; what the broker may have of it goes."""
        instance = rows.by_guid(tx, table, job.payload["guid"])
        if instance is None or _keeps(error) or instance.operation_type != "create":
            return
        if isinstance(error, NotDone) and error.orphan:
            service_orphans.of_instance(tx, instance)
        rows.change(tx, table, instance, last_operations.ended(tx, "create", "failed", _description(error)))

    def _warnings(self, facts: Facts) -> list[str]:
        services = self._settings.services
        warnings = []
        if "volume_mount" in facts.offer.requires and not services.volume_services:
            warnings.append(NO_VOLUMES)
        if "route_forwarding" in facts.offer.requires and not services.route_services:
            warnings.append(NO_ROUTES)
        return warnings

    # Update.

    async def update(self, job: OutsideJob) -> Outcome:
        """Have the broker change the instance; what it does not agree to is not written."""
        facts = await job.read(lambda tx: _facts(tx, job))
        _require_operation(facts.instance, "update")
        body, plan = await job.read(lambda tx: _wanted(tx, job, facts))
        ids = CatalogIds(plan.service_id, plan.catalog_id)
        if job.payload.get("accepted"):
            return await self._poll_update(job, facts)
        version = _maintenance(facts, plan, body)
        request = UpdateRequest(
            ids,
            _previous(facts),
            {**facts.context, "instance_name": (body.get("name") or facts.instance.name).strip()},
            body.get("parameters") or {},
            version,
        )
        try:
            answer = await self._client.update(facts.broker, Caller.of_job(job), facts.instance.guid, request)
        except BrokerError as error:
            raise broker_failed("update", error) from error
        if answer.state == "in progress":
            job.payload["accepted"] = True
            await job.write(lambda tx: self._started(tx, job, "update", answer))
            return await self._poll_update(job, facts)
        return Done(lambda tx: _updated(tx, job, answer.dashboard_url, answer.metadata, ""), self._warnings(facts))

    async def _poll_update(self, job: OutsideJob, facts: Facts) -> Outcome:
        found = await self._ask(job, facts, facts.ids)
        if found is None or found.state == "in progress":
            return self._again(job, facts, "update", "update", found)
        if found.state == "failed":
            raise not_done("update", found.description or "")
        dashboard_url, metadata = await self._fetched(job, facts)
        return Done(lambda tx: _updated(tx, job, dashboard_url, metadata, found.description), self._warnings(facts))

    def update_failed(self, tx: Tx, job: Job, error: CloudError) -> None:
        """The instance is what it was."""
        instance = rows.by_guid(tx, table, job.payload["guid"])
        if instance is not None and instance.operation_type == "update":
            rows.change(tx, table, instance, last_operations.ended(tx, "update", "failed", _description(error)))

    # Deprovision.

    async def deprovision(self, job: OutsideJob) -> Outcome:
        """Remove what is bound, end what is shared, then have the broker remove the instance."""
        facts = await job.read(lambda tx: of_instance(tx, job.payload["guid"]))
        if facts is None:
            return Done()
        if job.payload.get("accepted"):
            return await self._poll_deprovision(job, facts)
        answer = await self.remove(job, facts, job.payload)
        if answer.state == "in progress":
            job.payload["accepted"] = True
            await job.write(lambda tx: self._started(tx, job, "delete", answer))
            return await self._poll_deprovision(job, facts)
        return Done(lambda tx: _deprovisioned(tx, job.actor, job.payload["guid"]))

    async def remove(self, job: OutsideJob, facts: Facts, memo: dict[str, Any]) -> Operated:
        """Have the broker remove an instance and all that is its own; its row is still there. Raises NotDone.

        `memo` is the part of the payload that is about this instance.
        """
        if not memo.get("begun"):
            memo["before"] = last_operations.kept(facts.instance)
            memo["begun"] = True
            await job.write(lambda tx: _begin_deletion(tx, facts.instance.guid))
        caller = Caller.of_job(job)
        causes = await unbinding.remove_all(
            job,
            self._client,
            caller,
            job.actor,
            lambda tx: list(service_bindings.of_instance(tx, facts.instance.guid)),
            unbinding.words_of_binding,
        )
        if causes:
            raise not_done("delete", causes[0])
        await job.write(lambda tx: sharing.end_all(tx, job.actor, facts.instance))
        try:
            return await self._client.deprovision(facts.broker, caller, facts.instance.guid, facts.ids)
        except BrokerError as error:
            if error.kind == "ConcurrencyError":
                busy = service_errors.busy(facts.instance.name)
                raise NotDone(busy, busy.detail) from error
            raise not_done("delete", f"Service instance {facts.instance.name}: {error.text}") from error

    async def remove_within(self, job: OutsideJob, facts: Facts, memo: dict[str, Any]) -> str | None:
        """Remove an instance because its space goes; why it is still there, or None."""
        guid = facts.instance.guid
        try:
            answer = await self.remove(job, facts, memo)
        except NotDone as error:
            problem = error
            await job.write(lambda tx: self.removal_failed(tx, guid, memo, problem))
            return error.description
        if answer.state == "in progress":
            return await job.write(lambda tx: self._hand_over(tx, job, facts, memo, answer))
        await job.write(lambda tx: _deprovisioned(tx, job.actor, guid))
        return None

    def _hand_over(self, tx: Tx, job: Job, facts: Facts, memo: dict[str, Any], answer: Operated) -> str:
        """A job of its own asks the broker from now on."""
        memo.clear()
        instance = rows.by_guid(tx, table, facts.instance.guid)
        if instance is not None:
            values = {"broker_operation": sealed.seal(tx, table.c.broker_operation, answer.operation)}
            changed = rows.change(tx, table, instance, values)
            service_events.of_instance(tx, "start_delete", job.actor, changed, {"request": {}})
            more = {"begun": True, "accepted": True}
            request_id = str(job.payload.get("request_id", ""))
            service_instances.enqueue(
                tx, "service_instance.delete", job.actor, changed, facts.offer, request_id, more=more
            )
        return service_errors.busy(facts.instance.name).detail

    async def _poll_deprovision(self, job: OutsideJob, facts: Facts) -> Outcome:
        found = await self._ask(job, facts, facts.ids, deleting=True)
        if found is None or found.state == "in progress":
            return self._again(job, facts, "deprovision", "delete", found)
        if found.state == "failed":
            raise not_done("delete", found.description or "")
        return Done(lambda tx: _deprovisioned(tx, job.actor, job.payload["guid"]))

    def deprovision_failed(self, tx: Tx, job: Job, error: CloudError) -> None:
        """The instance stays."""
        self.removal_failed(tx, job.payload["guid"], job.payload, error)

    def removal_failed(self, tx: Tx, guid: str, memo: dict[str, Any], error: CloudError) -> None:
        """The instance stays; a creation that was under way goes on."""
        instance = rows.by_guid(tx, table, guid)
        if instance is None or instance.operation_type != "delete" or _keeps(error):
            return
        before = memo.get("before") or {}
        values = last_operations.ended(tx, "delete", "failed", _description(error))
        if before.get("operation_state") == "in progress" and not memo.get("accepted"):
            values = before
        rows.change(tx, table, instance, values)

    # What they share.

    def _started(self, tx: Tx, job: Job, type_: str, answer: Operated) -> None:
        instance = _instance(tx, job)
        _require_operation(instance, type_)
        values: dict[str, Any] = {
            "operation_state": "in progress",
            "operation_updated_at": tx.now,
            "broker_operation": sealed.seal(tx, table.c.broker_operation, answer.operation),
            **_seen(answer.dashboard_url, answer.metadata),
        }
        changed = rows.change(tx, table, instance, values)
        request = request_of(tx, job.payload) if "request" in job.payload else {}
        service_events.of_instance(tx, f"start_{type_}", job.actor, changed, {"request": request})

    async def _ask(
        self, job: OutsideJob, facts: Facts, ids: CatalogIds, *, deleting: bool = False
    ) -> LastOperation | None:
        """How far the broker is; None when it could not be asked, which says nothing about the instance."""
        operation = await job.read(lambda tx: _broker_operation(tx, job))
        try:
            return await self._client.last_operation(
                facts.broker, Caller.of_job(job), facts.instance.guid, ids, operation, deleting=deleting
            )
        except BrokerError as error:
            _log.info(
                "service instance %s: the broker was not asked how far it is: %s", facts.instance.guid, error.text
            )
            return None

    def _again(self, job: OutsideJob, facts: Facts, verb: str, type_: str, found: LastOperation | None) -> Outcome:
        polls = int(job.payload.get("polls", 0))
        job.payload["polls"] = polls + 1
        seconds = next_poll(self._settings.brokers, polls, found.retry_after if found is not None else None)

        def note(tx: Tx) -> None:
            instance = rows.by_guid(tx, table, job.payload["guid"])
            if instance is None:
                return  # purged meanwhile: the next look ends the job
            _require_operation(instance, type_)
            if expired(
                self._settings.brokers,
                job.created_at,
                tx.now + int(seconds * 1_000_000),
                facts.offer.maximum_polling_duration,
            ):
                raise late(verb, orphan=type_ == "create")
            if found is not None:
                values = {"operation_description": found.description, "operation_updated_at": tx.now}
                rows.change(tx, table, instance, values)

        return Poll(seconds, note)

    async def _fetched(self, job: OutsideJob, facts: Facts) -> tuple[str | None, dict[str, Any] | None]:
        """Dashboard and metadata of an instance that is ready; whatever goes wrong, it is."""
        if not facts.offer.instances_retrievable:
            return None, None
        try:
            found = await self._client.fetch_instance(facts.broker, Caller.of_job(job), facts.instance.guid)
        except BrokerError as error:
            _log.info("service instance %s: its broker does not show it: %s", facts.instance.guid, text_of(error))
            return None, None
        return found.dashboard_url, found.metadata


def _instance(tx: Tx, job: Job) -> Row[Any]:
    instance = rows.by_guid(tx, table, job.payload["guid"])
    if instance is None:
        guid = job.payload["guid"]
        raise service_errors.not_found_with(f"The service instance could not be found: {guid}.")
    return instance


def _facts(tx: Tx, job: Job) -> Facts:
    facts = of_instance(tx, _instance(tx, job).guid)
    assert facts is not None, "a managed instance has a plan"
    return facts


def _require_operation(instance: Row[Any], type_: str) -> None:
    """The job's own operation is the last one: a deletion ends a creation."""
    if instance.operation_type != type_:
        raise not_done(type_, f"{instance.operation_type} {instance.operation_state}", keeps=True)


def _keeps(error: CloudError) -> bool:
    return isinstance(error, NotDone) and error.keeps


def _description(error: CloudError) -> str:
    return error.description if isinstance(error, NotDone) else error.detail


def _broker_operation(tx: Tx, job: Job) -> str | None:
    instance = _instance(tx, job)
    found: str | None = sealed.opened(tx, table.c.broker_operation, instance.broker_operation)
    return found


def _seen(dashboard_url: str | None, metadata: dict[str, Any] | None) -> dict[str, Any]:
    """Columns that a broker fills, as far as it did."""
    values: dict[str, Any] = {}
    if dashboard_url:
        values["dashboard_url"] = dashboard_url
    if metadata:
        values["broker_provided_metadata"] = metadata
    return values


def _provisioned(
    tx: Tx, job: Job, dashboard_url: str | None, metadata: dict[str, Any] | None, description: str | None
) -> None:
    instance = _instance(tx, job)
    _require_operation(instance, "create")
    values = {**last_operations.ended(tx, "create", "succeeded", description), **_seen(dashboard_url, metadata)}
    changed = rows.change(tx, table, instance, values)
    service_events.of_instance(tx, "create", job.actor, changed, {"request": request_of(tx, job.payload)})


def _wanted(tx: Tx, job: Job, facts: Facts) -> tuple[dict[str, Any], Row[Any]]:
    """What the user asked for, and the plan that the instance is to have."""
    body = request_of(tx, job.payload)
    guid = updates.plan_guid_of(body)
    if guid is None or guid == facts.offer.guid:
        return body, facts.offer
    plan = service_offers.of_plan(tx, guid)
    if plan is None:
        error = CloudError(110003, "CF-ServicePlanNotFound", 404, f"The service plan could not be found: {guid}")
        raise NotDone(error, error.detail)
    return body, plan


def _previous(facts: Facts) -> dict[str, Any]:
    return {
        "plan_id": facts.offer.catalog_id,
        "service_id": facts.offer.service_id,
        "organization_id": facts.context["organization_guid"],
        "space_id": facts.context["space_guid"],
        **({"maintenance_info": facts.instance.maintenance_info} if facts.instance.maintenance_info else {}),
    }


def _maintenance(facts: Facts, plan: Row[Any], body: dict[str, Any]) -> dict[str, Any] | None:
    """`{version}` of a new plan, else the version that was asked for."""
    info = plan.maintenance_info if plan.guid != facts.offer.guid else body.get("maintenance_info")
    return {"version": info["version"]} if info and info.get("version") else None


def _updated(
    tx: Tx, job: Job, dashboard_url: str | None, metadata: dict[str, Any] | None, description: str | None
) -> None:
    instance = _instance(tx, job)
    _require_operation(instance, "update")
    facts = _facts(tx, job)
    body, plan = _wanted(tx, job, facts)
    values = {**last_operations.ended(tx, "update", "succeeded", description), **_seen(dashboard_url, metadata)}
    if plan.guid != facts.offer.guid:
        values["maintenance_info"] = plan.maintenance_info or {}
    elif updates.version_of(body) is not None:
        info = facts.offer.maintenance_info or {}
        version = updates.version_of(body)
        values["maintenance_info"] = info if info.get("version") == version else {"version": version}
    changed = updates.apply(tx, instance, body, values)
    service_events.of_instance(tx, "update", job.actor, changed, {"request": body})


def _begin_deletion(tx: Tx, guid: str) -> None:
    instance = rows.by_guid(tx, table, guid)
    if instance is None:
        return
    if service_instances.is_blocked(instance):
        busy = service_errors.busy(instance.name)
        raise NotDone(busy, busy.detail, keeps=True)
    rows.change(tx, table, instance, last_operations.begun(tx, "delete"))


def _deprovisioned(tx: Tx, actor: Actor, guid: str) -> None:
    instance = rows.by_guid(tx, table, guid)
    if instance is not None:
        service_instances.remove(tx, instance)
        service_events.of_instance(tx, "delete", actor, instance, {"request": {}})
