"""Registry credentials: what images are pulled with, kept once for a platform, an organization, a space or an app."""

from collections.abc import Iterator
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, or_, select

from cupola.domain import registry_credentials as rules
from cupola.domain import visibility
from cupola.rest.message import Message, metadata, nested, string, to_one
from cupola.rest.operation import Call, Operation, create, delete, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Resource, World
from cupola.roles import Actor
from cupola.store.apps import apps
from cupola.store.registry_credentials import registry_credentials

__all__ = ["OPERATIONS", "REGISTRY_CREDENTIALS"]

_TARGETS = {"organization": "organizations", "space": "spaces", "app": "apps"}


class _Relationships(Message):
    organization = to_one()
    space = to_one()

    def rules(self) -> Iterator[str]:
        if self.has("organization") and self.has("space"):
            yield "must name an organization or a space, not both"


class Create(Message):
    """Credentials for a registry; without relationships they are for the whole platform."""

    location = string(required=True, min_length=1, checks=[rules.location_problems])
    username = string(required=True, min_length=1, max_length=5000)
    password = string(required=True, min_length=1, max_length=5000)
    relationships = nested(_Relationships)
    metadata = metadata()


class Update(Message):
    """User name, password, metadata."""

    username = string(min_length=1, max_length=5000)
    password = string(min_length=1, max_length=5000)
    metadata = metadata()


class RegistryCredential(TypedDict):
    """Registry credentials as the API shows them: without the password."""

    guid: str
    created_at: str
    updated_at: str
    location: str
    username: str
    scope: str
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    relationships, links = {}, {"self": world.link(f"/v3/registry_credentials/{row.guid}")}
    if row.scope in _TARGETS:
        relationships[row.scope] = one(row.target_guid)
        links[row.scope] = world.link(f"/v3/{_TARGETS[row.scope]}/{row.target_guid}")
    return {
        **common(row),
        "location": row.location,
        "username": row.username,
        "scope": row.scope,
        "relationships": relationships,
        "metadata": metadata_of(row),
        "links": links,
    }


def visible(actor: Actor) -> ColumnElement[bool] | None:
    """The platform's; those of organizations with any role there; those of spaces and their apps with a space role."""
    if actor.reads_everything:
        return None
    columns = registry_credentials.c
    my_apps = select(apps.c.guid).where(apps.c.space_guid.in_(visibility.spaces_with_role()))
    return or_(
        columns.scope == "foundation",
        columns.organization_guid.in_(visibility.readable_orgs()),
        columns.space_guid.in_(visibility.spaces_with_role()),
        columns.app_guid.in_(my_apps),
    )


REGISTRY_CREDENTIALS = Resource(
    name="registry_credential",
    path="/v3/registry_credentials",
    table=registry_credentials,
    view=view,
    shape=RegistryCredential,
    visible=visible,
    filters=[
        Filter("app_guids", registry_credentials.c.app_guid),
        Filter("space_guids", registry_credentials.c.space_guid),
        Filter("organization_guids", registry_credentials.c.organization_guid),
        Filter("scopes", registry_credentials.c.scope, choices=rules.SCOPES),
        Filter("locations", registry_credentials.c.location, convert=rules.normalized),
    ],
)


def create_credential(call: Call[None, Create]) -> Row[Any]:
    """Keep a user name and a password for a registry."""
    return rules.create(call.tx, call.actor, call.body.given)


def update_credential(call: Call[Row[Any], Update]) -> Row[Any]:
    """Change user name or password of registry credentials, or relabel them; takes effect at the next pull."""
    return rules.update(call.tx, call.actor, call.row, call.body.given)


def delete_credential(call: Call[Row[Any], None]) -> None:
    """Delete registry credentials."""
    rules.remove(call.tx, call.actor, call.row)


def writable(call: Call[Row[Any], Any]) -> None:
    """Admins; managers of the organization; developers of the space."""
    rules.require_writable(call.tx, call.actor, call.row)


OPERATIONS: list[Operation] = [
    list_(REGISTRY_CREDENTIALS),
    show(REGISTRY_CREDENTIALS),
    create(REGISTRY_CREDENTIALS, Create, create_credential),
    update(REGISTRY_CREDENTIALS, Update, update_credential, allow=writable),
    delete(REGISTRY_CREDENTIALS, delete_credential, allow=writable, job=False),
]
