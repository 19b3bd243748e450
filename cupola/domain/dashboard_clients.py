"""Clients of the identity server for dashboards of services: made, changed and removed with a broker's catalog.

A client id belongs to the broker that claimed it first; one that somebody else made is never touched. Secrets are
hashed (argon2id) before the transaction that stores them: `prepare`, then `apply`. With `identity.mode = external` the
clients are at that server (cupola/brokers/dashboards.py), and only the claims are kept here.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import argon2
from argon2.exceptions import VerificationError
from sqlalchemy import delete, insert, select, update

from cupola.config import Settings
from cupola.domain import audit
from cupola.domain.service_catalog import Catalog, CatalogService, Report
from cupola.roles import Actor, system_actor
from cupola.store import identity, jobs
from cupola.store.database import Tx
from cupola.store.service_brokers import service_dashboard_clients

__all__ = [
    "REMOVAL",
    "Secrets",
    "apply",
    "claimed",
    "described",
    "hashes_of",
    "is_claimed",
    "prepare",
    "remove_all_of",
    "require_available",
    "taken",
]

REMOVAL = "service_dashboard_client.delete"
"""The job that removes a client at an identity server of others."""

_claims = service_dashboard_clients.c
_clients = identity.oauth_clients
_MAX_LENGTH = 255
_YEAR = 366 * 86_400
"""Seconds for which it is remembered that a client's tokens are no longer good: longer than any of them lives."""
_FORBIDDEN = frozenset("/\\\0:")
_TAKEN = "Service dashboard client id must be unique"


@dataclass(frozen=True)
class Secrets:
    """Hashes of the secrets of a catalog by client id; `kept` are those that are the stored ones still."""

    hashes: Mapping[str, str]
    kept: frozenset[str]


def _wanted(catalog: Catalog) -> dict[str, CatalogService]:
    return {one.dashboard_client["id"]: one for one in catalog.services if one.dashboard_client is not None}


def hashes_of(tx: Tx, catalog: Catalog) -> dict[str, list[str]]:
    """The stored hashes of the clients that a catalog names."""
    found = select(_clients.c.client_id, _clients.c.secret_hashes).where(
        _clients.c.client_id.in_(list(_wanted(catalog)))
    )
    return {row.client_id: row.secret_hashes for row in tx.all(found)}


def claimed(tx: Tx, broker_guid: str) -> list[str]:
    """Client ids of a broker."""
    return tx.scalars(select(_claims.client_id).where(_claims.service_broker_guid == broker_guid))


def is_claimed(tx: Tx, client_id: str) -> bool:
    """Whether some broker has this client."""
    return tx.scalar(select(_claims.client_id).where(_claims.client_id == client_id)) is not None


def described(catalog: Catalog, scopes: Collection[str], broker_guid: str) -> list[dict[str, Any]]:
    """The clients of a catalog, as UAA's API takes them; by the name one knows whose it is."""
    found = []
    for client_id, service in _wanted(catalog).items():
        assert service.dashboard_client is not None
        found.append(
            {
                "client_id": client_id,
                "client_secret": service.dashboard_client["secret"],
                "name": f"Dashboard of {service.name} (service broker {broker_guid})",
                "scope": sorted(scopes),
                "authorities": ["uaa.resource"],
                "authorized_grant_types": ["authorization_code"],
                "redirect_uri": [service.dashboard_client["redirect_uri"]],
            }
        )
    return found


def taken(catalog: Catalog, client_ids: Collection[str]) -> Report:
    """The report on clients that somebody else has at an identity server of others."""
    report = Report()
    for client_id, service in _wanted(catalog).items():
        if client_id in client_ids:
            report.parts.append(Report(f"Service {service.name}", [_TAKEN]))
    return report


def prepare(settings: Settings, catalog: Catalog, stored: Mapping[str, Sequence[str]]) -> Secrets:
    """Hash the secrets of a catalog; slow, so not in a transaction. None are kept with `identity.mode = external`."""
    if _is_elsewhere(settings):
        return Secrets({}, frozenset())
    hasher = argon2.PasswordHasher(
        time_cost=2, memory_cost=settings.identity.shared_secret_argon2_memory_kib, parallelism=1
    )
    hashes, kept = {}, set()
    for client_id, service in _wanted(catalog).items():
        assert service.dashboard_client is not None
        secret = service.dashboard_client["secret"]
        same = next((one for one in stored.get(client_id, ()) if _verified(hasher, one, secret)), None)
        hashes[client_id] = same or hasher.hash(secret)
        if same is not None:
            kept.add(client_id)
    return Secrets(hashes, frozenset(kept))


def _is_elsewhere(settings: Settings) -> bool:
    return settings.identity.mode == "external"


def _verified(hasher: argon2.PasswordHasher, kept: str, secret: str) -> bool:
    try:
        return hasher.verify(kept, secret)
    except (VerificationError, argon2.exceptions.InvalidHashError):
        return False


