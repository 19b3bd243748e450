"""Deployments over HTTP, with a cell that does what the test says."""

from typing import Any

import pytest
from sqlalchemy import update

from cupola.store.apps import processes as process_table
from cupola.store.deployments import deployments
from tests.api.conftest import Cloud
from tests.api.work import finish, finished
from tests.deploying import Site
from tests.scripted_cell import staged_droplet


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


def test_a_rolling_deployment_replaces_the_web_process(site: Site) -> None:
    site.start()
    droplet = site.droplet()
    made = site.deploy(droplet)
    assert made["status"]["value"] == "ACTIVE"
    assert made["status"]["reason"] == "DEPLOYING"
    assert made["status"]["details"]["last_successful_healthcheck"] is None
    assert made["status"]["details"]["last_status_change"] == made["created_at"]
    assert "error" not in made["status"]["details"]
    assert "canary" not in made["status"]
    assert (made["strategy"], made["options"]) == ("rolling", {"max_in_flight": 1})
    assert (made["droplet"], made["previous_droplet"]) == ({"guid": droplet}, {"guid": site.first})
    assert made["relationships"] == {"app": {"data": {"guid": site.app}}}
    assert made["revision"]["version"] == 2
    api = site.cloud.settings.api_url
    own = f"{api}/v3/deployments/{made['guid']}"
    assert made["links"] == {
        "self": {"href": own},
        "app": {"href": f"{api}/v3/apps/{site.app}"},
        "cancel": {"href": own + "/actions/cancel", "method": "POST"},
    }
    (new,) = made["new_processes"]
    assert new["type"] == "web"
    old, interim = site.webs()
    assert (old["guid"], old["instances"]) == (site.app, 2)
    assert (interim["guid"], interim["instances"], interim["memory_in_mb"]) == (new["guid"], 1, 64)
    assert interim["relationships"]["revision"]["data"]["guid"] == made["revision"]["guid"]
    assert site.cloud.admin.ok("GET", site.path + "/processes/web")["guid"] == new["guid"]
    current = site.cloud.admin.ok("GET", site.path + "/droplets/current")
    assert current["guid"] == droplet
    site.settle()
    done = site.shown(made)
    assert (done["status"]["value"], done["status"]["reason"]) == ("FINALIZED", "DEPLOYED")
    assert done["status"]["details"]["last_successful_healthcheck"] is not None
    assert "cancel" not in done["links"]
    assert [(one["guid"], one["instances"]) for one in site.webs()] == [(new["guid"], 2)]
    assert {slot[0] for slot in site.cell.instances} == {new["guid"]}
    (event,) = site.events("audit.app.deployment.create")
    assert event["data"]["deployment_guid"] == made["guid"]
    assert (event["data"]["droplet_guid"], event["data"]["strategy"], event["data"]["type"]) == (
        droplet,
        "rolling",
        None,
    )
    assert event["data"]["request"]["droplet"] == {"guid": droplet}


def test_without_droplet_or_revision_the_current_droplet_is_deployed(site: Site) -> None:
    site.start()
    site.cloud.admin.ok("PATCH", site.path + "/environment_variables", {"var": {"A": "new"}})
    made = site.cloud.admin.ok("POST", "/v3/deployments", site.body(), 201)
    assert made["droplet"] == made["previous_droplet"] == {"guid": site.first}
    old, new = (site.cell.process(guid) for guid in (site.app, made["new_processes"][0]["guid"]))
    assert "A" not in old.env
    assert new.env["A"] == "new"


def test_a_stopped_app_is_started_at_once(site: Site) -> None:
    options = {"web_instances": 3, "memory_in_mb": 32, "disk_in_mb": 16, "log_rate_limit_in_bytes_per_second": 5}
    made = site.deploy(options=options)
    assert (made["status"]["value"], made["status"]["reason"]) == ("FINALIZED", "DEPLOYED")
    assert made["new_processes"] == []
    assert made["options"] == {"max_in_flight": 1, **options}
    (web,) = site.webs()
    assert (web["guid"], web["instances"], web["memory_in_mb"], web["disk_in_mb"]) == (site.app, 3, 32, 16)
    assert site.cloud.admin.ok("GET", site.path)["state"] == "STARTED"
    assert site.cell.process(site.app).log_rate == 5


