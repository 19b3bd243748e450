"""Requests straight into an ASGI application, on the calling thread: a fifth of the work of Starlette's test client.

Any thread may ask; each has an event loop of its own. Answers are httpx2's, as those of a real client.
"""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx2
from starlette.types import ASGIApp, Message

__all__ = ["Direct"]


class Direct:
    """A client of `application`, which believes to be at `base_url`. A context manager: begins and ends its lifespan."""

    def __init__(self, application: ASGIApp, base_url: str) -> None:
        self._application = application
        self._url = httpx2.URL(base_url)
        self._host = self._url.netloc
        self._local = threading.local()
        self._loops: list[asyncio.AbstractEventLoop] = []

    def __enter__(self) -> "Direct":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._end())
        for loop in self._loops:
            loop.close()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this on the loop of this thread; in a thread of its own where a coroutine test has a loop running here."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._loop().run_until_complete(work)
        else:
            with ThreadPoolExecutor(1) as thread:
                thread.submit(lambda: self._loop().run_until_complete(work)).result()

    async def _end(self) -> None:
        """Startup and shutdown, which applications without state of their own take together."""
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Message:
            return next(messages)

        async def send(message: Message) -> None:
            assert message["type"].endswith(".complete"), message

        await self._application({"type": "lifespan"}, receive, send)

    def _loop(self) -> asyncio.AbstractEventLoop:
        if not hasattr(self._local, "loop"):
            self._local.loop = asyncio.new_event_loop()
            self._loops.append(self._local.loop)
        loop: asyncio.AbstractEventLoop = self._local.loop
        return loop

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        content: Any = None,
        files: Any = None,
        data: Any = None,
    ) -> httpx2.Response:
        """Send a request; `files` and `data` make a multipart body. Redirects are not followed."""
        if params is not None:
            path = str(httpx2.URL(path, params=params))
        if files is not None or data is not None:
            encoded = httpx2.Request(method, self._url, headers=headers, files=files, data=data)
            content, sent = encoded.read(), [(name.lower(), value) for name, value in encoded.headers.raw]
        else:
            content = content.encode() if isinstance(content, str) else content or b""
            sent = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
            sent = [(b"host", self._host), *sent, (b"content-length", str(len(content)).encode())]
        return self._loop().run_until_complete(self._ask(method, path, sent, content))

    async def _ask(self, method: str, path: str, headers: list[tuple[bytes, bytes]], content: bytes) -> httpx2.Response:
        target = self._url.join(path).raw_path
        raw_path, _, query = target.partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": self._url.scheme,
            "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
            "raw_path": raw_path,
            "root_path": "",
            "query_string": query,
            "headers": headers,
            "client": ("127.0.0.1", 50000),
            "server": ("localhost", 80),
        }
        coming = [{"type": "http.request", "body": content, "more_body": False}]
        answer: dict[str, Any] = {"status": 0, "headers": []}
        body = bytearray()

        async def receive() -> Message:
            if not coming:
                await asyncio.Event().wait()  # the client stays, however long the answer takes
            return coming.pop()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.update(status=message["status"], headers=message.get("headers", []))
            else:
                body.extend(message.get("body", b""))

        await self._application(scope, receive, send)
        return httpx2.Response(answer["status"], headers=answer["headers"], content=bytes(body))
