"""A runner that is killed with SIGKILL leaves nothing half-done, and the next one does what is left exactly once."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cupola.jobs.outside import Done, Outcome, Outside, OutsideJob, Poll
from cupola.store.database import Database
from tests.jobs.rig import ended, enqueue, job_of, marks, note, running

ROOT = Path(__file__).parents[2]


@contextmanager
def victim(database: Database) -> Iterator["subprocess.Popen[str]"]:
    """A process that runs jobs of this database."""
    url = database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.jobs.victim", url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def heard(process: "subprocess.Popen[str]", word: str) -> str:
    """Read what the process says up to a line that begins with `word`."""
    output: IO[str] = process.stdout  # type: ignore[assignment]  # it is piped
    for line in output:
        if line.startswith(word):
            return line.strip()
    raise AssertionError(f"the process ended without saying {word}")


def finish(database: Database, handlers: Any, guids: list[str]) -> list[Any]:
    async def work() -> list[Any]:
        # On PostgreSQL another controller may live: the dead one's leases run out by themselves.
        async with running(database, handlers, alone=database.is_sqlite):
            return await ended(database, *guids)

    return asyncio.run(work())


def test_every_job_is_done_exactly_once_although_runners_are_killed(fresh_database: Database) -> None:
    names = [f"m{number}" for number in range(40)]
    guids = [enqueue(fresh_database, "slow", {"mark": name}) for name in names]
    for killed_at in range(3):
        with victim(fresh_database) as process:
            for _ in range(4 + killed_at):
                heard(process, "working")
            process.kill()
            process.wait()
    before = [marks(fresh_database, name) for name in names]
    assert 0 < sum(before) < len(names)
    found = finish(fresh_database, {"slow": lambda tx, job: note(tx, job.payload["mark"])}, guids)
    assert {job.state for job in found} == {"COMPLETE"}
    assert [marks(fresh_database, name) for name in names] == [1] * len(names)


def test_who_goes_on_knows_that_somebody_was_asked(fresh_database: Database) -> None:
    guid = enqueue(fresh_database, "outside", lane="broker")
    with victim(fresh_database) as process:
        heard(process, "asked")
        process.kill()
        process.wait()
    assert job_of(fresh_database, guid).state == "PROCESSING"
    seen = []

    async def go_on(job: OutsideJob) -> Outcome:
        seen.append((job.payload.get("asked"), job.attempts))
        return Done(lambda tx: note(tx, "done"))

    (job,) = finish(fresh_database, {"outside": Outside(go_on)}, [guid])
    assert (job.state, seen) == ("COMPLETE", [(True, 2)])
    assert (marks(fresh_database, "asked"), marks(fresh_database, "done")) == (1, 1)


def test_a_poll_that_was_due_while_nobody_ran_is_made_up_for(fresh_database: Database) -> None:
    async def ask(job: OutsideJob) -> Outcome:
        job.payload["polls"] = job.payload.get("polls", 0) + 1
        if job.payload["polls"] < 3:
            return Poll(0.2)
        return Done()

    guid = enqueue(fresh_database, "ask")

    async def one_poll() -> None:
        bell = fresh_database.bells.listen("jobs")
        async with running(fresh_database, {"ask": Outside(ask)}):
            while job_of(fresh_database, guid).state != "POLLING":
                await bell.wait(1)
        bell.close()

    asyncio.run(one_poll())
    (job,) = finish(fresh_database, {"ask": Outside(ask)}, [guid])
    assert (job.state, job.payload["polls"]) == ("COMPLETE", 3)
