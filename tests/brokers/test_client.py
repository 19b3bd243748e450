"""The broker client over real HTTP: what it sends, and what it makes of every answer (service-brokers.md 1, 2, 6, 7)."""

import asyncio
import base64
import datetime
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cupola.brokers.client import (
    BindingDetails,
    BindRequest,
    Bound,
    BrokerClient,
    CatalogIds,
    FetchedInstance,
    LastOperation,
    Operated,
    ProvisionRequest,
    UpdateRequest,
)
from cupola.brokers.parties import Broker as Address
from cupola.brokers.parties import Caller
from cupola.brokers.problems import HIDDEN, BrokerError
from cupola.config import Settings, load
from tests.brokers.scripted import PASSWORD, USERNAME, Broker, Says, scripted

T = TypeVar("T")
IDS = CatalogIds("service-id", "plan-id")
CALLER = Caller("user-guid", "request-id")
PROVISION = ProvisionRequest(IDS, "org", "space", {"platform": "cloudfoundry"}, {"size": 1}, {"version": "1.0.0"})
UPDATE = UpdateRequest(IDS, {"plan_id": "old"}, {"platform": "cloudfoundry"}, {})
BIND = BindRequest(IDS, {"app_guid": "app"}, {"platform": "cloudfoundry"}, "app")
INSTANCE = "/v2/service_instances/i"
BINDING = INSTANCE + "/service_bindings/b"


def address(broker: Broker, **more: Any) -> Address:
    return Address("guid", "broker", broker.url, USERNAME, PASSWORD, **{"anywhere": True, **more})


def call(work: Callable[[BrokerClient], Awaitable[T]], **settings: Any) -> T:
    """What a call gives, with a client of its own."""

    async def run() -> T:
        flags = {f"brokers.{name}": value for name, value in settings.items()}
        client = BrokerClient(load(environment={}, flags={"data_dir": "/nowhere", **flags}))
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(run())


CALLS: dict[str, tuple[str, str, Callable[[BrokerClient, Address], Awaitable[Any]]]] = {
    "catalog": ("GET", "/v2/catalog", lambda client, to: client.catalog(to, CALLER)),
    "provision": ("PUT", INSTANCE, lambda client, to: client.provision(to, CALLER, "i", PROVISION)),
    "update": ("PATCH", INSTANCE, lambda client, to: client.update(to, CALLER, "i", UPDATE)),
    "deprovision": ("DELETE", INSTANCE, lambda client, to: client.deprovision(to, CALLER, "i", IDS)),
    "bind": ("PUT", BINDING, lambda client, to: client.bind(to, CALLER, "i", "b", BIND, [])),
    "unbind": ("DELETE", BINDING, lambda client, to: client.unbind(to, CALLER, "i", "b", IDS)),
    "last operation": (
        "GET",
        INSTANCE + "/last_operation",
        lambda client, to: client.last_operation(to, CALLER, "i", IDS, "op"),
    ),
    "binding last operation": (
        "GET",
        BINDING + "/last_operation",
        lambda client, to: client.binding_last_operation(to, CALLER, "i", "b", IDS, None),
    ),
    "fetch": ("GET", INSTANCE, lambda client, to: client.fetch_instance(to, CALLER, "i")),
    "fetch binding": ("GET", BINDING, lambda client, to: client.fetch_binding(to, CALLER, "i", "b", [])),
}


def outcome(broker: Broker, name: str, *says: Says, **settings: Any) -> Any:
    """What a call gives, or the error that it raises, when the broker says so."""
    method, path, work = CALLS[name]
    if says:
        broker.on(method, path, *says)
    try:
        return call(lambda client: work(client, address(broker)), **settings)
    except BrokerError as error:
        return error


def failure(broker: Broker, name: str, *says: Says, **settings: Any) -> BrokerError:
    error = outcome(broker, name, *says, **settings)
    assert isinstance(error, BrokerError), error
    return error


