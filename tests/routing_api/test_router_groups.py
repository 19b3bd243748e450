"""Router groups, asked as the official client and its test-suite ask."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cupola.routing_api.routes import READ, WRITE
from tests.cloud import Cloud
from tests.front import open_front

_PATH = "/routing/v1/router_groups"


def group(**changes: Any) -> dict[str, Any]:
    return {"name": "edge", "type": "tcp", "reservable_ports": "1024-1099,2000", **changes}


def test_the_first_start_has_a_tcp_group_without_ports(cloud: Cloud, front: Any) -> None:
    reader = front(READ)
    (found,) = reader.ok("GET", _PATH)
    assert found == {"guid": found["guid"], "name": "default-tcp", "type": "tcp", "reservable_ports": ""}
    assert reader.ok("GET", f"{_PATH}?name=default-tcp") == [found]
    assert reader.ok("GET", f"{_PATH}/{found['guid']}") == found
    missing = reader.get(f"{_PATH}?name=nope")
    assert missing.status_code == 404
    assert missing.json() == {"name": "ResourceNotFoundError", "message": "router group 'nope' not found"}


def test_groups_are_made_once_changed_and_deleted(front: Any) -> None:
    operator = front(READ, WRITE)
    made = operator.ok("POST", _PATH, group(), 201)
    assert made == {"guid": made["guid"], **group()}
    assert operator.ok("POST", _PATH, group(reservable_ports="5000")) == made
    path = f"{_PATH}/{made['guid']}"
    answer = operator.put(path, {"name": "ignored", "reservable_ports": "3000"})
    assert answer.json() == {**made, "reservable_ports": "3000"}
    assert answer.headers["X-Cf-Warnings"].startswith("Warning%3A+if+routes+are+registered")
    assert operator.delete(path).status_code == 204
    assert operator.delete(path).status_code == 404
    assert [one["name"] for one in operator.ok("GET", _PATH)] == ["default-tcp"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (group(name=""), "missing name in router group"),
        (group(name=5), "name must be a string"),
        (group(type=""), "missing type in router group"),
        (group(type="udp"), "type of router group edge must be tcp or http"),
        (group(reservable_ports=""), "missing reservable_ports in router group: edge"),
        (group(type="http"), "reservable ports are not supported for router groups of type http"),
        (group(reservable_ports="80"), "port must be between 1024 and 65535"),
        (group(reservable_ports="many"), "port must be between 1024 and 65535"),
        (group(reservable_ports="2000-1999"), "range (2000-1999) must be in ascending numeric order"),
        (group(reservable_ports="-1999"), "range (-1999) requires a starting port"),
        (group(reservable_ports="1999-"), "range (1999-) requires an ending port"),
        (group(reservable_ports="1-2-3"), "range (1-2-3) has too many '-' separators"),
        (group(reservable_ports="2000-2100,2050"), "Overlapping values: [2000-2100] and 2050"),
        (group(name="default-tcp", type="http", reservable_ports=""), "a router group named default-tcp exists"),
        ([], "the body must be an object with name, type and reservable_ports"),
    ],
)
def test_what_a_group_may_not_be(front: Any, body: Any, message: str) -> None:
    answer = front(READ, WRITE).post(_PATH, body)
    assert answer.status_code == 400
    assert answer.json()["name"] == "ProcessRequestError"
    assert answer.json()["message"].startswith(f"Cannot process request: {message}")


def test_bodies_that_are_no_json_or_too_large(front: Any) -> None:
    operator = front(READ, WRITE)
    for content in (b"{", b'"' + b"x" * 70_000 + b'"'):
        answer = operator.post(_PATH, content=content)
        assert (answer.status_code, answer.json()["name"]) == (400, "ProcessRequestError")
    assert operator.put(f"{_PATH}/nope", {}).status_code == 404


def test_scopes(front: Any) -> None:
    refused = {"name": "UnauthorizedError", "message": "You are not authorized to perform the requested action"}
    for scopes, method, path in (
        ((), "GET", _PATH),
        ((READ,), "POST", _PATH),
        ((READ,), "DELETE", f"{_PATH}/x"),
        ((READ,), "PUT", f"{_PATH}/x"),
        (("cloud_controller.admin",), "GET", _PATH),
    ):
        answer = front(*scopes).request(method, path)
        assert (answer.status_code, answer.json()) == (401, refused)


def test_an_expired_token_is_told_in_the_words_that_make_clients_renew_it(front: Any) -> None:
    claims = base64.urlsafe_b64encode(msgspec.json.encode({"exp": 1})).decode().rstrip("=")
    for header, message in (
        (f"bearer e30.{claims}.c2ln", "Token is expired"),
        ("bearer nonsense", "Invalid token: log in again"),
        ("bearer a.b.c", "Invalid token: log in again"),
    ):
        answer = front(READ).get(_PATH, headers={"Authorization": header})
        assert (answer.status_code, answer.json()["message"]) == (401, message)


def test_it_is_served_below_the_api_in_both_modes(cloud: Cloud, tmp_path: Path) -> None:
    for domain, origin in (("", "http://localhost:9080"), ("example.test", "https://api.example.test")):
        with open_front(cloud, tmp_path, domain) as front:
            links = front().ok("GET", "/")["links"]
            assert links["routing"]["href"] == f"{origin}/routing"
            url = links["routing"]["href"] + "/v1/router_groups"
            assert [one["name"] for one in front(READ).ok("GET", url)] == ["default-tcp"]


def test_domains_of_a_tcp_group_take_no_routes_yet(cloud: Cloud, front: Any) -> None:
    (tcp,) = front(READ).ok("GET", _PATH)
    body = {"name": "tcp.example.test", "router_group": {"guid": tcp["guid"]}}
    domain = cloud.admin.ok("POST", "/v3/domains", body, 201)
    assert (domain["router_group"], domain["supported_protocols"]) == ({"guid": tcp["guid"]}, ["tcp"])
    link = f"{cloud.settings.api_url}{_PATH}/{tcp['guid']}"
    assert domain["links"]["router_group"] == {"href": link}
    links = {"space": {"data": {"guid": cloud.space()["guid"]}}, "domain": {"data": {"guid": domain["guid"]}}}
    later = "TCP routes are not served by this engine yet."
    for more, detail in (
        ({}, f"There are no more ports available for this domain. {later}"),
        ({"port": 0}, f"There are no more ports available for this domain. {later}"),
        (
            {"port": 1024},
            f"Port '1024' is not available. Try a different port or use a different domain. {later}",
        ),
        ({"host": "x"}, "Hosts are not supported for TCP routes."),
        ({"path": "/x"}, "Paths are not supported for TCP routes."),
    ):
        refused = cloud.admin.problem("POST", "/v3/routes", {"relationships": links, **more})
        assert refused == (422, 10008, detail)
    assert front(READ, WRITE).delete(f"{_PATH}/{tcp['guid']}").status_code == 204
    gone = "Route could not be created because the specified domain does not have a valid router group."
    assert cloud.admin.problem("POST", "/v3/routes", {"relationships": links}) == (422, 10008, gone)
    unknown = {"name": "x.example.test", "router_group": {"guid": tcp["guid"]}}
    missing = f"Router group with guid '{tcp['guid']}' not found."
    assert cloud.admin.problem("POST", "/v3/domains", unknown) == (422, 10008, missing)


def test_domains_of_an_http_group_are_as_others(cloud: Cloud, front: Any) -> None:
    made = front(READ, WRITE).ok("POST", _PATH, group(type="http", reservable_ports=""), 201)
    body = {"name": "edge.example.test", "router_group": {"guid": made["guid"]}}
    domain = cloud.admin.ok("POST", "/v3/domains", body, 201)
    assert domain["supported_protocols"] == ["http"]
    links = {"space": {"data": {"guid": cloud.space()["guid"]}}, "domain": {"data": {"guid": domain["guid"]}}}
    route = cloud.admin.ok("POST", "/v3/routes", {"relationships": links, "host": "x"}, 201)
    assert (route["protocol"], route["port"]) == ("http", None)
