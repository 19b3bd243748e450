"""Security groups: which networks the apps of a space may reach, running and staging."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, String, and_, bindparam, cast, or_, select

from cupola.api import access
from cupola.api.relationships import ToMany, show_many
from cupola.api.spaces import SPACES
from cupola.domain import security_groups as rules
from cupola.domain import visibility
from cupola.domain.security_group_rules import SCHEMA as RULE
from cupola.domain.security_group_rules import problems as rule_problems
from cupola.rest.message import Message, anything, nested, string, to_many
from cupola.rest.operation import Accepted, Call, Operation, Reply, create, delete, list_, show, update
from cupola.rest.present import Links, common
from cupola.rest.present import to_many as many
from cupola.rest.resource import Filter, Resource, World
from cupola.roles import Actor
from cupola.store import jobs
from cupola.store.platform import security_group_spaces, security_groups

__all__ = ["OPERATIONS", "SECURITY_GROUPS"]

_ENABLED = {
    "type": "object",
    "properties": {"running": {"type": "boolean"}, "staging": {"type": "boolean"}},
    "additionalProperties": False,
}


def _name_problems(value: Any) -> Iterator[str]:
    if value is None or value == "" or (isinstance(value, str) and not value.strip()):
        yield "Name can't be blank"
    if not isinstance(value, str):
        yield "Name must be a string"
    elif len(value) > 250:
        yield "Name is too long (maximum is 250 characters)"


def _enabled_problems(value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield "Globally enabled must be an object"
    elif set(value) - {"running", "staging"}:
        yield "Globally enabled only allows keys 'running' or 'staging'"
    elif not all(isinstance(one, bool) for one in value.values()):
        yield "Globally enabled values must be booleans"


class _Relationships(Message):
    rejects_unknown = False
    running_spaces = to_many()
    staging_spaces = to_many()


class Create(Message):
    """A new security group."""

    relationships = nested(_Relationships)
    rules_ = anything(rule_problems, {"type": "array", "items": RULE}, nullable=False)
    name = anything(_name_problems, {"type": "string", "minLength": 1, "maxLength": 250}, required=True, nullable=False)
    globally_enabled = anything(_enabled_problems, _ENABLED)


class Update(Message):
    """Name, rules, and whether the group holds for all spaces."""

    rules_ = anything(rule_problems, {"type": "array", "items": RULE}, nullable=False)
    globally_enabled = anything(_enabled_problems, _ENABLED)
    name = string(min_length=1, max_length=250)


class SecurityGroup(TypedDict):
    """A security group as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    rules: list[dict[str, Any]]
    globally_enabled: dict[str, bool]
    relationships: dict[str, Any]
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    bound = world.related["spaces"].get(row.guid, {})
    return {
        **common(row),
        "name": row.name,
        "rules": row.rules,
        "globally_enabled": {"running": row.running_default, "staging": row.staging_default},
        "relationships": {f"{phase}_spaces": many(bound.get(phase, [])) for phase in rules.PHASES},
        "links": {"self": world.link(f"/v3/security_groups/{row.guid}")},
    }


def _their_spaces(world: World, page: Sequence[Row[Any]]) -> dict[str, dict[str, list[str]]]:
    """Group guid to phase to spaces, as far as the caller may see them."""
    bound = security_group_spaces.c
    statement = select(bound.security_group_guid, bound.phase, bound.space_guid).where(
        bound.security_group_guid.in_([row.guid for row in page])
    )
    values = {}
    if world.actor is not None and not world.actor.reads_everything:
        statement = statement.where(bound.space_guid.in_(visibility.readable_spaces()))
        values["actor"] = world.actor.guid
    # A list for one space shows that space alone.
    only = getattr(page[0], "only_space", None)
    found: dict[str, dict[str, list[str]]] = {row.guid: {} for row in page}
    bindings: Sequence[Any] = world.tx.all(statement, values)
    for group, phase, space in bindings:
        if only is None or only == space:
            found[group].setdefault(phase, []).append(space)
    for phases in found.values():
        for guids in phases.values():
            guids.sort()
    return found


def visible(actor: Actor) -> ColumnElement[bool] | None:
    if actor.reads_everything:
        return None
    bound = security_group_spaces.c
    here = select(bound.security_group_guid).where(bound.space_guid.in_(visibility.readable_spaces()))
    return or_(security_groups.c.running_default, security_groups.c.staging_default, security_groups.c.guid.in_(here))


