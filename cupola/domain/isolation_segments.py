"""Isolation segments: who is entitled to which, and who uses which (behaviours.md section 16).

The engines of this version place instances without regard to segments. What is said here is kept, and whoever says it
is warned.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update

from cupola import errors
from cupola.domain import audit
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import isolation_segment_entitlements as entitlements
from cupola.store.orgs import isolation_segments, organizations, spaces

__all__ = [
    "NOT_ENFORCED",
    "SHARED",
    "create",
    "delete",
    "entitle",
    "name_problems",
    "revoke",
    "set_default",
    "set_of_space",
    "update",
]

SHARED = "933b4c58-120b-499a-b85d-4b6fc9e2903b"
"""Guid of the segment that runs whatever is not assigned to another."""
NOT_ENFORCED = "Isolation segments are stored, not enforced by this engine yet."


def name_problems(name: Any) -> list[str]:
    """What is wrong with a segment's name; complete sentences."""
    if isinstance(name, str) and name and name.isprintable():
        return []
    return ["Isolation Segment names can only contain non-blank unicode characters"]


def create(tx: Tx, name: str, metadata: Mapping[str, Any] | None) -> Row[Any]:
    """Add a segment. Raises 422."""
    _require_name(tx, name)
    return rows.add(tx, isolation_segments, {"name": name, "name_key": name.lower()}, metadata)


def update(tx: Tx, segment: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Rename or relabel. Raises 422 for the shared segment and for one that is in use."""
    if segment.guid == SHARED:
        raise errors.unprocessable("Cannot update the shared Isolation Segment")
    if _is_used(tx, segment.guid):
        raise errors.unprocessable(
            "Cannot update Isolation Segments that are assigned as the default for an Organization or Space."
        )
    values: dict[str, Any] = {}
    if "name" in body:
        _require_name(tx, body["name"], but=segment.guid)
        values = {"name": body["name"], "name_key": body["name"].lower()}
    return rows.change(tx, isolation_segments, segment, values, body.get("metadata"))


def _is_used(tx: Tx, guid: str) -> bool:
    default = select(organizations.c.guid).where(organizations.c.default_isolation_segment_guid == guid)
    assigned = select(spaces.c.guid).where(spaces.c.isolation_segment_guid == guid)
    return any(tx.scalar(found.limit(1)) is not None for found in (default, assigned))


def _require_name(tx: Tx, name: str, *, but: str = "") -> None:
    problems = name_problems(name)
    if problems:
        raise errors.unprocessable(", ".join(problems))
    taken = select(isolation_segments.c.guid).where(
        isolation_segments.c.name_key == name.lower(), isolation_segments.c.guid != but
    )
    if tx.scalar(taken) is not None:
        raise errors.unprocessable("Isolation Segment names are case insensitive and must be unique")


def delete(tx: Tx, segment: Row[Any]) -> None:
    """Remove a segment. Raises 422 for the shared one, and while an organization is entitled to it."""
    if segment.guid == SHARED:
        raise errors.unprocessable(f"Cannot delete the {segment.name} Isolation Segment")
    entitled = select(entitlements.c.organization_guid).where(entitlements.c.isolation_segment_guid == segment.guid)
    if tx.scalar(entitled.limit(1)) is not None or _is_used(tx, segment.guid):
        raise errors.unprocessable("Revoke the Organization entitlements for your Isolation Segment.")
    rows.remove(tx, isolation_segments, [segment.guid])


def entitle(tx: Tx, segment: Row[Any], organization_guids: Sequence[str]) -> None:
    """Let organizations use a segment; the shared one becomes the default of those that have none. Raises 422."""
    found = rows.by_guids(tx, organizations, organization_guids)
    missing = [guid for guid in organization_guids if guid not in found]
    if missing:
        shown = ", ".join(f"'{guid}'" for guid in missing)
        raise errors.unprocessable(
            f"Unable to entitle organizations [{shown}] for the isolation segment. Ensure the organizations exist."
        )
    known = set(
        tx.scalars(
            select(entitlements.c.organization_guid).where(entitlements.c.isolation_segment_guid == segment.guid)
        )
    )
    new = [guid for guid in found if guid not in known]
    if new:
        tx.run(
            insert(entitlements),
            [{"isolation_segment_guid": segment.guid, "organization_guid": guid} for guid in new],
        )
    if segment.guid == SHARED:
        without = organizations.c.default_isolation_segment_guid.is_(None)
        tx.run(
            sql_update(organizations)
            .where(organizations.c.guid.in_(list(found)), without)
            .values(default_isolation_segment_guid=SHARED, updated_at=tx.now)
        )


def revoke(tx: Tx, segment: Row[Any], organization_guid: str) -> None:
    """Take a segment away from an organization. Raises 404, and 422 while it is used there."""
    organization = rows.by_guid(tx, organizations, organization_guid)
    if organization is None:
        raise errors.not_found("Org")
    if organization.default_isolation_segment_guid == segment.guid:
        raise errors.unprocessable(
            "Cannot remove the entitlement while this Isolation Segment is assigned as the "
            "Default Isolation Segment for the Organization."
        )
    assigned = select(spaces.c.name).where(
        spaces.c.organization_guid == organization_guid, spaces.c.isolation_segment_guid == segment.guid
    )
    names = tx.scalars(assigned.order_by(spaces.c.id))
    if names:
        shown = ", ".join(f"'{name}'" for name in names)
        raise errors.unprocessable(
            "Cannot remove the entitlement while this Isolation Segment is assigned to any Spaces. "
            f"Currently assigned to: {shown}"
        )
    tx.run(
        sql_delete(entitlements).where(
            entitlements.c.isolation_segment_guid == segment.guid,
            entitlements.c.organization_guid == organization_guid,
        )
    )


def set_default(tx: Tx, organization: Row[Any], segment_guid: str | None) -> Row[Any]:
    """Choose the segment of an organization's spaces that have none of their own. Raises 422."""
    if segment_guid is not None and not _is_entitled(tx, organization.guid, segment_guid):
        raise errors.unprocessable(
            f"Unable to assign isolation segment with guid '{segment_guid}'. "
            "Ensure it has been entitled to the organization."
        )
    return rows.change(tx, organizations, organization, {"default_isolation_segment_guid": segment_guid})


def set_of_space(tx: Tx, actor: Actor, space: Row[Any], segment_guid: str | None, body: Mapping[str, Any]) -> Row[Any]:
    """Choose a space's own segment. Raises 422; takes effect when apps start."""
    if segment_guid is not None and not _is_entitled(tx, space.organization_guid, segment_guid):
        raise errors.unprocessable(
            f"Unable to assign isolation segment with guid '{segment_guid}'. "
            "Ensure it has been entitled to the organization that this space belongs to."
        )
    changed = rows.change(tx, spaces, space, {"isolation_segment_guid": segment_guid})
    audit.record(
        tx,
        "audit.space.update",
        actor,
        space.guid,
        "space",
        space.name,
        {"request": dict(body)},
        space_guid=space.guid,
        organization_guid=space.organization_guid,
    )
    return changed


def _is_entitled(tx: Tx, organization_guid: str, segment_guid: str) -> bool:
    found = select(entitlements.c.organization_guid).where(
        entitlements.c.organization_guid == organization_guid, entitlements.c.isolation_segment_guid == segment_guid
    )
    return tx.scalar(found) is not None
