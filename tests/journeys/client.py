"""The API as an operator's script would use it: the few requests that fault tests need, over real HTTP."""

import base64
import json
import time
import urllib.parse
from typing import Any

from tests.journeys.platform import Answer, Platform

__all__ = ["Client"]


class Client:
    """Logged in as the admin."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._token = ""

    def request(self, method: str, path: str, body: Any = None, expected: tuple[int, ...] = (200, 201, 202)) -> Answer:
        """One request; a controller that restarts is given time, as a patient client does."""
        if not self._token:
            self._token = self._log_in()
        headers = {"Authorization": f"bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        answer = self._patient(method, path, headers, data)
        assert answer.status in expected, f"{method} {path}: {answer.status} {answer.body!r}"
        return answer

    def _patient(self, method: str, path: str, headers: dict[str, str], data: bytes | None) -> Answer:
        deadline = time.monotonic() + 30
        while True:
            answer = self._platform.get("localhost", path, method=method, headers=headers, body=data)
            if answer.status != 503 or time.monotonic() > deadline:
                return answer
            time.sleep(0.1)

    def _log_in(self) -> str:
        form = urllib.parse.urlencode(
            {"grant_type": "password", "username": "admin", "password": self._platform.password}
        )
        headers = {"Authorization": "Basic Y2Y6", "Content-Type": "application/x-www-form-urlencoded"}
        answer = self._patient("POST", "/uaa/oauth/token", headers, form.encode())
        assert answer.status == 200, answer.body
        return str(answer.json()["access_token"])

    def get(self, path: str) -> Any:
        return self.request("GET", path).json()

    def app_guid(self, name: str) -> str:
        (found,) = self.get(f"/v3/apps?names={name}")["resources"]
        return str(found["guid"])

    def app_names(self) -> list[str]:
        return [one["name"] for one in self.get("/v3/apps")["resources"]]

    def create_app(self, name: str) -> None:
        space = self.get("/v3/spaces")["resources"][0]["guid"]
        self.request("POST", "/v3/apps", {"name": name, "relationships": {"space": {"data": {"guid": space}}}})

    def delete_app(self, name: str) -> str:
        """The guid of the job."""
        answer = self.request("DELETE", f"/v3/apps/{self.app_guid(name)}")
        return answer.headers["location"].rpartition("/")[2]

    def job(self, guid: str) -> str:
        return str(self.get(f"/v3/jobs/{guid}")["state"])

    def scale(self, name: str, **wanted: int) -> None:
        self.request("POST", f"/v3/apps/{self.app_guid(name)}/processes/web/actions/scale", wanted)
        self.request("POST", f"/v3/apps/{self.app_guid(name)}/actions/restart")

    def running(self, name: str) -> int:
        stats = self.get(f"/v3/apps/{self.app_guid(name)}/processes/web/stats")["resources"]
        return sum(one["state"] == "RUNNING" for one in stats)

    def start_build(self, name: str) -> str:
        guid = self.app_guid(name)
        package = self.get(f"/v3/packages?app_guids={guid}&states=READY&order_by=-created_at")["resources"][0]["guid"]
        return str(self.request("POST", "/v3/builds", {"package": {"guid": package}}).json()["guid"])

    def build_state(self, guid: str) -> str:
        return str(self.get(f"/v3/builds/{guid}")["state"])

    def build_error(self, guid: str) -> str:
        return str(self.get(f"/v3/builds/{guid}")["error"])

    def start_task(self, app: str, name: str, command: str) -> str:
        body = {"name": name, "command": command, "memory_in_mb": 64, "disk_in_mb": 256}
        return str(self.request("POST", f"/v3/apps/{self.app_guid(app)}/tasks", body).json()["guid"])

    def task_state(self, guid: str) -> str:
        return str(self.get(f"/v3/tasks/{guid}")["state"])

    def log(self, app: str, source: str) -> list[tuple[str, str]]:
        """(stream, line) of what one source says in an app's recent log, the oldest first."""
        path = f"/api/v1/read/{self.app_guid(app)}?envelope_types=LOG&descending=true&limit=1000"
        batch = self.get(path)["envelopes"]["batch"]
        logs = [one["log"] for one in reversed(batch) if one["tags"]["source_type"] == source]
        return [(log["type"], base64.b64decode(log["payload"]).decode()) for log in logs]
