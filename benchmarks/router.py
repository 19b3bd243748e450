"""CPU per request of the router beside HAProxy and nginx, in one run on one machine.

    python -m benchmarks.router [seconds per measurement] [rounds]

Needs haproxy, nginx and wrk (Debian's packages). Each proxy has one thread, 1000 host routes and kept-alive connections
to the same instance (an nginx that answers from memory), adds the same headers (X-Forwarded-*, request id, instance, B3)
and writes the same fields to its access log: HAProxy to a datagram socket that is read, nginx to a file with its
buffer, ours to the spool and on to a controller that acknowledges. CPU is user and system time of the proxy's process
for what wrk saw answered. The rounds go round the proxies; the medians are shown, and their ratio to HAProxy's.
"""

import asyncio
import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from cupola import wire
from cupola.config import Settings, load, write_resolved
from cupola.logs.envelope import Batch
from cupola.router.messages import Endpoint, Route, RouteTable

HOSTS = 1000
GUID = "0f2b8f0e-6a5c-4c39-9d2e-0d7d4f5b8a11"
TAGS = dict.fromkeys(("app_id", "space_id", "organization_id", "process_id"), GUID)
TAGS |= {"app_name": "dora", "space_name": "dev", "organization_name": "default", "process_type": "web"}


@dataclass(frozen=True)
class Shape:
    name: str
    path: str
    connections: int = 64
    headers: tuple[str, ...] = ()


BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml",
    "Accept-Encoding: gzip, deflate, br",
    "Accept-Language: en-US,en;q=0.5",
    "Cookie: theme=dark; session=0123456789abcdef",
)
SHAPES = [
    Shape("1 KB, keep-alive, 64 connections", "/small"),
    Shape("1 KB, a browser's headers", "/small", 64, BROWSER),
    Shape("1 KB, keep-alive, 2 connections", "/small", 2),
    Shape("1 KB, new connection each", "/small", 64, ("Connection: close",)),
    Shape("100 KB bodies", "/medium", 32),
    Shape("1 MB bodies", "/large", 16),
]
SCRIPT = """\
local requests = {}
local next = 0
init = function(args)
  local headers = {}
  for _, line in ipairs(args) do
    local name, value = line:match("([^:]+): (.*)")
    headers[name] = value
  end
  for number = 0, 999 do
    headers["Host"] = "app-" .. number .. ".apps.localhost"
    requests[number] = wrk.format("GET", nil, headers)
  end
end
request = function()
  next = (next + 7) % 1000
  return requests[next]
end
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def instance(directory: Path, port: int) -> list[str]:
    """An nginx that answers from files in the page cache."""
    for name, size in (("small", 1011), ("medium", 100_000), ("large", 1_000_000)):
        (directory / name).write_bytes(b"x" * size)
    configuration = directory / "instance.conf"
    configuration.write_text(f"""
daemon off; worker_processes 1; pid {directory}/instance.pid; error_log /dev/null; user root;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600; sendfile on; open_file_cache max=10;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {directory}; }} }}
""")
    return ["nginx", "-c", str(configuration), "-p", str(directory)]


def nginx(directory: Path, port: int, target: int) -> list[str]:
    configuration = directory / "nginx.conf"
    names = "\n".join(f"app-{number}.apps.localhost app;" for number in range(HOSTS))
    configuration.write_text(f"""
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log /dev/null; user root;
events {{ worker_connections 4096; }}
http {{
  log_format rtr '$host - [$time_iso8601] "$request" $status $request_length $body_bytes_sent "$http_referer" '
    '"$http_user_agent" "$remote_addr:$remote_port" "$upstream_addr" x_forwarded_for:"$proxy_add_x_forwarded_for" '
    'x_forwarded_proto:"$scheme" vcap_request_id:"$request_id" response_time:$request_time '
    'gorouter_time:$upstream_connect_time app_id:"{GUID}" app_index:"0" instance_id:"{GUID}" x_cf_routererror:"-" '
    'x_b3_traceid:"$request_id" x_b3_spanid:"$span" x_b3_parentspanid:"-" b3:"$request_id-$span"';
  access_log {directory}/nginx.log rtr buffer=64k flush=1s;
  keepalive_requests 100000000;
  map_hash_max_size 8192; map_hash_bucket_size 128;
  map $request_id $span {{ "~^(?<first>.{{16}})" $first; }}
  map $host $pool {{ default ""; {names} }}
  upstream app {{ server 127.0.0.1:{target}; keepalive 128; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Vcap-Request-Id $request_id;
      proxy_set_header X-Request-Start $msec;
      proxy_set_header X-CF-ApplicationID {GUID};
      proxy_set_header X-CF-InstanceID {GUID};
      proxy_set_header X-CF-InstanceIndex 0;
      proxy_set_header X-B3-TraceId $request_id;
      proxy_set_header X-B3-SpanId $span;
      proxy_set_header b3 $request_id-$span;
      add_header X-Vcap-Request-Id $request_id;
      proxy_pass http://$pool;
    }}
  }}
}}
""")
    return ["nginx", "-c", str(configuration), "-p", str(directory)]


def haproxy(directory: Path, port: int, target: int, log: str) -> list[str]:
    configuration = directory / "haproxy.cfg"
    (directory / "hosts.map").write_text("".join(f"app-{number}.apps.localhost app\n" for number in range(HOSTS)))
    configuration.write_text(f"""
