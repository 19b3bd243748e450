"""What the platform does again and again on its own behalf: sweeping, pruning, forgetting."""

from collections.abc import Mapping

from sqlalchemy import delete, select, union_all

from cupola import clock
from cupola.blobs.store import LocalStore
from cupola.config import Settings
from cupola.domain import network_policies, retention, service_sweeps, tasks, usage
from cupola.jobs.periodic import Chore
from cupola.logs.ring import Ring
from cupola.secrets.vault import Vault
from cupola.store import identity, jobs
from cupola.store.apps import buildpack_caches
from cupola.store.database import Database
from cupola.store.platform import audit_events, buildpacks
from cupola.store.reseal import finish_rotation
from cupola.store.staging import droplets, packages

__all__ = ["chores"]

_DAY = 86_400
_BLOB_GRACE = 3600.0
"""Seconds in which whoever stored a blob commits its reference."""


def chores(settings: Settings, database: Database, blobs: LocalStore, ring: Ring, vault: Vault) -> Mapping[str, Chore]:
    """Name to chore. All of them are safe to run again, and to be killed."""

    def sweep_blobs() -> None:
        # The references are read after the blobs that may go are old enough, so none of them can gain one unseen.
        with database.read() as tx:
            referenced = union_all(
                *(select(table.c.digest) for table in (packages, droplets, buildpacks, buildpack_caches))
            )
            keep = {digest for digest in tx.scalars(referenced) if digest}
        blobs.sweep(keep, _BLOB_GRACE)

    def prune() -> None:
        now = clock.micros()
        with database.write() as tx:
            jobs.prune(tx, now - 90 * _DAY * 1_000_000)
            tx.run(delete(audit_events).where(audit_events.c.created_at < now - 31 * _DAY * 1_000_000))
            usage.prune(tx, now - 31 * _DAY * 1_000_000)
            network_policies.delete_stale(tx)
            retention.prune(tx)
            identity.prune(tx)

    def sweep_tasks() -> None:
        with database.write() as tx:
            tasks.sweep(tx)

    def fail_stuck_services() -> None:
        with database.write() as tx:
            service_sweeps.fail_stuck(tx, settings)

    def fail_abandoned_services() -> None:
        with database.write() as tx:
            service_sweeps.fail_abandoned(tx)

    def forget_logs() -> None:
        ring.expire(7.0 * _DAY)

    def seal_anew() -> None:
        finish_rotation(database, vault)

    return {
        "seal anew after a rotation of keys": Chore(60, seal_anew),
        "sweep blobs": Chore(1800, sweep_blobs),
        "sweep tasks": Chore(30, sweep_tasks),
        "fail service operations that never began": Chore(300, fail_stuck_services),
        "fail service operations without a job": Chore(3600, fail_abandoned_services),
        "prune jobs, events and history": Chore(_DAY / 4, prune),
        "forget old logs": Chore(_DAY / 4, forget_logs),
    }
