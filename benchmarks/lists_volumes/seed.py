"""A large platform: the volumes of Cloud Foundry's own performance CI (cf-performance-tests) in one database, and apps.

`STEPS` is the list of what is put in, one function for each kind of thing; a further kind is one more function. Guids
are the same in every run.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Any

import msgspec

from benchmarks.lists_volumes.bulk import Bulk, bulk
from cupola import clock
from cupola.config import Settings
from cupola.domain import bootstrap
from cupola.roles import ADMIN, ORGANIZATION_ROLES, READ, SPACE_ROLES, WRITE, Actor
from cupola.store.apps import apps, processes
from cupola.store.database import Database
from cupola.store.identity import identities
from cupola.store.migrate import upgrade
from cupola.store.orgs import (
    isolation_segment_entitlements,
    isolation_segments,
    organization_quotas,
    organizations,
    roles,
    space_quotas,
    spaces,
    users,
)
from cupola.store.platform import audit_events, security_group_spaces, security_groups
from cupola.store.routes import destinations, domains, routes
from cupola.store.schema import label_index

__all__ = ["STEPS", "Town", "Volumes", "seed"]

Values = Mapping[str, Any]
EVENT_TYPES = (
    "audit.app.update",
    "audit.app.create",
    "audit.app.restage",
    "audit.app.process.crash",
    "audit.user.space_developer_add",
    "audit.user.organization_user_add",
    "audit.organization.update",
    "audit.service_instance.create",
)
SEGMENT_SHARE, GROUP_SHARE = 2, 2
"""Half of the organizations are entitled to a segment; half of the spaces have half of the groups."""


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


def _quotas(town: Town, into: Bulk) -> None:
    made = town.make("organization_quotas", town.volumes.organization_quotas)
    into.insert(
        organization_quotas,
        (
            {**common, "name": f"quota-{n}", "name_key": f"quota-{n}", "paid_services_allowed": True}
            for n, common in made
        ),
    )


def _named(common: Values, name: str) -> dict[str, Any]:
    return {**common, "name": name, "name_key": name}


def _organizations(town: Town, into: Bulk) -> None:
    quotas = town.guids["organization_quotas"]

    def rows() -> Iterator[Values]:
        for number, common in town.make("organizations", town.volumes.organizations):
            quota = quotas[number % len(quotas)]
            yield {**_named(common, f"org-{number}"), "suspended": False, "deleting": False, "quota_guid": quota}

    into.insert(organizations, rows())


def _space(common: Values, name: str, organization: str) -> Values:
    flags = {"suspended": False, "deleting": False, "ssh_enabled": True}
    return {**_named(common, name), **flags, "organization_guid": organization}


def _spaces(town: Town, into: Bulk) -> None:
    made = town.make("spaces", town.volumes.organizations)
    owners = town.guids["organizations"]
    into.insert(spaces, (_space(common, "space", owners[number]) for number, common in made))


def _readers(town: Town, into: Bulk) -> None:
    """The regular users with roles all over the platform."""
    every, inside = town.guids["organizations"], town.guids["spaces"]
    town.actors["admin"] = Actor(guid=town.guid(), name="admin", scopes=frozenset({ADMIN}))
    names = ("tenth", "roles", "manager", "developer", "auditor", "groups", "member")
    guids = {name: town.user(name) for name in names}
    at = {"created_at": town.base, "updated_at": town.base, "is_client": False}
    into.insert(users, ({"guid": guid, **at} for guid in guids.values()))

    def rows() -> Iterator[Values]:
        for number, organization in enumerate(every[5::10]):
            yield town.role(guids["tenth"], ORGANIZATION_ROLES[number % 4], organization)
            for type_ in ORGANIZATION_ROLES:
                yield town.role(guids["roles"], type_, organization)
        for space in inside[5::10]:
            for type_ in SPACE_ROLES:
                yield town.role(guids["roles"], type_, space)
        for organization in every[: town.volumes.managed]:
            yield town.role(guids["manager"], "organization_manager", organization)
        for organization in every[:4]:
            yield town.role(guids["auditor"], "organization_auditor", organization)
        middle = town.volumes.app_spaces // 2
        for number in range(middle, middle + 20):
            yield town.role(guids["developer"], "space_developer", inside[number % len(inside)])
            yield town.role(guids["developer"], "organization_user", every[number % len(every)])

    # A small platform has fewer places than the developer wants, and each role only once.
    distinct = {(role["user_guid"], role["type"], role["target_guid"]): role for role in rows()}
    into.insert(roles, distinct.values())


def _domains(town: Town, into: Bulk) -> None:
    def rows() -> Iterator[Values]:
        owners = town.guids["organizations"]
        shared = town.volumes.shared_domains
        for number, common in town.make("domains", shared + town.volumes.managed):
            owner = None if number < shared else owners[number - shared]
            flags = {"internal": False, "enforce_route_policies": False}
            yield {**common, "name": f"domain-{number}.example.org", **flags, "organization_guid": owner}

    into.insert(domains, rows())


def _space_quotas(town: Town, into: Bulk) -> None:
    made = town.make("space_quotas", town.volumes.managed)
    owners = town.guids["organizations"]
    into.insert(
        space_quotas,
        (
            {**common, "name": "small", "organization_guid": owners[number], "paid_services_allowed": True}
            for number, common in made
        ),
    )


def _segments(town: Town, into: Bulk) -> None:
    made = town.make("isolation_segments", town.volumes.segments)
    into.insert(isolation_segments, (_named(common, f"segment-{number}") for number, common in made))
    segments = town.guids["isolation_segments"]
    entitled = town.guids["organizations"][: town.volumes.managed // SEGMENT_SHARE]
    into.insert(
        isolation_segment_entitlements,
        (
            {"isolation_segment_guid": town.random.choice(segments), "organization_guid": organization}
            for organization in entitled
        ),
    )


def _further_organization(town: Town, into: Bulk, name: str, count: int) -> list[str]:
    """An organization with so many spaces of its own; gives their guids."""
    quota = town.guids["organization_quotas"][0]
    ((_, common),) = town.make(name, 1)
    values = {**_named(common, name), "suspended": False, "deleting": False, "quota_guid": quota}
    into.insert(organizations, [values])
    made = town.make(f"{name}_spaces", count)
    into.insert(spaces, (_space(one, f"space-{number}", common["guid"]) for number, one in made))
    return town.guids[f"{name}_spaces"]


def _groups(town: Town, into: Bulk) -> None:
    rule = msgspec.json.encode([{"protocol": "tcp", "destination": "10.0.0.0/8", "ports": "443"}]).decode()
    flags = {"running_default": False, "staging_default": False}
    made = town.make("security_groups", town.volumes.groups)
    into.insert(security_groups, ({**common, "name": f"group-{n}", "rules": rule, **flags} for n, common in made))
    groups, inside = town.guids["security_groups"], _further_organization(town, into, "grouped", town.volumes.groups)

    def bound() -> Iterator[Values]:
        for space in inside[::GROUP_SHARE]:
            for group in town.random.sample(groups, len(groups) // GROUP_SHARE):
                yield {"security_group_guid": group, "space_guid": space, "phase": "running"}

    into.insert(security_group_spaces, bound())
    reader = town.user("groups")
    into.insert(roles, (town.role(reader, "space_developer", space) for space in inside))
    into.insert(roles, [town.role(reader, "organization_manager", town.guids["grouped"][0])])


def _crowd(town: Town, into: Bulk) -> None:
    made = town.make("crowd", town.volumes.crowd)
    into.insert(users, ({**common, "is_client": False} for _, common in made))
    (space,) = _further_organization(town, into, "crowded", 1)
    (organization,) = town.guids["crowded"]

    def names() -> Iterator[Values]:
        empty = {"email": "", "given_name": "", "family_name": "", "active": True, "verified": True}
        counters = {"password_changed_at": 0, "password_change_required": False, "generation": 0, "version": 0}
        at = {"created_at": town.base, "updated_at": town.base}
        for number, guid in enumerate(town.guids["crowd"]):
            name = f"user-{number}@example.org"
            yield {"guid": guid, "username": name, "username_key": name, "origin": "uaa", **empty, **counters, **at}

    def given() -> Iterator[Values]:
        for user in (*town.guids["crowd"], town.user("member")):
            yield town.role(user, "organization_user", organization)
            yield town.role(user, "space_developer", space)

    into.insert(identities, names())
    into.insert(roles, given())


def _events(town: Town, into: Bulk) -> None:
    every = zip(town.guids["organizations"], town.guids["spaces"], strict=True)
    places = list(every)[: town.volumes.event_organizations]

    def rows() -> Iterator[Values]:
        actor = town.actors["admin"].guid
        kinds = town.random.choices(EVENT_TYPES, k=town.volumes.events)
        for number, type_ in enumerate(kinds):
            organization, space = places[number * 7919 % len(places)]
            target = town.guid()
            if number % 5000 == 0:
                town.guids.setdefault("event_targets", []).append(target)
            yield {
                "guid": town.guid(),
                "created_at": town.base + number * 1000,
                "type": type_,
                "actor_guid": actor,
                "actor_type": "user",
                "actor_name": "admin",
                "target_guid": target,
                "target_type": "app",
                "target_name": f"target-{number}",
                "data": '{"request":{"state":"STARTED"}}',
                "space_guid": space,
                "organization_guid": organization,
            }

    into.insert(audit_events, rows())


def _apps(town: Town, into: Bulk) -> None:
    inside = town.guids["spaces"][: town.volumes.app_spaces]

    def rows() -> Iterator[Values]:
        for number, common in town.make("apps", len(inside) * 10):
            yield {
                **_named(common, f"app-{number}"),
                "space_guid": inside[number * 7919 % len(inside)],
                "state": "STARTED" if number % 3 else "STOPPED",
                "lifecycle_type": "buildpack",
                "stack": "cflinuxfs4",
                "ssh_enabled": True,
                "revisions_enabled": True,
                "service_binding_k8s": False,
                "file_based_vcap_services": False,
                "labels": f'{{"team":"team-{number % 100}"}}',
            }

    into.insert(apps, rows())
    into.insert(
        label_index,
        (
            {"resource_type": "apps", "resource_guid": guid, "key": "team", "value": f"team-{number % 100}"}
            for number, guid in enumerate(town.guids["apps"])
        ),
    )


def _processes(town: Town, into: Bulk) -> None:
    made = zip(town.guids["apps"], town.make("processes", len(town.guids["apps"])), strict=True)

    def rows() -> Iterator[Values]:
        for app, (_, common) in made:
            yield {
                **common,
                "guid": app,
                "app_guid": app,
                "type": "web",
                "state": "STOPPED",
                "version": common["guid"],
                "instances": 1,
                "memory_mb": 256,
                "disk_mb": 1024,
                "log_rate": -1,
                "health_check_type": "port",
                "readiness_type": "process",
            }

    into.insert(processes, rows())


def _routes(town: Town, into: Bulk) -> None:
    shared = town.guids["domains"][: town.volumes.shared_domains]
    inside = town.guids["spaces"][: town.volumes.app_spaces]

    def rows() -> Iterator[Values]:
        for number, common in town.make("routes", len(town.guids["apps"])):
            place = {"domain_guid": shared[number % len(shared)], "space_guid": inside[number * 7919 % len(inside)]}
            yield {**common, "host": f"app-{number}", "path": "", "port": 0, **place, "options": "{}"}

    into.insert(routes, rows())
    made = town.make("destinations", len(town.guids["apps"]))
    pairs = zip(made, town.guids["routes"], town.guids["apps"], strict=True)
    into.insert(
        destinations,
        ({**common, "route_guid": route, "app_guid": app, "process_type": "web"} for (_, common), route, app in pairs),
    )


STEPS = (
    _quotas,
    _organizations,
    _spaces,
    _readers,
    _domains,
    _space_quotas,
    _segments,
    _groups,
    _crowd,
    _events,
    _apps,
    _processes,
    _routes,
)


def seed(database: Database, settings: Settings, volumes: Volumes) -> Town:
    """Make the schema as a first start does, and put everything in."""
    upgrade(database)
    with database.write() as tx:
        bootstrap.ensure(tx, settings)
    town = Town(volumes, base=clock.micros() - 86_400_000_000)
    into = bulk(database)
    for step in STEPS:
        step(town, into)
    into.finish()
    return town
