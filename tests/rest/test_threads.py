"""Threads that do the short work of requests: what comes back, which thread takes it, what an end waits for."""

import asyncio
import gc
import threading
import time
import weakref
from functools import partial

import pytest

from cupola.rest.threads import Threads


def test_results_and_errors_come_back() -> None:
    threads = Threads(2, "work")

    def fail() -> None:
        raise KeyError("wrong")

    async def ask() -> None:
        assert await threads.run(lambda: 41 + 1) == 42
        with pytest.raises(KeyError, match="wrong"):
            await threads.run(fail)
        assert (await threads.run(threading.current_thread)).name.startswith("work_")

    asyncio.run(ask())
    threads.close()


def test_the_thread_that_worked_last_takes_the_next() -> None:
    threads = Threads(4, "work")

    async def ask() -> set[int]:
        together = threading.Barrier(4)
        first = await asyncio.gather(*(threads.run(lambda: together.wait(10)) for _ in range(4)))
        assert sorted(first) == [0, 1, 2, 3]
        return {await threads.run(threading.get_ident) for _ in range(50)}

    assert len(asyncio.run(ask())) == 1
    threads.close()


def test_more_work_than_threads_waits_its_turn() -> None:
    threads = Threads(2, "work")
    used: set[int] = set()
    order: list[int] = []
    start = threading.Event()

    def work(number: int) -> int:
        start.wait(10)
        used.add(threading.get_ident())
        order.append(number)
        return number

    async def ask() -> None:
        asked = [threads.run(partial(work, number)) for number in range(40)]
        start.set()
        assert await asyncio.gather(*asked) == list(range(40))

    asyncio.run(ask())
    assert len(used) <= 2
    assert sorted(order) == list(range(40))
    threads.close()


def test_closing_waits_for_all_that_was_asked_for() -> None:
    threads = Threads(1, "work")
    done: list[int] = []
    go = threading.Event()

    def work(number: int) -> None:
        go.wait(10)
        done.append(number)

    async def ask() -> None:
        for number in range(3):
            threads.run(partial(work, number))
        await asyncio.sleep(0)
        go.set()
        await asyncio.to_thread(threads.close)
        with pytest.raises(RuntimeError, match="after the threads were closed"):
            threads.run(lambda: None)

    asyncio.run(ask())
    assert done == [0, 1, 2]


def test_who_no_longer_waits_harms_nobody() -> None:
    threads = Threads(1, "work")
    go = threading.Event()

    async def give_up() -> None:
        waiting = threads.run(lambda: go.wait(10))
        waiting.cancel()
        go.set()
        assert await threads.run(lambda: "next") == "next"
        go.clear()
        threads.run(lambda: go.wait(10))

    asyncio.run(give_up())
    # The loop of the last one is closed by now.
    go.set()

    async def again() -> str:
        return await threads.run(lambda: "still there")

    assert asyncio.run(again()) == "still there"
    threads.close()


def test_work_that_was_given_up_before_its_turn_is_not_done() -> None:
    threads = Threads(1, "work")
    go = threading.Event()
    done: list[str] = []

    async def ask() -> None:
        first = threads.run(lambda: go.wait(10))
        given_up = threads.run(partial(done.append, "given up"))
        last = threads.run(partial(done.append, "last"))
        given_up.cancel()
        go.set()
        await asyncio.gather(first, last)

    asyncio.run(ask())
    threads.close()
    assert done == ["last"]


def test_a_thread_that_sleeps_holds_on_to_nothing() -> None:
    class Body:
        pass

    threads = Threads(1, "work")

    async def ask() -> "weakref.ref[Body]":
        body = Body()
        await threads.run(lambda: body)
        return weakref.ref(body)

    gone = asyncio.run(ask())
    deadline = time.monotonic() + 10
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
    assert gone() is None
    threads.close()
