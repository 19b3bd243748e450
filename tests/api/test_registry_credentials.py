"""Registry credentials over HTTP: four scopes, who reads and keeps them, and that passwords stay inside."""

from typing import Any

import pytest
from sqlalchemy import select, text, update

from cupola.domain import lifecycle
from cupola.domain import registry_credentials as rules
from cupola.roles import system_actor
from cupola.store import rows, sealed
from cupola.store.apps import apps
from cupola.store.registry_credentials import registry_credentials
from cupola.store.staging import droplets, packages
from tests.api.conftest import Client, Cloud
from tests.api.work import finished

_PATH = "/v3/registry_credentials"


def body(location: str = "registry.example.test", **target: str) -> dict[str, Any]:
    given: dict[str, Any] = {"location": location, "username": "puller", "password": "s3cret"}
    if target:
        given["relationships"] = {kind: {"data": {"guid": guid}} for kind, guid in target.items()}
    return given


def keep(cloud: Cloud, location: str = "registry.example.test", **target: str) -> Any:
    return cloud.admin.ok("POST", _PATH, body(location, **target), 201)


def locations(client: Client, query: str = "") -> list[str]:
    return [one["location"] for one in client.ok("GET", f"{_PATH}{query}")["resources"]]


def password(cloud: Cloud, guid: str) -> str:
    with cloud.database.read() as tx:
        row = rows.by_guid(tx, registry_credentials, guid)
        assert row is not None
        return rules.password_of(tx, row)


def test_credentials_are_kept_shown_changed_and_deleted(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    made = keep(cloud, "Registry.Example.test:5000/team/", space=space)
    path = f"{_PATH}/{made['guid']}"
    assert made == {
        "guid": made["guid"],
        "created_at": made["created_at"],
        "updated_at": made["updated_at"],
        "location": "registry.example.test:5000/team",
        "username": "puller",
        "scope": "space",
        "relationships": {"space": {"data": {"guid": space}}},
        "metadata": {"labels": {}, "annotations": {}},
        "links": {
            "self": {"href": cloud.settings.api_url + path},
            "space": {"href": f"{cloud.settings.api_url}/v3/spaces/{space}"},
        },
    }
    assert cloud.admin.ok("GET", path) == made
    change = {"username": "robot", "password": "n3w", "metadata": {"labels": {"team": "red"}}}
    changed = cloud.admin.ok("PATCH", path, change)
    assert (changed["username"], changed["metadata"]["labels"]) == ("robot", {"team": "red"})
    assert password(cloud, made["guid"]) == "n3w"
    assert cloud.admin.problem("PATCH", path, {"location": "x"})[2] == "Unknown field(s): 'location'"
    assert cloud.admin.delete(path).status_code == 204
    assert cloud.admin.problem("GET", path) == (404, 10010, "Registry credential not found")


def test_passwords_stay_inside(cloud: Cloud) -> None:
    made = keep(cloud)
    path = f"{_PATH}/{made['guid']}"
    answers = [cloud.admin.patch(path, {"password": "s3cret"}), cloud.admin.get(path), cloud.admin.get(_PATH)]
    answers.append(cloud.admin.get(f"/v3/audit_events?target_guids={made['guid']}"))
    assert all("s3cret" not in answer.text for answer in answers)
    events = answers[-1].json()["resources"]
    assert [event["type"] for event in events] == [f"audit.registry_credential.{verb}" for verb in ("create", "update")]
    assert events[0]["data"]["request"]["password"] == "[PRIVATE DATA HIDDEN]"
    assert events[0]["target"] == {"guid": made["guid"], "type": "registry_credential", "name": "registry.example.test"}
    with cloud.database.read() as tx:
        stored = str(tx.scalar(select(registry_credentials.c.password)))
        dumped = str(tx.all(text("SELECT * FROM registry_credentials")))
    assert "s3cret" not in dumped
    assert stored.startswith("registry_credentials.password:")


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"location": ...}, "Location must be a string"),
        ({"location": ""}, "Location is too short (minimum is 1 character), Location must be a registry's host"),
        ({"location": "https://r.test"}, "Location must not have a scheme"),
        ({"location": "r.test/team:1"}, "Location must not have a tag"),
        ({"location": "r.test/team@sha256:0"}, "Location must not have a user or a digest"),
        ({"location": "r test"}, "Location must be a registry's host"),
        ({"location": "r.test//x"}, "Location must be a registry's host"),
        ({"location": "r.test/" + "x" * 1020}, "Location is too long (maximum is 1024 characters)"),
        ({"username": ...}, "Username must be a string"),
        ({"password": ""}, "Password is too short (minimum is 1 character)"),
        ({"scope": "app"}, "Unknown field(s): 'scope'"),
        ({"relationships": {"app": {"data": {"guid": "x"}}}}, "Relationships Unknown field(s): 'app'"),
        (
            {"relationships": {"space": {"data": {"guid": "x"}}, "organization": {"data": {"guid": "x"}}}},
            "Relationships must name an organization or a space, not both",
        ),
        ({"relationships": {"space": {"data": {"guid": "x"}}}}, "Invalid space. Ensure that the space exists"),
        ({"relationships": {"organization": {"data": {"guid": "x"}}}}, "Invalid organization. Ensure that the"),
    ],
)
def test_bad_bodies(cloud: Cloud, change: dict[str, Any], detail: str) -> None:
    given = {name: value for name, value in {**body(), **change}.items() if value is not ...}
    status, code, said = cloud.admin.problem("POST", _PATH, given)
    assert (status, code) == (422, 10008)
    assert said.startswith(detail)
    assert locations(cloud.admin) == []


