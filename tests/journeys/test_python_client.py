"""The same steps through the v3 managers of the PyPI client `cloudfoundry-client`, which always runs."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
from cloudfoundry_client.client import CloudFoundryClient
from cloudfoundry_client.v3.packages import PackageType

from tests.journeys.platform import Platform, eventually

STEADY = Path(__file__).parent / "apps" / "steady"


@pytest.fixture(scope="module")
def client(platform: Platform) -> CloudFoundryClient:
    client = CloudFoundryClient(platform.url, client_id="cf", client_secret="")
    client.init_with_user_credentials("admin", platform.password)
    return client


@pytest.fixture(scope="module")
def space(client: CloudFoundryClient) -> str:
    organization = client.v3.organizations.create("python-client", False)
    return str(client.v3.spaces.create("dev", organization["guid"])["guid"])


def bits(tmp_path: Path, **replaced: str) -> Path:
    archive = tmp_path / "bits.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("server.py", "Procfile", "requirements.txt"):
            text = (STEADY / name).read_text()
            for old, new in replaced.items():
                text = text.replace(f'"{old}"', f'"{new}"')
            file.writestr(name, text)
    return archive


def staged(client: CloudFoundryClient, app: str, archive: Path) -> str:
    """Upload and stage; the droplet's guid."""
    package = client.v3.packages.create(app, PackageType.BITS)
    with archive.open("rb") as file:
        client.post(
            f"{client.info.api_v3_url.removesuffix('/v3')}/v3/packages/{package['guid']}/upload", files={"bits": file}
        )
    eventually(lambda: client.v3.packages.get(package["guid"])["state"] == "READY")
    build = post(client, "/v3/builds", {"package": {"guid": package["guid"]}})

    def ended() -> Any:
        found = get(client, f"/v3/builds/{build['guid']}")
        return found["state"] != "STAGING" and found

    found = eventually(ended, 120)
    assert found["state"] == "STAGED", found
    return str(found["droplet"]["guid"])


def url(client: CloudFoundryClient, path: str) -> str:
    return str(client.info.api_v3_url.removesuffix("/v3")) + path


def get(client: CloudFoundryClient, path: str) -> Any:
    return client.get(url(client, path)).json()


def post(client: CloudFoundryClient, path: str, body: Any = None) -> Any:
    return client.post(url(client, path), json=body).json()


def drained(platform: Platform, version: str) -> None:
    """Those that a deployment replaced are stopped after it has ended, and may answer until then; never without a 200."""

    def seen() -> set[str]:
        answers = [platform.app("by-python") for _ in range(6)]
        assert {one.status for one in answers} == {200}
        return {one.json()["version"] for one in answers}

    eventually(lambda: seen() == {version}, 15, f"only {version} answers")
    assert seen() == {version}


def test_an_app_lives_and_dies(client: CloudFoundryClient, space: str, platform: Platform, tmp_path: Path) -> None:
    app = post(client, "/v3/apps", {"name": "by-python", "relationships": {"space": {"data": {"guid": space}}}})
    domain = next(one for one in client.v3.domains.list() if one["name"] == "apps.localhost")
    route = post(
        client, "/v3/routes",
        {"host": "by-python", "relationships": {"space": {"data": {"guid": space}}, "domain": {"data": {"guid": domain["guid"]}}}},
    )  # fmt: skip
    post(client, f"/v3/routes/{route['guid']}/destinations", {"destinations": [{"app": {"guid": app["guid"]}}]})
    droplet = staged(client, app["guid"], bits(tmp_path))
    client.patch(url(client, f"/v3/apps/{app['guid']}/relationships/current_droplet"), json={"data": {"guid": droplet}})
    post(
        client,
        f"/v3/apps/{app['guid']}/processes/web/actions/scale",
        {"instances": 1, "memory_in_mb": 64, "disk_in_mb": 256},
    )
    post(client, f"/v3/apps/{app['guid']}/actions/start")
    eventually(lambda: platform.app("by-python").status == 200, what="the app answers")

    post(client, f"/v3/apps/{app['guid']}/processes/web/actions/scale", {"instances": 3})
    web = next(one for one in client.v3.processes.list(app_guids=app["guid"]) if one["type"] == "web")
    eventually(lambda: {platform.app("by-python").json()["index"] for _ in range(9)} == {"0", "1", "2"})
    states = [one["state"] for one in get(client, f"/v3/processes/{web['guid']}/stats")["resources"]]
    assert states == ["RUNNING"] * 3

    client.patch(url(client, f"/v3/apps/{app['guid']}/environment_variables"), json={"var": {"COLOUR": "green"}})
    assert client.v3.apps.get_env(app["guid"])["environment_variables"] == {"COLOUR": "green"}
    client.v3.apps.restart(app["guid"])
    eventually(lambda: (found := platform.app("by-python")).status == 200 and found.json()["colour"] == "green")

    second = staged(client, app["guid"], bits(tmp_path, one="two"))
    deployment = post(
        client, "/v3/deployments",
        {"droplet": {"guid": second}, "relationships": {"app": {"data": {"guid": app["guid"]}}}},
    )  # fmt: skip
    eventually(lambda: get(client, f"/v3/deployments/{deployment['guid']}")["status"]["value"] == "FINALIZED", 60)
    drained(platform, "two")

    revisions = list(client.v3.apps.list_revisions(app["guid"]))
    assert [one["version"] for one in revisions][:1] == [1]
    back = post(
        client, "/v3/deployments",
        {"revision": {"guid": revisions[0]["guid"]}, "relationships": {"app": {"data": {"guid": app["guid"]}}}},
    )  # fmt: skip
    eventually(lambda: get(client, f"/v3/deployments/{back['guid']}")["status"]["value"] == "FINALIZED", 60)
    drained(platform, "one")

    read = client.get(f"{platform.url}/api/v1/read/{app['guid']}", params={"envelope_types": "LOG", "limit": 1000})
    assert read.json()["envelopes"]["batch"]

    job = client.v3.apps.remove(app["guid"])
    eventually(lambda: client.v3.jobs.get(job)["state"] == "COMPLETE" if job else True)
    eventually(lambda: platform.app("by-python").status == 503)
    client.v3.routes.remove(route["guid"])
    eventually(lambda: platform.app("by-python").status == 404)
