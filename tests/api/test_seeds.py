"""The documents that Cupola was asked for in: what they name works, with their own words for parameters and fields.

`data/*_seed.yaml` say what the OpenAPI rendering and the list of Korifi's endpoints name; of the operations index the
contract keeps which operations it has. Each is asked for on a platform with one of everything (tests/house/town.py).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cupola.api.table import OPERATIONS
from cupola.rest.operation import Operation
from tests.databases import Prepared
from tests.house.conftest import open_town
from tests.house.contract import normal, table
from tests.house.town import Recipe, Town, all_recipes, key_of

DATA = Path(__file__).parent / "data"
RECIPES = all_recipes()


def _document(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((DATA / f"{name}_seed.yaml").read_text())
    return found


OPENAPI, KORIFI = _document("openapi"), _document("korifi")
SERVED = {key_of(operation): operation for operation in OPERATIONS}
VALUES = {
    "page": "1",
    "perPage": "1",
    "order_by": "-updated_at",
    "created_ats": "2026-01-01T00:00:00Z",
    "updated_ats": "2026-01-01T00:00:00Z",
    "label_selector": "tier=gold",
    "include": "user,space,organization",
    "versions": "1",
    "ports": "8080",
    "protocols": "http",
    "sequence_ids": "1",
    "after_guid": "$app_usage_event",
}
"""Values of parameters; of others, a word that names nothing."""
OWN_VALUES = {
    ("GET /v3/feature_flags", "order_by"): "name",
    ("GET /v3/app_usage_events", "order_by"): "-created_at",
    ("GET /v3/packages", "states"): "READY",
    ("GET /v3/packages", "types"): "bits",
    ("GET /v3/apps/{guid}/packages", "states"): "READY",
    ("GET /v3/apps/{guid}/packages", "types"): "bits",
    ("GET /v3/droplets", "states"): "STAGED",
    ("GET /v3/deployments", "states"): "DEPLOYED",
    ("GET /v3/deployments", "status_reasons"): "DEPLOYED",
    ("GET /v3/deployments", "status_values"): "FINALIZED",
    ("GET /v3/jobs", "states"): "COMPLETE",
    ("GET /v3/roles", "types"): "space_developer",
    # Upstream refuses origins without names, and its clients know that.
    ("GET /v3/users", "origins"): "uaa&usernames=somebody",
}


_META = {"labels": {"tier": "gold"}, "annotations": {"note": "a"}}
_APP = {"app": {"data": {"guid": "$app"}}}
_DESTINATION = {"app": {"guid": "$other_app", "process": {"type": "web"}}, "port": 8080, "protocol": "http1"}
BODIES: dict[str, Any] = {
    "POST /v3/apps": {
        "name": "from-the-document",
        "relationships": {"space": {"data": {"guid": "$space"}}},
        "lifecycle": {"type": "buildpack", "data": {"buildpacks": [], "stack": "cflinuxfs4"}},
        "metadata": _META,
        "environment_variables": {"COLOUR": "red"},
    },
    "PATCH /v3/apps/{guid}": {
        "name": "renamed-by-the-document",
        "lifecycle": {"type": "buildpack", "data": {"buildpacks": [], "stack": "cflinuxfs4"}},
        "metadata": _META,
    },
    "PATCH /v3/apps/{guid}/relationships/current_droplet": {"data": {"guid": "$spare_droplet"}},
    "PATCH /v3/apps/{guid}/features/{name}": {"enabled": True},
    "POST /v3/audit_events": {
        "type": "custom.visit",
        "actor": {"guid": "$admin", "type": "user", "name": "admin"},
        "target": {"guid": "$app", "type": "app", "name": "town-app"},
        "data": {"why": "because"},
        "space": {"guid": "$space"},
        "organization": {"guid": "$organization"},
        "metadata": {"labels": {}, "annotations": {}},
    },
    "POST /v3/builds": {
        "package": {"guid": "$ready_package"},
        "lifecycle": {"type": "buildpack", "data": {"buildpacks": [], "stack": "cflinuxfs4"}},
        "staging_memory_in_mb": 512,
        "staging_disk_in_mb": 1024,
        "staging_log_rate_limit_bytes_per_second": -1,
        "metadata": _META,
    },
    "PATCH /v3/builds/{guid}": {"metadata": _META},
    "POST /v3/buildpacks": {
        "name": "from-the-document",
        "stack": "cflinuxfs4",
        "position": 1,
        "enabled": True,
        "state": "AWAITING_UPLOAD",
        "locked": False,
        "filename": "from-the-document.zip",
    },
    "PATCH /v3/buildpacks/{guid}": {
        "name": "renamed",
        "stack": "cflinuxfs4",
        "position": 1,
        "enabled": False,
        "locked": True,
        "filename": "renamed.zip",
    },
    "POST /v3/deployments": {
        "relationships": _APP,
        "strategy": "rolling",
        "droplet": {"guid": "$droplet"},
        "options": {"max_in_flight": 2},
        "metadata": _META,
    },
    "PATCH /v3/deployments/{guid}": {"metadata": _META},
    "POST /v3/domains": {
        "name": "document.example.com",
        "internal": False,
        "organization": {"data": {"guid": "$organization"}},
        "shared_organizations": {"data": [{"guid": "$other_organization"}]},
        "metadata": _META,
    },
    "PATCH /v3/domains/{guid}": {"metadata": _META},
    "POST /v3/droplets": {"relationships": _APP, "process_types": {"web": "serve"}},
    "PATCH /v3/droplets/{guid}": {"metadata": _META},
    "PATCH /v3/environment_variable_groups/running": {"var": {"COLOUR": "red"}},
    "PATCH /v3/environment_variable_groups/staging": {"var": {"COLOUR": "red"}},
    "POST /v3/feature_flags": {"name": "route_sharing", "enabled": True, "custom_error_message": "Ask somebody."},
    "PATCH /v3/feature_flags/{name}": {"enabled": True, "custom_error_message": "Ask somebody."},
    "POST /v3/isolation_segments": {"name": "from-the-document", "metadata": _META},
    "PATCH /v3/isolation_segments/{guid}": {"name": "renamed", "metadata": _META},
    "POST /v3/isolation_segments/{guid}/relationships/organizations": {"data": [{"guid": "$organization"}]},
    "POST /v3/organizations": {"name": "from-the-document"},
    "POST /v3/packages": {"type": "bits", "data": {}, "relationships": _APP, "metadata": _META},
    "PATCH /v3/packages/{guid}": {"metadata": _META},
    "PATCH /v3/processes/{guid}": {"command": "serve", "health_check": {"type": "port", "data": {"timeout": 60}}},
    "PATCH /v3/apps/{guid}/revisions/{version}": {"description": "The good one", "enabled": False, "metadata": _META},
    "POST /v3/roles": {
        "type": "space_supporter",
        "relationships": {"user": {"data": {"guid": "$user"}}, "space": {"data": {"guid": "$space"}}},
    },
    "POST /v3/routes": {
        "protocol": "http1",
        "host": "from-the-document",
        "path": "/a",
        "port": None,
        "relationships": {"space": {"data": {"guid": "$space"}}, "domain": {"data": {"guid": "$shared_domain"}}},
        "metadata": _META,
    },
    "POST /v3/routes/{guid}/destinations": {"destinations": [_DESTINATION]},
    "PUT /v3/routes/{guid}/destinations": {"destinations": [_DESTINATION]},
    "PATCH /v3/routes/{guid}/destinations/{destination_guid}": {"protocol": "http2"},
    "POST /v3/spaces": {
        "name": "from-the-document",
        "relationships": {"organization": {"data": {"guid": "$organization"}}},
    },
    "POST /v3/apps/{guid}/tasks": {"command": "true"},
    "POST /v3/users": {"guid": "from-the-document", "metadata": _META},
    "PATCH /v3/users/{guid}": {"metadata": _META},
}
NOT_SENT = {
    ("POST /v3/users", "the answer's own, or the identity server's"): {
        "created_at",
        "updated_at",
        "username",
        "presentation_name",
        "origin",
        "links",
    },
    ("PATCH /v3/users/{guid}", "the same"): {"username", "presentation_name", "origin", "links"},
    ("POST /v3/deployments", "excludes a droplet"): {"revision"},
    ("POST /v3/domains", "excludes an organization"): {"router_group"},
    ("PATCH /v3/droplets/{guid}", "for docker images, which this engine does not run yet"): {"image"},
}
"""Fields of a body that the document shows and one request cannot have, with the reason."""
_EMPTY = "upstream answers without a body, and its clients count on that"
_ALL = {field for one in OPENAPI for field in one.get("answer", ())}
_NO_BITS = "a build has no bits of its own: its package and its droplet have checksums"
_NO_PAGES = "upstream shows all destinations at once; pages come to who asks for one"
NOT_SHOWN = {
    ("PATCH /v3/apps/{guid}/relationships/current_droplet", "a relationship's guid is in its data"): {"guid"},
    ("GET /v3/builds", _NO_BITS): {"checksum"},
    ("POST /v3/builds", _NO_BITS): {"checksum"},
    ("GET /v3/builds/{guid}", _NO_BITS): {"checksum"},
    ("PATCH /v3/builds/{guid}", _NO_BITS): {"checksum"},
    ("GET /v3/apps/{guid}/builds", _NO_BITS): {"checksum"},
    ("POST /v3/deployments/{guid}/actions/cancel", _EMPTY): _ALL,
    ("POST /v3/deployments/{guid}/actions/continue", _EMPTY): _ALL,
    ("DELETE /v3/isolation_segments/{guid}", _EMPTY): _ALL,
    ("DELETE /v3/packages/{guid}", _EMPTY): _ALL,
    ("GET /v3/routes/{guid}/destinations", _NO_PAGES): {"pagination"},
    ("POST /v3/routes/{guid}/destinations", _NO_PAGES): {"pagination"},
    ("PUT /v3/routes/{guid}/destinations", _NO_PAGES): {"pagination"},
    ("PATCH /v3/routes/{guid}/destinations/{destination_guid}", "destinations have no metadata"): {"metadata"},
}
"""Fields of an answer that the document shows and ours does not have, with the reason."""


@pytest.fixture(scope="module")
def place(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One of everything, on each kind of database."""
    with open_town(prepared, tmp_path_factory.mktemp("seeds")) as opened:
        assert opened.cloud.admin.actor is not None
        opened._things["admin"] = opened.cloud.admin.actor.guid
        yield opened