def test_options_shape_the_new_process(site: Site) -> None:
    site.start()
    options = {"max_in_flight": 5, "web_instances": 3, "memory_in_mb": 99, "disk_in_mb": None, "canary": None}
    made = site.deploy(options=options)
    assert made["options"] == {"max_in_flight": 5, "web_instances": 3, "memory_in_mb": 99}
    assert [(one["instances"], one["memory_in_mb"]) for one in site.webs()] == [(2, 64), (3, 99)]
    site.settle()
    assert [(one["instances"], one["memory_in_mb"]) for one in site.webs()] == [(3, 99)]


def test_no_instances_are_deployed_as_well(site: Site) -> None:
    site.start()
    made = site.deploy(options={"web_instances": 0})
    site.settle()
    assert site.reason(made) == "DEPLOYED"
    assert [one["instances"] for one in site.webs()] == [0]


def test_labels_of_the_process_stay(site: Site) -> None:
    site.cloud.admin.ok("PATCH", f"/v3/processes/{site.app}", {"metadata": {"labels": {"a": "b"}}})
    site.start()
    made = site.deploy(metadata={"labels": {"c": "d"}, "annotations": {"e": "f"}})
    assert made["metadata"] == {"labels": {"c": "d"}, "annotations": {"e": "f"}}
    assert site.webs()[1]["metadata"]["labels"] == {"a": "b"}


def test_bad_bodies_are_refused_in_upstreams_words(site: Site) -> None:
    def options(**given: Any) -> str:
        strategy = given.pop("strategy", "rolling")
        return site.problem(options=given, strategy=strategy)[2]

    assert site.problem(strategy="blue") == (422, 10008, "Strategy 'blue' is not a supported deployment strategy")
    both = site.problem(droplet={"guid": "a"}, revision={"guid": "b"})
    assert both[2] == "Droplet Cannot set both fields 'droplet' and 'revision'"
    assert options(max_in_flight=0) == "Max in flight must be an integer greater than 0"
    assert options(max_in_flight="1") == "Max in flight must be an integer greater than 0"
    assert options(bogus=1) == "Options has unsupported key(s): bogus"
    assert options(web_instances=-1) == "Web instances must be greater than or equal to 0"
    assert options(memory_in_mb=0) == "Memory in mb must be greater than 0"
    assert site.problem(options=[])[2] == "Options must be an object"
    steps = [{"instance_weight": 10}]
    assert options(canary={"steps": steps}) == "Options canary are only valid for Canary deployments"
    weight = "Options canary steps instance weight"

    def canary(*given: Any) -> str:
        return options(strategy="canary", canary={"steps": list(given)})

    assert canary({"instance_weight": 101}) == f"{weight} must be an Integer between 1-100 (inclusive)"
    assert canary({"instance_weight": 20}, {"instance_weight": 10}) == f"{weight} must be sorted in ascending order"
    assert canary({"instance_weight": 1, "x": 2}) == "Options canary steps has unsupported key(s): x"
    assert canary({}).startswith('Options canary steps missing key: "instance_weight"')
    assert canary("x") == "Options canary steps must be an array of objects"
    assert site.problem(droplet={"guid": 1})[0] == 422
    assert site.problem(bogus=1)[2] == "Unknown field(s): 'bogus'"
    assert site.cloud.admin.problem("POST", "/v3/deployments", {})[0] == 422
    most = site.cloud.settings.defaults.app_disk_max_mb
    too_much = f"disk_quota too much disk requested (requested {most + 1} MB - must be less than {most} MB)"
    assert options(disk_in_mb=most + 1) == too_much


def test_droplets_must_be_the_apps_and_staged(site: Site) -> None:
    foreign = staged_droplet(site.cloud.database, site.cloud.app()["guid"])
    not_its = "Unable to assign current droplet. Ensure the droplet exists and belongs to this app."
    for guid in ("nope", foreign):
        assert site.problem(droplet={"guid": guid}) == (422, 10008, not_its)
    waiting = staged_droplet(site.cloud.database, site.app, state="AWAITING_UPLOAD")
    assert site.problem(droplet={"guid": waiting})[2] == "droplet must be in staged state"
    bare = {"relationships": {"app": {"data": {"guid": site.cloud.app()["guid"]}}}}
    none = "Invalid droplet. Please specify a droplet in the request or set a current droplet for the app."
    assert site.cloud.admin.problem("POST", "/v3/deployments", bare)[2] == none


