"""Groups and their members over SCIM, and what membership gives."""

from typing import Any

from tests.uaa.house import House


def test_create_find_change_delete(house: House) -> None:
    admin, joe = house.admin(), house.user("joe")
    member = {"value": joe["id"], "type": "USER", "origin": "uaa"}
    body = {"displayName": "cool.Group", "description": "cool", "members": [{"value": joe["id"]}]}
    answer = house.post("/Groups", admin, body)
    assert answer.status_code == 201
    made = answer.json()
    assert made["members"] == [member]
    assert made["meta"]["version"] == 0
    assert answer.headers["etag"] == '"0"'
    path = f"/Groups/{made['id']}"
    assert house.ok("GET", path, admin) == made
    listed = house.ok("GET", "/Groups", admin, params={"filter": 'displayName eq "COOL.group"'})
    assert listed["resources"] == [made]
    assert listed["totalResults"] == 1
    again = house.post("/Groups", admin, {"displayName": "COOL.group"})
    assert (again.status_code, again.json()["error"]) == (409, "scim_resource_already_exists")
    for bad in ({}, {"displayName": "a b"}, {"displayName": 1}, {"displayName": "x", "members": [{"value": "none"}]}):
        assert house.post("/Groups", admin, bad).json()["error"] == "invalid_scim_resource"

    def change(method: str, body: Any, match: str | None = "*") -> Any:
        return house.request(method, path, admin, json=body, headers={"If-Match": match} if match else {})

    assert change("PUT", body, None).json()["message"] == "Missing If-Match for PUT"
    assert change("PATCH", body, None).json()["message"] == "Missing If-Match for PATCH"
    assert change("PUT", body, "7").status_code == 409
    assert change("PUT", {"displayName": "cool.group"}, "0").json()["members"] == []
    merged = change("PATCH", {"members": [{"value": joe["id"]}]}, "1").json()
    assert merged["members"] == [member]
    assert merged["displayName"] == "cool.group"
    assert merged["meta"]["version"] == 2
    removed = change("PATCH", {"members": [{"value": joe["id"], "operation": "delete"}]}).json()
    assert removed["members"] == []
    change("PATCH", {"description": "x", "members": [{"value": joe["id"]}]})
    cleared = change("PATCH", {"meta": {"attributes": ["description", "members"]}}).json()
    assert "description" not in cleared
    assert cleared["members"] == []
    assert house.ok("DELETE", path, admin)["id"] == made["id"]
    assert house.get(path, admin).json()["error"] == "scim_resource_not_found"


def test_members(house: House) -> None:
    admin, joe = house.admin(), house.user("joe")
    path = f"/Groups/{house.group('scim.read')}/members"
    member = {"value": joe["id"], "type": "USER", "origin": "uaa"}
    assert house.get(f"{path}/{joe['id']}", admin).json()["error"] == "member_not_found"
    assert house.ok("POST", path, admin, member, 201) == member
    again = house.post(path, admin, member)
    assert (again.status_code, again.json()["error"]) == (409, "member_already_exists")
    assert house.ok("GET", f"{path}/{joe['id']}", admin) == member
    assert member in house.ok("GET", path, admin)
    entities = house.ok("GET", path, admin, params={"returnEntities": "true"})
    assert "joe" in [one["entity"]["userName"] for one in entities]
    assert "scim.read" in house.log_in("joe", "secret")["scope"]
    assert "scim.read" in [one["display"] for one in house.ok("GET", f"/Users/{joe['id']}", admin)["groups"]]
    assert house.ok("DELETE", f"{path}/{joe['id']}", admin) == member
    assert "scim.read" not in house.log_in("joe", "secret")["scope"]
    assert house.request("DELETE", f"{path}/{joe['id']}", admin).status_code == 404
    assert house.post(path, admin, {"value": "none"}).json()["error_description"] == "Invalid group member: none"
    assert house.post("/Groups/none/members", admin, member).status_code == 404


def test_groups_in_groups(house: House) -> None:
    admin, joe = house.admin(), house.user("joe")
    auditors, team = house.group("cloud_controller.global_auditor"), None
    team = house.ok("POST", "/Groups", admin, {"displayName": "team", "members": [{"value": joe["id"]}]}, 201)["id"]
    outer = {"displayName": "outer", "members": [{"value": team, "type": "GROUP"}]}
    outer_id = house.ok("POST", "/Groups", admin, outer, 201)["id"]
    house.ok("POST", f"/Groups/{auditors}/members", admin, {"value": outer_id, "type": "GROUP"}, 201)
    assert "cloud_controller.global_auditor" in house.log_in("joe", "secret")["scope"]
    shown = {one["display"]: one["type"] for one in house.ok("GET", f"/Users/{joe['id']}", admin)["groups"]}
    assert shown["team"] == "DIRECT"
    assert shown["outer"] == shown["cloud_controller.global_auditor"] == "INDIRECT"
    circle = house.post(f"/Groups/{team}/members", admin, {"value": auditors, "type": "GROUP"})
    assert (circle.status_code, circle.json()["error"]) == (400, "invalid_scim_resource")
    itself = house.post(f"/Groups/{team}/members", admin, {"value": team, "type": "GROUP"})
    assert itself.status_code == 400
    house.ok("DELETE", f"/Groups/{outer_id}", admin)
    assert "cloud_controller.global_auditor" not in house.log_in("joe", "secret")["scope"]


def test_who_may(house: House) -> None:
    house.user("reader", groups=("scim.read",))
    reader = house.log_in("reader", "secret")["access_token"]
    group = house.group("scim.read")
    assert house.get("/Groups", reader).status_code == 200
    for method, path in (
        ("POST", "/Groups"),
        ("PUT", f"/Groups/{group}"),
        ("PATCH", f"/Groups/{group}"),
        ("DELETE", f"/Groups/{group}"),
        ("POST", f"/Groups/{group}/members"),
        ("DELETE", f"/Groups/{group}/members/x"),
    ):
        assert house.request(method, path, reader, json={}).status_code == 403, (method, path)
