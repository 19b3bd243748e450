"""Lists: filters, order, pages, label selectors and included resources, from a resource's declaration.

A statement is built once per shape (resource, list, kind of actor, parameters present, order) and kept; values are
always bound. A page costs one statement, a second one for the count where the page does not tell it, and those of
the resource's `related` and `includes`: never one per row. How deep pages are found is in rest/seek.py.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, and_, bindparam, exists, false, not_, or_, select
from sqlalchemy.sql.elements import BindParameter

from cupola.rest import seek
from cupola.rest.conditions import as_exists, as_union, key_of
from cupola.rest.operation import Call, Listing, present
from cupola.rest.query import Query, Requirement, Timestamps
from cupola.rest.resource import Embed, Fields, Filter, Include, Resource, World
from cupola.roles import Actor
from cupola.store.prepared import Prepared
from cupola.store.schema import label_index

__all__ = ["fields_of", "find", "include_into", "page_of", "pagination"]

_SECOND = 1_000_000
_MAX_SHAPES = 2000
_MAX_EACH = 100
"""Values of a filter that is a condition for each of them."""
_TOO_LARGE = 2**63
"""No column holds such a number, and SQLite does not take it to compare with."""
_NOTHING = object()
"""A filter's value that no row can have."""


class _Shapes:
    """A bounded cache of statements; the least recently used shape goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any) -> Any:
        with self._lock:
            value = self._known.get(key)
            if value is not None:
                self._known.move_to_end(key)
            return value

    def put(self, key: Any, value: Any) -> None:
        with self._lock:
            self._known[key] = value
            if len(self._known) > _MAX_SHAPES:
                self._known.popitem(last=False)


_shapes = _Shapes()


def find(resource: Resource, actor: Actor, call_tx: Any, value: str) -> Any:
    """The row of `resource` that `value` names and the actor may see, or None."""
    key = (resource, "one", _kind(actor))
    known = _shapes.get(key)
    if known is None:
        condition = _visible(resource, actor)
        statement = _base(resource).where(resource.table.c[resource.key] == bindparam("wanted"))
        statement = statement if condition is None else statement.where(as_exists(condition))
        known = (Prepared(statement, one_plan=True), condition)
        _shapes.put(key, known)
    statement, condition = known
    return call_tx.one(statement, {"wanted": value, **_actor_values(condition, actor)})


def _visible(resource: Resource, actor: Actor) -> ColumnElement[bool] | None:
    """What `resource.visible` says of this kind of actor, built once: building it costs more than asking it."""
    key = (resource, "visible", _kind(actor))
    known = _shapes.get(key)
    if known is None:
        known = (resource.visible(actor),)
        _shapes.put(key, known)
    condition: ColumnElement[bool] | None = known[0]
    return condition


def page(call: Call[Any, Any], listing: Listing, url: str) -> dict[str, Any]:
    """One page of a list as the API shows it. `url` is the list's own, without a query."""
    resource, query = listing.resource, call.query
    number, per_page = query.page()
    wanted_includes = _wanted_includes(resource, listing, query)
    wanted_fields = _wanted_fields(resource.fields, query) if listing.includes else []
    statements, values = _statements(call, listing)
    rows, total = seek.rows(call.tx, statements, values, number, per_page, call.actor.guid)
    wanted_embeds = wanted_embeds_of(resource, query)
    world = call.world(single=False)
    shown = present(world, resource, rows)
    for embed in wanted_embeds:
        shown = embedded(embed, world, rows, shown)
    body: dict[str, Any] = {"pagination": pagination(query, url, number, per_page, total), "resources": shown}
    if wanted_includes or wanted_fields:
        body["included"] = include_into({}, wanted_includes, world, rows)
        _fields_into(body["included"], wanted_fields, world, rows)
    return body


