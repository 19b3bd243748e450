"""Log cache's HTTP face, asked as the official client asks."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from cupola import clock
from cupola.config import Logs
from cupola.logcache.routes import routes
from cupola.logs.envelope import Envelope
from cupola.logs.ring import Ring

ZERO = -6795364578871345152
"""Nanoseconds of Go's zero time, which the client's first read starts at."""
TAGS = {"source_type": "APP/PROC/WEB", "app_name": "dora"}


async def authorize(headers: Headers, source_id: str) -> bool:
    return headers["authorization"] == "bearer good" and source_id != "secret"


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path, Logs())


@pytest.fixture
def client(ring: Ring) -> TestClient:
    return TestClient(Starlette(routes=routes(ring, authorize, "3.0.11")), headers={"Authorization": "bearer good"})


def line(timestamp: int, text: str, source: str = "app") -> Envelope:
    return Envelope(timestamp, source, "0", TAGS, text.encode())


def read(client: TestClient, query: str = "", source: str = "app") -> list[dict[str, Any]]:
    response = client.get(f"/api/v1/read/{source}{query}")
    assert response.status_code == 200, response.text
    batch: list[dict[str, Any]] = response.json()["envelopes"]["batch"]
    return batch


def texts(batch: list[dict[str, Any]]) -> list[str]:
    return [base64.b64decode(envelope["log"]["payload"]).decode() for envelope in batch]


def test_info_needs_no_token(ring: Ring) -> None:
    response = TestClient(Starlette(routes=routes(ring, authorize, "3.0.11"))).get("/api/v1/info")
    assert response.json()["version"] == "3.0.11"
    assert int(response.json()["vm_uptime"]) > 0


def test_a_line_looks_exactly_as_log_cache_writes_it(ring: Ring, client: TestClient) -> None:
    ring.add([Envelope(1_700_000_000_123_456_789, "app", "2", TAGS, b"h\xffi", "ERR")])
    response = client.get("/api/v1/read/app")
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.content) == {
        "envelopes": {
            "batch": [
                {
                    "timestamp": "1700000000123456789",
                    "source_id": "app",
                    "instance_id": "2",
                    "deprecated_tags": {},
                    "tags": TAGS,
                    "log": {"payload": base64.b64encode(b"h\xffi").decode(), "type": "ERR"},
                }
            ]
        }
    }


def test_metrics_look_exactly_as_log_cache_writes_them(ring: Ring, client: TestClient) -> None:
    ring.add(
        [
            Envelope(1, "app", "0", {}, gauge={"cpu": (12.5, "percentage"), "odd": (float("nan"), "")}),
            Envelope(2, "app", "0", {}, counter=("requests", 3, 2**63)),
            Envelope(3, "app", "0", {}, timer=("http", 5, 7)),
        ]
    )
    gauge, counter, timer = read(client)
    assert gauge["gauge"] == {
        "metrics": {"cpu": {"unit": "percentage", "value": 12.5}, "odd": {"unit": "", "value": "NaN"}}
    }
    assert counter["counter"] == {"name": "requests", "delta": "3", "total": "9223372036854775808"}
    assert timer["timer"] == {"name": "http", "start": "5", "stop": "7"}
    assert "log" not in gauge


def test_the_client_reads_recent_lines(ring: Ring, client: TestClient) -> None:
    ring.add([line(n, f"line {n}") for n in range(1, 1501)])
    ring.add([Envelope(2000, "app", "0", {}, gauge={"cpu": (1.0, "percentage")})])
    batch = read(client, f"?descending=true&limit=1000&envelope_types=LOG&start_time={ZERO}")
    assert texts(batch) == [f"line {n}" for n in range(1500, 500, -1)]
    assert len(read(client)) == 100


def test_the_client_follows_lines_and_misses_none(ring: Ring, client: TestClient) -> None:
    assert client.get(f"/api/v1/read/app?descending=true&limit=1&start_time={ZERO}").json() == {
        "envelopes": {"batch": []}
    }
    ring.add([line(clock.nanos(), f"line {n}") for n in range(250)])
    (newest,) = read(client, f"?descending=true&limit=1&start_time={ZERO}")
    start = int(newest["timestamp"]) - 1_000_000_000
    got: list[str] = []
    for more in (100, 50, 0, 0, 0):
        batch = read(client, f"?start_time={start}&envelope_types=LOG")
        got += texts(batch)
        if batch:
            start = int(batch[-1]["timestamp"]) + 1
        ring.add([line(clock.nanos(), f"more {n}") for n in range(more)])
    assert got == (
        [f"line {n}" for n in range(250)] + [f"more {n}" for n in range(100)] + [f"more {n}" for n in range(50)]
    )


def test_types_times_and_names_filter(ring: Ring, client: TestClient) -> None:
    ring.add([line(1, "a"), Envelope(2, "app", "0", {}, gauge={"cpu": (1.0, "%"), "memory": (2.0, "bytes")})])
    ring.add([Envelope(3, "app", "0", {}, timer=("http", 1, 2)), line(4, "b")])
    assert [e["timestamp"] for e in read(client, "?envelope_types=LOG&envelope_types=TIMER")] == ["1", "3", "4"]
    assert [e["timestamp"] for e in read(client, "?envelope_types=3")] == ["2"]
    assert len(read(client, "?envelope_types=ANY")) == 4
    assert read(client, "?envelope_types=EVENT") == []
    assert [e["timestamp"] for e in read(client, "?start_time=2&end_time=4")] == ["2", "3"]
    (gauge,) = read(client, "?name_filter=mem.*")
    assert gauge["gauge"]["metrics"] == {"memory": {"unit": "bytes", "value": 2.0}}
    assert [e["timestamp"] for e in read(client, "?name_filter=^(http|cpu)$&descending=1")] == ["3", "2"]
    assert read(client, "?name_filter=cpu&envelope_types=LOG") == []


@pytest.mark.parametrize(
    ("query", "status", "code", "message"),
    [
        ("limit=1001", 500, 2, "limit (1001) must be 1000 or less"),
        ("limit=-1", 500, 2, "limit (-1) must be greater than zero"),
        ("start_time=5&end_time=4", 500, 2, "StartTime (5) must be before EndTime (4)"),
        ("limit=x", 400, 3, 'parsing field "limit": strconv.ParseInt: parsing "x": invalid syntax'),
        ("start_time=", 400, 3, 'parsing field "start_time": strconv.ParseInt: parsing "": invalid syntax'),
        ("end_time=1_0", 400, 3, 'parsing field "end_time": strconv.ParseInt: parsing "1_0": invalid syntax'),
        (
            "start_time=9223372036854775808",
            400,
            3,
            'parsing field "start_time": strconv.ParseInt: parsing "9223372036854775808": value out of range',
        ),
        ("limit=1&limit=2", 400, 3, 'too many values for field "limit": 1, 2'),
        ("descending=yes", 400, 3, 'parsing field "descending": strconv.ParseBool: parsing "yes": invalid syntax'),
        ("envelope_types=FOO", 400, 3, 'parsing list "envelope_types": "FOO" is not a valid value'),
        ("name_filter=(", 500, 2, "name filter must be a valid regular expression: missing ), unterminated subpattern"),
        ("name_filter=(.*)*x", 500, 2, "name filter may repeat no group"),
        ("name_filter=.*.*.*.*.*x", 500, 2, "name filter may repeat no group"),
    ],
)
def test_bad_parameters(client: TestClient, query: str, status: int, code: int, message: str) -> None:
    response = client.get(f"/api/v1/read/app?{query}")
    assert response.status_code == status
    body = response.json()
    assert (body["code"], body["details"]) == (code, [])
    assert body["message"].startswith(message)


def test_a_pattern_never_takes_long(ring: Ring, client: TestClient) -> None:
    ring.add([Envelope(1, "app", "0", {}, gauge={"a" * 1000: (1.0, "")})])
    start = time.process_time()
    assert read(client, "?name_filter=a%2Ba%2Ba%2Ba%2Bb") == []
    assert time.process_time() - start < 10


def test_limit_zero_and_unknown_parameters_are_as_none(ring: Ring, client: TestClient) -> None:
    ring.add([line(n, "x") for n in range(1, 151)])
    assert len(read(client, "?limit=0&unknown=1&start_time=0&end_time=0")) == 100


def test_who_may_not_read_is_told_nothing(ring: Ring, client: TestClient) -> None:
    ring.add([line(1, "x", "secret")])
    for response in (
        client.get("/api/v1/read/secret"),
        client.get("/api/v1/read/app", headers={"Authorization": "bearer bad"}),
        client.get("/api/v1/read/secret?limit=x"),
        TestClient(client.app).get("/api/v1/read/app"),
        TestClient(client.app).get("/api/v1/meta"),
    ):
        assert (response.status_code, response.content) == (404, b"")


def test_meta_names_only_what_the_caller_may_read(ring: Ring, client: TestClient) -> None:
    assert client.get("/api/v1/meta").json() == {}
    ring.add([line(5, "x"), line(9, "y"), line(1, "x", "secret")])
    assert client.get("/api/v1/meta").json() == {
        "meta": {"app": {"count": "2", "oldestTimestamp": "5", "newestTimestamp": "9"}}
    }


def test_promql_is_not_served(client: TestClient) -> None:
    assert client.get("/api/v1/query?query=cpu").status_code == 404
