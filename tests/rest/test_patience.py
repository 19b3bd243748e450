"""Answers that say "not yet" are held back until something rings and they have become final, or the time is over."""

import threading
import time
from pathlib import Path
from typing import Any

from cupola.rest.operation import Call, Operation, Reply
from tests.rest.widgets import House
from tests.rest.widgets import house as open_house


class Kettle:
    """Boils after `looks` looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.looked = threading.Semaphore(0)

    def look(self, call: Call[Any, Any]) -> Reply:
        """Whether it boils."""
        self.looks -= 1
        self.looked.release()
        return Reply(200, {"boils": self.looks <= 0}, early=self.looks > 0)

    @property
    def operations(self) -> list[Operation]:
        return [Operation("GET", "/v3/kettle", self.look, bells=["kettle"])]


def ring_after_each_look(house: House, kettle: Kettle, times: int) -> threading.Thread:
    def ring() -> None:
        for _ in range(times):
            assert kettle.looked.acquire(timeout=10)
            house.database.bells.ring("kettle")

    thread = threading.Thread(target=ring)
    thread.start()
    return thread


def test_the_answer_waits_for_the_bell(tmp_path: Path) -> None:
    kettle = Kettle(3)
    with open_house(tmp_path, kettle.operations) as house:
        house.app._services.settings.platform.poll_seconds = 60
        ringer = ring_after_each_look(house, kettle, 2)
        assert house.ok("GET", "/v3/kettle") == {"boils": True}
        ringer.join()
    assert kettle.looks == 0


def test_the_wait_is_bounded(tmp_path: Path) -> None:
    kettle = Kettle(1000)
    with open_house(tmp_path, kettle.operations) as house:
        house.app._services.settings.platform.poll_seconds = 0.2
        before = time.monotonic()
        assert house.ok("GET", "/v3/kettle") == {"boils": False}
        assert time.monotonic() - before >= 0.2
    assert kettle.looks >= 997


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    kettle = Kettle(1000)
    with open_house(tmp_path, kettle.operations) as house:
        house.app._services.settings.platform.poll_seconds = 0
        assert house.ok("GET", "/v3/kettle") == {"boils": False}
    assert kettle.looks == 999
