"""The verbs: an Operation is one row of the API's table, and a Call is one use of it.

Three shapes of work (design.md section 5). *Plain*: `run` is a function that works in one thread, in one transaction.
*Stream*: `stream` is a coroutine function that reads or writes the body itself and asks for transactions as it needs.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import ColumnElement, Row
from starlette.requests import Request
from starlette.responses import Response

from cupola.config import Settings
from cupola.rest.message import Message
from cupola.rest.query import Query
from cupola.rest.resource import Fields, Resource, World
from cupola.roles import Actor
from cupola.store.database import Database, Tx

__all__ = [
    "Accepted",
    "Call",
    "Early",
    "Listing",
    "Operation",
    "Parameter",
    "Reply",
    "Services",
    "StreamCall",
    "create",
    "delete",
    "list_",
    "show",
    "update",
]

RowT = TypeVar("RowT")
BodyT = TypeVar("BodyT")
T = TypeVar("T")


@dataclass
class Services:
    """What operations may use besides the database; made by hand in processes/controller.py."""

    settings: Settings
    database: Database
    authenticate: Callable[[str | None], Actor]
    """Authorization header to actor. Raises 401."""
    wait_for_job: Callable[[str, float], Awaitable[None]]
    """Return when the job ended or the seconds are over."""
    blobs: Any = None
    """blobs.store.LocalStore."""
    resources: Any = None
    """blobs.resources.ResourcePool."""
    metrics: Any = None
    """Latest metrics by instance guid (runtime/feed.py)."""
    app_log: Any = None
    """logs.writer.AppLog: API lines in an app's log stream."""
    secret_key: bytes = b""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Call(Generic[RowT, BodyT]):
    """One request on its way through an operation."""

    tx: Tx
    actor: Actor
    row: RowT
    """The row that `{guid}` names, visible to the actor."""
    body: BodyT
    query: Query
    path: Mapping[str, str]
    services: Services
    operation: "Operation"
    request_id: str = ""
    document: Any = None
    """The decoded body, where no message was declared."""
    raw_body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers, names in lower case."""
    warnings: list[str] = field(default_factory=list)
    """Sentences for the X-Cf-Warnings header."""

    @property
    def settings(self) -> Settings:
        return self.services.settings

    def world(self, *, single: bool = True) -> World:
        """What views need."""
        return World(self.tx, self.actor, self.settings.api_url, single, extra=self.services)

    def present(self, resource: Resource, row: Row[Any]) -> Any:
        """One row as the API shows it."""
        return present(self.world(), resource, [row])[0]


@dataclass(frozen=True)
class Early:
    """A request before its work: who asks, and the body, which is not yet checked (None where it is no JSON)."""

    actor: Actor
    document: Any
    services: Services
    read: Callable[[Callable[[Tx], Any]], Awaitable[Any]]
    """Run a function in a read transaction on a worker thread."""


@dataclass(frozen=True)
class Reply:
    """An answer that is not simply a row. `body` is JSON-encodable, None for an empty body, or bytes as they are."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    early: bool = False
    """It says "not yet", and whoever got it would ask again: clients poll every three seconds."""


@dataclass(frozen=True)
class Accepted:
    """202 with the Location of a job."""

    job_guid: str


@dataclass(frozen=True)
class Parameter:
    """A query parameter of an operation that is not a list."""

    name: str
    doc: str = ""
    values: tuple[str, ...] = ()
    required: bool = False
    quiet: bool = False
    """It works, and errors do not name it (resource.py: Filter.quiet)."""


