"""HTTP/1.1 as the static server needs it: requests read, conditions and ranges judged (RFC 9110, RFC 9112)."""

import email.utils
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["OLD", "Problem", "Request", "accepts_gzip", "parse", "ranged", "unchanged"]

OLD = 631152000
"""1990: archives without times give their files one before it, which says nothing."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
Fields = list[tuple[str, str]]


class Problem(Exception):
    """The request is answered with this status and these fields; `body` replaces the page of the status."""

    def __init__(self, status: int, headers: Fields | None = None, body: str | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers or []
        self.body = body


@dataclass(frozen=True)
class Request:
    """One request. `path` is decoded, `target` and `query` are as they came; names of headers in lower case."""

    method: str
    target: str
    version: str
    headers: Mapping[str, str]
    path: str
    query: str


UNREADABLE = Request("GET", "/", "HTTP/1.0", {}, "/", "")
"""Stands for a request that could not be read."""


def parse(head: bytes) -> Request:
    """A request from its header block. Raises Problem 400."""
    lines = head.decode("latin-1").split("\r\n")
    match = re.fullmatch(r"([A-Z]+) (\S+) (HTTP/1\.[01])", lines[0])
    if not match:
        raise Problem(400)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        if not line:
            continue
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name):
            raise Problem(400)
        name, value = name.lower(), value.strip()
        if name in ("host", "content-length") and headers.get(name, value) != value:
            raise Problem(400)
        headers[name] = f"{headers[name]}, {value}" if name in headers and name != "content-length" else value
    if match[3] == "HTTP/1.1" and "host" not in headers:
        raise Problem(400)
    target = match[2]
    try:
        # Not urlsplit alone: it would read //host/path as an address.
        url = urllib.parse.urlsplit("http://host" + target if target.startswith("/") else target)
        path = urllib.parse.unquote(url.path or "/", errors="surrogateescape")
    except ValueError:
        raise Problem(400) from None
    if not path.startswith("/"):
        raise Problem(400)
    return Request(
        match[1], (url.path or "/") + (f"?{url.query}" if url.query else ""), match[3], headers, path, url.query
    )


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    """Whether the client takes gzip."""
    for part in headers.get("accept-encoding", "").lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() in ("gzip", "*") and not re.fullmatch(r"\s*q=0(\.0*)?\s*", parameters):
            return True
    return False


def ranged(text: str, size: int) -> tuple[int, int] | None:
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


def unchanged(headers: Mapping[str, str], tag: str, modified: int) -> bool:
    """Whether the client's copy is still right (RFC 9110 section 13.2.2). `modified` in seconds since 1970."""
    given = headers.get("if-none-match")
    if given is not None:
        tags = [part.strip().removeprefix("W/") for part in given.split(",")]
        return "*" in tags or tag.removeprefix("W/") in tags
    since = headers.get("if-modified-since")
    if since is None or modified <= OLD:
        return False
    try:
        return modified <= email.utils.parsedate_to_datetime(since).timestamp()
    except (ValueError, TypeError, OverflowError):
        return False
