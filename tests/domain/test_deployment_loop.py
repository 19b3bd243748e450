"""Deployments move on by what cells report: in whatever order that comes, the app goes on serving."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cupola.domain import builds_outcome
from cupola.domain.deployment_loop import DeploymentLoop
from cupola.store import rows
from cupola.store.app_usage_events import app_usage_events
from cupola.store.database import Database
from cupola.store.staging import builds, packages
from tests.cloud import open_cloud
from tests.databases import Prepared
from tests.deploying import Site
from tests.scripted_cell import Slot


@pytest.fixture
def site(fresh_database: Database, tmp_path: Path) -> Iterator[Site]:
    with open_cloud(fresh_database, tmp_path) as cloud:
        yield Site(cloud)


@pytest.fixture
def quick_site(sqlite_prepared: Prepared, tmp_path: Path) -> Iterator[Site]:
    """On SQLite alone: many runs of the same rules."""
    database = sqlite_prepared.fresh(tmp_path)
    with open_cloud(database, tmp_path) as cloud:
        yield Site(cloud)
    database.close()


class Watch:
    """Counts what serves: instances that run, are routable, and are not about to be stopped, as the router sees them."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def serving(self) -> int:
        """Routable instances whose process still wants them."""
        wanted = {(one.process_guid, one.version): one.instances for one in self._site.cell.desired().processes}
        return sum(
            1
            for (guid, index, version), one in self._site.cell.instances.items()
            if index < wanted.get((guid, version), 0) and one.state == "RUNNING" and one.routable
        )

    def wanted(self) -> int:
        """Instances of web processes that cells are told to run."""
        found = self._site.cell.desired().processes
        return sum(one.instances for one in found if one.log_source == "APP/PROC/WEB")


def _shuffled_steps(site: Site, chance: random.Random, watch: Watch, least: int, most: int) -> None:
    """One thing after the other, in an order that nobody planned, until nothing is left to do."""
    quiet = 0
    while quiet < 3:
        steps: list[Any] = [("start", slot) for slot in site.cell.missing()]
        steps += [("stop", slot) for slot in site.cell.surplus()]
        kind, slot = chance.choice([*steps, ("tick", None)])
        if kind == "tick":
            # A loop of its own each time: it remembers nothing, so it may be killed whenever one likes.
            DeploymentLoop(site.cloud.database).once()
        elif kind == "start":
            site.cell.run(slot)
        else:
            site.cell.stop(slot)
        assert watch.serving() >= least
        assert watch.wanted() <= most
        quiet = 0 if steps else quiet + 1


@pytest.mark.parametrize("seed", range(6))
def test_rolling_out_never_goes_below_the_wanted_number(quick_site: Site, seed: int) -> None:
    site, chance = quick_site, random.Random(seed)
    instances, in_flight = chance.randint(1, 5), chance.randint(1, 3)
    site.scale(instances)
    site.start()
    watch = Watch(site)
    assert watch.serving() == instances
    made = site.deploy(options={"max_in_flight": in_flight})
    _shuffled_steps(site, chance, watch, instances, instances + in_flight)
    assert site.reason(made) == "DEPLOYED"
    assert [(one["guid"], one["instances"]) for one in site.webs()] == [(made["new_processes"][0]["guid"], instances)]


@pytest.mark.parametrize("seed", range(6))
def test_neither_superseding_nor_cancelling_interrupts_the_app(quick_site: Site, seed: int) -> None:
    site, chance = quick_site, random.Random(seed)
    site.scale(4)
    site.start()
    watch = Watch(site)
    made = site.deploy()
    for _ in range(3):
        for _ in range(chance.randint(0, 8)):
            site.loop.once()
            missing: list[Slot] = site.cell.missing()
            if missing and chance.random() < 0.7:
                site.cell.run(chance.choice(missing))
            assert watch.serving() >= 4
        made = site.deploy()
        assert watch.serving() >= 4
    site.cloud.admin.ok("POST", f"/v3/deployments/{made['guid']}/actions/cancel")
    _shuffled_steps(site, chance, watch, 4, 12)
    assert site.reason(made) == "CANCELED"
    assert [one["instances"] for one in site.webs()] == [4]


