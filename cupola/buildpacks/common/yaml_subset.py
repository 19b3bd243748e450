"""The part of YAML that buildpacks write: Procfile, release output, launch.yml, config.yml, Staticfile.

The builder runs in a container that has nothing but Python's standard library. Read are block and flow mappings and
sequences, plain and quoted scalars, literal and folded blocks, comments and one document. Anchors, tags and merge keys
are refused. JSON is a part of it.
"""

import re
from typing import Any, NoReturn

__all__ = ["YamlError", "load"]

_KEY = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^ \t#&*!|>%@`"'\[\]{},][^#]*?|\?[^#]*?)[ \t]*:(?=[ \t]|$)""")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+][0-9]+)?")
_BLOCK = re.compile(r"([|>])([-+]?)([1-9]?)([-+]?)[ \t]*(#.*)?$")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "e": "\x1b", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_COLON = re.compile(r":(?=[ \t]|$|[,\]}])")
_BLANK = " \t"
"""White space of YAML; other white space is text."""
_MAX_DEPTH = 50


class YamlError(ValueError):
    """The text is no YAML, or more of it than this reads; the message names the line."""


def load(text: str) -> Any:
    """The document as dicts, lists, strings, numbers, booleans and None; keys are always strings. Raises YamlError."""
    return _Reader(text).document()


