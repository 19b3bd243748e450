"""A server of static files: python server.py SETTINGS.json DIRECTORY; listens on $PORT.

HTTP/1.1 with keep-alive, ranges, ETag and Last-Modified, compressed neighbours (`x.js.gz` beside `x.js`), gzip on the
fly for text, and the options of a Staticfile. Only Python's standard library.
"""

import asyncio
import base64
import contextlib
import email.utils
import functools
import gzip
import hashlib
import html
import http
import json
import mimetypes
import os
import posixpath
import re
import signal
import stat
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from pages import expand, listing
from passwords import verify

MAX_HEADER = 64 * 1024
IDLE = 75.0
"""Seconds that a silent connection is kept."""
WRITE_TIMEOUT = 120.0
COMPRESS = re.compile(r"text/|application/(javascript|json|xml|.*\+(xml|json)|wasm)|image/svg")
SMALL = 1024 * 1024
HASHED = 32 * 1024 * 1024
CHUNK = 256 * 1024
OLD = 631152000
"""1990: archives without times give their files one before it, which says nothing."""


class Problem(Exception):
    def __init__(self, status, headers=()):
        super().__init__(status)
        self.status = status
        self.headers = list(headers)


class Site:
    """The files and the settings."""

    def __init__(self, settings, directory):
        self.settings = settings
        self.root = os.path.realpath(directory)
        self.index = (settings.get("index") or "index.html index.htm Default.htm").split()
        self.users = settings.get("users")
        self.https = settings.get("force_https") or os.environ.get("FORCE_HTTPS", "") not in ("", "false")
        self.codes = settings.get("status_codes", {})
        self.types = mimetypes.MimeTypes()
        for extension, type in {
            ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".woff2": "font/woff2",
            ".woff": "font/woff", ".webp": "image/webp", ".avif": "image/avif", ".md": "text/markdown",
            ".json": "application/json", ".map": "application/json", ".webmanifest": "application/manifest+json",
            ".svg": "image/svg+xml", ".ico": "image/x-icon", **settings.get("types", {}),
        }.items():  # fmt: skip
            self.types.add_type(type, extension)
        self.extra = list(settings.get("headers", {}).items())
        if settings.get("http_strict_transport_security"):
            value = "max-age=31536000"
            value += "; includeSubDomains" if settings.get("http_strict_transport_security_include_subdomains") else ""
            value += "; preload" if settings.get("http_strict_transport_security_preload") else ""
            self.extra.append(("Strict-Transport-Security", value))
        self.verified = functools.lru_cache(256)(verify)

    def find(self, path):
        """The file of a decoded URL path, or None. Links may not lead out of the site."""
        full = os.path.realpath(self.root + posixpath.normpath("/" + path.lstrip("/")))
        if full != self.root and not full.startswith(self.root + os.sep):
            return None
        try:
            os.stat(full)
        except (OSError, ValueError):
            return None
        return full

    def type(self, path):
        found = self.types.guess_type(path, strict=False)
        type = found[0] if found[1] is None else "application/gzip"
        type = type or "application/octet-stream"
        return type + "; charset=utf-8" if type.startswith("text/") else type


@functools.lru_cache(8192)
def etag(path, size, modified, inode):
    """Of the content where it is small, because files of an archive may share one time."""
    if size > HASHED:
        return f'"{modified:x}-{size:x}-{inode:x}"'
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return f'"{digest.hexdigest()[:32]}"'


@functools.lru_cache(64)
def compressed(path, size, modified, inode):
    with open(path, "rb") as file:
        return gzip.compress(file.read(), 6, mtime=0)


def accepts_gzip(headers):
    for part in headers.get("accept-encoding", "").lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() in ("gzip", "*") and not re.fullmatch(r"\s*q=0(\.0*)?\s*", parameters):
            return True
    return False


