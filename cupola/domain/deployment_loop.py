"""Deployments, step by step: new instances replace old ones a few at a time (reference/behaviours.md section 11).

All state is in rows: `step` looks at one deployment and what the cells reported, and may be called at any time.
Routable instances never go below the wanted number because of it: an old one goes only when a new one serves.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.exc import SQLAlchemyError

from cupola import guid
from cupola.config import Settings
from cupola.domain import deployments as rules
from cupola.domain import processes, quotas
from cupola.domain.deployments import Plan
from cupola.errors import CloudError
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.database import Database, Tx
from cupola.store.deployments import deployments
from cupola.store.instances import instances
from cupola.store.platform import audit_events

__all__ = ["DeploymentLoop", "run", "step"]

_log = logging.getLogger(__name__)
_SECOND = 1_000_000
_PATIENCE = 30
"""Seconds beyond the start timeout of an instance after which a deployment without progress says so."""
_START_TIMEOUT = 60
"""Seconds an instance has to become healthy where the process does not say (app-runtime.md section 8)."""


def step(tx: Tx, deployment: Row[Any]) -> bool:
    """Take the next step, if one is due; True when something changed."""
    if deployment.status_value != "ACTIVE" or deployment.status_reason == "PAUSED":
        return False
    app = rows.by_guid(tx, apps, deployment.app_guid)
    webs = rules.web_processes(tx, deployment.app_guid)
    new = next((row for row in webs if row.guid == deployment.deploying_process_guid), None)
    old = [row for row in webs if row.guid != deployment.deploying_process_guid]
    if app is None or new is None:
        rules.finish(tx, deployment, "CANCELED")
        return True
    changed = (_back if deployment.status_reason == "CANCELING" else _forward)(tx, app, deployment, new, old)
    if changed:
        for bell in ("desired", "routes", "deployments"):
            tx.ring(bell)
    return changed


def _forward(tx: Tx, app: Row[Any], deployment: Row[Any], new: Row[Any], old: list[Row[Any]]) -> bool:
    plan = rules.plan(deployment)
    found = _instances(tx, new)
    healthy = sum(map(_serves, found))
    done = healthy >= plan.new and new.instances >= plan.new
    if done and not plan.pauses:
        _finalize(tx, app, deployment, plan, new, old)
        return True
    changed = _shrink(tx, old, max(0, plan.total - healthy))
    if done:
        paused = {"status_reason": "PAUSED", "status_changed_at": tx.now}
        rows.change(tx, deployments, deployment, {**paused, "last_healthy_at": tx.now, "error": None})
        return True
    error = _trouble(tx, app, deployment, new, found)
    if healthy and healthy >= new.instances:
        deployment = rows.change(tx, deployments, deployment, {"last_healthy_at": tx.now})
    wanted = min(plan.new, healthy + plan.in_flight)
    if wanted > new.instances and not any(map(_ails, found)):
        refused = _refused(tx, app, new, wanted)
        if refused is None:
            processes.change(tx, new, {"instances": wanted})
            changed = True
        error = refused
    if error != deployment.error:
        rows.change(tx, deployments, deployment, {"error": error})
        changed = True
    return changed


def _refused(tx: Tx, app: Row[Any], process: Row[Any], wanted: int) -> str | None:
    """Why a quota forbids so many instances, if it does."""
    try:
        quotas.require_processes(tx, app.space_guid, [quotas.size_of(process, instances=wanted)])
    except CloudError as error:
        return quotas.explained_for_deployment(tx, app, error).detail
    return None


def _finalize(tx: Tx, app: Row[Any], deployment: Row[Any], plan: Plan, new: Row[Any], old: Sequence[Row[Any]]) -> None:
    processes.remove(tx, old)
    if new.instances != plan.new:
        processes.change(tx, new, {"instances": plan.new})
    for row in processes.of_app(tx, app.guid):
        if row.type != "web":
            own = {"version": guid.new(), "state": app.state, "droplet_guid": deployment.droplet_guid}
            processes.change(tx, row, {**own, "revision_guid": deployment.revision_guid})
    rules.finish(tx, rows.change(tx, deployments, deployment, {"last_healthy_at": tx.now}), "DEPLOYED")


def _back(tx: Tx, app: Row[Any], deployment: Row[Any], new: Row[Any], old: list[Row[Any]]) -> bool:
    kept = next((row for row in old if row.guid == deployment.kept_process_guid), None)
    if kept is None:
        rules.finish(tx, deployment, "CANCELED")
        return True
    total = deployment.original_instances
    changed = False
    # Those that were told to stop look as if they served until they are gone: they are not to be counted on.
    if kept.instances != total and not _leaving(tx, kept):
        kept = processes.change(tx, kept, {"instances": total})
        changed = True
    others = [row for row in (*old, new) if row.guid != kept.guid]
    healthy = sum(map(_serves, _instances(tx, kept)))
    if (healthy >= total and kept.instances == total) or app.state == "STOPPED":
        processes.remove(tx, others)
        rules.finish(tx, deployment, "CANCELED")
        return True
    # What does not serve makes room at once: the instances that come back may need it.
    for row in others:
        useful = max((one._mapping["index"] + 1 for one in _instances(tx, row) if _serves(one)), default=0)
        if useful < row.instances:
            processes.change(tx, row, {"instances": useful})
            changed = True
    others = [row for row in rules.web_processes(tx, app.guid) if row.guid != kept.guid]
    changed = _shrink(tx, others, max(0, total - healthy)) or changed
    error = _trouble(tx, app, deployment, kept, _instances(tx, kept))
    if error != deployment.error:
        rows.change(tx, deployments, deployment, {"error": error})
        changed = True
    return changed


def _shrink(tx: Tx, old: Sequence[Row[Any]], wanted: int) -> bool:
    """Take instances away until `wanted` are left, or fewer than `wanted` of them would serve.

    What does not serve goes first, then what the oldest process has. Only the highest index of a process can go.
    """
    serving = {row.guid: {one._mapping["index"] for one in _instances(tx, row) if _serves(one)} for row in old}
    left = {row.guid: row.instances for row in old}
    surplus = sum(left.values()) - wanted
    for row in old:
        useful = max(serving[row.guid], default=-1) + 1
        take = max(0, min(left[row.guid] - useful, surplus))
        left[row.guid] -= take
        surplus -= take
    spare = sum(map(len, serving.values())) - wanted
    for row in old:
        while surplus > 0 and left[row.guid] > 0:
            spare -= left[row.guid] - 1 in serving[row.guid]
            if spare < 0:
                break
            left[row.guid] -= 1
            surplus -= 1
        if spare < 0:
            break
    changed = [row for row in old if left[row.guid] != row.instances]
    for row in changed:
        processes.change(tx, row, {"instances": left[row.guid]})
    return bool(changed)


def _instances(tx: Tx, process: Row[Any]) -> Sequence[Row[Any]]:
    """Instances of a process as it is now; indexes that are about to go do not count."""
    statement = select(instances).where(
        instances.c.process_guid == process.guid,
        instances.c.version == process.version,
        instances.c.index < process.instances,
    )
    return tx.all(statement)


def _leaving(tx: Tx, process: Row[Any]) -> bool:
    statement = select(instances.c.index).where(
        instances.c.process_guid == process.guid,
        instances.c.version == process.version,
        instances.c.index >= process.instances,
    )
    return tx.one(statement.limit(1)) is not None


def _serves(instance: Row[Any]) -> bool:
    return bool(instance.state == "RUNNING" and instance.routable)


def _ails(instance: Row[Any]) -> bool:
    # Cells start a crashed instance again twice without waiting: meanwhile it is STARTING.
    return bool(instance.state in {"CRASHED", "DOWN"} or (instance.crash_count and instance.state != "RUNNING"))


def _trouble(tx: Tx, app: Row[Any], deployment: Row[Any], process: Row[Any], found: Sequence[Row[Any]]) -> str | None:
    """What keeps a deployment from going on, in words for the app's developer; stable while nothing changes."""
    if app.state == "STOPPED":
        return "The app is stopped. Start it to go on, or cancel the deployment."
    what = f"of {process.instances} instance{'' if process.instances == 1 else 's'}"
    down = [one for one in found if one.state == "DOWN" and one.details]
    if down:
        return f"{len(down)} {what} cannot be placed: {down[0].details}"
    crashed = [one for one in found if _ails(one)]
    if crashed:
        return f"{len(crashed)} {what} crashed{_last_words(tx, process)}"
    limit = (process.health_check_timeout or _START_TIMEOUT) + _PATIENCE
    since = max(deployment.status_changed_at or 0, deployment.last_healthy_at or 0, process.updated_at)
    if tx.now - since < limit * _SECOND:
        return None
    if not found:
        return (
            f"No cell took up the instances within {limit} s. An operator can see with `cupola status` whether it runs."
        )
    waiting = [one for one in found if one.state == "RUNNING" and not one.routable]
    if waiting:
        return f"{len(waiting)} {what} did not pass the readiness check within {limit} s"
    return f"{sum(not _serves(one) for one in found)} {what} did not become healthy within {limit} s"


