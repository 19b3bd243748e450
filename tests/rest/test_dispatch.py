"""Requests from the socket to the answer: identity, bodies, errors, headers, retries."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, select

from cupola.rest import dispatch
from cupola.rest.operation import Call, create
from cupola.store import rows
from tests.rest.widgets import OPERATIONS, WIDGETS, Create, House, widgets
from tests.rest.widgets import house as open_house

NOT_AUTHENTICATED = (401, 10002, "Authentication error")
UNPARSABLE = (400, 1001, "Request invalid due to parse error: invalid request body")


def test_without_a_token(house: House) -> None:
    assert house.problem("GET", "/v3/widgets", token="") == NOT_AUTHENTICATED
    assert house.problem("POST", "/v3/widgets", {}, token="") == NOT_AUTHENTICATED


def test_with_a_bad_token(house: House) -> None:
    bad = {"headers": {"Authorization": "basic abc"}}
    assert house.problem("GET", "/v3/widgets", token="", **bad) == (401, 1000, "Invalid Auth Token")


@pytest.mark.parametrize("scopes", ["", "write", "other"])
def test_reading_needs_a_read_scope(house: House, scopes: str) -> None:
    assert house.problem("GET", "/v3/widgets", token=f"me {scopes}")[:2] == (403, 10003)


@pytest.mark.parametrize("scopes", ["", "read", "admin_read_only", "global_auditor"])
def test_writing_needs_a_write_scope(house: House, scopes: str) -> None:
    assert house.problem("POST", "/v3/widgets", {"name": "a"}, token=f"me {scopes}")[:2] == (403, 10003)


def test_identity_comes_before_the_body(house: House) -> None:
    assert house.problem("POST", "/v3/widgets", b"{", token="")[0] == 401


def test_optional_identity(house: House) -> None:
    assert house.ok("GET", "/v3/whoami", token="") == {"guid": ""}
    assert house.ok("GET", "/v3/whoami", token="me read") == {"guid": "me"}
    assert house.problem("GET", "/v3/whoami", token="", headers={"Authorization": "nonsense"})[0] == 401


def test_unknown_paths(house: House) -> None:
    unknown = (404, 10000, "Unknown request")
    assert house.problem("GET", "/v3/nothing") == unknown
    assert house.problem("GET", "/nothing", token="") == unknown
    assert house.problem("GET", "/v3/nothing", token="") == NOT_AUTHENTICATED
    assert house.problem("PUT", "/v3/widgets") == unknown


def test_hidden_and_missing_rows_look_alike(house: House) -> None:
    hidden = house.add("hidden", owner="somebody")
    expected = (404, 10010, "Widget not found")
    assert house.problem("GET", f"/v3/widgets/{hidden}", token="me read") == expected
    assert house.problem("GET", "/v3/widgets/none", token="me read") == expected
    assert house.ok("GET", f"/v3/widgets/{hidden}", token="somebody read")["guid"] == hidden


def test_create_show_update_delete(house: House) -> None:
    made = house.request("POST", "/v3/widgets", {"name": "a", "size": 3})
    assert made.status_code == 201
    assert made.headers["content-type"] == "application/json; charset=utf-8"
    guid = made.json()["guid"]
    assert house.ok("GET", f"/v3/widgets/{guid}") == made.json()
    assert made.json()["metadata"] == {"labels": {}, "annotations": {}}
    assert made.json()["links"] == {"self": {"href": f"http://localhost:9080/v3/widgets/{guid}"}}
    assert house.ok("PATCH", f"/v3/widgets/{guid}", {"name": "b"})["name"] == "b"
    deleted = house.request("DELETE", f"/v3/widgets/{guid}")
    assert (deleted.status_code, deleted.content) == (202, b"")
    assert deleted.headers["location"] == f"http://localhost:9080/v3/jobs/job-{guid}"
    assert house.waited == [f"job-{guid}"]


def test_nothing_to_show_is_204(house: House) -> None:
    answer = house.request("DELETE", f"/v3/boxes/{house.add_box('a')}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers


def test_head_is_get_without_a_body(house: House) -> None:
    guid = house.add("a")
    for path in ("/v3/widgets", f"/v3/widgets/{guid}", "/text"):
        got, head = house.request("GET", path), house.request("HEAD", path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-length"] == str(len(got.content))
        assert head.headers["content-type"] == got.headers["content-type"]
    missing = house.request("HEAD", "/v3/widgets/none")
    assert (missing.status_code, missing.content) == (404, b"")


@pytest.mark.parametrize("body", [b"{", b"[", b'{"name": }', b'{"name": "\xff"}', b"\x00", b"nul", b'{"a":1} x'])
def test_unreadable_bodies(house: House, body: bytes) -> None:
    assert house.problem("POST", "/v3/widgets", body) == UNPARSABLE


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"7"])
def test_bodies_that_are_no_object(house: House, body: bytes) -> None:
    assert house.problem("POST", "/v3/widgets", body) == UNPARSABLE


@pytest.mark.parametrize("body", [b"", b"  \n"])
def test_an_empty_body_is_an_empty_object(house: House, body: bytes) -> None:
    status, _, detail = house.problem("POST", "/v3/widgets", body)
    assert (status, detail) == (422, "Name must be a string")


@pytest.mark.parametrize(
    "bomb", [b"[" * 200_000, b'{"name":' * 200_000, b'{"name":' + b"[" * 5000 + b"]" * 5000 + b"}"]
)
def test_depth_bombs(house: House, bomb: bytes) -> None:
    assert house.problem("POST", "/v3/widgets", bomb)[0] in {400, 422}


@pytest.mark.parametrize("name", [r"\ud800", r"a\ud800b", r"\udc00\ud800"])
def test_lone_surrogates(house: House, name: str) -> None:
    body = b'{"name": "' + name.encode() + b'"}'
    assert house.problem("POST", "/v3/widgets", body)[0] in {400, 422}


@pytest.mark.parametrize("size", ["1" + "0" * 30, "1e400", "-1" + "0" * 400, "1" * 5000, "NaN"])
def test_numbers_beyond_all_bounds(house: House, size: str) -> None:
    body = b'{"name": "a", "size": ' + size.encode() + b"}"
    assert house.problem("POST", "/v3/widgets", body)[0] in {400, 422}


def test_a_body_that_is_too_large(house: House) -> None:
    body = b'{"name": "' + b"a" * dispatch.MAX_BODY + b'"}'
    status, code, detail = house.problem("POST", "/v3/widgets", body)
    assert (status, code) == (413, 1004)
    assert str(dispatch.MAX_BODY) in detail


def test_reading_stops_when_pieces_are_too_large_together(house: House) -> None:
    taken, sent = [], []

    async def receive() -> dict[str, Any]:
        taken.append(1)
        return {"type": "http.request", "body": b" " * 2**20, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v3/widgets", "query_string": b"", "headers": []}
    asyncio.run(house.app(scope, receive, send))
    assert sent[0]["status"] == 413
    assert len(taken) == dispatch.MAX_BODY // 2**20 + 1


def test_warnings_are_escaped_and_apart(house: House) -> None:
    guid = house.add("a")
    answer = house.request("PATCH", f"/v3/widgets/{guid}", {"name": "LOUD"})
    assert answer.headers["x-cf-warnings"] == "100%25%20loud%2C%20%C3%BCnd%20more,second%2C%20with%20a%20comma"
    assert "x-cf-warnings" not in house.request("PATCH", f"/v3/widgets/{guid}", {"name": "low"}).headers


def test_request_ids(house: House) -> None:
    own = house.request("GET", "/v3/widgets").headers["x-vcap-request-id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", own)
    for header in ("X-Vcap-Request-Id", "X-Request-Id"):
        given = house.request("GET", "/v3/widgets", headers={header: "mine"}).headers["x-vcap-request-id"]
        assert re.fullmatch(r"mine::[0-9a-f-]{36}", given)
    hostile = house.request("GET", "/v3/widgets", headers={"X-Request-Id": b"a\tb\xff" + b"c" * 300})
    kept = hostile.headers["x-vcap-request-id"].partition("::")[0]
    assert re.fullmatch(r"abc+", kept)
    assert len(kept) <= 255
    assert "x-vcap-request-id" in house.request("GET", "/v3/widgets", token="").headers


def test_the_caller_is_named(house: House) -> None:
    assert house.request("GET", "/v3/widgets", token="me read").headers["x-user-guid"] == "me"
    assert house.request("GET", "/v3/widgets/none", token="me read").headers["x-user-guid"] == "me"
    assert "x-user-guid" not in house.request("GET", "/text").headers


def test_failures_tell_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    answer = house.request("GET", "/v3/fail")
    assert answer.status_code == 500
    assert answer.json() == {
        "errors": [{"code": 10001, "title": "UnknownError", "detail": "An unknown error occurred."}]
    }
    (record,) = caplog.records
    assert answer.headers["x-vcap-request-id"] in record.getMessage()


def _racing(losses: list[str]) -> Any:
    """A create whose look for the name comes too early: another request adds it between look and insert."""

    def run(call: Call[None, Create]) -> Row[Any]:
        taken = call.tx.scalar(select(widgets.c.id).where(widgets.c.name == call.body.name))
        if taken is not None and losses:
            from cupola import errors

            raise errors.uniqueness("taken")
        losses.append(call.body.name)
        rows.add(call.tx, widgets, {"name": "first"})
        return rows.add(call.tx, widgets, {"name": call.body.name})

    return run


def test_a_lost_race_is_looked_at_again(tmp_path: Path) -> None:
    losses: list[str] = []
    operation = create(WIDGETS, Create, _racing(losses), path="/v3/race")
    with open_house(tmp_path, [*OPERATIONS, operation]) as house:
        house.add("taken")
        assert house.problem("POST", "/v3/race", {"name": "taken"}) == (422, 10016, "taken")
        assert losses == ["taken"]
        # What the lost attempt had written was rolled back.
        assert house.names() == ["taken"]


def test_a_conflict_that_stays_is_an_error_not_a_loop(tmp_path: Path) -> None:
    attempts: list[int] = []

    def run(call: Call[None, Create]) -> Row[Any]:
        attempts.append(1)
        return rows.add(call.tx, widgets, {"name": call.body.name})

    with open_house(tmp_path, [*OPERATIONS, create(WIDGETS, Create, run, path="/v3/stubborn")]) as house:
        house.add("taken")
        assert house.request("POST", "/v3/stubborn", {"name": "taken"}).status_code == 500
        assert len(attempts) == 4