def test_every_call_says_who_we_are_and_for_whom(broker: Broker) -> None:
    for name in CALLS:
        outcome(broker, name)
    asked = broker.asked()
    assert len(asked) == len(CALLS)
    identities = set()
    for one in asked:
        assert one.headers["authorization"] == "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        assert one.headers["x-broker-api-version"] == "2.15"
        platform, _, identity = one.headers["x-broker-api-originating-identity"].partition(" ")
        assert platform == "cloudfoundry"
        assert msgspec.json.decode(base64.b64decode(identity)) == {"user_id": "user-guid"}
        assert one.headers["x-vcap-request-id"] == "request-id"
        assert one.headers["x-api-info-location"] == "localhost:9080/v2/info"
        assert one.headers["accept"] == "application/json"
        assert ("content-type" in one.headers) == (one.method in {"PUT", "PATCH"})
        identities.add(one.headers["x-broker-api-request-identity"])
    assert len(identities) == len(CALLS)


def test_nobody_is_named_where_nobody_is_known(broker: Broker) -> None:
    call(lambda client: client.catalog(address(broker), Caller()))
    (asked,) = broker.asked()
    assert not {"x-broker-api-originating-identity", "x-vcap-request-id"} & set(asked.headers)


def test_bodies_and_queries(broker: Broker) -> None:
    for name in CALLS:
        outcome(broker, name)
    (provision,) = broker.asked("PUT", INSTANCE)
    assert provision.query == {"accepts_incomplete": "true"}
    assert provision.body == {
        "service_id": "service-id",
        "plan_id": "plan-id",
        "organization_guid": "org",
        "space_guid": "space",
        "context": {"platform": "cloudfoundry"},
        "parameters": {"size": 1},
        "maintenance_info": {"version": "1.0.0"},
    }
    (update,) = broker.asked("PATCH")
    assert (update.body["previous_values"], update.body["parameters"]) == ({"plan_id": "old"}, {})
    assert "maintenance_info" not in update.body
    (bind,) = broker.asked("PUT", BINDING)
    assert bind.body["app_guid"] == "app"
    assert "parameters" not in bind.body
    for removed in broker.asked("DELETE"):
        assert removed.body is None
        assert removed.query == {"service_id": "service-id", "plan_id": "plan-id", "accepts_incomplete": "true"}
    (poll,) = broker.asked("GET", INSTANCE + "/last_operation")
    assert poll.query == {"service_id": "service-id", "plan_id": "plan-id", "operation": "op"}
    (fetch,) = broker.asked("GET", INSTANCE)
    assert fetch.query == {}


@pytest.mark.parametrize(
    ("name", "says", "expected"),
    [
        ("provision", Says(200, {"dashboard_url": "http://d"}), Operated("succeeded", dashboard_url="http://d")),
        ("provision", Says(201, {"dashboard_url": None}), Operated("succeeded")),
        ("provision", Says(202, {"operation": "o"}, {"Retry-After": "7"}), Operated("in progress", "o", retry_after=7)),
        ("provision", Says(201, {"metadata": {"labels": {"a": 1}}}), Operated("succeeded", metadata={"labels": {"a": 1}})),
        ("update", Says(200, {}), Operated("succeeded")),
        ("update", Says(202, {}, {"Retry-After": "soon"}), Operated("in progress")),
        ("deprovision", Says(200, {}), Operated("succeeded")),
        ("deprovision", Says(202, {"operation": "o"}), Operated("in progress", "o")),
        ("deprovision", Says(410, b""), Operated("succeeded")),
        ("unbind", Says(200, {}), Operated("succeeded")),
        ("unbind", Says(410, b"gone"), Operated("succeeded")),
        ("bind", Says(201, {"credentials": {"a": 1}}), Bound("succeeded", BindingDetails({"a": 1}))),
        ("bind", Says(200, {}), Bound("succeeded", BindingDetails({}))),
        ("bind", Says(202, {"operation": "o"}), Bound("in progress", operation="o")),
        ("last operation", Says(200, {"state": "in progress"}), LastOperation("in progress")),
        ("last operation", Says(200, {"state": "failed", "description": "no"}), LastOperation("failed", "no")),
        ("last operation", Says(400, {"description": "bad"}), LastOperation("failed", "bad")),
        ("last operation", Says(400, b"<html>"), LastOperation("failed", "Bad request")),
        ("last operation", Says(410, b""), LastOperation("in progress")),
        ("binding last operation", Says(200, {"state": "succeeded"}), LastOperation("succeeded")),
        ("fetch", Says(200, {"parameters": {"a": 1}}), FetchedInstance(parameters={"a": 1})),
        ("fetch binding", Says(200, {"credentials": {"a": 1}}), BindingDetails({"a": 1})),
    ],
)  # fmt: skip
def test_good_answers(broker: Broker, name: str, says: Says, expected: Any) -> None:
    assert outcome(broker, name, says) == expected


