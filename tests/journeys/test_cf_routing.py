"""Domains, routes, sharing, route options, policies: every command of the official CLI for them. No app is pushed."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.cf import Cf
from tests.journeys.platform import Platform

DOMAIN = "apps.localhost"


@pytest.fixture(scope="module")
def apps(desk: Cf) -> tuple[str, str]:
    """Two apps without a package."""
    for name in ("one", "two"):
        desk("create-app", name)
    return "one", "two"


@pytest.fixture
def host(desk: Cf, request: pytest.FixtureRequest) -> Iterator[str]:
    """A host name of the test's own; its routes are removed."""
    yield re.sub(r"[^a-z0-9]+", "-", request.node.originalname)[5:40].strip("-") + f"-{desk.name}"
    for path in ([], ["--path", "/here"]):
        desk("delete-route", DOMAIN, "-n", request.getfixturevalue("host"), *path, "-f")


@pytest.fixture
def flags(desk: Cf) -> Iterator[None]:
    names = ("route_sharing", "hash_based_routing")
    for name in names:
        desk("enable-feature-flag", name)
    yield
    for name in names:
        desk("disable-feature-flag", name)


@pytest.fixture
def other(desk: Cf) -> Iterator[str]:
    """Another space."""
    desk("create-space", "other")
    yield "other"
    desk("target", "-s", "desk")
    desk("delete-space", "-f", "other")


def cells(printed: str, *beginning: str) -> list[str]:
    """The cells of the one line of a table that begins with these."""
    pattern = r"\s+".join(map(re.escape, beginning))
    (found,) = re.findall(rf"^{pattern}(?:\s.*)?$", printed, re.MULTILINE)
    return re.split(r"\s{2,}", found.strip())


def test_shared_domains_are_made_listed_and_deleted(desk: Cf) -> None:
    name, internal = f"shared-{desk.name}.example.com", f"inner-{desk.name}.internal"
    assert f"Creating shared domain {name} as admin...\nOK" in desk("create-shared-domain", name)
    assert f'The domain name "{name}" is already in use' in desk.refused("create-shared-domain", name)
    assert "OK" in desk("create-shared-domain", internal, "--internal")
    listed = desk("domains")
    assert cells(listed, name)[1:3] == ["shared", "http"]
    assert cells(listed, internal)[1:4] == ["shared", "true", "http"]
    assert cells(listed, "apps.internal")[1:4] == ["shared", "true", "http"]
    assert ("route policies" in listed) == (desk.major >= 9)
    wrong = desk.refused("delete-private-domain", "-f", name)
    assert f"Domain '{name}' is a shared domain, not a private domain." in wrong
    for one in (name, internal):
        assert "OK" in desk("delete-shared-domain", "-f", one)
        assert f"Domain '{one}' does not exist.\nOK" in desk("delete-shared-domain", "-f", one)
    assert name not in desk("domains")


def test_router_groups_and_tcp_domains(desk: Cf) -> None:
    name = f"tcp-{desk.name}.example.com"
    assert cells(desk("router-groups"), "default-tcp") == ["default-tcp", "tcp"]
    unknown = desk.refused("create-shared-domain", name, "--router-group", "nothing")
    assert "Router group 'nothing' not found." in unknown
    assert "OK" in desk("create-shared-domain", name, "--router-group", "default-tcp")
    assert cells(desk("domains"), name)[1:3] == ["shared", "tcp"]
    refused = desk.refused("create-route", name, "--port", "61000")
    assert "Port '61000' is not available." in refused
    assert "TCP routes are not served by this engine yet." in refused
    assert "OK" in desk("delete-shared-domain", "-f", name)


def test_private_domains_are_shared_and_unshared(desk: Cf) -> None:
    org, guest, name = f"routing-{desk.name}", f"guest-{desk.name}", f"private-{desk.name}.example.com"
    desk("create-org", guest)
    assert f"Creating private domain {name} for org {org} as admin...\nOK" in desk("create-private-domain", org, name)
    assert f'The domain name "{name}" is already in use\nOK' in desk("create-private-domain", org, name)
    bad = desk.refused("create-private-domain", org, "bad_name")
    assert "Name must consist of alphanumeric characters and hyphens" in bad
    assert cells(desk("domains"), name)[1:3] == ["private", "http"]
    assert name not in desk("org", guest)
    shared = f"Sharing domain {name} with org {guest} as admin...\nOK"
    assert shared in desk("share-private-domain", guest, name)
    assert shared in desk("share-private-domain", guest, name), "a second time changes nothing"
    assert name in desk("org", guest)
    kept = desk.refused("delete-private-domain", "-f", name)
    assert "This domain is shared with other organizations. Unshare before deleting." in kept
    printed = desk("unshare-private-domain", guest, name, answer="y\n")
    assert f"Warning: org {guest} will no longer be able to access private domain {name}" in printed
    assert f"Unsharing domain {name} from org {guest} as admin...\nOK" in printed
    assert name not in desk("org", guest)
    again = desk.refused("unshare-private-domain", guest, name, answer="y\n")
    assert f"Unable to unshare domain from organization with name '{guest}'." in again
    assert "OK" in desk("delete-private-domain", "-f", name)
    assert f"Domain '{name}' does not exist.\nOK" in desk("delete-private-domain", "-f", name)
    desk("delete-org", "-f", guest)


