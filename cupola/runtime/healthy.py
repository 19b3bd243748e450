"""Which instances run, on disk: a cell that is started again goes on where the last one was, and no route misses them."""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

import msgspec

from cupola.runtime.instances import InstanceSlot

__all__ = ["Health", "Healthy"]


class Health(msgspec.Struct, frozen=True, array_like=True):
    """Of an instance that is RUNNING. `since` in microseconds since 1970."""

    since: int
    routable: bool


class Healthy:
    """One file for all instances of a cell; written when one comes to run, goes, or changes its readiness."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found = self._load()

    def of(self, instance_guid: str) -> Health | None:
        """How an instance was, or None when it did not run yet."""
        return self._found.get(instance_guid)

    def note(self, slot: InstanceSlot) -> None:
        """Keep how the instance in a slot is now."""
        if not slot.instance_guid:
            return
        if slot.state != "RUNNING":
            self.forget(slot.instance_guid)
            return
        health = Health(slot.since, slot.routable)
        if self._found.get(slot.instance_guid) != health:
            self._found[slot.instance_guid] = health
            self._save()

    def forget(self, instance_guid: str) -> None:
        """The instance runs no longer."""
        if self._found.pop(instance_guid, None) is not None:
            self._save()

    def keep(self, instance_guids: Collection[str]) -> None:
        """Forget all others: they ended while nobody looked."""
        kept = {key: health for key, health in self._found.items() if key in instance_guids}
        if kept != self._found:
            self._found = kept
            self._save()

    def _load(self) -> dict[str, Health]:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.msgpack.decode(self._file.read_bytes(), type=dict[str, Health])
        return {}

    def _save(self) -> None:
        temporary = self._file.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.msgpack.encode(self._found))
        temporary.rename(self._file)