global
  nbthread 1
  maxconn 4096
  log {log} len 4096 format raw local0 info
defaults
  mode http
  timeout connect 5s
  timeout client 900s
  timeout server 900s
  http-reuse always
  unique-id-format %[uuid()]
frontend public
  bind 127.0.0.1:{port} backlog 4096
  option forwardfor
  unique-id-header X-Vcap-Request-Id
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Request-Start %[date(0,ms)]
  http-request set-header X-CF-ApplicationID {GUID}
  http-request set-header X-CF-InstanceID {GUID}
  http-request set-header X-CF-InstanceIndex 0
  http-request set-var(txn.trace) unique-id,regsub(-,,g)
  http-request set-var(txn.span) var(txn.trace),bytes(0,16)
  http-request set-header X-B3-TraceId %[var(txn.trace)]
  http-request set-header X-B3-SpanId %[var(txn.span)]
  http-request set-header b3 %[var(txn.trace)]-%[var(txn.span)]
  http-after-response set-header X-Vcap-Request-Id %[unique-id]
  capture request header Host len 64
  capture request header User-Agent len 128
  capture request header Referer len 128
  log global
  log-format '%hr - [%Tl] "%HM %HU %HV" %ST %U %B "%ci:%cp" "%si:%sp" x_forwarded_for:"%ci" x_forwarded_proto:"http" \
vcap_request_id:"%ID" response_time:%Ta gorouter_time:%Tw app_id:"{GUID}" app_index:"0" instance_id:"{GUID}" \
x_cf_routererror:"-" x_b3_traceid:"%[var(txn.trace)]" x_b3_spanid:"%[var(txn.span)]" x_b3_parentspanid:"-" \
b3:"%[var(txn.trace)]-%[var(txn.span)]"'
  use_backend %[req.hdr(host),field(1,:),lower,map_str({directory}/hosts.map,none)]
backend app
  server one 127.0.0.1:{target}
backend none
  http-request return status 404
