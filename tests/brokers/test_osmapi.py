"""OSMAPI: the client, the sample broker and the document for broker authors say the same."""

import asyncio
import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from cupola.brokers.client import CatalogIds, LastOperation
from cupola.brokers.osmapi import BASE, Backup, OsmapiClient, RestoreRequest, Started
from cupola.brokers.parties import Broker as Address
from cupola.brokers.parties import Caller
from cupola.brokers.problems import BrokerError
from cupola.brokers.transport import Transport
from cupola.config import load
from tests.brokers.sample import Sample, sample
from tests.brokers.scripted import PASSWORD, USERNAME, Broker, Says

T = TypeVar("T")
DOCS = Path(__file__).parents[2] / "docs"
IDS = CatalogIds("service", "plan")
CALLER = Caller("user", "request")
CONTEXT = {"platform": "cloudfoundry"}


def call(work: Callable[[OsmapiClient], Awaitable[T]]) -> T:
    async def run() -> T:
        transport = Transport(load(environment={}, flags={"data_dir": "/nowhere"}))
        try:
            return await work(OsmapiClient(transport))
        finally:
            await transport.close()

    return asyncio.run(run())


def address(broker: Broker) -> Address:
    return Address("guid", "broker", broker.url, USERNAME, PASSWORD, anywhere=True)


def failure(work: Callable[[OsmapiClient], Awaitable[Any]]) -> BrokerError:
    with pytest.raises(BrokerError) as raised:
        call(work)
    return raised.value


# The client


def test_backups(broker: Broker) -> None:
    path = BASE + "/service_instances/i/backups"
    broker.on("GET", path, Says(200, {"backups": [{"id": "b", "created_at": 7, "more": 1}]}))
    broker.on(
        "POST", path, Says(201, {"id": "c", "created_at": 8}), Says(202, {"operation": "o"}, {"Retry-After": "3"})
    )
    to = address(broker)
    assert call(lambda client: client.list_backups(to, CALLER, "i", IDS, 5)) == [Backup("b", 7)]
    made = call(lambda client: client.create_backup(to, CALLER, "i", IDS, CONTEXT))
    assert made == Started("succeeded", backup=Backup("c", 8))
    goes_on = call(lambda client: client.create_backup(to, CALLER, "i", IDS, CONTEXT))
    assert goes_on == Started("in progress", "o", retry_after=3)
    listed, first, _ = broker.asked()
    assert listed.query == {"service_id": "service", "plan_id": "plan", "limit": "5"}
    assert first.body == {"service_id": "service", "plan_id": "plan", "context": CONTEXT}
    assert {one.headers["x-osmapi-version"] for one in broker.asked()} == {"1"}


def test_restore_and_poll(broker: Broker) -> None:
    broker.on("POST", BASE + "/service_instances/i/restore", Says(200, {}), Says(202, {}))
    broker.on(
        "GET", BASE + "/service_instances/i/osm_last_operation", Says(200, {"state": "failed", "description": "no"})
    )
    to = address(broker)
    request = RestoreRequest(backup_id="b", source_service_instance_id="other")
    assert call(lambda client: client.restore(to, CALLER, "i", IDS, CONTEXT, request)) == Started("succeeded")
    assert call(lambda client: client.restore(to, CALLER, "i", IDS, CONTEXT, request)) == Started("in progress")
    assert call(lambda client: client.last_operation(to, CALLER, "i", IDS, "o")) == LastOperation("failed", "no")
    restored, _, polled = broker.asked()
    assert restored.body == {
        "service_id": "service",
        "plan_id": "plan",
        "context": CONTEXT,
        "backup_id": "b",
        "source_service_instance_id": "other",
    }
    assert polled.query == {"service_id": "service", "plan_id": "plan", "operation": "o"}


@pytest.mark.parametrize(
    ("says", "text"),
    [
        (Says(200, {"backups": {}}), 'The service broker returned an invalid response: expected "backups" to be an array'),
        (Says(200, {"backups": [{"id": "", "created_at": 1}]}), 'The service broker returned an invalid response: expected a backup to have a string "id" and an integer "created_at"'),
        (Says(200, {"backups": [{"id": "b", "created_at": True}]}), 'The service broker returned an invalid response: expected a backup to have a string "id" and an integer "created_at"'),
        (Says(404, {"description": "no instance"}), "Service broker error: no instance"),
        (Says(409, {"description": "busy"}), "Service broker error: busy"),
        (Says(422, {"description": "no"}), "Service broker error: no"),
        (Says(204, b""), "The service broker returned an invalid response. Status Code: 204 No Content, Body: "),
        (Says(500, b"x"), "The service broker returned an invalid response. Status Code: 500 Internal Server Error, Body: x"),
    ],
)  # fmt: skip
def test_bad_answers(broker: Broker, says: Says, text: str) -> None:
    broker.on("GET", BASE + "/*", says)
    assert failure(lambda client: client.list_backups(address(broker), CALLER, "i", IDS)).text == text


def test_definitions_that_are_none(broker: Broker) -> None:
    broker.on("GET", BASE + "/services/service/plan_definitions", Says(200, {"plan_definitions": [1]}))
    broker.on("GET", BASE + "/services/service/plan_definition_schema", Says(200, {"json_schema": []}))
    to = address(broker)
    assert (
        "expected a plan definition to be a JSON object"
        in failure(lambda client: client.list_definitions(to, CALLER, "service")).text
    )
    assert (
        'expected "json_schema" to be a JSON object'
        in failure(lambda client: client.definition_schema(to, CALLER, "service")).text
    )


