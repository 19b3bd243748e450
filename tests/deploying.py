"""An app that runs two instances on a cell that follows a script, and what moves its deployments on."""

from typing import Any

from cupola.domain.deployment_loop import DeploymentLoop
from tests.cloud import Cloud
from tests.scripted_cell import ScriptedCell, staged_droplet

__all__ = ["Site"]


class Site:
    """The app `shop` in a space of its own; `start` it first."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        space = cloud.space()
        self.space: str = space["guid"]
        self.org: str = space["relationships"]["organization"]["data"]["guid"]
        self.app: str = cloud.app("shop", self.space)["guid"]
        self.path = f"/v3/apps/{self.app}"
        self.first = self.droplet()
        self.cell = ScriptedCell(cloud.database, cloud.settings)
        self.loop = DeploymentLoop(cloud.database)
        cloud.admin.ok("PATCH", self.path + "/relationships/current_droplet", {"data": {"guid": self.first}})
        self.scale(2, memory_in_mb=64)

    def droplet(self) -> str:
        return staged_droplet(self.cloud.database, self.app)

    def scale(self, instances: int, **more: int) -> None:
        body = {"instances": instances, **more}
        self.cloud.admin.ok("POST", self.path + "/processes/web/actions/scale", body, 202)

    def start(self) -> None:
        self.cloud.admin.ok("POST", self.path + "/actions/start")
        self.cell.keep_up()

    def body(self, **more: Any) -> dict[str, Any]:
        return {"relationships": {"app": {"data": {"guid": self.app}}}, **more}

    def deploy(self, droplet: str = "", client: Any = None, **more: Any) -> Any:
        """Begin to deploy a droplet; a new one unless named."""
        body = self.body(droplet={"guid": droplet or self.droplet()}, **more)
        return (client or self.cloud.admin).ok("POST", "/v3/deployments", body, 201)

    def problem(self, client: Any = None, **more: Any) -> tuple[int, int, str]:
        found: tuple[int, int, str] = (client or self.cloud.admin).problem("POST", "/v3/deployments", self.body(**more))
        return found

    def shown(self, deployment: Any) -> Any:
        return self.cloud.admin.ok("GET", f"/v3/deployments/{deployment['guid']}")

    def reason(self, deployment: Any) -> str:
        return str(self.shown(deployment)["status"]["reason"])

    def settle(self) -> None:
        """Let loop and cell work until nothing is left to do."""
        for _ in range(30):
            self.loop.once()
            if not self.cell.missing() and not self.cell.surplus():
                break
            self.cell.keep_up()
        self.loop.once()

    def webs(self) -> list[Any]:
        found: list[Any] = self.cloud.admin.ok("GET", self.path + "/processes?types=web")["resources"]
        return found

    def user(self, role: str) -> Any:
        return self.cloud.user(**{role: self.space, "organization_user": self.org})

    def events(self, type_: str) -> list[Any]:
        found: list[Any] = self.cloud.admin.ok("GET", f"/v3/audit_events?types={type_}&target_guids={self.app}")[
            "resources"
        ]
        return found
