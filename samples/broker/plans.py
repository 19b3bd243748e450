"""The plans of the service: two of our own, one that is slow, and those that were defined by the platform's admins."""

from typing import Any

SERVICE_ID = "6b7a1c0e-2f4a-4a0e-9a53-jotter"
SMALL, LARGE, SLOW = "jotter-small", "jotter-large", "jotter-slow"
MAINTENANCE = {"version": "1.1.0", "description": "Notes may be longer"}
DRAFT = "http://json-schema.org/draft-04/schema#"


def schema(maximum: int) -> dict[str, Any]:
    """Parameters of an instance."""
    return {
        "$schema": DRAFT,
        "type": "object",
        "properties": {"max_notes": {"type": "integer", "minimum": 1, "maximum": maximum}},
        "additionalProperties": False,
    }


def plan(id_: str, name: str, description: str, maximum: int, **more: Any) -> dict[str, Any]:
    """A plan of the catalog."""
    parameters = {"parameters": schema(maximum)}
    return {
        "id": id_,
        "name": name,
        "description": description,
        "maintenance_info": MAINTENANCE,
        "schemas": {"service_instance": {"create": parameters, "update": parameters}},
        **more,
    }


COSTS = {"costs": [{"amount": {"usd": 1.5, "eur": 1.4}, "unit": "MONTHLY"}]}
OWN = [
    plan(SMALL, "small", "Up to 100 notes", 100),
    plan(LARGE, "large", "Up to 10000 notes", 10_000, free=False, metadata=COSTS),
    plan(SLOW, "slow", "Up to 100 notes, made slowly", 100, maximum_polling_duration=600),
]
LIMITS = {SMALL: 100, LARGE: 10_000, SLOW: 100}


def of_definition(definition: dict[str, Any]) -> dict[str, Any]:
    """A defined plan as the catalog shows it."""
    properties = definition["properties"]
    return plan(
        definition["plan_id"],
        definition["name"],
        definition["description"],
        properties["max_notes"],
        free=properties.get("free", True),
        metadata=definition.get("metadata", {}),
    )


def limit(document: dict[str, Any], plan_id: str) -> int | None:
    """How many notes an instance of a plan may have; None for an unknown plan."""
    if plan_id in document["definitions"]:
        return int(document["definitions"][plan_id]["properties"]["max_notes"])
    return LIMITS.get(plan_id)


def catalog(document: dict[str, Any]) -> dict[str, Any]:
    """What the platform is offered."""
    service = {
        "id": SERVICE_ID,
        "name": "jotter",
        "description": "Notes under a key",
        "tags": ["notes", "key-value"],
        "bindable": True,
        "plan_updateable": True,
        "instances_retrievable": True,
        "bindings_retrievable": True,
        "metadata": {
            "displayName": "Jotter",
            "shareable": True,
            "osmapi": {"version": "1", "features": ["backup", "plan_definitions"]},
        },
        "plans": [*OWN, *map(of_definition, document["definitions"].values())],
    }
    return {"services": [service]}
