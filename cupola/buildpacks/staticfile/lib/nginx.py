"""The directives of nginx snippets (location_include) that the static server honours; anything else ends staging.

Honoured: add_header, expires, error_page, deny all, return, rewrite with `permanent` or `redirect`, and location blocks
(prefix, `=`, `^~`, `~`, `~*`) with those in them. A directive without effect might be the one that protects a page.
"""

import re
from typing import Any

__all__ = ["NginxError", "rules"]

_TOKEN = re.compile(
    r"\s*(?:#[^\n]*|([;{}])|\"((?:\\.|[^\"\\])*)\"|'((?:\\.|[^'\\])*)'|((?:\\.|[^\s;{}\"'\\])+(?:\{\d+(?:,\d*)?\}[^\s;{}]*)*))"
)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000, "y": 31536000}
_VARIABLES = frozenset({"uri", "request_uri", "host", "args", "scheme", *"123456789"})
_KINDS = {"=": "exact", "^~": "strong", "~": "regex", "~*": "iregex"}
_HONOURED = "add_header, expires, error_page, deny all, return, rewrite ... permanent|redirect and location"


class NginxError(ValueError):
    """The text is no nginx configuration, or asks for what the static server cannot do."""


def rules(text: str) -> list[dict[str, Any]]:
    """The rules of a snippet, the one for all paths first.

    Each: `kind` (all, prefix, strong, exact, regex, iregex), `pattern`, `headers`, `codes`, `deny`, `answer` ([status,
    text or URL]), `rewrites` ([pattern, replacement, status]). Raises NginxError.
    """
    found = [_rule("all", "")]
    tokens = _tokens(text)
    if _block(tokens, 0, found[0], found) != len(tokens):
        raise NginxError("there is a } too many")
    return found


def _rule(kind: str, pattern: str) -> dict[str, Any]:
    return {"kind": kind, "pattern": pattern, "headers": {}, "codes": {}, "deny": False, "answer": None, "rewrites": []}


def _tokens(text: str) -> list[str]:
    found = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise NginxError(f"cannot be read at {text[at : at + 20]!r}")
        at = match.end()
        quoted = match[2] if match[2] is not None else match[3]
        if quoted is not None:
            found.append(re.sub(r"\\([\"'\\])", r"\1", quoted))
        elif match[1] or match[4]:
            found.append(match[1] or match[4])
    return found


def _block(tokens: list[str], at: int, rule: dict[str, Any], found: list[dict[str, Any]]) -> int:
    """Read directives up to the end of the block; returns where that is."""
    words: list[str] = []
    while at < len(tokens):
        word = tokens[at]
        at += 1
        if word == ";":
            _directive(words, rule)
            words = []
        elif word == "{":
            inner = _location(words, rule)
            found.append(inner)
            words = []
            at = _block(tokens, at, inner, found)
            if at >= len(tokens):
                raise NginxError("a { is not closed")
            at += 1
        elif word == "}":
            at -= 1
            break
        else:
            words.append(word)
    if words:
        raise NginxError(f"a ; is missing after {' '.join(words)!r}")
    return at


def _location(words: list[str], outer: dict[str, Any]) -> dict[str, Any]:
    if not words or words[0] != "location" or outer["kind"] != "all" or len(words) not in (2, 3):
        raise NginxError(
            f"the block {' '.join(words) or '{'!r} has no effect here: only location blocks have, and not nested ones"
        )
    kind = _KINDS.get(words[1]) if len(words) == 3 else "prefix"
    if kind is None:
        raise NginxError(f"location {words[1]} is not known")
    if kind in ("regex", "iregex"):
        _compiles(words[-1])
    return _rule(kind, words[-1])


def _directive(words: list[str], rule: dict[str, Any]) -> None:
    match words:
        case ["add_header", name, value] | ["add_header", name, value, "always"]:
            rule["headers"][name] = _known(value)
        case ["expires", time]:
            _expires(time, rule)
        case ["error_page", *codes, page] if (
            codes and page.startswith("/") and all(re.fullmatch(r"[345]\d\d", c) for c in codes)
        ):
            rule["codes"].update(dict.fromkeys(codes, page))
        case ["deny", "all"]:
            rule["deny"] = True
        case ["return", status] if re.fullmatch(r"[2-5]\d\d", status):
            rule["answer"] = [int(status), ""]
        case ["return", status, text] if re.fullmatch(r"[2-5]\d\d", status):
            rule["answer"] = [int(status), _known(text)]
        case ["return", url] if url.startswith(("http://", "https://", "/")):
            rule["answer"] = [302, _known(url)]
        case ["rewrite", pattern, replacement, ("permanent" | "redirect") as how]:
            rule["rewrites"].append([_compiles(pattern), _known(replacement), 301 if how == "permanent" else 302])
        case [name, *_]:
            raise NginxError(
                f"the nginx directive {' '.join(words)!r} cannot be honoured ({name}): the static server knows {_HONOURED}"
            )
        case _:
            raise NginxError("there is a ; too many")


def _expires(time: str, rule: dict[str, Any]) -> None:
    match = re.fullmatch(r"(-?\d+)([smhdwMy]?)", time)
    if time == "off":
        return
    if match:
        seconds = int(match[1]) * _UNITS[match[2]]
    elif time in ("epoch", "max"):
        seconds = -1 if time == "epoch" else 315360000
    else:
        raise NginxError(f"expires {time} is no time such as 30d, max, epoch or off")
    rule["headers"]["Cache-Control"] = "no-cache" if seconds < 0 else f"max-age={seconds}"


def _known(text: str) -> str:
    for name in re.findall(r"\$\{?(\w+)", text):
        if name not in _VARIABLES:
            raise NginxError(
                f"the variable ${name} is not known: known are $uri, $request_uri, $host, $args, $scheme, $1 to $9"
            )
    return text


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise NginxError(f"the pattern {pattern} cannot be read: {error}") from None
    return pattern
