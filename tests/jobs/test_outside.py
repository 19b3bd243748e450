"""Outside jobs: no transaction while they wait, progress that outlives them, an end that commits with its changes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from cupola import errors
from cupola.errors import CloudError
from cupola.jobs.outside import Done, Job, LeaseLost, Outcome, Outside, OutsideJob, Poll, Retry
from cupola.store import jobs
from cupola.store.database import Database, Tx
from tests.jobs.rig import ended, enqueue, job_of, marks, note, running

Work = Callable[[OutsideJob], Awaitable[Outcome]]


def run(database: Database, work: Work, *guids: str, failed: Any = None, **settings: Any) -> list[Any]:
    """The jobs as they ended."""

    async def all_of_it() -> list[Any]:
        async with running(database, {"work": Outside(work, failed)}, **settings):
            return await ended(database, *guids)

    return asyncio.run(all_of_it())


def test_the_last_changes_commit_with_the_end(fresh_database: Database) -> None:
    async def work(job: OutsideJob) -> Outcome:
        job.payload["seen"] = True
        return Done(lambda tx: note(tx, "a"), warnings=["Mind the gap."])

    (job,) = run(fresh_database, work, enqueue(fresh_database, "work"))
    assert (job.state, job.warnings, job.payload) == ("COMPLETE", [{"detail": "Mind the gap."}], {"seen": True})
    assert marks(fresh_database, "a") == 1


def test_nothing_is_locked_while_it_waits(fresh_database: Database) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def work(job: OutsideJob) -> Outcome:
        await job.write(lambda tx: note(tx, "asked"))
        asked.set()
        await answer.wait()
        return Done()

    async def meanwhile() -> None:
        async with running(fresh_database, {"work": Outside(work)}):
            await asked.wait()
            # SQLite has a single writer: this would wait for ever.
            other = await asyncio.to_thread(enqueue, fresh_database, "work")
            assert job_of(fresh_database, guid).state == "PROCESSING"
            answer.set()
            await ended(fresh_database, guid, other)

    guid = enqueue(fresh_database, "work")
    asyncio.run(meanwhile())
    assert marks(fresh_database, "asked") == 2


def test_a_polling_job_is_seen_so_and_holds_no_slot(fresh_database: Database) -> None:
    seen = []

    async def work(job: OutsideJob) -> Outcome:
        polls = job.payload.setdefault("polls", 0)
        job.payload["polls"] += 1
        seen.append((job.payload["name"], polls, job.attempts))
        if polls < 2:
            return Poll(0.05, lambda tx: note(tx, "polled"))
        return Done()

    async def both() -> None:
        async with running(fresh_database, {"work": Outside(work)}, lanes={"default": 1}):
            await ended(fresh_database, *guids)

    guids = [enqueue(fresh_database, "work", {"name": name}) for name in "ab"]
    asyncio.run(both())
    assert sorted(seen) == [(name, polls, 1) for name in "ab" for polls in range(3)]
    # With a single slot, the second job asked before the first was done.
    assert seen.index(("b", 0, 1)) < seen.index(("a", 2, 1))
    assert marks(fresh_database, "polled") == 4


def test_between_two_polls_the_state_is_polling(fresh_database: Database) -> None:
    async def work(job: OutsideJob) -> Outcome:
        return Poll(3600)

    async def look() -> Any:
        bell = fresh_database.bells.listen("jobs")
        async with running(fresh_database, {"work": Outside(work)}) as runner:
            async with asyncio.timeout(20):
                while job_of(fresh_database, guid).state == "PROCESSING":
                    await bell.wait(1)
            await runner.wait(guid, 0.01)
        bell.close()
        return job_of(fresh_database, guid)

    guid = enqueue(fresh_database, "work")
    job = asyncio.run(look())
    assert (job.state, job.lease_owner, job.attempts) == ("POLLING", None, 0)
    with fresh_database.read() as tx:
        due = jobs.next_due(tx, "default")
        assert due is not None
        assert due > tx.now + 3_500_000_000
        assert jobs.open_count(tx) == 1


def test_a_failure_is_noted_together_with_the_jobs(fresh_database: Database) -> None:
    async def work(job: OutsideJob) -> Outcome:
        problem = errors.unprocessable("provision could not be completed: no")
        raise problem from ValueError("no")

    told = []

    def failed(tx: Tx, job: Job, error: CloudError) -> None:
        note(tx, "failed")
        told.append((job.guid, error.detail, str(error.__cause__)))

    guid = enqueue(fresh_database, "work")
    (job,) = run(fresh_database, work, guid, failed=failed)
    assert (job.state, job.errors[0]["detail"]) == ("FAILED", "provision could not be completed: no")
    assert told == [(guid, "provision could not be completed: no", "no")]
    assert marks(fresh_database, "failed") == 1


def test_an_error_of_the_last_transaction_fails_the_job(fresh_database: Database) -> None:
    def then(tx: Tx) -> None:
        note(tx, "changed")
        raise errors.unprocessable("Name must be unique")

    async def work(job: OutsideJob) -> Outcome:
        return Done(then)

    guid = enqueue(fresh_database, "work")
    (job,) = run(fresh_database, work, guid, failed=lambda tx, job, error: note(tx, "failed"))
    assert job.errors[0]["detail"] == "Name must be unique"
    assert (marks(fresh_database, "changed"), marks(fresh_database, "failed")) == (0, 1)


def test_a_conflict_in_the_last_transaction_asks_nobody_again(fresh_database: Database) -> None:
    asked, tried = [], []

    def then(tx: Tx) -> None:
        note(tx, "a")
        tried.append(1)
        if len(tried) == 1:
            raise IntegrityError("INSERT", {}, Exception("UNIQUE"))

    async def work(job: OutsideJob) -> Outcome:
        asked.append(1)
        return Done(then)

    (job,) = run(fresh_database, work, enqueue(fresh_database, "work"))
    assert (job.state, len(asked), len(tried), marks(fresh_database, "a")) == ("COMPLETE", 1, 2, 1)


def test_a_bug_fails_the_job_in_the_end_and_is_noted(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cupola.jobs.runner._MAX_ATTEMPTS", 2)

    async def work(job: OutsideJob) -> Outcome:
        raise KeyError("a secret")

    guid = enqueue(fresh_database, "work")
    (job,) = run(fresh_database, work, guid, failed=lambda tx, job, error: note(tx, "failed"))
    assert (job.attempts, job.errors[0]["code"], marks(fresh_database, "failed")) == (2, 10001, 1)


def test_it_may_ask_to_be_tried_again(fresh_database: Database) -> None:
    async def work(job: OutsideJob) -> Outcome:
        if job.attempts < 3:
            raise Retry(0.01, "not yet")
        return Done(lambda tx: note(tx, "a"))

    (job,) = run(fresh_database, work, enqueue(fresh_database, "work"))
    assert (job.state, job.attempts, marks(fresh_database, "a")) == ("COMPLETE", 3, 1)


def test_who_has_lost_the_lease_changes_nothing_any_more(fresh_database: Database) -> None:
    lost = asyncio.Event()

    def steal(guid: str) -> None:
        with fresh_database.write() as tx:
            jobs.renew(tx, runner_of[0], guid, -1)
            jobs.claim(tx, "thief", jobs.Wanted("default"), 3_600_000_000, 5)

    runner_of: list[str] = []

    async def work(job: OutsideJob) -> Outcome:
        runner_of.append(job.owner)
        await job.write(lambda tx: note(tx, "before"))
        await asyncio.to_thread(steal, job.guid)
        try:
            await job.write(lambda tx: note(tx, "after"))
        except LeaseLost:
            lost.set()
        return Done(lambda tx: note(tx, "after"))

    async def until_lost() -> None:
        async with running(fresh_database, {"work": Outside(work)}):
            async with asyncio.timeout(20):
                await lost.wait()

    guid = enqueue(fresh_database, "work")
    asyncio.run(until_lost())
    job = job_of(fresh_database, guid)
    assert (job.state, job.lease_owner) == ("PROCESSING", "thief")
    assert (marks(fresh_database, "before"), marks(fresh_database, "after")) == (1, 0)


def test_a_stopping_runner_gives_back_what_still_waits(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cupola.jobs.runner._STOP_SECONDS", 0.05)
    asked = asyncio.Event()

    async def hang(job: OutsideJob) -> Outcome:
        job.payload["asked"] = True
        await job.keep()
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def stop() -> None:
        async with running(fresh_database, {"work": Outside(hang)}):
            await asked.wait()

    async def go_on(job: OutsideJob) -> Outcome:
        assert job.payload == {"asked": True}
        return Done()

    guid = enqueue(fresh_database, "work")
    asyncio.run(stop())
    job = job_of(fresh_database, guid)
    assert (job.state, job.lease_owner) == ("PROCESSING", None)
    (job,) = run(fresh_database, go_on, guid)
    assert job.state == "COMPLETE"


def test_one_that_hangs_leaves_room_for_the_others(fresh_database: Database) -> None:
    free = asyncio.Event()

    async def work(job: OutsideJob) -> Outcome:
        if job.payload["target"] == "slow":
            await free.wait()
        return Done()

    async def both() -> None:
        async with running(fresh_database, {"work": Outside(work)}, lanes={"default": 3}, per_target=2):
            await ended(fresh_database, quick)
            assert [job_of(fresh_database, guid).attempts for guid in slow] == [1, 1, 0, 0, 0]
            free.set()
            await ended(fresh_database, *slow)

    slow = [enqueue(fresh_database, "work", {"target": "slow"}, target="slow") for _ in range(5)]
    quick = enqueue(fresh_database, "work", {"target": "quick"}, target="quick")
    asyncio.run(both())
