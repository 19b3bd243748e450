"""Clients over HTTP: made, changed, deleted, their secrets rotated; one by one and together."""

from typing import Any

from tests.uaa.house import House

GRANTS: dict[str, Any] = {"authorized_grant_types": ["client_credentials"], "authorities": ["cloud_controller.read"]}


def test_create_show_change_delete(house: House) -> None:
    admin = house.admin()
    body = {
        **GRANTS,
        "client_id": "app",
        "client_secret": "secret",
        "name": "App",
        "redirect_uri": ["https://app.example.org/**"],
        "access_token_validity": 60,
        "createdwith": "a test",
    }
    answer = house.post("/oauth/clients", admin, body)
    assert answer.status_code == 201
    made = answer.json()
    assert made["createdwith"] == "a test"
    assert made["scope"] == ["uaa.none"]
    assert made["authorities"] == ["cloud_controller.read"]
    assert made["access_token_validity"] == 60
    assert "secret" not in answer.text
    assert house.ok("GET", "/oauth/clients/app", admin) == made
    token = house.token("app", "secret", grant_type="client_credentials").json()
    assert token["expires_in"] == 60
    assert house.ok("GET", "/oauth/clients/app", token["access_token"]) == made, "oneself"
    again = house.post("/oauth/clients", admin, body)
    assert (again.status_code, again.json()["error_description"]) == (409, "Client already exists: app")
    changed = house.ok("PUT", "/oauth/clients/app", admin, {**GRANTS, "client_secret": "other", "authorities": ["a.b"]})
    assert changed["authorities"] == ["a.b"]
    assert house.token("app", "secret", grant_type="client_credentials").status_code == 200, "the secret stays"
    assert house.request("PUT", "/oauth/clients/app", admin, json={**GRANTS, "client_id": "b"}).status_code == 400
    assert house.ok("DELETE", "/oauth/clients/app", admin)["client_id"] == "app"
    for method in ("GET", "PUT", "DELETE"):
        gone = house.request(method, "/oauth/clients/app", admin, json=GRANTS)
        assert (gone.status_code, gone.content) == (404, b""), method
    assert house.token("app", "secret", grant_type="client_credentials").status_code == 401


_BAD_CLIENTS: list[tuple[dict[str, Any], str]] = [
    ({"client_id": ""}, "A client_id must be given"),
    ({"client_id": "a/b"}, "A client_id must be given"),
    ({"client_id": "tx"}, "no name for a client"),
    ({"authorized_grant_types": []}, "An authorized grant type must be provided"),
    ({"authorized_grant_types": ["magic"]}, "magic is not an allowed grant type"),
    ({"authorized_grant_types": ["implicit"]}, "implicit is not an allowed grant type"),
    ({"authorized_grant_types": ["authorization_code"]}, "A redirect_uri must be provided"),
    ({"client_secret": None}, "Client secret is required for grant type(s): client_credentials"),
    ({"client_secret": ""}, "Client secret cannot be empty"),
    ({"client_secret": 1}, "must be a text"),
    ({"client_secret": "x" * 256}, "at most 255"),
    ({"redirect_uri": ["javascript:alert(1)"]}, "One of the redirect_uri is invalid"),
    ({"redirect_uri": ["/relative"]}, "One of the redirect_uri is invalid"),
    ({"redirect_uri": ["https://*/"]}, "One of the redirect_uri is invalid"),
    ({"redirect_uri": ["https://*.org/"]}, "One of the redirect_uri is invalid"),
    ({"redirect_uri": ["*"]}, "One of the redirect_uri is invalid"),
    ({"redirect_uri": "x"}, "One of the redirect_uri is invalid"),
    ({"scope": [1]}, "scope must be a list of texts"),
    ({"access_token_validity": -1}, "must be a number of seconds"),
    ({"access_token_validity": "60"}, "must be a number of seconds"),
    ({"allowpublic": True}, "A public client cannot have"),
    ({"jwks": {"keys": [1]}}, "jwks must be"),
]


