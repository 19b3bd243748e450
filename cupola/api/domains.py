"""Domains."""

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, or_, select

from cupola import errors
from cupola.api.organizations import ORGANIZATIONS
from cupola.api.relationships import show_many
from cupola.domain import access as rules_of_access
from cupola.domain import domains as rules
from cupola.domain import visibility
from cupola.domain.deletion_lanes import lane_of
from cupola.domain.routes import protocol_of
from cupola.domain.security_groups import not_enforced
from cupola.rest import listing
from cupola.rest.message import Message, MetadataOnly, anything, boolean, metadata, nested, to_many, to_one
from cupola.rest.operation import Accepted, Call, Operation, Parameter, Reply, create, delete, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_many as many
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Resource, World
from cupola.roles import Actor
from cupola.store import jobs, rows
from cupola.store.routes import domain_shares, domains, routes

__all__ = ["DOMAINS", "OPERATIONS"]


class _Relationships(Message):
    organization = to_one(data_nullable=True)
    shared_organizations = to_many()

    def rules(self) -> Iterator[str]:
        if self.has("shared_organizations") and not self.has("organization"):
            yield "cannot contain shared_organizations without an owning organization."


_RELATED = ("organization", "shared_organizations")


def _name_problems(value: Any) -> Iterator[str]:
    if value is None or value == "":
        yield "Name can't be blank"
    if not isinstance(value, str):
        yield "Name must be a string"
    for problem in rules.name_problems(value if isinstance(value, str) else ""):
        yield f"Name {problem}"


