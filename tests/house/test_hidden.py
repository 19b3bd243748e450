"""Secrets planted wherever the platform keeps some: no list shows one, nor anything that who reads no secrets may get."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import update

from cupola.api.table import OPERATIONS
from cupola.rest.operation import Operation
from cupola.store import rows, sealed
from cupola.store.staging import droplets, packages
from tests.house.town import Recipe, Town, all_recipes, key_of, operation_of

SECRET = "pl4nted"
SHOWN_IN_LISTS = {"GET /v3/apps/{guid}/tasks"}
"""Lists that show commands to those who may read the app's secrets."""


def _plant(town: Town) -> None:
    admin, app = town.cloud.admin, f"/v3/apps/{town['app']}"
    admin.ok("PATCH", app + "/environment_variables", {"var": {"PASSWORD": SECRET}})
    address = f"https://me:{SECRET}@example.com/pack.git"
    admin.ok("PATCH", app, {"lifecycle": {"data": {"buildpacks": [address]}}})
    admin.ok("PATCH", app + "/processes/web", {"command": f"serve --key {SECRET}"})
    for one in ("app", "deployed_app"):
        admin.ok("POST", f"/v3/apps/{town[one]}/tasks", {"command": f"send {SECRET}"}, 202)
    admin.ok("POST", "/v3/builds", {"package": {"guid": town["ready_package"]}}, 201)
    credentials = {"credentials": {"password": SECRET}}
    admin.ok("PATCH", f"/v3/service_instances/{town['user_provided']}", credentials)
    admin.ok("PATCH", f"/v3/registry_credentials/{town['registry_credential']}", {"password": SECRET})
    with town.cloud.database.write() as tx:
        image = {"image": "registry/image", "username": "ann", "password": sealed.seal(tx, packages.c.password, SECRET)}
        rows.add(tx, packages, {"app_guid": town["app"], "type": "docker", "state": "READY", **image})
        told = [{"key": address, "name": address, "detect_output": ""}]
        values = {"execution_metadata": SECRET, "process_types": {"web": SECRET}, "buildpacks": told}
        tx.run(update(droplets).values(values))


@pytest.fixture(scope="module")
def planted(town: Town) -> Iterator[Town]:
    _plant(town)
    yield town
    town.restore()


def _reads() -> Iterator[tuple[str, Operation, Recipe]]:
    for key, recipe in all_recipes().items():
        if key.startswith("GET "):
            yield key, operation_of(key), recipe


def _showing(town: Town, caller: str, *, lists: bool) -> tuple[set[str], int]:
    """What shows a secret to a caller, and how much was asked for."""
    found, asked = set(), 0
    for key, operation, recipe in _reads():
        if lists and operation.listing is None:
            continue
        answer: Any = town.call(caller, operation, recipe)
        asked += answer.status_code == 200
        if SECRET.encode() in answer.content:
            found.add(key)
    return found, asked


@pytest.mark.parametrize("caller", ["admin", "space_developer"])
def test_no_list_shows_a_secret(planted: Town, caller: str) -> None:
    found, asked = _showing(planted, caller, lists=True)
    assert asked > 40
    assert found == SHOWN_IN_LISTS


@pytest.mark.parametrize("caller", ["space_auditor", "space_manager", "org_manager", "global_auditor"])
def test_who_reads_no_secrets_gets_none(planted: Town, caller: str) -> None:
    found, asked = _showing(planted, caller, lists=False)
    assert asked > 80
    assert found == set()


def test_they_are_there(planted: Town) -> None:
    """What was planted is found by who may read it."""
    found, _ = _showing(planted, "admin", lists=False)
    single = {key_of(operation) for operation in OPERATIONS if operation.listing is None}
    assert {
        "GET /v3/apps/{guid}/env",
        "GET /v3/apps/{guid}/environment_variables",
        "GET /v3/droplets/{guid}",
        "GET /v3/processes/{guid}",
        "GET /v3/service_instances/{guid}/credentials",
    } <= found & single
