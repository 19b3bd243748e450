"""Query strings: which parameters an operation takes, and what their values mean.

Values are unescaped once more after the query string itself is decoded, so that `%252C` is a comma within a value
(reference/behaviours.md section 2).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qsl, quote, unquote

from cupola import clock, errors
from cupola.errors import CloudError
from cupola.rest.message import humanized
from cupola.store import labels as label_rules

__all__ = ["OPERATORS", "Query", "Requirement", "Timestamps", "parse_selector"]

OPERATORS = ("lt", "lte", "gt", "gte")
MAX_REQUIREMENTS = 50
_ALIASES = {"perPage": "per_page"}
"""The OpenAPI rendering of the API calls it so."""


@dataclass(frozen=True, slots=True)
class Timestamps:
    """A condition on a time: `operator` is empty for equality with any of `values` (microseconds since 1970)."""

    operator: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement of a label selector; `operator` is exists, not_exists, in or not_in."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class Query:
    """The parameters of one request. `status` 400 or 422 is how this operation answers a bad one.

    `allowed` may hold names with brackets (`target_guids[not]`); times and `fields` take brackets without that. `quiet`
    names work as well, but are not told to who gives a wrong one; `aliases` are other words for a name.
    """

    def __init__(
        self,
        raw: bytes,
        allowed: Sequence[str],
        *,
        status: int | None = 400,
        quiet: Collection[str] = (),
        aliases: Mapping[str, str] = _ALIASES,
    ) -> None:
        self.pairs: dict[str, str] = {}
        self._status = status or 400
        if not raw:
            return
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise self.bad("the query string is not valid UTF-8") from None
        pairs = parse_qsl(text, keep_blank_values=True, errors="replace")
        names = {*allowed, *quiet}
        for key, value in pairs:
            self.pairs[_meant(key, names, aliases)] = value
        # A name itself is stronger than another word for it.
        self.pairs.update((key, value) for key, value in pairs if key in names)
        if status is not None:
            self._refuse_unknown(allowed, names)

    def _refuse_unknown(self, allowed: Sequence[str], names: set[str]) -> None:
        unknown = [key for key in self.pairs if key not in names and not _bracketed(key, names)]
        if unknown:
            shown = ", ".join(f"'{name}'" for name in unknown)
            valid = ", ".join(f"'{name}'" for name in allowed if "[" not in name)
            raise self.bad(f"Unknown query parameter(s): {shown}. Valid parameters are: {valid}")

    def bad(self, detail: str) -> CloudError:
        """The error for a bad parameter, as this operation words it."""
        return errors.unprocessable(detail) if self._status == 422 else errors.bad_query(detail)

    def __contains__(self, name: str) -> bool:
        return name in self.pairs

    def get(self, name: str) -> str | None:
        """The value, unescaped, or None."""
        value = self.pairs.get(name)
        return None if value is None else self._unescaped(name, value)

    def _unescaped(self, name: str, value: str) -> str:
        text = unquote(value)
        if "\0" in text:
            raise self.bad(f"{humanized(name)} must not contain the NUL character")
        return text

    def values(self, name: str) -> list[str] | None:
        """A comma list; None when the parameter is missing, `[""]` when it is empty."""
        value = self.pairs.get(name)
        return None if value is None else [self._unescaped(name, part.strip()) for part in value.split(",")]

    def boolean(self, name: str) -> bool | None:
        """`true` or `false`; raises for anything else."""
        value = self.get(name)
        if value is None:
            return None
        if value not in {"true", "false"}:
            raise self.bad(f"{humanized(name)} must be 'true' or 'false'")
        return value == "true"

    def page(self) -> tuple[int, int]:
        """(page, per_page) within their limits."""
        page = self._positive("page", 1)
        per_page = _number(self.pairs.get("per_page", "50"))
        if per_page < 1:
            raise self.bad("Per page must be a positive integer")
        if per_page > 5000:
            raise self.bad("Per page must be between 1 and 5000")
        return page, per_page

    def _positive(self, name: str, default: int) -> int:
        number = _number(self.pairs.get(name, str(default)))
        # A page number that a database cannot count to is refused rather than passed on.
        if not 1 <= number < 2**40:
            raise self.bad(f"{humanized(name)} must be a positive integer")
        return number

    def order(self, allowed: Iterable[str]) -> tuple[str, bool] | None:
        """(column, descending) of order_by, or None."""
        text = self.get("order_by")
        if text is None:
            return None
        name = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+").strip()
        allowed = list(allowed)
        if name not in allowed:
            raise self.bad("Order by can only be: " + ", ".join(f"'{one}'" for one in allowed))
        return name, text.startswith("-")

    def timestamps(self, name: str) -> list[Timestamps]:
        """The conditions that `created_ats` or `updated_ats` puts."""
        found = []
        for key, value in self.pairs.items():
            base, bracket, rest = key.partition("[")
            if base != name:
                continue
            operator = rest.removesuffix("]")
            if bracket and (operator not in OPERATORS or not rest.endswith("]")):
                raise self.bad(f"{humanized(name)} Invalid relational operator: '{operator}'")
            parts = value.split(",")
            if operator and len(parts) > 1:
                raise self.bad(f"{humanized(name)} only accepts one value when using a relational operator")
            found.append(Timestamps(operator, tuple(self._moment(name, part) for part in parts)))
        return found

    def _moment(self, name: str, text: str) -> int:
        try:
            return clock.parse_api(unquote(text))
        except ValueError:
            raise self.bad(
                f"{humanized(name)} has an invalid timestamp format. "
                "Timestamps should be formatted as 'YYYY-MM-DDThh:mm:ssZ'"
            ) from None

    def includes(self, allowed: Sequence[str]) -> list[str]:
        """The resources named by `include`, each at most once."""
        wanted = self.values("include") or []
        for index, name in enumerate(wanted):
            if name not in allowed:
                valid = ", ".join(f"'{one}'" for one in allowed)
                raise self.bad(f"Invalid included resource: '{name}'. Valid included resources are: {valid}")
            if name in wanted[:index]:
                raise self.bad(f"Duplicate included resource: '{name}'")
        return wanted

    def fields(self, allowed: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """The keys asked for by `fields[name]`, by name; `allowed` has the keys that each name takes."""
        found = {}
        for parameter in self.pairs:
            base, bracket, rest = parameter.partition("[")
            if base != "fields":
                continue
            name = rest.removesuffix("]")
            if not bracket or not rest.endswith("]"):
                raise self.bad("Fields must be an object")
            if name not in allowed:
                raise self.bad(f"Fields [{name}] valid resources are: {_listed(allowed)}")
            wanted = self.values(parameter) or []
            if not {*allowed[name]}.issuperset(wanted):
                raise self.bad(f"Fields valid keys for '{name}' are: {_listed(allowed[name])}")
            found[name] = wanted
        return found

    def selector(self) -> list[Requirement]:
        """The requirements of `label_selector`."""
        text = self.get("label_selector")
        if text is None:
            return []
        try:
            return parse_selector(text)
        except ValueError as error:
            raise self.bad(str(error)) from None

    def link(self, path: str, page: int, per_page: int) -> str:
        """`path` with this query at another page: keys sorted, everything but `~` and unreserved escaped."""
        parts = {**self._escaped, "page": f"page={page}", "per_page": f"per_page={per_page}"}
        return f"{path}?{'&'.join(parts[key] for key in sorted(parts))}"

    @cached_property
    def _escaped(self) -> dict[str, str]:
        """The pairs as a link has them: to escape a hundred guids takes longer than to find what they name."""
        return {key: f"{quote(key, safe='')}={_quoted(value)}" for key, value in self.pairs.items()}


def _quoted(value: str) -> str:
    # What needs no escaping is seen at once, but only where there is nothing else in it.
    return "%2C".join(quote(part, safe="") for part in value.split(","))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _meant(key: str, names: set[str], aliases: Mapping[str, str]) -> str:
    meant = aliases.get(key, key)
    return meant if meant in names else key


def _bracketed(key: str, names: set[str]) -> bool:
    base, bracket, _ = key.partition("[")
    return bool(bracket) and base in names and (base == "fields" or base.endswith("_ats"))


def _number(text: str) -> int:
    """A number in plain digits, at most 10**20; 0 for anything else."""
    if not (text.isascii() and text.isdigit()):
        return 0
    return int(text) if len(text) <= 20 else 10**20


def parse_selector(text: str) -> list[Requirement]:
    """Parse a label selector. Raises ValueError with the sentence that the user sees."""
    if not text.strip():
        raise ValueError("Missing label_selector value")
    parts = _split(text)
    if len(parts) > MAX_REQUIREMENTS:
        raise ValueError(f"Too many label_selector requirements (maximum is {MAX_REQUIREMENTS})")
    return [_requirement(part.strip()) for part in parts]


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def _requirement(part: str) -> Requirement:
    words = part.split(None, 2)
    if len(words) >= 2 and words[1].partition("(")[0] in {"in", "notin"}:
        operator, _, listed = part.split(None, 1)[1].partition("(")
        if not listed.rstrip().endswith(")"):
            raise ValueError("Invalid label_selector value")
        values = tuple(value.strip() for value in listed.rstrip()[:-1].split(","))
        return _valid(Requirement(words[0], "in" if operator.strip() == "in" else "not_in", values))
    for token, kind in (("!=", "not_in"), ("==", "in"), ("=", "in")):
        key, found, value = part.partition(token)
        if found:
            return _valid(Requirement(key.strip(), kind, (value.strip(),)))
    if part.startswith("!"):
        return _valid(Requirement(part[1:].strip(), "not_exists"))
    return _valid(Requirement(part, "exists"))


def _valid(requirement: Requirement) -> Requirement:
    bad = list(label_rules.key_problems(requirement.key))
    bad += [problem for value in requirement.values for problem in label_rules.value_problems(value)]
    if bad:
        raise ValueError("Invalid label_selector value")
    return requirement
