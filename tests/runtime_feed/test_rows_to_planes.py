"""From rows to what cells and routers are told, and back: staging, running, routing, rolling over."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from cupola.bell import Bells
from cupola.config import Settings
from cupola.domain import deployment_loop, environments, instances, lifecycle, processes, revisions
from cupola.domain import deployments as deployment_rules
from cupola.roles import ADMIN, system_actor
from cupola.router import feed as router_feed
from cupola.runtime import desired, feed
from cupola.runtime.messages import (
    Actual,
    Event,
    Instance,
    InstanceChanged,
    InstanceCrashed,
    InstanceGone,
    Port,
    StagingResult,
    TaskFinished,
)
from cupola.staging import loop
from cupola.store import instances as instance_tables
from cupola.store import rows, sealed
from cupola.store.apps import apps
from cupola.store.apps import processes as process_table
from cupola.store.database import Database, Tx
from cupola.store.deployments import deployments
from cupola.store.identity import add_to_groups
from cupola.store.orgs import organization_quotas, organizations, spaces
from cupola.store.platform import audit_events, buildpacks
from cupola.store.routes import destinations, domains, routes
from cupola.store.schema import metadata
from cupola.store.staging import builds, droplets, packages

ACTOR = system_actor()
SETTINGS = Settings()


class Base64Vault:
    def derive(self, purpose: str) -> list[bytes]:
        return [purpose.encode().ljust(32)]

    def seal(self, plain: bytes, context: str) -> str:
        return f"{context}:{base64.b64encode(plain).decode()}"

    def open(self, sealed: str, context: str) -> bytes:
        bound, _, text = sealed.partition(":")
        assert bound == context
        return base64.b64decode(text)


@pytest.fixture
def tx(tmp_path: Path) -> Iterator[Tx]:
    database = Database("", tmp_path / "db", Base64Vault(), Bells())
    metadata.create_all(database.engine)
    with database.write() as open_tx:
        yield open_tx
    database.engine.dispose()


@pytest.fixture
def app(tx: Tx) -> Any:
    quota = rows.add(tx, organization_quotas, {"name": "q", "name_key": "q", "paid_services_allowed": True})
    values = {"name": "o", "name_key": "o"}
    if "quota_guid" in organizations.c:
        values["quota_guid"] = quota.guid
    organization = rows.add(tx, organizations, values)
    space = rows.add(tx, spaces, {"name": "s", "name_key": "s", "organization_guid": organization.guid})
    row = rows.add(tx, apps, {"name": "a", "name_key": "a", "space_guid": space.guid, "stack": "cflinuxfs4"})
    processes.add(tx, SETTINGS, ACTOR, row, "web")
    return row


def droplet_for(tx: Tx, app: Any, digest: str = "sha256:d1") -> Any:
    values = {
        "app_guid": app.guid,
        "state": "STAGED",
        "lifecycle_type": "buildpack",
        "digest": digest,
        "process_types": {"web": "run web", "worker": "run worker"},
        "sidecars": [],
    }
    return rows.add(tx, droplets, values)


def started(tx: Tx, app: Any) -> Any:
    app = lifecycle.set_current_droplet(tx, SETTINGS, ACTOR, app, droplet_for(tx, app))
    return lifecycle.start_app(tx, app, ACTOR)


def deployed(tx: Tx, app: Any, droplet: Any) -> Any:
    body = {"relationships": {"app": {"data": {"guid": app.guid}}}, "droplet": {"guid": droplet.guid}}
    return deployment_rules.create(tx, SETTINGS, ACTOR, body)


_numbers = iter(range(1, 10_000))


def report(tx: Tx, process: Any, index: int = 0, state: Any = "RUNNING") -> None:
    one = Instance(
        instance_guid=f"{process.guid}-{index}",
        process_guid=process.guid,
        version=process.version,
        index=index,
        state=state,
        since=tx.now,
        routable=state == "RUNNING",
        endpoint=f"tcp:10.0.0.1:{6000 + index}",
        host="10.0.0.1",
        ports=[Port(8080, 6000 + index)],
    )
    feed.apply(tx, SETTINGS, Event(next(_numbers), "cell", InstanceChanged(one)))


def fresh(tx: Tx, table: Any, row: Any) -> Any:
    return rows.by_guid(tx, table, row.guid)


def test_a_started_app_is_desired_with_its_environment(tx: Tx, app: Any) -> None:
    started(tx, app)
    before = tx.statements
    found = desired.compute(tx, SETTINGS, "cell", 1)
    spent = tx.statements - before
    (web,) = found.processes
    assert (web.command, web.droplet, web.instances) == ("run web", "sha256:d1", 1)
    application = json.loads(web.env["VCAP_APPLICATION"])
    assert application["process_id"] == app.guid
    assert application["version"] == web.version
    assert web.env["MEMORY_LIMIT"] == "1024m"
    tx.run(update(process_table).where(process_table.c.type == "worker").values(instances=2))
    before = tx.statements
    more = desired.compute(tx, SETTINGS, "cell", 2)
    assert tx.statements - before == spent
    delta = desired.difference(found, more)
    assert delta is not None
    assert [one.command for one in delta.set_processes] == ["run worker"]


def test_a_new_current_droplet_waits_for_the_restart(tx: Tx, app: Any) -> None:
    app = started(tx, app)
    app = lifecycle.set_current_droplet(tx, SETTINGS, ACTOR, app, droplet_for(tx, app, "sha256:d2"))
    assert desired.compute(tx, SETTINGS, "cell", 1).processes[0].droplet == "sha256:d1"
    lifecycle.restart_app(tx, app, ACTOR)
    assert desired.compute(tx, SETTINGS, "cell", 2).processes[0].droplet == "sha256:d2"
    latest = revisions.current(tx, app.guid)
    assert latest is not None
    assert (latest.version, latest.description) == (2, "New droplet deployed.")


def test_an_event_counts_once(tx: Tx, app: Any) -> None:
    started(tx, app)
    body = InstanceCrashed(
        process_guid=app.guid,
        version="v",
        instance_guid="i",
        index=0,
        at=tx.now,
        exit_description="x",
        crash_count=1,
        cell_id="cell",
    )
    for _ in range(2):
        feed.apply(tx, SETTINGS, Event(7, "cell", body))
    kinds = tx.scalars(select(audit_events.c.type))
    assert kinds.count("audit.app.process.crash") == 1


def test_routes_follow_instances(tx: Tx, app: Any) -> None:
    started(tx, app)
    domain = rows.add(tx, domains, {"name": "apps.localhost"})
    values = {"host": "a", "path": "", "domain_guid": domain.guid, "space_guid": app.space_guid, "options": {}}
    route = rows.add(tx, routes, values)
    rows.add(tx, destinations, {"route_guid": route.guid, "app_guid": app.guid})
    empty = router_feed.compute(tx, 1)
    assert [(one.host, one.endpoints) for one in empty.routes] == [("a.apps.localhost", [])]
    process = processes.newest(tx, app.guid, "web")
    assert process is not None
    report(tx, process)
    table = router_feed.compute(tx, 2)
    assert [one.address for one in table.routes[0].endpoints] == ["tcp:10.0.0.1:6000"]
    assert router_feed.difference(empty, table) is not None
    assert environments.uris(tx, [app.guid]) == {app.guid: ["a.apps.localhost"]}
    assert instances.stats(tx, process, {}, 100)[0]["state"] == "RUNNING"
    instances.terminate(tx, ACTOR, process, 0)
    assert desired.compute(tx, SETTINGS, "cell", 1).terminate == [f"{app.guid}-0"]
    gone = InstanceGone(f"{app.guid}-0", app.guid, 0, tx.now)
    feed.apply(tx, SETTINGS, Event(next(_numbers), "cell", gone))
    assert router_feed.compute(tx, 3).routes[0].endpoints == []
    assert instances.stats(tx, process, {}, 100)[0]["state"] == "DOWN"


def test_what_a_cell_has_replaces_what_was_known(tx: Tx, app: Any) -> None:
    process = processes.newest(tx, app.guid, "web")
    report(tx, process)
    feed.replace_actual(tx, Actual("cell", 10_000, [], []))
    assert tx.all(select(instance_tables.instances)) == []


def build_for(tx: Tx, app: Any) -> Any:
    values = {"app_guid": app.guid, "type": "bits", "state": "READY", "digest": "sha256:p"}
    package = rows.add(tx, packages, values)
    own = {"name": "b", "position": 1, "state": "READY", "digest": "sha256:" + "b" * 64}
    rows.add(tx, buildpacks, own)
    values = {
        "app_guid": app.guid,
        "package_guid": package.guid,
        "state": "STAGING",
        "lifecycle_type": "buildpack",
        "stack": "cflinuxfs4",
        "memory_mb": 1024,
        "disk_mb": 4096,
        "log_rate": -1,
    }
    return rows.add(tx, builds, values)


def test_a_build_is_staged(tx: Tx, app: Any) -> None:
    build = build_for(tx, app)
    (task,) = desired.compute(tx, SETTINGS, "cell", 1).tasks
    assert task.staging is not None
    assert (task.staging.skip_detect, [one["name"] for one in task.staging.buildpacks]) == (False, ["b"])
    result: dict[str, object] = {
        "process_types": {"web": "w"},
        "lifecycle_metadata": {"buildpacks": [{"key": task.staging.buildpacks[0]["key"], "name": "B", "version": "1"}]},
    }
    made = StagingResult(droplet="sha256:d", droplet_sha1="s", droplet_bytes=3, cache="sha256:c", result=result)
    done = TaskFinished(guid=build.guid, at=tx.now, exit_status=0, staging=made)
    feed.apply(tx, SETTINGS, Event(next(_numbers), "cell", done))
    build = fresh(tx, builds, build)
    droplet = rows.by_guid(tx, droplets, build.droplet_guid)
    assert droplet is not None
    assert (build.state, droplet.process_types, droplet.buildpacks[0]["name"]) == ("STAGED", {"web": "w"}, "b")
    assert desired.compute(tx, SETTINGS, "cell", 1).tasks == []


def test_a_build_fails_in_upstreams_words_and_after_its_time(tx: Tx, app: Any) -> None:
    build = build_for(tx, app)
    failed = TaskFinished(
        guid=build.guid, at=tx.now, exit_status=222, failure_reason="x", error_id="NoAppDetectedError"
    )
    feed.apply(tx, SETTINGS, Event(next(_numbers), "cell", failed))
    build = fresh(tx, builds, build)
    assert build.error_description == "An app was not successfully detected by any available buildpack: x"
    tx.run(update(builds).values(state="STAGING", started_at=tx.now - 10**10))
    assert loop.sweep(tx, SETTINGS) == 1
    build = fresh(tx, builds, build)
    assert (build.error_id, build.error_description) == ("StagingTimeExpired", "Staging time expired: staging failed")


def test_only_admins_name_buildpacks_on_any_host(tx: Tx, app: Any) -> None:
    build = build_for(tx, app)
    add_to_groups(tx, "an-admin", [ADMIN])
    for names, creator, anywhere in (
        (["https://host/bp.git"], "an-admin", True),
        (["https://host/bp.git"], "a-developer", False),
        (["b"], "an-admin", False),
    ):
        values = {"buildpacks": sealed.seal(tx, builds.c.buildpacks, names), "created_by_guid": creator}
        tx.run(update(builds).where(builds.c.guid == build.guid).values(values))
        (task,) = desired.compute(tx, SETTINGS, "cell", 1).tasks
        assert task.staging is not None
        assert task.staging.anywhere is anywhere


def test_a_rolling_deployment_never_goes_below_the_wanted_number(tx: Tx, app: Any) -> None:
    app = started(tx, app)
    tx.run(update(process_table).where(process_table.c.guid == app.guid).values(instances=3))
    made = deployed(tx, app, droplet_for(tx, app, "sha256:d2"))
    new = None
    for _ in range(20):
        made = fresh(tx, deployments, made)
        new = rows.by_guid(tx, process_table, made.deploying_process_guid)
        old = rows.by_guid(tx, process_table, app.guid)
        assert new is not None
        if made.status_value == "FINALIZED":
            break
        assert old is not None
        assert old.instances + new.instances <= 4
        for index in range(new.instances):
            report(tx, new, index)
        deployment_loop.step(tx, made)
    assert new is not None
    assert (made.status_reason, new.instances, old) == ("DEPLOYED", 3, None)
    assert desired.compute(tx, SETTINGS, "cell", 1).processes[0].droplet == "sha256:d2"


def test_a_cancelled_deployment_brings_the_old_ones_back(tx: Tx, app: Any) -> None:
    app = started(tx, app)
    before = app.droplet_guid
    made = deployed(tx, app, droplet_for(tx, app, "sha256:d2"))
    deployment_rules.cancel(tx, ACTOR, made)
    old = rows.by_guid(tx, process_table, app.guid)
    report(tx, old)
    deployment_loop.step(tx, fresh(tx, deployments, made))
    assert fresh(tx, deployments, made).status_reason == "CANCELED"
    assert fresh(tx, apps, app).droplet_guid == before
    assert [row.guid for row in processes.of_app(tx, app.guid) if row.type == "web"] == [app.guid]