def test_ids_are_part_of_a_path_whatever_is_in_them(broker: Broker) -> None:
    call(lambda client: client.delete_definition(address(broker), CALLER, CatalogIds("a/b", "c d?e#f%2F")))
    (asked,) = broker.asked()
    assert asked.path == BASE + "/services/a/b/plan_definitions/c d?e#f%2F"


@pytest.mark.parametrize("status", [200, 204, 404, 410])
def test_what_is_gone_is_gone(broker: Broker, status: int) -> None:
    broker.on("DELETE", BASE + "/*", Says(status, {}))
    call(lambda client: client.delete_definition(address(broker), CALLER, IDS))


# The document


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load((DOCS / "osmapi.yaml").read_text())


def test_the_document_is_valid(document: Any) -> None:
    validate(document)


def test_the_page_has_what_the_document_has(document: Any) -> None:
    page = (DOCS / "osmapi.md").read_text()
    told = {
        (method, re.sub(r":\w+", "{}", path))
        for method, path in re.findall(r"\| `(GET|POST|PUT|DELETE) (/[a-z_/:]+)[?`]", page)
        if path.startswith(("/service_instances", "/services"))
    }
    served = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path))
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert told == served


@pytest.fixture(scope="module")
def jotter() -> Iterator[Sample]:
    with sample(slow_seconds=0.05) as running:
        yield running


def ask(jotter: Sample, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """What the sample broker says."""
    credentials = base64.b64encode(b"jotter-user:jotter-secret").decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json", "X-Osmapi-Version": "1"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(jotter.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def schema_of(document: Any, path: str, method: str, status: int) -> Any:
    responses = document["paths"][path][method.lower()]["responses"]
    found = responses.get(str(status), responses["default"])
    if "$ref" in found:
        found = document["components"]["responses"][found["$ref"].rpartition("/")[2]]
    return found["content"]["application/json"]["schema"]


def test_the_sample_broker_does_what_the_document_says(document: Any, jotter: Sample) -> None:
    def checked(method: str, template: str, status: int, body: Any = None, query: str = "", **names: str) -> Any:
        path = template.format(**names)
        got, answer = ask(jotter, method, BASE + path + query, body)
        assert got == status, answer
        schema = {**schema_of(document, template, method, got), "components": document["components"]}
        Draft202012Validator(schema).validate(answer)
        return answer

    catalog = ask(jotter, "GET", "/v2/catalog")[1]["services"][0]
    service_id = catalog["id"]
    assert catalog["metadata"]["osmapi"] == {"version": "1", "features": ["backup", "plan_definitions"]}
    ids = {"service_id": service_id, "plan_id": "jotter-small"}
    slow = {"service_id": service_id, "plan_id": "jotter-slow"}
    instance = {"organization_guid": "o", "space_guid": "s", "context": CONTEXT}
    assert ask(jotter, "PUT", "/v2/service_instances/quick", {**ids, **instance})[0] == 201
    assert ask(jotter, "PUT", "/v2/service_instances/slow?accepts_incomplete=true", {**slow, **instance})[0] == 202

    backups, restore = "/service_instances/{instance}/backups", "/service_instances/{instance}/restore"
    made = checked("POST", backups, 201, {**ids, "context": CONTEXT}, instance="quick")
    listed = checked("GET", backups, 200, query=f"?service_id={service_id}&plan_id=p&limit=1", instance="quick")
    assert listed == {"backups": [made]}
    checked("POST", restore, 200, {**ids, "context": CONTEXT, "backup_id": made["id"]}, instance="quick")
    at = {"target_timestamp": "2100-01-01T00:00:00Z", "restore_point": "pitr"}
    checked("POST", restore, 200, {**ids, "context": CONTEXT, **at}, instance="quick")
    checked("POST", restore, 422, {**ids, "context": CONTEXT, "backup_id": "none"}, instance="quick")
    checked("POST", restore, 404, {**ids, "context": CONTEXT, "backup_id": "none"}, instance="nobody")
    going = checked("POST", backups, 202, {**slow, "context": CONTEXT}, instance="slow")
    poll = f"?service_id={service_id}&plan_id=p&operation={going['operation']}"
    checked("GET", "/service_instances/{instance}/osm_last_operation", 200, query=poll, instance="slow")

    schema, definitions = "/services/{service_id}/plan_definition_schema", "/services/{service_id}/plan_definitions"
    one = definitions + "/{plan_id}"
    checked("GET", schema, 200, service_id=service_id)
    new = {"name": "huge", "description": "A lot", "properties": {"max_notes": 500}}
    defined = checked("POST", definitions, 201, new, service_id=service_id)
    checked("POST", definitions, 409, {**new, "plan_id": defined["plan_id"]}, service_id=service_id)
    checked("POST", definitions, 422, {**new, "properties": {}}, service_id=service_id)
    names = {"service_id": service_id, "plan_id": defined["plan_id"]}
    assert checked("GET", one, 200, **names) == defined
    assert checked("GET", definitions, 200, service_id=service_id) == {"plan_definitions": [defined]}
    assert checked("PUT", one, 200, {**new, "description": "More"}, **names)["resource_version"] == "2"
    assert defined["plan_id"] in [plan["id"] for plan in ask(jotter, "GET", "/v2/catalog")[1]["services"][0]["plans"]]
    checked("DELETE", one, 200, **names)
    checked("GET", one, 404, **names)


def test_the_sample_broker_lets_in_nobody_else(jotter: Sample) -> None:
    for path in ("/v2/catalog", BASE + "/services/x/plan_definitions"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(jotter.url + path, timeout=20)
        assert refused.value.code == 401
        refused.value.close()
