"""Requests are counted as the Cloud Controller counts them (reference: behaviours, section 1)."""

from typing import Any

import pytest

from cupola import clock
from tests.security.conftest import Serve

LIMIT = "X-RateLimit-Limit"
REMAINING = "X-RateLimit-Remaining"
RESET = "X-RateLimit-Reset"
READ = ("cloud_controller.read",)


def test_nothing_is_counted_unless_asked_for(serve: Serve) -> None:
    front = serve()
    answer = front.client(*READ).get("/v3/apps")
    assert answer.status_code == 200
    assert [name for name in answer.headers if name.lower().startswith("x-ratelimit")] == []
    assert front.client(*READ).get("/v3/info").json()["rate_limits"] == {
        "enabled": False, "general_limit": 0, "reset_interval_in_minutes": 0
    }  # fmt: skip


def test_a_user_is_told_and_then_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    front = serve(rate_limits__enabled=True, rate_limits__general_limit=20, rate_limits__reset_minutes=10)
    user, other = front.client(*READ), front.client(*READ)
    now = clock.nanos()
    monkeypatch.setattr(clock, "nanos", lambda: now)
    first = user.get("/v3/apps")
    assert (first.headers[LIMIT], first.headers[REMAINING]) == ("20", "18")
    assert first.headers[RESET] == str(int(now / 1e9 + 600))
    for _ in range(19):
        last = user.get("/v3/apps")
    assert (last.status_code, last.headers[REMAINING]) == (200, "0")
    refused = user.get("/v3/apps")
    assert refused.status_code == 429
    assert refused.json()["errors"] == [
        {"code": 10013, "title": "CF-RateLimitExceeded", "detail": "Rate Limit Exceeded"}
    ]
    assert refused.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert 0 < int(refused.headers["Retry-After"]) <= 600
    assert (refused.headers[LIMIT], refused.headers[REMAINING]) == ("20", "0")
    assert other.get("/v3/apps").status_code == 200
    monkeypatch.setattr(clock, "nanos", lambda: now + 601 * 10**9)
    assert user.get("/v3/apps").status_code == 200


def test_addresses_without_a_token_are_counted_by_what_the_router_says(serve: Serve) -> None:
    front = serve(rate_limits__enabled=True, rate_limits__unauthenticated_limit=2)

    def ask(address: str, **headers: str) -> Any:
        # The client's own entry comes first and counts for nothing.
        return front.http.get("/v3/apps", headers={"X-Forwarded-For": f"{address}, 192.0.2.1", **headers})

    for address in ("198.51.100.1", "198.51.100.2"):
        assert ask(address).status_code == 401
    refused = ask("198.51.100.3", Authorization="bearer forged")
    assert refused.status_code == 429
    (error,) = refused.json()["errors"]
    assert (error["code"], error["title"]) == (10014, "CF-IPBasedRateLimitExceeded")
    assert error["detail"].endswith("Please log in.")


def test_who_is_not_counted(serve: Serve) -> None:
    front = serve(rate_limits__enabled=True, rate_limits__general_limit=0, rate_limits__unauthenticated_limit=0)
    for scope in ("cloud_controller.admin", "cloud_controller.admin_read_only"):
        answer = front.client(scope).get("/v3/apps")
        assert (answer.status_code, LIMIT in answer.headers) == (200, False)
    for path in ("/", "/v3", "/healthz"):
        assert front.http.get(path).status_code == 200
    assert front.http.get("/v3/apps", headers={"Authorization": "Basic Y2Y6"}).status_code == 401
    assert front.http.get("/v3/apps").status_code == 429
    assert front.client(*READ).get("/v3/apps").status_code == 429


def test_the_table_of_counts_has_an_end(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cupola.rest.rate_limits._CAPACITY", 2)
    front = serve(rate_limits__enabled=True, rate_limits__general_limit=1)
    users = [front.client(*READ) for _ in range(4)]
    assert [user.get("/v3/apps").status_code for user in users] == [200] * 4
    assert users[3].get("/v3/apps").status_code == 429
    # The oldest was forgotten, which is better than memory without end.
    assert users[0].get("/v3/apps").status_code == 200
