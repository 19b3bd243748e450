"""Jobs: what clients poll, how they name what they did, and what a second one does."""

import re
from typing import Any

from sqlalchemy import update

from cupola import clock
from cupola.processes.chores import chores
from cupola.store.jobs import jobs
from cupola.store.platform import audit_events
from tests.api.conftest import Cloud
from tests.api.work import finish, finished
from tests.scripted_cell import staged_droplet

_MICROS = 1_000_000


def _job(cloud: Cloud, answer: Any) -> Any:
    assert answer.status_code == 202, answer.text
    return cloud.admin.ok("GET", answer.headers["Location"].removeprefix(cloud.settings.api_url))


def test_a_job_links_what_it_works_on_until_that_is_gone(cloud: Cloud) -> None:
    app = cloud.app()
    path = f"/v3/apps/{app['guid']}"
    answer = cloud.admin.delete(path)
    job = _job(cloud, answer)
    assert (job["operation"], job["state"], job["errors"], job["warnings"]) == ("app.delete", "PROCESSING", [], [])
    assert set(job["links"]) == {"self", "app"}
    assert job["links"]["self"]["href"] == answer.headers["Location"]
    assert job["links"]["app"]["href"] == cloud.settings.api_url + path
    finish(cloud)
    done = _job(cloud, answer)
    assert (done["state"], done["errors"]) == ("COMPLETE", [])
    assert set(done["links"]) == {"self"}


def test_every_user_reads_a_job_of_which_they_know_the_guid(cloud: Cloud) -> None:
    answer = cloud.admin.delete(f"/v3/apps/{cloud.app()['guid']}")
    path = answer.headers["Location"].removeprefix(cloud.settings.api_url)
    assert cloud.user().ok("GET", path)["operation"] == "app.delete"
    assert cloud.nobody.problem("GET", path)[0] == 401
    assert cloud.user().ok("GET", "/v3/jobs")["resources"] == []


def test_an_unknown_job(cloud: Cloud) -> None:
    assert cloud.admin.problem("GET", "/v3/jobs/nope") == (404, 10010, "Job not found")


def test_deleting_what_is_gone_is_404(cloud: Cloud) -> None:
    path = f"/v3/apps/{cloud.app()['guid']}"
    assert finished(cloud, cloud.admin, "DELETE", path)["state"] == "COMPLETE"
    assert cloud.admin.problem("DELETE", path)[:2] == (404, 10010)


def test_a_second_job_while_one_runs_completes_as_well(cloud: Cloud) -> None:
    path = f"/v3/apps/{cloud.app()['guid']}"
    first, second = cloud.admin.delete(path), cloud.admin.delete(path)
    finish(cloud)
    assert (_job(cloud, first)["state"], _job(cloud, second)["state"]) == ("COMPLETE", "COMPLETE")


def test_a_failed_deletion_leaves_the_rest_and_can_be_repeated(cloud: Cloud) -> None:
    owner, other = cloud.org("owner")["guid"], cloud.org("other")["guid"]
    body = {"name": "shared.example.com", "relationships": {"organization": {"data": {"guid": owner}}}}
    domain = cloud.admin.ok("POST", "/v3/domains", body, 201)["guid"]
    share = f"/v3/domains/{domain}/relationships/shared_organizations"
    cloud.admin.ok("POST", share, {"data": [{"guid": other}]})
    failed = finished(cloud, cloud.admin, "DELETE", f"/v3/organizations/{owner}")
    assert failed["state"] == "FAILED"
    (error,) = failed["errors"]
    assert (error["code"], error["title"]) == (290010, "CF-OrganizationDeletionFailed")
    assert cloud.admin.ok("GET", f"/v3/domains/{domain}")["name"] == "shared.example.com"
    assert cloud.admin.delete(f"{share}/{other}").status_code == 204
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/organizations/{owner}")["state"] == "COMPLETE"
    assert cloud.admin.problem("GET", f"/v3/domains/{domain}")[0] == 404