class _Reader:
    def __init__(self, text: str) -> None:
        self.lines = re.split(r"\r\n|\n|\r", text.lstrip("\ufeff"))
        self.at = 0
        self.depth = 0

    def fail(self, problem: str) -> NoReturn:
        raise YamlError(f"line {self.at + 1}: {problem}")

    def peek(self) -> tuple[int, str] | None:
        """Indent and text of the next line that says something, or None."""
        while self.at < len(self.lines):
            line = self.lines[self.at]
            stripped = line.strip(_BLANK)
            if not stripped or stripped.startswith("#"):
                self.at += 1
                continue
            indent = len(line) - len(line.lstrip(" "))
            if line[indent] == "\t":
                self.fail("a tab is used to indent")
            return indent, line[indent:].rstrip(_BLANK)
        return None

    def document(self) -> Any:
        found = self.peek()
        while found and found[1].startswith("%"):
            self.at += 1
            found = self.peek()
        if found and re.match(r"---([ \t]|$)", found[1]):
            rest = found[1][3:].strip(_BLANK)
            self.lines[self.at] = rest
            found = self.peek()
        value = self.node(0) if found and not _ends(found) else None
        found = self.peek()
        if found and not _ends(found):
            self.fail("the text goes on where the document has ended")
        return value

    def node(self, least: int) -> Any:
        found = self.peek()
        if found is None or found[0] < least or _ends(found):
            return None
        indent, text = found
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail("too deeply nested")
        try:
            if text == "-" or text.startswith("- "):
                return self.sequence(indent)
            if _KEY.match(text):
                return self.mapping(indent)
            return self.scalar(text, indent)
        finally:
            self.depth -= 1

    def sequence(self, indent: int) -> list[Any]:
        items: list[Any] = []
        while (found := self.peek()) and found[0] == indent and (found[1] == "-" or found[1].startswith("- ")):
            rest = found[1][1:]
            inner = rest.lstrip(" ")
            if not inner or inner.startswith("#"):
                self.at += 1
                items.append(self.node(indent + 1))
            else:
                column = indent + 1 + len(rest) - len(inner)
                if inner.startswith("- ") or _KEY.match(inner):
                    self.lines[self.at] = " " * column + inner
                    items.append(self.node(column))
                else:
                    items.append(self.scalar(inner, indent))
        if (found := self.peek()) and found[0] > indent:
            self.fail("unexpected indentation")
        return items

    def mapping(self, indent: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        while (found := self.peek()) and found[0] == indent and not _ends(found):
            text = found[1]
            match = _KEY.match(text)
            if not match:
                self.fail("expected `key: value`")
            key = self.key(match[1])
            if key in result:
                self.fail(f"the key {key!r} is there twice")
            rest = text[match.end() :].strip(_BLANK)
            if not rest or rest.startswith("#"):
                self.at += 1
                result[key] = self.below(indent)
            else:
                result[key] = self.scalar(rest, indent)
        if (found := self.peek()) and found[0] > indent:
            self.fail("unexpected indentation")
        return result

    def below(self, indent: int) -> Any:
        found = self.peek()
        if found and found[0] == indent and (found[1] == "-" or found[1].startswith("- ")):
            return self.sequence(indent)
        return self.node(indent + 1)

    def key(self, text: str) -> str:
        if text.startswith("? "):
            self.fail("complex keys are not read")
        if text[0] in "\"'":
            return self.quoted(text, 0)[0]
        return text

    def scalar(self, text: str, indent: int) -> Any:
        """A value that begins on this line; goes over the lines that belong to it."""
        if match := _BLOCK.match(text):
            return self.block(match, indent)
        if text[0] in "&*!":
            self.fail("anchors, aliases and tags are not read")
        if text[0] in "\"'[{":
            return self.spanning(text)
        self.at += 1
        parts = [_uncommented(text)]
        while (found := self.peek()) and found[0] > indent and not _ends(found):
            if _KEY.match(found[1]):
                self.fail("mapping values are not allowed here")
            parts.append(_uncommented(found[1]))
            self.at += 1
        plain = " ".join(parts)
        if re.search(r":([ \t]|$)", plain):
            self.at -= 1
            self.fail("`: ` inside a value: put the value in quotes")
        if plain[:1] in ("%", "@", "`"):
            self.at -= 1
            self.fail(f"a value cannot begin with {plain[0]}: put it in quotes")
        return _plain(plain) if len(parts) == 1 else plain

    def spanning(self, text: str) -> Any:
        """A quoted or flow value; lines are joined until it is complete."""
        start = self.at
        while True:
            try:
                value, end = self.quoted(text, 0) if text[0] in "\"'" else self.flow(text, 0, 0)
            except _Incomplete:
                self.at += 1
                if self.at >= len(self.lines):
                    self.at = start
                    self.fail("a quote or bracket is not closed")
                text += " " + self.lines[self.at].strip(_BLANK)
                continue
            rest = text[end:].strip(_BLANK)
            if rest and not rest.startswith("#"):
                self.fail(f"unexpected {rest[:20]!r} after the value")
            self.at += 1
            return value

    def quoted(self, text: str, at: int) -> tuple[str, int]:
        quote, parts, i = text[at], [], at + 1
        while i < len(text):
            char = text[i]
            if char == quote:
                if quote == "'" and text[i + 1 : i + 2] == "'":
                    parts.append("'")
                    i += 2
                    continue
                return "".join(parts), i + 1
            if char == "\\" and quote == '"':
                piece, i = self.escape(text, i + 1)
                parts.append(piece)
                continue
            parts.append(char)
            i += 1
        raise _Incomplete

    def escape(self, text: str, i: int) -> tuple[str, int]:
        if i >= len(text):
            raise _Incomplete
        width = {"x": 2, "u": 4, "U": 8}.get(text[i])
        if width:
            try:
                return chr(int(text[i + 1 : i + 1 + width], 16)), i + 1 + width
            except (ValueError, OverflowError):
                self.fail("an escape is not valid")
        return _ESCAPES.get(text[i], text[i]), i + 1

    def flow(self, text: str, at: int, depth: int) -> tuple[Any, int]:
        if depth > _MAX_DEPTH:
            self.fail("too deeply nested")
        at = _skip_blank(text, at)
        if at >= len(text):
            raise _Incomplete
        if text[at] in "\"'":
            return self.quoted(text, at)
        if text[at] == "[":
            return self.flow_list(text, at + 1, depth)
        if text[at] == "{":
            return self.flow_map(text, at + 1, depth)
        end = at
        while end < len(text) and text[end] not in ",]}" and not _COLON.match(text, end):
            end += 1
        return _plain(text[at:end].strip(_BLANK)), end

    def flow_list(self, text: str, at: int, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        while True:
            at = _skip_blank(text, at)
            if at >= len(text):
                raise _Incomplete
            if text[at] == "]":
                return items, at + 1
            value, at = self.flow(text, at, depth + 1)
            items.append(value)
            at = self.separator(text, at, "]")

    def flow_map(self, text: str, at: int, depth: int) -> tuple[dict[Any, Any], int]:
        result: dict[Any, Any] = {}
        while True:
            at = _skip_blank(text, at)
            if at >= len(text):
                raise _Incomplete
            if text[at] == "}":
                return result, at + 1
            quoted = text[at] in "\"'"
            key, after = self.flow(text, at, depth + 1)
            key = key if quoted else text[at:after].strip(_BLANK)
            at = _skip_blank(text, after)
            if at >= len(text):
                raise _Incomplete
            value = None
            if text[at] == ":":
                value, at = self.flow(text, at + 1, depth + 1)
            result[key] = value
            at = self.separator(text, at, "}")

    def separator(self, text: str, at: int, closing: str) -> int:
        at = _skip_blank(text, at)
        if at >= len(text):
            raise _Incomplete
        if text[at] == ",":
            return at + 1
        if text[at] != closing:
            self.fail(f"expected , or {closing} before {text[at:][:20]!r}")
        return at

    def block(self, match: re.Match[str], indent: int) -> str:
        self.at += 1
        chomp = match[2] or match[4]
        width = indent + int(match[3]) if match[3] else None
        lines = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.strip(_BLANK):
                column = len(line) - len(line.lstrip(" "))
                if width is None:
                    width = column
                if column < width or column <= indent:
                    break
            lines.append(line[width or 0 :] if line.strip(_BLANK) else "")
            self.at += 1
        kept = len(lines)
        while kept and not lines[kept - 1]:
            kept -= 1
        trailing = "\n" * (len(lines) - kept)
        body = "\n".join(lines[:kept]) if match[1] == "|" else _folded(lines[:kept])
        if chomp == "-" or not body:
            return body
        return body + "\n" + (trailing if chomp == "+" else "")


class _Incomplete(Exception):
    """More lines are needed."""


def _ends(found: tuple[int, str]) -> bool:
    return found[0] == 0 and re.match(r"(---|\.\.\.)([ \t]|$)", found[1]) is not None


def _skip_blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t":
        at += 1
    return at


def _uncommented(text: str) -> str:
    match = re.search(r"[ \t]#", text)
    return text[: match.start()].rstrip(_BLANK) if match else text


def _folded(lines: list[str]) -> str:
    result = ""
    for number, line in enumerate(lines):
        if number == 0:
            result = line
        elif not line:
            result += "\n"
        elif result.endswith("\n") or line.startswith(" "):
            result += ("" if result.endswith("\n") else "\n") + line
        else:
            result += " " + line
    return result


def _plain(text: str) -> Any:
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) < 1000 else text
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
