"""A make-believe noun, `widget`, over a real SQLite file: rest/ is tested without any resource of the API.

The tables are on a MetaData of their own, so that the schema of the product does not grow in tests.
"""

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import msgspec
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, Row, String, Table, select
from starlette.testclient import TestClient

from cupola import errors
from cupola.bell import Bells
from cupola.config import load
from cupola.rest.dispatch import App
from cupola.rest.message import Message, integer, metadata, nested, string, to_one
from cupola.rest.operation import (
    Accepted,
    Call,
    Operation,
    Reply,
    Services,
    create,
    delete,
    list_,
    present,
    show,
    update,
)
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Include, Resource, World
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Database
from cupola.store.schema import label_index, metadata_columns, resource_columns

tables = MetaData()
boxes = Table("boxes", tables, *resource_columns(), Column("name", String(255), nullable=False))
widgets = Table(
    "widgets",
    tables,
    *resource_columns(),
    *metadata_columns(),
    Column("name", String(255), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False, default=1),
    Column("box_guid", String(255), ForeignKey("boxes.guid"), index=True),
    Column("spare_box_guid", String(255), ForeignKey("boxes.guid")),
    Column("owner", String(255)),
)
parts = Table(
    "parts",
    tables,
    Column("id", Integer, primary_key=True),
    Column("widget_guid", String(255), ForeignKey("widgets.guid"), nullable=False),
    Column("name", String(255), nullable=False),
)


class _Relationships(Message):
    box = to_one()
    spare = to_one(data_nullable=True)


class Create(Message):
    """A new widget."""

    name = string(required=True, min_length=1, max_length=20)
    size = integer(more_than=0, at_most=100)
    relationships = nested(_Relationships)
    metadata = metadata()


class Update(Message):
    """Another name."""

    name = string(max_length=20)
    metadata = metadata()


class Widget(TypedDict):
    """A widget as it is shown."""

    guid: str
    name: str
    size: int
    parts: list[str]
    metadata: Metadata
    links: Links


def box_view(row: Row[Any], world: World) -> dict[str, Any]:
    return {**common(row), "name": row.name}


def view(row: Row[Any], world: World) -> dict[str, Any]:
    return {
        **common(row),
        "name": row.name,
        "size": row.size,
        "parts": world.related["parts"].get(row.guid, []),
        "relationships": {"box": one(row.box_guid), "spare": one(row.spare_box_guid)},
        "metadata": metadata_of(row),
        "links": {"self": world.link(f"/v3/widgets/{row.guid}")},
    }