def _bound(phase: str) -> Callable[[Any], ColumnElement[bool]]:
    bound = security_group_spaces.c

    def match(guids: Any) -> ColumnElement[bool]:
        where = and_(bound.phase == phase, bound.space_guid.in_(guids))
        return security_groups.c.guid.in_(select(bound.security_group_guid).where(where))

    return match


SECURITY_GROUPS = Resource(
    name="security_group",
    path="/v3/security_groups",
    table=security_groups,
    view=view,
    shape=SecurityGroup,
    visible=visible,
    related={"spaces": _their_spaces},
    labels=False,
    filters=[
        Filter("names", security_groups.c.name),
        Filter("running_space_guids", _bound("running")),
        Filter("staging_space_guids", _bound("staging")),
        Filter("globally_enabled_running", security_groups.c.running_default, kind="bool"),
        Filter("globally_enabled_staging", security_groups.c.staging_default, kind="bool"),
    ],
    query_status=422,
)
_OF_SPACE = replace(
    SECURITY_GROUPS,
    visible=visibility.everyone,
    filters=[Filter("names", security_groups.c.name)],
    columns=lambda: select(security_groups, cast(bindparam("parent"), String).label("only_space")),
)


def _holding(phase: str) -> Callable[[Any], ColumnElement[bool]]:
    """Groups that hold in a space: those for all spaces, and those bound to it."""
    bound = security_group_spaces.c
    everywhere = security_groups.c[f"{phase}_default"]

    def within(space: Any) -> ColumnElement[bool]:
        here = select(bound.security_group_guid).where(bound.phase == phase, bound.space_guid == space)
        return or_(everywhere, security_groups.c.guid.in_(here))

    return within


def _warned(call: Call[Any, Any], group: Row[Any]) -> Row[Any]:
    call.warnings.append(rules.not_enforced(f"security group '{group.name}'"))
    return group


def create_group(call: Call[None, Create]) -> Row[Any]:
    """Create a security group."""
    return _warned(call, rules.create(call.tx, call.body.given))


def update_group(call: Call[Row[Any], Update]) -> Row[Any]:
    """Rename a security group, replace its rules, or let it hold for all spaces."""
    return _warned(call, rules.update(call.tx, call.row, call.body.given))


def delete_group(call: Call[Row[Any], None]) -> Accepted:
    """Delete a security group."""
    guid = jobs.enqueue(
        call.tx,
        "security_group.delete",
        {"guid": call.row.guid},
        actor=call.actor,
        resource_guid=call.row.guid,
        resource_type="security_groups",
    )
    return Accepted(guid)


def _bind(phase: str) -> Operation:
    def run(call: Call[Row[Any], ToMany]) -> Reply:
        guids = rules.bind(call.tx, call.actor, call.row, phase, call.body.guids)
        _warned(call, call.row)
        return show_many(call, f"/v3/security_groups/{call.row.guid}/relationships/{phase}_spaces", guids)

    path = f"{SECURITY_GROUPS.path}/{{guid}}/relationships/{phase}_spaces"
    doc = f"Let a security group hold for {phase} apps of more spaces."
    return Operation("POST", path, run, target=SECURITY_GROUPS, body=ToMany, doc=doc)


def _unbind(phase: str) -> Operation:
    def run(call: Call[Row[Any], None]) -> None:
        rules.unbind(call.tx, call.actor, call.row, phase, call.path["space_guid"])

    path = f"{SECURITY_GROUPS.path}/{{guid}}/relationships/{phase}_spaces/{{space_guid}}"
    doc = f"Let a security group no longer hold for {phase} apps of a space."
    return Operation("DELETE", path, run, target=SECURITY_GROUPS, status=204, doc=doc)


def _list_of_space(phase: str) -> Operation:
    return list_(
        _OF_SPACE,
        path=f"/v3/spaces/{{guid}}/{phase}_security_groups",
        parent=SPACES,
        within=_holding(phase),
        doc=f"List the security groups that hold for {phase} apps of a space.",
    )


OPERATIONS: list[Operation] = [
    list_(SECURITY_GROUPS),
    show(SECURITY_GROUPS),
    create(SECURITY_GROUPS, Create, create_group, allow=access.ADMIN),
    update(SECURITY_GROUPS, Update, update_group, allow=access.ADMIN),
    delete(SECURITY_GROUPS, delete_group, allow=access.ADMIN),
    *(_bind(phase) for phase in rules.PHASES),
    *(_unbind(phase) for phase in rules.PHASES),
    *(_list_of_space(phase) for phase in rules.PHASES),
]
