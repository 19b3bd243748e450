"""What the static server makes rather than reads: directory listings and server-side includes."""

import html
import os
import re
import time
import urllib.parse

_DIRECTIVE = re.compile(rb"<!--#\s*(\w+)\s*(.*?)\s*-->", re.DOTALL)
_ATTRIBUTE = re.compile(rb"""(\w+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_MAX_DEPTH = 10


def listing(directory, path, dots):
    """An HTML page with links to what is in a directory."""
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
        f"<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title></head>\n"
        f"<body><h1>{title}</h1><hr><pre>{body}\n</pre><hr></body></html>\n"
    ).encode()


def expand(content, variables, load, depth=0):
    """Server-side includes: include (virtual, file), echo (var, default, encoding), set (var, value).

    `load(path)` gives the bytes of a page of the site, or None.
    """

    def replace(match):
        name = match[1].decode("ascii", "replace")
        attributes = {a[0].decode().lower(): (a[1] or a[2]).decode("utf-8", "replace") for a in _ATTRIBUTE.findall(match[2])}
        if name == "include":
            path = attributes.get("virtual") or attributes.get("file") or ""
            page = load(path) if path and depth < _MAX_DEPTH else None
            return b"[an error occurred while processing the directive]" if page is None else expand(page, variables, load, depth + 1)
        if name == "echo":
            value = variables.get(attributes.get("var", "").lower(), attributes.get("default", "(none)"))
            return (value if attributes.get("encoding") == "none" else html.escape(value)).encode()
        if name == "set":
            variables[attributes.get("var", "").lower()] = attributes.get("value", "")
            return b""
        return b"" if name == "config" else b"[an error occurred while processing the directive]"

    return _DIRECTIVE.sub(replace, content)
