"""The description of the API: valid, complete, and in agreement with what is declared."""

from typing import Any

import pytest
from openapi_spec_validator import validate

from cupola.api.table import OPERATIONS
from cupola.config import load
from cupola.rest import listing
from cupola.rest.openapi import document, operation_id
from cupola.rest.operation import Operation


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(OPERATIONS, load(environment={}))


def _of(described: dict[str, Any], operation: Operation) -> dict[str, Any]:
    found = described["paths"][operation.path][operation.method.lower()]
    assert isinstance(found, dict)
    return found


def test_valid(described: dict[str, Any]) -> None:
    validate(described)


def test_every_operation_once(described: dict[str, Any]) -> None:
    told = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert told == {(operation.method, operation.path) for operation in OPERATIONS}
    names = [operation_id(operation) for operation in OPERATIONS]
    assert len(set(names)) == len(names)


def test_every_list_parameter_is_described(described: dict[str, Any]) -> None:
    for operation in OPERATIONS:
        told = {one["name"] for one in _of(described, operation)["parameters"] if one["in"] == "query"}
        # `fields` is the family of parameters such as fields[service_broker].
        told |= {name.partition("[")[0] for name in told if name.startswith("fields[")}
        if operation.listing is not None:
            assert set(listing.parameters(operation.listing)) <= told, operation.path
        else:
            assert {one.name for one in operation.query} <= told, operation.path


def test_time_operators_are_described(described: dict[str, Any]) -> None:
    names = {one["name"] for one in described["paths"]["/v3/organizations"]["get"]["parameters"]}
    assert {"created_ats", "created_ats[lt]", "created_ats[lte]", "created_ats[gt]", "created_ats[gte]"} <= names


def test_path_parameters_are_those_of_the_path(described: dict[str, Any]) -> None:
    for operation in OPERATIONS:
        told = {one["name"] for one in _of(described, operation)["parameters"] if one["in"] == "path"}
        assert told == {part[1:-1] for part in operation.path.split("/") if part.startswith("{")}


def test_bodies_are_those_of_the_messages(described: dict[str, Any]) -> None:
    for operation in OPERATIONS:
        if operation.body is None or operation.consumes != "application/json":
            continue
        schema = _of(described, operation)["requestBody"]["content"]["application/json"]["schema"]
        assert set(schema["properties"]) == set(operation.body.fields), operation.path


def test_lists_are_pages_of_their_resource(described: dict[str, Any]) -> None:
    answer = described["paths"]["/v3/spaces"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(answer["properties"]) == {"pagination", "resources", "included"}
    assert answer["properties"]["resources"]["items"] == {"$ref": "#/components/schemas/Space"}
    space = described["components"]["schemas"]["Space"]
    assert {"guid", "name", "relationships", "metadata", "links"} <= set(space["properties"])


def test_jobs_answer_with_a_location(described: dict[str, Any]) -> None:
    answer = described["paths"]["/v3/spaces/{guid}"]["delete"]["responses"]["202"]
    assert "Location" in answer["headers"]
    assert "content" not in answer


def test_any_one_scope_is_enough(described: dict[str, Any]) -> None:
    security = described["paths"]["/v3/spaces"]["post"]["security"]
    assert security == [{"bearer": ["cloud_controller.admin"]}, {"bearer": ["cloud_controller.write"]}]


def test_every_operation_says_what_it_does() -> None:
    silent = [f"{operation.method} {operation.path}" for operation in OPERATIONS if not operation.description]
    assert silent == []
