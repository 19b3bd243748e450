"""Service brokers: registered, changed, removed; their catalogs become offerings and plans."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from cupola.store.jobs import jobs
from cupola.store.service_brokers import service_brokers
from tests.api.conftest import Client, Cloud
from tests.api.marketplace import Marketplace
from tests.api.work import finished
from tests.brokers.scripted import PASSWORD, USERNAME, Broker, Says, catalog, plan, scripted, service

GREETING = "Service broker catalog is invalid: \n"


@pytest.fixture
def broker() -> Iterator[Broker]:
    with scripted() as opened:
        yield opened


@pytest.fixture
def market(cloud: Cloud, broker: Broker) -> Marketplace:
    return Marketplace(cloud, broker)


def refused(client: Client, body: Any, method: str = "POST", path: str = "/v3/service_brokers") -> str:
    status, code, detail = client.problem(method, path, body)
    assert (status, code) == (422, 10008)
    return detail


# Registration


def test_a_broker_is_registered_and_its_catalog_is_there(market: Marketplace) -> None:
    labels = {"labels": {"tier": "gold"}, "annotations": {"owner": "us"}}
    job = market.register(metadata=labels)
    assert (job["state"], job["operation"], job["errors"]) == ("COMPLETE", "service_broker.catalog.synchronize", [])
    (shown,) = market.admin.ok("GET", "/v3/service_brokers")["resources"]
    assert job["links"]["service_brokers"]["href"].endswith(f"/v3/service_brokers/{shown['guid']}")
    assert (shown["name"], shown["url"], shown["relationships"]) == ("broker", market.broker.url, {})
    assert shown["metadata"] == labels
    assert list(shown["links"]) == ["self", "service_offerings"]
    assert set(shown) == {"guid", "created_at", "updated_at", "name", "url", "relationships", "metadata", "links"}
    assert [one["name"] for one in market.offerings()] == ["db"]
    assert [one["name"] for one in market.plans()] == ["db-small"]
    (asked,) = market.broker.asked()
    assert asked.headers["x-vcap-request-id"]


def test_the_broker_is_there_at_once_and_stays_when_its_catalog_is_bad(market: Marketplace) -> None:
    market.broker.catalog = {"services": []}
    answer = market.admin.post("/v3/service_brokers", market.broker.body())
    assert answer.status_code == 202
    assert market.admin.ok("GET", "/v3/service_brokers")["pagination"]["total_results"] == 1
    assert market.state() == "SYNCHRONIZING"
    job = market.job(answer)
    assert job["state"] == "FAILED"
    assert job["errors"] == [
        {
            "code": 270012,
            "title": "CF-ServiceBrokerCatalogInvalid",
            "detail": GREETING + "Service broker must provide at least one service\n",
        }
    ]
    assert market.state() == "SYNCHRONIZATION_FAILED"
    assert market.admin.ok("GET", "/v3/service_brokers")["pagination"]["total_results"] == 1


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"name": None}, "Name must be a string"),
        ({"name": ""}, "Name is too short (minimum is 1 character)"),
        ({"url": "ftp://broker.example"}, "Url 'ftp://broker.example' must be a valid url"),
        ({"url": "http://"}, "Url 'http://' must be a valid url"),
        ({"url": "http://a b"}, "Url 'http://a b' must be a valid url"),
        ({"url": "http://me:secret@broker.example"}, "Url must not contain authentication"),
        ({"authentication": None}, "Authentication must be an object"),
        ({"authentication": {"type": "token", "credentials": {"username": "a", "password": "b"}}}, "Authentication Type must be one of 'basic'"),
        ({"authentication": {"type": "basic"}}, "Authentication Credentials must be an object"),
        ({"authentication": {"type": "basic", "credentials": {"username": 1, "password": "b"}}}, "Authentication Credentials Username must be a string"),
        ({"relationships": {}}, "Relationships 'relationships' must include one or more valid relationships"),
        ({"size": 1}, "Unknown field(s): 'size'"),
    ],
)  # fmt: skip
def test_bad_bodies(market: Marketplace, change: dict[str, Any], detail: str) -> None:
    assert refused(market.admin, {**market.broker.body(), **change}) == detail
    assert market.broker.asked() == []


def test_names_are_unique_and_urls_are_not(market: Marketplace) -> None:
    market.register()
    assert refused(market.admin, market.broker.body()) == "Name must be unique"
    assert market.register("other")["state"] == "COMPLETE"
    assert len(market.offerings()) == 2


@pytest.mark.parametrize(
    ("says", "code", "title", "detail"),
    [
        (Says(200, b"<html>"), 270021, "CF-ServiceBrokerRequestMalformed", "The service broker returned an invalid response: expected valid JSON object in body. Please check that the URL points to a valid service broker."),
        (Says(404, b"x"), 270020, "CF-ServiceBrokerRequestRejected", "The service broker rejected the request. Status Code: 404 Not Found. Please check that the URL points to a valid service broker."),
        (Says(401, b"x"), 10001, "CF-ServiceBrokerApiAuthenticationFailed", "Authentication with the service broker failed. Double-check that the username and password are correct."),
        (Says(500, b"x"), 10001, "CF-ServiceBrokerBadResponse", "The service broker returned an invalid response. Status Code: 500 Internal Server Error, Body: x"),
        (Says(drops=True), 10001, "CF-ServiceBrokerApiUnreachable", "The service broker could not be reached"),
        (Says(hangs=True), 10001, "CF-HttpClientTimeout", "The request to the service broker timed out"),
        (Says(200, {"services": "x"}), 270012, "CF-ServiceBrokerCatalogInvalid", GREETING + 'Service list must be an array of hashes, but has value "x"\n'),
    ],
)  # fmt: skip
def test_a_catalog_that_cannot_be_had(market: Marketplace, says: Says, code: int, title: str, detail: str) -> None:
    market.cloud.settings.brokers.timeout_seconds = 0.3
    market.broker.on("GET", "/v2/catalog", says)
    job = market.register()
    assert job["errors"] == [{"code": code, "title": title, "detail": detail}]
    assert market.state() == "SYNCHRONIZATION_FAILED"
    assert market.offerings() == []


def test_a_broker_that_goes_meanwhile(market: Marketplace) -> None:
    answer = market.admin.post("/v3/service_brokers", market.broker.body())
    with market.cloud.database.write() as tx:
        tx.run(service_brokers.delete())
    job = market.job(answer)
    assert (job["errors"][0]["code"], job["errors"][0]["title"]) == (270011, "CF-ServiceBrokerGone")


# Spaces of their own


def test_developers_register_brokers_in_their_space(market: Marketplace, monkeypatch: pytest.MonkeyPatch) -> None:
    market.cloud.settings.outbound.allow.append("127.0.0.1")
    space = market.cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    developer = market.cloud.user(organization_user=org, space_developer=space["guid"])
    supporter = market.cloud.user(organization_user=org, space_supporter=space["guid"])
    auditor = market.cloud.user(organization_user=org, space_auditor=space["guid"])
    there: dict[str, Any] = {"relationships": {"space": {"data": {"guid": space["guid"]}}}}
    job = market.register(client=developer, **there)
    assert job["state"] == "COMPLETE", job
    (shown,) = developer.ok("GET", "/v3/service_brokers")["resources"]
    assert shown["relationships"] == there["relationships"]
    assert shown["links"]["space"]["href"].endswith(f"/v3/spaces/{space['guid']}")
    assert len(supporter.ok("GET", "/v3/service_brokers")["resources"]) == 1
    assert auditor.ok("GET", "/v3/service_brokers")["resources"] == []
    (found,) = auditor.ok("GET", "/v3/service_plans")["resources"]
    assert (found["visibility_type"], found["relationships"]["space"]["data"]["guid"]) == ("space", space["guid"])
    path = f"/v3/service_brokers/{shown['guid']}"
    assert supporter.problem("PATCH", path, {"name": "x"})[0] == 403
    assert auditor.problem("PATCH", path, {"name": "x"})[0] == 404
    assert supporter.problem("DELETE", path)[0] == 403
    assert finished(market.cloud, developer, "DELETE", path)["state"] == "COMPLETE"
    assert developer.ok("GET", "/v3/service_plans")["resources"] == []


def test_where_one_may_not_register(market: Marketplace) -> None:
    space = market.cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    auditor = market.cloud.user(organization_user=org, space_auditor=space["guid"])
    developer = market.cloud.user(organization_user=org, space_developer=space["guid"])
    there: dict[str, Any] = {"relationships": {"space": {"data": {"guid": space["guid"]}}}}
    nowhere: dict[str, Any] = {"relationships": {"space": {"data": {"guid": "no-such-space"}}}}
    invalid = "Invalid space. Ensure that the space exists and you have access to it."
    assert refused(market.cloud.user(), market.broker.body(**there)) == invalid
    assert refused(market.admin, market.broker.body(**nowhere)) == invalid
    assert auditor.problem("POST", "/v3/service_brokers", market.broker.body(**there))[0] == 403
    assert developer.problem("POST", "/v3/service_brokers", market.broker.body())[0] == 403
    market.admin.ok("PATCH", "/v3/feature_flags/space_scoped_private_broker_creation", {"enabled": False})
    for client in (developer, market.admin):
        status, code, _ = client.problem("POST", "/v3/service_brokers", market.broker.body(**there))
        assert (status, code) == (403, 330002)


def test_a_developers_broker_is_not_on_this_machine(market: Marketplace) -> None:
    """Unless the operator allows it: it is not the platform's door to what lies behind it."""
    space = market.cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    developer = market.cloud.user(organization_user=org, space_developer=space["guid"])
    job = market.register(client=developer, relationships={"space": {"data": {"guid": space["guid"]}}})
    (error,) = job["errors"]
    assert "outbound.allow" in error["detail"]
    assert market.broker.asked() == []