def test_who_may_deploy_and_steer(site: Site) -> None:
    site.start()
    hidden = (422, 10008, "Unable to use app. Ensure that the app exists and you have access to it.")
    stranger, auditor = site.cloud.user(), site.user("space_auditor")
    developer, supporter = site.user("space_developer"), site.user("space_supporter")
    for client in (stranger, auditor):
        assert site.problem(client) == hidden
    nowhere = {"relationships": {"app": {"data": {"guid": "nope"}}}}
    assert site.cloud.admin.problem("POST", "/v3/deployments", nowhere) == hidden
    made = site.deploy(client=supporter)
    path = f"/v3/deployments/{made['guid']}"
    assert auditor.ok("GET", path)["guid"] == made["guid"]
    assert stranger.problem("GET", path) == (404, 10010, "Deployment not found")
    assert stranger.ok("GET", "/v3/deployments")["resources"] == []
    for verb in ("cancel", "continue"):
        assert auditor.problem("POST", f"{path}/actions/{verb}") == (404, 10010, "Deployment not found")
    relabel = {"metadata": {"labels": {"a": "b"}}}
    assert supporter.problem("PATCH", path, relabel)[:2] == (403, 10003)
    assert developer.ok("PATCH", path, relabel)["metadata"]["labels"] == {"a": "b"}
    assert developer.ok("GET", "/v3/deployments?label_selector=a=b")["pagination"]["total_results"] == 1
    answer = supporter.post(path + "/actions/cancel")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_second_deployment_supersedes_the_first(site: Site) -> None:
    site.start()
    first = site.deploy(options={"web_instances": 5})
    site.loop.once()
    second = site.deploy()
    assert site.shown(first)["status"]["value"] == "FINALIZED"
    assert site.reason(first) == "SUPERSEDED"
    assert second["previous_droplet"] == first["droplet"]
    site.settle()
    assert site.reason(second) == "DEPLOYED"
    assert [(one["guid"], one["instances"]) for one in site.webs()] == [(second["new_processes"][0]["guid"], 2)]


def test_cancelling_brings_back_what_ran_before(site: Site) -> None:
    site.start()
    made = site.deploy()
    site.loop.once()
    site.cell.keep_up()
    site.loop.once()
    assert [one["instances"] for one in site.webs()] == [1, 2]
    path = f"/v3/deployments/{made['guid']}/actions/cancel"
    for _ in range(2):
        answer = site.cloud.admin.post(path)
        assert (answer.status_code, answer.content) == (200, b"")
    assert site.shown(made)["status"]["value"] == "ACTIVE"
    assert site.reason(made) == "CANCELING"
    assert site.cloud.admin.ok("GET", site.path + "/droplets/current")["guid"] == site.first
    assert len(site.events("audit.app.deployment.cancel")) == 2
    site.settle()
    assert site.shown(made)["status"]["value"] == "FINALIZED"
    assert site.reason(made) == "CANCELED"
    assert [(one["guid"], one["instances"]) for one in site.webs()] == [(site.app, 2)]
    refused = site.cloud.admin.problem("POST", path)
    assert refused == (422, 10008, "Cannot cancel a deployment with status: FINALIZED and reason: CANCELED")


