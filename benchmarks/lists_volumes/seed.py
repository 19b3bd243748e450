"""A large platform: the volumes of Cloud Foundry's own performance CI (cf-performance-tests) in one database, and apps.

`STEPS` is the list of what is put in, one function for each kind of thing; a further kind is one more function. Guids
are the same in every run.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from benchmarks.lists_volumes import market
from benchmarks.lists_volumes.bulk import Bulk, bulk
from benchmarks.lists_volumes.town import Town, Volumes, named, space_row
from cupola import clock
from cupola.config import Settings
from cupola.domain import bootstrap
from cupola.roles import ADMIN, ORGANIZATION_ROLES, SPACE_ROLES, Actor
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

__all__ = ["STEPS", "seed"]

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


def _quotas(town: Town, into: Bulk) -> None:
    made = town.make("organization_quotas", town.volumes.organization_quotas)
    into.insert(
        organization_quotas,
        (
            {**common, "name": f"quota-{n}", "name_key": f"quota-{n}", "paid_services_allowed": True}
            for n, common in made
        ),
    )


def _organizations(town: Town, into: Bulk) -> None:
    quotas = town.guids["organization_quotas"]

    def rows() -> Iterator[Values]:
        for number, common in town.make("organizations", town.volumes.organizations):
            quota = quotas[number % len(quotas)]
            yield {**named(common, f"org-{number}"), "quota_guid": quota}

    into.insert(organizations, rows())


def _spaces(town: Town, into: Bulk) -> None:
    made = town.make("spaces", town.volumes.organizations)
    owners = town.guids["organizations"]
    into.insert(spaces, (space_row(common, "space", owners[number]) for number, common in made))


def _readers(town: Town, into: Bulk) -> None:
    """The regular users with roles all over the platform."""
    every, inside = town.guids["organizations"], town.guids["spaces"]
    town.actors["admin"] = Actor(guid=town.guid(), name="admin", scopes=frozenset({ADMIN}))
    names = ("tenth", "roles", "manager", "developer", "auditor", "groups", "member", "buyer")
    guids = {name: town.user(name) for name in names}
    at = {"created_at": town.base, "updated_at": town.base}
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
        for number in range(0, min(town.volumes.plan_customers, len(every)), 2):
            yield town.role(guids["buyer"], "organization_manager", every[number])
            yield town.role(guids["buyer"], "space_developer", inside[number])
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
            yield {**common, "name": f"domain-{number}.example.org", "organization_guid": owner}

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
    into.insert(isolation_segments, (named(common, f"segment-{number}") for number, common in made))
    segments = town.guids["isolation_segments"]
    entitled = town.guids["organizations"][: town.volumes.managed // SEGMENT_SHARE]
    into.insert(
        isolation_segment_entitlements,
        (
            {"isolation_segment_guid": town.random.choice(segments), "organization_guid": organization}
            for organization in entitled
        ),
    )


def _groups(town: Town, into: Bulk) -> None:
    rule = msgspec.json.encode([{"protocol": "tcp", "destination": "10.0.0.0/8", "ports": "443"}]).decode()
    made = town.make("security_groups", town.volumes.groups)
    into.insert(security_groups, ({**common, "name": f"group-{n}", "rules": rule} for n, common in made))
    groups, inside = town.guids["security_groups"], town.further_organization(into, "grouped", town.volumes.groups)

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
    into.insert(users, (common for _, common in made))
    (space,) = town.further_organization(into, "crowded", 1)
    (organization,) = town.guids["crowded"]

    def names() -> Iterator[Values]:
        more = {"email": "", "active": True, "verified": True, "created_at": town.base, "updated_at": town.base}
        for number, guid in enumerate(town.guids["crowd"]):
            name = f"user-{number}@example.org"
            yield {"guid": guid, "username": name, "username_key": name, "origin": "uaa", **more}

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
                **named(common, f"app-{number}"),
                "space_guid": inside[number * 7919 % len(inside)],
                "state": "STARTED" if number % 3 else "STOPPED",
                "stack": "cflinuxfs4",
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
                "version": common["guid"],
                "instances": 1,
                "memory_mb": 256,
                "disk_mb": 1024,
                "log_rate": -1,
                "health_check_type": "port",
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
    market.plans,
    market.instances,
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
