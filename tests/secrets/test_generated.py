"""Generated secrets."""

from cupola.secrets import generated


def test_no_password_looks_like_an_option() -> None:
    """`cf auth admin -x...` is refused by the client."""
    made = {generated.password(24) for _ in range(2000)}
    assert len(made) == 2000
    assert {len(one) for one in made} == {24}
    assert not {one for one in made if not one[0].isalnum()}
