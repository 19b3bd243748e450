"""What is answered looks as the contract and our own description say."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from cupola.api.table import OPERATIONS
from cupola.config import load
from cupola.rest.openapi import document
from tests.house import contract, pinned
from tests.house.test_permissions import entry, operation_key
from tests.house.town import Town, all_recipes, key_of, operation_of

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
TYPES: dict[str, Any] = {
    "string": lambda value: isinstance(value, str),
    "url": lambda value: isinstance(value, str),
    "timestamp": lambda value: isinstance(value, str) and TIME.fullmatch(value) is not None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
}


@pytest.fixture(scope="module")
def answers(town: Town) -> dict[str, Any]:
    """What an admin gets from every operation."""
    found = {}
    for key, recipe in all_recipes().items():
        if operation_key(key) in {key_of(operation) for operation in OPERATIONS}:
            operation = operation_of(key)
            found[key] = town.call("admin", operation, recipe)
            assert found[key].status_code < 400, f"{key}: {found[key].status_code} {found[key].text[:500]}"
            if recipe.first is not None or recipe.leaves_traces(operation):
                town.restore()
    return found


def test_answers_have_the_fields_of_the_contract(answers: dict[str, Any]) -> None:
    explained = pinned.read_reasons("shapes_exceptions.txt")
    wrong: dict[str, str] = {}
    for key, answer in answers.items():
        returns = (entry(key) or {}).get("returns")
        for name, value in parts(returns, answer):
            for problem in problems(objects()[name], value):
                if (name, problem) not in explained:
                    wrong.setdefault(f"{name} | {problem}", key)
    assert "\n".join(f"{one}   (first: {key})" for one, key in wrong.items()) == ""


def parts(returns: str | None, answer: Any) -> Iterator[tuple[str, Any]]:
    """The objects in an answer that the contract describes."""
    listed = re.fullmatch(r"list<(\w+)>", returns or "")
    if listed is not None and listed[1] in objects():
        page = answer.json()
        yield "PaginatedList", page
        yield from ((listed[1], one) for one in page["resources"])
    elif returns in objects() and answer.content:
        yield str(returns), answer.json()


def objects() -> dict[str, Any]:
    return {one["name"]: one for one in contract.table("objects")}


def problems(described: Any, value: Any) -> Iterator[str]:
    """What is missing, of another type, or not in the contract at all."""
    fields = {field["name"]: field for field in described["fields"]}
    for name, field in fields.items():
        yield from field_problems(name, field, value)
    known = set(fields) | {"links", "relationships", "metadata", "included", "resources", "pagination"}
    roots = {re.split(r"[.\[<{]", name)[0] for name in known}
    yield from (f"{name} is not in the contract" for name in value if name not in roots)
    links = {link["name"] if isinstance(link, dict) else link for link in described["links"] or []}
    if "links" in value and links and not any("<" in name for name in links):
        yield from (f"links.{name} is not in the contract" for name in value["links"] if name not in links)


def field_problems(name: str, field: Any, value: Any) -> Iterator[str]:
    if re.search(r"[\[<{*]", name):
        return  # a pattern of names, not a name
    here = value
    for part in name.split("."):
        if here is None:
            return
        if not isinstance(here, dict) or part not in here:
            if field["always_present"]:
                yield f"{name} is missing"
            return
        here = here[part]
    if here is None:
        if field["nullable"] is False:
            yield f"{name} is null"
    elif field["type"] in TYPES and not TYPES[field["type"]](here):
        yield f"{name} is no {field['type']}"
    elif field["enum"] and isinstance(here, str) and here not in field["enum"]:
        yield f"{name} is {here!r}, none of {field['enum']}"


@pytest.fixture(scope="module")
def described() -> Any:
    return document(OPERATIONS, load(environment={}))


def test_answers_are_as_described(answers: dict[str, Any], described: Any) -> None:
    wrong = []
    whole: Registry[Any] = Registry().with_resource("urn:api", DRAFT202012.create_resource(described))
    for key, answer in answers.items():
        method, path = operation_key(key).split(" ")
        responses = described["paths"][path][method.lower()]["responses"]
        told = responses.get(str(answer.status_code))
        if told is None:
            wrong.append(f"{key}: the description has no answer with status {answer.status_code}")
            continue
        kind = answer.headers.get("content-type", "").partition(";")[0]
        content = told.get("content", {})
        if bool(answer.content) != bool(content):
            wrong.append(f"{key}: has {'a' if answer.content else 'no'} body, told is the opposite")
        elif not content:
            continue
        elif kind not in content:
            wrong.append(f"{key}: answers {kind}, told is {', '.join(content)}")
        elif kind == "application/json":
            wrong += [f"{key}: {problem}" for problem in against(content[kind]["schema"], whole, answer.json())]
    assert "\n".join(wrong) == ""


def against(schema: Any, whole: Registry[Any], value: Any) -> list[str]:
    """What is not as the schema says."""
    validator = OAS31Validator(absolute(schema), registry=whole)
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(value)][:3]


def absolute(schema: Any) -> Any:
    """The schema with references to the whole document."""
    if isinstance(schema, dict):
        return {
            key: "urn:api" + value if key == "$ref" and value.startswith("#") else absolute(value)
            for key, value in schema.items()
        }
    return [absolute(one) for one in schema] if isinstance(schema, list) else schema
