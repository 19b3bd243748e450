"""Instances with a network of their own: what leads in, what leads out, and what does not."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cupola.config import Settings
from cupola.endpoints import dial
from cupola.runtime.local import probe
from cupola.runtime.local.egress import is_refused
from cupola.runtime.local.engine import LocalEngine
from cupola.runtime.local.resolver import Resolver, answer_locally
from cupola.runtime.messages import Endpoint
from tests.ports import free_port
from tests.runtime.conftest import Recorder, until
from tests.runtime.test_local_engine import container, opened, run_to_end


@pytest.fixture
def own(choice: probe.Choice) -> probe.Choice:
    """A choice with networks of their own."""
    if not choice.own_network:
        pytest.skip(f"mode {choice.mode} shares the host's network: {choice.weaker}")
    return choice


def host_address() -> str:
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe_socket:
        try:
            probe_socket.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe_socket.getsockname()[0])


@contextlib.asynccontextmanager
async def echo(address: str, port: int = 0) -> AsyncIterator[int]:
    """A server that sends back what it got, until the client's end of file; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(b"echo:" + data)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, address, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


CLIENT = """
import socket, sys
address, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
try:
    with socket.create_connection((address, port), 10) as made:
        peer = made.getpeername()[0]; made.sendall(b"x" * size); made.shutdown(socket.SHUT_WR)
        got = b""
        while part := made.recv(65536): got += part
        print(f"got {len(got)} from {peer}", flush=True)
except OSError as error:
    print(f"failed: {error}", flush=True)
"""


def client(address: str, port: int, size: int = 2) -> str:
    return f"python3 -c '{CLIENT}' {address} {port} {size}"


