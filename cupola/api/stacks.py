"""Stacks: the root filesystems that apps are built for. The smallest complete noun; read it first."""

from typing import Any, TypedDict

from sqlalchemy import Row, select

from cupola.api import access
from cupola.domain import stacks as rules
from cupola.domain import visibility
from cupola.rest.message import Message, metadata, string
from cupola.rest.operation import Call, Operation, create, delete, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.resource import Filter, Resource, World
from cupola.store.platform import platform_state, stacks

__all__ = ["OPERATIONS", "STACKS"]

_STATES = ("ACTIVE", "RESTRICTED", "DEPRECATED", "DISABLED")


def _state() -> Any:
    return string(one_of=_STATES, one_of_message=f"must be one of {', '.join(_STATES)}")


class Create(Message):
    """A new stack. Unknown fields pass, as upstream."""

    rejects_unknown = False
    name = string(required=True, blank="can't be blank", max_length=250)
    description = string(max_length=250)
    state = _state()
    state_reason = string(nullable=True, max_length=5000)
    metadata = metadata()


class Update(Message):
    """State and metadata can change; the name cannot."""

    state = _state()
    state_reason = string(nullable=True, max_length=5000)
    metadata = metadata()


class Stack(TypedDict):
    """A stack as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    description: str | None
    state: str
    state_reason: str | None
    build_rootfs_image: str
    run_rootfs_image: str
    default: bool
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    return {
        **common(row),
        "name": row.name,
        "description": row.description,
        "state": row.state,
        "state_reason": row.state_reason,
        "build_rootfs_image": row.build_rootfs_image or row.name,
        "run_rootfs_image": row.run_rootfs_image or row.name,
        "default": row.name == world.extra.settings.defaults.stack,
        "metadata": metadata_of(row),
        "links": {"self": world.link(f"/v3/stacks/{row.guid}")},
    }


_default_name = select(platform_state.c.value).where(platform_state.c.name == "default_stack").scalar_subquery()

STACKS = Resource(
    name="stack",
    path="/v3/stacks",
    table=stacks,
    view=view,
    shape=Stack,
    visible=visibility.everyone,
    filters=[
        Filter("names", stacks.c.name),
        Filter("default", lambda wanted: (stacks.c.name == _default_name) == wanted, kind="bool"),
    ],
    order_by=["created_at", "updated_at", "name"],
)


def create_stack(call: Call[None, Create]) -> Row[Any]:
    """Create a stack."""
    return rules.create(call.tx, call.actor, call.body.given)


def update_stack(call: Call[Row[Any], Update]) -> Row[Any]:
    """Change a stack's state, reason or metadata."""
    if call.row.name == call.settings.defaults.stack and call.body.has("state") and call.body.state != call.row.state:
        call.warnings.append(
            f"Changing state on the default stack '{call.row.name}' may affect new application deployments."
        )
    return rules.update(call.tx, call.actor, call.row, call.body.given)


def delete_stack(call: Call[Row[Any], None]) -> None:
    """Delete a stack that no app uses."""
    rules.delete(call.tx, call.actor, call.row)


OPERATIONS: list[Operation] = [
    list_(STACKS),
    show(STACKS),
    create(STACKS, Create, create_stack, allow=access.ADMIN),
    update(STACKS, Update, update_stack, allow=access.ADMIN),
    delete(STACKS, delete_stack, allow=access.ADMIN, job=False),
]