def test_routes_go_with_their_private_domain(desk: Cf) -> None:
    name = f"going-{desk.name}.example.com"
    desk("create-private-domain", f"routing-{desk.name}", name)
    assert f"Route {name} has been created.\nOK" in desk("create-route", name)
    assert "OK" in desk("create-route", name, "-n", "*")
    assert cells(desk("routes"), "desk", "*", name)
    desk("delete-private-domain", "-f", name)
    assert name not in desk("routes")


def test_a_route_is_made_checked_shown_and_deleted(desk: Cf, host: str) -> None:
    org = f"routing-{desk.name}"
    printed = desk("create-route", DOMAIN, "-n", host, "--path", "/here")
    assert f"Creating route {host}.{DOMAIN}/here for org {org} / space desk as admin..." in printed
    assert f"Route {host}.{DOMAIN}/here has been created.\nOK" in printed
    again = desk("create-route", DOMAIN, "-n", host, "--path", "/here")
    assert f"Route already exists with host '{host}' and path '/here' for domain '{DOMAIN}'.\nOK" in again
    bad = desk.refused("create-route", DOMAIN, "-n", "bad host")
    assert 'Host must be either "*" or contain only alphanumeric characters, "_", or "-"' in bad
    assert "Domain 'no.example.com' not found." in desk.refused("create-route", "no.example.com", "-n", host)
    checked = desk("check-route", DOMAIN, "-n", host, "--path", "/here")
    assert f"Route '{host}.{DOMAIN}/here' does exist.\nOK" in checked
    assert f"Route '{host}.{DOMAIN}' does not exist.\nOK" in desk("check-route", DOMAIN, "-n", host)
    shown = desk("route", DOMAIN, "-n", host, "--path", "/here")
    for name, value in (("domain", DOMAIN), ("host", host), ("path", "/here"), ("protocol", "http")):
        assert re.search(rf"^{name}:\s+{re.escape(value)}$", shown, re.MULTILINE)
    unknown = desk.refused("route", DOMAIN, "-n", host)
    assert f"Route with host '{host}', domain '{DOMAIN}', and path '/' not found." in unknown
    for listed in (desk("routes"), desk("routes", "--org-level")):
        assert cells(listed, "desk", host, DOMAIN)[3:5] == ["/here", "http"]
    assert "OK" in desk("delete-route", DOMAIN, "-n", host, "--path", "/here", "-f")
    gone = desk("delete-route", DOMAIN, "-n", host, "--path", "/here", "-f")
    assert f"Unable to delete. Route with host '{host}', domain '{DOMAIN}', and path '/here' not found.\nOK" in gone
    assert f"Route '{host}.{DOMAIN}/here' does not exist.\nOK" in desk(
        "check-route", DOMAIN, "-n", host, "--path", "/here"
    )


def test_routes_are_mapped_and_unmapped(desk: Cf, apps: tuple[str, str], host: str, platform: Platform) -> None:
    one, two = apps
    desk("create-route", DOMAIN, "-n", host)
    assert platform.app(host).status == 404, "a route without an app is none"
    printed = desk("map-route", one, DOMAIN, "-n", host)
    assert (
        f"Mapping route {host}.{DOMAIN} to app one in org routing-{desk.name} / space desk as admin...\nOK" in printed
    )
    again = desk("map-route", one, DOMAIN, "-n", host)
    assert f"App 'one' is already mapped to route '{host}.{DOMAIN}'. Nothing has been updated.\nOK" in again
    assert "App 'nothing' not found" in desk.refused("map-route", "nothing", DOMAIN, "-n", host)
    assert "OK" in desk("map-route", two, DOMAIN, "-n", host, "--app-protocol", "http1")
    assert re.search(r"^\tone\s+web\s+8080\s+http1$", desk("route", DOMAIN, "-n", host), re.MULTILINE)
    assert cells(desk("routes"), "desk", host, DOMAIN)[3:] == ["http", "http1", "8080", "one, two"]
    assert f"{host}.{DOMAIN}" in desk("app", one)
    assert "OK" in desk("unmap-route", one, DOMAIN, "-n", host)
    gone = desk("unmap-route", one, DOMAIN, "-n", host)
    assert "Route to be unmapped is not currently mapped to the application.\nOK" in gone
    assert cells(desk("routes"), "desk", host, DOMAIN)[-1] == "two"
    desk("unmap-route", two, DOMAIN, "-n", host)