async def test_connections_lead_out_and_carry_bytes_both_ways(
    settings: Settings, own: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    address = host_address()
    async with echo(address) as port, opened(settings, own, launcher, recorder) as engine:
        await run_to_end(engine, recorder, container(droplet, client(address, port, 5_000_000)))
        assert f"got 5000005 from {address}" in recorder.text()


async def test_the_hosts_own_services_are_out_of_reach(
    settings: Settings, own: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with echo("127.0.0.1") as port, opened(settings, own, launcher, recorder) as engine:
        await run_to_end(engine, recorder, container(droplet, client("127.0.0.1", port)))
        await run_to_end(engine, recorder, container(droplet, client("169.254.169.254", 80)))
    assert "Connection refused" in recorder.text()
    assert "Connection reset" in recorder.text()
    assert "got " not in recorder.text()


async def test_what_bindings_open_is_reached_by_exactly_this_app(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with (
        echo("127.0.0.1") as port,
        echo("127.0.0.1") as other,
        opened(settings, choice, launcher, recorder) as cell,
    ):
        endpoints = [Endpoint(host="localhost", ports=[str(port)]), Endpoint(host="db.example.com", ports=[str(other)])]
        bound = container(droplet, client("127.0.0.1", port, 300_000), endpoints=endpoints)
        await run_to_end(cell, recorder, bound)
        assert "got 300005 from 127.0.0.1" in recorder.text()
        if not choice.own_network:
            return
        recorder.lines.clear()
        await run_to_end(cell, recorder, container(droplet, client("127.0.0.1", other), endpoints=endpoints))
        await run_to_end(cell, recorder, container(droplet, client("127.0.0.1", port)))
    assert recorder.text().count("Connection refused") == 2
    assert "got " not in recorder.text()


STAYING = """
import socket, sys, time
port = int(sys.argv[1])
def attempt():
    made = socket.create_connection(("127.0.0.1", port), 10)
    made.sendall(b"x"); made.settimeout(0.2)
    try: return made, made.recv(1)
    except TimeoutError: return made, None
held, data = attempt()
print("held", flush=True)
held.settimeout(30)
try: print("ended", held.recv(1), flush=True)
except OSError as error: print("ended", error, flush=True)
for _ in range(100):
    try:
        attempt()[0].close(); print("in again", flush=True); break
    except OSError as error:
        print("locked out", flush=True)
    time.sleep(0.1)
time.sleep(100)
"""


async def test_who_is_unbound_is_out_at_once_and_in_again_when_it_is_bound_again(
    settings: Settings, own: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with echo("127.0.0.1") as port, opened(settings, own, launcher, recorder) as engine:
        endpoints = [Endpoint(host="127.0.0.1", ports=[str(port)])]
        one = container(droplet, f"python3 -c '{STAYING}' {port}", endpoints=endpoints)
        await engine.create(one, lambda _: None)
        await until(lambda: "held" in recorder.text())
        engine.reach(one.guid, endpoints)
        await asyncio.sleep(0.1)
        assert "ended" not in recorder.text()
        engine.reach(one.guid, [Endpoint(host="127.0.0.1", ports=[str(port + 1)])])
        await until(lambda: "locked out" in recorder.text())
        assert "in again" not in recorder.text()
        engine.reach(one.guid, endpoints)
        await until(lambda: "in again" in recorder.text())
        engine.reach("nobody", endpoints)


async def test_a_task_is_bound_too_and_a_next_cell_goes_on_serving(
    settings: Settings, own: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with echo("127.0.0.1") as port:
        command = f"sleep 1; {client('127.0.0.1', port)}; sleep 1000"
        endpoints = [Endpoint(host="127.0.0.1", ports=[str(port)])]
        one = container(droplet, command, kind="task", ports=[], endpoints=endpoints)
        first = LocalEngine(settings, own, launcher=launcher)
        await first.open(recorder)
        await first.create(one, lambda _: None)
        await first.close()
        async with opened(settings, own, launcher, recorder):
            await until(lambda: "got 7 from" in recorder.text())


async def test_ranges_end_somewhere_and_an_apps_own_port_stays_its_own(
    settings: Settings, own: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    said: list[str] = []
    first = free_port()
    async with echo("127.0.0.1", first), opened(settings, own, launcher, recorder) as engine:
        endpoints = [Endpoint(host="127.0.0.1", ports=["8080", f"{first}-{first + 100}"])]
        one = container(droplet, f"{client('127.0.0.1', first)}; exec python3 server.py", endpoints=endpoints)
        await engine.create(one, said.append)
        await until(lambda: "listening" in recorder.text())
    assert "got 7 from 127.0.0.1" in recorder.text()
    assert f"from 127.0.0.1:{first + 16} on they are not opened" in said[-1]


async def test_the_platforms_port_is_where_it_is_outside(
    settings: Settings, own: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    settings.platform.port = free_port()
    async with (
        echo("127.0.0.1", settings.platform.port),
        opened(settings, own, launcher, recorder) as engine,
    ):
        await run_to_end(engine, recorder, container(droplet, client("x.apps.localhost", settings.platform.port)))
    assert "got 7 from 127.0.0.1" in recorder.text()


async def test_instances_do_not_reach_each_other(
    settings: Settings, own: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, own, launcher, recorder) as engine:
        address = await engine.create(container(droplet, "exec python3 server.py"), lambda _: None)
        await until(lambda: "listening" in recorder.text())
        await run_to_end(engine, recorder, container(droplet, client(address.internal_ip, 8080)))
    assert "failed: " in recorder.text()


async def test_an_instance_knows_its_own_name(
    settings: Settings, own: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, own, launcher, recorder) as engine:
        one = container(droplet, 'python3 -c "import socket as s; print(s.gethostbyname(s.gethostname()))"')
        address = await engine.create(one, lambda _: None)
        await until(lambda: one.guid in recorder.exits)
    assert address.internal_ip in recorder.text()


async def test_nobody_listens_is_refused_and_a_gone_instance_too(
    settings: Settings, own: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, own, launcher, recorder) as engine:
        one = container(droplet, "exec python3 server.py")
        address = await engine.create(one, lambda _: None)
        await until(lambda: "listening" in recorder.text())
        endpoint = address.endpoints["8080"]
        (await dial(endpoint)).close()
        with pytest.raises(ConnectionRefusedError):
            await dial(endpoint.removesuffix("8080") + "8081")
        await engine.stop(one.guid, 0)
        with pytest.raises(OSError):
            await dial(endpoint)


async def test_what_waited_for_a_cell_is_served_by_the_next(
    settings: Settings, own: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    address = host_address()
    async with echo(address) as port:
        one = container(droplet, f"sleep 1; {client(address, port)}; sleep 1000")
        first = LocalEngine(settings, own, launcher=launcher)
        await first.open(recorder)
        await first.create(one, lambda _: None)
        await first.close()
        await asyncio.sleep(1.2)  # the app connects meanwhile
        async with opened(settings, own, launcher, recorder):
            await until(lambda: "got 7 from" in recorder.text())


async def test_the_direct_port_leads_in_where_it_is_asked_for(
    settings: Settings, own: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    settings.runtime.direct_ports = True
    async with opened(settings, own, launcher, recorder) as engine:
        address = await engine.create(container(droplet, "exec python3 server.py"), lambda _: None)
        await until(lambda: "listening" in recorder.text())
        reader, writer = await asyncio.open_connection("127.0.0.1", address.ports[0].external)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.0 200")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("address", "refused"),
    [("127.0.0.1", True), ("169.254.169.254", True), ("10.254.1.2", True), ("224.0.0.1", True), ("10.1.2.3", False),
     ("93.184.216.34", False)],
)  # fmt: skip
def test_where_apps_may_not_go(address: str, refused: bool) -> None:
    assert is_refused(address) is refused


def query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    return b"\x12\x34" + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def test_names_that_are_known_here() -> None:
    found = answer_locally(query("X.apps.localhost"), {}, ["localhost"])
    assert found is not None
    assert found[:2] == b"\x12\x34"
    assert found.endswith(socket.inet_aton("127.0.0.1"))
    nothing = answer_locally(query("example.com", 28), {}, ["localhost"])
    assert nothing is not None
    assert struct.unpack_from(">HH", nothing, 4) == (1, 0)
    assert answer_locally(query("example.com"), {}, ["localhost"]) is None
    assert answer_locally(b"\x12\x34nonsense", {}, []) is None
    assert answer_locally(query("a.b")[:-6], {}, []) is None


async def test_other_names_are_asked_of_the_hosts_servers() -> None:
    loop = asyncio.get_running_loop()

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data + b"answer", addr)  # type: ignore[attr-defined]  # a datagram transport

    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    resolver = Resolver([], ["127.0.0.1"], port)
    try:
        found = await resolver.answer(query("example.com"), "guid", "10.254.0.1")
    finally:
        transport.close()
    assert found == query("example.com") + b"answer"
    failed = await Resolver([], ["127.0.0.1"], free_port()).answer(query("example.com"), "guid", "10.254.0.1")
    assert failed[3] & 0x0F == 2