def pagination(query: Query, url: str, number: int, per_page: int, total: int) -> dict[str, Any]:
    """The pagination object; a list has at least one page, also when it is empty."""
    pages = max(1, -(-total // per_page))

    def link(to: int) -> dict[str, str]:
        return {"href": query.link(url, to, per_page)}

    return {
        "total_results": total,
        "total_pages": pages,
        "first": link(1),
        "last": link(pages),
        "next": link(number + 1) if number < pages else None,
        "previous": link(number - 1) if number > 1 else None,
    }


def page_of(query: Query, url: str, items: Sequence[Any]) -> dict[str, Any]:
    """A page of things that are in memory already, in the order given."""
    number, per_page = query.page()
    return {
        "pagination": pagination(query, url, number, per_page, len(items)),
        "resources": list(items[(number - 1) * per_page : number * per_page]),
    }


def wanted_embeds_of(resource: Resource, query: Query) -> list[Embed]:
    """What `embed` asks for. Raises for a name that the resource does not have."""
    if not resource.embeds or "embed" not in query:
        return []
    names = [embed.name for embed in resource.embeds]
    wanted = query.values("embed") or []
    if any(name not in names for name in wanted):
        allowed = ", ".join(f"'{name}'" for name in names)
        raise query.bad(f"Invalid embed resource: Valid embed resources are: {allowed}")
    return [embed for embed in resource.embeds if embed.name in wanted]


def embedded(embed: Embed, world: World, rows: Sequence[Any], shown: Sequence[Any]) -> list[Any]:
    """The shown resources, each with what is embedded."""
    found = embed.load(world, rows)
    return [{**one, embed.name: found[row.guid]} for row, one in zip(rows, shown, strict=True)]


def _wanted_includes(resource: Resource, listing: Listing, query: Query) -> list[Include]:
    if not listing.includes or not resource.includes:
        return []
    return _named(resource.includes, query)


def _named(includes: Sequence[Include], query: Query) -> list[Include]:
    # One name may bring several kinds of resource, each an Include of its own.
    wanted = query.includes(list(dict.fromkeys(include.name for include in includes)))
    return [include for name in wanted for include in includes if include.name == name]


def include_into(
    into: dict[str, list[Any]], includes: Sequence[Include], world: World, rows: Sequence[Any]
) -> dict[str, list[Any]]:
    """The `included` object: each resource once, also when two includes name it."""
    for include in includes:
        have = into.setdefault(include.key, [])
        known = {one["guid"] for one in have if "guid" in one}
        have.extend(one for one in include.load(world, rows) if one.get("guid") not in known)
    return into


def _wanted_fields(declared: Sequence[Fields], query: Query) -> list[tuple[Fields, list[str]]]:
    if not declared:
        return []
    wanted = query.fields({one.name: one.keys for one in declared})
    return [(one, wanted[one.name]) for one in declared if one.name in wanted]


def _fields_into(
    into: dict[str, list[Any]], wanted: Sequence[tuple[Fields, list[str]]], world: World, rows: Sequence[Any]
) -> None:
    for one, keys in wanted:
        into[one.key] = [_cut(shown, keys) for shown in one.load(world, rows)]


def _cut(shown: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in keys:
        outer, dot, inner = key.partition(".")
        if dot:
            found.setdefault(outer, {})[inner] = shown[outer][inner]
        else:
            found[outer] = shown[outer]
    return found


def fields_of(
    declared: Sequence[Fields], query: Query, world: World, rows: Sequence[Any]
) -> dict[str, list[Any]] | None:
    """The `included` object for `fields` of an answer that is no resource, or None when none was asked for."""
    included: dict[str, list[Any]] = {}
    _fields_into(included, _wanted_fields(declared, query), world, rows)
    return included or None


def _kind(actor: Actor) -> tuple[bool, bool, bool, bool]:
    """All that a `visible` function may look at, besides the guid that is bound."""
    return actor.reads_everything, actor.reads_secrets, actor.is_admin, bool(actor.guid)


def _actor_values(condition: ColumnElement[bool] | None, actor: Actor) -> dict[str, Any]:
    return {} if condition is None else {"actor": actor.guid}


def _base(resource: Resource) -> Select[Any]:
    return resource.columns() if resource.columns else select(resource.table)


def _statements(call: Call[Any, Any], listing: Listing) -> tuple[seek.Statements, dict[str, Any]]:
    resource, query, actor = listing.resource, call.query, call.actor
    order = query.order(listing.order_by or resource.order_by)
    conditions, shape, values = _conditions(resource, listing, query, actor)
    visible = _visible(resource, actor)
    values.update(_actor_values(visible, actor))
    if listing.within is not None:
        values["parent"] = call.row.guid
    key = (id(listing), _kind(actor), order, tuple(shape))
    known = _shapes.get(key)
    if known is None:
        where = list(conditions)
        if listing.within is not None:
            where.append(listing.within(bindparam("parent")))
        where = [as_union(resource.table, one) for one in where]
        statements = seek.Statements(_base(resource), where, visible, _order(resource, order), key_of(resource.table))
        # The listing is kept with its statements, so that no other object is given its id meanwhile.
        known = (statements, listing)
        _shapes.put(key, known)
    return known[0], values


def _order(resource: Resource, order: tuple[str, bool] | None) -> list[tuple[Column[Any], bool]]:
    columns = resource.table.c
    if order is None:
        return [(columns[name], False) for name in resource.default_order]
    name, descending = order
    tie = columns["guid"] if "guid" in columns else columns[resource.key]
    return [(columns[resource.order_columns.get(name, name)], descending), (tie, descending)]


def _conditions(
    resource: Resource, listing: Listing, query: Query, actor: Actor
) -> tuple[list[ColumnElement[bool]], list[Any], dict[str, Any]]:
    where: list[ColumnElement[bool]] = []
    shape: list[Any] = []
    values: dict[str, Any] = {}
    for filter_ in resource.filters:
        if listing.filters is None or filter_.name in listing.filters or filter_.name in listing.quiet:
            _apply(filter_, query, actor, where, shape, values)
    if resource.guids:
        _apply(Filter("guids", resource.table.c.guid), query, actor, where, shape, values)
    for name in resource.timestamps:
        shown = name.removesuffix("s")
        column = resource.table.c[resource.order_columns.get(shown, shown)]
        for number, condition in enumerate(query.timestamps(name)):
            shape.append((name, condition.operator, len(condition.values)))
            where.append(_moment(column, condition, f"{name}{number}", values))
    if resource.labels or "label_selector" in listing.quiet:
        for number, requirement in enumerate(query.selector()):
            shape.append(("label", requirement.operator))
            where.append(_label(resource, requirement, f"label{number}", values))
    return where, shape, values


def _apply(
    filter_: Filter,
    query: Query,
    actor: Actor,
    where: list[ColumnElement[bool]],
    shape: list[Any],
    values: dict[str, Any],
) -> None:
    for suffix in ("", "[not]") if filter_.excludes else ("",):
        wanted = _wanted(filter_, query, filter_.name + suffix)
        if wanted is None:
            continue
        name = f"{filter_.name}{'_not' if suffix else ''}"
        shape.append((filter_.name, suffix))
        condition = _condition(filter_, name, wanted, actor, shape, values)
        where.append(not_(condition) if suffix else condition)


def _condition(
    filter_: Filter, name: str, wanted: Any, actor: Actor, shape: list[Any], values: dict[str, Any]
) -> ColumnElement[bool]:
    if wanted is _NOTHING:
        shape.append("nothing")
        return false()
    match = filter_.match
    if not callable(match):
        bound = _bound(name, wanted, values)
        if not isinstance(wanted, list):
            return match == bound
        condition: ColumnElement[bool] = match.in_(bound)
        if "" in wanted:
            shape.append("empty")
            condition = or_(condition, match.is_(None))
        return condition
    more: tuple[Actor, ...] = ()
    if filter_.by_actor:
        values["actor"] = actor.guid
        more = (actor,)
    if filter_.each:
        shape.append(len(wanted))
        return or_(*(match(_bound(f"{name}{number}", one, values), *more) for number, one in enumerate(wanted)))
    return match(_bound(name, wanted, values), *more)


def _bound(name: str, wanted: Any, values: dict[str, Any]) -> BindParameter[Any]:
    values[name] = wanted
    return bindparam(name, expanding=isinstance(wanted, list))


def _wanted(filter_: Filter, query: Query, name: str) -> Any:
    if filter_.kind == "bool":
        return query.boolean(name)
    if filter_.kind == "one":
        value = query.get(name)
        if value is not None and filter_.choices and value not in filter_.choices:
            raise query.bad(_bad_choice(name, filter_.choices))
        if value is None or filter_.convert is None:
            return value
        converted = _converted(filter_.convert, [value])
        return converted[0] if converted else _NOTHING
    listed = query.values(name)
    if listed is None:
        return None
    if filter_.choices and any(one not in filter_.choices for one in listed):
        raise query.bad(_bad_choice(name, filter_.choices))
    if filter_.each and len(listed) > _MAX_EACH:
        raise query.bad(f"{name.replace('_', ' ').capitalize()} can have at most {_MAX_EACH} values")
    if filter_.fold:
        listed = [one.lower() for one in listed]
    return listed if filter_.convert is None else _converted(filter_.convert, listed)


def _bad_choice(name: str, choices: Sequence[str]) -> str:
    return f"{name.replace('_', ' ').capitalize()} must be one of " + ", ".join(f"'{one}'" for one in choices)


def _converted(convert: Any, listed: Sequence[str]) -> list[Any]:
    converted = []
    for one in listed:
        try:
            value = convert(one)
        except ValueError:
            continue
        if not isinstance(value, int) or -_TOO_LARGE < value < _TOO_LARGE:
            converted.append(value)
    return converted


def _moment(
    column: ColumnElement[int], condition: Timestamps, name: str, values: dict[str, Any]
) -> ColumnElement[bool]:
    # The API shows whole seconds, the database holds microseconds: a second is the range [v, v + 1 s).
    for number, value in enumerate(condition.values):
        values[f"{name}_{number}"] = value
        values[f"{name}_{number}_end"] = value + _SECOND
    first: BindParameter[int] = bindparam(f"{name}_0")
    end: BindParameter[int] = bindparam(f"{name}_0_end")
    if condition.operator == "gt":
        values.pop(f"{name}_0")
        return column >= end
    if condition.operator == "gte":
        values.pop(f"{name}_0_end")
        return column >= first
    if condition.operator == "lt":
        values.pop(f"{name}_0_end")
        return column < first
    if condition.operator == "lte":
        values.pop(f"{name}_0")
        return column < end
    ranges = [
        and_(column >= bindparam(f"{name}_{number}"), column < bindparam(f"{name}_{number}_end"))
        for number in range(len(condition.values))
    ]
    return or_(*ranges)


def _label(resource: Resource, requirement: Requirement, name: str, values: dict[str, Any]) -> ColumnElement[bool]:
    values[f"{name}_key"] = requirement.key
    index, guid = label_index.alias(), resource.table.c.guid
    found = select(index.c.resource_guid).where(
        index.c.resource_type == resource.table.name, index.c.key == bindparam(f"{name}_key")
    )
    if requirement.operator in {"in", "not_in"}:
        values[f"{name}_values"] = list(requirement.values)
        found = found.where(index.c.value.in_(bindparam(f"{name}_values", expanding=True)))
    # Those with a label are found from the index of labels; those without it are looked for there one by one.
    return (
        not_(exists(found.where(index.c.resource_guid == guid)))
        if requirement.operator.startswith("not")
        else guid.in_(found)
    )


def parameters(listing: Listing) -> list[str]:
    """The list parameters that this list takes, those that leave out (`name[not]`) at the end."""
    names = listing.resource.parameters
    names += [f"{filter_.name}[not]" for filter_ in listing.resource.filters if filter_.excludes]
    if not listing.includes:
        names = [name for name in names if name not in {"include", "fields"}]
    if listing.filters is None:
        return names
    own = {filter_.name for filter_ in listing.resource.filters}
    return [name for name in names if name.removesuffix("[not]") not in {*own} - {*listing.filters}]


def known(listing: Listing) -> dict[str, Any]:
    """What the query of this list may hold: the arguments of Query."""
    quiet = [filter_.name for filter_ in listing.resource.filters if filter_.quiet]
    aliases = {"perPage": "per_page", **listing.resource.aliases}
    return {"allowed": parameters(listing), "quiet": [*quiet, *listing.quiet], "aliases": aliases}


def included_for_one(
    resource: Resource, allowed: Sequence[str], fields: Sequence[Fields], query: Query, world: World, row: Any
) -> Mapping[str, list[Any]] | None:
    """The `included` object of a single resource, or None when none was asked for."""
    wanted = _named([include for include in resource.includes if include.name in allowed], query)
    included = include_into({}, wanted, world, [row])
    _fields_into(included, _wanted_fields(fields, query), world, [row])
    return included or None
