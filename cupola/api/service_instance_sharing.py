"""The spaces that a service instance is shared with."""

from collections.abc import Sequence
from typing import Any, TypedDict

from sqlalchemy import Row, select
from starlette.responses import Response

from cupola import errors
from cupola.api import outside
from cupola.api.relationships import ToMany
from cupola.api.service_instances import SERVICE_INSTANCES
from cupola.brokers import unbinding
from cupola.domain import access as rights
from cupola.domain import feature_flags, service_errors, service_offers
from cupola.domain import service_instance_sharing as rules
from cupola.domain.service_bindings import Kind
from cupola.rest import listing
from cupola.rest.operation import Call, Operation, Reply, StreamCall
from cupola.rest.present import Links, to_many
from cupola.rest.present import to_one as one
from cupola.rest.resource import Fields, World
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.orgs import organizations, spaces

__all__ = ["OPERATIONS"]


class _Space(TypedDict):
    guid: str


class _SpaceUsage(TypedDict):
    space: _Space
    bound_app_count: int


class UsageSummary(TypedDict):
    """How many bindings there are in each space that an instance is shared with."""

    usage_summary: list[_SpaceUsage]
    links: Links


def _spaces(world: World, page: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    return [
        {"guid": row.guid, "name": row.name, "relationships": {"organization": one(row.organization_guid)}}
        for row in page
    ]


def _organizations(world: World, page: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    found = rows.by_guids(world.tx, organizations, [row.organization_guid for row in page])
    return [{"guid": row.guid, "name": row.name} for row in found.values()]


_FIELDS = (
    Fields("space", "spaces", ("guid", "name", "relationships.organization"), _spaces),
    Fields("space.organization", "organizations", ("name", "guid"), _organizations),
)
"""For rows of spaces."""


def _path(guid: str) -> str:
    return f"{SERVICE_INSTANCES.path}/{guid}/relationships/shared_spaces"


def _shares(call: Call[Row[Any], Any]) -> dict[str, Any]:
    links = {"self": call.world().link(_path(call.row.guid))}
    return {**to_many(rules.shared_with(call.tx, call.row)), "links": links}


def list_shares(call: Call[Row[Any], None]) -> Reply:
    """List the spaces that a service instance is shared with."""
    shown = _shares(call)
    found = rows.by_guids(call.tx, spaces, rules.shared_with(call.tx, call.row))
    included = listing.fields_of(_FIELDS, call.query, call.world(), list(found.values()))
    return Reply(200, shown if included is None else {**shown, "included": included})


def may_share(call: Call[Row[Any], Any]) -> None:
    """Developers of the instance's own space, while the flag is on."""
    feature_flags.require(call.tx, call.actor, "service_instance_sharing")
    rights.require_in_space(call.tx, call.actor, call.row.space_guid, rights.WRITE_IN_SPACE)


def share(call: Call[Row[Any], ToMany]) -> Reply:
    """Share a service instance with more spaces."""
    rules.share(call.tx, call.actor, call.row, call.body.guids)
    return Reply(200, _shares(call))


def show_usage(call: Call[Row[Any], None]) -> Reply:
    """How many bindings there are in each space that a service instance is shared with."""
    world, path = call.world(), _path(call.row.guid)
    return Reply(
        200,
        {
            "usage_summary": [
                {"space": {"guid": guid}, "bound_app_count": count} for guid, count in rules.usage(call.tx, call.row)
            ],
            "links": {
                "self": world.link(path + "/usage_summary"),
                "shared_spaces": world.link(path),
                "service_instance": world.link(f"{SERVICE_INSTANCES.path}/{call.row.guid}"),
            },
        },
    )


async def unshare(call: StreamCall) -> Response:
    """End the sharing of a service instance with a space; its apps are unbound first."""
    space_guid = call.path["space_guid"]
    actor = outside.actor(call)

    def find(tx: Tx) -> tuple[Row[Any], str]:
        row = outside.target(call, tx, SERVICE_INSTANCES)
        rights.require_in_space(tx, actor, row.space_guid, rights.WRITE_IN_SPACE)
        if rows.by_guid(tx, spaces, space_guid) is None:
            raise errors.unprocessable(
                f"Unable to unshare service instance from space {space_guid}. Ensure the space exists."
            )
        offer = service_offers.of_plan(tx, row.service_plan_guid)
        return row, offer.service_broker_guid if offer is not None else ""

    instance, broker = await call.read(find)
    async with outside.slot(call, broker) as client:
        causes = await unbinding.remove_all(
            call,
            client,
            outside.caller(call),
            actor,
            lambda tx: rules.bindings_in(tx, instance, space_guid),
            _words,
        )
    if causes:
        told = "\n\n".join(f"\t{cause}" for cause in causes)
        raise service_errors.unshare_failed(
            f"Unshare of service instance failed because one or more bindings could not be deleted.\n\n {told}"
        )
    await call.write(lambda tx: rules.end(tx, actor, instance, space_guid))
    return Response(status_code=204)


def _words(tx: Tx, kind: Kind, row: Row[Any]) -> str:
    named = select(spaces.c.name).join(apps, apps.c.space_guid == spaces.c.guid).where(apps.c.guid == row.app_guid)
    instance = rules.name_of(tx, row.service_instance_guid)
    return (
        f"The binding between an application and service instance {instance} in space {tx.scalar(named)} "
        "is being deleted asynchronously."
    )


_SHARED = SERVICE_INSTANCES.path + "/{guid}/relationships/shared_spaces"

OPERATIONS: list[Operation] = [
    Operation("GET", _SHARED, list_shares, target=SERVICE_INSTANCES, fields=_FIELDS, query_status=400),
    Operation("POST", _SHARED, share, target=SERVICE_INSTANCES, body=ToMany, allow=may_share),
    Operation("GET", _SHARED + "/usage_summary", show_usage, target=SERVICE_INSTANCES, shape=UsageSummary),
    Operation("DELETE", _SHARED + "/{space_guid}", stream=unshare, status=204),
]
