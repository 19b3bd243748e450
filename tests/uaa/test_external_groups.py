"""/Groups/External and /identity-providers, as UAA's clients ask for them."""

import json
from typing import Any

from tests.uaa.house import House, Platform, opened

DN = "cn=Team/1,ou=groups,dc=corp,dc=example"


def test_mappings(house: House) -> None:
    admin = house.admin()
    group = house.group("scim.read")
    made = house.ok("POST", "/Groups/External", admin, {"groupId": group, "externalGroup": f" {DN} "}, 201)
    brief = {"groupId": group, "displayName": "scim.read", "externalGroup": DN, "origin": "ldap"}
    assert {name: made[name] for name in brief} == brief
    assert made["meta"]["version"] == 0
    again = house.ok("POST", "/Groups/External", admin, {"displayName": "SCIM.read", "externalGroup": DN}, 201)
    assert again == made, "as before"
    other = {"displayName": "scim.write", "externalGroup": DN, "origin": "corp"}
    house.ok("POST", "/Groups/External", admin, other, 201)

    def listed(**query: Any) -> list[str]:
        found = house.ok("GET", "/Groups/External", admin, params=query)
        assert found["totalResults"] >= len(found["resources"])
        return [one["displayName"] for one in found["resources"]]

    assert listed() == ["scim.read", "scim.write"]
    assert listed(origin="corp") == listed(filter='origin eq "corp"') == ["scim.write"]
    assert listed(externalGroup=DN, origin="ldap") == listed(filter=f'externalGroup eq "{DN}" and origin eq "ldap"')
    assert listed(startIndex=2, count=1) == ["scim.write"]
    assert house.ok("GET", "/Groups/External/list", admin)["resources"][0] == brief
    encoded = DN.replace("/", "%2F")
    path = f"/Groups/External/groupId/{group}/externalGroup/{encoded}/origin/ldap"
    assert house.ok("DELETE", path, admin) == made
    assert house.request("DELETE", path, admin).status_code == 404
    by_name = f"/Groups/External/displayName/scim.write/externalGroup/{DN}"
    assert house.request("DELETE", by_name, admin).status_code == 404, "of ldap there is none"
    assert house.request("DELETE", f"{by_name}/origin/corp", admin).status_code == 200
    assert listed() == []
    # A group that is deleted takes its mappings with it.
    team = house.ok("POST", "/Groups", admin, {"displayName": "team"}, 201)["id"]
    house.ok("POST", "/Groups/External", admin, {"groupId": team, "externalGroup": "x"}, 201)
    house.ok("DELETE", f"/Groups/{team}", admin)
    assert listed() == []


def test_bad_mappings_and_who_may(house: House) -> None:
    admin = house.admin()
    for body, status in (
        ({"displayName": "nothing", "externalGroup": "x"}, 404),
        ({"groupId": "nothing", "externalGroup": "x"}, 404),
        ({"externalGroup": "x"}, 404),
        ({"displayName": "scim.read"}, 400),
        ({"displayName": "scim.read", "externalGroup": " "}, 400),
        ({"displayName": "scim.read", "externalGroup": 5}, 400),
        ({"displayName": "scim.read", "externalGroup": "x" * 256}, 400),
    ):
        assert house.post("/Groups/External", admin, body).status_code == status, body
    house.user("joe")
    joe = house.log_in("joe", "secret")["access_token"]
    good = {"displayName": "scim.read", "externalGroup": "x"}
    assert house.get("/Groups/External", joe).status_code == 403
    assert house.post("/Groups/External", joe, good).status_code == 403
    path = "/Groups/External/displayName/scim.read/externalGroup/x"
    assert house.request("DELETE", path, joe).status_code == 403
    assert house.get("/Groups/External", admin, params={"filter": 'nothing eq "x"'}).status_code == 400


def test_identity_providers(platform: Platform) -> None:
    oidc = {
        "issuer": "https://corp.example",
        "client_id": "cupola",
        "client_secret_file": "/run/secret",
        "link_text": "Corp",
    }
    ldap = {
        "urls": ["ldap://ldap.corp.example"],
        "search_base": "dc=corp",
        "bind_dn": "cn=x",
        "bind_password_env": "CORP_SECRET",
        "groups": {"cn=admins": ["cloud_controller.admin"]},
    }
    with opened(platform, identity__oidc={"corp": oidc}, identity__ldap={"ldap": ldap}) as house:
        admin = house.admin()
        listed = house.ok("GET", "/identity-providers", admin)
        assert [(one["originKey"], one["type"]) for one in listed] == [
            ("uaa", "uaa"),
            ("ldap", "ldap"),
            ("corp", "oidc1.0"),
        ]
        assert json.loads(listed[0]["config"])["lockoutPolicy"]["lockoutAfterFailures"] == 5
        raw = house.ok("GET", "/identity-providers?rawConfig=true", admin)
        assert raw[1]["config"]["baseUrl"] == "ldap://ldap.corp.example"
        assert raw[1]["config"]["externalGroupsWhitelist"] == ["cn=admins"]
        assert raw[2]["config"]["linkText"] == "Corp"
        assert not any(word in str(raw) for word in ("/run/secret", "CORP_SECRET"))
        shown = house.ok("GET", f"/identity-providers/{listed[2]['id']}?rawConfig=true", admin)
        assert shown == raw[2]
        (only,) = house.ok("GET", "/identity-providers?originKey=corp", admin)
        assert only == listed[2]
        assert house.get("/identity-providers?originKey=none", admin).status_code == 404
        assert house.get("/identity-providers/none", admin).status_code == 404
        for method, path in (("POST", ""), ("PUT", f"/{only['id']}"), ("DELETE", f"/{only['id']}")):
            answer = house.request(method, f"/identity-providers{path}", admin, json={})
            assert answer.status_code == 405
            assert "identity.oidc" in answer.json()["error_description"]
        user = house.log_in()["access_token"]
        assert house.get("/identity-providers", user).status_code == 403
        assert house.post("/identity-providers", user, {}).status_code == 403
