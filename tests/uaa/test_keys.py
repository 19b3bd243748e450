"""Key rotation as clients see it."""

from joserfc import jwt
from joserfc.jwk import KeySet

from tests.uaa.conftest import Clock
from tests.uaa.house import House


def test_tokens_outlive_their_key_by_their_own_time(house: House, moving_clock: Clock) -> None:
    house.client("long", authorized_grant_types=["client_credentials"], access_token_validity=7200, authorities=["a.b"])
    old, opened = house.log_in(), house.token("long", "secret", grant_type="client_credentials").json()
    tag = house.get("/token_keys").headers["etag"]
    kid = house.identity.rotate_keys()
    answer = house.get("/token_keys", headers={"If-None-Match": tag})
    assert answer.status_code == 200
    assert answer.json()["keys"][0]["kid"] == kid
    assert house.ok("GET", "/token_key")["kid"] == kid
    new = house.log_in()["access_token"]
    keys = KeySet.import_key_set(answer.json())
    for token in (old["access_token"], new, opened["access_token"]):
        assert jwt.decode(token, keys, algorithms=["RS256"]).claims["zid"] == "uaa"
    assert house.api(old["access_token"]) == house.api(new) == 200
    moving_clock.forward(7199)
    assert len(house.ok("GET", "/token_keys")["keys"]) == 2
    moving_clock.forward(2)
    assert [key["kid"] for key in house.ok("GET", "/token_keys")["keys"]] == [kid]
    # Refresh tokens are no JWTs: they do not end with a key.
    again = house.token(grant_type="refresh_token", refresh_token=old["refresh_token"]).json()
    assert house.api(again["access_token"]) == 200
