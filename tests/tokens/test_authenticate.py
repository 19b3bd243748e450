"""Which tokens the API takes."""

from pathlib import Path
from typing import Any

import pytest

from cupola.errors import CloudError
from cupola.tokens.authenticate import Authenticator
from cupola.tokens.keys import SigningKeys

ISSUER = "http://localhost/uaa/oauth/token"
GOOD: dict[str, Any] = {
    "jti": "a",
    "iss": ISSUER,
    "exp": 100,
    "aud": ["cloud_controller"],
    "scope": ["cloud_controller.read"],
    "user_id": "u",
    "user_name": "n",
}


def test_tokens(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path / "keys.json")
    revoked: set[str] = set()
    judge = Authenticator(keys, ISSUER, lambda claims: claims["jti"] in revoked)
    header = "bearer " + keys.sign(GOOD, "http://localhost/uaa/token_keys")
    keys.rotate()
    assert judge.authenticate(header, 99.0).guid == "u"
    assert all("d" not in key for key in keys.jwks()["keys"])
    for bad in ({"iss": "x"}, {"aud": ["x"]}, {"jti": "a-r"}, {"user_id": None}):
        with pytest.raises(CloudError, match="1000"):
            judge.authenticate("Bearer " + keys.sign({**GOOD, **bad}, "http://localhost/uaa/token_keys"), 1.0)
    other = SigningKeys(tmp_path / "other.json")
    for text, now in (
        (header, 100.0),
        ("bearer x.y.z", 1.0),
        ("bearer " + other.sign(GOOD, "http://localhost/uaa/token_keys"), 1.0),
    ):
        with pytest.raises(CloudError, match="1000"):
            judge.authenticate(text, now)
    with pytest.raises(CloudError, match="10002"):
        judge.authenticate(None, 1.0)
    revoked.add("a")
    with pytest.raises(CloudError, match="1000"):
        judge.authenticate(header, 1.0)