def test_410_while_deleting_is_the_end(broker: Broker) -> None:
    broker.on("GET", INSTANCE + "/last_operation", Says(410, b""))
    answer = call(lambda client: client.last_operation(address(broker), CALLER, "i", IDS, None, deleting=True))
    assert answer == LastOperation("succeeded")


BAD = "The service broker returned an invalid response. Status Code: "
REJECTED = "The service broker rejected the request. Status Code: "
MALFORMED = "The service broker returned an invalid response: "


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("says", "kind", "text"),
    [
        (
            Says(401, {"description": "x"}),
            "ServiceBrokerApiAuthenticationFailed",
            "Authentication with the service broker failed. Double-check that the username and password are correct.",
        ),
        (Says(408, b"x"), "ServiceBrokerApiTimeout", "The request to the service broker timed out"),
        (Says(403, b"x"), "ServiceBrokerRequestRejected", REJECTED + "403 Forbidden, Body: x"),
        (Says(404, {"description": "no"}), "ServiceBrokerRequestRejected", "Service broker error: no"),
        (Says(500, b"oops"), "ServiceBrokerBadResponse", BAD + "500 Internal Server Error, Body: oops"),
        (Says(503, {"description": "later"}), "ServiceBrokerBadResponse", "Service broker error: later"),
    ],
)
def test_what_is_the_same_for_all_calls(broker: Broker, name: str, says: Says, kind: str, text: str) -> None:
    error = failure(broker, name, says)
    assert (error.kind, error.text) == (kind, text)
    assert error.orphan == (says.status >= 500)
    assert (error.code, error.title) == (10001, f"CF-{kind}")


