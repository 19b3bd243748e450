"""Which deletions have to ask service brokers: those wait in a lane of their own, so that a broker that hangs delays
nothing that has no service in it."""

from sqlalchemy import ColumnElement, Select, or_, select

from cupola.store.database import Tx
from cupola.store.orgs import spaces
from cupola.store.routes import routes
from cupola.store.service_bindings import service_credential_bindings, service_route_bindings
from cupola.store.service_instances import service_instance_shares, service_instances

__all__ = ["lane_of"]


def lane_of(tx: Tx, operation: str, guid: str) -> str:
    """The lane of the job `operation` (`app.delete`) on the thing with this guid."""
    return "broker" if tx.scalar(_asked(operation, guid).limit(1)) is not None else "default"


def _asked(operation: str, guid: str) -> Select[tuple[str]]:
    instances = service_instances.c
    found = select(instances.guid).where(instances.type == "managed")
    match operation:
        case "app.delete":
            bindings = service_credential_bindings.c
            return found.where(
                instances.guid.in_(select(bindings.service_instance_guid).where(bindings.app_guid == guid))
            )
        case "route.delete":
            wanted = select(routes.c.guid).where(routes.c.guid == guid)
        case "domain.delete":
            wanted = select(routes.c.guid).where(routes.c.domain_guid == guid)
        case "space.delete":
            return found.where(_in_spaces(select(spaces.c.guid).where(spaces.c.guid == guid)))
        case "organization.delete":
            return found.where(_in_spaces(select(spaces.c.guid).where(spaces.c.organization_guid == guid)))
        case _:
            raise ValueError(f"{operation} is no deletion that asks service brokers")
    of_routes = service_route_bindings.c
    bound = select(of_routes.service_instance_guid).where(of_routes.route_guid.in_(wanted))
    return found.where(instances.guid.in_(bound))


def _in_spaces(wanted: Select[tuple[str]]) -> ColumnElement[bool]:
    shares = service_instance_shares.c
    shared = select(shares.service_instance_guid).where(shares.space_guid.in_(wanted))
    return or_(service_instances.c.space_guid.in_(wanted), service_instances.c.guid.in_(shared))
