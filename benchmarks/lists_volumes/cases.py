"""Which lists are asked for, by whom, beside the same question by hand and what the performance CI publishes.

Published times are averages of the ten runs up to 21 August 2026 (cf-deployment v60.1.0, CAPI 1.243, PostgreSQL 15) in
milliseconds. They hold the whole way of a `cf curl` over TLS on other hardware: they say where the trouble is, not who
is faster.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.lists_volumes.hand import Question
from benchmarks.lists_volumes.town import Town

__all__ = ["Case", "cases"]

# OR over several tables makes PostgreSQL read everything: by hand, too, one asks for keys.
_ORG_ROLES = "SELECT organization_guid FROM roles WHERE user_guid = :actor AND organization_guid IS NOT NULL"
_MANAGED = _ORG_ROLES + " AND type = 'organization_manager'"
_SPACE_ROLES = "SELECT space_guid FROM roles WHERE user_guid = :actor AND space_guid IS NOT NULL"
_SPACES = f"{_SPACE_ROLES} UNION ALL SELECT guid FROM spaces WHERE organization_guid IN ({_MANAGED})"
_AUDITED = _ORG_ROLES + " AND type IN ('organization_manager', 'organization_auditor')"
_ROUTE_SPACES = f"{_SPACE_ROLES} UNION ALL SELECT guid FROM spaces WHERE organization_guid IN ({_AUDITED})"
_DOMAIN_ORGS = (
    f"{_AUDITED} UNION ALL SELECT organization_guid FROM spaces WHERE guid IN ({_SPACE_ROLES})"  # managers, members
)
_VISIBLE_DOMAINS = (
    "id IN (SELECT id FROM domains WHERE organization_guid IS NULL UNION "
    f"SELECT id FROM domains WHERE organization_guid IN ({_DOMAIN_ORGS}) UNION SELECT id FROM domains WHERE guid IN "
    f"(SELECT domain_guid FROM domain_shares WHERE organization_guid IN ({_DOMAIN_ORGS})))"
)


@dataclass(frozen=True)
class Case:
    """One list, asked for by one user."""

    title: str
    who: str
    path: str
    hand: Question
    published: int | None = None
    last: bool = False
    """Whether the last page is asked for."""

    @property
    def per_page(self) -> int:
        return int(self.path.partition("per_page=")[2].partition("&")[0] or 50)

    @property
    def steady(self) -> bool:
        """Whether what the caller may see and what is shown of a row stays the same where there are more rows."""
        if self.path.startswith(("/v3/organization_quotas", "/v3/security")):
            return False
        # Public plans are everybody's: of a marketplace of a hundred times the size a developer sees as many times more.
        return self.who == "admin" or (self.who == "developer" and not self.path.startswith("/v3/service_"))

    @property
    def is_first(self) -> bool:
        """The first page of a list as it is, for the growth with the number of rows."""
        return not self.last and self.path.partition("?")[2] in {"", "per_page=50"}


def _pages(
    title: str,
    who: str,
    path: str,
    hand: Question,
    published: int | None = None,
    large: int | None = None,
    end: int | None = None,
) -> Iterator[Case]:
    """The first page, a large one and the last one."""
    yield Case(title, who, path, hand, published)
    yield Case(f"{title}, 500 per page", who, f"{path}?per_page=500", hand, large)
    yield Case(f"{title}, last page", who, path, hand, end, last=True)


def cases(town: Town) -> Iterator[Case]:
    """All of them, those of the performance CI first."""
    yield from _organizations()
    yield from _roles(town)
    yield from _quotas()
    yield from _domains(town)
    yield from _groups(town)
    yield from _segments()
    yield from _events(town)
    yield from _users(town)
    yield from _spaces()
    yield from _apps(town)
    yield from _processes_and_routes()
    yield from _market()
    yield from _instances(town)


def _organizations() -> Iterator[Case]:
    path, every = "/v3/organizations", Question("organizations")
    mine = Question("organizations", f"guid IN ({_ORG_ROLES})")
    yield from _pages("organizations", "admin", path, every, 108)
    yield from _pages("organizations", "tenth", path, mine, 97, 255)
    newest = Question("organizations", order="created_at DESC, guid DESC")
    yield Case("organizations, newest", "admin", path + "?order_by=-created_at", newest)
    by_name = Question("organizations", f"guid IN ({_ORG_ROLES})", order="name, guid")
    yield Case("organizations, by name", "tenth", path + "?order_by=name", by_name)


def _roles(town: Town) -> Iterator[Case]:
    path = "/v3/roles"
    where = (
        f"id IN (SELECT id FROM roles WHERE organization_guid IN ({_ORG_ROLES}) UNION "
        f"SELECT id FROM roles WHERE space_guid IN ({_SPACES}))"
    )
    yield from _pages("roles", "admin", path, Question("roles"), 139)
    yield from _pages("roles", "roles", path, Question("roles", where), 370)
    types = "organization_manager,space_developer"
    two = "', '".join(types.split(","))
    yield Case("roles, types", "roles", f"{path}?types={types}", Question("roles", f"{where} AND type IN ('{two}')"))
    organizations, spaces = town.guids["organizations"][5:500:10], town.guids["spaces"][5:500:10]
    both = Question(
        "roles",
        f"{where} AND organization_guid IN ({{guids}}) AND space_guid IN ({{more}})",
        guids=organizations,
        more=spaces,
    )
    query = f"organization_guids={','.join(organizations)}&space_guids={','.join(spaces)}"
    yield Case("roles, 50 organizations and spaces", "roles", f"{path}?{query}", both)
    few = Question("roles", where)
    yield from _pages("roles", "developer", path, few)


def _quotas() -> Iterator[Case]:
    path = "/v3/organization_quotas"
    every = "SELECT quota_guid, guid FROM organizations WHERE quota_guid IN ({page}) ORDER BY id"
    mine = (
        f"SELECT quota_guid, guid FROM organizations WHERE quota_guid IN ({{page}}) AND guid IN ({_ORG_ROLES}) "
        "ORDER BY id"
    )
    yield Case("organization quotas", "admin", path, Question("organization_quotas", related=every), 2244)
    yield Case("organization quotas", "tenth", path, Question("organization_quotas", related=mine), 1285)
    managed = f"organization_guid IN ({_MANAGED})"
    applied = f"SELECT quota_guid FROM spaces WHERE guid IN ({_SPACE_ROLES}) AND quota_guid IS NOT NULL"
    spaces = f"SELECT quota_guid, guid FROM spaces WHERE quota_guid IN ({{page}}) AND guid IN ({_SPACES}) ORDER BY id"
    either = Question("space_quotas", f"({managed} OR guid IN ({applied}))", related=spaces)
    yield from _pages("space quotas", "manager", "/v3/space_quotas", either)


def _domains(town: Town) -> Iterator[Case]:
    shares = "SELECT domain_guid, organization_guid FROM domain_shares WHERE domain_guid IN ({page})"
    mine_of_these = f"{shares} AND organization_guid IN ({_ORG_ROLES})"
    path, mine = "/v3/domains", Question("domains", _VISIBLE_DOMAINS, related=mine_of_these)
    yield from _pages("domains", "admin", path, Question("domains", related=shares), 247, 2308)
    yield from _pages("domains", "manager", path, mine)
    organization = town.guids["organizations"][town.volumes.managed // 2]
    here = Question(
        "domains",
        f"(organization_guid IS NULL OR organization_guid = :a) AND {_VISIBLE_DOMAINS}",
        values={"a": organization},
        related=mine_of_these,
    )
    yield Case("an organization's domains", "manager", f"/v3/organizations/{organization}/domains", here)


def _groups(town: Town) -> Iterator[Case]:
    path = "/v3/security_groups"
    bound = "SELECT security_group_guid, space_guid FROM security_group_spaces WHERE security_group_guid IN ({page})"
    here = f"SELECT security_group_guid FROM security_group_spaces WHERE space_guid IN ({_SPACES})"
    where = f"(running_default OR staging_default OR guid IN ({here}))"
    readable = bound + f" AND space_guid IN ({_SPACES}) ORDER BY space_guid"
    bound += " ORDER BY space_guid"
    yield Case("security groups", "admin", path, Question("security_groups", related=bound))
    yield Case("security groups", "groups", path, Question("security_groups", where, related=readable), 364)
    large = Question("security_groups", related=bound)
    yield Case("security groups, 500 per page", "admin", path + "?per_page=500", large, 1066)
    some = town.guids["grouped_spaces"][:100]
    only = "guid IN (SELECT security_group_guid FROM security_group_spaces WHERE phase = 'running' AND space_guid IN ({guids}))"
    of_spaces = Question("security_groups", only, related=bound, guids=some)
    yield Case("security groups of 100 spaces", "admin", f"{path}?running_space_guids={','.join(some)}", of_spaces)


def _segments() -> Iterator[Case]:
    path = "/v3/isolation_segments"
    entitled = (
        f"SELECT isolation_segment_guid FROM isolation_segment_entitlements WHERE organization_guid IN ({_ORG_ROLES})"
    )
    mine = Question("isolation_segments", f"guid IN ({entitled})")
    yield Case("isolation segments", "admin", path, Question("isolation_segments"))
    yield Case("isolation segments", "manager", path, mine)
    large = Question("isolation_segments")
    yield Case("isolation segments, 500 per page", "admin", path + "?per_page=500", large, 1287)


def _events(town: Town) -> Iterator[Case]:
    path = "/v3/audit_events"
    audited = f"organization_guid IN ({_ORG_ROLES} AND type = 'organization_auditor')"
    trusted = f"{_SPACE_ROLES} AND type IN ('space_auditor', 'space_developer', 'space_supporter')"
    mine = Question(
        "audit_events",
        f"id IN (SELECT id FROM audit_events WHERE {audited} UNION "
        f"SELECT id FROM audit_events WHERE space_guid IN ({trusted}))",
    )
    yield from _pages("audit events", "admin", path, Question("audit_events"), 109, 212, 197)
    yield from _pages("audit events", "auditor", path, mine)
    types = ("audit.user.space_developer_add", "audit.user.organization_user_add")
    some = f"type IN ('{types[0]}', '{types[1]}')"
    newest = "order_by=-created_at"
    of_types = Question("audit_events", some, order="created_at DESC, guid DESC")
    yield Case("audit events, types, newest", "admin", f"{path}?types={','.join(types)}&{newest}", of_types)
    my_types = Question("audit_events", f"{mine.where} AND {some}", order="created_at DESC, guid DESC")
    yield Case("audit events, types, newest", "auditor", f"{path}?types={','.join(types)}&{newest}", my_types)
    target = town.guids["event_targets"][0]
    of_target = Question("audit_events", "target_guid = :a", order="created_at DESC, guid DESC", values={"a": target})
    yield Case("audit events of a target", "admin", f"{path}?target_guids={target}&per_page=5&{newest}", of_target)
    since = Question("audit_events", "type = 'audit.organization.update' AND created_at >= 1668413582000000")
    yield Case(
        "audit events since, one type",
        "admin",
        f"{path}?types=audit.organization.update&created_ats[gt]=2022-11-14T08:13:01Z",
        since,
    )


def _users(town: Town) -> Iterator[Case]:
    names = "SELECT guid, username, origin FROM identities WHERE guid IN ({page})"
    (organization,) = town.guids["crowded"]
    members = "guid IN (SELECT user_guid FROM roles WHERE organization_guid = :a)"
    of_organization = Question("users", members, related=names, values={"a": organization})
    yield Case("users of an organization", "admin", f"/v3/organizations/{organization}/users", of_organization, 249)
    mine = f"{_ORG_ROLES} UNION ALL SELECT organization_guid FROM spaces WHERE guid IN ({_SPACE_ROLES})"
    near = (
        f"(guid = :actor OR guid IN (SELECT user_guid FROM roles WHERE organization_guid IN ({mine})) OR guid IN "
        f"(SELECT user_guid FROM roles WHERE space_guid IN (SELECT guid FROM spaces WHERE organization_guid IN ({mine}))))"
    )
    yield from _pages("users", "admin", "/v3/users", Question("users", related=names))
    yield from _pages("users", "member", "/v3/users", Question("users", near, related=names))


def _spaces() -> Iterator[Case]:
    path = "/v3/spaces"
    yield from _pages("spaces", "admin", path, Question("spaces"))
    yield from _pages("spaces", "roles", path, Question("spaces", f"guid IN ({_SPACES})"))
    yield Case("spaces", "developer", path, Question("spaces", f"guid IN ({_SPACES})"))


def _apps(town: Town) -> Iterator[Case]:
    path, readable = "/v3/apps", f"space_guid IN ({_SPACES})"
    yield from _pages("apps", "admin", path, Question("apps"))
    yield from _pages("apps", "roles", path, Question("apps", readable))
    yield from _pages("apps", "developer", path, Question("apps", readable))
    newest = Question("apps", readable, order="created_at DESC, guid DESC")
    yield Case("apps, newest", "roles", path + "?order_by=-created_at", newest)
    by_name = Question("apps", order="name, guid")
    yield Case("apps, by name", "admin", path + "?order_by=name", by_name)
    space = town.guids["spaces"][town.volumes.app_spaces // 2]
    here = Question("apps", f"space_guid = :a AND {readable}", values={"a": space})
    yield Case("apps of a space", "developer", f"{path}?space_guids={space}", here)
    labelled = "guid IN (SELECT resource_guid FROM label_index WHERE resource_type = 'apps' AND key = 'team' AND value = 'team-7')"
    team = Question("apps", f"{labelled} AND {readable}")
    yield Case("apps with a label", "roles", path + "?label_selector=team=team-7", team)
    yield Case("apps with a label", "admin", path + "?label_selector=team=team-7", Question("apps", labelled))
    around = "SELECT s.guid, s.*, o.* FROM spaces s JOIN organizations o ON o.guid = s.organization_guid WHERE s.guid IN (SELECT space_guid FROM apps WHERE guid IN ({page}))"
    including = Question("apps", readable, related=around)
    yield Case("apps with their spaces", "roles", path + "?include=space,space.organization", including)


def _processes_and_routes() -> Iterator[Case]:
    shown = "processes.*, (SELECT space_guid FROM apps WHERE guid = app_guid) AS space_guid"
    mine = Question("processes", f"app_guid IN (SELECT guid FROM apps WHERE space_guid IN ({_SPACES}))", shown=shown)
    yield from _pages("processes", "admin", "/v3/processes", Question("processes", shown=shown))
    yield from _pages("processes", "developer", "/v3/processes", mine)
    yield from _pages("processes", "roles", "/v3/processes", mine)
    columns = "route_guid, guid, created_at, updated_at, app_guid, process_type, weight, port, protocol"
    mapped = f"SELECT {columns} FROM destinations WHERE route_guid IN ({{page}}) ORDER BY id"
    named = "routes.*, (SELECT name FROM domains WHERE guid = domain_guid) AS domain_name"
    shared = f"SELECT route_guid FROM route_shares WHERE space_guid IN ({_SPACES})"
    readable = (
        f"id IN (SELECT id FROM routes WHERE space_guid IN ({_ROUTE_SPACES}) UNION "
        f"SELECT id FROM routes WHERE guid IN ({shared}))"
    )
    mine = Question("routes", readable, shown=named, related=mapped)
    yield from _pages("routes", "admin", "/v3/routes", Question("routes", shown=named, related=mapped))
    yield from _pages("routes", "developer", "/v3/routes", mine)
    yield from _pages("routes", "roles", "/v3/routes", mine)


def _market() -> Iterator[Case]:
    bought = f"SELECT service_plan_guid FROM service_plan_visibilities WHERE organization_guid IN ({_ORG_ROLES})"
    visible = (
        "SELECT {0} FROM service_plans WHERE visibility_type = 'public' UNION SELECT {0} FROM service_plans WHERE "
        f"visibility_type = 'organization' AND guid IN ({bought}) UNION "
        f"SELECT {{0}} FROM service_plans WHERE space_guid IN ({_SPACE_ROLES})"
    )
    mine = Question("service_plans", f"id IN ({visible.format('id')})")
    yield from _pages("service plans", "admin", "/v3/service_plans", Question("service_plans"), None, 744)
    yield from _pages("service plans", "buyer", "/v3/service_plans", mine, 654)
    theirs = Question("service_offerings", f"guid IN ({visible.format('service_offering_guid')})")
    yield from _pages("service offerings", "admin", "/v3/service_offerings", Question("service_offerings"))
    yield from _pages("service offerings", "buyer", "/v3/service_offerings", theirs)
    yield Case("service plans", "developer", "/v3/service_plans", mine)
    yield Case("service offerings", "developer", "/v3/service_offerings", theirs)


def _instances(town: Town) -> Iterator[Case]:
    path = "/v3/service_instances"
    shared = f"SELECT service_instance_guid FROM service_instance_shares WHERE space_guid IN ({_SPACES})"
    readable = (
        f"id IN (SELECT id FROM service_instances WHERE space_guid IN ({_SPACES}) UNION "
        f"SELECT id FROM service_instances WHERE guid IN ({shared}))"
    )
    yield from _pages("service instances", "admin", path, Question("service_instances"))
    yield from _pages("service instances", "buyer", path, Question("service_instances", readable))
    (organization,) = town.guids["shop-0"]
    inside = "SELECT guid FROM spaces WHERE organization_guid = :a"
    there = (
        f"id IN (SELECT id FROM service_instances WHERE space_guid IN ({inside}) UNION SELECT id FROM service_instances "
        f"WHERE guid IN (SELECT service_instance_guid FROM service_instance_shares WHERE space_guid IN ({inside})))"
    )
    of_organization = Question("service_instances", there, values={"a": organization})
    title = "service instances of an organization"
    yield Case(title, "admin", f"{path}?organization_guids={organization}", of_organization, 277)
    some = town.guids["instances"][:1000:10]
    named = Question("service_instances", "guid IN ({guids})", guids=some)
    yield Case("service instances, 100 guids", "admin", f"{path}?guids={','.join(some)}", named, 576)
