"""Who is called, and for whom."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from cupola.jobs.outside import Job
from cupola.roles import Actor
from cupola.store import sealed
from cupola.store.database import Tx
from cupola.store.service_brokers import service_brokers

__all__ = ["Broker", "Caller"]


@dataclass(frozen=True)
class Broker:
    """Where a broker is and how it knows us."""

    guid: str
    name: str
    url: str
    username: str = field(repr=False)
    password: str = field(repr=False)
    anywhere: bool = False
    """An admin gave the url, so it may be at a private address (cupola/outbound.py)."""

    @classmethod
    def of(cls, tx: Tx, row: Row[Any]) -> "Broker":
        """From a row of service_brokers."""
        columns = service_brokers.c
        return cls(
            row.guid,
            row.name,
            row.url,
            sealed.opened(tx, columns.username, row.username),
            sealed.opened(tx, columns.password, row.password),
            row.anywhere,
        )


@dataclass(frozen=True)
class Caller:
    """For whom a broker is called. Guid of the user, empty when nobody is known; id of the API request that began it."""

    user_guid: str = ""
    request_id: str = ""

    @classmethod
    def of(cls, actor: Actor, request_id: str = "") -> "Caller":
        """The actor of a request; the platform itself is nobody."""
        return cls("" if actor.type == "system" else actor.guid, request_id)

    @classmethod
    def of_job(cls, job: Job) -> "Caller":
        """Who asked for a job; the id of the request is in the payload as `request_id`."""
        return cls.of(job.actor, str(job.payload.get("request_id", "")))
