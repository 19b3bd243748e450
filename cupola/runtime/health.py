"""Health checks: what is tried, and the words for its failure (reference/app-runtime.md section 8)."""

import asyncio
import contextlib
from urllib.parse import urljoin, urlsplit

from cupola.endpoints import dial
from cupola.runtime.engine import Address
from cupola.runtime.messages import HealthCheck

__all__ = ["check", "format_duration"]

_REDIRECTS = 10


async def check(health: HealthCheck, address: Address) -> str | None:
    """Try once. None: healthy; else what failed, in Cloud Foundry's words. Takes at most the invocation timeout."""
    timeout = max(health.invocation_timeout or 1.0, 1.0)
    if health.type == "process" or not address.endpoints:
        return None
    if health.type == "port":
        for port, endpoint in address.endpoints.items():
            failure = await _tcp(endpoint, f"{address.internal_ip}:{port}", timeout)
            if failure:
                return failure
        return None
    port, endpoint = next(iter(address.endpoints.items()))
    return await _http(endpoint, port, health.endpoint or "/", timeout)


async def _tcp(endpoint: str, shown: str, seconds: float) -> str | None:
    try:
        async with asyncio.timeout(seconds):
            made = await dial(endpoint)
    except TimeoutError:
        return f"failed to make TCP connection to {shown}: timed out after {seconds:.2f} seconds"
    except OSError:
        return f"failed to make TCP connection to {shown}: connection refused"
    made.close()
    return None


async def _http(endpoint: str, port: str, path: str, seconds: float) -> str | None:
    start = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(seconds):
            for _ in range(_REDIRECTS):
                status, location = await _get(endpoint, port, path)
                if status not in (301, 302, 303, 307, 308) or not location:
                    break
                target = urlsplit(urljoin(f"http://localhost:{port}{path}", location))
                path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    except TimeoutError:
        return f"failed to make HTTP request to '{path}' on port {port}: timed out after {seconds:.2f} seconds"
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        words = "connection refused" if isinstance(error, ConnectionRefusedError) else "connection closed"
        return f"failed to make HTTP request to '{path}' on port {port}: {words}"
    if status == 200:
        return None
    took = (asyncio.get_running_loop().time() - start) * 1000
    return f"failed to make HTTP request to '{path}' on port {port}: received status code {status} in {took:.0f}ms"


async def _get(endpoint: str, port: str, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection(sock=await dial(endpoint))
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: diego-healthcheck\r\n"
            "X-Forwarded-Proto: https\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    return int(head[0].split(" ")[1]), fields.get("location", "")


def format_duration(seconds: float) -> str:
    """As Go writes durations, rounded to milliseconds: `1m0.05s`, `2s`, `500ms`."""
    millis = round(seconds * 1000)
    if millis < 1000:
        return f"{millis}ms"
    hours, rest = divmod(millis, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