def test_mapping_makes_a_missing_route_and_http2_is_warned_of(
    desk: Cf, apps: tuple[str, str], host: str, tmp_path: Path
) -> None:
    printed = desk("map-route", apps[0], DOMAIN, "-n", host, "--app-protocol", "http2")
    assert f"Creating route {host}.{DOMAIN} for org routing-{desk.name} / space desk as admin...\nOK" in printed
    assert "The protocol http2 is stored, not spoken by this router yet: it speaks HTTP/1.1 to apps." in printed
    back = desk("update-destination", apps[0], DOMAIN, "-n", host, "--app-protocol", "http1")
    assert "Updating destination protocol from http2 to http1" in back
    assert re.search(r"^\tone\s+web\s+8080\s+http1$", desk("route", DOMAIN, "-n", host), re.MULTILINE)
    assert "stored, not spoken" in desk("update-destination", apps[0], DOMAIN, "-n", host, "--app-protocol", "http2")
    manifest = tmp_path / "manifest.yml"
    wanted = f"[{{route: {host}.{DOMAIN}, protocol: http2}}]"
    manifest.write_text(f"applications: [{{name: {apps[0]}, routes: {wanted}}}]")
    assert "stored, not spoken" in desk("apply-manifest", "-f", str(manifest))


def test_routes_without_an_app_are_deleted_together(desk: Cf, apps: tuple[str, str], host: str) -> None:
    for name in ("a", "b"):
        desk("create-route", DOMAIN, "-n", f"{name}-{host}")
    desk("map-route", apps[0], DOMAIN, "-n", host)
    assert "OK" in desk("delete-orphaned-routes", "-f")
    listed = desk("routes")
    assert f"a-{host}" not in listed
    assert f"b-{host}" not in listed
    assert cells(listed, "desk", host, DOMAIN)


def test_deleting_an_app_takes_its_routes_with_r_only(desk: Cf, host: str) -> None:
    desk("create-app", "short")
    desk("map-route", "short", DOMAIN, "-n", host)
    desk("delete", "-f", "short")
    assert "does exist" in desk("check-route", DOMAIN, "-n", host)
    desk("create-app", "short")
    desk("map-route", "short", DOMAIN, "-n", host)
    desk("delete", "-f", "-r", "short")
    assert "does not exist" in desk("check-route", DOMAIN, "-n", host)


def test_a_route_has_options_of_its_own(desk: Cf, apps: tuple[str, str], host: str) -> None:
    wrong = desk.refused("create-route", DOMAIN, "-n", host, "-o", "loadbalancing=nonsense")
    assert "Options Loadbalancing must be one of 'round-robin, least-connection' if present" in wrong
    assert "OK" in desk("create-route", DOMAIN, "-n", host, "-o", "loadbalancing=least-connection")
    assert "{loadbalancing=least-connection}" in desk("route", DOMAIN, "-n", host)
    assert cells(desk("routes"), "desk", host, DOMAIN)[-1] == "{loadbalancing=least-connection}"
    updated = desk("update-route", DOMAIN, "-n", host, "-o", "loadbalancing=round-robin")
    assert f"Route {host}.{DOMAIN} has been updated\nOK" in updated
    assert "{loadbalancing=round-robin}" in desk("route", DOMAIN, "-n", host)
    late = desk.refused("map-route", apps[0], DOMAIN, "-n", host, "-o", "loadbalancing=round-robin")
    assert "Route specific options can only be specified for nonexistent routes." in late
    assert "OK" in desk("update-route", DOMAIN, "-n", host, "-r", "loadbalancing")
    assert re.search(r"^options:\s*$", desk("route", DOMAIN, "-n", host), re.MULTILINE)
    hashed = ("-o", "loadbalancing=hash", "-o", "hash_header=X-User")
    assert "must be one of 'round-robin, least-connection'" in desk.refused(
        "update-route", DOMAIN, "-n", host, *hashed
    ), "hashing is behind a feature flag"


def test_requests_are_balanced_by_a_header_where_the_flag_allows(desk: Cf, flags: None, host: str) -> None:
    hashed = ("-o", "loadbalancing=hash", "-o", "hash_header=X-User", "-o", "hash_balance=1.5")
    desk("create-route", DOMAIN, "-n", host, *hashed)
    (options,) = re.findall(r"^options:\s+\{(.*)\}$", desk("route", DOMAIN, "-n", host), re.MULTILINE)
    assert set(options.split(", ")) == {"loadbalancing=hash", "hash_header=X-User", "hash_balance=1.5"}
    assert "OK" in desk("update-route", DOMAIN, "-n", host, "-o", "loadbalancing=round-robin")
    assert "{loadbalancing=round-robin}" in desk("route", DOMAIN, "-n", host)


