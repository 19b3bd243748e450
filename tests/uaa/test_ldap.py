"""Users of a directory: real slapd, with TLS; passwords, attributes, groups, and names that try to be more than names."""

import contextlib
import shutil
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cupola.config import ConfigError, load
from tests.databases import Prepared
from tests.uaa import slapd
from tests.uaa.house import House, Platform, claims_of, opened
from tests.uaa.slapd import ADMIN, ADMIN_PASSWORD, BASE, Slapd

pytestmark = pytest.mark.skipif(
    slapd.SLAPD is None or shutil.which("ldapadd") is None, reason="slapd is not installed (Debian: slapd ldap-utils)"
)
Make = Callable[..., House]
PEOPLE, GROUPS = f"ou=people,{BASE}", f"ou=groups,{BASE}"


@pytest.fixture(scope="session")
def prepared(sqlite_prepared: Prepared) -> Prepared:
    """A directory sees no database: one kind will do."""
    return sqlite_prepared


@pytest.fixture(scope="module")
def directory() -> Iterator[Slapd]:
    with slapd.running() as found:
        yield found


@pytest.fixture
def make(platform: Platform, directory: Slapd, tmp_path: Path) -> Iterator[Make]:
    """A platform with the directory `ldap`; the arguments are more of its settings."""
    file = tmp_path / "password"
    file.write_text(ADMIN_PASSWORD + "\n")
    with ExitStack() as stack:

        def made(flags: dict[str, Any] | None = None, **more: Any) -> House:
            usual = {
                "urls": [directory.tls],
                "ca_file": str(directory.ca_file),
                "bind_dn": ADMIN,
                "bind_password_file": str(file),
                "search_base": PEOPLE,
            }
            given = {name: value for name, value in {**usual, **more}.items() if value is not None}
            return stack.enter_context(opened(platform, identity__ldap={"ldap": given}, **(flags or {})))

        yield made


def _name() -> str:
    return f"user-{uuid.uuid4().hex[:8]}"


def _token(house: House, username: str, password: str = "secret", **form: str) -> Any:
    return house.token(grant_type="password", username=username, password=password, **form)


def test_login(make: Make, directory: Slapd) -> None:
    house, name = make(), _name()
    dn = directory.user(name, mail="joe@corp.example", givenName="Jörg", sn="Döring")
    answer = _token(house, name)
    assert answer.status_code == 200, answer.text
    claims = claims_of(answer.json()["access_token"])
    assert (claims["user_name"], claims["origin"], claims["email"]) == (name, "ldap", "joe@corp.example")
    assert claims["amr"] == ["ext", "pwd"]
    assert house.api(answer.json()["access_token"]) == 200
    user = house.ok("GET", f"/Users/{claims['user_id']}", house.admin())
    assert user["name"] == {"givenName": "Jörg", "familyName": "Döring"}
    assert user["externalId"] == dn
    for hint in ('{"origin":"ldap"}', '{"origin":"uaa"}'):
        assert _token(house, name, login_hint=hint).status_code == (200 if "ldap" in hint else 401)
    wrong = _token(house, name, "wrong")
    assert (wrong.status_code, wrong.json()["error_description"]) == (401, "Bad credentials")
    assert _token(house, name.upper()).json()["scope"], "directories do not tell case"
    assert claims_of(_token(house, name.upper()).json()["access_token"])["user_id"] == claims["user_id"]
    # Refreshing asks nobody.
    again = house.token(grant_type="refresh_token", refresh_token=answer.json()["refresh_token"])
    assert claims_of(again.json()["access_token"])["origin"] == "ldap"
    assert set(house.get("/login?origin=ldap", headers={"Accept": "application/json"}).json()["prompts"]) == {
        "username",
        "password",
    }


def test_login_page(make: Make, directory: Slapd) -> None:
    house, name = make(), _name()
    directory.user(name)
    visitor = house.browser()
    assert visitor.log_in(name).headers["location"] == f"{house.prefix}/"
    assert name in visitor.get("/").text
    wrong = house.browser().log_in(name, "wrong")
    assert "error=login_failure" in wrong.headers["location"]


def test_users_of_both(make: Make, directory: Slapd) -> None:
    """One name may be two users: the password says which, and a hint where it is looked for."""
    house, name = make(), _name()
    directory.user(name, "the directory's")
    house.user(name, "ours")
    assert claims_of(_token(house, name, "ours").json()["access_token"])["origin"] == "uaa"
    assert claims_of(_token(house, name, "the directory's").json()["access_token"])["origin"] == "ldap"
    assert _token(house, name, "ours", login_hint='{"origin":"ldap"}').status_code == 401
    assert _token(house, name, "the directory's", login_hint='{"origin":"uaa"}').status_code == 401
    house.client("app", authorized_grant_types=["password"], scope=["openid"], allowedproviders=["ldap"])
    form = {"grant_type": "password", "username": name}
    assert house.token("app", "secret", **form, password="the directory's").status_code == 200
    assert house.token("app", "secret", **form, password="ours").status_code == 401
    hinted = house.token("app", "secret", **form, password="ours", login_hint='{"origin":"uaa"}')
    assert hinted.json()["error_description"] == "Client is not authorized for specified user's identity provider."


