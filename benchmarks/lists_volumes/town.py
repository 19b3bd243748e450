"""How much there is on a large platform, and what was put in: guids by kind, users by name."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Any

from benchmarks.lists_volumes.bulk import Bulk
from cupola.roles import READ, WRITE, Actor
from cupola.store.orgs import organizations, spaces

__all__ = ["Town", "Volumes", "named", "space_row"]

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Volumes:
    """How many of each. The defaults are those of the performance CI, where it has the thing at all."""

    organizations: int = 100_000
    """With one space each; a tenth of them have a role for the user `tenth`, and all eight roles for `roles`."""
    managed: int = 20_000
    """Organizations whose manager is `manager`; each owns a private domain and a space quota."""
    organization_quotas: int = 50
    shared_domains: int = 100
    segments: int = 500
    groups: int = 500
    """Security groups, and spaces of the organization in which they are bound."""
    crowd: int = 10_000
    """Users of one organization and of its space."""
    events: int = 500_000
    event_organizations: int = 100
    """`auditor` audits four of them."""
    app_spaces: int = 10_000
    """Spaces with ten apps each; `developer` has 20 of them. Each app has a process, a route and a label."""
    offerings: int = 300
    """Of each kind: for everybody, for admins, for some organizations; with ten plans each."""
    plan_customers: int = 10_000
    plan_organizations: int = 200
    """Of the first so many organizations each plan for some is for so many."""
    instance_organizations: int = 10
    space_instances: int = 200
    """Service instances in each of their twenty spaces."""

    def scaled(self, factor: float) -> "Volumes":
        """As many times the number of everything, at least a few of each."""
        return replace(self, **{one.name: max(4, int(getattr(self, one.name) * factor)) for one in fields(self)})


@dataclass
class Town:
    """What was put in, for those who ask for it: guids by kind, actors by name."""

    volumes: Volumes
    base: int
    """Microseconds since 1970 of the first row; each row of a kind comes a millisecond after the one before."""
    guids: dict[str, list[str]] = field(default_factory=dict)
    actors: dict[str, Actor] = field(default_factory=dict)
    random: Random = field(default_factory=lambda: Random(20_260_821))

    def guid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def make(self, kind: str, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """`count` guids of a kind, with the columns that every resource has."""
        made = self.guids.setdefault(kind, [])
        for number in range(count):
            guid = self.guid()
            made.append(guid)
            at = self.base + number * 1000
            yield number, {"guid": guid, "created_at": at, "updated_at": at}

    def user(self, name: str) -> str:
        """The guid of a regular user."""
        if name not in self.actors:
            self.actors[name] = Actor(guid=self.guid(), name=name, scopes=frozenset({READ, WRITE}))
        return self.actors[name].guid

    def role(self, user: str, type_: str, target: str) -> dict[str, Any]:
        place = "space" if type_.startswith("space") else "organization"
        return {
            "guid": self.guid(),
            "created_at": self.base,
            "updated_at": self.base,
            "type": type_,
            "user_guid": user,
            "organization_guid": target if place == "organization" else None,
            "space_guid": target if place == "space" else None,
            "target_guid": target,
        }

    def further_organization(self, into: Bulk, name: str, count: int) -> list[str]:
        """An organization with so many spaces of its own; gives their guids."""
        quota = self.guids["organization_quotas"][0]
        ((_, common),) = self.make(name, 1)
        values = {**named(common, name), "quota_guid": quota}
        into.insert(organizations, [values])
        made = self.make(f"{name}_spaces", count)
        into.insert(spaces, (space_row(one, f"space-{number}", common["guid"]) for number, one in made))
        return self.guids[f"{name}_spaces"]


def named(common: Values, name: str) -> dict[str, Any]:
    """The columns of something with a name that is unique without regard to case."""
    return {**common, "name": name, "name_key": name}


def space_row(common: Values, name: str, organization: str) -> Values:
    """A space."""
    return {**named(common, name), "organization_guid": organization}
