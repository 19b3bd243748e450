"""Where browsers may be sent back to: redirect URIs against the patterns that a client registered.

Patterns are UAA's: `*` stands for one segment of a path, one label of a host or any port; `**` in a path for any number
of segments. Everything else is compared exactly, after nothing is decoded or resolved.
"""

import re
from functools import lru_cache
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

__all__ = ["is_allowed", "is_pattern", "origin_of", "with_parameters"]

_FORBIDDEN_SCHEMES = frozenset({"javascript", "data", "vbscript", "file", "about", "blob"})
_MOST = 2048


def _split(uri: str) -> SplitResult | None:
    """The parts of a URI that a browser may be sent to; None for anything that parsers could read differently."""
    if len(uri) > _MOST or not uri.isascii() or any(character in uri for character in '\\"<>^`{|} \t\r\n\0'):
        return None
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if not parts.scheme or parts.scheme.lower() in _FORBIDDEN_SCHEMES:
        return None
    if parts.scheme.lower() in {"http", "https"} and not parts.netloc:
        return None
    if "#" in uri or "@" in parts.netloc:
        return None
    return parts


def is_pattern(uri: str) -> bool:
    """Whether a client may register this: an absolute URI whose scheme and last two host labels have no wildcard."""
    parts = _split(uri)
    if parts is None or "*" in parts.scheme or "*" in parts.query:
        return False
    host = parts.netloc.lower().partition(":")[0]
    return "*" not in host or ("**" not in host and "*" not in ".".join(host.split(".")[-2:]) and host.count(".") >= 2)


def is_allowed(uri: str, patterns: list[str]) -> bool:
    """Whether a browser may be sent to `uri`."""
    parts = _split(uri)
    if parts is None or "*" in uri:
        return False
    segments = re.split(r"/|%2f|%5c", parts.path.lower().replace("%2e", "."))
    if any(segment in {".", ".."} for segment in segments):
        return False
    return any(_matches(parts, pattern) for pattern in patterns)


def _matches(parts: SplitResult, pattern: str) -> bool:
    wanted = _split(pattern)
    if wanted is None or wanted.scheme.lower() != parts.scheme.lower():
        return False
    if not _glob(wanted.netloc.lower(), False).fullmatch(parts.netloc.lower()):
        return False
    # A query that is registered must be there as it is; without one, a client may use the query for itself.
    if wanted.query and wanted.query != parts.query:
        return False
    return _glob(wanted.path or "/", True).fullmatch(parts.path or "/") is not None


@lru_cache(maxsize=1024)
def _glob(pattern: str, is_path: bool) -> re.Pattern[str]:
    single = "[^/]*" if is_path else "[^.:/]+"
    pieces = [re.escape(piece) for piece in re.split(r"\*\*|\*", pattern)]
    stars = re.findall(r"\*\*|\*", pattern)
    text = pieces[0]
    for star, piece in zip(stars, pieces[1:], strict=True):
        text += (".*" if star == "**" and is_path else single) + piece
    # `/**` covers the directory itself, too.
    return re.compile(text.removesuffix("/.*") + "(?:/.*)?" if text.endswith("/.*") else text)


def with_parameters(uri: str, parameters: dict[str, str | None]) -> str:
    """`uri` with query parameters added; those that are None are left out."""
    parts = urlsplit(uri)
    query = parse_qsl(parts.query, keep_blank_values=True)
    query += [(key, value) for key, value in parameters.items() if value is not None]
    return urlunsplit(parts._replace(query=urlencode(query)))


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, as the Origin header has it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
