"""What is sold: one service with plans that differ in how many connections a database takes at once."""

from dataclasses import dataclass
from typing import Any

__all__ = ["PLANS", "SERVICE_ID", "Plan", "catalog"]

SERVICE_ID = "8f4b8ab2-6f63-4a0b-9a1c-3f1f0c5d7e10"
_NOTHING = {"$schema": "http://json-schema.org/draft-04/schema#", "type": "object", "additionalProperties": False}


@dataclass(frozen=True)
class Plan:
    """One plan; `connections` are those of all that is bound to an instance together."""

    id: str
    name: str
    connections: int


PLANS = {
    plan.id: plan
    for plan in (
        Plan("1c0f3a52-2f0d-4c59-8a55-0a3f0d6be801", "small", 20),
        Plan("1c0f3a52-2f0d-4c59-8a55-0a3f0d6be802", "medium", 60),
    )
}


def catalog() -> dict[str, Any]:
    """As the Open Service Broker API has it."""
    schema = {"parameters": _NOTHING}
    plans = [
        {
            "id": plan.id,
            "name": plan.name,
            "description": f"A database that takes {plan.connections} connections at once",
            "free": True,
            "bindable": True,
            "plan_updateable": True,
            "metadata": {"displayName": plan.name.capitalize(), "bullets": [f"{plan.connections} connections"]},
            "schemas": {
                "service_instance": {"create": schema, "update": schema},
                "service_binding": {"create": schema},
            },
        }
        for plan in PLANS.values()
    ]
    service = {
        "id": SERVICE_ID,
        "name": "postgresql",
        "description": "PostgreSQL databases",
        "bindable": True,
        "instances_retrievable": True,
        "bindings_retrievable": True,
        "plan_updateable": True,
        "allow_context_updates": False,
        "tags": ["postgresql", "sql", "database"],
        "metadata": {
            "displayName": "PostgreSQL",
            "longDescription": "A database of its own for each instance, and a user of its own for each binding.",
            "shareable": True,
        },
        "plans": plans,
    }
    return {"services": [service]}
