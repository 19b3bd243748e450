"""What a broker is told about an instance or a binding: ids of its catalog, and where in the cloud the thing is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Row, select

from cupola.brokers.client import CatalogIds
from cupola.brokers.parties import Broker
from cupola.domain import service_offers
from cupola.domain.routes import uri
from cupola.domain.service_bindings import APP, KEY, ROUTE, Kind
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.orgs import organizations, spaces
from cupola.store.routes import routes
from cupola.store.service_brokers import service_brokers
from cupola.store.service_instances import service_instances

__all__ = ["BindingFacts", "Facts", "of_binding", "of_instance"]


@dataclass(frozen=True)
class Facts:
    """A managed instance, its plan and its broker. `context` is what every call has; instance_name and so on are added."""

    instance: Row[Any]
    offer: Row[Any]
    broker: Broker
    context: Mapping[str, Any]

    @property
    def ids(self) -> CatalogIds:
        """Of the plan that the instance has."""
        return CatalogIds(self.offer.service_id, self.offer.catalog_id)

    @property
    def annotations(self) -> dict[str, str]:
        """Those of the instance that brokers see."""
        return public(self.instance.annotations)


@dataclass(frozen=True)
class BindingFacts(Facts):
    """A binding of the instance. `resource` is the `bind_resource`; `app_guid` and `app_name` of an app's binding."""

    kind: Kind
    binding: Row[Any]
    resource: Mapping[str, Any]
    app_guid: str | None = None
    app_name: str = ""


def public(annotations: str) -> dict[str, str]:
    """Annotations whose key has a prefix are meant for others, those without are the user's own."""
    return {key: value for key, value in msgspec.json.decode(annotations).items() if "/" in key}


def of_instance(tx: Tx, guid: str) -> Facts | None:
    """The facts of an instance, or None when there is no such managed one."""
    instance = rows.by_guid(tx, service_instances, guid)
    return None if instance is None else _facts(tx, instance)


def _facts(tx: Tx, instance: Row[Any]) -> Facts | None:
    offer = service_offers.of_plan(tx, instance.service_plan_guid)
    if offer is None:
        return None
    broker = rows.by_guid(tx, service_brokers, offer.service_broker_guid)
    space = rows.by_guid(tx, spaces, instance.space_guid)
    organization = rows.by_guid(tx, organizations, space.organization_guid if space is not None else None)
    assert broker is not None, "an offering never outlives its broker"
    assert space is not None, "an instance never outlives its space"
    assert organization is not None, "a space never outlives its organization"
    context = {
        "platform": "cloudfoundry",
        "organization_guid": organization.guid,
        "organization_name": organization.name,
        "organization_annotations": public(organization.annotations),
        "space_guid": space.guid,
        "space_name": space.name,
        "space_annotations": public(space.annotations),
    }
    return Facts(instance, offer, Broker.of(tx, broker), context)


def of_binding(tx: Tx, kind: Kind, guid: str) -> BindingFacts | None:
    """The facts of a binding, or None when there is no such one of a managed instance."""
    binding = rows.by_guid(tx, kind.table, guid)
    if binding is None:
        return None
    instance = rows.by_guid(tx, service_instances, binding.service_instance_guid)
    assert instance is not None, "a binding never outlives its instance"
    facts = _facts(tx, instance)
    if facts is None:
        return None
    app = rows.by_guid(tx, apps, binding.app_guid) if kind is APP else None
    return BindingFacts(
        facts.instance,
        facts.offer,
        facts.broker,
        facts.context,
        kind=kind,
        binding=binding,
        resource=_resource(tx, kind, binding, app),
        app_guid=app.guid if app is not None else None,
        app_name=app.name if app is not None else "",
    )


def _resource(tx: Tx, kind: Kind, binding: Row[Any], app: Row[Any] | None) -> dict[str, Any]:
    if kind is KEY:
        return {}
    if kind is ROUTE:
        route = tx.one(select(routes).where(routes.c.guid == binding.route_guid))
        assert route is not None, "a route binding never outlives its route"
        return {"route": uri(tx, route)}
    assert app is not None, "a binding never outlives its app"
    return {"app_guid": app.guid, "space_guid": app.space_guid, "app_annotations": public(app.annotations)}
