"""Replays the calls of a command against a platform, as the CLI makes them, and checks what it would read."""

import contextlib
import re
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.cli_contract import bodies
from tests.cli_contract.book import Book, Call, Each, Step, Use
from tests.cli_contract.shapes import claims
from tests.cli_contract.traps import traps
from tests.cli_contract.wire import Answer, Wire

__all__ = ["Broken", "Replayer", "fill", "pick"]

PLACE = re.compile(r"\{([a-z][a-z0-9_. ]*)\}")
POLL = 0.1
"""Seconds between polls; the CLI waits three."""
LIMIT = 60.0
"""Seconds after which a poll that does not see what it waits for has failed."""

Values = dict[str, Any]


class Broken(AssertionError):  # says what is broken in the contract
    """The platform does not answer as the CLI needs it."""


class _Nothing:
    """What is found where nothing is."""

    def __repr__(self) -> str:
        return "nothing"


class Replayer:
    """Replays commands; one that others build on is replayed once, unless they ask for a fresh one."""

    def __init__(self, book: Book, port: int, base: Mapping[str, Any]) -> None:
        self._book = book
        self._wire = Wire(port)
        self._base = dict(base)
        self._shared: dict[str, Values | Exception] = {}
        self._number = 0

    def close(self) -> None:
        self._wire.close()

    def shared(self, name: str) -> Values:
        """The values that a command left, which is replayed now if it was not yet."""
        if name not in self._shared:
            try:
                self._shared[name] = self.run(name, {})
            except Exception as problem:
                self._shared[name] = problem
                raise
        found = self._shared[name]
        if isinstance(found, Exception):
            raise Broken(f"{name}, which comes first, failed: {str(found).splitlines()[0]}")
        return dict(found)

    def run(self, name: str, outer: Values) -> Values:
        """Replay a command; what it was given and what it kept. `outer` goes before what came with earlier commands."""
        command = self._book.commands[name]
        self._number += 1
        number = str(self._number)
        values: Values = dict(self._base)
        for use in command.after:
            values |= _renamed(self.shared(use.command), use)
        values |= outer
        values |= {key: fill(text.replace("#", number), values) for key, text in command.given.items()}
        for use in command.fresh:
            values |= _renamed(self._news(use, values), use)
        self.replay_steps(f"{name}, before", command.prepare, values)
        try:
            self.replay_steps(name, (*command.calls, *command.see), values)
        finally:
            self.replay_steps(f"{name}, afterwards", command.restore, values)
        return values

    def replay_steps(self, name: str, steps: Iterable[Step], values: Values) -> None:
        """Make the calls in order; `name` is what errors say. What is kept goes into `values`."""
        for step in steps:
            self._step(name, step, values)

    def _news(self, use: Use, values: Values) -> Values:
        """What a fresh run of a command adds or changes."""
        after = self.run(use.command, values)
        return {key: value for key, value in after.items() if key not in values or values[key] is not value}

    def _step(self, name: str, step: Step, values: Values) -> None:
        if isinstance(step, Each):
            for value in values[step.among]:
                for inner in step.calls:
                    self._step(name, inner, values | {step.name: value})
            return None
        if any(values.get(key) == wanted for key, wanted in step.spec.get("unless", {}).items()):
            return None
        deadline = time.monotonic() + LIMIT
        while True:
            if step.url.startswith("http://"):
                self._visit(step, values)
            answer = self._call(name, step, values)
            if "until" not in step.spec or _met(answer, step.spec["until"], values):
                return self._final(name, step, answer, values)
            if time.monotonic() > deadline:
                raise Broken(f"{name}: {step.method} {step.url}: not {step.spec['until']} in {LIMIT} s: {answer}")
            time.sleep(POLL)

    def _visit(self, call: Call, values: Values) -> None:
        """Wait for the router to hear of the app, which is soon after the CLI does."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            if self._wire.send(call.method, fill(call.url, values), {}, None).status == call.status:
                return
            time.sleep(POLL)

    def _call(self, name: str, call: Call, values: Values) -> Answer:
        """Send one request; what holds for each of its answers is checked, what is to be kept is kept."""
        target, url = locate(call.url, values)
        if call.method != "GET":
            values.pop("location", None)
        content, body = bodies.build(call.spec, values, fill)
        answer = self._wire.send(call.method, url, self._headers(target, call.spec, values) | content, body)
        if answer.status != call.status:
            problems = [f"{answer.status} instead of {call.status}"]
        else:
            problems = list(traps(answer, target)) or list(self._shape_problems(call, answer))
            problems += [] if problems else self._order_problems(call, answer)
        if problems:
            lines = "\n  ".join(problems)
            raise Broken(f"{name}: {call.method} {url}\n  {lines}\n  sent: {body!r:.2000}\n  answered: {answer}")
        if "Location" in answer.headers:
            values["location"] = answer.headers["Location"]
        for key, path in call.spec.get("keep", {}).items():
            with contextlib.suppress(LookupError):
                values[key.removeprefix("maybe ")] = pick(answer, fill(path, values))
        return answer

    def _shape_problems(self, call: Call, answer: Answer) -> Iterator[str]:
        if not call.shape:
            return
        if answer.document is None:
            yield f"no JSON, but {answer.headers.get('Content-Type')}"
            return
        yield from self._book.shapes.problems(answer.document, call.shape)
        for included, shape in call.spec.get("includes", {}).items():
            if included not in answer.document.get("included", {}):
                yield f"included.{included} is missing, even an empty list must be there"
            else:
                value = answer.document["included"][included]
                yield from self._book.shapes.problems(value, f"list of {shape}", f"included.{included}")

    def _order_problems(self, call: Call, answer: Answer) -> Iterator[str]:
        if "increasing" in call.spec:
            found = [int(one) for one in _found(answer, call.spec["increasing"]) or []]
            if sorted(set(found)) != found:
                yield f"{call.spec['increasing']} does not increase"

    def _final(self, name: str, call: Call, answer: Answer, values: Values) -> None:
        """What holds for the last answer of a call, when there are several."""
        for path, wanted in call.spec.get("is", {}).items():
            found, wanted = _found(answer, fill(path, values)), fill(wanted, values)
            if found != wanted:
                raise Broken(f"{name}: {call.method} {call.url}: {path} is {found!r}, not {wanted!r}: {answer}")
        for path, pattern in call.spec.get("matches", {}).items():
            found = _found(answer, fill(path, values))
            if not isinstance(found, str) or not re.search(fill(pattern, values), found):
                raise Broken(f"{name}: {call.method} {call.url}: {path} is {found!r}, not like {pattern!r}: {answer}")
        for key, path in call.spec.get("keep", {}).items():
            if not key.startswith("maybe ") and isinstance(_found(answer, fill(path, values)), _Nothing):
                raise Broken(f"{name}: {call.method} {call.url} has no {path}: {answer}")

    def _headers(self, target: str, spec: Mapping[str, Any], values: Values) -> dict[str, str]:
        headers = dict(self._book.headers[target])
        authorization = fill(spec.get("auth", "bearer {token}" if target != "app" else None), values)
        if authorization is not None:
            headers["Authorization"] = authorization
        merged = headers | spec.get("headers", {})
        return {name: value for name, value in merged.items() if value is not None}


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """Placeholders replaced, also deep inside; one that is alone keeps the type of its value."""
    if isinstance(value, dict):
        return {fill(key, values): fill(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, values) for inner in value]
    if not isinstance(value, str):
        return value
    if alone := PLACE.fullmatch(value):
        return values[alone[1]]
    return PLACE.sub(lambda place: str(values[place[1]]), value)


def locate(url: str, values: Mapping[str, Any]) -> tuple[str, str]:
    """The part of the platform that is asked, and the absolute URL, encoded as Go's net/url does."""
    if url.startswith("http://"):
        return "app", fill(url, values)
    target, base = "controller", values["api"]
    if url.startswith("{"):
        target, _, url = url[1:].partition("}")
        base = values[target]
        target = target if target in {"uaa", "login", "log_cache", "routing", "network_policy"} else "controller"
    path, _, query = url.partition("?")
    path = PLACE.sub(lambda place: urllib.parse.quote(str(values[place[1]]), safe=""), path)
    pairs = [pair.partition("=") for pair in query.split("&")] if query else []
    encoded = "&".join(f"{urllib.parse.quote_plus(key)}={_parameter(key, text, values)}" for key, _, text in pairs)
    return target, base + path + (f"?{encoded}" if encoded else "")


