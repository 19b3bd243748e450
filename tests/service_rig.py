"""A service broker that does what a test says, over real HTTP, and a platform that offers its plans.

broker = ScriptedBroker()
with serving(broker):
    shop = Shop(cloud, broker)
    broker.answers("PUT instance", Answer(202, {"operation": "7"}))
    instance = shop.create()          # the job is run; `shop.job` is what became of it
    assert broker.sent("PUT instance")[0].body["plan_id"] == "plan-small"
"""

import asyncio
import itertools
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from cupola.brokers.client import BrokerClient
from cupola.jobs.runner import Runner
from cupola.processes.handlers import handlers
from cupola.store import jobs, rows, sealed
from cupola.store.database import Tx
from cupola.store.service_brokers import service_brokers, service_offerings, service_plans
from tests.api.work import finish
from tests.brokers.scripted import Asked, Broker, Says
from tests.cloud import Client, Cloud

__all__ = ["Answer", "Request", "ScriptedBroker", "Shop", "run_until"]

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
_KINDS = (
    ("instance", r"/v2/service_instances/[^/]+"),
    ("instance last_operation", r"/v2/service_instances/[^/]+/last_operation"),
    ("binding", r"/v2/service_instances/[^/]+/service_bindings/[^/]+"),
    ("binding last_operation", r"/v2/service_instances/[^/]+/service_bindings/[^/]+/last_operation"),
    ("backups", r"/osmapi/v1/service_instances/[^/]+/backups"),
    ("restore", r"/osmapi/v1/service_instances/[^/]+/restore"),
    ("osm last_operation", r"/osmapi/v1/service_instances/[^/]+/osm_last_operation"),
)