def test_a_developer_does_not_lead_an_admins_broker_to_this_machine(market: Marketplace) -> None:
    space = market.cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    developer = market.cloud.user(organization_user=org, space_developer=space["guid"])
    job = market.register(relationships={"space": {"data": {"guid": space["guid"]}}})
    assert job["state"] == "COMPLETE"
    path = market.path()
    # What the admin gave still works, for whoever changes something else.
    assert (
        finished(market.cloud, developer, "PATCH", path, {"authentication": market.broker.body()["authentication"]})[
            "state"
        ]
        == "COMPLETE"
    )
    job = finished(market.cloud, developer, "PATCH", path, {"url": market.broker.url + "/other"})
    assert "outbound.allow" in job["errors"][0]["detail"]


# Changes


def test_metadata_changes_at_once(market: Marketplace) -> None:
    market.register()
    changed = market.admin.ok("PATCH", market.path(), {"metadata": {"labels": {"a": "b"}}})
    assert changed["metadata"]["labels"] == {"a": "b"}
    assert len(market.broker.asked()) == 1


def test_another_name_is_a_job_that_asks_nobody(market: Marketplace) -> None:
    market.register()
    job = finished(market.cloud, market.admin, "PATCH", market.path(), {"name": "renamed"})
    assert (job["operation"], job["state"]) == ("service_broker.update", "COMPLETE")
    assert market.admin.ok("GET", market.path("renamed"))["name"] == "renamed"
    assert len(market.broker.asked()) == 1