def ranged(text, size):
    """First and last byte of a Range header; None when it is to be ignored. Raises Problem 416."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text.strip())
    if not match or not (match[1] or match[2]):
        return None
    if match[1]:
        first, last = int(match[1]), int(match[2]) if match[2] else size - 1
        if match[2] and last < first:
            return None
    else:
        first, last = max(size - int(match[2]), 0), size - 1
        if int(match[2]) == 0:
            first = size
    if first >= size:
        raise Problem(416, [("Content-Range", f"bytes */{size}")])
    return first, min(last, size - 1)


class Connection:
    def __init__(self, site, reader, writer):
        self.site, self.reader, self.writer = site, reader, writer
        self.alive = True

    async def serve(self):
        try:
            while self.alive:
                try:
                    head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), IDLE)
                except asyncio.LimitOverrunError:
                    self.alive = False
                    await self.answer_problem(Problem(431), "GET", {}, "/")
                    break
                await self.request(head)
        except (asyncio.IncompleteReadError, asyncio.TimeoutError, ConnectionError):
            pass
        finally:
            self.writer.close()
            with contextlib.suppress(Exception):
                await self.writer.wait_closed()

    async def request(self, head):
        method, headers, path = "GET", {}, "/"
        try:
            method, target, version, headers = parse(head)
            self.alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
            await self.discard(headers)
            url = urllib.parse.urlsplit("http://host" + target) if target.startswith("/") else urllib.parse.urlsplit(target)
            path = urllib.parse.unquote(url.path or "/", errors="surrogateescape")
            await self.route(method, path, url, headers)
        except Problem as problem:
            if problem.status == 400:
                self.alive = False
            await self.answer_problem(problem, method, headers, path)
        except (OSError, ValueError) as error:
            if isinstance(error, ConnectionError):
                raise
            print(f"cannot serve {path!r}: {error}", file=sys.stderr, flush=True)
            await self.answer_problem(Problem(500), method, headers, path)

    async def discard(self, headers):
        """Bodies of requests mean nothing here; long ones end the connection."""
        if "transfer-encoding" in headers:
            self.alive = False
            return
        text = headers.get("content-length", "0")
        if not text.isascii() or not text.isdigit():
            raise Problem(400)
        if int(text) > SMALL:
            self.alive = False
        elif int(text):
            await asyncio.wait_for(self.reader.readexactly(int(text)), IDLE)

    async def route(self, method, path, url, headers):
        site = self.site
        if site.https and headers.get("x-forwarded-proto", "http").split(",")[0].strip().lower() != "https":
            host = headers.get("x-forwarded-host", headers.get("host", "")).split(",")[0].strip()
            prefix = headers.get("x-forwarded-prefix", "").rstrip("/")
            query = "?" + url.query if url.query else ""
            raise Problem(301, [("Location", f"https://{host}{prefix}{url.path or '/'}{query}")])
        if site.users is not None:
            await self.authenticate(headers)
        if method not in ("GET", "HEAD"):
            raise Problem(405, [("Allow", "GET, HEAD")])
        if "\0" in path or (not site.settings.get("host_dot_files") and re.search(r"(^|/)\.", path)):
            raise Problem(404)
        full = site.find(path)
        if full is None and (bare := site.find(path + ".gz")) and os.path.isfile(bare):
            full = bare[:-3]
        if full is not None and os.path.isdir(full):
            if not path.endswith("/"):
                query = "?" + url.query if url.query else ""
                place = "/" + urllib.parse.quote(path, errors="surrogateescape").lstrip("/")
                raise Problem(301, [("Location", f"{place}/{query}")])
            full = await self.directory(method, full, path, headers)
            if full is None:
                return
        elif full is not None and path.endswith("/"):
            full = None
        if full is None:
            full = site.find("/" + site.index[0]) if site.settings.get("pushstate") else None
            if full is None:
                raise Problem(404)
        await self.file(method, full, headers, 200, url)

    async def directory(self, method, full, path, headers):
        """The index of a directory; None when its listing was sent or another page is to be looked for."""
        for name in self.site.index:
            candidate = self.site.find(os.path.relpath(os.path.join(full, name), self.site.root))
            if candidate and os.path.isfile(candidate):
                return candidate
        if self.site.settings.get("directory"):
            body = listing(full, path, self.site.settings.get("host_dot_files"))
            await self.send(200, [("Content-Type", "text/html; charset=utf-8")], body, method)
            return None
        if self.site.settings.get("pushstate") and (page := self.site.find("/" + self.site.index[0])):
            return page
        raise Problem(404 if full == self.site.root else 403)

    async def authenticate(self, headers):
        scheme, _, text = headers.get("authorization", "").partition(" ")
        with contextlib.suppress(ValueError):
            user, colon, password = base64.b64decode(text.strip(), validate=True).decode("utf-8", "surrogateescape").partition(":")
            hashed = self.site.users.get(user)
            if scheme.lower() == "basic" and colon and hashed:
                loop = asyncio.get_running_loop()
                if await loop.run_in_executor(None, self.site.verified, hashed, password):
                    return
        raise Problem(401, [("WWW-Authenticate", 'Basic realm="Restricted"')])

    async def file(self, method, full, headers, status, url):
        site = self.site
        type = site.type(full)
        if site.settings.get("ssi") and type.startswith("text/html") and os.path.isfile(full):
            await self.included(method, full, status, url)
            return
        fields = [("Content-Type", type)]
        neighbour = full + ".gz"
        source = full
        gzipped = accepts_gzip(headers)
        if os.path.isfile(neighbour) and os.path.realpath(neighbour).startswith(site.root + os.sep) and (gzipped or not os.path.isfile(full)):
            fields.append(("Vary", "Accept-Encoding"))
            if not gzipped:
                with gzip.open(neighbour) as file:
                    await self.send(status, fields, file.read(64 * SMALL), method)
                return
            source = neighbour
            fields.append(("Content-Encoding", "gzip"))
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Problem(404)
            identity = (source, found.st_size, found.st_mtime_ns, found.st_ino)
            tag = await asyncio.get_running_loop().run_in_executor(None, etag, *identity)
            modified = int(found.st_mtime)
            if modified > OLD:
                fields.append(("Last-Modified", email.utils.formatdate(modified, usegmt=True)))
            small = 256 <= found.st_size <= SMALL and bool(COMPRESS.match(type))
            squeeze = small and source == full and gzipped and "range" not in headers
            if small and source == full:
                fields.append(("Vary", "Accept-Encoding"))
            if squeeze:
                tag = f'W/{tag}'
                fields.append(("Content-Encoding", "gzip"))
            fields.append(("ETag", tag))
            if status == 200 and unchanged(headers, tag, modified):
                await self.send(304, [field for field in fields if field[0] != "Content-Encoding"], b"", "HEAD")
                return
            if squeeze:
                body = await asyncio.get_running_loop().run_in_executor(None, compressed, *identity)
                await self.send(status, fields, body, method)
                return
            await self.part(method, file, found.st_size, fields, headers, status, tag, modified)

    async def part(self, method, file, size, fields, headers, status, tag, modified):
        first, last = 0, size - 1
        fields.append(("Accept-Ranges", "bytes"))
        condition = headers.get("if-range")
        fresh = condition is None or condition == tag or condition == email.utils.formatdate(modified, usegmt=True)
        if status == 200 and method == "GET" and "range" in headers and fresh:
            span = ranged(headers["range"], size)
            if span:
                status, (first, last) = 206, span
                fields.append(("Content-Range", f"bytes {first}-{last}/{size}"))
        count = last - first + 1
        if method == "HEAD" or count <= CHUNK:
            file.seek(first)
            await self.send(status, fields, file.read(count) if method != "HEAD" else b"", method, count)
            return
        self.write_head(status, fields, count)
        await asyncio.wait_for(self.writer.drain(), WRITE_TIMEOUT)
        file.seek(first)
        while count > 0:
            chunk = file.read(min(CHUNK, count))
            if not chunk:
                raise ConnectionError("the file became shorter")
            count -= len(chunk)
            self.writer.write(chunk)
            await asyncio.wait_for(self.writer.drain(), WRITE_TIMEOUT)

    async def included(self, method, full, status, url):
        site = self.site
        here = "/" + os.path.relpath(os.path.dirname(full), site.root)

        def load(path):
            place = site.find(path if path.startswith("/") else posixpath.join(here, path))
            if place is None or not os.path.isfile(place):
                return None
            with open(place, "rb") as file:
                return file.read(8 * SMALL)

        variables = {
            "document_uri": url.path, "uri": url.path, "query_string": url.query, "document_name": os.path.basename(full),
            "date_local": time.strftime("%A, %d-%b-%Y %H:%M:%S %Z"), "date_gmt": time.strftime("%A, %d-%b-%Y %H:%M:%S GMT", time.gmtime()),
        }  # fmt: skip
        body = expand(load("/" + os.path.relpath(full, site.root)) or b"", variables, load)
        await self.send(status, [("Content-Type", site.type(full))], body, method)

    async def answer_problem(self, problem, method, headers, path):
        status = problem.status
        page = self.site.codes.get(str(status)) or (self.site.codes.get(f"{status // 100}xx") if status >= 400 else None)
        full = self.site.find(page) if page else None
        if full and os.path.isfile(full):
            with open(full, "rb") as file:
                body = file.read(8 * SMALL)
            await self.send(status, [*problem.headers, ("Content-Type", self.site.type(full))], body, method)
            return
        text = html.escape(f"{status} {http.HTTPStatus(status).phrase}")
        body = f"<!DOCTYPE html>\n<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>\n".encode()
        await self.send(status, [*problem.headers, ("Content-Type", "text/html; charset=utf-8")], body, method)

    async def send(self, status, fields, body, method, length=None):
        self.write_head(status, fields, len(body) if length is None else length)
        if method != "HEAD" and body:
            self.writer.write(body)
        await asyncio.wait_for(self.writer.drain(), WRITE_TIMEOUT)

    def write_head(self, status, fields, length):
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"]
        fields = [("Date", email.utils.formatdate(usegmt=True)), *fields, *self.site.extra]
        if status != 304:
            fields.append(("Content-Length", str(length)))
        fields.append(("Connection", "keep-alive" if self.alive else "close"))
        lines += [_field(name, value) for name, value in fields]
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))


def _field(name, value):
    return f"{name}: " + re.sub(r"[\r\n\0]", "", str(value))


def unchanged(headers, tag, modified):
    """Whether the client's copy is still right (RFC 9110 section 13.2.2)."""
    given = headers.get("if-none-match")
    if given is not None:
        tags = [part.strip().removeprefix("W/") for part in given.split(",")]
        return "*" in tags or tag.removeprefix("W/") in tags
    since = headers.get("if-modified-since")
    if since is None or modified <= OLD:
        return False
    try:
        return modified <= email.utils.parsedate_to_datetime(since).timestamp()
    except (ValueError, TypeError):
        return False