def test_bad_clients(house: House) -> None:
    admin = house.admin()
    for body, text in _BAD_CLIENTS:
        complete = {"client_id": "app", "client_secret": "x", **GRANTS, **body}
        answer = house.post("/oauth/clients", admin, complete)
        assert answer.status_code == 400, text
        assert answer.json()["error"] == "invalid_client"
        assert text in answer.json()["error_description"]


def test_list(house: House) -> None:
    admin = house.admin()
    listed = house.ok("GET", "/oauth/clients", admin, params={"sortBy": "client_id", "count": "2"})
    assert [one["client_id"] for one in listed["resources"]] == ["admin", "cc-service-dashboards"]
    assert listed["totalResults"] == len(house.secrets) + 1
    assert not any("secret" in one for one in listed["resources"])
    found = house.ok("GET", "/oauth/clients", admin, params={"filter": 'client_id eq "cf"'})["resources"]
    assert [one["client_id"] for one in found] == ["cf"]
    assert house.get("/oauth/clients", admin, params={"filter": "secret_hashes pr"}).status_code == 400


def test_who_may(house: House) -> None:
    reader = house.log_in()["access_token"]
    assert house.get("/oauth/clients/cf", reader).status_code == 200, "clients.read, as cf set-role --client needs"
    house.user("joe")
    joe = house.log_in("joe", "secret")["access_token"]
    refused = house.get("/oauth/clients/cf", joe)
    assert (refused.status_code, refused.json()["error"]) == (403, "insufficient_scope")
    body = {"client_id": "x", "client_secret": "x", **GRANTS}
    assert house.post("/oauth/clients", reader, body).status_code == 403
    assert house.request("DELETE", "/oauth/clients/cf", reader).status_code == 403
    writer = {**GRANTS, "authorities": ["clients.write", "cloud_controller.read"]}
    house.client("writer", **writer)
    token = house.token("writer", "secret", grant_type="client_credentials").json()["access_token"]
    assert house.post("/oauth/clients", token, body).status_code == 201
    for more in ({"authorities": ["uaa.admin"]}, {"scope": ["scim.write"]}):
        foreign = house.post("/oauth/clients", token, {**body, "client_id": "y", **more})
        assert (foreign.status_code, foreign.json()["error"]) == (400, "invalid_client")
    assert house.post("/oauth/clients", token, {**body, "client_id": "y", "scope": ["writer.read"]}).status_code == 201


def test_two_secrets(house: House) -> None:
    house.client("app", "one", authorized_grant_types=["client_credentials"], authorities=["clients.secret"])

    def works(secret: str) -> bool:
        return bool(house.token("app", secret, grant_type="client_credentials").status_code == 200)

    def change(token: str, **body: Any) -> tuple[int, str]:
        answer = house.request("PUT", "/oauth/clients/app/secret", token, json=body)
        found = answer.json()
        return answer.status_code, found.get("message") or found["error_description"]

    own = house.token("app", "one", grant_type="client_credentials").json()["access_token"]
    needed = "Previous secret is required and must be valid"
    assert change(own, secret="two") == (400, needed)
    assert change(own, secret="two", oldSecret="wrong") == (400, needed)
    full = "client secret is either empty or client already has two secrets."
    assert change(own, secret="", oldSecret="one", changeMode="ADD") == (400, full)
    assert change(own, secret="two", oldSecret="one", changeMode="ADD") == (200, "Secret is added")
    assert (works("one"), works("two")) == (True, True)
    assert change(own, secret="three", oldSecret="two", changeMode="ADD") == (400, full)
    assert change(own, oldSecret="two", changeMode="DELETE") == (200, "Secret is deleted")
    assert (works("one"), works("two")) == (False, True)
    assert house.get("/oauth/clients/app", own).status_code == 200, "a rotation interrupts nobody"
    only = "client secret is either empty or client has only one secret."
    assert change(own, oldSecret="two", changeMode="DELETE") == (400, only)
    assert change(house.admin(), changeMode="SWAP")[0] == 400
    assert change(house.admin(), secret="four") == (200, "Secret is updated")
    assert (works("two"), works("four")) == (False, True)
    assert house.get("/oauth/clients/app", own).status_code == 401, "a new secret ends what the old one opened"
    own = house.token("app", "four", grant_type="client_credentials").json()["access_token"]
    other = house.request("PUT", "/oauth/clients/cf/secret", own, json={"secret": "x", "oldSecret": "four"})
    assert other.json()["error_description"] == "Bad request. Not permitted to change another client's secret"
    assert house.request("PUT", "/oauth/clients/none/secret", house.admin(), json={"secret": "x"}).status_code == 404
    assert change(house.log_in()["access_token"], secret="x")[0] == 403


