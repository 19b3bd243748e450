"""The files of a site and its settings: which file a path is, what kind, which rules hold for it."""

import functools
import gzip
import hashlib
import mimetypes
import os
import posixpath
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from cupola.buildpacks.staticfile.lib.passwords import verify
else:  # neighbours, where the server runs
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from passwords import verify

__all__ = ["SMALL", "File", "Site"]

SMALL = 1024 * 1024
"""Bytes up to which a file is compressed on the fly."""
_HASHED = 32 * 1024 * 1024
_CHUNK = 256 * 1024
_INDEX = ("index.html", "index.htm", "Default.htm")
_TYPES = {
    ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".woff2": "font/woff2",
    ".woff": "font/woff", ".webp": "image/webp", ".avif": "image/avif", ".md": "text/markdown",
    ".json": "application/json", ".map": "application/json", ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml", ".ico": "image/x-icon",
}  # fmt: skip
_COMPRESS = re.compile(r"text/|application/(javascript|json|xml|.*\+(xml|json)|wasm)|image/svg")
_HSTS = "http_strict_transport_security"


@dataclass(frozen=True)
class File:
    """A regular file that was opened: its descriptor belongs to the caller. `modified` in seconds since 1970."""

    descriptor: int
    size: int
    modified: int
    identity: tuple[str, int, int, int]


class Site:
    """Settings as `staticfile.parse` and `build.finalize` made them, and the directory with the files."""

    def __init__(self, settings: Mapping[str, Any], directory: str, environment: Mapping[str, str]) -> None:
        self.root = os.path.realpath(directory)
        self.users: dict[str, str] | None = settings.get("users")
        forced = environment.get("FORCE_HTTPS", "").lower()
        self.https = bool(settings.get("force_https")) or forced not in ("", "false", "0", "no")
        self.dots = bool(settings.get("host_dot_files"))
        self.pushstate = bool(settings.get("pushstate"))
        self.listings = bool(settings.get("directory"))
        self.includes = bool(settings.get("ssi"))
        self.rules: list[dict[str, Any]] = settings.get("rules", [])
        self.codes: dict[str, str] = settings.get("status_codes", {})
        self.headers: list[tuple[str, str]] = []
        if settings.get(_HSTS):
            value = "max-age=31536000"
            value += "; includeSubDomains" if settings.get(f"{_HSTS}_include_subdomains") else ""
            value += "; preload" if settings.get(f"{_HSTS}_preload") else ""
            self.headers.append(("Strict-Transport-Security", value))
        self._types = mimetypes.MimeTypes()
        for extension, kind in {**_TYPES, **settings.get("types", {})}.items():
            self._types.add_type(kind, extension)
        self.verified = functools.lru_cache(256)(verify)

    def find(self, path: str) -> str | None:
        """The file or directory of a decoded URL path, or None. Links may not lead out of the site."""
        try:
            full = os.path.realpath(self.root + posixpath.normpath("/" + path.lstrip("/")))
            if full != self.root and not full.startswith(self.root + os.sep):
                return None
            os.stat(full)
        except (OSError, ValueError):
            return None
        return full

    def locate(self, path: str) -> tuple[Literal["file", "directory", "none"], str]:
        """What a decoded URL path is; a file that is there only as its compressed neighbour is one as well."""
        full = self.find(path)
        if full is None and (bare := self.find(path + ".gz")) and os.path.isfile(bare):
            return "file", bare[:-3]
        if full is None:
            return "none", ""
        if os.path.isdir(full):
            return "directory", full
        return ("none", "") if path.endswith("/") else ("file", full)

    def is_file(self, full: str) -> bool:
        """Whether a located file is there by itself, not only compressed."""
        return os.path.isfile(full)

    def index(self, directory: str) -> str | None:
        """The index page of a directory."""
        for name in _INDEX:
            found = self.find(os.path.relpath(os.path.join(directory, name), self.root))
            if found and os.path.isfile(found):
                return found
        return None

    def hidden(self, path: str) -> bool:
        """Whether a path may not be asked for: dot files, unless they are hosted."""
        return "\0" in path or (not self.dots and re.search(r"(^|/)\.", path) is not None)

    def type(self, path: str) -> str:
        """The media type of a file by its name."""
        kind, encoding = self._types.guess_type(path, strict=False)
        kind = "application/gzip" if encoding else kind or "application/octet-stream"
        return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind

    def rules_for(self, path: str) -> list[dict[str, Any]]:
        """The rules that hold for a path: those of all paths, and of the location that nginx would choose."""
        everywhere = [rule for rule in self.rules if rule["kind"] == "all"]
        chosen = _location(self.rules, path)
        return everywhere + ([chosen] if chosen is not None else [])

    def page_of(self, status: int, path: str) -> str | None:
        """The file of a status' own page, by the rules for the path and the Staticfile."""
        codes = dict(self.codes)
        for rule in self.rules_for(path):
            codes.update(rule["codes"])
        page = codes.get(str(status)) or (codes.get(f"{status // 100}xx") if status >= 400 else None)
        found = self.find(page) if page else None
        return found if found and os.path.isfile(found) else None

    def gzipped(self, full: str) -> str | None:
        """The compressed neighbour of a file: `x.js.gz` beside `x.js`."""
        neighbour = full + ".gz"
        inside = os.path.realpath(neighbour).startswith(self.root + os.sep)
        return neighbour if inside and os.path.isfile(neighbour) else None

    def squeezes(self, kind: str, size: int) -> bool:
        """Whether a file of this type and size is worth compressing on the fly."""
        return 256 <= size <= SMALL and _COMPRESS.match(kind) is not None


def _location(rules: list[dict[str, Any]], path: str) -> dict[str, Any] | None:
    longest: dict[str, Any] | None = None
    for rule in rules:
        if rule["kind"] == "exact" and path == rule["pattern"]:
            return rule
        fits = rule["kind"] in ("prefix", "strong") and path.startswith(rule["pattern"])
        if fits and (longest is None or len(rule["pattern"]) > len(longest["pattern"])):
            longest = rule
    if longest is not None and longest["kind"] == "strong":
        return longest
    for rule in rules:
        if rule["kind"] in ("regex", "iregex") and pattern(rule["pattern"], rule["kind"] == "iregex").search(path):
            return rule
    return longest


@functools.lru_cache(256)
def pattern(text: str, ignore_case: bool = False) -> re.Pattern[str]:
    """A compiled pattern of a rule."""
    return re.compile(text, re.IGNORECASE if ignore_case else 0)


def opened(path: str) -> File | None:
    """Open a regular file; None for anything else. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        return None
    identity = (path, found.st_size, found.st_mtime_ns, found.st_ino)
    return File(descriptor, found.st_size, int(found.st_mtime), identity)


@functools.lru_cache(8192)
def etag(path: str, size: int, modified: int, inode: int) -> str:
    """Of the content where it is small, because files of an archive may share one time."""
    if size > _HASHED:
        return f'"{modified:x}-{size:x}-{inode:x}"'
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return f'"{digest.hexdigest()[:32]}"'


@functools.lru_cache(64)
def compressed(path: str, size: int, modified: int, inode: int) -> bytes:
    """The file, compressed; kept for the next visitors."""
    with open(path, "rb") as file:
        return gzip.compress(file.read(), 6, mtime=0)


def content(path: str, limit: int = 8 * SMALL) -> bytes:
    """A page, at most `limit` bytes of it. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(limit)


def unpacked(path: str) -> bytes:
    """A compressed file as it was, at most 64 MiB of it. Raises OSError."""
    with gzip.open(path) as file:
        return file.read(64 * SMALL)
