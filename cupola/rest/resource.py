"""The nouns: a Resource says what a row is called, how it looks, who sees it and how a list of it is asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, Select, Table

from cupola.roles import Actor
from cupola.store.database import Tx

__all__ = ["Embed", "Fields", "Filter", "Include", "Resource", "Visible", "World"]

Visible = Callable[[Actor], ColumnElement[bool] | None]
"""Which rows an actor may see: a condition that names the actor as bindparam("actor"), or None for all rows. Apart from
that it may depend only on what kind of actor it is (reads_everything, reads_secrets, is_admin, anonymous or not)."""


@dataclass
class World:
    """What a view may use besides its row. Views run no queries: `related` was loaded once for the whole page."""

    tx: Tx
    actor: Actor | None
    api: str
    """The API's URL, for links."""
    single: bool
    """Whether one resource is shown, rather than a list."""
    related: dict[str, Any] = field(default_factory=dict)
    extra: Any = None
    """What the process knows and the database does not, such as settings (rest/operation.py: Services)."""

    def link(self, path: str, method: str = "") -> dict[str, str]:
        """A link object; `method` where it is not GET."""
        return {"href": self.api + path, "method": method} if method else {"href": self.api + path}


@dataclass(frozen=True)
class Filter:
    """One list parameter. `match` is a column (value in list) or a function from the bound values to a condition."""

    name: str
    match: ColumnElement[Any] | Callable[..., ColumnElement[bool]]
    kind: Literal["list", "bool", "one"] = "list"
    fold: bool = False
    """Compare in lower case: the column holds lower case."""
    choices: tuple[str, ...] = ()
    """Values that are allowed, where others are an error."""
    convert: Callable[[str], Any] | None = None
    """From the text to the column's type; ValueError matches nothing."""
    doc: str = ""
    excludes: bool = False
    """Also takes `name[not]`, which leaves out."""
    each: bool = False
    """`match` is a function of a single value, asked for each value of a list; any that holds is enough."""
    quiet: bool = False
    """Only a document has it, and no client of upstream's: it works, and errors do not name it."""
    by_actor: bool = False
    """`match` is also given the actor, and may name it as bindparam("actor"): what it looks through is not all visible."""


@dataclass(frozen=True)
class Include:
    """An `include` value: `load` gives the included resources, presented, for the rows of a page."""

    name: str
    key: str
    """The key below `included`."""
    load: Callable[[World, Sequence[Row[Any]]], list[Any]]


@dataclass(frozen=True)
class Fields:
    """What `fields[name]=key,...` adds to an answer: related resources, cut to the keys that were asked for."""

    name: str
    """Path from the resource that is shown: `space.organization`."""
    key: str
    """The key below `included`."""
    keys: tuple[str, ...]
    """The keys that may be asked for, `relationships.x` among them, in the order in which errors list them."""
    load: Callable[[World, Sequence[Row[Any]]], list[dict[str, Any]]]
    """For the rows of a page, objects that have all keys."""

    @property
    def of_one(self) -> "Fields":
        """The same for a single resource, which takes no keys of relationships."""
        return replace(self, keys=tuple(key for key in self.keys if not key.startswith("relationships.")))


@dataclass(frozen=True)
class Embed:
    """An `embed` value: `load` gives, by guid, what is added to each shown resource under this name."""

    name: str
    load: Callable[[World, Sequence[Row[Any]]], Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Resource:
    """A noun of the API. `name` as in messages and operation ids (`space`), `path` of its list (`/v3/spaces`)."""

    name: str
    path: str
    table: Table
    view: Callable[[Row[Any], World], Any]
    """Row to JSON object."""
    visible: Visible
    shape: Any = None
    """A TypedDict that describes what `view` returns (OpenAPI)."""
    title: str = ""
    """As a sentence begins: `Service instance`; default from the name."""
    key: str = "guid"
    """Column that `{guid}` in a path means."""
    filters: Sequence[Filter] = ()
    order_by: Sequence[str] = ("created_at", "updated_at")
    order_columns: Mapping[str, str] = field(default_factory=dict)
    """Columns that sort for a name, where they differ from it."""
    default_order: Sequence[str] = ("id",)
    includes: Sequence[Include] = ()
    embeds: Sequence[Embed] = ()
    fields: Sequence[Fields] = ()
    related: Mapping[str, Callable[[World, Sequence[Row[Any]]], Any]] = field(default_factory=dict)
    """Named loaders of what views need for the rows of a page; each at most a few statements."""
    labels: bool = True
    timestamps: Sequence[str] = ("created_ats", "updated_ats")
    guids: bool = True
    """Whether the list takes `guids`."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other words for list parameters, and what they mean."""
    parameter_order: Sequence[str] = ()
    """Parameters in upstream's order, where it is not filters as they are declared, `include` and `label_selector`."""
    query_status: int = 400
    """Status of the answer to a bad query: 400 code 10005, or 422 code 10008."""
    columns: Callable[[], Select[Any]] | None = None
    """Another base statement than `select(table)`."""

    @property
    def shown(self) -> str:
        """The title in messages: `App not found`."""
        return self.title or self.name.replace("_", " ").capitalize()

    @property
    def parameters(self) -> list[str]:
        """Names of all list parameters, in the order in which errors list them."""
        names = ["page", "per_page", "order_by", *self.timestamps]
        if self.guids:
            names.append("guids")
        own = [one.name for one in self.filters if not one.quiet]
        parts = (("include", self.includes), ("fields", self.fields), ("embed", self.embeds))
        own += [name for name, there in (*parts, ("label_selector", self.labels)) if there]
        first = [name for name in self.parameter_order if name in own]
        return [*names, *first, *(name for name in own if name not in first)]
