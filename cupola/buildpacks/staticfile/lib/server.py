"""A server of static files: python server.py SETTINGS.json DIRECTORY; listens on $PORT.

HTTP/1.1 with keep-alive, ranges, ETag and Last-Modified, compressed neighbours (`x.js.gz` beside `x.js`), gzip on the
fly for text, and the options of a Staticfile. Only Python's standard library. Files are read in the event loop: they
are local and small or read in pieces; what computes (hashes, compression, passwords) is done in threads.
"""

import asyncio
import base64
import contextlib
import email.utils
import html
import http
import json
import os
import posixpath
import re
import signal
import sys
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cupola.buildpacks.staticfile.lib import website
    from cupola.buildpacks.staticfile.lib.messages import (
        OLD,
        UNREADABLE,
        Fields,
        Problem,
        Request,
        accepts_gzip,
        parse,
        ranged,
        unchanged,
    )
    from cupola.buildpacks.staticfile.lib.pages import expand, listing
    from cupola.buildpacks.staticfile.lib.website import SMALL, File, Site
else:  # neighbours, where the server runs
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import website
    from messages import OLD, UNREADABLE, Fields, Problem, Request, accepts_gzip, parse, ranged, unchanged
    from pages import expand, listing
    from website import SMALL, File, Site

MAX_HEADER = 64 * 1024
IDLE = 75.0
"""Seconds that a silent connection is kept."""
WRITE_TIMEOUT = 120.0
"""Seconds that a client may take for the next piece of an answer."""
CHUNK = 256 * 1024


