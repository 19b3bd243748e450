"""The jobs of OSMAPI on an instance: a backup, a restore (osmapi-and-extensions.md section 4).

A backup leaves the last operation alone; a restore is shown as an update, because older clients know no other word.
Neither is asked for twice after a kill, and neither leaves anything to be removed.
"""

import logging
from functools import partial
from typing import Any

from sqlalchemy import Row

from cupola.brokers.client import BrokerClient, LastOperation
from cupola.brokers.facts import Facts, of_instance
from cupola.brokers.instance_jobs import request_of
from cupola.brokers.osmapi import OsmapiClient, RestoreRequest, Started
from cupola.brokers.outcomes import NotDone, broker_failed, late, not_done
from cupola.brokers.parties import Caller
from cupola.brokers.polling import expired, next_poll
from cupola.brokers.problems import BrokerError
from cupola.config import Settings
from cupola.domain import last_operations, service_errors, service_events
from cupola.errors import CloudError
from cupola.jobs.outside import Done, Job, Outcome, Outside, OutsideJob, Poll
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.service_instances import service_instances as table

__all__ = ["handlers"]

_log = logging.getLogger(__name__)
_UNKNOWN = (
    "The platform was stopped while the service broker was asked, and does not know what became of it. "
    "Look at the backups, and ask again."
)


def handlers(settings: Settings, client: BrokerClient) -> dict[str, Outside]:
    """Job operation to handler."""
    jobs = _BackupJobs(settings, OsmapiClient(client.transport))
    return {
        "service_instance.backup": Outside(jobs.backup),
        "service_instance.restore": Outside(jobs.restore, jobs.restore_failed),
    }


class _BackupJobs:
    def __init__(self, settings: Settings, client: OsmapiClient) -> None:
        self._settings = settings
        self._client = client

    async def backup(self, job: OutsideJob) -> Outcome:
        """Have the broker make a backup."""
        facts = await job.read(partial(_facts, job))
        if job.payload.get("accepted"):
            return await self._poll(job, facts, "backup")
        await self._ask_once(job, "backup")
        try:
            started = await self._client.create_backup(
                facts.broker, Caller.of_job(job), facts.instance.guid, facts.ids, _context(facts)
            )
        except BrokerError as error:
            raise broker_failed("backup", error) from error
        if started.state == "in progress":
            return await self._goes_on(job, facts, "backup", started)
        made = started.backup.id if started.backup is not None else None
        return Done(lambda tx: self._ended(tx, job, "backup", made))

    async def restore(self, job: OutsideJob) -> Outcome:
        """Have the broker bring an instance back to what it was."""
        facts = await job.read(partial(_facts, job))
        if job.payload.get("accepted"):
            return await self._poll(job, facts, "restore")
        await self._ask_once(job, "restore")
        body = await job.read(lambda tx: request_of(tx, job.payload))
        request = RestoreRequest(
            body.get("backup_id"),
            body.get("target_timestamp"),
            body.get("restore_point"),
            body.get("source_service_instance_guid"),
        )
        try:
            started = await self._client.restore(
                facts.broker, Caller.of_job(job), facts.instance.guid, facts.ids, _context(facts), request
            )
        except BrokerError as error:
            raise broker_failed("restore", error) from error
        if started.state == "in progress":
            return await self._goes_on(job, facts, "restore", started)
        return Done(lambda tx: self._ended(tx, job, "restore", None))

    async def _ask_once(self, job: OutsideJob, verb: str) -> None:
        if job.payload.get("asked"):
            raise not_done(verb, _UNKNOWN)
        job.payload["asked"] = True
        await job.keep()

    async def _goes_on(self, job: OutsideJob, facts: Facts, verb: str, started: Started) -> Outcome:
        job.payload["accepted"] = True

        def note(tx: Tx) -> None:
            # What the broker calls its work may be as secret as what the user asked for.
            if started.operation is not None:
                job.payload["operation"] = tx.vault.seal(started.operation.encode(), "jobs.operation")

        await job.write(note)
        return await self._poll(job, facts, verb)

    async def _poll(self, job: OutsideJob, facts: Facts, verb: str) -> Outcome:
        found = await self._ask(job, facts)
        if found is None or found.state == "in progress":
            return self._again(job, facts, verb, found)
        if found.state == "failed":
            raise not_done(verb, found.description or f"The service broker failed to {verb} the service instance.")
        return Done(lambda tx: self._ended(tx, job, verb, None, found.description))

    async def _ask(self, job: OutsideJob, facts: Facts) -> LastOperation | None:
        kept = job.payload.get("operation")
        operation = None
        if kept is not None:
            operation = await job.read(lambda tx: tx.vault.open(kept, "jobs.operation").decode())
        try:
            return await self._client.last_operation(
                facts.broker, Caller.of_job(job), facts.instance.guid, facts.ids, operation
            )
        except BrokerError as error:
            _log.info(
                "service instance %s: the broker was not asked how far it is: %s", facts.instance.guid, error.text
            )
            return None

    def _again(self, job: OutsideJob, facts: Facts, verb: str, found: LastOperation | None) -> Outcome:
        polls = int(job.payload.get("polls", 0))
        job.payload["polls"] = polls + 1
        seconds = next_poll(self._settings.brokers, polls, found.retry_after if found is not None else None)

        def note(tx: Tx) -> None:
            until = tx.now + int(seconds * 1_000_000)
            if expired(self._settings.brokers, job.created_at, until, facts.offer.maximum_polling_duration):
                raise late(verb)
            if verb == "restore" and found is not None:
                values = {"operation_description": found.description, "operation_updated_at": tx.now}
                rows.change(tx, table, _instance(tx, job), values)

        return Poll(seconds, note)

    def _ended(self, tx: Tx, job: Job, verb: str, backup_id: str | None, description: str | None = None) -> None:
        instance = _instance(tx, job)
        data: dict[str, Any] = {"request": request_of(tx, job.payload) if "request" in job.payload else {}}
        if verb == "restore":
            values = last_operations.ended(tx, "update", "succeeded", description)
            instance = rows.change(tx, table, instance, values)
        elif backup_id is not None:
            data["backup_id"] = backup_id
        service_events.of_instance(tx, verb, job.actor, instance, data)

    def restore_failed(self, tx: Tx, job: Job, error: CloudError) -> None:
        """The instance is what its broker says; the last operation says that it was not restored."""
        instance = rows.by_guid(tx, table, job.payload["guid"])
        if instance is not None and instance.operation_type == "update":
            text = error.description if isinstance(error, NotDone) else error.detail
            rows.change(tx, table, instance, last_operations.ended(tx, "update", "failed", text))


def _context(facts: Facts) -> dict[str, Any]:
    return {**facts.context, "instance_name": facts.instance.name}


def _instance(tx: Tx, job: Job) -> Row[Any]:
    instance = rows.by_guid(tx, table, job.payload["guid"])
    if instance is None:
        guid = job.payload["guid"]
        raise service_errors.not_found_with(f"The service instance could not be found: {guid}.")
    return instance


def _facts(job: Job, tx: Tx) -> Facts:
    facts = of_instance(tx, _instance(tx, job).guid)
    assert facts is not None, "a managed instance has a plan"
    return facts