def require_available(tx: Tx, broker_guid: str, catalog: Catalog, report: Report) -> None:
    """Note below `report` which clients cannot be this broker's."""
    wanted = _wanted(catalog)
    own = set(tx.scalars(select(_claims.client_id).where(_claims.service_broker_guid == broker_guid)))
    foreign = set(tx.scalars(select(_clients.c.client_id).where(_clients.c.client_id.in_(list(wanted))))) - own
    claimed = select(_claims.client_id).where(
        _claims.client_id.in_(list(wanted)), _claims.service_broker_guid != broker_guid
    )
    foreign |= set(tx.scalars(claimed))
    for client_id, service in wanted.items():
        complaints = list(_problems(service))
        if client_id in foreign:
            complaints.append(_TAKEN)
        if complaints:
            report.parts.append(Report(f"Service {service.name}", complaints))


def _problems(service: CatalogService) -> list[str]:
    client = service.dashboard_client
    assert client is not None
    found = []
    if len(client["id"]) > _MAX_LENGTH or not _FORBIDDEN.isdisjoint(client["id"]):
        found.append(
            f"Service dashboard client id must have at most {_MAX_LENGTH} characters, no slashes and no colons"
        )
    if len(client["secret"]) > _MAX_LENGTH:
        found.append(f"Service dashboard client secret must have at most {_MAX_LENGTH} characters")
    if not _is_address(client["redirect_uri"]):
        found.append("Service dashboard client redirect_uri must be an http or https url with a host")
    return found


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and "*" not in parts.netloc
    except ValueError:
        return False


def apply(tx: Tx, settings: Settings, actor: Actor, broker_guid: str, catalog: Catalog, secrets: Secrets) -> None:
    """Make the broker's clients those of its catalog. `actor` is the broker, of audit events."""
    wanted = _wanted(catalog)
    own = set(tx.scalars(select(_claims.client_id).where(_claims.service_broker_guid == broker_guid)))
    for client_id in sorted(own - set(wanted)):
        _remove(tx, actor, client_id)
    if _is_elsewhere(settings):
        for client_id, service in wanted.items():
            _claim(tx, actor, broker_guid, service, client_id)
        return
    for client_id, service in wanted.items():
        assert service.dashboard_client is not None
        values = {
            "scope": sorted(settings.brokers.dashboard_scopes),
            "authorities": ["uaa.resource"],
            "grant_types": ["authorization_code"],
            "redirect_uris": [service.dashboard_client["redirect_uri"]],
            "secret_hashes": [secrets.hashes[client_id]],
            "updated_at": tx.now,
        }
        if client_id in own and identity.client_exists(tx, client_id):
            tx.run(update(_clients).where(_clients.c.client_id == client_id).values(values))
            if client_id not in secrets.kept:
                _end_sessions(tx, client_id)
        else:
            generation = identity.first_generation(tx, client_id)
            tx.run(insert(_clients).values(**values, client_id=client_id, generation=generation, created_at=tx.now))
        _claim(tx, actor, broker_guid, service, client_id)


def _claim(tx: Tx, actor: Actor, broker_guid: str, service: CatalogService, client_id: str) -> None:
    """Note that the client is this broker's, who has it perhaps already."""
    of_client = _claims.client_id == client_id
    claim = update(service_dashboard_clients).where(of_client, _claims.service_broker_guid == broker_guid)
    if tx.run(claim.values(offering_catalog_id=service.id)).rowcount:
        return
    new = {"client_id": client_id, "service_broker_guid": broker_guid, "offering_catalog_id": service.id}
    tx.run(insert(service_dashboard_clients).values(new))
    assert service.dashboard_client is not None
    data = {"secret": "[REDACTED]", "redirect_uri": service.dashboard_client["redirect_uri"]}
    audit.record(
        tx, "audit.service_dashboard_client.create", actor, client_id, "service_dashboard_client", client_id, data
    )


def _remove(tx: Tx, actor: Actor, client_id: str) -> None:
    if not identity.client_exists(tx, client_id):
        # It is at an identity server of others.
        once = f"{REMOVAL} {client_id}"
        jobs.enqueue(tx, REMOVAL, {"client_id": client_id}, actor=system_actor(), lane="broker", dedup=once)
    _end_sessions(tx, client_id)
    tx.run(delete(identity.approvals).where(identity.approvals.c.client_id == client_id))
    tx.run(delete(_clients).where(_clients.c.client_id == client_id))
    tx.run(delete(service_dashboard_clients).where(_claims.client_id == client_id))
    audit.record(
        tx, "audit.service_dashboard_client.delete", actor, client_id, "service_dashboard_client", client_id, {}
    )


def _end_sessions(tx: Tx, client_id: str) -> None:
    identity.new_generation(tx, "client", client_id, identity.longest_access(tx, _YEAR))
    identity.forget_sessions(tx, client_id=client_id)


def remove_all_of(tx: Tx, actor: Actor, broker_guid: str) -> None:
    """Remove the clients of a broker that goes."""
    for client_id in tx.scalars(select(_claims.client_id).where(_claims.service_broker_guid == broker_guid)):
        _remove(tx, actor, client_id)