class Connection:
    """One client, one request after the other."""

    def __init__(self, site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.site, self.reader, self.writer = site, reader, writer
        self.alive = True
        self.request = UNREADABLE

    async def serve(self) -> None:
        """Answer until the client goes or is silent for too long."""
        try:
            while self.alive:
                self.request = UNREADABLE
                try:
                    head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), IDLE)
                except asyncio.LimitOverrunError:
                    self.alive = False
                    await self._answer_problem(Problem(431))
                    break
                await self._answer(head)
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            pass
        finally:
            self.writer.close()
            with contextlib.suppress(Exception):
                await self.writer.wait_closed()

    async def _answer(self, head: bytes) -> None:
        try:
            self.request = request = parse(head)
            self.alive = request.version == "HTTP/1.1" and request.headers.get("connection", "").lower() != "close"
            await self._discard_body(request)
            await self._route(request)
        except Problem as problem:
            if problem.status == 400:
                self.alive = False
            await self._answer_problem(problem)
        except (OSError, ValueError) as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            print(f"cannot serve {self.request.path!r}: {error}", file=sys.stderr, flush=True)
            await self._answer_problem(Problem(500))

    async def _discard_body(self, request: Request) -> None:
        """Bodies of requests mean nothing here; long ones end the connection."""
        if "transfer-encoding" in request.headers:
            self.alive = False
            return
        text = request.headers.get("content-length", "0")
        if not text.isascii() or not text.isdigit():
            raise Problem(400)
        if int(text) > SMALL:
            self.alive = False
        elif int(text):
            await asyncio.wait_for(self.reader.readexactly(int(text)), IDLE)

    async def _route(self, request: Request) -> None:
        site, path = self.site, request.path
        if site.https and _scheme(request) != "https":
            raise Problem(301, [("Location", f"https://{_public_host(request)}{_prefix(request)}{request.target}")])
        if site.users is not None:
            await self._authenticate(request, site.users)
        self._obey_rules(request)
        if request.method not in ("GET", "HEAD"):
            raise Problem(405, [("Allow", "GET, HEAD")])
        if site.hidden(path):
            raise Problem(404)
        kind, full = site.locate(path)
        if kind == "directory":
            if not path.endswith("/"):
                place = "/" + urllib.parse.quote(path, errors="surrogateescape").lstrip("/")
                query = f"?{request.query}" if request.query else ""
                raise Problem(301, [("Location", f"{place}/{query}")])
            page = await self._directory(full)
            if page is not None:
                await self._file(page)
        elif kind == "file":
            await self._file(full)
        elif site.pushstate and (page := site.index(site.root)):
            await self._file(page)
        else:
            raise Problem(404)

    def _obey_rules(self, request: Request) -> None:
        """What included nginx directives say before any file is looked at."""
        for rule in self.site.rules_for(request.path):
            for text, replacement, status in rule["rewrites"]:
                if match := website.pattern(text).search(request.path):
                    query = f"?{request.query}" if request.query and "?" not in replacement else ""
                    raise Problem(status, [("Location", _filled(replacement, request, match) + query)])
            if rule["answer"]:
                status, text = rule["answer"]
                filled = _filled(text, request, None)
                raise Problem(status, [("Location", filled)]) if 300 <= status < 400 else Problem(status, body=filled)
            if rule["deny"]:
                raise Problem(403)

    async def _directory(self, full: str) -> str | None:
        """The page of a directory; None when its listing was sent."""
        site = self.site
        if found := site.index(full):
            return found
        if site.listings:
            body = listing(full, self.request.path, dots=site.dots)
            await self._send(200, [("Content-Type", "text/html; charset=utf-8")], body)
            return None
        if site.pushstate and (page := site.index(site.root)):
            return page
        raise Problem(404 if full == site.root else 403)

    async def _authenticate(self, request: Request, users: dict[str, str]) -> None:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        with contextlib.suppress(ValueError):
            decoded = base64.b64decode(text.strip(), validate=True).decode("utf-8", "surrogateescape")
            user, colon, password = decoded.partition(":")
            hashed = users.get(user)
            known = scheme.lower() == "basic" and bool(colon) and hashed is not None
            if known and await asyncio.to_thread(lambda: self.site.verified(hashed, password)):
                return
        raise Problem(401, [("WWW-Authenticate", 'Basic realm="Restricted"')])

    async def _file(self, full: str) -> None:
        site = self.site
        kind = site.type(full)
        gzipped = accepts_gzip(self.request.headers)
        fields: Fields = [("Content-Type", kind)]
        plain = site.is_file(full)
        if plain and site.includes and kind.startswith("text/html"):
            await self._send(200, fields, self._included(full))
            return
        neighbour = site.gzipped(full)
        source = full
        if neighbour is not None and (gzipped or not plain):
            fields.append(("Vary", "Accept-Encoding"))
            if not gzipped:
                await self._send(200, fields, await asyncio.to_thread(website.unpacked, neighbour))
                return
            source = neighbour
            fields.append(("Content-Encoding", "gzip"))
        file = website.opened(source)
        if file is None:
            raise Problem(404)
        try:
            await self._opened(file, fields, kind, source == full, gzipped)
        finally:
            os.close(file.descriptor)

    async def _opened(self, file: File, fields: Fields, kind: str, plain: bool, gzipped: bool) -> None:
        headers = self.request.headers
        tag = await asyncio.to_thread(website.etag, *file.identity)
        if file.modified > OLD:
            fields.append(("Last-Modified", email.utils.formatdate(file.modified, usegmt=True)))
        small = plain and self.site.squeezes(kind, file.size)
        squeeze = small and gzipped and "range" not in headers
        if small:
            fields.append(("Vary", "Accept-Encoding"))
        if squeeze:
            tag = f"W/{tag}"
            fields.append(("Content-Encoding", "gzip"))
        fields.append(("ETag", tag))
        if unchanged(headers, tag, file.modified):
            await self._send(304, [field for field in fields if field[0] != "Content-Encoding"], b"")
        elif squeeze:
            await self._send(200, fields, await asyncio.to_thread(website.compressed, *file.identity))
        else:
            await self._part(file, fields, tag)

    async def _part(self, file: File, fields: Fields, tag: str) -> None:
        """The file or the range of it that is asked for."""
        request = self.request
        status, first, last = 200, 0, file.size - 1
        fields.append(("Accept-Ranges", "bytes"))
        condition = request.headers.get("if-range")
        fresh = condition in (None, tag, email.utils.formatdate(file.modified, usegmt=True))
        if request.method == "GET" and "range" in request.headers and fresh:
            span = ranged(request.headers["range"], file.size)
            if span:
                status, (first, last) = 206, span
                fields.append(("Content-Range", f"bytes {first}-{last}/{file.size}"))
        left = last - first + 1
        self._write_head(status, fields, left)
        while left > 0 and request.method != "HEAD":
            chunk = os.pread(file.descriptor, min(CHUNK, left), first)
            if not chunk:
                raise ConnectionError("the file became shorter")
            first, left = first + len(chunk), left - len(chunk)
            self.writer.write(chunk)
            await asyncio.wait_for(self.writer.drain(), WRITE_TIMEOUT)
        await asyncio.wait_for(self.writer.drain(), WRITE_TIMEOUT)

    def _included(self, full: str) -> bytes:
        """An HTML page with its server-side includes done."""
        site, request = self.site, self.request
        here = "/" + os.path.relpath(os.path.dirname(full), site.root)

        def load(path: str) -> bytes | None:
            bare = urllib.parse.unquote(path.partition("?")[0])
            place = site.find(bare if bare.startswith("/") else posixpath.join(here, bare))
            if place is None or site.hidden(bare) or not os.path.isfile(place):
                return None
            return website.content(place)

        variables = {
            "document_uri": request.path, "uri": request.path, "query_string": request.query, "args": request.query,
            "request_uri": request.target, "request_method": request.method,
            "document_name": os.path.basename(full), "date_local": time.strftime("%A, %d-%b-%Y %H:%M:%S %Z"),
            "date_gmt": time.strftime("%A, %d-%b-%Y %H:%M:%S GMT", time.gmtime()),
            "host": request.headers.get("host", ""),
            **{"http_" + name.replace("-", "_"): value for name, value in request.headers.items()},
        }  # fmt: skip
        return expand(website.content(full), variables, load)

    async def _answer_problem(self, problem: Problem) -> None:
        status = problem.status
        page = self.site.page_of(status, self.request.path)
        if page is not None:
            body, kind = website.content(page), self.site.type(page)
        elif problem.body is not None:
            body, kind = problem.body.encode(), "text/plain; charset=utf-8"
        else:
            text = html.escape(f"{status} {_phrase(status)}")
            body = f"<!DOCTYPE html>\n<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>\n".encode()
            kind = "text/html; charset=utf-8"
        await self._send(status, [*problem.headers, ("Content-Type", kind)], body)

    async def _send(self, status: int, fields: Fields, body: bytes) -> None:
        self._write_head(status, fields, len(body))
        if self.request.method != "HEAD" and status not in (204, 304):
            self.writer.write(body)
        await asyncio.wait_for(self.writer.drain(), WRITE_TIMEOUT)

    def _write_head(self, status: int, fields: Fields, length: int) -> None:
        added = _included_headers(self.site, self.request)
        replaced = {name.lower() for name, _ in added}
        fields = [field for field in fields if field[0].lower() not in replaced]
        fields = [("Date", email.utils.formatdate(usegmt=True)), *fields, *self.site.headers, *added]
        if status not in (204, 304):
            fields.append(("Content-Length", str(length)))
        fields.append(("Connection", "keep-alive" if self.alive else "close"))
        lines = [f"HTTP/1.1 {status} {_phrase(status)}", *(_field(name, value) for name, value in fields)]
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))


