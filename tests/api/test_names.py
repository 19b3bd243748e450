"""Names of everything: how long, of which characters, and how filters compare them."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import Cloud

Body = Callable[[Cloud, str], dict[str, Any]]


def _in_org(cloud: Cloud, name: str) -> dict[str, Any]:
    return {"name": name, "relationships": {"organization": {"data": {"guid": cloud.org()["guid"]}}}}


def _in_space(cloud: Cloud, name: str) -> dict[str, Any]:
    return {"name": name, "relationships": {"space": {"data": {"guid": cloud.space()["guid"]}}}}


def _alone(cloud: Cloud, name: str) -> dict[str, Any]:
    return {"name": name}


BODIES: dict[str, Body] = {
    "organizations": _alone,
    "spaces": _in_org,
    "apps": _in_space,
    "stacks": _alone,
    "isolation_segments": _alone,
    "organization_quotas": _alone,
    "space_quotas": _in_org,
    "security_groups": _alone,
}
IN_ANY_CASE = {"organizations", "spaces", "apps", "isolation_segments", "organization_quotas"}
LONGEST = {"organizations": 255, "spaces": 255, "apps": 255, "isolation_segments": 255}


@pytest.mark.parametrize("kind", BODIES)
def test_filters_compare_as_uniqueness_does(cloud: Cloud, kind: str) -> None:
    made = cloud.admin.ok("POST", f"/v3/{kind}", BODIES[kind](cloud, "MiXed"), 201)["guid"]

    def found(name: str) -> list[str]:
        return [one["guid"] for one in cloud.admin.ok("GET", f"/v3/{kind}?names={name}")["resources"]]

    assert found("MiXed") == [made]
    assert found("mixED") == ([made] if kind in IN_ANY_CASE else [])


@pytest.mark.parametrize("kind", BODIES)
def test_how_long_names_are(cloud: Cloud, kind: str) -> None:
    most = LONGEST.get(kind, 250)
    cloud.admin.ok("POST", f"/v3/{kind}", BODIES[kind](cloud, "n" * most), 201)
    status, code, detail = cloud.admin.problem("POST", f"/v3/{kind}", BODIES[kind](cloud, "n" * (most + 1)))
    assert (status, code) == (422, 10008)
    assert detail == f"Name is too long (maximum is {most} characters)"
    assert cloud.admin.problem("POST", f"/v3/{kind}", BODIES[kind](cloud, ""))[0] == 422


@pytest.mark.parametrize("kind", ["organizations", "spaces", "apps"])
def test_names_are_printable(cloud: Cloud, kind: str) -> None:
    name = 'Grüße, 世界 & "more" (1)'
    assert cloud.admin.ok("POST", f"/v3/{kind}", BODIES[kind](cloud, name), 201)["name"] == name
    for bad in ("a\nb", "a\tb", "a\x07"):
        refused = cloud.admin.problem("POST", f"/v3/{kind}", BODIES[kind](cloud, bad))
        assert refused == (422, 10008, "Name must not contain escaped characters")