def parse(head):
    """Method, target, version and header fields (lower case) of a request. Raises Problem 400."""
    lines = head.decode("latin-1").split("\r\n")
    match = re.fullmatch(r"([A-Z]+) (\S+) (HTTP/1\.[01])", lines[0])
    if not match:
        raise Problem(400)
    headers = {}
    for line in lines[1:]:
        if not line:
            continue
        name, colon, value = line.partition(":")
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise Problem(400)
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if match[3] == "HTTP/1.1" and "host" not in headers:
        raise Problem(400)
    return match[1], match[2], match[3], headers


async def main(settings, directory, port, host="0.0.0.0"):  # noqa: S104 - apps listen where the router reaches them
    site = Site(settings, directory)
    open_connections = set()

    async def connected(reader, writer):
        task = asyncio.current_task()
        open_connections.add(task)
        try:
            await Connection(site, reader, writer).serve()
        finally:
            open_connections.discard(task)

    server = await asyncio.start_server(connected, host, port, limit=MAX_HEADER, backlog=1024)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    print(f"Serving on port {port}", flush=True)
    await stop.wait()
    server.close()
    if open_connections:
        await asyncio.wait(open_connections, timeout=2)
    for task in open_connections:
        task.cancel()


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        given = json.load(file)
    asyncio.run(main(given, sys.argv[2], int(os.environ.get("PORT", "8080"))))
