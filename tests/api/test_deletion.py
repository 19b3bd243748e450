"""What goes along with what is deleted, what stays, and what stands in the way."""

from typing import Any

import pytest
from sqlalchemy import select

from cupola.store import rows
from cupola.store.apps import apps, processes, revisions, sidecars
from cupola.store.deployments import deployments
from cupola.store.identity import identities
from cupola.store.orgs import roles, users
from cupola.store.routes import destinations, domain_shares, routes
from cupola.store.staging import builds, droplets, packages
from cupola.store.tasks import tasks
from tests.api.conftest import Cloud
from tests.api.work import finished
from tests.deploying import Site


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


def _count(cloud: Cloud, *tables: Any) -> int:
    with cloud.database.read() as tx:
        return sum(len(tx.all(select(table))) for table in tables)


def _route(cloud: Cloud, space: str, domain: str, host: str = "shop") -> str:
    links = {"space": {"data": {"guid": space}}, "domain": {"data": {"guid": domain}}}
    return str(cloud.admin.ok("POST", "/v3/routes", {"host": host, "relationships": links}, 201)["guid"])


def _package(cloud: Cloud, app: str, **more: Any) -> str:
    with cloud.database.write() as tx:
        return str(rows.add(tx, packages, {"app_guid": app, "type": "bits", "state": "READY", **more}).guid)


def test_an_app_takes_everything_of_its_own_along_and_its_routes_stay(site: Site) -> None:
    cloud, admin = site.cloud, site.cloud.admin
    domain = admin.ok("POST", "/v3/domains", {"name": "d.example.com"}, 201)["guid"]
    route = _route(cloud, site.space, domain)
    admin.ok("POST", f"/v3/routes/{route}/destinations", {"destinations": [{"app": {"guid": site.app}}]})
    admin.ok("POST", site.path + "/sidecars", {"name": "s", "command": "c", "process_types": ["web"]}, 201)
    site.start()
    admin.ok("POST", site.path + "/tasks", {"command": "true"}, 202)
    admin.ok("POST", "/v3/builds", {"package": {"guid": _package(cloud, site.app, digest="d")}}, 201)
    site.deploy()
    own = (apps, processes, sidecars, revisions, packages, droplets, builds, tasks, deployments, destinations)
    assert all(_count(cloud, table) for table in own)
    assert finished(cloud, admin, "DELETE", site.path)["state"] == "COMPLETE"
    assert _count(cloud, *own) == 0
    assert admin.ok("GET", f"/v3/routes/{route}")["destinations"] == []


def test_a_space_takes_apps_routes_and_roles_along(site: Site) -> None:
    cloud = site.cloud
    domain = cloud.admin.ok("POST", "/v3/domains", {"name": "d.example.com"}, 201)["guid"]
    _route(cloud, site.space, domain)
    site.user("space_developer")
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/spaces/{site.space}")["state"] == "COMPLETE"
    with cloud.database.read() as tx:
        assert tx.all(select(roles).where(roles.c.space_guid == site.space)) == []
    assert _count(cloud, apps, routes, processes) == 0
    assert cloud.admin.ok("GET", f"/v3/domains/{domain}")["name"] == "d.example.com"


def test_a_domain_takes_its_routes_along(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    domain = cloud.admin.ok("POST", "/v3/domains", {"name": "d.example.com"}, 201)["guid"]
    _route(cloud, space, domain)
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/domains/{domain}")["state"] == "COMPLETE"
    assert _count(cloud, routes) == 0


def test_a_shared_private_domain_stays(cloud: Cloud) -> None:
    owner, other = cloud.org()["guid"], cloud.org()["guid"]
    body = {"name": "p.example.com", "relationships": {"organization": {"data": {"guid": owner}}}}
    path = f"/v3/domains/{cloud.admin.ok('POST', '/v3/domains', body, 201)['guid']}"
    cloud.admin.ok("POST", path + "/relationships/shared_organizations", {"data": [{"guid": other}]})
    assert cloud.admin.problem("DELETE", path) == (
        422,
        10008,
        "This domain is shared with other organizations. Unshare before deleting.",
    )
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/organizations/{other}")["state"] == "COMPLETE"
    assert _count(cloud, domain_shares) == 0
    assert finished(cloud, cloud.admin, "DELETE", path)["state"] == "COMPLETE"


def test_a_route_takes_its_destinations_along_and_the_app_stays(site: Site) -> None:
    admin = site.cloud.admin
    domain = admin.ok("POST", "/v3/domains", {"name": "d.example.com"}, 201)["guid"]
    route = _route(site.cloud, site.space, domain)
    admin.ok("POST", f"/v3/routes/{route}/destinations", {"destinations": [{"app": {"guid": site.app}}]})
    assert finished(site.cloud, admin, "DELETE", f"/v3/routes/{route}")["state"] == "COMPLETE"
    assert _count(site.cloud, destinations) == 0
    assert admin.ok("GET", site.path)["name"] == "shop"


def test_a_user_loses_roles_and_not_the_identity(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    user = cloud.user(organization_user=org).actor
    assert user is not None
    with cloud.database.write() as tx:
        values = {"guid": user.guid, "username": "ann", "username_key": "ann", "origin": "uaa", "email": "a@b"}
        tx.run(identities.insert().values(**values, active=True, verified=True, created_at=1))
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/users/{user.guid}")["state"] == "COMPLETE"
    with cloud.database.read() as tx:
        assert tx.all(select(users).where(users.c.guid == user.guid)) == []
        assert tx.all(select(roles).where(roles.c.user_guid == user.guid)) == []
        assert tx.scalar(select(identities.c.username).where(identities.c.guid == user.guid)) == "ann"


def test_the_current_droplet_stays(site: Site) -> None:
    problem = site.cloud.admin.problem("DELETE", f"/v3/droplets/{site.first}")
    assert problem == (422, 10008, f'The droplet is currently used by app with guid "{site.app}".')
    other = site.droplet()
    assert finished(site.cloud, site.cloud.admin, "DELETE", f"/v3/droplets/{other}")["state"] == "COMPLETE"
    assert site.cloud.admin.problem("GET", f"/v3/droplets/{other}") == (404, 10010, "Droplet not found")


def test_a_package_goes_in_the_background(site: Site) -> None:
    package = _package(site.cloud, site.app)
    job = finished(site.cloud, site.user("space_developer"), "DELETE", f"/v3/packages/{package}")
    assert (job["operation"], job["state"]) == ("package.delete", "COMPLETE")
    assert site.cloud.admin.problem("GET", f"/v3/packages/{package}") == (404, 10010, "Package not found")
