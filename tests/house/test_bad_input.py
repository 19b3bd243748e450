"""Bad bodies, queries and paths for every operation: refused in the API's words, never a failure.

What is bad is told by the operation's own schema (the one in the description), so that a field cannot be left out here.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import pytest
from openapi_schema_validator import OAS31Validator

from cupola.api.table import OPERATIONS
from cupola.config import load
from cupola.rest.openapi import document
from cupola.rest.operation import Operation
from tests.house import contract
from tests.house.test_permissions import entry, operation_key
from tests.house.town import Recipe, Town, all_recipes, key_of, operation_of

UNREADABLE = {
    "half": b'{"name": ',
    "no UTF-8": b'{"name": "\xff\xfe"}',
    "half a surrogate": b'{"name": "\\ud800"}',
    "two documents": b"{} {}",
    "deep": b'{"a":' * 3000 + b"1" + b"}" * 3000,
}
NO_OBJECTS = {"list": [], "text": "text", "number": 1, "null": None}
WRONG: dict[str, Any] = {
    "null": None,
    "true": True,
    "number": 7,
    "negative": -1,
    "huge": 2**70,
    "fraction": 0.5,
    "text": "text",
    "empty text": "",
    "long text": "x" * 70_000,
    "NUL": "a\0b",
    "list": [],
    "list of lists": [[[]]],
    "object": {},
    "object of null": {"guid": None, "data": None},
}
SERVED = {key_of(operation) for operation in OPERATIONS}
WITH_BODY = [
    key
    for key, recipe in all_recipes().items()
    if recipe.body is not None and operation_key(key) in SERVED and operation_of(key).method != "GET"
]
TAKES_LISTS = {"PUT /v3/routes/{guid}/destinations"}
"""A document shows this one with a bare list as its body."""
OF_DATABASES = {"huge", "negative", "long text", "NUL"}
"""Values that databases refuse in ways of their own; the others are tried on one database."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def somewhere(request: pytest.FixtureRequest) -> Town:
    """The town on each database: they refuse different values."""
    found: Town = request.getfixturevalue("town" if request.param == "sqlite" else "postgres_town")
    return found


def sent(town: Town, operation: Operation, recipe: Recipe, body: bytes, seen: list[str], what: str) -> int:
    """The status; what is no proper refusal and no success is noted in `seen`. The town is as before."""
    plain = Recipe(
        recipe.guid, query=recipe.query, path=recipe.path, content=body, headers={"Content-Type": "application/json"}
    )
    answer = town.call("admin", operation, plain)
    status = int(answer.status_code)
    if status < 400:
        town.restore()
    else:
        seen += [f"{what}: {problem}" for problem in improper(answer)]
    return status


def improper(answer: Any) -> Iterator[str]:
    """What is wrong with the form of a refusal."""
    if answer.status_code >= 500:
        yield f"{answer.status_code} {answer.text[:200]}"
        return
    try:
        errors = answer.json()["errors"]
    except (ValueError, KeyError):
        yield f"{answer.status_code} without errors: {answer.text[:200]}"
        return
    known = {(one["code"], one["title"]) for one in contract.table("errors")["errors"]}
    for error in errors:
        if set(error) != {"code", "title", "detail"} or (error["code"], error["title"]) not in known:
            yield f"{error} is no error of the contract"


def schema_of(operation: Operation) -> Mapping[str, Any]:
    body = document([operation], load(environment={}))["paths"][operation.path][operation.method.lower()]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    return schema if isinstance(schema, dict) else {}


@pytest.mark.parametrize("key", WITH_BODY)
def test_bodies_that_cannot_be_read(somewhere: Town, key: str) -> None:
    operation, recipe, seen = operation_of(key), all_recipes()[key], list[str]()
    for what, body in UNREADABLE.items():
        if sent(somewhere, operation, recipe, body, seen, what) != 400:
            seen.append(f"{what} is not refused with 400")
    for what, value in NO_OBJECTS.items():
        status = sent(somewhere, operation, recipe, msgspec.json.encode(value), seen, what)
        if status not in {400, 422} and not (what == "list" and key in TAKES_LISTS):
            seen.append(f"{what} is not refused")
    assert "\n".join(seen) == ""


BAD_REQUESTS = {"PATCH /v3/service_plans/{guid}/visibility", "POST /v3/service_plans/{guid}/visibility"}
"""Where a body that is not valid is a 400, as upstream."""


@pytest.mark.parametrize("key", WITH_BODY)
def test_unknown_fields(town: Town, key: str) -> None:
    operation, recipe, seen = operation_of(key), all_recipes()[key], list[str]()
    body = msgspec.json.encode({**town.filled(recipe.body), "wrong": 1})
    status = sent(town, operation, recipe, body, seen, "unknown")
    ignored = (entry(key) or {}).get("unknown_body_keys") == "ignored"
    assert seen == []
    assert (status < 300) if ignored else (status == (400 if key in BAD_REQUESTS else 422)), status