@dataclass(frozen=True)
class Answer:
    """What the broker says; a body that is no object is sent as it is. `hangs`: it says nothing at all."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False

    def says(self) -> Says:
        body = self.body.encode() if isinstance(self.body, str) else self.body
        return Says(self.status, body, self.headers, hangs=self.hangs)


@dataclass(frozen=True)
class Request:
    """What the broker was asked. Names of headers are in lower case."""

    kind: str
    guids: tuple[str, ...]
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


_USUAL = {
    "PUT instance": Answer(201),
    "PATCH instance": Answer(200),
    "DELETE instance": Answer(200),
    "PUT binding": Answer(201, {"credentials": {"password": "s3cret"}}),
    "DELETE binding": Answer(200),
    "GET instance last_operation": Answer(200, {"state": "succeeded"}),
    "GET binding last_operation": Answer(200, {"state": "succeeded"}),
    "GET instance": Answer(200, {"parameters": {"size": 3}}),
    "GET binding": Answer(200, {"credentials": {"password": "s3cret"}, "parameters": {"role": "reader"}}),
    "GET backups": Answer(200, {"backups": []}),
    "POST backups": Answer(201, {"id": "b1", "created_at": 1_700_000_000}),
    "POST restore": Answer(200),
    "GET osm last_operation": Answer(200, {"state": "succeeded"}),
}


class ScriptedBroker(Broker):
    """A broker that knows requests by their kind: `PUT instance`."""

    def __init__(self) -> None:
        super().__init__()
        self._answers: dict[str, list[Answer]] = {}

    def answers(self, what: str, *answers: Answer) -> None:
        """What is said to the next requests of a kind; the last of them is said ever after."""
        with self._changed:
            self._answers[what] = list(answers)

    def sent(self, what: str) -> list[Request]:
        """The requests of a kind, in order."""
        return [one for one in self.requests() if one.kind == what]

    def kinds(self) -> list[str]:
        """Kinds of all requests, in order."""
        return [one.kind for one in self.requests()]

    def requests(self) -> list[Request]:
        """All requests, in order."""
        return [
            Request(_kind(one), tuple(_GUID.findall(one.path)), one.query, one.body, one.headers)
            for one in self.asked()
        ]

    def reset(self) -> None:
        """Forget what was said and what is to be said."""
        with self._changed:
            self._heard.clear()
            self._answers.clear()

    def _choose(self, asked: Asked) -> Says:
        kind = _kind(asked)
        script = self._answers.get(kind) or [_USUAL.get(kind, Answer(404))]
        return (script.pop(0) if len(script) > 1 else script[0]).says()


def _kind(asked: Asked) -> str:
    name = next((name for name, path in _KINDS if re.fullmatch(path, asked.path)), asked.path)
    return f"{asked.method} {name}"


def run_until(cloud: Cloud, reached: Callable[[], bool]) -> None:
    """Run jobs until something is so; what is due later than that stays open."""

    async def work() -> None:
        client = BrokerClient(cloud.settings)
        runner = Runner(cloud.database, handlers(cloud.settings, client), cloud.settings.jobs, cloud.database.bells)
        await runner.start(alone=True)
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(reached):  # noqa: ASYNC110  # the state of rows has no event
                await asyncio.sleep(0.01)
        await runner.stop()
        await client.close()

    asyncio.run(work())


class Shop:
    """A space whose people use what a broker offers: an offering `db` with the plans `small` and `large`.

    `offering` and `plan` change what the catalog would say. `client` is who asks; an admin unless set.
    """

    def __init__(
        self,
        cloud: Cloud,
        broker: ScriptedBroker,
        *,
        offering: Mapping[str, Any] | None = None,
        plan: Mapping[str, Any] | None = None,
    ) -> None:
        self.cloud = cloud
        self.broker = broker
        self.client: Client = cloud.admin
        space = cloud.space()
        self.space: str = space["guid"]
        self.org: str = space["relationships"]["organization"]["data"]["guid"]
        self.job: Any = None
        self._numbers = itertools.count(1)
        cloud.settings.brokers.poll_seconds = 0.01
        cloud.settings.brokers.poll_backoff = 1.0
        self._brokers = BrokerClient(cloud.settings)
        cloud.services.extra["brokers"] = self._brokers
        with cloud.database.write() as tx:
            self.broker_guid = self._add_broker(tx)
            self.offering = self.add_offering(tx, **(offering or {}))
            self.small = self.add_plan(tx, "small", **(plan or {}))
            self.large = self.add_plan(tx, "large", free=False, **plan or {})

    def close(self) -> None:
        """Close the connections of the API's requests, on the loop that they were made on."""
        self.cloud._http._loop().run_until_complete(self._brokers.close())

    def _add_broker(self, tx: Tx) -> str:
        columns = service_brokers.c
        values = {
            "name": f"broker-{uuid.uuid4()}",
            "url": self.broker.url,
            "username": sealed.seal(tx, columns.username, "cupola"),
            "password": sealed.seal(tx, columns.password, "pa55word"),
            "anywhere": True,
            "state": "AVAILABLE",
        }
        return str(rows.add(tx, service_brokers, values).guid)

    def add_offering(self, tx: Tx, **more: Any) -> str:
        values = {
            "service_broker_guid": self.broker_guid,
            "catalog_id": f"service-{uuid.uuid4()}",
            "name": "db",
            "description": "Databases",
            "available": True,
            "bindable": True,
            "plan_updateable": True,
            "instances_retrievable": False,
            "bindings_retrievable": False,
            "allow_context_updates": False,
            "shareable": True,
            "tags": ["sql"],
            "requires": [],
            "documentation_url": "",
            "catalog_metadata": {},
            "osmapi_features": [],
            **more,
        }
        values["name_key"] = values["name"].lower()
        return str(rows.add(tx, service_offerings, values).guid)

    def add_plan(self, tx: Tx, name: str, **more: Any) -> str:
        values = {
            "service_offering_guid": self.offering,
            "service_broker_guid": self.broker_guid,
            "catalog_id": f"plan-{name}",
            "name": name,
            "name_key": name,
            "description": name,
            "available": True,
            "visibility_type": "public",
            "free": True,
            "bindable": True,
            "plan_updateable": True,
            "catalog_metadata": {},
            "maintenance_info": {},
            "schemas": {},
            **more,
        }
        return str(rows.add(tx, service_plans, values).guid)

    def change_plan(self, guid: str, **values: Any) -> None:
        with self.cloud.database.write() as tx:
            tx.run(service_plans.update().where(service_plans.c.guid == guid).values(values))

    def change_offering(self, **values: Any) -> None:
        with self.cloud.database.write() as tx:
            tx.run(service_offerings.update().where(service_offerings.c.guid == self.offering).values(values))

    # What people do. Each runs the jobs that it starts.

    def body(self, name: str = "", plan: str = "", **more: Any) -> dict[str, Any]:
        """Of a new managed instance."""
        relationships = {
            "space": {"data": {"guid": self.space}},
            "service_plan": {"data": {"guid": plan or self.small}},
        }
        return {
            "type": "managed",
            "name": name or f"db-{next(self._numbers)}",
            "relationships": relationships,
            **more,
        }

    def create(self, name: str = "", plan: str = "", **more: Any) -> Any:
        """A new managed instance, as it is when its job has ended."""
        body = self.body(name, plan, **more)
        self.do("POST", "/v3/service_instances", body)
        found = self.client.ok("GET", f"/v3/service_instances?names={body['name']}&space_guids={self.space}")
        return found["resources"][0] if found["resources"] else None

    def user_provided(self, name: str = "", **more: Any) -> Any:
        """A new user-provided instance."""
        body = {
            "type": "user-provided",
            "name": name or f"ups-{next(self._numbers)}",
            "relationships": {"space": {"data": {"guid": self.space}}},
            **more,
        }
        return self.client.ok("POST", "/v3/service_instances", body, 201)

    def bind(self, instance: Any, app: Any, **more: Any) -> Any:
        """A new binding of an app, as it is when its job has ended."""
        related = {"service_instance": {"data": {"guid": instance["guid"]}}, "app": {"data": {"guid": app["guid"]}}}
        body = {"type": "app", "relationships": related, **more}
        return self._bound(body)

    def key(self, instance: Any, name: str = "key", **more: Any) -> Any:
        """A new key, as it is when its job has ended."""
        related = {"service_instance": {"data": {"guid": instance["guid"]}}}
        return self._bound({"type": "key", "name": name, "relationships": related, **more})

    def _bound(self, body: Any) -> Any:
        answer = self.do("POST", "/v3/service_credential_bindings", body)
        if answer.status_code == 201:
            return answer.json()
        with self.cloud.database.read() as tx:
            guid = tx.scalar(select(jobs.jobs.c.resource_guid).where(jobs.jobs.c.guid == self.job["guid"]))
        found = self.client.get(f"/v3/service_credential_bindings/{guid}")
        return found.json() if found.status_code == 200 else None

    def do(self, method: str, path: str, body: Any = None) -> Any:
        """Ask for something and run its job to the end: `self.job` is what it became."""
        answer = self.client.request(method, path, body)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        self.job = None
        if answer.status_code == 202:
            finish(self.cloud)
            where = answer.headers["Location"].removeprefix(self.cloud.settings.api_url)
            self.job = self.client.ok("GET", where)
        return answer

    def failure(self) -> tuple[int, str]:
        """(code, detail) of the job that failed."""
        assert self.job["state"] == "FAILED", self.job
        (error,) = self.job["errors"]
        return error["code"], error["detail"]

    def show(self, instance: Any) -> Any:
        return self.client.ok("GET", f"/v3/service_instances/{instance['guid']}")

    def events(self, target: Any) -> list[str]:
        """Types of the audit events of a thing, oldest first."""
        found = self.cloud.admin.ok("GET", f"/v3/audit_events?target_guids={target['guid']}&per_page=100")
        return [one["type"] for one in found["resources"]]