def parts_of(world: World, page: Sequence[Row[Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    wanted = [row.guid for row in page]
    for part in world.tx.all(select(parts).where(parts.c.widget_guid.in_(wanted)).order_by(parts.c.id)):
        found.setdefault(part.widget_guid, []).append(part.name)
    return found


def boxes_by(column: str) -> Callable[[World, Sequence[Row[Any]]], list[Any]]:
    def load_boxes(world: World, page: Sequence[Row[Any]]) -> list[Any]:
        found = rows.by_guids(world.tx, boxes, [row._mapping[column] for row in page])
        return present(world, BOXES, list(found.values()))

    return load_boxes


BOXES = Resource("box", "/v3/boxes", boxes, box_view, lambda actor: None, labels=False)
WIDGETS = Resource(
    name="widget",
    path="/v3/widgets",
    table=widgets,
    view=view,
    shape=Widget,
    # Who is not a global reader sees what they own and what nobody owns.
    visible=lambda actor: (
        None if actor.reads_everything else widgets.c.owner.is_(None) | (widgets.c.owner == select_actor())
    ),
    filters=[
        Filter("names", widgets.c.name, excludes=True),
        Filter("sizes", widgets.c.size, convert=int),
        Filter("box_guids", widgets.c.box_guid),
        Filter("owned", lambda wanted: widgets.c.owner.is_not(None) == wanted, kind="bool"),
        Filter("size", widgets.c.size, kind="one", convert=int),
    ],
    order_by=["created_at", "updated_at", "name"],
    includes=[
        Include("box", "boxes", boxes_by("box_guid")),
        Include("spare", "boxes", boxes_by("spare_box_guid")),
    ],
    related={"parts": parts_of},
)


def select_actor() -> Any:
    from sqlalchemy import bindparam

    return bindparam("actor")


def create_widget(call: Call[None, Create]) -> Row[Any]:
    """Create a widget."""
    if call.tx.scalar(select(widgets.c.id).where(widgets.c.name == call.body.name)) is not None:
        raise errors.uniqueness(f"Widget '{call.body.name}' already exists.")
    values = {
        "name": call.body.name,
        "size": call.body.size or 1,
        "box_guid": call.body.relationships.box,
        "spare_box_guid": call.body.relationships.spare,
    }
    return rows.add(call.tx, widgets, values, call.body.metadata)


def update_widget(call: Call[Row[Any], Update]) -> Row[Any]:
    """Rename a widget; warns of shouting."""
    if (call.body.name or "").isupper():
        call.warnings.append("100% loud, ünd more")
        call.warnings.append("second, with a comma")
    return rows.change(call.tx, widgets, call.row, call.body.only("name"), call.body.metadata)


def delete_widget(call: Call[Row[Any], None]) -> Accepted:
    """Delete a widget, later."""
    return Accepted(f"job-{call.row.guid}")


def fail(call: Call[None, None]) -> Reply:
    """Break."""
    raise RuntimeError("a secret that no client may read")


def text_reply(call: Call[None, None]) -> Reply:
    """Not JSON."""
    return Reply(200, b"plain", {"Content-Type": "text/plain"})


def whoami(call: Call[None, None]) -> Reply:
    """The caller."""
    return Reply(200, {"guid": call.actor.guid})


OPERATIONS: list[Operation] = [
    list_(WIDGETS),
    list_(
        WIDGETS,
        path="/v3/boxes/{guid}/widgets",
        parent=BOXES,
        within=lambda box: widgets.c.box_guid == box,
        filters=["names"],
        includes=False,
    ),
    show(WIDGETS),
    create(WIDGETS, Create, create_widget),
    update(WIDGETS, Update, update_widget),
    delete(WIDGETS, delete_widget),
    delete(BOXES, lambda call: None, job=False),
    Operation("GET", "/v3/fail", fail),
    Operation("GET", "/text", text_reply, auth="none", produces="text/plain"),
    Operation("GET", "/v3/whoami", whoami, auth="optional"),
]


def authenticate(header: str | None) -> Actor:
    """`Bearer NAME SCOPE,SCOPE`."""
    if header is None:
        raise errors.not_authenticated()
    word, _, rest = header.partition(" ")
    name, _, scopes = rest.partition(" ")
    if word.lower() != "bearer" or not name:
        raise errors.invalid_auth_token()
    return Actor(guid=name, name=name, scopes=frozenset(f"cloud_controller.{one}" for one in scopes.split(",")))


class PlainVault:
    """Nothing here is sealed."""

    def derive(self, purpose: str) -> list[bytes]:
        return [purpose.encode().ljust(32)]

    def seal(self, plain: bytes, context: str) -> str:
        return base64.b64encode(plain).decode()

    def open(self, sealed: str, context: str) -> bytes:
        return base64.b64decode(sealed)


class House:
    """The App over its database, with a client and a count of statements."""

    def __init__(self, app: App, http: TestClient, database: Database, waited: list[str]) -> None:
        self.app = app
        self.http = http
        self.database = database
        self.waited = waited
        """Jobs that an answer waited for."""
        self.statements: list[str] = []

    def request(self, method: str, path: str, body: Any = None, *, token: str = "root admin", **more: Any) -> Any:
        headers = {"Authorization": f"bearer {token}", **more.pop("headers", {})} if token else more.pop("headers", {})
        if body is not None:
            more["content"] = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.http.request(method, path, headers=headers, **more)

    def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        answer = self.request(method, path, body, **more)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def problem(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, int, str]:
        """(status, code, detail) of an answer with one error."""
        answer = self.request(method, path, body, **more)
        assert answer.status_code >= 400, f"{method} {path}: {answer.status_code} {answer.text}"
        (error,) = answer.json()["errors"]
        return answer.status_code, error["code"], error["detail"]

    def names(self, query: str = "", path: str = "/v3/widgets", **more: Any) -> list[str]:
        """Names of the widgets on a page."""
        return [found["name"] for found in self.ok("GET", f"{path}{query}", **more)["resources"]]

    def add(self, name: str, labels: dict[str, str] | None = None, **values: Any) -> str:
        """A widget, straight into the database; its guid."""
        with self.database.write() as tx:
            row = rows.add(tx, widgets, {"name": name, **values}, {"labels": labels or {}})
        return str(row.guid)

    def add_box(self, name: str) -> str:
        with self.database.write() as tx:
            return str(rows.add(tx, boxes, {"name": name}).guid)


@contextmanager
def house(tmp_path: Path, operations: Sequence[Operation] = OPERATIONS) -> Iterator[House]:
    """A running App with these operations on an empty database."""
    settings = load(environment={}, flags={"data_dir": str(tmp_path)})
    database = Database("", tmp_path / "widgets.db", PlainVault(), Bells(), threads=2)
    tables.create_all(database.engine)
    label_index.create(database.engine)
    waited: list[str] = []

    async def wait_for_job(guid: str, seconds: float) -> None:
        waited.append(guid)

    services = Services(settings=settings, database=database, authenticate=authenticate, wait_for_job=wait_for_job)
    app = App(operations, services)
    with TestClient(app, base_url=settings.api_url, raise_server_exceptions=False) as http:
        house = House(app, http, database, waited)
        with database.watched() as house.statements:
            yield house
    database.close()
