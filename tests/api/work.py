"""Doing accepted work in tests: the platform's own runner and handlers, until nothing is to be done for a while."""

import asyncio
from contextlib import closing
from typing import Any

from sqlalchemy import select

from cupola.brokers.client import BrokerClient
from cupola.jobs.runner import Runner
from cupola.processes.handlers import handlers
from cupola.store import jobs
from tests.cloud import Client, Cloud

__all__ = ["finish", "finished"]

_SOON = 3_000_000
"""Microseconds within which a job that waits for its time is waited for."""


def finish(cloud: Cloud) -> None:
    """Run every job that may run soon, and those that these enqueue."""
    if _something_to_do(cloud):
        asyncio.run(_finish(cloud))


def _something_to_do(cloud: Cloud) -> bool:
    with cloud.database.read() as tx:
        soon = jobs.jobs.c.run_at <= tx.now + _SOON
        return tx.scalar(select(jobs.jobs.c.guid).where(jobs.is_open(), soon).limit(1)) is not None


async def _finish(cloud: Cloud) -> None:
    brokers = BrokerClient(cloud.settings)
    runner = Runner(cloud.database, handlers(cloud.settings, brokers), cloud.settings.jobs, cloud.database.bells)
    with closing(cloud.database.bells.listen("jobs", "jobs.done")) as bell:
        await runner.start(alone=True)
        while await asyncio.to_thread(_something_to_do, cloud):
            await bell.wait(0.2)
    await runner.stop()
    await brokers.close()


def finished(cloud: Cloud, client: Client, method: str, path: str, body: Any = None) -> Any:
    """Ask for something that is accepted, let it be done, and give its job as the API shows it."""
    answer = client.request(method, path, body)
    assert answer.status_code == 202, f"{method} {path}: {answer.status_code} {answer.text}"
    finish(cloud)
    return client.ok("GET", answer.headers["Location"].removeprefix(cloud.settings.api_url))