def _router_group_problems(value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield "Router group must be an object"
        return
    unknown = [name for name in value if name != "guid"]
    if unknown:
        yield "Router group Unknown field(s): " + ", ".join(f"'{name}'" for name in unknown)
    if not isinstance(value.get("guid"), str):
        yield "Router group guid must be a string"


def _scope_problems(value: Any) -> Iterator[str]:
    if value not in rules.POLICY_SCOPES:
        yield "Route policies scope must be one of 'any', 'org', 'space'"


class Create(Message):
    """A new domain: shared, private to an organization, or internal."""

    @classmethod
    def parse(cls, document: Any) -> "Create":
        """Relationships may stand at the top, as the OpenAPI rendering of the API has them."""
        beside = [name for name in _RELATED if isinstance(document, dict) and name in document]
        if not beside or not isinstance(document.get("relationships", {}), dict):
            return super().parse(document)
        relationships = {**{name: document[name] for name in beside}, **document.get("relationships", {})}
        rest = {name: value for name, value in document.items() if name not in beside}
        return super().parse({**rest, "relationships": relationships})

    relationships = nested(_Relationships)
    name = anything(_name_problems, {"type": "string", "minLength": 3, "maxLength": 253}, required=True, nullable=False)
    router_group = anything(
        _router_group_problems,
        {
            "type": ["object", "null"],
            "properties": {"guid": {"type": "string"}},
            "required": ["guid"],
            "additionalProperties": False,
        },
    )
    internal = boolean(nullable=True)
    enforce_route_policies = boolean(nullable=True)
    route_policies_scope = anything(_scope_problems, {"type": ["string", "null"], "enum": [*rules.POLICY_SCOPES, None]})
    metadata = metadata()

    def rules(self) -> Iterator[str]:
        enforced = self.given.get("enforce_route_policies") is True
        if self.given.get("internal") is True:
            if self.has("relationships"):
                yield "Cannot associate an internal domain with an organization"
            if self.has("router_group"):
                yield "Internal domains cannot be associated to a router group."
            if enforced:
                yield "Internal domains cannot have route policy enforcement. Internal routes bypass GoRouter."
        if self.has("router_group") and enforced:
            yield (
                "Domains with a router group cannot have route policy enforcement. "
                "TCP routes do not support mTLS policy enforcement."
            )
        if self.has("relationships") and self.has("router_group"):
            yield "Domains scoped to an organization cannot be associated to a router group."
        if enforced and not self.given.get("route_policies_scope"):
            yield "Route policies scope is required when enforce_route_policies is true"


class Share(Message):
    """Organizations that may use the domain as well."""

    rejects_unknown = False
    data = anything(
        lambda value: () if _are_guids(value) else (_STRUCTURE,),
        {
            "type": "array",
            "items": {"type": "object", "properties": {"guid": {"type": "string"}}, "required": ["guid"]},
        },
        required=True,
        nullable=False,
    )


_STRUCTURE = 'Data must have the structure "data": [{"guid": shared_org_guid_1}, {"guid": shared_org_guid_2}]'


def _are_guids(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and isinstance(one.get("guid"), str) and 1 <= len(one["guid"]) <= 200 for one in value
    )


class Domain(TypedDict, total=False):
    """A domain as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    internal: bool
    router_group: dict[str, str] | None
    supported_protocols: list[str]
    enforce_route_policies: bool
    route_policies_scope: str
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/domains/{row.guid}"
    links = {"self": world.link(path), "route_reservations": world.link(path + "/route_reservations")}
    if row.organization_guid:
        links["organization"] = world.link(f"/v3/organizations/{row.organization_guid}")
        links["shared_organizations"] = world.link(path + "/relationships/shared_organizations")
    policies = {}
    if row.enforce_route_policies:
        policies = {"enforce_route_policies": True, "route_policies_scope": row.route_policies_scope}
    if row.router_group_guid:
        links["router_group"] = world.link(f"/routing/v1/router_groups/{row.router_group_guid}")
    return {
        **common(row),
        "name": row.name,
        "internal": row.internal,
        "router_group": {"guid": row.router_group_guid} if row.router_group_guid else None,
        "supported_protocols": [protocol_of(row)],
        **policies,
        "relationships": {
            "organization": one(row.organization_guid),
            "shared_organizations": many(world.related["shares"].get(row.guid, [])),
        },
        "metadata": metadata_of(row),
        "links": links,
    }


def _shares(world: World, page: Sequence[Row[Any]]) -> dict[str, list[str]]:
    """Organizations that private domains are shared with, as far as the caller may see them."""
    statement = select(domain_shares).where(domain_shares.c.domain_guid.in_([row.guid for row in page]))
    values = {}
    if world.actor is not None and not world.actor.reads_everything:
        statement = statement.where(domain_shares.c.organization_guid.in_(visibility.readable_orgs()))
        values["actor"] = world.actor.guid
    found: dict[str, list[str]] = {}
    for share in world.tx.all(statement, values):
        found.setdefault(share.domain_guid, []).append(share.organization_guid)
    return found


def visible(actor: Actor) -> ColumnElement[bool] | None:
    if actor.reads_everything:
        return None
    organizations = visibility.domain_orgs()
    shared_with = select(domain_shares.c.domain_guid).where(domain_shares.c.organization_guid.in_(organizations))
    return or_(
        domains.c.organization_guid.is_(None),
        domains.c.organization_guid.in_(organizations),
        domains.c.guid.in_(shared_with),
    )


DOMAINS = Resource(
    name="domain",
    path="/v3/domains",
    table=domains,
    view=view,
    shape=Domain,
    visible=visible,
    related={"shares": _shares},
    filters=[
        Filter("names", domains.c.name, fold=True),
        Filter("organization_guids", domains.c.organization_guid),
    ],
)


def may_manage(call: Call[Row[Any], Any]) -> None:
    """Admins; managers of the organization that owns a private domain."""
    if call.row.organization_guid is None:
        rules_of_access.require_admin(call.actor)
    else:
        owner = call.row.organization_guid
        rules_of_access.require_in_org(call.tx, call.actor, owner, ("organization_manager",))


def create_domain(call: Call[None, Create]) -> Row[Any]:
    """Create a shared, private or internal domain."""
    if call.body.enforce_route_policies:
        call.warnings.append(not_enforced(f"enforce_route_policies of domain '{call.body.name}'"))
    return rules.create(call.tx, call.settings, call.actor, call.body.given)


def update_domain(call: Call[Row[Any], MetadataOnly]) -> Row[Any]:
    """Relabel a domain."""
    return rows.change(call.tx, domains, call.row, {}, call.body.metadata)


def delete_domain(call: Call[Row[Any], None]) -> Accepted:
    """Delete a domain and its routes."""
    rules.require_deletable(call.tx, call.row)
    guid = jobs.enqueue(
        call.tx,
        "domain.delete",
        {"guid": call.row.guid, "request_id": call.request_id},
        actor=call.actor,
        lane=lane_of(call.tx, "domain.delete", call.row.guid),
        resource_guid=call.row.guid,
        resource_type="domains",
    )
    return Accepted(guid)


def share_domain(call: Call[Row[Any], Share]) -> Reply:
    """Let more organizations use a private domain."""
    rules.share(call.tx, call.actor, call.row, [entry["guid"] for entry in call.body.data])
    guids = _shares(call.world(), [call.row]).get(call.row.guid, [])
    return show_many(call, f"/v3/domains/{call.row.guid}/relationships/shared_organizations", guids)


def unshare_domain(call: Call[Row[Any], None]) -> None:
    """Take a private domain away from an organization that it was shared with."""
    rules.unshare(call.tx, call.actor, call.row, call.path["org_guid"])


def reservations(call: Call[Row[Any], None]) -> Reply:
    """Whether a route exists already, wherever it is."""
    query = call.query
    port = query.get("port") or "0"
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise errors.unprocessable("Port must be an integer between 0 and 65535")
    statement = select(routes.c.guid).where(
        routes.c.domain_guid == call.row.guid,
        routes.c.host == (query.get("host") or "").lower(),
        routes.c.path == (query.get("path") or "").lower(),
        routes.c.port == int(port),
    )
    return Reply(200, {"matching_route": call.tx.scalar(statement) is not None})


def default_domain(call: Call[Row[Any], None]) -> Row[Any]:
    """Get the domain that an organization's routes are on when nobody names one."""
    domain = rules.default_of(call.tx, call.row.guid)
    # A private one is not for everybody who may see the organization.
    if domain is None or listing.find(DOMAINS, call.actor, call.tx, domain.guid) is None:
        raise errors.not_found("Domain")
    return domain


_ONE = DOMAINS.path + "/{guid}"

OPERATIONS: list[Operation] = [
    list_(DOMAINS),
    list_(
        DOMAINS,
        path="/v3/organizations/{guid}/domains",
        parent=ORGANIZATIONS,
        within=rules.usable_in,
        doc="List the domains that an organization may use.",
    ),
    show(DOMAINS),
    create(DOMAINS, Create, create_domain),
    update(DOMAINS, MetadataOnly, update_domain, allow=may_manage),
    delete(DOMAINS, delete_domain, allow=may_manage),
    Operation(
        "POST",
        _ONE + "/relationships/shared_organizations",
        share_domain,
        target=DOMAINS,
        body=Share,
        allow=may_manage,
    ),
    Operation(
        "DELETE",
        _ONE + "/relationships/shared_organizations/{org_guid}",
        unshare_domain,
        target=DOMAINS,
        status=204,
    ),
    Operation(
        "GET",
        _ONE + "/route_reservations",
        reservations,
        target=DOMAINS,
        query=(Parameter("host"), Parameter("path"), Parameter("port")),
    ),
    Operation("GET", "/v3/organizations/{guid}/domains/default", default_domain, target=ORGANIZATIONS, returns=DOMAINS),
]
