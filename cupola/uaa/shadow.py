"""Users of other identity providers: made at their first login, afterwards kept as the provider says, with its groups.

A user is known by what the provider calls it and never reuses (`sub`); one that was made before its first login, for a
role by name and origin, has only a name until then. Groups that came from the provider are marked as such: the next
login takes away those that it no longer gives, and none that somebody here gave.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, delete, select, update

from cupola.providers import Provider
from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.profiles import Profile, Refused

__all__ = ["logged_in", "mapped_groups"]

users, members = tables.identities, tables.group_members


def logged_in(tx: Tx, source: audit.Source, settings: Provider, profile: Profile) -> Row[Any]:
    """Note that a user of another provider logged in; the row as it is now. Raises Refused.

    IntegrityError when somebody else makes the same user at the same moment: then it is there at the next try.
    """
    row = _find(tx, profile)
    if row is None:
        if not settings.create_users:
            raise Refused(f"{profile.username} was not made known here, and identity providers may not do so")
        guid = tables.create_user(tx, profile.username, profile.origin, more=_values(profile))
        row = tx.one(select(users).where(users.c.guid == guid))
        assert row is not None
        audit.record(tx, "UserCreated", source, row)
    if not row.active:
        raise Refused(f"{profile.username} is deactivated here")
    values = {name: value for name, value in _values(profile).items() if row._mapping[name] != value}
    if values:
        values |= {"updated_at": tx.now, "version": users.c.version + 1}
    values |= {"previous_login_at": users.c.last_login_at, "last_login_at": tx.now}
    changed = tx.one(update(users).where(users.c.guid == row.guid).values(values).returning(users))
    assert changed is not None
    if profile.groups is not None:
        _take_groups(tx, row.guid, profile.origin, mapped_groups(tx, settings, profile.origin, profile.groups))
    audit.record(tx, "IdentityProviderAuthenticationSuccess", source, changed)
    return changed


def _find(tx: Tx, profile: Profile) -> Row[Any] | None:
    here = users.c.origin == profile.origin
    named = tx.one(select(users).where(here, users.c.username_key == profile.username.lower()))
    if profile.subject is None:
        return named
    known = tx.one(select(users).where(here, users.c.external_id == profile.subject))
    if known is not None:
        if named is not None and named.guid != known.guid:
            raise Refused(f"{profile.username} took a name that another user of the provider has here: delete that one")
        return known
    if named is not None and named.external_id is not None:
        # A name that was given to somebody else must not bring the roles of who had it before.
        raise Refused(
            f"{profile.username} was somebody else at the provider before (externalId {named.external_id}): "
            "delete that user here if it is gone"
        )
    return named


def _values(profile: Profile) -> dict[str, Any]:
    return {
        "username": profile.username,
        "username_key": profile.username.lower(),
        "email": profile.email or profile.username,
        "given_name": profile.given_name,
        "family_name": profile.family_name,
        "phone_number": profile.phone_number,
        "verified": profile.verified,
        "external_id": profile.subject or profile.external_id,
        "attributes": {name: list(values) for name, values in sorted(profile.attributes.items())},
    }


def mapped_groups(tx: Tx, settings: Provider, origin: str, theirs: Sequence[str]) -> set[str]:
    """Our groups for a provider's: as configured, and as `/Groups/External` says."""
    wanted = {_key(one) for one in theirs}
    found = {ours for name, listed in settings.groups.items() if _key(name) in wanted for ours in listed}
    mappings, groups = tables.external_groups, tables.identity_groups
    query = select(mappings.c.external_group, groups.c.name).join_from(
        mappings, groups, groups.c.guid == mappings.c.group_guid
    )
    rows = tx.all(query.where(mappings.c.origin == origin))
    return found | {row.name for row in rows if _key(row.external_group) in wanted}


def _key(name: str) -> str:
    """Names of groups are compared without case, and DNs without the blanks that may be between their parts."""
    return ",".join(part.strip() for part in name.lower().split(",")) if "=" in name else name.lower()


def _take_groups(tx: Tx, user: str, origin: str, wanted: set[str]) -> None:
    """Be in these groups by the provider's word, and in no others by it."""
    groups = tables.identity_groups
    query = select(groups.c.guid, groups.c.name, members.c.by_provider).join_from(
        groups, members, groups.c.guid == members.c.group_guid
    )
    held: Mapping[str, Row[Any]] = {row.name.lower(): row for row in tx.all(query.where(members.c.member_guid == user))}
    lost = [row.guid for name, row in held.items() if row.by_provider and name not in {one.lower() for one in wanted}]
    if lost:
        tx.run(delete(members).where(members.c.member_guid == user, members.c.group_guid.in_(lost)))
    new = [name for name in wanted if name.lower() not in held]
    if new:
        tables.add_to_groups(tx, user, new, origin=origin, by_provider=True)
