"""What holds for every answer whatever the command: the general traps of the CLI's HTTP clients."""

import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

from tests.cli_contract.wire import Answer

__all__ = ["traps"]

ABSOLUTE = re.compile(r"(https?|wss)://\S+")


def traps(answer: Answer, target: str) -> Iterator[str]:
    """What in this answer the CLI would stumble over; `target` is the part of the platform that gave it."""
    yield from _warnings(answer)
    location = answer.headers.get("Location")
    if location is not None and not ABSOLUTE.fullmatch(location):
        yield f"Location is {location!r}: the CLI uses it as it is, so it must be absolute"
    if answer.status == 204 and answer.body:
        yield "204 with a body"
    if answer.status >= 500:
        yield f"the CLI dumps a {answer.status} raw"
    if target == "controller" and not answer.headers.get("X-Vcap-Request-Id"):
        yield "no X-Vcap-Request-Id, which the CLI shows with unexpected errors"
    if answer.status != 204:
        yield from _body(answer)


def _body(answer: Answer) -> Iterator[str]:
    try:
        document = answer.document
    except ValueError as problem:
        yield f"the body is said to be JSON and is not: {problem}"
    else:
        yield from _relative_links(document)


def _warnings(answer: Answer) -> Iterator[str]:
    """Items are separated by commas and query-escaped; a stray % fails the whole request."""
    for line in answer.headers.get_all("X-Cf-Warnings", []):
        for item in line.split(","):
            if re.search(r"%(?![0-9A-Fa-f]{2})", item):
                yield f"X-Cf-Warnings: {item!r} cannot be unescaped"
            elif not urllib.parse.unquote_plus(item).strip():
                yield f"X-Cf-Warnings: an empty warning in {line!r}"


def _relative_links(value: Any, at: str = "") -> Iterator[str]:
    """Pagination and links are followed as they are."""
    if isinstance(value, dict):
        for key, inner in value.items():
            where = f"{at}.{key}".lstrip(".")
            if where == "links.app_ssh":
                continue  # host and port without a scheme, by definition
            if key == "href" and isinstance(inner, str) and inner and not ABSOLUTE.fullmatch(inner):
                yield f"{where}: {inner!r} is not absolute"
            yield from _relative_links(inner, where)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _relative_links(inner, f"{at}.{index}".lstrip("."))
