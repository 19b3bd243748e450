"""Where a body ends: chunked bodies are read strictly and written anew, so that nobody downstream can read them otherwise.

Malformed (heads.py)    a chunk or trailer is not exactly as RFC 9112 section 7 writes it
"""

import re

from cupola.router.heads import Malformed

__all__ = ["LAST_CHUNK", "ChunkedReader", "chunk", "last_chunk"]

LAST_CHUNK = b"0\r\n\r\n"
_MAX_LINE = 4096
"""Bytes of a chunk's size line, extensions included, and of one trailer line."""
_MAX_TRAILERS = 64 * 1024
_MAX_EXTENSIONS = 64 * 1024
"""Bytes of chunk extensions in one body: they say nothing to us and are dropped."""
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})((?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?)")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*")
_FORBIDDEN = frozenset(
    b"content-length transfer-encoding host connection content-encoding content-type content-range trailer te upgrade "
    b"authorization set-cookie expect x-vcap-request-id x-forwarded-for x-forwarded-proto".split()
)
"""Fields that say how a message is read or who sent it: nothing that comes after the body may change that."""


class ChunkedReader:
    """Takes the bytes of a chunked body as they come and gives back its content. `done` after the last trailer line."""

    __slots__ = ("_extensions", "_in_trailers", "_partial", "_remaining", "_size", "done", "rest", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        """What followed the body, once `done`."""
        self.trailers: list[bytes] = []
        """Trailer lines, without their line ends."""
        self._partial = b""
        self._remaining = 0
        self._in_trailers = False
        self._size = 0
        self._extensions = 0

    def feed(self, data: bytes) -> bytes:
        """The content in these bytes. Raises Malformed; then nothing more may be read from the connection."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        pieces: list[bytes] = []
        position = 0
        end = len(data)
        while position < end and not self.done:
            if self._remaining:
                position = self._content(data, position, pieces)
                if position < 0:
                    break
                continue
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                self._keep(data[position:])
                break
            if line_end - position > _MAX_LINE:
                raise Malformed(400, "a chunk's size line is too long")
            line = data[position:line_end]
            position = line_end + 2
            if self._in_trailers:
                self._trailer(line)
            else:
                self._begin(line)
        if self.done:
            self.rest = data[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _content(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        """Take content from `position`; the new position, or -1 when all is taken. `_remaining` counts the CRLF after it."""
        available = len(data) - position
        content = self._remaining - 2
        if available < content:
            pieces.append(data[position:] if position else data)
            self._remaining -= available
            return -1
        stop = position + content
        if content:
            pieces.append(data[position:stop])
        ending = data[stop : stop + 2]
        if ending == b"\r\n":
            self._remaining = 0
            return stop + 2
        if not b"\r\n".startswith(ending):
            raise Malformed(400, "a chunk is longer than its size says")
        self._remaining = 2
        self._partial = ending
        return -1

    def _begin(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise Malformed(400, "invalid chunk size")
        self._extensions += len(match[2])
        if self._extensions > _MAX_EXTENSIONS:
            raise Malformed(400, "too many chunk extensions")
        size = int(match[1], 16)
        if size:
            self._remaining = size + 2
        else:
            self._in_trailers = True

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._size += len(line)
        if _TRAILER.fullmatch(line) is None or self._size > _MAX_TRAILERS:
            raise Malformed(400, "invalid trailer")
        if line[: line.index(b":")].lower() not in _FORBIDDEN:
            self.trailers.append(line)

    def _keep(self, partial: bytes) -> None:
        # A line feed without its carriage return would be waited on for ever.
        if len(partial) > _MAX_LINE or b"\n" in partial or b"\0" in partial:
            raise Malformed(400, "invalid chunk")
        self._partial = partial


def chunk(data: bytes) -> bytes:
    """`data`, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: list[bytes]) -> bytes:
    """The end of a chunked body."""
    return b"0\r\n%b\r\n\r\n" % b"\r\n".join(trailers) if trailers else LAST_CHUNK