def _recipe(call: str) -> Recipe:
    call = call.replace("groups/running", "groups/{name}").replace("groups/staging", "groups/{name}")
    return RECIPES[call]


def _operation(call: str) -> Operation:
    return SERVED[call.replace("groups/running", "groups/{name}").replace("groups/staging", "groups/{name}")]


def _queries(document: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["call"], name) for entry in document for name in entry.get("query", [])]


@pytest.mark.parametrize(("document", "count"), [("operations-index", 190), ("openapi", 95), ("korifi", 60)])
def test_every_operation_of_the_documents_is_served(document: str, count: int) -> None:
    named = [one for one in table("operations") if document in one["seeds"] and "service_" not in one["path"]]
    assert len(named) >= count
    served = {normal(operation.method, operation.path) for operation in OPERATIONS}
    # What the contract tells apart by its query is the same operation to us; log cache has an application of its own.
    missing = [one for one in named if normal(one["method"], one["path"].partition("?")[0]) not in served]
    missing = [one for one in missing if not one["path"].startswith("/api/v1/")]
    assert not missing


@pytest.mark.parametrize("call", sorted({one["call"] for one in (*OPENAPI, *KORIFI)}))
def test_each_answers(place: Town, call: str) -> None:
    operation = _operation(call)
    answer = place.call("admin", operation, _recipe(call))
    place.restore()
    assert answer.status_code < 300, f"{call}: {answer.status_code} {answer.text}"