def test_another_url_is_taken_with_its_catalog(market: Marketplace) -> None:
    market.register()
    with scripted() as other:
        other.catalog = catalog(service("cache"))
        other.password = "another"
        body = {name: value for name, value in other.body().items() if name != "name"}
        job = finished(market.cloud, market.admin, "PATCH", market.path(), body)
        assert job["state"] == "COMPLETE", job
        assert market.admin.ok("GET", market.path())["url"] == other.url
        assert [one["name"] for one in market.offerings()] == ["cache"]
        # The new credentials are kept.
        job = finished(market.cloud, market.admin, "PATCH", market.path(), {"url": other.url + "/"})
        assert job["state"] == "COMPLETE", job


def test_a_change_whose_catalog_is_bad_has_not_been(market: Marketplace) -> None:
    market.register()
    with scripted() as other:
        other.catalog = {"services": []}
        job = finished(market.cloud, market.admin, "PATCH", market.path(), other.body("renamed"))
        assert job["errors"][0]["code"] == 270012
    shown = market.admin.ok("GET", market.path())
    assert (shown["name"], shown["url"]) == ("broker", market.broker.url)
    assert market.state() == "AVAILABLE"
    assert [one["name"] for one in market.offerings()] == ["db"]
    assert (
        finished(market.cloud, market.admin, "PATCH", market.path(), {"url": market.broker.url})["state"] == "COMPLETE"
    )


def test_one_change_at_a_time(market: Marketplace) -> None:
    market.admin.post("/v3/service_brokers", market.broker.body())
    detail = refused(market.admin, {"name": "x"}, "PATCH", market.path())
    assert detail == "Cannot update a broker when other operation is already in progress"
    market.admin.ok("PATCH", market.path(), {"metadata": {"labels": {"a": "b"}}})


def test_a_name_that_is_taken(market: Marketplace) -> None:
    market.register()
    market.register("other")
    assert refused(market.admin, {"name": "other"}, "PATCH", market.path()) == "Name must be unique"


