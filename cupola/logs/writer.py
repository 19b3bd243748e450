"""How the controller itself writes lines into an app's log: `API` for what users did, `STG`, `CELL`, `LGR` for the rest."""

from collections.abc import Mapping
from typing import Literal

from cupola import clock
from cupola.logs.envelope import Envelope
from cupola.logs.ring import Ring

__all__ = ["MAX_LINE", "AppLog", "split_lines"]

MAX_LINE = 61_440
"""Bytes of one log line; a longer one is cut at character boundaries (reference/app-runtime.md section 11)."""


class AppLog:
    """Writes lines into the ring under an app's guid. May be used from any thread; takes tens of microseconds."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def line(
        self,
        app_guid: str,
        source_type: str,
        instance: str,
        text: str,
        stream: Literal["OUT", "ERR"] = "OUT",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write `text`, which becomes several lines at its line breaks. Call after the commit that it tells of.

        `tags` are added to source_type, app_id and instance_id. What is written is shown to everybody who may read the
        app's log: no secret may be in it.
        """
        every = {"app_id": app_guid, "instance_id": instance, "origin": "cloud_controller", **(tags or {})}
        every["source_type"] = source_type
        now = clock.nanos()
        self._ring.add(Envelope(now, app_guid, instance, every, line, stream) for line in split_lines(text.encode()))


def split_lines(data: bytes) -> list[bytes]:
    r"""Lines as log agents see them: split at `\n` and `\r`, empty ones dropped, long ones cut between characters."""
    lines = []
    for part in data.replace(b"\r", b"\n").split(b"\n"):
        rest = part
        while len(rest) > MAX_LINE:
            end = MAX_LINE
            while end > MAX_LINE - 4 and rest[end] & 0xC0 == 0x80:
                end -= 1
            lines.append(rest[:end])
            rest = rest[end:]
        if rest:
            lines.append(rest)
    return lines
