"""The log lines of one source on the controller's disk: a few segment files, the oldest dropped when they are many.

A file is named `<source id, URL-quoted>.<number>.seg` and holds frames as the spool's do (spool.py), whose body is a
`Record`. Nothing is synced: lines survive the death of the process, not a power failure.
"""

import contextlib
import errno
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from cupola.logs.envelope import Envelope
from cupola.logs.spool import HEAD, read_frames

__all__ = ["Record", "Segments", "encode_record", "list_sources"]

_FULL_SEGMENTS = 4
_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MAX_NAME = 200


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One stored line: who sent it under which number (empty and 0 for the controller itself)."""

    producer: str
    number: int
    envelope: Envelope


_decoder = msgspec.msgpack.Decoder(Record)
_encoder = msgspec.msgpack.Encoder()


def encode_record(producer: str, number: int, envelope: bytes) -> bytes:
    """The frame of an envelope that is msgpack already."""
    body = _encoder.encode((producer, number, msgspec.Raw(envelope)))
    return HEAD.pack(len(body), zlib.crc32(body)) + body


class Segments:
    """The files of one source: four full segments and one in work, so at least the bounds and at most 1.25 of them."""

    def __init__(self, directory: Path, source_id: str, *, max_lines: int, max_bytes: int) -> None:
        self._directory = directory
        self._prefix = _file_name(source_id)
        self._segment_lines = max(max_lines // _FULL_SEGMENTS, 1)
        self._segment_bytes = max(max_bytes // _FULL_SEGMENTS, 1)
        self._numbers = sorted(int(path.name.rsplit(".", 2)[1]) for path in directory.glob(_pattern(self._prefix)))
        self._lines = 0
        self._bytes = 0
        self._opened = False

    def tail(self) -> list[Record]:
        """The newest segment's records. Cuts off a torn frame, so that appending can go on."""
        records: list[Record] = []
        self._bytes = 0
        if self._numbers:
            path = self._path(self._numbers[-1])
            for body in read_frames(path):
                self._bytes += HEAD.size + len(body)
                with contextlib.suppress(msgspec.MsgspecError):
                    records.append(_decoder.decode(body))
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size > self._bytes:
                    os.truncate(path, self._bytes)
        self._lines = len(records)
        self._opened = True
        return records

    def read(self) -> Iterator[Record]:
        """All records, the oldest first."""
        for number in self._numbers:
            for body in read_frames(self._path(number)):
                with contextlib.suppress(msgspec.MsgspecError):
                    yield _decoder.decode(body)

    def append(self, frames: list[bytes]) -> bool:
        """Append frames; False when the disk is full, and then none of them is kept. Raises OSError otherwise."""
        if not self._opened:
            self.tail()
        if not self._numbers or self._lines >= self._segment_lines or self._bytes >= self._segment_bytes:
            self._numbers.append(self._numbers[-1] + 1 if self._numbers else 1)
            self._lines = self._bytes = 0
            while len(self._numbers) > _FULL_SEGMENTS + 1:
                self._path(self._numbers.pop(0)).unlink(missing_ok=True)
        data = b"".join(frames)
        try:
            descriptor = os.open(
                self._path(self._numbers[-1]), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            if error.errno in _FULL_DISK:
                return False
            raise
        try:
            if not _write(descriptor, data):
                os.ftruncate(descriptor, self._bytes)
                return False
        finally:
            os.close(descriptor)
        self._lines += len(frames)
        self._bytes += len(data)
        return True

    def modified(self) -> float:
        """When a line was last stored, in seconds since 1970; 0 for never."""
        try:
            return self._path(self._numbers[-1]).stat().st_mtime if self._numbers else 0.0
        except FileNotFoundError:
            return 0.0

    def delete(self) -> None:
        """Delete every line of the source."""
        for number in self._numbers:
            self._path(number).unlink(missing_ok=True)
        self._numbers = []
        self._lines = self._bytes = 0

    def _path(self, number: int) -> Path:
        return self._directory / f"{self._prefix}.{number:08}.seg"


def list_sources(directory: Path) -> set[str]:
    """The ids of all sources that have files in `directory`."""
    found = set()
    for path in directory.glob("*.seg"):
        prefix = path.name.rsplit(".", 2)[0]
        if not prefix.startswith("="):
            found.add(unquote(prefix))
            continue
        for body in read_frames(path):
            with contextlib.suppress(msgspec.MsgspecError):
                found.add(_decoder.decode(body).envelope.source_id)
            break
    return found


def _write(descriptor: int, data: bytes) -> bool:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        if error.errno in _FULL_DISK:
            return False
        raise
    return True


def _file_name(source_id: str) -> str:
    name = quote(source_id, safe="")
    # quote() never leaves a `=`, so a hashed name cannot be taken for a quoted one.
    return name if 0 < len(name) <= _MAX_NAME else "=" + hashlib.sha256(source_id.encode()).hexdigest()


def _pattern(prefix: str) -> str:
    return f"{prefix}.[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9].seg"