def test_guessing_is_locked(make: Make, directory: Slapd) -> None:
    house, name = make(), _name()
    directory.user(name)
    hint = {"login_hint": '{"origin":"ldap"}'}
    for _ in range(5):
        assert _token(house, name, "wrong", **hint).json()["error"] == "invalid_client"
    locked = _token(house, name, **hint)
    assert locked.json()["error_description"].startswith("Your account has been locked")
    # Without a hint it is still looked for here, and the answer is that of any wrong password.
    assert _token(house, name).json()["error_description"] == "Bad credentials"
    for same in (f" {name}", f"{name}  ", name.upper(), name.replace("user", "\uff55ser")):
        assert _token(house, same, **hint).json()["error_description"].startswith("Your account has been locked"), same
    other = _name()
    directory.user(other)
    for _ in range(4):
        _token(house, other, "wrong")
    assert _token(house, other).status_code == 200
    for _ in range(4):
        _token(house, other, "wrong")
    assert _token(house, other).status_code == 200, "a good login forgets the wrong ones"


@pytest.mark.parametrize(
    "name", ["*", "jo*", "*)(uid=*", ")(|(uid=*", "joe)(objectClass=*", "\\2a", "jo\\65", "", " ", "(", "ä\\"]
)
def test_names_are_no_filters(make: Make, directory: Slapd, name: str) -> None:
    house = make()
    with contextlib.suppress(AssertionError):
        # It may be there from the parameter before.
        directory.user("joe")
    assert _token(house, "joe").status_code == 200
    assert _token(house, name).status_code == 401
    assert _token(house, name, login_hint='{"origin":"ldap"}').status_code == 401


def test_an_empty_password_is_no_login(make: Make, directory: Slapd) -> None:
    """LDAP takes one for a login as nobody, and says that it is good."""
    house, name = make(), _name()
    directory.user(name)
    assert _token(house, name, "", login_hint='{"origin":"ldap"}').status_code == 401


def test_without_a_search(make: Make, directory: Slapd) -> None:
    house = make(search_base=None, bind_dn=None, bind_password_file=None, user_dn=f"uid={{username}},{PEOPLE}")
    name, odd = _name(), f'{_name()}, with "signs" + #1=<x>; \\ '
    directory.user(name, mail="joe@corp.example")
    escaped = odd.replace("\\", "\\\\").rstrip()
    for sign in ',"+=<>;':
        escaped = escaped.replace(sign, "\\" + sign)
    kind = {"objectClass": "inetOrgPerson", "cn": "x", "sn": "x", "userPassword": "secret"}
    directory.add(f"uid={escaped}\\ ,{PEOPLE}", **kind)
    claims = claims_of(_token(house, name).json()["access_token"])
    assert (claims["user_name"], claims["email"]) == (name, "joe@corp.example")
    assert _token(house, odd).status_code == 200
    assert _token(house, f"{name},{PEOPLE}").status_code == 401
    assert _token(house, f"x,{PEOPLE}+uid={name}").status_code == 401


def test_several_entries(make: Make, directory: Slapd) -> None:
    house, name = make(search_filter="(|(uid={username})(mail={username}))"), _name()
    directory.user(name, mail=f"{name}@corp.example")
    by_mail = claims_of(_token(house, f"{name}@corp.example").json()["access_token"])
    assert by_mail["user_name"] == name, "the directory says what the user is called"
    assert by_mail["user_id"] == claims_of(_token(house, name).json()["access_token"])["user_id"]
    directory.user(_name(), mail=name)
    refused = _token(house, name)
    assert (refused.status_code, refused.json()["error"]) == (401, "unauthorized")


# Groups


def test_groups(make: Make, directory: Slapd) -> None:
    name = _name()
    dn = directory.user(name)
    team = directory.group(f"team-{name}", dn)
    outer = directory.group(f"outer-{name}", team)
    directory.group(f"other-{name}", ADMIN)
    house = make(
        group_base=GROUPS,
        group_depth=2,
        groups={
            # Names of groups are compared as directories do.
            team.upper().replace(",", " , "): ["scim.read"],
            outer: ["cloud_controller.admin"],
            f"cn=other-{name},{GROUPS}": ["scim.write"],
        },
    )
    scope = set(_token(house, name).json()["scope"].split())
    assert {"scim.read", "cloud_controller.admin"} <= scope
    assert "scim.write" not in scope
    directory.change(f"dn: {team}\nchangetype: modify\nadd: member\nmember: {ADMIN}\n-\ndelete: member\nmember: {dn}\n")
    scope = set(_token(house, name).json()["scope"].split())
    assert not scope & {"scim.read", "cloud_controller.admin"}