@pytest.mark.parametrize(
    ("name", "says", "kind", "text", "orphan"),
    [
        ("provision", Says(204, b""), "ServiceBrokerBadResponse", BAD + "204 No Content, Body: ", True),
        ("provision", Says(302, b"x"), "ServiceBrokerBadResponse", BAD + "302 Found, Body: x", True),
        ("provision", Says(410, b""), "ServiceBrokerBadResponse", BAD + "410 Gone, Body: ", True),
        ("provision", Says(409, {}), "ServiceBrokerConflict", "Resource conflict", False),
        ("provision", Says(409, {"description": "have it"}), "ServiceBrokerConflict", "Service broker error: have it", False),
        ("provision", Says(422, {"error": "AsyncRequired"}), "AsyncRequired", "This service plan requires client support for asynchronous service operations.", False),
        ("provision", Says(422, {"error": "ConcurrencyError"}), "ConcurrencyError", "The service broker could not perform this operation in parallel with other running operations", False),
        ("provision", Says(422, {"error": "MaintenanceInfoConflict", "description": "no"}), "MaintenanceInfoConflict", "Service broker error: no", False),
        ("provision", Says(422, {"error": "Other", "description": "why"}), "ServiceBrokerBadResponse", "Service broker error: why", True),
        ("provision", Says(422, b"x"), "ServiceBrokerBadResponse", BAD + "422 Unprocessable Entity, Body: x", True),
        ("provision", Says(200, b"[]"), "ServiceBrokerResponseMalformed", MALFORMED + "expected valid JSON object in body, broker returned '[]'", False),
        ("provision", Says(201, b"{"), "ServiceBrokerResponseMalformed", MALFORMED + "expected valid JSON object in body, broker returned '{'", True),
        ("provision", Says(202, b""), "ServiceBrokerResponseMalformed", MALFORMED + "expected valid JSON object in body, broker returned ''", True),
        ("provision", Says(201, {"dashboard_url": 1}), "ServiceBrokerResponseMalformed", MALFORMED + "\nThe property '#/dashboard_url' of type integer did not match one or more of the following types: string, null", True),
        ("provision", Says(202, {"operation": "x" * 10_001}), "ServiceBrokerResponseMalformed", MALFORMED + "\nThe property '#/operation' was not of a maximum string length of 10000", True),
        ("update", Says(201, {"description": "made"}), "ServiceBrokerBadResponse", BAD + '201 Created, Body: {"description":"made"}', True),
        ("update", Says(422, {"error": "ConcurrencyError"}), "ServiceBrokerRequestRejected", REJECTED + '422 Unprocessable Entity, Body: {"error":"ConcurrencyError"}', False),
        ("deprovision", Says(201, b"{}"), "ServiceBrokerBadResponse", BAD + "201 Created, Body: {}", True),
        ("deprovision", Says(409, b""), "ServiceBrokerBadResponse", BAD + "409 Conflict, Body: ", True),
        ("deprovision", Says(422, {"error": "ConcurrencyError"}), "ConcurrencyError", "The service broker could not perform this operation in parallel with other running operations", False),
        ("bind", Says(422, {"error": "RequiresApp"}), "AppRequired", "This service supports generation of credentials through binding an application only.", False),
        ("bind", Says(409, {}), "ServiceBrokerConflict", "Resource conflict", False),
        ("bind", Says(201, {"credentials": "secret"}), "ServiceBrokerResponseMalformed", MALFORMED + "expected credentials to be a valid JSON object", True),
        ("bind", Says(201, b"secret"), "ServiceBrokerResponseMalformed", MALFORMED + f"expected valid JSON object in body, broker returned '{HIDDEN}'", True),
        ("bind", Says(206, b"secret"), "ServiceBrokerBadResponse", BAD + f"206 Partial Content, Body: {HIDDEN}", True),
        ("bind", Says(200, {"syslog_drain_url": "syslog://d"}), "ServiceBrokerBadResponse", "The service is attempting to stream logs from your application, but is not registered as a logging service. Please contact the service provider.", True),
        ("bind", Says(200, {"route_service_url": "http://plain"}), "ServiceBrokerBadResponse", "The service broker returned an invalid response: expected 'route_service_url' to be an https url with a host", True),
        ("bind", Says(200, {"volume_mounts": [{}]}), "ServiceBrokerResponseMalformed", MALFORMED + "missing required field 'device_type'", True),
        ("bind", Says(200, {"volume_mounts": "secret"}), "ServiceBrokerResponseMalformed", MALFORMED + f"expected \"volume_mounts\" key to contain an array of JSON objects in body, broker returned '{HIDDEN}'", True),
        ("last operation", Says(200, {"state": "done"}), "ServiceBrokerResponseMalformed", MALFORMED + "expected state was 'succeeded', broker returned 'done'.", False),
        ("last operation", Says(200, {"state": ["x"]}), "ServiceBrokerResponseMalformed", MALFORMED + "expected state was 'succeeded', broker returned '['x']'.", False),
        ("fetch", Says(200, {"parameters": []}), "ServiceBrokerResponseMalformed", MALFORMED + "\nThe property '#/parameters' of type array did not match the following type: object", False),
        ("fetch binding", Says(202, b"secret"), "ServiceBrokerBadResponse", BAD + f"202 Accepted, Body: {HIDDEN}", True),
        ("catalog", Says(200, b"[]"), "ServiceBrokerResponseMalformed", MALFORMED + "expected valid JSON object in body, broker returned '[]'", False),
    ],
)  # fmt: skip
def test_bad_answers(broker: Broker, name: str, says: Says, kind: str, text: str, orphan: bool) -> None:
    error = failure(broker, name, says)
    assert (error.kind, error.text, error.orphan) == (kind, text, orphan)


def test_what_an_offering_is_registered_for_it_may_give(broker: Broker) -> None:
    mount = {
        "device_type": "shared",
        "mode": "rw",
        "container_dir": "/data",
        "driver": "nfs",
        "device": {"volume_id": "v", "mount_config": {"a": 1}},
    }
    given = {"syslog_drain_url": "syslog://drain", "volume_mounts": [mount], "route_service_url": "https://r.example"}
    broker.on("PUT", BINDING, Says(201, given))
    bound = call(lambda client: client.bind(address(broker), CALLER, "i", "b", BIND, ["syslog_drain", "volume_mount"]))
    assert bound.details == BindingDetails({}, "syslog://drain", "https://r.example", [mount])


@pytest.mark.parametrize(
    ("mount", "why"),
    [
        ({"device_type": ""}, "missing required field 'device_type'"),
        ({"mode": 1}, "missing required field 'mode'"),
        ({"device": None}, "missing required field 'device'"),
        ({"device": "x"}, "required field 'device' must be an object but is string"),
        ({"device": {}}, "required field 'device.volume_id' must be a non-empty string"),
        ({"device": {"volume_id": "v", "mount_config": 1}}, "field 'device.mount_config' must be an object if it is defined"),
    ],
)  # fmt: skip
def test_bad_volume_mounts(broker: Broker, mount: dict[str, Any], why: str) -> None:
    good = {"device_type": "shared", "mode": "rw", "container_dir": "/d", "driver": "x", "device": {"volume_id": "v"}}
    error = failure(broker, "bind", Says(200, {"volume_mounts": [{**good, **mount}]}))
    assert (error.text, error.orphan) == (MALFORMED + why, True)