""")
    return ["haproxy", "-db", "-f", str(configuration)]


@contextlib.contextmanager
def log_sink(path: Path) -> Iterator[str]:
    """A datagram socket whose reader throws everything away."""
    sink = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sink.bind(str(path))
    stop = threading.Event()
    sink.settimeout(0.2)

    def drain() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                while sink.recv(65536):
                    pass

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield str(path)
    finally:
        stop.set()
        thread.join()
        sink.close()


class Controller:
    """What the router is connected to: gives it the table, takes its lines."""

    def __init__(self, target: int) -> None:
        endpoint = Endpoint(
            address=f"tcp:127.0.0.1:{target}",
            app_guid=TAGS["app_id"],
            process_guid=TAGS["app_id"],
            instance_guid="b6f4a1de-1f0e-4a5c-8d1c-3f2a",
            index=0,
            tags=TAGS,
        )
        routes = [
            Route(guid=str(number), host=f"app-{number}.apps.localhost", endpoints=[endpoint])
            for number in range(HOSTS)
        ]
        self.table = RouteTable(1, routes)
        self.lines = 0

    async def handle(self, peer: wire.Peer) -> None:
        await peer.send("routes.full", self.table)
        while True:
            kind, body = await peer.receive()
            if kind == "logs":
                batch = msgspec.convert(body, Batch)
                self.lines += len(batch.envelopes)
                await peer.send("logs.ack", batch.first + len(batch.envelopes) - 1)


def settings_for(directory: Path, port: int) -> Settings:
    settings = load(flags={"data_dir": str(directory / "data"), "platform.port": port}, environment={})
    settings.run_dir.mkdir(parents=True, mode=0o700)
    (settings.run_dir / "router.token").write_text("token")
    write_resolved(settings, settings.run_dir / "settings.json")
    return settings


@dataclass
class Measured:
    micros: float
    user: float
    rate: float
    p50: float
    p99: float


async def measure(pid: int, port: int, shape: Shape, script: Path, seconds: int) -> Measured:
    """One run of wrk. CPU microseconds per request, requests a second, milliseconds."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    arguments = ["wrk", "-t1", f"-c{shape.connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    url = f"http://127.0.0.1:{port}{shape.path}"
    child = await asyncio.create_subprocess_exec(
        *arguments, url, "--", *shape.headers, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = (await child.communicate())[0].decode()
    after = process.cpu_times()
    found = re.search(r"(\d+) requests in ([\d.]+)s", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"wrk failed:\n{output}")
    count = int(found[1])
    user, system = after.user - before.user, after.system - before.system
    return Measured(
        (user + system) / count * 1e6,
        user / count * 1e6,
        count / float(found[2]),
        _percentile(output, "50%"),
        _percentile(output, "99%"),
    )


def _percentile(output: str, name: str) -> float:
    found = re.search(rf"^\s+{name}\s+([\d.]+)(us|ms|s)$", output, re.MULTILINE)
    assert found is not None
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def working(pid: int) -> int:
    """The process that does the work: nginx has a master above it."""
    children = psutil.Process(pid).children()
    return children[0].pid if children else pid


async def answers(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /small HTTP/1.1\r\nHost: app-1.apps.localhost\r\nConnection: close\r\n\r\n")
            line = await reader.readline()
            writer.close()
            if b" 200 " in line:
                return
        await asyncio.sleep(0.05)


def start(command: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env={**os.environ, **(environment or {})}, stderr=subprocess.DEVNULL)


async def run(seconds: int, rounds: int, directory: Path) -> None:
    target, *ports = (free_port() for _ in range(4))
    script = directory / "wrk.lua"
    script.write_text(SCRIPT)
    settings = settings_for(directory, ports[2])
    controller = Controller(target)
    server = await wire.serve(settings.run_dir / "control.sock", {"router": "token"}, controller.handle)
    with log_sink(directory / "log.sock") as sink, contextlib.ExitStack() as stack:

        def launch(command: list[str], environment: dict[str, str] | None = None) -> int:
            child = start(command, environment)
            stack.callback(child.wait)
            stack.callback(child.terminate)
            return child.pid

        launch(instance(directory, target))
        proxies = {
            "HAProxy": (launch(haproxy(directory, ports[0], target, sink)), ports[0]),
            "nginx": (launch(nginx(directory, ports[1], target)), ports[1]),
            "Cupola": (
                launch(
                    [sys.executable, "-m", "cupola.processes.router"],
                    {"CUPOLA_SETTINGS": str(settings.run_dir / "settings.json")},
                ),
                ports[2],
            ),
        }
        for name, (_pid, port) in proxies.items():
            try:
                await asyncio.wait_for(answers(port), 20)
            except TimeoutError:
                raise SystemExit(f"{name} does not answer") from None
        for shape in SHAPES:
            await compare(shape, proxies, script, seconds, rounds)
        print(f"\n{controller.lines} access lines reached the controller; resident memory, MB:", end=" ")
        print(
            ", ".join(
                f"{name} {psutil.Process(working(pid)).memory_info().rss >> 20}" for name, (pid, _) in proxies.items()
            )
        )
    # The router has gone: its connection ends here as well.
    await asyncio.sleep(0.2)
    server.close()


async def compare(shape: Shape, proxies: dict[str, tuple[int, int]], script: Path, seconds: int, rounds: int) -> None:
    results: dict[str, list[Measured]] = {name: [] for name in proxies}
    for _ in range(rounds):
        for name, (pid, port) in proxies.items():
            results[name].append(await measure(working(pid), port, shape, script, seconds))
    print(
        f"\n{shape.name:34} {'us/request':>10} {'user':>7} {'ratio':>6} {'requests/s':>11} {'p50 ms':>7} {'p99 ms':>7}"
    )
    for name, found in results.items():

        def middle(field: str, found: list[Any] = found) -> float:
            return float(statistics.median(getattr(one, field) for one in found))

        ratio = middle("micros") / statistics.median(one.micros for one in results["HAProxy"])
        print(
            f"{name:34} {middle('micros'):10.1f} {middle('user'):7.1f} {ratio:6.2f} {middle('rate'):11,.0f} "
            f"{middle('p50'):7.2f} {middle('p99'):7.2f}"
        )


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    missing = [name for name in ("haproxy", "nginx", "wrk") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)} (apt-get install haproxy nginx wrk)")
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(seconds, rounds, Path(name)))


if __name__ == "__main__":
    main()
