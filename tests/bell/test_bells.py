"""Bells: rings wake whoever listens, from any thread, and never swallow a cancellation."""

import asyncio
import threading

import pytest

from cupola.bell import Bells


def test_a_ring_between_two_waits_is_remembered() -> None:
    async def scenario() -> list[bool]:
        bells = Bells()
        listener = bells.listen("a", "b")
        bells.ring("b")
        bells.ring("other")
        heard = [await listener.wait(5), await listener.wait(0)]
        listener.close()
        bells.ring("a")
        return [*heard, await listener.wait(0)]

    assert asyncio.run(scenario()) == [True, False, False]


def test_another_thread_may_ring() -> None:
    async def scenario() -> bool:
        bells = Bells()
        listener = bells.listen("a")
        waiting = asyncio.create_task(listener.wait(5))
        await asyncio.to_thread(bells.ring, "a")
        return await waiting

    assert asyncio.run(scenario())


def test_a_ring_does_not_swallow_a_cancellation() -> None:
    async def scenario() -> None:
        bells = Bells()
        listener = bells.listen("a")

        async def loop() -> None:
            while True:
                await listener.wait(60)

        task = asyncio.create_task(loop())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        listener._event.set()  # as a ring on this loop does, without going round it once more
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(scenario(), 5))


def test_hooks_hear_every_ring() -> None:
    bells, heard = Bells(), []
    bells.on_ring(lambda name: heard.append((name, threading.current_thread() is threading.main_thread())))
    bells.ring("x")
    assert heard == [("x", True)]