def test_a_long_message_is_cut(broker: Broker) -> None:
    error = failure(broker, "provision", Says(500, b"x" * 20_000))
    assert error.text.endswith(
        "xxx...This message has been truncated due to size. To read the full message, check the broker's logs"
    )
    assert len(error.text) < 9000


def test_a_broker_that_says_nothing_is_given_up(broker: Broker) -> None:
    error = failure(broker, "provision", Says(hangs=True), timeout_seconds=0.2)
    assert (error.kind, error.text, error.orphan) == (
        "HttpClientTimeout",
        "The request to the service broker timed out",
        True,
    )


def test_a_broker_that_is_down_was_never_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    nobody = Address("guid", "broker", f"http://127.0.0.1:{port}", "u", "p", anywhere=True)
    with pytest.raises(BrokerError) as raised:
        call(lambda client: client.provision(nobody, CALLER, "i", PROVISION))
    assert (raised.value.kind, raised.value.text, raised.value.orphan) == (
        "ServiceBrokerApiUnreachable",
        "The service broker could not be reached",
        False,
    )


def test_a_name_that_nobody_has() -> None:
    nobody = Address("guid", "broker", "http://no-such-host.invalid", "u", "p", anywhere=True)
    with pytest.raises(BrokerError, match="could not be reached"):
        call(lambda client: client.catalog(nobody, CALLER))


def test_a_connection_that_is_dropped_is_no_answer(broker: Broker) -> None:
    assert failure(broker, "provision", Says(drops=True)).kind == "ServiceBrokerApiUnreachable"


@pytest.mark.parametrize("says", [Says(200, b"{}", endless=True), Says(200, b" " * 5000)])
def test_a_huge_answer_is_not_read(broker: Broker, says: Says) -> None:
    error = failure(broker, "provision", says, max_answer_bytes=4096)
    assert error.text == (
        "Service broker error: its answer is larger than 4096 bytes, "
        "which an operator can raise with brokers.max_answer_bytes."
    )
    assert error.orphan


def test_an_answer_that_ends_early_is_bad(broker: Broker) -> None:
    error = failure(broker, "provision", Says(201, b'{"dash', short=True))
    assert (error.text, error.orphan) == ("Service broker error: its answer ends before it is complete.", True)


def test_deeply_nested_nonsense_is_malformed(broker: Broker) -> None:
    assert failure(broker, "provision", Says(200, b"[" * 100_000)).kind == "ServiceBrokerResponseMalformed"


def test_nul_characters_do_not_come_in(broker: Broker) -> None:
    given = outcome(broker, "provision", Says(201, {"dashboard_url": "http://a\0b"}))
    assert given.dashboard_url == "http://ab"
    assert "\0" not in failure(broker, "provision", Says(500, {"description": "a\0b"})).text


def test_redirects_within_the_broker_are_followed(broker: Broker) -> None:
    broker.on("PUT", INSTANCE, Says(307, b"", {"Location": "/moved?x=1"}))
    broker.on("PUT", "/moved", Says(301, b"", {"Location": broker.url + "/again"}))
    broker.on("PUT", "/again", Says(201, {"dashboard_url": "http://d"}))
    assert outcome(broker, "provision").dashboard_url == "http://d"
    (moved,) = broker.asked("PUT", "/moved")
    (again,) = broker.asked("PUT", "/again")
    assert moved.body == again.body == PROVISION.body()
    assert "authorization" in again.headers


def test_see_other_is_a_get(broker: Broker) -> None:
    broker.on("PUT", INSTANCE, Says(303, b"", {"Location": "/result"}))
    broker.on("GET", "/result", Says(200, {"dashboard_url": "http://d"}))
    assert outcome(broker, "provision").dashboard_url == "http://d"
    assert broker.asked("GET", "/result")[0].body is None


def test_redirects_end(broker: Broker) -> None:
    error = failure(broker, "provision", Says(307, b"", {"Location": INSTANCE}))
    assert "redirects more than 3 times" in error.text
    assert len(broker.asked()) == 4