def test_together(house: House) -> None:
    admin = house.admin()

    def known() -> set[str]:
        listed = house.ok("GET", "/oauth/clients", admin, params={"filter": 'client_id sw "d-"'})
        return {one["client_id"] for one in listed["resources"]}

    def client(name: str, **more: Any) -> dict[str, Any]:
        grants = {"authorized_grant_types": ["authorization_code"], "redirect_uri": ["https://d.example.org/"]}
        return {"client_id": f"d-{name}", "client_secret": name, "scope": ["openid"], **grants, **more}

    path = "/oauth/clients/tx"
    assert len(house.ok("POST", path, admin, [client("a"), client("b")], 201)) == 2
    twice = house.post(path, admin, [client("c"), client("a")])
    assert twice.status_code == 409
    assert known() == {"d-a", "d-b"}, "all or none"
    mixed = [client("c", action="add"), {"client_id": "d-a", "action": "delete"}]
    house.ok("POST", f"{path}/modify", admin, mixed)
    assert known() == {"d-b", "d-c"}
    failing = [{"client_id": "d-b", "action": "delete"}, {"client_id": "d-none", "action": "delete"}]
    assert house.post(f"{path}/modify", admin, failing).status_code == 404
    assert known() == {"d-b", "d-c"}
    house.ok("PUT", path, admin, [client("b", scope=["openid", "profile"])])
    assert house.ok("GET", "/oauth/clients/d-b", admin)["scope"] == ["openid", "profile"]
    house.ok("POST", f"{path}/secret", admin, [{"clientId": "d-b", "secret": "new"}])
    grants = {"grant_type": "authorization_code", "code": "x"}
    assert house.token("d-b", "b", **grants).status_code == 401
    assert house.token("d-b", "new", **grants).json()["error"] == "invalid_grant"
    both = client("b", action="update,secret", client_secret="newer")
    assert house.ok("POST", f"{path}/modify", admin, [both])[0]["scope"] == ["openid"]
    assert house.token("d-b", "newer", **grants).json()["error"] == "invalid_grant"
    house.ok("POST", f"{path}/delete", admin, [{"client_id": "d-b"}, {"client_id": "d-c"}])
    assert known() == set()
    refused: list[Any] = [[], {}, [1], [{"client_id": "x", "action": "explode"}], [{"action": "delete"}]]
    for bad in refused:
        assert house.post(f"{path}/modify", admin, bad).json()["error"] == "invalid_client"
    assert house.post(path, house.log_in()["access_token"], [client("a")]).status_code == 403


def test_meta(house: House) -> None:
    admin = house.admin()
    path = "/oauth/clients/cf/meta"
    body = {"showOnHomePage": True, "appLaunchUrl": "https://cf.example.org/", "appIcon": "aWNvbg=="}
    changed = house.ok("PUT", path, admin, {**body, "clientName": "CF"})
    assert changed == {"clientId": "cf", "clientName": "CF", **body}
    house.user("joe")
    joe = house.log_in("joe", "secret")["access_token"]
    assert house.ok("GET", path, joe) == changed
    assert house.ok("GET", "/oauth/clients/meta", joe) == [changed]
    assert house.request("PUT", path, joe, json=body).status_code == 403
    assert house.get("/oauth/clients/none/meta", admin).status_code == 404
