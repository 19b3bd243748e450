"""Manifests over HTTP: what is refused, what changes, what is written."""

from typing import Any

import pytest
import yaml

from cupola.domain.manifests import apply, parse
from cupola.roles import system_actor
from cupola.store import rows
from cupola.store.orgs import spaces
from tests.api.conftest import Cloud
from tests.api.work import finish

YAML = {"Content-Type": "application/x-yaml"}


def post(cloud: Cloud, space: str, path: str, manifest: Any) -> Any:
    text = manifest if isinstance(manifest, str) else yaml.safe_dump(manifest)
    return cloud.admin.post(f"/v3/spaces/{space}/{path}", content=text.encode(), headers=YAML)


def applied(cloud: Cloud, space_guid: str, manifest: Any) -> None:
    """Apply as the job does."""
    manifests = parse.parse(parse.load(yaml.safe_dump(manifest).encode()))
    with cloud.database.write() as tx:
        space = rows.by_guid(tx, spaces, space_guid)
        assert space is not None
        found = apply.create_missing(tx, cloud.settings, system_actor(), space, manifests, [])
        for app, one in zip(found, manifests, strict=True):
            apply.apply(tx, cloud.settings, system_actor(), app, one)


def test_missing_apps_are_there_before_the_answer(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    answer = post(cloud, space, "actions/apply_manifest", {"applications": [{"name": "shop"}]})
    assert answer.status_code == 202
    assert "/v3/jobs/" in answer.headers["Location"]
    assert [one["name"] for one in cloud.admin.ok("GET", f"/v3/apps?space_guids={space}")["resources"]] == ["shop"]


@pytest.mark.parametrize(
    ("text", "status", "detail"),
    [
        ("applications: []", 422, "Cannot parse manifest with no 'applications' field."),
        (
            "version: 2\napplications: [{name: x}]",
            422,
            "Unsupported manifest schema version. Currently supported versions: [1].",
        ),
        ("just text", 400, "Request invalid due to parse error: invalid request body"),
        ("a: &b 1\nc: *b", 400, "Bad request: Manifest does not support Anchors and Aliases"),
        ("applications: [{}]", 422, "For application at index 0: Name must not be empty"),
        (
            "applications: [{name: a, memory: 12X}]",
            422,
            "For application 'a': Process \"web\": Memory must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB",
        ),
    ],
)
def test_bad_manifests_say_where(cloud: Cloud, text: str, status: int, detail: str) -> None:
    answer = post(cloud, cloud.space()["guid"], "actions/apply_manifest", text)
    assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (status, detail)


def test_a_manifest_is_applied_and_applying_it_again_changes_nothing(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    manifest = {
        "applications": [
            {
                "name": "shop",
                "memory": "64M",
                "instances": 2,
                "env": {"A": 1, "B": True, "C": None},
                "routes": [{"route": "shop.apps.localhost/x"}],
                "metadata": {"labels": {"team": "red"}},
                "processes": [{"type": "worker", "command": "work", "instances": 1}],
                "sidecars": [{"name": "side", "command": "help", "process_types": ["web"], "memory": "8M"}],
            }
        ]
    }
    applied(cloud, space, manifest)
    app = cloud.admin.ok("GET", f"/v3/apps?space_guids={space}")["resources"][0]
    assert app["metadata"]["labels"] == {"team": "red"}
    assert cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/environment_variables")["var"] == {
        "A": "1",
        "B": "true",
        "C": "",
    }
    web = cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/processes/web")
    assert (web["memory_in_mb"], web["instances"]) == (64, 2)
    assert cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/processes/worker")["command"] == "work"
    assert cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/routes")["resources"][0]["url"] == "shop.apps.localhost/x"
    events = len(cloud.admin.ok("GET", f"/v3/audit_events?target_guids={app['guid']}&per_page=500")["resources"])
    diff = post(cloud, space, "manifest_diff", manifest).json()["diff"]
    assert diff == []
    applied(cloud, space, manifest)
    later = cloud.admin.ok("GET", f"/v3/audit_events?target_guids={app['guid']}&per_page=500")["resources"]
    assert {event["type"] for event in later[events:]} <= {
        "audit.app.environment_variables.show",
        "audit.app.update",
        "audit.app.apply_manifest",
    }


def test_the_difference_names_what_would_change(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    applied(
        cloud,
        space,
        {"applications": [{"name": "shop", "env": {"A": "1"}, "processes": [{"type": "web", "memory": "64M"}]}]},
    )
    wanted = {
        "applications": [
            {"name": "shop", "env": {"A": "2", "B": "3"}, "processes": [{"type": "web", "memory": "0.5G"}]}
        ]
    }
    answer = post(cloud, space, "manifest_diff", wanted)
    assert answer.status_code == 201
    assert answer.json()["diff"] == [
        {"op": "replace", "path": "/applications/0/env/A", "was": "1", "value": "2"},
        {"op": "add", "path": "/applications/0/env/B", "value": "3"},
        {"op": "replace", "path": "/applications/0/processes/0/memory", "was": "64M", "value": "512M"},
    ]


def test_a_generated_manifest_can_be_applied(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    applied(cloud, space, {"applications": [{"name": "shop", "default-route": True, "env": {"A": "1"}}]})
    app = cloud.admin.ok("GET", f"/v3/apps?space_guids={space}")["resources"][0]["guid"]
    answer = cloud.admin.get(f"/v3/apps/{app}/manifest")
    assert answer.headers["Content-Type"] == "application/x-yaml"
    document = yaml.safe_load(answer.text)
    assert document["applications"][0]["routes"] == [{"route": "shop.apps.localhost", "protocol": "http1"}]
    assert post(cloud, space, "manifest_diff", document).json()["diff"] == []


def test_a_manifest_of_one_app_is_applied_to_it(cloud: Cloud) -> None:
    app = cloud.app("shop")["guid"]

    def send(manifest: Any) -> Any:
        text = yaml.safe_dump(manifest).encode()
        return cloud.admin.post(f"/v3/apps/{app}/actions/apply_manifest", content=text, headers=YAML)

    answer = send({"applications": [{"name": "Shop", "env": {"A": "1"}}]})
    assert answer.status_code == 202
    finish(cloud)
    job = cloud.admin.ok("GET", answer.headers["Location"].removeprefix(cloud.settings.api_url))
    assert (job["operation"], job["state"]) == ("app.apply_manifest", "COMPLETE")
    assert job["links"]["app"]["href"].endswith(app)
    assert cloud.admin.ok("GET", f"/v3/apps/{app}/environment_variables")["var"] == {"A": "1"}
    for wrong in ([{"name": "other"}], [{"name": "shop"}, {"name": "other"}]):
        (error,) = send({"applications": wrong}).json()["errors"]
        assert error["detail"].startswith("The manifest must have exactly one application, named 'shop'")
