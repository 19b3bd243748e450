"""Pages of other origins: those that the operator names may call, with tokens, and nobody else."""

import pytest

from tests.security.conftest import Serve

ORIGIN = "https://dash.example.com"


def preflight(origin: str, method: str = "PUT") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "Authorization, X-Custom",
    }


def test_nobody_is_allowed_unless_named(serve: Serve) -> None:
    front = serve()
    answer = front.http.get("/v3/info", headers={"Origin": ORIGIN})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    assert front.http.options("/v3/apps", headers=preflight(ORIGIN)).status_code != 200


def test_a_named_origin_asks_first_and_then_calls(serve: Serve) -> None:
    front = serve(platform__cors_origins=[ORIGIN])
    asked = front.http.options("/v3/apps", headers=preflight(ORIGIN))
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    assert "PUT" in asked.headers["access-control-allow-methods"]
    assert {"authorization", "x-custom"} <= set(asked.headers["access-control-allow-headers"].split(", "))
    answer = front.client("cloud_controller.read").get("/v3/apps", headers={"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["vary"] == "Origin"
    assert "x-cf-warnings" in answer.headers["access-control-expose-headers"]
    # Cookies of the browser are not for other origins.
    assert "access-control-allow-credentials" not in answer.headers
    assert front.http.get("/uaa/info", headers={"Origin": ORIGIN}).headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        ("https://*.example.com", "https://a.example.com", True),
        ("https://*.example.com", "https://a.b.example.com:444", False),
        ("https://*.example.com:*", "https://a.b.example.com:444", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://evil.org/.example.com", False),
        ("https://*.example.com", "http://a.example.com", False),
        (ORIGIN, "https://dash.example.com.evil.org", False),
        (ORIGIN, "https://dashxexample.com", False),
        (ORIGIN, "null", False),
        (f"{ORIGIN}/", ORIGIN.upper(), True),
    ],
)
def test_origins_are_compared_whole(serve: Serve, allowed: str, origin: str, expected: bool) -> None:
    front = serve(platform__cors_origins=[allowed])
    answer = front.http.get("/v3/info", headers={"Origin": origin})
    assert ("access-control-allow-origin" in answer.headers) is expected


def test_a_refused_request_says_so_to_the_page(serve: Serve) -> None:
    """Without the header a page could not tell a 401 from a broken network."""
    front = serve(platform__cors_origins=[ORIGIN], rate_limits__enabled=True, rate_limits__unauthenticated_limit=1)
    statuses = [front.http.get("/v3/apps", headers={"Origin": ORIGIN}) for _ in range(2)]
    assert [one.status_code for one in statuses] == [401, 429]
    assert {one.headers["access-control-allow-origin"] for one in statuses} == {ORIGIN}
