"""Rules of plans that are defined at their broker (reference/osmapi-and-extensions.md section 5)."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.domain import audit
from cupola.roles import Actor
from cupola.store.database import Tx
from cupola.store.service_brokers import service_plans

__all__ = ["record", "require_free_name", "require_same_words"]


def require_same_words(body: Mapping[str, Any], definition: Mapping[str, Any]) -> None:
    """A plan and its definition have one name and one description, or 422."""
    if any(body[name] != definition[name] for name in ("name", "description")):
        raise errors.unprocessable("Name and description must match the definition's name and description.")


def require_free_name(tx: Tx, offering_guid: str, name: str, but: str = "") -> None:
    """No other plan of an offering has this name, or 422."""
    columns = service_plans.c
    taken = select(columns.guid).where(columns.service_offering_guid == offering_guid, columns.name == name)
    if tx.scalar(taken.where(columns.guid != but)) is not None:
        raise errors.uniqueness(f"Service plan with name '{name}' already exists in this service offering.")


def record(tx: Tx, verb: str, actor: Actor, plan: Row[Any], request: Mapping[str, Any]) -> None:
    """The event that a user, not the broker, changed a plan."""
    data = {"request": dict(request)} if request else {}
    audit.record(tx, f"audit.service_plan.{verb}", actor, plan.guid, "service_plan", plan.name, data)