@pytest.mark.parametrize(("call", "name"), _queries(OPENAPI) + _queries(KORIFI))
def test_parameters_of_lists(place: Town, call: str, name: str) -> None:
    recipe = _recipe(call)
    value = place.filled(OWN_VALUES.get((call, name), VALUES.get(name, "nothing")))
    path = place.path(_operation(call), Recipe(recipe.guid, path=recipe.path))
    shown = place.callers["admin"].ok("GET", f"{path}?{name}={value}")
    if name == "perPage":
        items = shown.get("resources", shown.get("destinations", shown.get("data")))
        assert len(items) <= 1


def _bodies() -> list[tuple[str, frozenset[str]]]:
    return [(one["call"], frozenset(one["body"])) for one in (*OPENAPI, *KORIFI) if "body" in one]


@pytest.mark.parametrize(("call", "fields"), _bodies())
def test_bodies(place: Town, call: str, fields: frozenset[str]) -> None:
    left_out = {field for (at, _), names in NOT_SENT.items() if at == call for field in names}
    body = BODIES[call]
    sent = body["destinations"] if fields == {"list"} else {name: body[name] for name in fields - left_out}
    path = place.path(_operation(call), _recipe(call))
    if call == "POST /v3/packages" and fields == {"relationships"}:
        path, sent = (
            f"{path}?source_guid={place['ready_package']}",
            {"relationships": {"app": {"data": {"guid": "$other_app"}}}},
        )
    path = path.replace("{name}", call.rpartition("/")[2])
    answer = place.callers["admin"].request(call.partition(" ")[0], path, place.filled(sent))
    place.restore()
    assert answer.status_code < 300, f"{call}: {answer.status_code} {answer.text}"
    if answer.content and isinstance(sent, dict):
        shown = answer.json()
        for name in ("name", "metadata", "description", "enabled", "filename", "host", "path", "type", "command"):
            if name in sent and name in shown:
                assert shown[name] == place.filled(sent)[name], name