def _last_words(tx: Tx, process: Row[Any]) -> str:
    crash = select(audit_events.c.data).where(
        audit_events.c.target_guid == process.guid, audit_events.c.type == "audit.app.process.crash"
    )
    data = tx.scalar(crash.order_by(audit_events.c.id.desc()).limit(1))
    return f": {data['exit_description']}" if data and data.get("exit_description") else ""


class DeploymentLoop:
    """Runs `step` for every active deployment on the bells `instances` and `deployments`, and every second."""

    def __init__(self, database: Database, period: float = 1.0) -> None:
        self._database = database
        self._period = period

    async def run(self) -> None:
        """Until cancelled."""
        listener = self._database.bells.listen("instances", "deployments")
        try:
            while True:
                await asyncio.to_thread(self.once)
                await listener.wait(self._period)
        finally:
            listener.close()

    def once(self) -> None:
        """Move every deployment on that can be moved; one that cannot does not hold up the others. Blocking."""
        waiting = select(deployments.c.guid).where(
            deployments.c.status_value == "ACTIVE", deployments.c.status_reason != "PAUSED"
        )
        try:
            with self._database.read() as tx:
                found = tx.scalars(waiting.order_by(deployments.c.id))
        except SQLAlchemyError:
            _log.exception("deployments could not be looked up; trying again in %s s", self._period)
            return
        for one in found:
            try:
                with self._database.write() as tx:
                    row = tx.one(select(deployments).where(deployments.c.guid == one).with_for_update())
                    if row is not None:
                        step(tx, row)
            except SQLAlchemyError:
                _log.exception("deployment %s could not be moved on; trying again in %s s", one, self._period)


async def run(database: Database, settings: Settings) -> None:
    """The loop as the controller runs it."""
    await DeploymentLoop(database).run()
