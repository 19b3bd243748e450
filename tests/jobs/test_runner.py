"""Plain jobs: their changes and their end are one, failures are told, lanes do not wait for each other."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import IntegrityError

from cupola import errors
from cupola.jobs.outside import Done, Job, Outcome, Outside, OutsideJob, Retry
from cupola.store import jobs
from cupola.store.database import Database, Tx
from tests.jobs.rig import ended, enqueue, job_of, marks, note, running

SECOND = 1_000_000
DEFAULT = jobs.Wanted("default")


def run(database: Database, handler: Callable[[Tx, Job], None], *guids: str) -> list[str]:
    """States in which the jobs ended."""

    async def work() -> list[str]:
        async with running(database, {"work": handler}):
            return [job.state for job in await ended(database, *guids)]

    return asyncio.run(work())


def test_changes_and_end_of_a_job_commit_together(fresh_database: Database) -> None:
    guid = enqueue(fresh_database, "work", {"mark": "a"})
    assert run(fresh_database, lambda tx, job: note(tx, job.payload["mark"]), guid) == ["COMPLETE"]
    assert marks(fresh_database, "a") == 1


def test_a_failed_job_has_changed_nothing_and_says_why(fresh_database: Database) -> None:
    def fail(tx: Tx, job: Job) -> None:
        note(tx, "a")
        raise errors.unprocessable("It cannot be.")

    guid = enqueue(fresh_database, "work", dedup="one at a time")
    assert run(fresh_database, fail, guid) == ["FAILED"]
    assert marks(fresh_database, "a") == 0
    job = job_of(fresh_database, guid)
    assert job.errors == [{"code": 10008, "title": "CF-UnprocessableEntity", "detail": "It cannot be."}]
    assert job.dedup is None


def test_a_job_that_asks_for_it_is_tried_again(fresh_database: Database) -> None:
    attempts = []

    def work(tx: Tx, job: Job) -> None:
        attempts.append(job.attempts)
        note(tx, "a")
        if job.attempts < 3:
            raise Retry(0.01, "not yet")

    guid = enqueue(fresh_database, "work")
    assert run(fresh_database, work, guid) == ["COMPLETE"]
    assert attempts == [1, 2, 3]
    assert marks(fresh_database, "a") == 1


def test_a_conflict_in_the_database_is_tried_again(fresh_database: Database) -> None:
    def work(tx: Tx, job: Job) -> None:
        note(tx, "a")
        if job.attempts == 1:
            raise IntegrityError("INSERT", {}, Exception("UNIQUE"))

    guid = enqueue(fresh_database, "work")
    assert run(fresh_database, work, guid) == ["COMPLETE"]
    assert marks(fresh_database, "a") == 1


def test_a_job_that_nobody_knows_fails(fresh_database: Database) -> None:
    guid = enqueue(fresh_database, "unheard of")
    assert run(fresh_database, lambda tx, job: None, guid) == ["FAILED"]
    assert "does not know how to do unheard of" in job_of(fresh_database, guid).errors[0]["detail"]


def test_a_bug_is_tried_some_times_and_then_told_without_its_words(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cupola.jobs.runner._MAX_ATTEMPTS", 2)

    def work(tx: Tx, job: Job) -> None:
        raise KeyError("a secret")

    guid = enqueue(fresh_database, "work")
    assert run(fresh_database, work, guid) == ["FAILED"]
    job = job_of(fresh_database, guid)
    assert (job.attempts, job.errors[0]["code"]) == (2, 10001)
    assert "secret" not in str(job.errors)


def test_a_lane_that_is_stuck_blocks_no_other(fresh_database: Database) -> None:
    free = threading.Event()

    def work(tx: Tx, job: Job) -> None:
        if job.payload.get("wait"):
            assert free.wait(20)

    async def both() -> list[str]:
        # Plain jobs of SQLite would wait for each other's transaction; here the stuck ones wait before theirs.
        handlers = {"work": work, "quick": lambda tx, job: None}
        async with running(fresh_database, handlers, lanes={"default": 1, "broker": 1}):
            (quick,) = await ended(fresh_database, quick_one)
            free.set()
            await ended(fresh_database, *stuck)
        return [quick.state]

    stuck = [enqueue(fresh_database, "work", {"wait": not fresh_database.is_sqlite}) for _ in range(3)]
    quick_one = enqueue(fresh_database, "quick", lane="broker")
    assert asyncio.run(both()) == ["COMPLETE"]


def test_a_lane_runs_no_more_jobs_at_once_than_it_may(fresh_database: Database) -> None:
    if fresh_database.is_sqlite:
        pytest.skip("plain jobs have a transaction each, and SQLite has one writer")
    lock, running_now, most = threading.Lock(), 0, 0
    both = threading.Barrier(2, timeout=20)

    def work(tx: Tx, job: Job) -> None:
        nonlocal running_now, most
        with lock:
            running_now += 1
            most = max(most, running_now)
        both.wait()
        with lock:
            running_now -= 1

    guids = [enqueue(fresh_database, "work") for _ in range(6)]
    assert run(fresh_database, work, *guids) == ["COMPLETE"] * 6
    assert most == 2


def test_jobs_wait_for_their_time_and_do_not_wait_longer(fresh_database: Database) -> None:
    """Not for the next look at the table, which is seconds away."""
    guid = enqueue(fresh_database, "work", run_after=0.3)

    async def timed() -> float:
        start = asyncio.get_running_loop().time()
        async with running(fresh_database, {"work": lambda tx, job: None}):
            await ended(fresh_database, guid)
            return asyncio.get_running_loop().time() - start

    assert 0.2 < asyncio.run(timed()) < 3


def test_a_leased_job_is_nobody_elses_until_the_lease_is_over(fresh_database: Database) -> None:
    guid = enqueue(fresh_database, "work")
    with fresh_database.write() as tx:
        assert [row.guid for row in jobs.claim(tx, "one", DEFAULT, 60 * SECOND, 5)] == [guid]
    with fresh_database.write() as tx:
        assert jobs.claim(tx, "two", DEFAULT, 60 * SECOND, 5) == []
        assert jobs.renew(tx, "one", guid, -1)
    with fresh_database.write() as tx:
        (again,) = jobs.claim(tx, "two", DEFAULT, 60 * SECOND, 5)
    assert (again.guid, again.attempts) == (guid, 2)
    with fresh_database.write() as tx:
        assert not jobs.renew(tx, "one", guid, 60 * SECOND)
        assert not jobs.holds(tx, "one", guid)
        assert jobs.holds(tx, "two", guid)


def test_a_lease_is_renewed_as_long_as_the_job_runs(fresh_database: Database) -> None:
    seen = []

    def work(tx: Tx, job: Job) -> None:
        seen.append(job.attempts)

    async def long() -> None:
        async def slowly(job: OutsideJob) -> Outcome:
            seen.append(job.attempts)
            await asyncio.sleep(0.7)
            return Done()

        handlers = {"work": Outside(slowly)}
        async with (
            running(fresh_database, handlers, lease_seconds=0.3),
            running(fresh_database, handlers, lease_seconds=0.3),
        ):
            await ended(fresh_database, guid)

    guid = enqueue(fresh_database, "work")
    asyncio.run(long())
    assert seen == [1]


def test_several_runners_do_each_job_once(fresh_database: Database) -> None:
    guids = [enqueue(fresh_database, "work", {"mark": f"m{number}"}) for number in range(30)]

    async def work() -> None:
        handlers = {"work": lambda tx, job: note(tx, job.payload["mark"])}
        async with running(fresh_database, handlers), running(fresh_database, handlers):
            await ended(fresh_database, *guids)

    asyncio.run(work())
    assert [marks(fresh_database, f"m{number}") for number in range(30)] == [1] * 30


def test_claims_at_the_same_time_are_disjoint(fresh_database: Database) -> None:
    guids = {enqueue(fresh_database, "work") for _ in range(20)}

    def claim(name: str) -> list[str]:
        with fresh_database.write() as tx:
            return [row.guid for row in jobs.claim(tx, name, DEFAULT, 60 * SECOND, 7)]

    with ThreadPoolExecutor(3) as threads:
        found = [guid for part in threads.map(claim, "abc") for guid in part]
    assert len(found) == len(set(found))
    assert set(found) <= guids
    assert len(found) >= 7


def test_a_single_process_frees_the_leases_of_its_dead_predecessor(fresh_database: Database) -> None:
    guid = enqueue(fresh_database, "work")
    with fresh_database.write() as tx:
        jobs.claim(tx, "dead", DEFAULT, 3600 * SECOND, 5)

    async def work() -> None:
        async with running(fresh_database, {"work": lambda tx, job: None}, alone=True):
            await ended(fresh_database, guid)

    asyncio.run(work())


def wanted(**targets: int) -> jobs.Wanted:
    return jobs.Wanted("default", (), targets, 2)


def test_of_one_target_few_jobs_run_at_once(fresh_database: Database) -> None:
    for _ in range(5):
        enqueue(fresh_database, "work", target="slow")
    other = enqueue(fresh_database, "work", target="quick")
    none = enqueue(fresh_database, "work")
    with fresh_database.write() as tx:
        first = jobs.claim(tx, "me", wanted(), 60 * SECOND, 10)
        assert [row.target for row in first] == ["slow", "slow", "quick", None]
        assert {other, none} < {row.guid for row in first}
    with fresh_database.write() as tx:
        assert jobs.claim(tx, "me", wanted(slow=2), 60 * SECOND, 10) == []
        assert not jobs.any_due(tx, wanted(slow=2))
        (third,) = jobs.claim(tx, "me", wanted(slow=1), 60 * SECOND, 10)
        assert third.target == "slow"


def test_the_same_work_is_not_enqueued_twice_while_it_waits(fresh_database: Database) -> None:
    first = enqueue(fresh_database, "work", dedup="key")
    assert enqueue(fresh_database, "work", dedup="key") == first
    run(fresh_database, lambda tx, job: None, first)
    assert enqueue(fresh_database, "work", dedup="key") != first


def test_waiting_for_a_job_ends_with_it_or_with_the_patience(fresh_database: Database) -> None:
    async def work() -> tuple[float, float]:
        clock = asyncio.get_running_loop().time
        async with running(fresh_database, {"work": lambda tx, job: None}) as runner:
            start = clock()
            await runner.wait(enqueue(fresh_database, "work"), 20)
            soon = clock() - start
            start = clock()
            await runner.wait(enqueue(fresh_database, "work", run_after=3600), 0.05)
            return soon, clock() - start

    soon, patience = asyncio.run(work())
    assert soon < 10
    assert 0.04 < patience < 10
