"""What there is to buy and what was bought: brokers, offerings, plans, who may use a plan, service instances."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.lists_volumes.bulk import Bulk
from benchmarks.lists_volumes.town import Town
from cupola.store.orgs import roles
from cupola.store.service_brokers import service_brokers, service_offerings, service_plan_visibilities, service_plans
from cupola.store.service_instances import service_instance_shares, service_instances

__all__ = ["instances", "plans"]

Values = Mapping[str, Any]
PLANS, SPACES_EACH, SHARED_EVERY = 10, 20, 10
"""Plans of an offering; spaces of each organization that has instances; one instance in ten is shared."""
_KINDS = ("public", "admin", "organization")


def plans(town: Town, into: Bulk) -> None:
    """Offerings of each kind; those for organizations are for `plan_organizations` of a tenth of all of them."""
    ((_, common),) = town.make("brokers", 1)
    sealed = {"url": "", "username": "", "password": "", "state": "AVAILABLE"}
    into.insert(service_brokers, [{**common, "name": "broker", **sealed}])
    into.insert(service_offerings, _offerings(town))
    into.insert(service_plans, _plans(town))
    into.insert(service_plan_visibilities, _visibilities(town))


def _offerings(town: Town) -> Iterator[Values]:
    flags = ("bindable", "plan_updateable", "available")
    more = ("instances_retrievable", "bindings_retrievable", "allow_context_updates", "shareable")
    for number, common in town.make("offerings", len(_KINDS) * town.volumes.offerings):
        name = f"offering-{number}"
        yield {
            **common,
            "service_broker_guid": town.guids["brokers"][0],
            "catalog_id": name,
            "name": name,
            "name_key": name,
            "description": "Something to have.",
            **dict.fromkeys(flags, True),
            **dict.fromkeys(more, False),
            "tags": "[]",
            "requires": "[]",
            "catalog_metadata": "{}",
            "osmapi_features": "[]",
        }


def _plans(town: Town) -> Iterator[Values]:
    for number, common in town.make("plans", len(town.guids["offerings"]) * PLANS):
        offering = number // PLANS
        name = f"plan-{number % PLANS}"
        yield {
            **common,
            "service_offering_guid": town.guids["offerings"][offering],
            "service_broker_guid": town.guids["brokers"][0],
            "catalog_id": f"plan-{number}",
            "name": name,
            "name_key": name,
            "description": "As much of it as one wants.",
            "available": True,
            "visibility_type": _KINDS[offering % len(_KINDS)],
            "free": True,
            "bindable": True,
            "plan_updateable": True,
            "maintenance_info": "{}",
            "catalog_metadata": "{}",
            "schemas": "{}",
        }


def _visibilities(town: Town) -> Iterator[Values]:
    organizations = town.guids["organizations"][: town.volumes.plan_customers]
    each = min(town.volumes.plan_organizations, len(organizations))
    for number, plan in enumerate(town.guids["plans"]):
        if _KINDS[number // PLANS % len(_KINDS)] == "organization":
            for organization in town.random.sample(organizations, each):
                yield {"service_plan_guid": plan, "organization_guid": organization}


def instances(town: Town, into: Bulk) -> None:
    """Instances in ten organizations of twenty spaces; `buyer` develops in half of these spaces."""
    spaces = [
        space
        for number in range(town.volumes.instance_organizations)
        for space in town.further_organization(into, f"shop-{number}", SPACES_EACH)
    ]
    buyer = town.user("buyer")
    into.insert(roles, (town.role(buyer, "space_developer", space) for space in spaces[::2]))
    into.insert(service_instances, _instances(town, spaces))
    made = enumerate(town.guids["instances"])
    into.insert(
        service_instance_shares,
        (
            {"service_instance_guid": guid, "space_guid": spaces[(number + 1) % len(spaces)]}
            for number, guid in made
            if number % SHARED_EVERY == 0
        ),
    )
    town.guids["shop_spaces"] = spaces


def _instances(town: Town, spaces: list[str]) -> Iterator[Values]:
    public = town.guids["plans"][:PLANS]
    for number, common in town.make("instances", len(spaces) * town.volumes.space_instances):
        at = {"operation_created_at": common["created_at"], "operation_updated_at": common["created_at"]}
        yield {
            **common,
            "name": f"instance-{number}",
            "type": "managed",
            "space_guid": spaces[number % len(spaces)],
            "service_plan_guid": public[number % PLANS],
            "tags": "[]",
            "maintenance_info": "{}",
            "operation_type": "create",
            "operation_state": "succeeded",
            "operation_description": "",
            **at,
        }
