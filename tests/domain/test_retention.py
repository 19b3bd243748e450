"""Old history goes; what is in progress or runs stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cupola.domain import retention
from cupola.store import rows
from cupola.store.database import Database
from cupola.store.staging import builds, packages
from tests.cloud import open_cloud
from tests.deploying import Site


@pytest.fixture
def site(fresh_database: Database, tmp_path: Path) -> Iterator[Site]:
    with open_cloud(fresh_database, tmp_path) as cloud:
        yield Site(cloud)


def _prune(site: Site, most: int) -> None:
    with site.cloud.database.write() as tx:
        retention.prune(tx, most)


def _guids(site: Site, path: str) -> list[str]:
    return [one["guid"] for one in site.cloud.admin.ok("GET", path)["resources"]]


def test_the_newest_deployments_and_the_active_one_are_kept(site: Site) -> None:
    ended = []
    for _ in range(3):
        ended.append(site.deploy()["guid"])
        site.cloud.admin.ok("POST", site.path + "/actions/stop")
    site.start()
    active = site.deploy()["guid"]
    _prune(site, 2)
    assert _guids(site, "/v3/deployments") == [ended[2], active]
    _prune(site, 0)
    assert _guids(site, "/v3/deployments") == [active]


def test_builds_that_have_ended_are_pruned(site: Site) -> None:
    with site.cloud.database.write() as tx:
        package = rows.add(tx, packages, {"app_guid": site.app, "type": "bits", "state": "READY"})
        sizes = {"memory_mb": 1, "disk_mb": 1, "log_rate": 1, "lifecycle_type": "buildpack"}
        own = {"app_guid": site.app, "package_guid": package.guid, **sizes}
        staging, old, new = (
            rows.add(tx, builds, {**own, "state": state}).guid for state in ("STAGING", "FAILED", "STAGED")
        )
    _prune(site, 1)
    assert _guids(site, "/v3/builds") == [staging, new]
    assert old not in {staging, new}


def test_revisions_that_run_are_kept(site: Site) -> None:
    site.start()
    (first,) = _guids(site, site.path + "/revisions")
    for number in range(3):
        site.cloud.admin.ok("PATCH", site.path + "/environment_variables", {"var": {"A": str(number)}})
        site.deploy()
    versions = _guids(site, site.path + "/revisions")
    assert len(versions) == 4
    site.settle()
    _prune(site, 1)
    assert _guids(site, site.path + "/revisions") == [versions[-1]]
    assert first == versions[0]
