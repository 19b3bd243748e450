"""What one is told who names something that does not exist or is hidden: each place has words of its own."""

from collections.abc import Callable
from typing import Any

import pytest

from cupola.store import rows
from cupola.store.staging import packages
from tests.api.conftest import Cloud
from tests.scripted_cell import staged_droplet

G = "no-such-guid"


class Place:
    """Two organizations; `user` manages the first and develops in its space, and sees nothing of the second."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.org, self.other_org = cloud.org("mine")["guid"], cloud.org("other")["guid"]
        self.space, self.other_space = (
            cloud.space("here", self.org)["guid"],
            cloud.space("there", self.other_org)["guid"],
        )
        self.app, self.other_app = cloud.app("a", self.space)["guid"], cloud.app("b", self.other_space)["guid"]
        self.user = cloud.user(organization_manager=self.org, space_developer=self.space)
        self.admin = cloud.admin

    def domain(self, name: str, org: str = "") -> str:
        body: dict[str, Any] = {"name": name}
        if org:
            body["relationships"] = {"organization": {"data": {"guid": org}}}
        return str(self.admin.ok("POST", "/v3/domains", body, 201)["guid"])


def _to(name: str, guid: str) -> dict[str, Any]:
    return {"relationships": {name: {"data": {"guid": guid}}}}


def _role(place: Place, type_: str, where: str, guid: str) -> dict[str, Any]:
    user = {"data": {"guid": place.cloud.user().actor.guid}}  # type: ignore[union-attr]  # users have one
    return {"type": type_, "relationships": {"user": user, where: {"data": {"guid": guid}}}}


SPACE = "Invalid space. Ensure that the space exists and you have access to it."
WITH_COMMA = "Organization with guid '{}' does not exist, or you do not have access to it."

Case = tuple[Callable[[Place], tuple[str, str, Any]], str]
UNKNOWN: dict[str, Case] = {
    "app to space": (lambda place: ("POST", "/v3/apps", {"name": "x", **_to("space", G)}), SPACE),
    "route to space": (
        lambda place: (
            "POST",
            "/v3/routes",
            {"host": "x", "relationships": {n: {"data": {"guid": G}} for n in ("space", "domain")}},
        ),
        SPACE,
    ),
    "role to space": (lambda place: ("POST", "/v3/roles", _role(place, "space_auditor", "space", G)), SPACE),
    "role to organization": (
        lambda place: ("POST", "/v3/roles", _role(place, "organization_user", "organization", G)),
        "Invalid organization. Ensure that the organization exists and you have access to it.",
    ),
    "space to organization": (
        lambda place: ("POST", "/v3/spaces", {"name": "x", **_to("organization", G)}),
        "Invalid organization. Ensure the organization exists and you have access to it.",
    ),
    "domain to organization": (
        lambda place: ("POST", "/v3/domains", {"name": "x.example.com", **_to("organization", G)}),
        f"Organization with guid '{G}' does not exist or you do not have access to it.",
    ),
    "domain to shared organizations": (
        lambda place: (
            "POST",
            f"/v3/domains/{place.domain('s.example.com', place.org)}/relationships/shared_organizations",
            {"data": [{"guid": G}]},
        ),
        WITH_COMMA.format(G),
    ),
    "space quota to organization": (
        lambda place: ("POST", "/v3/space_quotas", {"name": "q", **_to("organization", G)}),
        WITH_COMMA.format(G),
    ),
    "organization quota to organizations": (
        lambda place: (
            "POST",
            "/v3/organization_quotas",
            {"name": "q", "relationships": {"organizations": {"data": [{"guid": G}]}}},
        ),
        f'Organizations with guids ["{G}"] do not exist, or you do not have access to them.',
    ),
    "space quota to spaces": (
        lambda place: (
            "POST",
            "/v3/space_quotas",
            {
                "name": "q",
                "relationships": {
                    "organization": {"data": {"guid": place.org}},
                    "spaces": {"data": [{"guid": G}]},
                },
            },
        ),
        f'Spaces with guids ["{G}"] do not exist within the organization specified, or you do not have access to them.',
    ),
    "security group to spaces": (
        lambda place: (
            "POST",
            "/v3/security_groups",
            {"name": "g", "relationships": {"running_spaces": {"data": [{"guid": G}]}}},
        ),
        f'Spaces with guids ["{G}"] do not exist.',
    ),
    "segment to organizations": (
        lambda place: ("POST", f"{_segment(place)}/relationships/organizations", {"data": [{"guid": G}]}),
        f"Unable to entitle organizations ['{G}'] for the isolation segment. Ensure the organizations exist.",
    ),
    "package to app": (
        lambda place: ("POST", "/v3/packages", {"type": "bits", **_to("app", G)}),
        "App is invalid. Ensure it exists and you have access to it.",
    ),
    "droplet to app": (
        lambda place: ("POST", "/v3/droplets", _to("app", G)),
        f'App with guid "{G}" does not exist, or you do not have access to it.',
    ),
    "build to package": (
        lambda place: ("POST", "/v3/builds", {"package": {"guid": G}}),
        "Unable to use package. Ensure that the package exists and you have access to it.",
    ),
    "deployment to app": (
        lambda place: ("POST", "/v3/deployments", _to("app", G)),
        "Unable to use app. Ensure that the app exists and you have access to it.",
    ),
    "destination to apps": (
        lambda place: ("POST", f"/v3/routes/{_route(place)}/destinations", {"destinations": [{"app": {"guid": G}}]}),
        f'App(s) with guid(s) "{G}" do not exist.',
    ),
}


def _route(place: Place) -> str:
    links = {"space": {"data": {"guid": place.space}}, "domain": {"data": {"guid": place.domain("r.example.com")}}}
    return str(place.admin.ok("POST", "/v3/routes", {"host": "r", "relationships": links}, 201)["guid"])


def _segment(place: Place) -> str:
    return f"/v3/isolation_segments/{place.admin.ok('POST', '/v3/isolation_segments', {'name': 's'}, 201)['guid']}"


@pytest.fixture
def place(cloud: Cloud) -> Place:
    return Place(cloud)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_does_not_exist(place: Place, name: str) -> None:
    ask, detail = UNKNOWN[name]
    method, path, body = ask(place)
    assert place.admin.problem(method, path, body) == (422, 10008, detail)


def _package(place: Place, app: str) -> str:
    with place.cloud.database.write() as tx:
        return str(rows.add(tx, packages, {"app_guid": app, "type": "bits", "state": "READY", "digest": "d"}).guid)


HIDDEN: dict[str, Case] = {
    "app to space": (lambda place: ("POST", "/v3/apps", {"name": "x", **_to("space", place.other_space)}), SPACE),
    "space to organization": (
        lambda place: ("POST", "/v3/spaces", {"name": "x", **_to("organization", place.other_org)}),
        "Invalid organization. Ensure the organization exists and you have access to it.",
    ),
    "package to app": (
        lambda place: ("POST", "/v3/packages", {"type": "bits", **_to("app", place.other_app)}),
        "App is invalid. Ensure it exists and you have access to it.",
    ),
    "build to package": (
        lambda place: ("POST", "/v3/builds", {"package": {"guid": _package(place, place.other_app)}}),
        "Unable to use package. Ensure that the package exists and you have access to it.",
    ),
    "deployment to app": (
        lambda place: ("POST", "/v3/deployments", _to("app", place.other_app)),
        "Unable to use app. Ensure that the app exists and you have access to it.",
    ),
    "destination to apps": (
        lambda place: (
            "POST",
            f"/v3/routes/{_route(place)}/destinations",
            {"destinations": [{"app": {"guid": place.other_app}}]},
        ),
        'App(s) with guid(s) "{other_app}" you do not have access.',
    ),
    "domain to shared organizations": (
        lambda place: (
            "POST",
            f"/v3/domains/{place.domain('s.example.com', place.org)}/relationships/shared_organizations",
            {"data": [{"guid": place.other_org}]},
        ),
        "Organization with guid '{other_org}' either does not exist, or you do not have access to it.",
    ),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_hidden(place: Place, name: str) -> None:
    ask, detail = HIDDEN[name]
    method, path, body = ask(place)
    expected = detail.format(other_app=place.other_app, other_org=place.other_org)
    assert place.user.problem(method, path, body) == (422, 10008, expected)


def test_routes_and_roles_only_ask_whether_the_place_exists(place: Place) -> None:
    domain = place.domain("r.example.com")
    links = {"space": {"data": {"guid": place.other_space}}, "domain": {"data": {"guid": domain}}}
    assert place.user.problem("POST", "/v3/routes", {"host": "x", "relationships": links})[:2] == (403, 10003)
    body = _role(place, "space_auditor", "space", place.other_space)
    assert place.user.problem("POST", "/v3/roles", body)[:2] == (403, 10003)
    body = _role(place, "organization_user", "organization", place.other_org)
    assert place.user.problem("POST", "/v3/roles", body)[:2] == (403, 10003)


def test_who_reads_a_space_without_writing_in_it_is_403(place: Place) -> None:
    auditor = place.cloud.user(space_auditor=place.space)
    assert auditor.problem("POST", "/v3/apps", {"name": "x", **_to("space", place.space)})[:2] == (403, 10003)
    # These say the same to who lacks the role as to who sees nothing.
    assert auditor.problem("POST", "/v3/builds", {"package": {"guid": _package(place, place.app)}})[2].startswith(
        "Unable to use package."
    )
    droplet = staged_droplet(place.cloud.database, place.app)
    body = {**_to("app", place.app), "droplet": {"guid": droplet}}
    assert auditor.problem("POST", "/v3/deployments", body)[2].startswith("Unable to use app.")


def test_sharing_a_domain_takes_a_manager_on_the_other_side(place: Place) -> None:
    reader = place.cloud.user(organization_manager=place.org, organization_user=place.other_org)
    path = f"/v3/domains/{place.domain('s.example.com', place.org)}/relationships/shared_organizations"
    assert reader.problem("POST", path, {"data": [{"guid": place.other_org}]}) == (
        422,
        10008,
        "You do not have sufficient permissions for organization 'other' to share domain.",
    )
    assert (
        reader.problem("POST", "/v3/domains", {"name": "x.example.com", **_to("organization", place.other_org)})[0]
        == 403
    )


def test_applying_says_other_words_than_creating(place: Place) -> None:
    quota = place.admin.ok("POST", "/v3/organization_quotas", {"name": "q"}, 201)["guid"]
    path = f"/v3/organization_quotas/{quota}/relationships/organizations"
    assert (
        place.admin.problem("POST", path, {"data": [{"guid": G}]})[2]
        == f'Organizations with guids ["{G}"] do not exist'
    )
    body = {"name": "q", **_to("organization", place.org)}
    quota = place.admin.ok("POST", "/v3/space_quotas", body, 201)["guid"]
    path = f"/v3/space_quotas/{quota}/relationships/spaces"
    expected = f'Spaces with guids ["{G}"] do not exist, or you do not have access to them.'
    assert place.admin.problem("POST", path, {"data": [{"guid": G}]})[2] == expected
    group = place.admin.ok("POST", "/v3/security_groups", {"name": "g"}, 201)["guid"]
    path = f"/v3/security_groups/{group}/relationships/running_spaces"
    assert place.admin.problem("POST", path, {"data": [{"guid": G}]})[2] == expected
