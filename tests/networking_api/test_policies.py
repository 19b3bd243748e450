"""Network policies, asked as the official client asks."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from cupola.domain.network_policies import ADMIN, MAX_PER_SOURCE, WRITE
from tests.api.work import finished
from tests.cloud import Cloud
from tests.front import open_front

_PATH = "/networking/v1/external/policies"


def policy(source: str = "a", target: str = "b", protocol: str = "tcp", ports: tuple[int, int] = (80, 80)) -> Any:
    destination = {"id": target, "protocol": protocol, "ports": {"start": ports[0], "end": ports[1]}}
    return {"source": {"id": source}, "destination": destination}


def write(client: Any, *policies: Any, path: str = _PATH) -> Any:
    return client.post(path, {"policies": list(policies)})


def listed(client: Any, query: str = "", path: str = _PATH) -> list[Any]:
    answer = client.ok("GET", f"{path}{query}")
    assert answer["total_policies"] == len(answer["policies"])
    found: list[Any] = answer["policies"]
    return found


def test_policies_come_back_as_they_were_posted(front: Any) -> None:
    admin = front(ADMIN)
    assert listed(admin) == []
    first, second = policy(), policy(protocol="udp", ports=(1000, 2000))
    answer = write(admin, first, second, first)
    assert (answer.status_code, answer.json()) == (200, {})
    named = f"network policy from app '{first['source']['id']}' to app '{first['destination']['id']}'"
    stored = "is stored, not enforced by this engine yet"
    assert unquote(answer.headers["X-Cf-Warnings"]) == f"{named} (and 2 more) {stored}"
    again = write(admin, second)
    assert (again.status_code, unquote(again.headers["X-Cf-Warnings"])) == (200, f"{named} {stored}")
    assert listed(admin) == [first, second]
    answer = write(admin, first, policy("x", "y"), path=f"{_PATH}/delete")
    assert (answer.status_code, answer.json()) == (200, {})
    assert listed(admin) == [second]


def test_lists_are_filtered(front: Any) -> None:
    admin = front(ADMIN)
    ab, bc, ca = policy("a", "b"), policy("b", "c"), policy("c", "a")
    write(admin, ab, bc, ca)
    assert listed(admin, "?id=a") == [ab, ca]
    assert listed(admin, "?id=a,b") == [ab, bc, ca]
    assert listed(admin, "?source_id=a") == [ab]
    assert listed(admin, "?dest_id=a,c") == [bc, ca]
    assert listed(admin, "?source_id=a,b&dest_id=c") == [bc]
    assert listed(admin, "?id=nope") == []


def test_developers_write_in_their_own_spaces(cloud: Cloud, front: Any) -> None:
    org = cloud.org()["guid"]
    here, there = cloud.space(org=org)["guid"], cloud.space(org=org)["guid"]
    mine, also, foreign = cloud.app(space=here)["guid"], cloud.app(space=here)["guid"], cloud.app(space=there)["guid"]
    developer = front(WRITE, like=cloud.user(space_developer=here, space_auditor=there, organization_user=org))
    own, across = policy(mine, also), policy(mine, foreign)
    assert write(developer, own).status_code == 200
    refused = {"error": "one or more applications cannot be found or accessed"}
    for bad in (across, policy(mine, "nope")):
        for path in (_PATH, f"{_PATH}/delete"):
            answer = write(developer, bad, path=path)
            assert (answer.status_code, answer.json()) == (403, refused)
    write(front(ADMIN), across)
    assert listed(developer) == [own]
    assert listed(front(WRITE)) == []
    assert listed(front(ADMIN)) == [own, across]
    assert write(developer, own, path=f"{_PATH}/delete").status_code == 200
    assert listed(developer) == []


def test_developers_have_a_quota_and_administrators_none(cloud: Cloud, front: Any) -> None:
    app = cloud.app()
    space = app["relationships"]["space"]["data"]["guid"]
    developer = front(WRITE, like=cloud.user(space_developer=space))
    most = [policy(app["guid"], app["guid"], ports=(port, port)) for port in range(1, MAX_PER_SOURCE + 1)]
    more = policy(app["guid"], app["guid"], ports=(2000, 2000))
    answer = write(developer, *most, more)
    assert (answer.status_code, answer.json()) == (403, {"error": "policy quota exceeded"})
    assert listed(developer) == []
    assert write(developer, *most).status_code == 200
    assert write(developer, most[0]).status_code == 200
    assert write(developer, more).status_code == 403
    assert write(front(ADMIN), more).status_code == 200
    assert len(listed(developer)) == MAX_PER_SOURCE + 1


def broken(**changes: Any) -> Any:
    found = policy()
    found["destination"].update(changes)
    return found


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"destination": policy()["destination"]}, "missing source id"),
        (policy(source=""), "missing source id"),
        (policy(target=""), "missing destination id"),
        (policy(protocol="icmp"), "invalid destination protocol, specify either udp or tcp"),
        (policy(ports=(2, 1)), "invalid port range 2-1, start must be less than or equal to end"),
        (policy(ports=(-1, 1)), "invalid start port -1, must be in range 1-65535"),
        (policy(ports=(0, 1)), "missing start port"),
        (broken(ports=None), "missing start port"),
        (policy(ports=(1, 65536)), "invalid end port 65536, must be in range 1-65535"),
        (broken(ports={"start": "1", "end": 1}), "ports must be whole numbers"),
        (broken(tag="0001"), "tags may not be specified"),
        (policy(source="x" * 256), "source id must have at most 255 characters"),
        ("policy", "missing source id"),
        ({"source": "a"}, "source and destination must be objects"),
    ],
)
def test_what_a_policy_may_not_be(front: Any, bad: Any, text: str) -> None:
    admin = front(ADMIN)
    answer = write(admin, policy(), bad)
    assert (answer.status_code, answer.json()) == (400, {"error": f"mapper: validate policies: {text}"})
    assert listed(admin) == []


def test_bodies_that_are_no_policies(front: Any) -> None:
    admin = front(ADMIN)
    form = 'mapper: unmarshal json: the body must be {"policies": [...]}'
    for content, text in (
        (b"{", form),
        (b"[]", form),
        (b'{"policies": {}}', form),
        (b'{"policies": []}', "mapper: validate policies: missing policies"),
        (b"{}", "mapper: validate policies: missing policies"),
    ):
        answer = admin.post(_PATH, content=content)
        assert (answer.status_code, answer.json()) == (400, {"error": text})
    large = admin.post(_PATH, content=b" " * (10 * 1024 * 1024 + 1))
    assert large.status_code == 400
    assert "larger than" in large.json()["error"]


def test_scopes_tokens_and_versions(front: Any) -> None:
    answer = front("cloud_controller.admin").get(_PATH)
    text = "provided scopes [cloud_controller.admin] do not include allowed scopes [network.admin network.write]"
    assert (answer.status_code, answer.json()) == (403, {"error": text})
    assert front(WRITE).post(f"{_PATH}/cleanup").status_code == 403
    for headers, text in (
        ({"Authorization": ""}, "missing authorization header"),
        ({"Authorization": "bearer x"}, "failed to verify token with uaa"),
    ):
        answer = front(ADMIN).get(_PATH, headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"error": text})
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    answer = front(ADMIN).get(_PATH.replace("v1", "v2"))
    assert (answer.status_code, answer.json()) == (406, {"error": "api version 'v2' not supported"})


def test_version_0_has_one_port(front: Any) -> None:
    admin, path = front(ADMIN), _PATH.replace("v1", "v0")
    one = {"source": {"id": "a"}, "destination": {"id": "b", "protocol": "tcp", "port": 80}}
    assert write(admin, one, path=path).status_code == 200
    write(admin, policy(ports=(1, 2)))
    assert listed(admin, path=path) == [one]
    assert listed(admin) == [policy(), policy(ports=(1, 2))]
    for port, text in ((0, "missing port"), (65536, "invalid port 65536, must be in range 1-65535")):
        bad = {"source": {"id": "a"}, "destination": {"id": "b", "protocol": "tcp", "port": port}}
        answer = write(admin, bad, path=path)
        assert answer.json() == {"error": f"mapper: validate policies: {text}"}


def test_policies_go_with_their_apps(cloud: Cloud, front: Any) -> None:
    admin = front(ADMIN)
    one, two, three = (cloud.app()["guid"] for _ in range(3))
    kept = policy(two, three)
    write(admin, policy(one, two), policy(two, one), kept)
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/apps/{one}")["state"] == "COMPLETE"
    assert listed(admin) == [kept]
    stale = policy("nope", two)
    write(admin, stale)
    assert admin.ok("POST", f"{_PATH}/cleanup") == {"total_policies": 1, "policies": [stale]}
    assert listed(admin) == [kept]
    assert admin.ok("GET", _PATH.replace("policies", "whoami")) == {"subject": admin.actor.name}


def test_it_is_served_below_the_api_in_both_modes(cloud: Cloud, tmp_path: Path) -> None:
    for domain, origin in (("", "http://localhost:9080"), ("example.test", "https://api.example.test")):
        with open_front(cloud, tmp_path, domain) as front:
            links = front().ok("GET", "/")["links"]
            assert links["network_policy_v1"]["href"] == f"{origin}/networking/v1/external"
            assert listed(front(ADMIN), path=links["network_policy_v1"]["href"] + "/policies") == []
