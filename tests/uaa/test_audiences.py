"""Who a token is meant for: each face of the platform takes the tokens that its own scopes are for, and no others."""

from typing import Any

import pytest

from tests.uaa.house import House


def _token(house: House, *authorities: str) -> str:
    name = "robot-" + "-".join(authorities).replace(".", "-")
    house.client(name, authorized_grant_types=["client_credentials"], authorities=list(authorities))
    body: dict[str, Any] = house.token(name, "secret", grant_type="client_credentials").json()
    return str(body["access_token"])


def _status(house: House, token: str, path: str) -> int:
    return int(house.http.get(path, headers={"Authorization": f"bearer {token}"}).status_code)


API = "/v3/organizations"
ROUTING = "/routing/v1/router_groups"
NETWORKING = "/networking/v1/external/policies"
LOGS = "/api/v1/read/some-source"


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ("cloud_controller.admin", API),
        ("routing.router_groups.read", ROUTING),
        ("network.admin", NETWORKING),
        ("doppler.firehose", LOGS),
        ("logs.admin", LOGS),
    ],
)
def test_each_face_takes_its_own(house: House, scope: str, path: str) -> None:
    token = _token(house, scope)
    assert _status(house, token, path) == 200
    others = {API, ROUTING, NETWORKING, LOGS} - {path}
    if scope == "cloud_controller.admin":
        others -= {LOGS}
    refused = {other: _status(house, token, other) for other in others}
    # Log cache says of what one may not read that it is not there.
    assert refused == {other: 404 if other == LOGS else 401 for other in others}


def test_a_token_for_nobody_here(house: House) -> None:
    token = _token(house, "elsewhere.read")
    assert [_status(house, token, path) for path in (API, ROUTING, NETWORKING, LOGS)] == [401, 401, 401, 404]