def test_a_canary_waits_for_a_person(site: Site) -> None:
    site.start()
    made = site.deploy(strategy="canary")
    assert made["status"]["canary"] == {"steps": {"current": 1, "total": 1}}
    path = f"/v3/deployments/{made['guid']}/actions/continue"
    refused = site.cloud.admin.problem("POST", path)
    assert refused == (422, 10008, "Cannot continue a deployment with status: ACTIVE and reason: DEPLOYING")
    site.settle()
    paused = site.shown(made)
    assert (paused["status"]["value"], paused["status"]["reason"]) == ("ACTIVE", "PAUSED")
    assert paused["links"]["continue"]["method"] == "POST"
    assert [one["instances"] for one in site.webs()] == [2, 1]
    answer = site.cloud.admin.post(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert site.reason(made) == "DEPLOYING"
    site.settle()
    done = site.shown(made)
    assert done["status"]["reason"] == "DEPLOYED"
    assert done["status"]["canary"] == {"steps": {"current": 1, "total": 1}}
    assert [one["instances"] for one in site.webs()] == [2]
    assert len(site.events("audit.app.deployment.continue")) == 1


def test_a_canary_goes_up_in_the_steps_that_were_asked_for(site: Site) -> None:
    site.cloud.admin.ok("POST", site.path + "/processes/web/actions/scale", {"instances": 4}, 202)
    site.start()
    steps = [{"instance_weight": 10}, {"instance_weight": 50}, {"instance_weight": 100}]
    made = site.deploy(strategy="canary", options={"canary": {"steps": steps}, "max_in_flight": 4})
    assert made["options"] == {"max_in_flight": 4, "canary": {"steps": steps}}
    seen = []
    for _ in steps:
        site.settle()
        shown = site.shown(made)
        assert shown["status"]["reason"] == "PAUSED"
        seen.append((shown["status"]["canary"]["steps"]["current"], [one["instances"] for one in site.webs()]))
        site.cloud.admin.ok("POST", f"/v3/deployments/{made['guid']}/actions/continue")
    # One more than wanted runs, so that none is missed when a canary turns out badly.
    assert seen == [(1, [4, 1]), (2, [3, 2]), (3, [0, 4])]
    site.settle()
    assert site.reason(made) == "DEPLOYED"
    assert [one["instances"] for one in site.webs()] == [4]


def test_a_paused_canary_can_be_cancelled(site: Site) -> None:
    site.start()
    made = site.deploy(strategy="canary")
    site.settle()
    site.cloud.admin.ok("POST", f"/v3/deployments/{made['guid']}/actions/cancel")
    site.settle()
    assert site.reason(made) == "CANCELED"
    assert [(one["guid"], one["instances"]) for one in site.webs()] == [(site.app, 2)]


def test_lists_filter_by_app_status_and_state(site: Site) -> None:
    site.start()
    superseded = site.deploy(strategy="canary")
    replaced = site.deploy()
    prepaused = site.deploy(strategy="canary")

    def guids(query: str) -> list[str]:
        listed = site.cloud.admin.ok("GET", f"/v3/deployments?{query}")
        return [one["guid"] for one in listed["resources"]]

    assert guids("status_values=ACTIVE") == [prepaused["guid"]]
    assert guids("status_reasons=SUPERSEDED&order_by=-created_at") == [replaced["guid"], superseded["guid"]]
    assert guids("states=PREPAUSED") == [prepaused["guid"]]
    assert guids("states=DEPLOYING") == []
    assert guids("states=DEPLOYED") == [replaced["guid"]]
    assert guids("states=CANCELED") == [superseded["guid"]]
    assert len(guids(f"app_guids={site.app}&per_page=2")) == 2
    assert guids("app_guids=nope") == []
    site.settle()
    assert guids("states=PAUSED,CANCELING") == [prepaused["guid"]]
    assert site.cloud.admin.problem("GET", "/v3/deployments?space_guids=x")[:2] == (400, 10005)


def test_a_revision_is_rolled_back_to(site: Site) -> None:
    site.start()
    site.cloud.admin.ok("PATCH", site.path + "/processes/web", {"command": "second"})
    site.cloud.admin.ok("PATCH", site.path + "/environment_variables", {"var": {"A": "second"}})
    site.deploy()
    site.settle()
    listed = site.cloud.admin.ok("GET", site.path + "/revisions")["resources"]
    assert [one["version"] for one in listed] == [1, 2]
    made = site.cloud.admin.ok("POST", "/v3/deployments", site.body(revision={"guid": listed[0]["guid"]}), 201)
    assert made["revision"]["version"] == 3
    assert made["droplet"] == {"guid": site.first}
    new = site.cell.process(made["new_processes"][0]["guid"])
    assert new.command == "run web"
    assert "A" not in new.env
    latest = site.cloud.admin.ok("GET", site.path + "/revisions")["resources"][-1]
    assert latest["description"].endswith("Rolled back to revision 1.")
    event = site.events("audit.app.deployment.create")[-1]
    assert (event["data"]["type"], event["data"]["revision_guid"]) == ("rollback", latest["guid"])
    site.settle()
    assert site.reason(made) == "DEPLOYED"
    same = site.problem(revision={"guid": latest["guid"]})[2]
    assert same.startswith("Unable to rollback. The code and configuration you are rolling back to is the same")


def test_cancelling_a_rollback_restores_the_configuration(site: Site) -> None:
    site.start()
    site.cloud.admin.ok("PATCH", site.path + "/environment_variables", {"var": {"A": "second"}})
    site.deploy()
    site.settle()
    (before,) = site.webs()
    first = site.cloud.admin.ok("GET", site.path + "/revisions?versions=1")["resources"][0]
    made = site.cloud.admin.ok("POST", "/v3/deployments", site.body(revision={"guid": first["guid"]}), 201)
    assert site.cloud.admin.ok("GET", site.path + "/environment_variables")["var"] == {}
    site.cloud.admin.ok("POST", f"/v3/deployments/{made['guid']}/actions/cancel")
    assert site.cloud.admin.ok("GET", site.path + "/environment_variables")["var"] == {"A": "second"}
    site.settle()
    assert [one["guid"] for one in site.webs()] == [before["guid"]]


def test_revisions_must_be_the_apps_and_on(site: Site) -> None:
    site.start()
    other = site.cloud.app("other", site.space)["guid"]
    droplet = staged_droplet(site.cloud.database, other)
    site.cloud.admin.ok("PATCH", f"/v3/apps/{other}/relationships/current_droplet", {"data": {"guid": droplet}})
    site.cloud.admin.ok("POST", f"/v3/apps/{other}/actions/start")
    foreign = site.cloud.admin.ok("GET", f"/v3/apps/{other}/revisions")["resources"][0]["guid"]
    for guid in ("nope", foreign):
        assert site.problem(revision={"guid": guid})[2] == "The revision does not exist"
    own = site.cloud.admin.ok("GET", site.path + "/revisions")["resources"][0]["guid"]
    site.cloud.admin.ok("PATCH", site.path + "/features/revisions", {"enabled": False})
    off = "Cannot create deployment from a revision for an app without revisions enabled"
    assert site.problem(revision={"guid": own})[2] == off
    made = site.deploy()
    assert made["revision"] is None


def test_without_revisions_old_instances_keep_the_old_droplet(site: Site) -> None:
    site.cloud.admin.ok("PATCH", site.path + "/features/revisions", {"enabled": False})
    site.start()
    before = site.cell.process(site.app).droplet
    made = site.deploy()
    assert site.cell.process(site.app).droplet == before
    assert site.cell.process(made["new_processes"][0]["guid"]).droplet != before
    refused = site.cloud.admin.problem("DELETE", f"/v3/droplets/{site.first}")
    assert refused == (422, 10008, f'The droplet is currently used by app with guid "{site.app}".')


def test_what_cannot_be_done_meanwhile(site: Site) -> None:
    site.start()
    site.deploy()
    web = site.path + "/processes/web"
    scale = "Cannot scale this process while a deployment is in flight."
    assert site.cloud.admin.problem("POST", web + "/actions/scale", {"instances": 1})[2] == scale
    change = "Cannot update this process while a deployment is in flight."
    assert site.cloud.admin.problem("PATCH", web, {"command": "x"})[2] == change
    assign = {"data": {"guid": site.droplet()}}
    refused = site.cloud.admin.problem("PATCH", site.path + "/relationships/current_droplet", assign)
    wait = "Wait for the deployment to complete or cancel it."
    assert refused[2] == f"Unable to assign current droplet while the app has a deployment in progress. {wait}"
    manifest = b"applications: [{name: shop, instances: 7}]"
    answer = site.cloud.admin.request(
        "POST",
        f"/v3/spaces/{site.space}/actions/apply_manifest",
        content=manifest,
        headers={"Content-Type": "application/x-yaml"},
    )
    assert answer.status_code == 202
    finish(site.cloud)
    job = site.cloud.admin.ok("GET", answer.headers["Location"].removeprefix(site.cloud.settings.api_url))
    assert [one["detail"] for one in job["errors"]] == [f"For application 'shop': {scale}"]
    site.cloud.admin.ok("POST", site.path + "/processes/worker/actions/scale", {"instances": 1}, 202)
    site.cloud.admin.ok("PATCH", site.path + "/environment_variables", {"var": {"A": "b"}})


def test_stop_and_start_meanwhile(site: Site) -> None:
    site.start()
    made = site.deploy()
    site.cloud.admin.ok("POST", site.path + "/actions/stop")
    site.cell.keep_up()
    site.loop.once()
    assert site.reason(made) == "DEPLOYING"
    stopped = "The app is stopped. Start it to go on, or cancel the deployment."
    assert site.shown(made)["status"]["details"]["error"] == stopped
    assert site.cell.instances == {}
    site.start()
    site.settle()
    assert site.reason(made) == "DEPLOYED"
    assert "error" not in site.shown(made)["status"]["details"]


def test_a_deployment_of_an_app_stopped_meanwhile_leaves_one_web_process(site: Site) -> None:
    site.start()
    first = site.deploy()
    site.cloud.admin.ok("POST", site.path + "/actions/stop")
    second = site.deploy()
    assert (site.reason(first), site.reason(second)) == ("SUPERSEDED", "DEPLOYED")
    assert [one["instances"] for one in site.webs()] == [2]


def test_cancelling_in_a_stopped_app_ends_at_once(site: Site) -> None:
    site.start()
    made = site.deploy()
    site.cloud.admin.ok("POST", site.path + "/actions/stop")
    site.cloud.admin.ok("POST", f"/v3/deployments/{made['guid']}/actions/cancel")
    site.loop.once()
    assert site.reason(made) == "CANCELED"
    assert [(one["guid"], one["instances"]) for one in site.webs()] == [(site.app, 2)]


def test_a_restart_meanwhile_runs_the_new_droplet_and_cancelling_the_old_again(site: Site) -> None:
    site.start()
    before = site.cell.process(site.app).droplet
    made = site.deploy()
    site.cloud.admin.ok("POST", site.path + "/actions/restart")
    assert site.cell.process(site.app).droplet != before
    site.cloud.admin.ok("POST", f"/v3/deployments/{made['guid']}/actions/cancel")
    assert site.cell.process(site.app).droplet == before
    site.settle()
    assert site.reason(made) == "CANCELED"


def test_an_app_is_deleted_meanwhile(site: Site) -> None:
    site.start()
    made = site.deploy()
    assert finished(site.cloud, site.cloud.admin, "DELETE", site.path)["state"] == "COMPLETE"
    site.loop.once()
    assert site.cloud.admin.problem("GET", f"/v3/deployments/{made['guid']}")[0] == 404
    assert site.cell.desired().processes == []


def test_trouble_of_new_instances_is_shown(site: Site) -> None:
    site.start()
    made = site.deploy()
    (slot,) = site.cell.missing()
    site.cell.crash(slot, "APP/PROC/WEB: Exited with status 7")
    site.loop.once()
    shown = site.shown(made)
    assert shown["status"]["reason"] == "DEPLOYING"
    assert shown["status"]["details"]["error"] == "1 of 1 instance crashed: APP/PROC/WEB: Exited with status 7"
    site.cell.run(slot, "DOWN", details="insufficient resources: memory")
    site.loop.once()
    placed = "1 of 1 instance cannot be placed: insufficient resources: memory"
    assert site.shown(made)["status"]["details"]["error"] == placed
    assert [one["instances"] for one in site.webs()] == [2, 1]
    site.settle()
    assert site.reason(made) == "DEPLOYED"
    assert "error" not in site.shown(made)["status"]["details"]


def test_instances_that_never_become_healthy_are_told_of_after_their_time(site: Site) -> None:
    site.start()
    made = site.deploy()
    site.loop.once()
    assert "error" not in site.shown(made)["status"]["details"]

    def error_after(seconds: int) -> str:
        with site.cloud.database.write() as tx:
            then = tx.now - seconds * 1_000_000
            tx.run(update(deployments).values(status_changed_at=then))
            process = made["new_processes"][0]["guid"]
            tx.run(update(process_table).where(process_table.c.guid == process).values(updated_at=then))
        site.loop.once()
        return str(site.shown(made)["status"]["details"].get("error"))

    assert error_after(80) == "None"
    assert error_after(100).startswith("No cell took up the instances within 90 s.")
    (slot,) = site.cell.missing()
    site.cell.run(slot, "STARTING")
    assert error_after(100) == "1 of 1 instance did not become healthy within 90 s"
    site.cell.run(slot, "RUNNING", routable=False)
    assert error_after(100) == "1 of 1 instance did not pass the readiness check within 90 s"


def test_a_quota_refuses_what_would_not_fit_beside_the_old_instances(site: Site) -> None:
    site.start()
    body = {
        "name": "tight",
        "apps": {"total_memory_in_mb": 200},
        "relationships": {"organizations": {"data": [{"guid": site.org}]}},
    }
    site.cloud.admin.ok("POST", "/v3/organization_quotas", body, 201)
    detail = site.problem(options={"memory_in_mb": 100})[2]
    assert detail.startswith("memory quota_exceeded for organization ")
    assert detail.endswith("not be large enough to support rolling deployments or your configured max-in-flight.")
    assert len(site.webs()) == 1
    made = site.deploy()
    site.settle()
    assert site.reason(made) == "DEPLOYED"


def test_an_operator_can_switch_deployments_off(site: Site) -> None:
    site.start()
    running = site.deploy()
    site.cloud.settings.defaults.deployments = False
    status, code, detail = site.problem()
    assert (status, code) == (403, 390014)
    assert "defaults.deployments" in detail
    site.settle()
    assert site.reason(running) == "DEPLOYED"
