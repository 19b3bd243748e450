"""What the static server makes rather than reads: directory listings and server-side includes."""

import html
import os
import re
import time
import urllib.parse
from collections.abc import Callable, MutableMapping

__all__ = ["expand", "listing"]

_DIRECTIVE = re.compile(rb"<!--#\s*(\w+)\s*(.*?)\s*-->", re.DOTALL)
_ATTRIBUTE = re.compile(rb"""(\w+)\s*=\s*(?:"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)')""")
_CONDITION = re.compile(r"""\$\{?(\w+)\}?(?:\s*(!?=)\s*(.*))?""", re.DOTALL)
_ERROR = b"[an error occurred while processing the directive]"
_MAX_DEPTH = 10


def listing(directory: str, path: str, *, dots: bool) -> bytes:
    """An HTML page with links to what is in a directory. Raises OSError."""
    rows = []
    for name in sorted(os.listdir(directory)):
        if name.startswith(".") and not dots:
            continue
        full = os.path.join(directory, name)
        try:
            found = os.stat(full)
        except OSError:
            continue
        folder = os.path.isdir(full)
        shown = name + ("/" if folder else "")
        date = time.strftime("%d-%b-%Y %H:%M", time.gmtime(found.st_mtime))
        size = "-" if folder else str(found.st_size)
        link = urllib.parse.quote(shown, errors="surrogateescape")
        text = html.escape(shown.encode("utf-8", "replace").decode())
        rows.append(f'<a href="./{link}">{text}</a>{" " * max(51 - len(shown), 1)}{date} {size:>19}')
    title = "Index of " + html.escape(path.encode("utf-8", "replace").decode())
    body = "\n".join(['<a href="../">../</a>', *rows])
    return (
        f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1><hr><pre>{body}\n</pre><hr></body></html>\n"
    ).encode()


def expand(
    content: bytes, variables: MutableMapping[str, str], load: Callable[[str], bytes | None], depth: int = 0
) -> bytes:
    """Server-side includes: include, echo, set, if, elif, else, endif; config has no effect.

    `variables` are by lower-case name; `load(path)` gives the bytes of a page of the site, or None.
    """
    made: list[bytes] = []
    at = 0
    # One entry per open `if`: whether what is around it is shown, whether a branch was taken, whether this one is shown.
    branches: list[tuple[bool, bool, bool]] = []
    for match in _DIRECTIVE.finditer(content):
        shown = branches[-1][2] if branches else True
        if shown:
            made.append(content[at : match.start()])
        at = match.end()
        name = match[1].decode("ascii", "replace").lower()
        attributes = _attributes(match[2])
        if name in ("if", "elif", "else", "endif"):
            if not _branch(branches, name, attributes.get("expr", ""), variables, shown):
                made.append(_ERROR)
        elif shown:
            made.append(_replace(name, attributes, variables, load, depth))
    made.append(content[at:] if not branches or branches[-1][2] else b"")
    return b"".join(made)


def _attributes(text: bytes) -> dict[str, str]:
    found = {}
    for name, double, single in _ATTRIBUTE.findall(text):
        value = (double or single).decode("utf-8", "replace")
        found[name.decode().lower()] = re.sub(r"\\(.)", r"\1", value)
    return found


def _branch(
    branches: list[tuple[bool, bool, bool]], name: str, text: str, variables: MutableMapping[str, str], shown: bool
) -> bool:
    """Note a branch; False when it has no `if`."""
    if name == "if":
        taken = _holds(text, variables)
        branches.append((shown, taken, shown and taken))
        return True
    if not branches:
        return False
    around, taken, _ = branches.pop()
    if name != "endif":
        now = not taken and (name == "else" or _holds(text, variables))
        branches.append((around, taken or now, around and now))
    return True


def _holds(text: str, variables: MutableMapping[str, str]) -> bool:
    """`$name`, `$name = text`, `$name != text`, and `/pattern/` instead of a text."""
    match = _CONDITION.fullmatch(text.strip())
    if not match:
        return False
    value = variables.get(match[1].lower(), "")
    if match[2] is None:
        return value != ""
    wanted = match[3].strip()
    if len(wanted) > 1 and wanted[0] == wanted[-1] == "/":
        try:
            same = re.search(wanted[1:-1], value) is not None
        except re.error:
            same = False
    else:
        same = value == wanted.strip("\"'")
    return same == (match[2] == "=")


def _replace(
    name: str,
    attributes: dict[str, str],
    variables: MutableMapping[str, str],
    load: Callable[[str], bytes | None],
    depth: int,
) -> bytes:
    if name == "include":
        path = attributes.get("virtual") or attributes.get("file") or ""
        page = load(path) if path and depth < _MAX_DEPTH else None
        return _ERROR if page is None else expand(page, variables, load, depth + 1)
    if name == "echo":
        value = variables.get(attributes.get("var", "").lower(), attributes.get("default", "(none)"))
        encoding = attributes.get("encoding", "entity")
        text = value if encoding == "none" else urllib.parse.quote(value) if encoding == "url" else html.escape(value)
        return text.encode("utf-8", "replace")
    if name == "set":
        variables[attributes.get("var", "").lower()] = attributes.get("value", "")
        return b""
    return b"" if name == "config" else _ERROR