def test_sharing_routes_is_behind_a_feature_flag(desk: Cf, other: str, host: str) -> None:
    desk("create-route", DOMAIN, "-n", host)
    for command in ("share-route", "move-route"):
        assert "Feature Disabled: route_sharing" in desk.refused(command, DOMAIN, "-n", host, "-s", other)


def test_a_route_is_shared_unshared_and_moved(desk: Cf, flags: None, other: str, host: str) -> None:
    desk("create-route", DOMAIN, "-n", host)
    shared = f"Sharing route {host}.{DOMAIN} to space other as admin\nOK"
    assert shared in desk("share-route", DOMAIN, "-n", host, "-s", other)
    assert shared in desk("share-route", DOMAIN, "-n", host, "-s", other), "a second time changes nothing"
    assert "Space 'nothing' not found." in desk.refused("share-route", DOMAIN, "-n", host, "-s", "nothing")
    desk("target", "-s", other)
    assert cells(desk("routes"), "desk", host, DOMAIN), "listed there, with the space that owns it"
    desk("target", "-s", "desk")
    unshared = f"Unsharing route {host}.{DOMAIN} from space other as admin\nOK"
    assert unshared in desk("unshare-route", DOMAIN, "-n", host, "-s", other)
    desk("target", "-s", other)
    assert host not in desk("routes")
    desk("target", "-s", "desk")
    moved = f"Move ownership of route {host}.{DOMAIN} to space other as admin\nOK"
    assert moved in desk("move-route", DOMAIN, "-n", host, "-s", other)
    assert "Space 'nothing' not found." in desk.refused("move-route", DOMAIN, "-n", host, "-s", "nothing")
    assert cells(desk("routes"), "other", host, DOMAIN), "the old owner has it as a shared one"
    desk("target", "-s", other)
    assert cells(desk("routes"), "other", host, DOMAIN)


def test_network_policies_are_added_listed_and_removed(desk: Cf, apps: tuple[str, str]) -> None:
    org, (one, two) = f"routing-{desk.name}", apps
    rule = ("--protocol", "tcp", "--port", "8080-8090")
    printed = desk("add-network-policy", one, two, *rule)
    assert f"Adding network policy from app one to app two in org {org} / space desk as admin...\nOK" in printed
    assert "OK" in desk("add-network-policy", one, two, *rule), "a second time changes nothing"
    assert cells(desk("network-policies"), one, two)[2:] == ["tcp", "8080-8090", "desk", org]
    assert re.search(r"^one\s+two", desk("network-policies", "--source", one), re.MULTILINE)
    assert not re.search(r"^one\s+two", desk("network-policies", "--source", two), re.MULTILINE)
    assert "App 'nothing' not found." in desk.refused("add-network-policy", one, "nothing")
    assert "OK" in desk("remove-network-policy", one, two, *rule)
    assert "Policy does not exist.\nOK" in desk("remove-network-policy", one, two, *rule)
    assert not re.search(r"^one\s+two", desk("network-policies"), re.MULTILINE)


def test_route_policies_are_stored_with_a_warning(desk: Cf, apps: tuple[str, str]) -> None:
    if desk.major < 9:
        missing = desk.refused("route-policies")
        assert "'route-policies' is not a registered command." in missing
        return
    one, two = apps
    name = f"guarded-{desk.name}.example.com"
    lacking = desk.refused("create-shared-domain", name, "--enforce-route-policies")
    assert "Route policies scope is required when enforce_route_policies is true" in lacking
    made = desk("create-shared-domain", name, "--enforce-route-policies", "--scope", "space")
    assert "stored, not enforced by this engine yet" in made
    assert cells(desk("domains"), name)[-1] == "enforced (space)"
    desk("map-route", one, name, "-n", "x")
    added = desk("add-route-policy", name, "-n", "x", "--source-app", two)
    assert f"scope: app, source: {two}" in added
    assert "stored, not enforced by this engine yet" in added
    desk("add-route-policy", name, "-n", "x", "--source-space", "desk")
    any_ = desk.refused("add-route-policy", name, "-n", "x", "--source-any")
    assert "source 'cf:any' cannot coexist with other route policies on the same route" in any_
    listed = desk("route-policies")
    assert re.search(rf"^x\s+{name}\s+cf:app:{desk.guid(two)}\s+app\s+{two}$", listed, re.MULTILINE)
    assert re.search(rf"^x\s+{name}\s+cf:space:\S+\s+space\s+desk$", listed, re.MULTILINE)
    assert "OK" in desk("remove-route-policy", name, "-n", "x", "--source-app", two, "-f")
    listed = desk("route-policies")
    assert "cf:app:" not in listed
    assert "cf:space:" in listed
    desk("delete-shared-domain", "-f", name)
    assert name not in desk("route-policies")
