"""A marketplace for tests: brokers that are registered, what they offer, and instances of it."""

from typing import Any

from sqlalchemy import select

from cupola.store import rows
from cupola.store.service_brokers import service_brokers, service_plans
from cupola.store.service_instances import service_instances
from tests.api.conftest import Client, Cloud
from tests.api.work import finish

__all__ = ["Marketplace"]


class Marketplace:
    """A cloud with a broker that can be registered."""

    def __init__(self, cloud: Cloud, broker: Any) -> None:
        self.cloud = cloud
        self.broker = broker
        """A scripted broker, or another one that has `url` and `body`."""
        self.admin = cloud.admin

    def register(self, name: str = "broker", client: Client | None = None, **more: Any) -> Any:
        """Register the broker; its job as it ended."""
        return self.job((client or self.admin).post("/v3/service_brokers", self.broker.body(name, **more)))

    def job(self, answer: Any) -> Any:
        """Let an accepted request be done; its job as the API shows it."""
        assert answer.status_code == 202, f"{answer.status_code} {answer.text}"
        finish(self.cloud)
        return self.admin.ok("GET", answer.headers["Location"].removeprefix(self.cloud.settings.api_url))

    def synchronize(self) -> Any:
        """Fetch the catalog anew; the job."""
        return self.job(self.admin.patch(self.path(), {"url": self.broker.url}))

    def list(self, query: str = "") -> Any:
        """The brokers."""
        return self.admin.ok("GET", f"/v3/service_brokers{query}")["resources"]

    def path(self, name: str = "broker") -> str:
        """Of a broker."""
        (found,) = self.list(f"?names={name}")
        return f"/v3/service_brokers/{found['guid']}"

    def state(self, name: str = "broker") -> str:
        """The state of a broker, which the API does not show."""
        with self.cloud.database.read() as tx:
            return str(tx.scalar(select(service_brokers.c.state).where(service_brokers.c.name == name)))

    def offerings(self, query: str = "", client: Client | None = None) -> Any:
        return (client or self.admin).ok("GET", f"/v3/service_offerings{query}")["resources"]

    def plans(self, query: str = "", client: Client | None = None) -> Any:
        return (client or self.admin).ok("GET", f"/v3/service_plans{query}")["resources"]

    def plan(self, name: str) -> Any:
        (found,) = self.plans(f"?names={name}")
        return found

    def offering(self, name: str) -> Any:
        (found,) = self.offerings(f"?names={name}")
        return found

    def show(self, plan: str, type_: str = "public", *organizations: str) -> None:
        """Let people use a plan."""
        body: dict[str, Any] = {"type": type_}
        if organizations:
            body["organizations"] = [{"guid": guid} for guid in organizations]
        self.admin.ok("PATCH", f"/v3/service_plans/{self.plan(plan)['guid']}/visibility", body)

    def instance(self, plan: str, space: str = "") -> str:
        """An instance of a plan, as its row: how it comes to be has tests of its own. Gives its guid."""
        space = space or self.cloud.space()["guid"]
        with self.cloud.database.write() as tx:
            found = tx.scalar(select(service_plans.c.guid).where(service_plans.c.name == plan))
            values = {
                "name": f"instance of {plan}",
                "type": "managed",
                "space_guid": space,
                "service_plan_guid": found,
                "tags": [],
                "maintenance_info": {},
                "operation_type": "create",
                "operation_state": "succeeded",
                "operation_created_at": tx.now,
                "operation_updated_at": tx.now,
            }
            return str(rows.add(tx, service_instances, values).guid)