def _answers() -> list[tuple[str, tuple[str, ...]]]:
    return [(one["call"], tuple(one["answer"])) for one in OPENAPI if "answer" in one]


@pytest.mark.parametrize(("call", "fields"), _answers())
def test_answers(place: Town, call: str, fields: tuple[str, ...]) -> None:
    """Every field that the document shows is there."""
    recipe = _recipe(call)
    answer = place.call("admin", _operation(call), recipe)
    place.restore()
    shown = answer.json() if answer.content else {}
    if "resources" in shown and "resources" not in fields:
        assert shown["resources"], f"the town has nothing for {call}"
        shown = shown["resources"][0]
    missing = (
        set(fields) - set(shown) - {field for (at, _), names in NOT_SHOWN.items() if at == call for field in names}
    )
    assert not missing


def test_destinations_come_in_pages_to_who_asks(place: Town) -> None:
    path = f"/v3/routes/{place['route']}/destinations"
    shown = place.callers["admin"].ok("GET", f"{path}?page=1&perPage=1")
    assert [one["guid"] for one in shown["destinations"]] == [place["destination"]]
    assert shown["pagination"]["total_results"] == 1
    assert shown["pagination"]["first"]["href"].endswith("destinations?page=1&per_page=1")


def test_other_words_mean_the_same(place: Town) -> None:
    admin = place.callers["admin"]
    event = admin.ok("GET", f"/v3/audit_events/{place['audit_event']}")
    asked = f"type={event['type']}&entity_type={event['target']['type']}&per_page=5000"
    found = admin.ok("GET", f"/v3/audit_events?{asked}")
    assert event["guid"] in {one["guid"] for one in found["resources"]}
    assert {(one["type"], one["target"]["type"]) for one in found["resources"]} == {
        (event["type"], event["target"]["type"])
    }
    name = admin.ok("GET", f"/v3/buildpacks/{place['buildpack']}")["name"]
    assert [one["name"] for one in admin.ok("GET", f"/v3/buildpacks?name={name}")["resources"]] == [name]
    assert admin.ok("GET", "/v3/roles?label_selector=tier")["resources"] == []
    assert admin.ok("GET", "/v3/roles?label_selector=!tier")["resources"]
    assert admin.ok("GET", "/v3/routes?protocols=http2")["resources"]
    assert admin.ok("GET", "/v3/routes?protocols=tcp")["resources"] == []


def test_what_only_a_document_names_is_not_in_errors(place: Town) -> None:
    _, _, detail = place.callers["admin"].problem("GET", "/v3/audit_events?nonsense=1")
    assert "'types'" in detail
    assert not {"'type'", "'entity_type'", "'perPage'"} & set(detail.replace(",", "").split())


def test_a_disabled_revision_is_not_rolled_back_to(place: Town) -> None:
    admin, path = place.callers["admin"], f"/v3/apps/{place['app']}/revisions/1"
    shown = admin.ok("PATCH", path, {"enabled": False, "description": "Not this one"})
    assert (shown["enabled"], shown["deployable"], shown["description"]) == (False, False, "Not this one")
    body = {"relationships": {"app": {"data": {"guid": place["app"]}}}, "revision": {"guid": shown["guid"]}}
    assert admin.problem("POST", "/v3/deployments", body) == (
        422,
        10008,
        "Unable to deploy this revision, it is disabled. Enable it first.",
    )
    listed = admin.ok("GET", f"/v3/apps/{place['app']}/revisions?deployable=false")
    assert shown["guid"] in {one["guid"] for one in listed["resources"]}
    place.restore()


def test_a_route_speaks_what_its_domain_speaks(place: Town) -> None:
    body = place.filled({**BODIES["POST /v3/routes"], "protocol": "tcp"})
    expected = (422, 10008, "Protocol must be 'http' as the domain says, or be left out.")
    assert place.callers["admin"].problem("POST", "/v3/routes", body) == expected
