"""The checks find what they are there for: each trap of the CLI, laid on purpose."""

from email.message import Message
from typing import Any

import pytest

from tests.cli_contract.bodies import build, resources
from tests.cli_contract.book import HERE, read
from tests.cli_contract.replay import fill, locate, pick
from tests.cli_contract.traps import traps
from tests.cli_contract.wire import Answer

SHAPES = read().shapes

INSTANCE = {
    "type": "web", "index": 0, "state": "RUNNING", "uptime": 7, "isolation_segment": None, "details": None,
    "routable": True, "mem_quota": 1, "disk_quota": 1, "log_rate_limit": -1,
    "usage": {"mem": 1, "disk": 1, "log_rate": 0, "cpu_entitlement": 0.5},
}  # fmt: skip
GROUP = {
    "guid": "g", "name": "fence", "rules": [], "globally_enabled": {"running": True, "staging": False},
    "relationships": {"running_spaces": {"data": []}, "staging_spaces": {"data": []}},
}  # fmt: skip
ENVELOPE = {
    "timestamp": "1", "source_id": "g", "instance_id": "0", "deprecated_tags": {}, "tags": {"source_type": "STG"},
    "log": {"payload": "aGVsbG8=", "type": "OUT"},
}  # fmt: skip
ERROR = {"code": 10010, "title": "CF-ResourceNotFound", "detail": "App not found"}
MATCH = {"path": "a", "mode": "644", "checksum": {"value": "x"}, "size_in_bytes": 1}


def answer(document: bytes = b"{}", status: int = 200, **headers: str) -> Answer:
    message = Message()
    message["Content-Type"] = "application/json"
    message["X-Vcap-Request-Id"] = "an id"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return Answer(status, message, document)


@pytest.mark.parametrize(
    ("shape", "good"),
    [
        ("stats", {"resources": [INSTANCE]}),
        ("security group", GROUP),
        ("envelopes", {"envelopes": {"batch": [ENVELOPE]}}),
        ("envelopes", {}),
        ("envelopes", {"envelopes": {"batch": None}}),
        ("errors", {"errors": [ERROR]}),
        ("list of match", [MATCH]),
        ("pair", ["text", "Email"]),
        ("to-one", {"data": None}),
        ("time", "2026-11-27T16:20:03Z"),
        ("jwt of client claims", "e30.eyJleHAiOjEsImp0aSI6ImoiLCJjbGllbnRfaWQiOiJjIn0.x"),
    ],
)
def test_a_good_answer_passes(shape: str, good: Any) -> None:
    assert list(SHAPES.problems(good, shape)) == []


@pytest.mark.parametrize(
    ("shape", "bad", "problem"),
    [
        ("stats", {"resources": [{**INSTANCE, "uptime": 1.5}]}, "resources.0.uptime: 1.5 is not integer"),
        ("stats", {"resources": [{**INSTANCE, "mem_quota": -1}]}, "resources.0.mem_quota: -1 is not natural or null"),
        ("stats", {"resources": [{**INSTANCE, "index": True}]}, "resources.0.index: True is not integer"),
        ("stats", {"resources": None}, "resources: None is not a list"),
        ("security group", {**GROUP, "globally_enabled": {"running": True}}, "globally_enabled: staging is missing"),
        ("map of string", {"loadbalancing": None}, "loadbalancing: None is not string"),
        ("envelopes", {"envelopes": {"batch": [{**ENVELOPE, "sourceId": "g"}]}}, "sourceId is unknown to the CLI"),
        ("envelopes", {"envelopes": {"batch": [{**ENVELOPE, "timestamp": 1}]}}, "timestamp: 1 is not digits"),
        ("errors", {"errors": []}, "errors: the list is empty"),
        ("errors", {"description": "x"}, "errors is missing"),
        ("match", {**MATCH, "mode": 420}, "mode: 420 is not octal"),
        ("pair", ["text"], "['text'] is not pair"),
        ("map of to-one", {"spaces": {"data": []}}, "spaces.data: [] is not an object"),
        ("time", "2026-11-27 16:20:03 UTC", "is not time"),
        ("exactly bearer", "Bearer", "'Bearer' is not exactly bearer"),
        ("page of stack", {"resources": []}, "pagination is missing"),
        ("pagination", {"next": {"href": "/v3/apps?page=2"}}, "next.href: '/v3/apps?page=2' is not url"),
        ("jwt of client claims", "opaque", "is not a compact JWS"),
        ("jwt of user claims", "e30.eyJleHAiOjEsImp0aSI6ImoiLCJjbGllbnRfaWQiOiJjIn0.x", "claims: user_name is missing"),
    ],
)
def test_a_trap_is_found(shape: str, bad: Any, problem: str) -> None:
    found = list(SHAPES.problems(bad, shape))
    assert any(problem in one for one in found), found


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (answer(X_Cf_Warnings="50% off"), "cannot be unescaped"),
        (answer(X_Cf_Warnings="one,,two"), "an empty warning"),
        (answer(Location="/v3/jobs/x"), "Location is '/v3/jobs/x'"),
        (answer(b"x", status=204), "204 with a body"),
        (answer(b'{"links": {"self": {"href": "/v3/apps/x"}}}'), "links.self.href: '/v3/apps/x' is not absolute"),
        (answer(status=502), "the CLI dumps a 502 raw"),
        (answer(b"<html>", status=404), "said to be JSON and is not"),
    ],
)
def test_a_trap_of_every_answer_is_found(bad: Answer, problem: str) -> None:
    found = list(traps(bad, "controller"))
    assert any(problem in one for one in found), found