def _parameter(key: str, text: str, values: Mapping[str, Any]) -> str:
    def written(place: re.Match[str]) -> str:
        value = values[place[1]]
        items = [str(one) for one in (value if isinstance(value, list) else [value])]
        # A comma inside a name is encoded once more than everything else: (g) 8 of the reference.
        return ",".join(one.replace(",", "%2C") if key == "names" else one for one in items)

    return urllib.parse.quote_plus(PLACE.sub(written, text))


def pick(answer: Answer, path: str) -> Any:
    """A part of an answer. A path is `header NAME [query PARAMETER]`, `body` (bytes), `text`, or steps through the JSON divided by dots:
    a field, an index, `*` for all, `FIELD=VALUE` (or `FIELD/FIELD=VALUE`) for the first such item, `jwt` for the claims of a token; a number of
    nanoseconds may be added behind it. Raises `LookupError`."""
    if path == "body":
        return answer.body
    if path == "text":
        return answer.body.decode()
    if path.startswith("header "):
        name, _, parameter = path.removeprefix("header ").partition(" query ")
        value = answer.headers[name]
        if value is None:
            raise LookupError(path)
        return urllib.parse.parse_qs(urllib.parse.urlsplit(value).query)[parameter][0] if parameter else value
    steps, _, summand = path.partition(" ")
    found = _walk(answer.document, steps.split(".") if steps else [])
    return int(found) + int(summand.replace(" ", "")) if summand else found


def _walk(value: Any, steps: list[str]) -> Any:
    for at, step in enumerate(steps):
        if step == "*":
            return [_walk(one, steps[at + 1 :]) for one in value]
        if step == "jwt":
            value = claims(value)
        elif isinstance(value, list):
            value = _member(value, step)
        elif isinstance(value, dict):
            value = value[step]
        else:
            raise LookupError(step)
    return value


def _member(items: list[Any], step: str) -> Any:
    if "=" in step:
        field, _, wanted = step.partition("=")
        found = [one for one in items if str(_walk(one, field.split("/"))) == wanted]
        return found[0]
    return items[int(step)]


def _found(answer: Answer, path: str) -> Any:
    try:
        return pick(answer, path)
    except LookupError:
        return _Nothing()


def _met(answer: Answer, until: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    for path, wanted in fill(dict(until), values).items():
        found = _found(answer, path)
        if found != wanted and not (isinstance(wanted, list) and wanted and found in wanted):
            return False
    return True


def _renamed(values: Values, use: Use) -> Values:
    if use.renamed is None:
        return values
    old, new = use.renamed
    return {re.sub(rf"^{re.escape(old)}(?=\.|$)", new, key): value for key, value in values.items()}