def _included_headers(site: Site, request: Request) -> Fields:
    """add_header of the innermost rule that has any, as in nginx."""
    chosen: dict[str, str] = {}
    for rule in site.rules_for(request.path):
        chosen = rule["headers"] or chosen
    return [(name, _filled(value, request, None)) for name, value in chosen.items()]


def _filled(text: str, request: Request, match: re.Match[str] | None) -> str:
    """A text of an included directive with its variables."""
    variables = {
        "uri": urllib.parse.quote(request.path, errors="surrogateescape"), "request_uri": request.target,
        "host": _public_host(request).partition(":")[0], "args": request.query, "scheme": _scheme(request),
    }  # fmt: skip

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name.isdigit():
            return (match[int(name)] or "") if match and int(name) <= (match.re.groups or 0) else ""
        return variables.get(name, "")

    return re.sub(r"\$(?:\{(\w+)\}|([1-9]|[a-z_]+))", value, text)


def _scheme(request: Request) -> str:
    return request.headers.get("x-forwarded-proto", "http").split(",")[0].strip().lower()


def _public_host(request: Request) -> str:
    return request.headers.get("x-forwarded-host", request.headers.get("host", "")).split(",")[0].strip()


def _prefix(request: Request) -> str:
    return request.headers.get("x-forwarded-prefix", "").rstrip("/")


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Status"


def _field(name: str, value: str) -> str:
    return f"{name}: " + re.sub(r"[\r\n\0]", "", value)


async def main(site: Site, port: int) -> None:
    """Serve until SIGTERM; requests that are being answered then have two seconds."""
    connections: dict[asyncio.Task[None], Connection] = {}

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(site, reader, writer)
        task = asyncio.create_task(connection.serve())
        connections[task] = connection
        task.add_done_callback(connections.pop)

    host = "0.0.0.0"  # noqa: S104 - apps listen where the router reaches them
    server = await asyncio.start_server(connected, host, port, limit=MAX_HEADER, backlog=1024)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    print(f"Serving on port {port}", flush=True)
    await stop.wait()
    server.close()
    busy = [task for task, connection in connections.items() if connection.request is not UNREADABLE]
    if busy:
        await asyncio.wait(busy, timeout=2)
    for task in list(connections):
        task.cancel()


if __name__ == "__main__":
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    asyncio.run(main(Site(settings, sys.argv[2], os.environ), int(os.environ.get("PORT", "8080"))))
