"""Uploads: multipart bodies streamed to the blob store with constant memory; small fields are kept."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from cupola import errors
from cupola.blobs.store import NoSpace, TooLarge, full_disk
from cupola.errors import CloudError

__all__ = ["FileWriter", "Upload", "Writer", "receive"]

MAX_FIELD = 16 * 1024 * 1024
"""Bytes of all plain fields together (`resources` of a package with thousands of files is a few MiB)."""


class Writer(Protocol):
    """Where the bytes of a file go: a blob writer, or a FileWriter."""

    def write(self, data: memoryview) -> None:
        """Add bytes; may raise TooLarge or NoSpace."""

    def finish(self) -> Any:
        """Make them durable and say what they became."""

    def abort(self) -> None:
        """Forget them, unless finished."""


class FileWriter:
    """Writes to a temporary file at `path`, of at most `max_bytes`; `finish` returns the path."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._size = 0
        self._file = path.open("wb", buffering=0)
        self._finished = False

    def write(self, data: memoryview) -> None:
        self._size += len(data)
        if self._size > self._max_bytes:
            raise TooLarge(self._max_bytes)
        with full_disk(self._path.parent):
            while data:
                data = data[self._file.write(data) or 0 :]

    def finish(self) -> Path:
        self._file.close()
        self._finished = True
        return self._path

    def abort(self) -> None:
        if not self._finished:
            self._file.close()
            self._path.unlink(missing_ok=True)


class Upload:
    """What a multipart body held: what its files became and plain fields as text."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[Any, str]] = {}
        """Field to (what its writer's `finish` returned, file name)."""
        self.fields: dict[str, str] = {}


class _Parts:
    """Callbacks of the multipart parser: each part goes to a blob writer or, without a file name, to memory."""

    def __init__(self, files: Mapping[str, Callable[[], Writer]]) -> None:
        self.finished: list[tuple[str, Writer, str]] = []
        self.fields: dict[str, bytearray] = {}
        self.writer: Writer | None = None
        self._files = files
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._filename = ""
        self.complete = False

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._headers = {}

    def _header_end(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._filename = options.get(b"filename", b"").decode("utf-8", "replace")
        if self._name in self._files:
            self.writer = self._files[self._name]()
        else:
            self.fields[self._name] = bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self.writer is not None:
            self.writer.write(memoryview(data)[start:end])
            return
        self.fields[self._name] += data[start:end]
        if sum(map(len, self.fields.values())) > MAX_FIELD:
            raise errors.unprocessable(f"The form fields are larger than {MAX_FIELD} bytes together")

    def _part_end(self) -> None:
        if self.writer is not None:
            self.finished.append((self._name, self.writer, self._filename))
            self.writer = None

    def _end(self) -> None:
        self.complete = True

    def abort(self) -> None:
        """Forget what was written."""
        for _, writer, _ in self.finished:
            writer.abort()
        if self.writer is not None:
            self.writer.abort()


async def receive(request: Request, files: Mapping[str, Callable[[], Writer]]) -> Upload:
    """Read a multipart body. `files` gives a writer for each file field; nothing is kept on failure.

    Raises 400 for a malformed or truncated body, 413 for one that is too large, 503 when the disk is full.
    """
    kind, options = parse_options_header(request.headers.get("content-type", "").encode("latin-1"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise errors.bad_request("the upload must be multipart/form-data with a boundary")
    parts = _Parts(files)
    parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]  # a plain dict of callbacks is what it takes
    try:
        async for chunk in request.stream():
            parser.write(chunk)
        if not parts.complete:
            raise errors.bad_request("the upload ended before its last part did; send it again")
        return await _finished(parts)
    except MultipartParseError as error:
        raise errors.bad_request(f"the upload is not valid multipart/form-data: {error}") from error
    except TooLarge as error:
        detail = f"The upload is larger than {error.limit} bytes, the most that is accepted here."
        raise CloudError(10008, "CF-UnprocessableEntity", 413, detail) from error
    except NoSpace as error:
        raise errors.service_unavailable("The platform has no space left for uploads. Try again later.") from error
    finally:
        parts.abort()


async def _finished(parts: _Parts) -> Upload:
    upload = Upload()
    for name, writer, filename in parts.finished:
        upload.files[name] = (await asyncio.to_thread(writer.finish), filename)
    upload.fields = {name: bytes(data).decode("utf-8", "replace") for name, data in parts.fields.items()}
    return upload