@pytest.mark.parametrize("where", ["http://localhost:{port}/x", "https://127.0.0.1:{port}/x", "http://127.0.0.1:1/x", "//evil.example/x", "ftp://x", "http://["])  # fmt: skip
def test_credentials_go_to_no_other_origin(broker: Broker, where: str) -> None:
    location = where.format(port=broker.url.rpartition(":")[2])
    error = failure(broker, "provision", Says(307, b"", {"Location": location}))
    assert "redirects to another server" in error.text
    assert len(broker.asked()) == 1


def test_who_is_no_admin_cannot_make_us_call_this_machine(broker: Broker) -> None:
    for url in (broker.url, broker.url.replace("127.0.0.1", "localhost")):
        to = Address("guid", "broker", url, USERNAME, PASSWORD, anywhere=False)
        with pytest.raises(BrokerError) as raised:
            call(lambda client, to=to: client.catalog(to, CALLER))  # type: ignore[misc]  # the loop's own
        assert raised.value.kind == "ServiceBrokerApiUnreachable"
        assert "outbound.allow" in raised.value.text
    assert broker.asked() == []


def test_brokers_that_are_apps_of_the_platform_are_reached_by_all(broker: Broker) -> None:
    """Through the platform's own port, and no other one of the machine."""
    port = int(broker.url.rpartition(":")[2])
    to = Address("guid", "broker", f"http://mine.apps.localhost:{port}", USERNAME, PASSWORD, anywhere=False)

    async def ask(settings: Settings) -> Any:
        client = BrokerClient(settings)
        try:
            return await client.catalog(to, CALLER)
        finally:
            await client.close()

    own = load(environment={}, flags={"data_dir": "/nowhere", "platform.port": port})
    assert asyncio.run(ask(own)) == broker.catalog
    with pytest.raises(BrokerError, match=r"outbound\.allow"):
        asyncio.run(ask(load(environment={}, flags={"data_dir": "/nowhere"})))


def test_connections_of_admins_are_not_shared(broker: Broker) -> None:
    """A kept connection to this machine is not a way for others."""

    async def both(client: BrokerClient) -> None:
        await client.catalog(address(broker), CALLER)
        await client.catalog(address(broker, anywhere=False), CALLER)

    with pytest.raises(BrokerError, match=r"outbound\.allow"):
        call(both)
    assert len(broker.asked()) == 1


def test_the_base_path_of_the_url_is_kept(broker: Broker) -> None:
    broker.on("GET", "/base/path/v2/catalog", Says(200, {"services": []}))
    to = Address("guid", "broker", broker.url + "/base/path/", USERNAME, PASSWORD, anywhere=True)
    assert call(lambda client: client.catalog(to, CALLER)) == {"services": []}


def test_secrets_are_not_in_what_python_shows(tmp_path: Path) -> None:
    shown = repr(
        [
            Address("guid", "broker", "http://b", "the-user", "the-password"),
            ProvisionRequest(IDS, "o", "s", {}, {"a": "the-parameter"}),
            BindingDetails({"a": "the-credential"}, "syslog://the-drain"),
        ]
    )
    assert "the-" not in shown


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """(certificate, key) of localhost that no authority vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = tmp_path / "broker.pem", tmp_path / "broker.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private


def test_certificates_are_verified_unless_the_operator_says_otherwise(certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    with scripted(context, "localhost") as broker:
        error = failure(broker, "provision")
        assert (error.kind, error.orphan) == ("ServiceBrokerApiUnreachable", False)
        assert "its certificate is not accepted (self-signed certificate" in error.text
        assert "brokers.ca_file" in error.text
        assert broker.asked() == []
        assert outcome(broker, "provision", ca_file=str(certificate[0])) == Operated("succeeded")
        port = broker.url.rpartition(":")[2]
        assert outcome(broker, "provision", skip_tls_verification=[f"localhost:{port}"]) == Operated("succeeded")
        assert failure(broker, "provision", skip_tls_verification=["other"]).kind == "ServiceBrokerApiUnreachable"


def test_a_ca_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with scripted() as broker:
        to = Address("guid", "broker", broker.url.replace("http:", "https:"), "u", "p", anywhere=True)
        with pytest.raises(BrokerError) as raised:
            call(lambda client: client.catalog(to, CALLER), ca_file=str(tmp_path / "missing.pem"))
        assert "missing.pem" in raised.value.text
