"""Clients for dashboards of services with `identity.mode = external`: they are at the other identity server."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.brokers.scripted import Broker, catalog, scripted, service
from tests.databases import Prepared
from tests.uaa.foreign import Cloud, cloud_without_users, url_of
from tests.uaa.house import House, Platform
from tests.uaa.server import served


@pytest.fixture(scope="session")
def prepared(sqlite_prepared: Prepared) -> Prepared:
    """The other platform's database is nobody's business here: one kind will do."""
    return sqlite_prepared


@pytest.fixture
def uaa(platform: Platform) -> Iterator[House]:
    with served(platform) as house:
        for name, authorities in (("cc", ["clients.admin", "scim.userids"]), ("weak", ["scim.userids"])):
            house.client(name, authorized_grant_types=["client_credentials"], authorities=authorities)
        yield house


@pytest.fixture
def cloud(uaa: House, tmp_path: Path) -> Iterator[Cloud]:
    with cloud_without_users(tmp_path / "cloud", url_of(uaa), "secret", loop=True, uaa__client_id="cc") as opened:
        yield opened


@pytest.fixture
def broker() -> Iterator[Broker]:
    with scripted() as opened:
        yield opened


def selling(secret: str = "the-secret", id_: str = "dash") -> Any:
    client = {"id": id_, "secret": secret, "redirect_uri": "https://dash.example/cb"}
    return catalog(service(dashboard_client=client))


def until(true: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


class Shop:
    """A cloud, and its admin, who registers a broker."""

    def __init__(self, cloud: Cloud, uaa: House, broker: Broker) -> None:
        self.cloud, self.uaa, self.broker = cloud, uaa, broker
        self.token = uaa.log_in()["access_token"]
        self.url = ""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return self.cloud.http.request(method, path, json=body, headers={"Authorization": f"bearer {self.token}"})

    def ended(self, answer: Any) -> Any:
        """The job of an accepted request, when it has ended."""
        assert answer.status_code == 202, answer.text
        path = answer.headers["Location"].removeprefix(self.cloud.settings.api_url)
        return until(lambda: (job := self.ask("GET", path).json())["state"] in {"COMPLETE", "FAILED"} and job)

    def register(self) -> Any:
        job = self.ended(self.ask("POST", "/v3/service_brokers", self.broker.body("shop")))
        (found,) = self.ask("GET", "/v3/service_brokers").json()["resources"]
        self.url = f"/v3/service_brokers/{found['guid']}"
        return job

    def synchronize(self) -> Any:
        return self.ended(self.ask("PATCH", self.url, {"url": self.broker.url}))

    def client(self, id_: str = "dash") -> Any:
        answer = self.uaa.get(f"/oauth/clients/{id_}", self.uaa.admin())
        return answer.json() if answer.status_code == 200 else None

    def takes(self, secret: str) -> bool:
        """Whether the identity server takes this secret: it refuses the code, not the client."""
        answer = self.uaa.token("dash", secret, grant_type="authorization_code", code="none")
        return bool(answer.json()["error"] == "invalid_grant")


@pytest.fixture
def shop(cloud: Cloud, uaa: House, broker: Broker) -> Shop:
    return Shop(cloud, uaa, broker)


def test_they_come_change_and_go_with_the_catalog(shop: Shop) -> None:
    shop.broker.catalog = selling()
    assert shop.register()["state"] == "COMPLETE"
    made = shop.client()
    assert made["redirect_uri"] == ["https://dash.example/cb"]
    assert sorted(made["scope"]) == ["cloud_controller_service_permissions.read", "openid"]
    assert made["authorized_grant_types"] == ["authorization_code"]
    assert shop.takes("the-secret")
    shop.broker.catalog = selling("another")
    assert shop.synchronize()["state"] == "COMPLETE"
    assert (shop.takes("the-secret"), shop.takes("another")) == (False, True)
    # Somebody removed it there: it is made again.
    assert shop.uaa.request("DELETE", "/oauth/clients/dash", shop.uaa.admin()).status_code == 200
    assert shop.synchronize()["state"] == "COMPLETE"
    assert shop.takes("another")
    assert shop.ended(shop.ask("DELETE", shop.url))["state"] == "COMPLETE"
    until(lambda: shop.client() is None)


def test_one_that_is_no_longer_offered_goes(shop: Shop) -> None:
    shop.broker.catalog = selling()
    shop.register()
    shop.broker.catalog = catalog(service())
    assert shop.synchronize()["state"] == "COMPLETE"
    until(lambda: shop.client() is None)


def test_clients_of_others_stay_theirs(shop: Shop) -> None:
    shop.uaa.client("dash", "old", authorized_grant_types=["client_credentials"], authorities=["uaa.none"])
    shop.broker.catalog = selling()
    job = shop.register()
    assert job["state"] == "FAILED"
    assert "Service dashboard client id must be unique" in job["errors"][0]["detail"]
    assert shop.client()["authorized_grant_types"] == ["client_credentials"]
    shop.ended(shop.ask("DELETE", shop.url))
    assert shop.client() is not None


def test_a_client_of_ours_that_may_not(uaa: House, broker: Broker, tmp_path: Path) -> None:
    broker.catalog = selling()
    with cloud_without_users(tmp_path / "weak", url_of(uaa), "secret", loop=True, uaa__client_id="weak") as cloud:
        shop = Shop(cloud, uaa, broker)
        (error,) = shop.register()["errors"]
        assert (error["code"], error["title"]) == (270013, "CF-ServiceBrokerDashboardClientFailure")
        assert "weak, which needs clients.admin" in error["detail"]
        assert "the-secret" not in error["detail"]
        assert shop.ask("GET", "/v3/service_offerings").json()["resources"] == []
        # Without clients for dashboards it need not.
        broker.catalog = catalog(service())
        assert shop.synchronize()["state"] == "COMPLETE"
