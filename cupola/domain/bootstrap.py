"""What clients take for granted after the first start: made once, each thing by itself, never again when deleted.

`platform_state` remembers what was made, so that an operator may remove a default for good.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import insert, select, update

from cupola import errors
from cupola.config import Settings
from cupola.domain import organizations, spaces, stacks
from cupola.domain.isolation_segments import SHARED
from cupola.domain.router_groups import DEFAULT_TCP
from cupola.roles import system_actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import isolation_segments, organization_quotas
from cupola.store.orgs import organizations as organizations_table
from cupola.store.platform import platform_state, security_groups
from cupola.store.router_groups import router_groups
from cupola.store.routes import domains

__all__ = ["ensure"]

_PUBLIC = (
    "0.0.0.0-9.255.255.255",
    "11.0.0.0-169.253.255.255",
    "169.255.0.0-172.15.255.255",
    "172.32.0.0-192.167.255.255",
    "192.169.0.0-255.255.255.255",
)


def ensure(tx: Tx, settings: Settings) -> None:
    """Make what is missing of the defaults. Safe at every start."""
    made = set(tx.scalars(select(platform_state.c.name)))
    steps: dict[str, Callable[[Tx, Settings], None]] = {
        "quota": _quota,
        "segment": _segment,
        "stack": _stack,
        "domains": _domains,
        "security_groups": _security_groups,
        "router_groups": _router_groups,
        "start": _organization_and_space,
    }
    for name, make in steps.items():
        if f"made_{name}" not in made:
            make(tx, settings)
            _remember(tx, f"made_{name}", "1")
    if "default_stack" not in made:
        _remember(tx, "default_stack", settings.defaults.stack)
    else:
        tx.run(
            update(platform_state).where(platform_state.c.name == "default_stack").values(value=settings.defaults.stack)
        )


def _remember(tx: Tx, name: str, value: str) -> None:
    tx.run(insert(platform_state).values(name=name, value=value))


def _quota(tx: Tx, settings: Settings) -> None:
    values: dict[str, Any] = {
        "name": "default",
        "name_key": "default",
        "total_memory_in_mb": 10240,
        "total_routes": 1000,
        "total_service_instances": 100,
        "paid_services_allowed": True,
    }
    rows.add(tx, organization_quotas, values)


def _segment(tx: Tx, settings: Settings) -> None:
    rows.add(tx, isolation_segments, {"guid": SHARED, "name": "shared", "name_key": "shared"})


def _stack(tx: Tx, settings: Settings) -> None:
    description = "Cloud Foundry Linux-based filesystem, as this machine's own system offers it"
    stacks.create(tx, system_actor(), {"name": settings.defaults.stack, "description": description})


def _domains(tx: Tx, settings: Settings) -> None:
    rows.add(tx, domains, {"name": settings.apps_domain, "internal": False})
    rows.add(tx, domains, {"name": "apps.internal", "internal": True})


def _security_groups(tx: Tx, settings: Settings) -> None:
    public: list[dict[str, Any]] = [{"protocol": "all", "destination": network} for network in _PUBLIC]
    dns: list[dict[str, Any]] = [
        {"protocol": protocol, "destination": "0.0.0.0/0", "ports": "53"} for protocol in ("tcp", "udp")
    ]
    for name, rules in (("public_networks", public), ("dns", dns)):
        values = {"name": name, "rules": rules, "running_default": True, "staging_default": True}
        rows.add(tx, security_groups, values)


def _router_groups(tx: Tx, settings: Settings) -> None:
    # A group of this name is what clients look for; it has no ports, as no TCP routes are served yet.
    rows.add(tx, router_groups, {"name": DEFAULT_TCP, "type": "tcp", "reservable_ports": ""})


def _organization_and_space(tx: Tx, settings: Settings) -> None:
    actor = system_actor()
    try:
        organization = organizations.create(tx, actor, {"name": settings.defaults.organization})
    except errors.CloudError:
        found = select(organizations_table).where(
            organizations_table.c.name_key == settings.defaults.organization.lower()
        )
        existing = tx.one(found)
        assert existing is not None
        organization = existing
    spaces.create(tx, actor, settings.defaults.space, organization.guid, {})
