"""Access lines in the app's stream, in Gorouter's format."""

import hashlib
import re

import pytest

from tests.router.conftest import Play
from tests.router.rig import HOST, Rig, field_of

HASH = hashlib.sha256(b"token=secret").hexdigest()
LINE = re.compile(
    r'(?P<host>\S+) - \[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z\] "(?P<request>[^"]*)" (?P<status>\d+) (?P<in>\d+) '
    r'(?P<out>\d+) "(?P<referer>[^"]*)" "(?P<agent>[^"]*)" "(?P<client>[^"]*)" "(?P<backend>[^"]*)" '
    r'x_forwarded_for:"[^"]*" x_forwarded_proto:"[^"]*" vcap_request_id:"[0-9a-f-]{36}" '
    r'response_time:\d+\.\d{6} gorouter_time:\d+\.\d{6} app_id:"[^"]*" app_index:"\d+" instance_id:"[^"]*" '
    r'x_cf_routererror:"[^"]*" x_b3_traceid:"[0-9a-f]{32}" x_b3_spanid:"[0-9a-f]{16}" x_b3_parentspanid:"-" '
    r'b3:"[0-9a-f-]{49}"'
)


def parsed(line: str) -> dict[str, str]:
    match = LINE.fullmatch(line)
    assert match is not None, line
    return match.groupdict()


def test_the_line(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        sent = ["User-Agent: curl/8", "Referer: http://x/", "X-Forwarded-For: 10.1.1.1", "X-Forwarded-Proto: https"]
        got = await rig.ask("POST /a?b=c", *sent, body=b"12345")
        ((source, line),) = rig.lines()
        assert source == app.guid
        found = parsed(line)
        assert (found["host"], found["request"]) == (HOST, "POST /a?b=c HTTP/1.1")
        assert (found["status"], found["in"], found["out"]) == ("200", "5", str(len(got.body)))
        assert (found["agent"], found["referer"]) == ("curl/8", "http://x/")
        assert found["client"].startswith("127.0.0.1:")
        assert found["backend"] == app.address.removeprefix("tcp:")
        assert 'x_forwarded_for:"10.1.1.1, 127.0.0.1" x_forwarded_proto:"https"' in line
        assert field_of(line, "vcap_request_id") == got["X-Vcap-Request-Id"]
        assert (field_of(line, "app_id"), field_of(line, "instance_id")) == (app.guid, app.instance)
        assert 0 <= float(field_of(line, "gorouter_time")) <= float(field_of(line, "response_time")) < 5
        (batch,) = rig.spool.pending_batches()
        tags = batch.envelopes[0].tags
        assert (tags["source_type"], tags["app_name"], batch.envelopes[0].instance_id) == ("RTR", "one", "0")

    play(scenario)


def test_absent_values_and_shown_addresses(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        route = rig.route(app)
        rig.routes(route.__class__(guid="g", host=HOST, endpoints=[app.endpoint(shown="10.0.0.9:61001", index=3)]))
        await rig.ask("GET /")
        found = parsed(rig.lines()[0][1])
        assert (found["agent"], found["referer"], found["backend"]) == ("-", "-", "10.0.0.9:61001")
        assert field_of(rig.lines()[0][1], "app_index") == "3"
        assert field_of(rig.lines()[0][1], "x_cf_routererror") == "-"

    play(scenario)


def test_no_client_can_forge_a_field(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(await rig.app()))
        evil = 'x" app_id:"forged'
        await rig.ask(f"GET /?a={evil.replace(' ', '+')}", f"User-Agent: {evil}", f"Referer: {evil}")
        found = parsed(rig.lines()[0][1])
        assert found["agent"] == found["referer"] == "x%22 app_id:%22forged"
        await rig.ask("GET /", f"X-Forwarded-For: {evil}", f"X-Forwarded-Proto: {evil}")
        parsed(rig.lines()[1][1])

    play(scenario)


def test_long_values_are_cut(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(await rig.app()))
        await rig.ask("GET /" + "x" * 50_000, "User-Agent: " + "y" * 30_000)
        found = parsed(rig.lines()[0][1])
        assert len(found["request"]) == len("GET ") + 20_000 + len(" HTTP/1.1")
        assert len(found["agent"]) == 1_000

    play(scenario)


@pytest.mark.parametrize(
    ("redact", "expected", "referer"),
    [
        ("none", "/a?token=secret", "http://x/?token=secret"),
        ("all", "/a", "http://x/"),
        ("hash", f"/a?hash={HASH}", f"http://x/?hash={HASH}"),
    ],
)
def test_queries_are_left_out_where_the_operator_says_so(play: Play, redact: str, expected: str, referer: str) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        await rig.ask("GET /a?token=secret", "Referer: http://x/?token=secret")
        assert app.seen[0].first == "GET /a?token=secret HTTP/1.1"
        ((_, line),) = rig.lines()
        found = parsed(line)
        assert (found["request"], found["referer"]) == (f"GET {expected} HTTP/1.1", referer)

    play(scenario, redact_query_params=redact)
