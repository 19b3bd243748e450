"""One log line or metric, as it travels from a cell or the router to the controller and into the ring."""

from typing import Literal

import msgspec

__all__ = ["Batch", "Envelope"]


class Envelope(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A log-cache envelope (reference/cf-cli.md section c). Exactly one of payload, gauge, counter, timer is filled.

    `timestamp` is nanoseconds since 1970, unique and increasing per source: the ring sees to that.
    """

    timestamp: int
    source_id: str
    instance_id: str
    tags: dict[str, str]
    payload: bytes | None = None
    stream: Literal["OUT", "ERR"] = "OUT"
    gauge: dict[str, tuple[float, str]] | None = None
    """Name to (value, unit)."""
    counter: tuple[str, int, int] | None = None
    """Name, delta, total."""
    timer: tuple[str, int, int] | None = None
    """Name, start and stop in nanoseconds."""


class Batch(msgspec.Struct, frozen=True):
    """Numbered envelopes of one producer: `logs` on the platform's socket, answered by `logs.ack` with the last number."""

    producer: str
    first: int
    envelopes: list[Envelope]