# Removal


def test_a_broker_goes_with_its_offerings_and_plans(market: Marketplace) -> None:
    market.register()
    path = market.path()
    job = finished(market.cloud, market.admin, "DELETE", path)
    assert (job["operation"], job["state"], job["links"].keys()) == ("service_broker.delete", "COMPLETE", {"self"})
    assert market.admin.get(path).status_code == 404
    assert market.offerings() == market.plans() == []


def test_a_broker_with_instances_stays(market: Marketplace) -> None:
    market.register()
    market.instance("db-small")
    status, code, detail = market.admin.problem("DELETE", market.path())
    assert (status, code) == (422, 270010)
    assert detail == "Can not remove brokers that have associated service instances: broker"
    assert market.state() == "AVAILABLE"


def test_an_instance_that_came_meanwhile_keeps_the_broker(market: Marketplace) -> None:
    market.register()
    answer = market.admin.delete(market.path())
    assert market.state() == "DELETE_IN_PROGRESS"
    market.instance("db-small")
    job = market.job(answer)
    assert job["errors"][0]["code"] == 270010
    assert market.state() == "DELETE_FAILED"


# Lists


def test_filters_and_order(market: Marketplace) -> None:
    space = market.cloud.space()["guid"]
    market.register("b")
    market.register("a", relationships={"space": {"data": {"guid": space}}})
    assert [one["name"] for one in market.list("?names=a")] == ["a"]
    assert [one["name"] for one in market.list("?names=A")] == []
    assert [one["name"] for one in market.list(f"?space_guids={space}")] == ["a"]
    assert [one["name"] for one in market.list("?order_by=name")] == ["a", "b"]
    assert [one["name"] for one in market.list("?order_by=-name")] == ["b", "a"]


# Secrets


def test_credentials_are_nowhere_to_be_seen(market: Marketplace, caplog: pytest.LogCaptureFixture) -> None:
    market.register()
    finished(
        market.cloud, market.admin, "PATCH", market.path(), {"authentication": market.broker.body()["authentication"]}
    )
    market.broker.on("GET", "/v2/catalog", Says(500, b"x"))
    finished(market.cloud, market.admin, "PATCH", market.path(), {"url": market.broker.url})
    events = market.admin.ok("GET", "/v3/audit_events?per_page=500")
    seen = [events, market.list(), market.admin.ok("GET", "/v3/jobs"), caplog.text]
    with market.cloud.database.read() as tx:
        seen.append([tuple(row) for row in tx.all(select(service_brokers))])
        seen.append([row.payload for row in tx.all(select(jobs))])
    assert PASSWORD not in str(seen)
    assert USERNAME not in str(seen)
    (created,) = [one for one in events["resources"] if one["type"] == "audit.service_broker.create"]
    assert created["data"]["request"]["authentication"] == "[PRIVATE DATA HIDDEN]"


# Events


def test_events_of_a_brokers_life(market: Marketplace) -> None:
    market.register()
    guid = market.list()[0]["guid"]
    market.broker.catalog = catalog(service("db", plans=[plan("db-small", description="Now smaller"), plan("db-big")]))
    finished(market.cloud, market.admin, "PATCH", market.path(), {"url": market.broker.url})
    finished(market.cloud, market.admin, "DELETE", market.path())
    found = [
        (one["type"].removeprefix("audit."), one["actor"]["type"], one["target"]["name"])
        for one in market.admin.ok("GET", "/v3/audit_events?per_page=500")["resources"]
        if one["type"].startswith("audit.service")
    ]
    assert found[:6] == [
        ("service_broker.create", "user", "broker"),
        ("service.create", "service_broker", "db"),
        ("service_plan.create", "service_broker", "db-small"),
        ("service_broker.update", "user", "broker"),
        ("service_plan.update", "service_broker", "db-small"),
        ("service_plan.create", "service_broker", "db-big"),
    ]
    assert sorted(found[6:]) == sorted(
        [
            ("service_plan.delete", "service_broker", "db-small"),
            ("service_plan.delete", "service_broker", "db-big"),
            ("service.delete", "service_broker", "db"),
            ("service_broker.delete", "user", "broker"),
        ]
    )
    (event,) = market.admin.ok("GET", f"/v3/audit_events?target_guids={guid}&types=audit.service_broker.delete")[
        "resources"
    ]
    assert event["actor"]["name"] == "admin"
