"""Signing keys: rotated while other processes use them, kept until the last token has ended."""

from pathlib import Path

import pytest

from cupola import clock
from cupola.tokens.keys import SigningKeys


def test_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(clock, "nanos", lambda: int(now * 1e9))
    path = tmp_path / "signing.json"
    here, elsewhere = SigningKeys(path), SigningKeys(path)
    assert path.stat().st_mode & 0o777 == 0o600
    old = here.sign({"n": 1}, "http://localhost/token_keys")
    first = here.active_jwk()["kid"]
    second = here.rotate(100)
    new = here.sign({"n": 2}, "http://localhost/token_keys")
    # The other process has not been told: it sees it by itself, whether it verifies, signs or shows.
    assert elsewhere.verify(new) == {"n": 2}
    assert elsewhere.verify(old) == {"n": 1}
    assert elsewhere.active_jwk()["kid"] == second
    assert [key["kid"] for key in elsewhere.jwks()["keys"]] == [second, first]
    now += 101
    for keys in (here, elsewhere, SigningKeys(path)):
        with pytest.raises(ValueError, match="unknown key"):
            keys.verify(old)
        assert keys.verify(new) == {"n": 2}
        assert [key["kid"] for key in keys.jwks()["keys"]] == [second]
    elsewhere.rotate(100)
    assert first.encode() not in path.read_bytes(), "a key that is of no use is deleted at the next rotation"
    assert here.verify(new) == {"n": 2}


def test_two_rotations_within_a_token(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path / "signing.json")
    tokens = [keys.sign({"n": 0}, "http://localhost/token_keys")]
    for number in (1, 2):
        keys.rotate(100)
        tokens.append(keys.sign({"n": number}, "http://localhost/token_keys"))
    assert [keys.verify(token)["n"] for token in tokens] == [0, 1, 2]
    assert len(keys.jwks()["keys"]) == 3
