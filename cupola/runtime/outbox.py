"""Events on their way to the controller: numbered, on disk, delivered at least once.

Numbers of one cell never repeat. An event survives the death of the process (kill -9); after a reboot, when events that
were sent may not have reached the disk, numbers go on a million later.
"""

import asyncio
import contextlib
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

import msgspec

from cupola.runtime.messages import Event

__all__ = ["Outbox", "Sender"]

_GAP = 1_000_000
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Event)


class Sender(Protocol):
    """What an outbox needs of `cupola.wire.Peer`."""

    async def send(self, kind: str, body: object = None) -> None:
        """Send one message; raises OSError when the other side is gone."""


class Outbox:
    """For the event loop. One file per event; few are under way at a time."""

    def __init__(self, directory: Path, cell_id: str) -> None:
        self._directory = directory
        self._cell_id = cell_id
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._pending: OrderedDict[int, Event] = OrderedDict()
        self._ring = asyncio.Event()
        for path in sorted(directory.glob("[0-9]*")):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                event = _decoder.decode(path.read_bytes())
                self._pending[event.seq] = event
        self.last = max([self._read_number("acked"), *self._pending])
        boot = _read("/proc/sys/kernel/random/boot_id")
        known = directory / "boot"
        if known.exists() and known.read_text() != boot:
            self.last += _GAP
            self._write("acked", str(max(self._read_number("acked"), min(self._pending, default=self.last) - 1)))
        known.write_text(boot)

    def put(self, body: object) -> int:
        """Keep an event (one of the bodies of `messages.Event`) and send it when there is a controller."""
        self.last += 1
        event = Event(self.last, self._cell_id, body)  # type: ignore[arg-type]  # the union is checked where it is encoded
        self._write(f"{event.seq:020d}", _encoder.encode(event))
        self._pending[event.seq] = event
        self._ring.set()
        return event.seq

    def ack(self, number: int) -> None:
        """The controller has stored every event up to `number`."""
        if not self._pending or number < next(iter(self._pending)):
            return
        self._write("acked", str(min(number, self.last)))
        for seq in [seq for seq in self._pending if seq <= number]:
            del self._pending[seq]
            (self._directory / f"{seq:020d}").unlink(missing_ok=True)

    @property
    def pending(self) -> int:
        """Events that are not acknowledged."""
        return len(self._pending)

    async def run(self, peer: Sender) -> None:
        """Send what is not acknowledged, then what comes, until cancelled or the peer is gone (OSError)."""
        sent = 0
        while True:
            self._ring.clear()
            for seq, event in list(self._pending.items()):
                if seq > sent and seq in self._pending:
                    await peer.send("event", event)
                    sent = seq
            await self._ring.wait()

    def _write(self, name: str, data: bytes | str) -> None:
        temporary = self._directory / f".{name}"
        temporary.write_bytes(data if isinstance(data, bytes) else data.encode())
        temporary.rename(self._directory / name)

    def _read_number(self, name: str) -> int:
        try:
            return int((self._directory / name).read_text())
        except (OSError, ValueError):
            return 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