def test_groups_by_name_and_from_the_user(make: Make, directory: Slapd) -> None:
    name = _name()
    dn = directory.user(name, departmentNumber=["d1", "d2"])
    directory.group(f"team-{name}", dn)
    house = make(
        group_base=GROUPS,
        group_name="cn",
        attributes={"external_groups": "departmentNumber", "user.attribute.title": "cn"},
        groups={f"team-{name}": ["scim.read"], "d2": ["clients.read"], "d3": ["scim.write"]},
    )
    # A mapping of the API counts as well.
    body = {"displayName": "network.admin", "externalGroup": "d1", "origin": "ldap"}
    house.ok("POST", "/Groups/External", house.admin(), body, 201)
    scope = set(_token(house, name).json()["scope"].split())
    assert {"scim.read", "clients.read", "network.admin"} <= scope
    assert "scim.write" not in scope


def test_groups_in_a_circle(make: Make, directory: Slapd) -> None:
    name = _name()
    dn = directory.user(name)
    first, second = f"cn=a-{name},{GROUPS}", f"cn=b-{name},{GROUPS}"
    directory.group(f"a-{name}", dn, second)
    directory.group(f"b-{name}", first)
    house = make(group_base=GROUPS, group_depth=10, groups={second: ["scim.read"]})
    assert "scim.read" in _token(house, name).json()["scope"]


# TLS and trouble


def test_start_tls(make: Make, directory: Slapd) -> None:
    name = _name()
    directory.user(name)
    house = make(urls=[directory.plain.replace("127.0.0.1", "localhost")])
    assert _token(house, name).status_code == 200


@pytest.mark.parametrize(
    "trouble",
    [
        {"ca_file": None},
        {"ca_file": "/no/such/file"},
        {"urls": ["ldaps://127.0.0.1:{tls}"]},
        {"urls": ["ldap://127.0.0.1:{plain}"]},
        {"bind_dn": f"cn=nobody,{BASE}"},
        {"bind_password_env": "CUPOLA_TEST_WRONG_PASSWORD", "bind_password_file": None},
    ],
)
def test_directories_that_are_not_believed(
    make: Make, directory: Slapd, trouble: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong certificate, a wrong name in it, a searcher that is not let in: nobody logs in, and it is not the password."""
    monkeypatch.setenv("CUPOLA_TEST_WRONG_PASSWORD", "wrong")
    name = _name()
    directory.user(name)
    ports = {"tls": directory.tls.rpartition(":")[2], "plain": directory.plain.rpartition(":")[2]}
    given = {
        key: [one.format(**ports) for one in value] if isinstance(value, list) else value
        for key, value in trouble.items()
    }
    house = make(**given)
    house.user("joe")
    answer = _token(house, name)
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable"), answer.text
    assert "ldap" in answer.json()["error_description"]
    assert _token(house, "joe").status_code == 200


def test_the_next_server_is_asked(make: Make, directory: Slapd) -> None:
    name = _name()
    directory.user(name)
    with _silent() as quiet, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"ldaps://localhost:{closed.getsockname()[1]}"
        house = make(urls=[nobody, f"ldaps://localhost:{quiet}", directory.tls], timeout_seconds=1.5)
        assert _token(house, name).status_code == 200


@contextlib.contextmanager
def _silent(says: bytes = b"") -> Iterator[int]:
    """A server that takes connections, says one thing and then nothing; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    held.append(connection)
                    if says:
                        connection.recv(4096)
                        connection.sendall(says)

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


@pytest.mark.parametrize(
    "says",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x30\x84\xff\xff\xff\xff\x02\x01\x01",
        b"\x30\x0c\x02\x01\x05\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
        b"\x30\x80" * 2000,
        # A good answer to StartTLS with something behind it, which was said before there was TLS.
        b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00\x30\x0c\x02\x01\x02\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
    ],
)
def test_nonsense(make: Make, says: bytes) -> None:
    with _silent(says) as port:
        house = make(urls=[f"ldap://localhost:{port}"], timeout_seconds=1.0)
        answer = _token(house, "joe", login_hint='{"origin":"ldap"}')
        assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"urls": []}, "there is none"),
        ({"urls": ["http://x"]}, "is not ldap"),
        ({"urls": ["ldap://x"], "start_tls": False}, "sends passwords as they are"),
        ({"urls": ["ldap://x"], "search_base": None}, "search_base or user_dn"),
        ({"urls": ["ldap://x"], "search_filter": "(uid=x)"}, "is missing"),
        ({"urls": ["ldap://x"], "bind_dn": "cn=x"}, "bind_password_file"),
        ({"urls": ["ldap://x"], "group_depth": 11}, "from 1 to 10"),
        ({"urls": ["ldap://x"], "attributes": {"nmae": "cn"}}, "there is no attribute nmae"),
        ({"urls": ["ldap://x"], "concurrency": 0}, "more than 0"),
    ],
)
def test_settings_that_make_no_sense(section: dict[str, Any], says: str) -> None:
    complete = {name: value for name, value in {"search_base": "dc=x", **section}.items() if value is not None}
    with pytest.raises(ConfigError, match=says):
        load(environment={}, flags={"identity.ldap": {"corp": complete}})