def test_a_new_instance_that_does_not_serve_keeps_the_old_ones(site: Site) -> None:
    site.start()
    made = site.deploy(options={"max_in_flight": 2})
    first, second = site.cell.missing()
    site.cell.run(first, "RUNNING", routable=False)
    site.cell.crash(second, "APP/PROC/WEB: Exited with status 1")
    for _ in range(3):
        site.loop.once()
    assert [one["instances"] for one in site.webs()] == [2, 2]
    assert site.reason(made) == "DEPLOYING"
    site.cell.run(first)
    site.loop.once()
    assert [one["instances"] for one in site.webs()] == [1, 2]


def test_no_more_are_started_while_one_crashes(site: Site) -> None:
    site.scale(3)
    site.start()
    site.deploy(options={"max_in_flight": 2})
    first, second = site.cell.missing()
    site.cell.run(first)
    # The cell starts it again at once, twice: STARTING, but not well.
    site.cell.run(second, "STARTING", crashes=1)
    site.loop.once()
    assert [one["instances"] for one in site.webs()] == [2, 2]
    site.cell.run(second, crashes=1)
    site.loop.once()
    assert [one["instances"] for one in site.webs()] == [1, 3]


def test_cancelling_makes_room_for_those_that_come_back(site: Site) -> None:
    site.start()
    made = site.deploy(options={"max_in_flight": 2})
    first, second = site.cell.missing()
    site.cell.run(first)
    site.loop.once()
    assert [one["instances"] for one in site.webs()] == [1, 2]
    site.cell.crash(second, "APP/PROC/WEB: Exited with status 1")
    site.cloud.admin.ok("POST", f"/v3/deployments/{made['guid']}/actions/cancel")
    site.loop.once()
    # The old instance that was told to stop is not gone yet.
    assert [one["instances"] for one in site.webs()] == [1, 1]
    (leaving, crashed) = site.cell.surplus()
    assert (leaving[0], crashed[0]) == (site.app, second[0])
    site.cell.stop(leaving)
    site.loop.once()
    assert [one["instances"] for one in site.webs()] == [2, 1]
    site.settle()
    assert site.reason(made) == "CANCELED"


def test_cancelling_goes_back_to_the_last_that_worked(site: Site) -> None:
    site.start()
    works = site.deploy()
    site.loop.once()
    (slot,) = site.cell.missing()
    site.cell.run(slot)
    site.loop.once()
    broken = site.deploy()
    site.cloud.admin.ok("POST", f"/v3/deployments/{broken['guid']}/actions/cancel")
    site.settle()
    assert [(one["guid"], one["instances"]) for one in site.webs()] == [(works["new_processes"][0]["guid"], 2)]
    assert site.cloud.admin.ok("GET", site.path + "/droplets/current")["guid"] == works["droplet"]["guid"]


def test_cancelling_skips_what_never_ran(site: Site) -> None:
    site.start()
    site.deploy()
    broken = site.deploy()
    site.cloud.admin.ok("POST", f"/v3/deployments/{broken['guid']}/actions/cancel")
    assert site.cloud.admin.ok("GET", site.path + "/droplets/current")["guid"] == site.first
    site.settle()
    assert [(one["guid"], one["instances"]) for one in site.webs()] == [(site.app, 2)]


def test_other_processes_are_restarted_with_the_new_droplet_at_the_end(site: Site) -> None:
    site.cloud.admin.ok("POST", site.path + "/processes/worker/actions/scale", {"instances": 1}, 202)
    site.start()
    worker = site.cloud.admin.ok("GET", site.path + "/processes/worker")["guid"]
    before = site.cell.process(worker)
    made = site.deploy()
    site.loop.once()
    assert site.cell.process(worker) == before
    site.settle()
    after = site.cell.process(worker)
    assert after.version != before.version
    assert after.droplet == site.cell.process(made["new_processes"][0]["guid"]).droplet != before.droplet