@pytest.mark.parametrize("key", WITH_BODY)
def test_values_that_the_schema_does_not_allow(somewhere: Town, key: str) -> None:
    operation, recipe, seen = operation_of(key), all_recipes()[key], list[str]()
    schema = schema_of(operation)
    validator = OAS31Validator(schema)
    good, sqlite = somewhere.filled(recipe.body), somewhere.cloud.database.is_sqlite
    for what, body in variations(good, schema, WRONG if sqlite else OF_DATABASES):
        status = sent(somewhere, operation, recipe, msgspec.json.encode(body), seen, what)
        if status < 400 and schema and not validator.is_valid(body):
            seen.append(f"{what} is accepted")
    assert "\n".join(seen) == ""


def variations(good: Any, schema: Mapping[str, Any], wrong: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The good body with each field, its own or its schema's, wrong in these ways, or left out if it is required."""
    for path in [*paths_of(good), *((name,) for name in schema.get("properties", {}) if name not in good)]:
        for what in wrong:
            yield f"{'.'.join(map(str, path))} is {what}", with_value(good, path, WRONG[what])
    for name in schema.get("required", ()):
        yield f"{name} is left out", {key: value for key, value in good.items() if key != name}


def paths_of(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*prefix, key)
        yield from paths_of(one, (*prefix, key))


def with_value(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copied = list(document) if isinstance(document, list) else dict(document)
    first, *rest = path
    copied[first] = with_value(copied[first], tuple(rest), value) if rest else value
    return copied


@pytest.mark.parametrize("key", [key for key in all_recipes() if operation_key(key) in SERVED and "{" in key])
def test_guids_that_name_nothing(somewhere: Town, key: str) -> None:
    operation, recipe, seen = operation_of(key), all_recipes()[key], list[str]()
    for value in (
        "nothing",
        "%00",
        "a%00b",
        "%FF",
        "'; DROP TABLE apps; --",
        "x" * 3000,
        "%F0%9F%92%A9",
        "99999999999999999999",
    ):
        path = dict.fromkeys((["guid"] if recipe.guid else []) + list(recipe.path), value)
        wrong = Recipe(
            body=recipe.body,
            query=recipe.query,
            path=path,
            content=recipe.content,
            headers=recipe.headers,
            files=recipe.files,
        )
        answer = somewhere.call("admin", operation, wrong)
        seen += [f"{value}: {problem}" for problem in improper(answer)] if answer.status_code >= 400 else []
        if answer.status_code not in {400, 404, 422}:
            seen.append(f"{value[:40]}: {answer.status_code}")
    assert "\n".join(seen) == ""


QUERIES = (
    "page=0",
    "page=x",
    "page=99999999999999999999999",
    "per_page=5001",
    "per_page=-1",
    "order_by=wrong",
    "wrong=1",
    "%FF=1",
    "created_ats=yesterday",
    "created_ats[xx]=2020-01-01T00:00:00Z",
    "created_ats[gt]=2020-01-01T00:00:00Z,2021-01-01T00:00:00Z",
)


@pytest.mark.parametrize("key", [key_of(one) for one in OPERATIONS if one.listing and key_of(one) in all_recipes()])
def test_bad_queries_of_lists(somewhere: Town, key: str) -> None:
    operation, recipe, seen = operation_of(key), all_recipes()[key], list[str]()
    assert operation.listing is not None
    resource = operation.listing.resource
    refused = [
        query
        for query in QUERIES
        if query.partition("=")[0].partition("[")[0] != "created_ats" or "created_ats" in resource.timestamps
    ]
    refused += ["label_selector=", "label_selector=a%20b%20c"] if resource.labels else []
    refused += ["include=wrong"] if resource.includes and operation.listing.includes else []
    code = (422, 10008) if operation.query_status == 422 else (400, 10005)
    for query in refused:
        answer = somewhere.call("admin", operation, Recipe(recipe.guid, query=query, path=recipe.path))
        seen += [f"{query}: {problem}" for problem in improper(answer)]
        if (answer.status_code, answer.json()["errors"][0]["code"]) != code:
            seen.append(f"{query}: {answer.status_code} {answer.text[:100]}")
    names = [
        filter_.name
        for filter_ in resource.filters
        if operation.listing.filters is None or filter_.name in operation.listing.filters
    ]
    for name in [*names, *(["guids"] if resource.guids else [])]:
        for value in ("", "%00", "a%00b", "x" * 5000, "%FF", ",", "99999999999999999999", "-1", "%2525"):
            answer = somewhere.call("admin", operation, Recipe(recipe.guid, query=f"{name}={value}", path=recipe.path))
            if answer.status_code >= 400:
                seen += [f"{name}={value[:20]}: {problem}" for problem in improper(answer)]
    assert "\n".join(seen) == ""