def test_a_job_names_each_kind_of_resource_as_clients_know_it(cloud: Cloud) -> None:
    space = cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    domain = cloud.admin.ok("POST", "/v3/domains", {"name": "jobs.example.com"}, 201)["guid"]
    quota = cloud.admin.ok("POST", "/v3/organization_quotas", {"name": "q"}, 201)["guid"]
    group = cloud.admin.ok("POST", "/v3/security_groups", {"name": "g"}, 201)["guid"]
    user = cloud.admin.ok("POST", "/v3/users", {"guid": "u-1"}, 201)["guid"]
    links = {"user": {"data": {"guid": user}}, "organization": {"data": {"guid": org}}}
    role = cloud.admin.ok("POST", "/v3/roles", {"type": "organization_user", "relationships": links}, 201)["guid"]
    buildpack = cloud.admin.ok("POST", "/v3/buildpacks", {"name": "b"}, 201)["guid"]
    links = {"space": {"data": {"guid": space["guid"]}}, "domain": {"data": {"guid": domain}}}
    route = cloud.admin.ok("POST", "/v3/routes", {"host": "x", "relationships": links}, 201)["guid"]
    links = {"organization": {"data": {"guid": org}}}
    of_spaces = cloud.admin.ok("POST", "/v3/space_quotas", {"name": "q", "relationships": links}, 201)["guid"]
    app = cloud.app(space=space["guid"])["guid"]
    droplet = staged_droplet(cloud.database, app)
    for path, operation in (
        (f"/v3/droplets/{droplet}", "droplet.delete"),
        (f"/v3/routes/{route}", "route.delete"),
        (f"/v3/space_quotas/{of_spaces}", "space_quota.delete"),
        (f"/v3/domains/{domain}", "domain.delete"),
        (f"/v3/organization_quotas/{quota}", "organization_quota.delete"),
        (f"/v3/security_groups/{group}", "security_group.delete"),
        (f"/v3/roles/{role}", "role.delete"),
        (f"/v3/users/{user}", "user.delete"),
        (f"/v3/buildpacks/{buildpack}", "buildpack.delete"),
        (f"/v3/spaces/{space['guid']}", "space.delete"),
        (f"/v3/organizations/{org}", "organization.delete"),
    ):
        job = finished(cloud, cloud.admin, "DELETE", path)
        assert (job["operation"], job["state"]) == (operation, "COMPLETE")
        assert re.fullmatch(r".*/v3/jobs/[0-9a-f-]{36}", job["links"]["self"]["href"])
    cleared = finished(cloud, cloud.admin, "POST", f"/v3/apps/{cloud.app()['guid']}/actions/clear_buildpack_cache")
    assert (cleared["operation"], cleared["state"]) == ("app.clear_buildpack_cache", "COMPLETE")


def test_jobs_are_kept_for_90_days(cloud: Cloud) -> None:
    answer = cloud.admin.delete(f"/v3/apps/{cloud.app()['guid']}")
    finish(cloud)
    guid = _job(cloud, answer)["guid"]
    unused: Any = None
    prune = chores(cloud.settings, cloud.database, unused, unused, unused)["prune jobs, events and history"].work
    for days, kept in ((89, True), (91, False)):
        then = clock.micros() - days * 86_400 * _MICROS
        with cloud.database.write() as tx:
            tx.run(update(jobs).where(jobs.c.guid == guid).values(created_at=then, updated_at=then))
        prune()
        assert (cloud.admin.get(f"/v3/jobs/{guid}").status_code == 200) is kept


def test_audit_events_are_kept_for_31_days(cloud: Cloud) -> None:
    cloud.app()
    unused: Any = None
    prune = chores(cloud.settings, cloud.database, unused, unused, unused)["prune jobs, events and history"].work
    path = "/v3/audit_events?types=audit.app.create"
    for days, kept in ((30, True), (32, False)):
        then = clock.micros() - days * 86_400 * _MICROS
        with cloud.database.write() as tx:
            tx.run(update(audit_events).values(created_at=then))
        prune()
        assert (cloud.admin.ok("GET", path)["resources"] != []) is kept