def test_an_answer_without_traps_has_none() -> None:
    good = answer(b'{"links": {"self": {"href": "https://api/v3/apps/x"}}}', X_Cf_Warnings="50%25+off,two")
    assert list(traps(good, "controller")) == []


def test_names_are_encoded_as_the_cli_does() -> None:
    values = {"api": "http://a", "app": "a, b", "space.guid": "g", "apps": ["1", "2"]}
    assert locate("/v3/apps?names={app}&space_guids={space.guid}", values) == (
        "controller", "http://a/v3/apps?names=a%252C+b&space_guids=g",
    )  # fmt: skip
    assert locate("/v3/routes?hosts={app}&app_guids={apps}&paths=", values)[1] == (
        "http://a/v3/routes?hosts=a%2C+b&app_guids=1%2C2&paths="
    )


def test_the_part_that_is_asked_is_told_from_the_link() -> None:
    values = {"api": "http://a", "uaa": "http://a/uaa", "location": "http://a/v3/jobs/1", "host": "door"}
    assert locate('{uaa}/Users?filter=userName eq "x"', values) == (
        "uaa",
        "http://a/uaa/Users?filter=userName+eq+%22x%22",
    )
    assert locate("{location}", values) == ("controller", "http://a/v3/jobs/1")
    assert locate("http://{host}.apps/", values) == ("app", "http://door.apps/")


def test_parts_of_an_answer() -> None:
    found = answer(b'{"list": [{"a": {"b": "x"}, "n": 1}, {"a": {"b": "y"}, "n": 2}]}', Location="http://a/?code=c")
    assert pick(found, "list.*.n") == [1, 2]
    assert pick(found, "list.n=2.a.b") == "y"
    assert pick(found, "list.a/b=y.n") == 2
    assert pick(found, "list.-1.n +5") == 7
    assert pick(found, "header Location query code") == "c"
    with pytest.raises(LookupError):
        pick(found, "list.7.n")


def test_a_placeholder_alone_keeps_its_type() -> None:
    values = {"list": [1], "name": "x"}
    assert fill({"a": "{list}", "b": "<{name}>", "c": None}, values) == {"a": [1], "b": "<x>", "c": None}


def test_the_bits_are_told_and_packed_as_the_cli_does() -> None:
    told = {one["path"]: one for one in resources(HERE / "app")}
    assert told.keys() == {"index.html", "css/page.css"}  # not the empty file, and not the link
    headers, body = build(
        {"parts": {"bits": {"file": "package.zip", "zip": "app", "without": [told["index.html"]]}}}, {}, fill
    )
    assert headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert body is not None
    assert b'name="bits"; filename="package.zip"' in body
    assert b"css/page.css" in body
    assert b"start.html" in body
    assert body.count(b"index.html") == 1  # as the target of the link
