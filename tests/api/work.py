"""Doing accepted work in tests: the platform's own runner and handlers, one job after the other, in this thread."""

from typing import Any

from cupola.jobs.runner import Runner
from cupola.processes.handlers import handlers
from cupola.store import jobs
from tests.api.conftest import Client, Cloud

__all__ = ["finish", "finished"]

_LEASE = 60_000_000


def finish(cloud: Cloud) -> None:
    """Run every job that may run now, and those that these enqueue."""
    runner = Runner(cloud.database, handlers(cloud.settings), cloud.settings.jobs, cloud.database.bells)
    while True:
        with cloud.database.write() as tx:
            found = [row for lane in cloud.settings.jobs.lanes for row in jobs.claim(tx, "test", lane, _LEASE, 100)]
        if not found:
            return
        for row in found:
            runner._work(row)


def finished(cloud: Cloud, client: Client, method: str, path: str) -> Any:
    """Ask for something that is accepted, let it be done, and give its job as the API shows it."""
    answer = client.request(method, path)
    assert answer.status_code == 202, f"{method} {path}: {answer.status_code} {answer.text}"
    finish(cloud)
    return client.ok("GET", answer.headers["Location"].removeprefix(cloud.settings.api_url))
