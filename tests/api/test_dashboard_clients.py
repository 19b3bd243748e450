"""Clients of the identity server for dashboards: they come, change and go with a broker's catalog."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Row, insert, select

from cupola.store.identity import oauth_clients, revocations
from cupola.store.service_brokers import service_dashboard_clients
from cupola.uaa.passwords import Passwords
from tests.api.conftest import Cloud
from tests.api.marketplace import Marketplace
from tests.api.work import finished
from tests.brokers.scripted import Broker, catalog, scripted, service

TAKEN = "Service broker catalog is invalid: \nService db\n  Service dashboard client id must be unique\n"


@pytest.fixture
def broker() -> Iterator[Broker]:
    with scripted() as opened:
        yield opened


@pytest.fixture
def market(cloud: Cloud, broker: Broker) -> Marketplace:
    return Marketplace(cloud, broker)


def with_client(id_: str = "dash", secret: str = "the-secret", uri: str = "https://dash.example/cb") -> Any:
    return service(dashboard_client={"id": id_, "secret": secret, "redirect_uri": uri})


def client(market: Marketplace, id_: str = "dash") -> Row[Any] | None:
    with market.cloud.database.read() as tx:
        return tx.one(select(oauth_clients).where(oauth_clients.c.client_id == id_))


def accepts(market: Marketplace, row: Row[Any] | None, secret: str) -> bool:
    """Whether the identity server takes this secret."""
    assert row is not None
    memory = market.cloud.settings.identity.shared_secret_argon2_memory_kib
    return Passwords(memory).secret_matches(secret, row.secret_hashes)


def test_a_client_is_made_for_the_dashboard(market: Marketplace) -> None:
    market.broker.catalog = catalog(with_client())
    market.register()
    row = client(market)
    assert row is not None
    assert row.redirect_uris == ["https://dash.example/cb"]
    assert row.scope == ["cloud_controller_service_permissions.read", "openid"]
    assert (row.authorities, row.grant_types, row.autoapprove) == (["uaa.resource"], ["authorization_code"], [])
    assert accepts(market, row, "the-secret")
    assert not accepts(market, row, "another")
    (event,) = market.admin.ok("GET", "/v3/audit_events?types=audit.service_dashboard_client.create")["resources"]
    assert (event["actor"]["type"], event["target"]["name"]) == ("service_broker", "dash")
    assert event["data"] == {"secret": "[REDACTED]", "redirect_uri": "https://dash.example/cb"}
    assert "the-secret" not in str(market.admin.ok("GET", "/v3/audit_events"))


def test_it_changes_with_the_catalog(market: Marketplace) -> None:
    market.broker.catalog = catalog(with_client())
    market.register()
    before = client(market)
    assert before is not None
    market.synchronize()
    same = client(market)
    assert same is not None
    assert (same.secret_hashes, same.generation) == (before.secret_hashes, before.generation)
    market.broker.catalog = catalog(with_client(secret="new", uri="https://dash.example/new"))
    market.synchronize()
    after = client(market)
    assert after is not None
    assert after.redirect_uris == ["https://dash.example/new"]
    assert accepts(market, after, "new")
    # Who had the old secret has no session any more.
    assert after.generation != before.generation
    with market.cloud.database.read() as tx:
        assert tx.scalar(select(revocations.c.id).where(revocations.c.kind == "client")) == "dash"


def test_it_goes_with_the_service_and_with_the_broker(market: Marketplace) -> None:
    market.broker.catalog = catalog(with_client())
    market.register()
    market.broker.catalog = catalog(service())
    market.synchronize()
    assert client(market) is None
    market.broker.catalog = catalog(with_client())
    market.synchronize()
    assert client(market) is not None
    finished(market.cloud, market.admin, "DELETE", market.path())
    assert client(market) is None
    with market.cloud.database.read() as tx:
        assert tx.all(select(service_dashboard_clients)) == []
    events = market.admin.ok("GET", "/v3/audit_events?types=audit.service_dashboard_client.delete")
    assert events["pagination"]["total_results"] == 2


def test_nobody_takes_a_client_that_is_there_already(market: Marketplace) -> None:
    values = {"client_id": "cf-like", "secret_hashes": ["hash"], "scope": ["cloud_controller.admin"], "authorities": []}
    with market.cloud.database.write() as tx:
        tx.run(insert(oauth_clients).values(**values, grant_types=["password"], redirect_uris=[]))
    market.broker.catalog = catalog(with_client("cf-like"))
    (error,) = market.register()["errors"]
    assert (error["code"], error["detail"]) == (270012, TAKEN)
    row = client(market, "cf-like")
    assert row is not None
    assert (row.secret_hashes, row.scope) == (["hash"], ["cloud_controller.admin"])
    assert market.offerings() == []
    # Nor does it go with a broker that wanted it.
    finished(market.cloud, market.admin, "DELETE", market.path())
    assert client(market, "cf-like") is not None


def test_nor_one_of_another_broker(market: Marketplace) -> None:
    market.broker.catalog = catalog(with_client())
    market.register()
    (error,) = market.register("other")["errors"]
    assert error["detail"] == TAKEN
    finished(market.cloud, market.admin, "DELETE", market.path("other"))
    assert client(market) is not None


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ({"id_": "a/b"}, "id must have at most 255 characters, no slashes and no colons"),
        ({"id_": "x" * 256}, "id must have at most 255 characters, no slashes and no colons"),
        ({"secret": "x" * 256}, "secret must have at most 255 characters"),
        ({"uri": "javascript:alert(1)"}, "redirect_uri must be an http or https url with a host"),
        ({"uri": "https://*.example/cb"}, "redirect_uri must be an http or https url with a host"),
    ],
)
def test_what_the_identity_server_does_not_keep(market: Marketplace, given: dict[str, str], detail: str) -> None:
    market.broker.catalog = catalog(with_client(**given))
    (error,) = market.register()["errors"]
    assert error["detail"] == (
        f"Service broker catalog is invalid: \nService db\n  Service dashboard client {detail}\n"
    )