def test_fewer_instances_are_kept_when_fewer_are_asked_for(site: Site) -> None:
    site.scale(4)
    site.start()
    made = site.deploy(options={"web_instances": 2})
    watch = Watch(site)
    _shuffled_steps(site, random.Random(1), watch, 2, 5)
    assert site.reason(made) == "DEPLOYED"
    assert [one["instances"] for one in site.webs()] == [2]


def test_a_quota_that_fills_up_meanwhile_stops_the_growth_and_is_shown(site: Site) -> None:
    site.start()
    made = site.deploy()
    body = {
        "name": "tight",
        "apps": {"total_memory_in_mb": 3 * 64},
        "relationships": {"organizations": {"data": [{"guid": site.org}]}},
    }
    quota = site.cloud.admin.ok("POST", "/v3/organization_quotas", body, 201)
    other = site.cloud.app("other", site.space)["guid"]
    site.cloud.admin.ok("PATCH", f"/v3/organization_quotas/{quota['guid']}", {"apps": {"total_memory_in_mb": 64}})
    (slot,) = site.cell.missing()
    site.cell.run(slot)
    site.loop.once()
    assert [one["instances"] for one in site.webs()] == [1, 1]
    assert site.shown(made)["status"]["details"]["error"].startswith("memory quota_exceeded for organization ")
    site.cloud.admin.ok("PATCH", f"/v3/organization_quotas/{quota['guid']}", {"apps": {"total_memory_in_mb": None}})
    site.settle()
    assert site.reason(made) == "DEPLOYED"
    assert site.cloud.admin.ok("GET", f"/v3/apps/{other}")["state"] == "STOPPED"


def test_the_droplet_of_running_instances_does_not_expire(site: Site) -> None:
    """However many new droplets are staged while a deployment hangs."""
    site.start()
    before = site.cell.process(site.app).droplet
    site.deploy()
    with site.cloud.database.write() as tx:
        package = rows.add(tx, packages, {"app_guid": site.app, "type": "bits", "state": "READY"})
        sizes = {"memory_mb": 1, "disk_mb": 1, "log_rate": 1, "lifecycle_type": "buildpack"}
        own = {"app_guid": site.app, "package_guid": package.guid, "state": "STAGING", **sizes}
        for number in range(site.cloud.settings.blobs.max_staged_droplets + 2):
            build = rows.add(tx, builds, own)
            made = {"droplet": f"sha256:{number}", "sha1": "", "size": 1, "cache": "", "stack_fingerprint": ""}
            result = {"process_types": {"web": "run"}}
            builds_outcome.succeed(tx, site.cloud.settings, build.guid, result=result, **made)  # type: ignore[arg-type]  # one int among texts
    assert site.cell.process(site.app).droplet == before
    listed = site.cloud.admin.ok("GET", site.path + "/droplets?states=EXPIRED")["resources"]
    assert len(listed) == 2
    assert site.first not in {one["guid"] for one in listed}


def test_usage_follows_the_instances(site: Site) -> None:
    site.start()
    made = site.deploy()
    site.settle()
    new = made["new_processes"][0]["guid"]
    with site.cloud.database.read() as tx:
        columns = (app_usage_events.c.process_guid, app_usage_events.c.state, app_usage_events.c.instances)
        told = tx.all(select(*columns).where(app_usage_events.c.process_type == "web").order_by(app_usage_events.c.id))
    last = {row.process_guid: (row.state, row.instances) for row in told}
    assert last == {site.app: ("STOPPED", 1), new: ("STARTED", 2)}


def test_the_loop_hears_of_instances_at_once(site: Site) -> None:
    site.start()
    made = site.deploy()

    async def until_deployed() -> None:
        # A period that no test waits for: only the bells can move it on.
        running = asyncio.create_task(DeploymentLoop(site.cloud.database, 3600.0).run())
        listener = site.cloud.database.bells.listen("deployments")
        try:
            async with asyncio.timeout(20):
                while await asyncio.to_thread(site.reason, made) != "DEPLOYED":
                    await asyncio.to_thread(site.cell.keep_up)
                    await listener.wait(5)
        finally:
            listener.close()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(until_deployed())