@dataclass(frozen=True)
class Listing:
    """A list of `resource`, perhaps only those `within` the row that the path names."""

    resource: Resource
    within: Callable[[Any], ColumnElement[bool]] | None = None
    """Bound parent row to condition; must bind its values as parameters named "parent" (see `list_`)."""
    filters: Sequence[str] | None = None
    """Names of the resource's filters that this list takes; default all."""
    includes: bool = True
    order_by: Sequence[str] | None = None
    quiet: Sequence[str] = ()
    """Parameters of the resource that this list takes as well, but does not name (resource.py: Filter.quiet)."""


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation. Everything but method, path and what runs has a usual value."""

    method: str
    path: str
    run: Callable[[Call[Any, Any]], Any] | None = None
    stream: Callable[["StreamCall"], Awaitable[Response]] | None = None
    listing: Listing | None = None
    target: Resource | None = None
    """Resource that `{guid}` names: loaded, or 404, before `run`."""
    target_parameter: str = "guid"
    returns: Resource | None = None
    """Resource of the row that `run` returns; default the target."""
    body: type[Message] | None = None
    bodies: Sequence[type[Message]] = ()
    """What the body may be, where `run` parses it itself (for the description)."""
    bells: Sequence[str] = ()
    """What rings when an early answer (Reply) may have become a final one; such an answer is held back for a while."""
    before: Callable[["Early"], Awaitable[None]] | None = None
    """Awaited before the work, when no connection is held: it may ask other servers for what the rules will need."""
    allow: Callable[[Call[Any, Any]], None] | None = None
    """Raises 403 (or what the rule says) unless the actor may."""
    status: int = 200
    auth: Literal["bearer", "optional", "none"] = "bearer"
    scopes: frozenset[str] | None = None
    """Any of these; default by method."""
    writes: bool | None = None
    """Whether a write transaction is opened; default by method."""
    query: Sequence[Parameter] = ()
    query_status: int | None = None
    """400 or 422 when unknown parameters are refused."""
    includes: Sequence[str] | None = None
    fields: Sequence[Fields] = ()
    """What `fields[...]` may ask for; default none."""
    job: bool = False
    doc: str = ""
    produces: str = "application/json"
    """Media type of the answer; empty where there is no body."""
    consumes: str = "application/json"
    shape: Any = None
    """TypedDict of the answer, where it is no resource."""
    deprecated: bool = False

    @property
    def opens_write(self) -> bool:
        """Whether the work happens in a write transaction."""
        return self.method not in {"GET", "HEAD"} if self.writes is None else self.writes

    @property
    def description(self) -> str:
        """What OpenAPI says of it: the first paragraph of the docstring of what runs."""
        text = self.doc or (self.run.__doc__ if self.run else None) or (self.stream.__doc__ if self.stream else None)
        return " ".join((text or "").strip().split("\n\n")[0].split())


class StreamCall:
    """A request whose body is a stream: transactions are asked for one by one, before a byte is accepted."""

    def __init__(
        self,
        request: Request,
        operation: Operation,
        actor: Actor | None,
        path: Mapping[str, str],
        services: Services,
        work: Callable[[Callable[[], Any]], Awaitable[Any]],
        request_id: str = "",
    ) -> None:
        self.request_id = request_id
        self.request = request
        self.operation = operation
        self.actor = actor
        self.path = path
        self.services = services
        self._work = work

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a blocking function on a worker thread."""
        return await self._work(lambda: function(*arguments))  # type: ignore[no-any-return]  # the thread gives what the function gives

    async def read(self, function: Callable[[Tx], T]) -> T:
        """Run `function` in a read transaction on a worker thread."""

        def work() -> T:
            with self.services.database.read() as tx:
                return function(tx)

        return await self._work(work)  # type: ignore[no-any-return]  # as above

    async def write(self, function: Callable[[Tx], T]) -> T:
        """Run `function` in a write transaction on a worker thread."""

        def work() -> T:
            with self.services.database.write() as tx:
                return function(tx)

        return await self._work(work)  # type: ignore[no-any-return]  # as above


def present(world: World, resource: Resource, rows: Sequence[Row[Any]]) -> list[Any]:
    """Rows as the API shows them; what they need is loaded once for all of them."""
    related = {name: load(world, rows) for name, load in resource.related.items()} if rows else {}
    world = World(world.tx, world.actor, world.api, world.single, related, world.extra)
    view = resource.view
    return [view(row, world) for row in rows]


def list_(
    resource: Resource,
    *,
    path: str | None = None,
    parent: Resource | None = None,
    within: Callable[[Any], ColumnElement[bool]] | None = None,
    filters: Sequence[str] | None = None,
    includes: bool = True,
    order_by: Sequence[str] | None = None,
    quiet: Sequence[str] = (),
    allow: Callable[[Call[Any, Any]], None] | None = None,
    query_status: int | None = None,
    auth: Literal["bearer", "optional", "none"] = "bearer",
    doc: str = "",
) -> Operation:
    """GET a page of a resource. With `parent`, `within` maps bindparam("parent") (its guid) to a condition."""
    return Operation(
        "GET",
        path or resource.path,
        listing=Listing(resource, within, filters, includes, order_by, quiet),
        target=parent,
        returns=resource,
        allow=allow,
        auth=auth,
        query_status=query_status or resource.query_status,
        doc=doc or f"List {resource.name.replace('_', ' ')}s.",
    )


def show(resource: Resource, *, path: str | None = None, **more: Any) -> Operation:
    """GET one resource by guid."""
    if resource.includes and "includes" not in more:
        more["includes"] = [include.name for include in resource.includes]
    if resource.fields:
        more.setdefault("fields", [one.of_one for one in resource.fields])
    return Operation(
        "GET",
        path or resource.path + "/{guid}",
        target=resource,
        **{"run": _row_itself, "doc": f"Get one {resource.name.replace('_', ' ')}.", **more},
    )


def _row_itself(call: Call[Any, Any]) -> Any:
    return call.row


def create(
    resource: Resource,
    body: type[Message],
    run: Callable[[Call[Any, Any]], Any],
    *,
    path: str | None = None,
    **more: Any,
) -> Operation:
    """POST a new resource; `run` returns its row."""
    return Operation("POST", path or resource.path, run=run, body=body, returns=resource, **{"status": 201, **more})


def update(
    resource: Resource,
    body: type[Message],
    run: Callable[[Call[Any, Any]], Any],
    *,
    path: str | None = None,
    **more: Any,
) -> Operation:
    """PATCH a resource; `run` returns its row as it is now."""
    return Operation("PATCH", path or resource.path + "/{guid}", run=run, body=body, target=resource, **more)


def delete(
    resource: Resource, run: Callable[[Call[Any, Any]], Any], *, path: str | None = None, job: bool = True, **more: Any
) -> Operation:
    """DELETE a resource; `run` returns Accepted (a job), or None for 204."""
    status = 202 if job else 204
    return Operation(
        "DELETE", path or resource.path + "/{guid}", run=run, target=resource, job=job, **{"status": status, **more}
    )