def test_a_location_has_one_credential_in_each_place(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    targets: list[dict[str, str]] = [{}, {"organization": org}, {"space": cloud.space(org=org)["guid"]}]
    for target, scope in zip(targets, ("foundation", "organization", "space"), strict=True):
        assert keep(cloud, **target)["scope"] == scope
        taken = f"Registry credential for location 'registry.example.test' already exists in this {scope}."
        assert cloud.admin.problem("POST", _PATH, body("REGISTRY.example.test", **target)) == (422, 10016, taken)
    keep(cloud, "registry.example.test/team")


def test_who_reads_and_keeps_which(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    of = {
        "foundation": keep(cloud, "f.test")["guid"],
        "organization": keep(cloud, "o.test", organization=org)["guid"],
        "space": keep(cloud, "s.test", space=space)["guid"],
    }
    developer = cloud.user(space_developer=space, organization_user=org)
    auditor = cloud.user(space_auditor=space, organization_user=org)
    manager = cloud.user(organization_manager=org)
    stranger = cloud.user()
    assert locations(stranger) == ["f.test"]
    assert locations(manager) == ["f.test", "o.test"]
    assert locations(developer) == locations(auditor) == ["f.test", "o.test", "s.test"]
    assert locations(cloud.client("cloud_controller.global_auditor")) == ["f.test", "o.test", "s.test"]
    assert stranger.problem("GET", f"{_PATH}/{of['organization']}")[:2] == (404, 10010)
    assert manager.problem("DELETE", f"{_PATH}/{of['space']}")[:2] == (404, 10010)
    may = {"foundation": [cloud.admin], "organization": [cloud.admin, manager], "space": [cloud.admin, developer]}
    for scope, guid in of.items():
        for client in (cloud.admin, manager, developer, auditor):
            status = client.patch(f"{_PATH}/{guid}", {"username": "x"}).status_code
            assert status == (200 if client in may[scope] else 404 if client is manager and scope == "space" else 403)
    assert developer.problem("POST", _PATH, body())[:2] == (403, 10003)
    assert developer.problem("POST", _PATH, body(organization=org))[:2] == (403, 10003)
    assert auditor.problem("POST", _PATH, body(space=space))[:2] == (403, 10003)
    assert manager.problem("POST", _PATH, body(space=space))[:2] == (403, 10003)
    assert stranger.problem("POST", _PATH, body(space=space))[0] == 422
    assert developer.post(_PATH, body(space=space)).status_code == 201
    assert manager.post(_PATH, body(organization=org)).status_code == 201


def test_lists_are_filtered(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    keep(cloud, "f.test")
    keep(cloud, "o.test", organization=org)
    keep(cloud, "s.test", space=space)
    assert locations(cloud.admin, "?scopes=foundation,space") == ["f.test", "s.test"]
    assert locations(cloud.admin, f"?organization_guids={org}") == ["o.test"]
    assert locations(cloud.admin, f"?space_guids={space}") == ["s.test"]
    assert locations(cloud.admin, "?app_guids=x") == []
    assert locations(cloud.admin, "?locations=S.test,f.test/") == ["f.test", "s.test"]
    assert locations(cloud.admin, "?order_by=-created_at") == ["s.test", "o.test", "f.test"]
    bad = "Scopes must be one of 'foundation', 'organization', 'space', 'app'"
    assert cloud.admin.problem("GET", f"{_PATH}?scopes=all")[2].endswith(bad)


def test_an_app_keeps_what_it_was_pushed_with(cloud: Cloud) -> None:
    """The credentials of the package are those of the app once it is started, and go with it."""
    app = cloud.app()
    guid, space = app["guid"], app["relationships"]["space"]["data"]["guid"]

    def start(image: str, username: str, secret: str) -> None:
        # An app of type docker is made and started by rows: this engine runs none, so its feature flag stays off.
        with cloud.database.write() as tx:
            kept = sealed.seal(tx, packages.c.password, secret)
            values = {"type": "docker", "state": "READY", "image": image, "username": username, "password": kept}
            package = rows.add(tx, packages, {"app_guid": guid, **values})
            own = {"app_guid": guid, "package_guid": package.guid, "state": "STAGED", "lifecycle_type": "docker"}
            droplet = rows.add(tx, droplets, {**own, "process_types": {"web": ""}, "sidecars": []})
            tx.run(update(apps).where(apps.c.guid == guid).values(droplet_guid=droplet.guid, lifecycle_type="docker"))
            row = rows.by_guid(tx, apps, guid)
            assert row is not None
            lifecycle.restart_app(tx, row, system_actor())

    start("registry.example.test/team/shop:1", "puller", "one")
    (kept,) = cloud.admin.ok("GET", f"{_PATH}?app_guids={guid}")["resources"]
    assert (kept["location"], kept["username"], kept["scope"]) == ("registry.example.test", "puller", "app")
    assert kept["relationships"] == {"app": {"data": {"guid": guid}}}
    start("registry.example.test/team/shop:2", "robot", "two")
    start("library/shop", "hub", "three")
    shown = cloud.admin.ok("GET", f"{_PATH}?scopes=app")["resources"]
    assert [(one["location"], one["username"]) for one in shown] == [
        ("registry.example.test", "robot"),
        ("docker.io", "hub"),
    ]
    assert password(cloud, kept["guid"]) == "two"
    org = cloud.admin.ok("GET", f"/v3/spaces/{space}")["relationships"]["organization"]["data"]["guid"]
    developer = cloud.user(space_developer=space, organization_user=org)
    refused = developer.problem("PATCH", f"{_PATH}/{kept['guid']}", {"password": "x"})[2]
    assert refused == (
        "Registry credential for location 'registry.example.test' belongs to an app. "
        "Push the app with new credentials to change it."
    )
    assert cloud.user(organization_manager=org).get(f"{_PATH}/{kept['guid']}").status_code == 404
    assert developer.delete(f"{_PATH}/{kept['guid']}").status_code == 204
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/apps/{guid}")["state"] == "COMPLETE"
    assert locations(cloud.admin) == []


def test_credentials_go_with_their_space_and_organization(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    keep(cloud, "f.test")
    keep(cloud, "o.test", organization=org)
    keep(cloud, "s.test", space=cloud.space(org=org)["guid"])
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/organizations/{org}")["state"] == "COMPLETE"
    assert locations(cloud.admin) == ["f.test"]
