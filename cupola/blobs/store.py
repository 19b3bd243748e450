"""Blobs by content: a file is named by the SHA-256 of its bytes and never changes.

    StoreError
    |- TooLarge     more bytes than the caller allowed
    |- NoSpace      the disk or a quota is full; names the directory
    `- NotFound     no blob has this digest

A blob is written to a temporary file in the same file system, synced, then renamed: whoever sees a name sees all of
its bytes. Several processes (controller, cell) may use one directory at once. Nothing here knows who refers to a
blob; rows do, and `sweep` deletes what no row names.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from cupola import clock
from cupola.secrets.generated import as_its_owner

__all__ = ["Blob", "LocalStore", "NoSpace", "NotFound", "Store", "StoreError", "TooLarge", "Writer"]

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_CHUNK = 1024 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class StoreError(Exception):
    """A blob could not be stored or read; the text says which and what to do."""


class TooLarge(StoreError):
    """The upload has more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the upload is larger than the limit of {limit} bytes")
        self.limit = limit


class NoSpace(StoreError):
    """The file system or quota that holds `directory` is full."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"no space left in {directory}: free some space there or move data_dir to a larger disk")
        self.directory = directory


class NotFound(StoreError):
    """No blob has the digest."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"blob {digest} does not exist: it was deleted or never stored completely")
        self.digest = digest


class Blob(msgspec.Struct, frozen=True):
    """What was stored: `digest` is `sha256:<64 hex digits>`, `size` in bytes, `sha1` 40 hex digits (the API shows it)."""

    digest: str
    size: int
    sha1: str


class BlobWriter(Protocol):
    """An upload in progress."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes; raises TooLarge or NoSpace, after which the writer is aborted."""

    def finish(self) -> Blob:
        """Make the blob durable and visible."""

    def abort(self) -> None:
        """Forget the bytes; safe at any time, also after finish."""


class Store(Protocol):
    """What a blob store offers; `LocalStore` is the first, an object store can be another."""

    def writer(self, max_bytes: int | None = None) -> BlobWriter:
        """Start an upload of at most `max_bytes`."""

    def put_stream(self, chunks: Iterable[bytes], max_bytes: int | None = None) -> Blob:
        """Store the concatenated chunks."""

    def put_file(self, path: Path, *, move: bool = False, max_bytes: int | None = None) -> Blob:
        """Store a file's content."""

    def open(self, digest: str) -> BinaryIO:
        """The content, for reading."""

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""

    def size(self, digest: str) -> int:
        """Bytes of the blob."""

    def delete(self, digest: str) -> bool:
        """Delete one blob; False when it was not there."""

    def sweep(self, referenced: Iterable[str], older_than: float) -> list[str]:
        """Delete what nobody refers to."""


class LocalStore:
    """Blobs below `root`, as `sha256/<2 hex>/<2 hex>/<64 hex>`; directories 0700, files 0600.

    Blocking; any thread and any process may use it. Opening it removes the temporary files of dead writers.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._temporary = root / "tmp"
        with full_disk(root):
            for directory in (root, self._temporary, root / "sha256"):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / "lock").touch(mode=0o600)
            for made in (self._temporary, root / "sha256", root / "lock"):
                as_its_owner(root, made)
        self._remove_abandoned()

    def path(self, digest: str) -> Path:
        """Where the blob is or would be. Raises ValueError for anything but `sha256:<64 hex digits>`."""
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise ValueError(f"not a blob digest: {digest!r}")
        name = match[1]
        return self.root / "sha256" / name[:2] / name[2:4] / name

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """Bytes of the blob; raises NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFound(digest) from None

    def open(self, digest: str) -> BinaryIO:
        """The content, for reading; stays readable when the blob is deleted meanwhile. Raises NotFound."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError:
            raise NotFound(digest) from None

    def writer(self, max_bytes: int | None = None) -> "Writer":
        """Start an upload of at most `max_bytes`; memory stays constant whatever its size."""
        return Writer(self, max_bytes)

    def put_stream(self, chunks: Iterable[bytes], max_bytes: int | None = None) -> Blob:
        """Store the concatenated chunks. Raises TooLarge or NoSpace; then nothing is kept."""
        with self.writer(max_bytes) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.finish()

    def put_file(self, path: Path, *, move: bool = False, max_bytes: int | None = None) -> Blob:
        """Store a file's content by copying, or with `move` by renaming where the file system allows it.

        After a move `path` is gone. Move only what nobody else can still write to: a process that holds the file
        open could change the blob. Raises TooLarge, NoSpace, or OSError when `path` cannot be read.
        """
        if move and _same_device(path, self._temporary):
            return self._adopt(path, max_bytes)
        with path.open("rb") as source:
            blob = self.put_stream(iter(lambda: source.read(_CHUNK), b""), max_bytes)
        if move:
            path.unlink(missing_ok=True)
        return blob

    def digests(self) -> Iterator[str]:
        """Every blob's digest, in no order."""
        for path in (self.root / "sha256").glob("??/??/*"):
            digest = f"sha256:{path.name}"
            if _DIGEST.fullmatch(digest):
                yield digest

    def delete(self, digest: str) -> bool:
        """Delete one blob; False when it was not there.

        Equal content is one blob, so another row may refer to it: prefer `sweep`, which asks for all references.
        """
        with self.locked(exclusive=True):
            try:
                self.path(digest).unlink()
            except FileNotFoundError:
                return False
        return True

    def sweep(self, referenced: Iterable[str], older_than: float) -> list[str]:
        """Delete blobs that are not in `referenced` and were stored more than `older_than` seconds ago.

        Returns the digests deleted. Storing content that exists already makes it young again, so the one rule is:
        whoever stores a blob commits a reference to it within `older_than` seconds. A crash at any point leaves
        either the blob or nothing. `referenced` is read before anything is deleted.
        """
        keep = set(referenced)
        return [d for d in self.digests() if d not in keep and self._delete_if_older(d, older_than)]

    def _delete_if_older(self, digest: str, older_than: float) -> bool:
        path = self.path(digest)
        # The lock excludes a writer that stores the same content between the look at the age and the deletion.
        with self.locked(exclusive=True), contextlib.suppress(FileNotFoundError):
            if clock.seconds() - path.stat().st_mtime > older_than:
                path.unlink()
                return True
        return False

    @contextlib.contextmanager
    def locked(self, *, exclusive: bool) -> Iterator[None]:
        """Hold the store's lock: shared while a name appears, exclusive while names or temporary files go."""
        with (self.root / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield

    def new_temporary(self) -> tuple[int, Path]:
        """A new temporary file and its descriptor, locked as long as the descriptor is open."""
        with full_disk(self.root), self.locked(exclusive=False):
            descriptor, name = tempfile.mkstemp(dir=self._temporary)
            as_its_owner(self.root, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor, Path(name)

    def publish(self, descriptor: int, temporary: Path, digest: str) -> None:
        """Sync the open file `temporary` and give it its final name, in place of an equal one."""
        final = self.path(digest)
        with full_disk(self.root):
            os.fchmod(descriptor, 0o600)
            as_its_owner(self.root, descriptor)
            now = clock.nanos()
            os.utime(descriptor, ns=(now, now))
            os.fsync(descriptor)
            _make_directories(final.parent, self.root)
            with self.locked(exclusive=False):
                temporary.replace(final)
            sync_directory(final.parent)

    def _adopt(self, path: Path, max_bytes: int | None) -> Blob:
        sha256, sha1, size = hashlib.sha256(), hashlib.sha1(usedforsecurity=False), 0
        with path.open("rb") as source:
            if max_bytes is not None and os.fstat(source.fileno()).st_size > max_bytes:
                raise TooLarge(max_bytes)
            while chunk := source.read(_CHUNK):
                sha256.update(chunk)
                sha1.update(chunk)
                size += len(chunk)
            blob = Blob(f"sha256:{sha256.hexdigest()}", size, sha1.hexdigest())
            self.publish(source.fileno(), path, blob.digest)
        return blob

    def _remove_abandoned(self) -> None:
        # A live writer holds a lock on its file, and makes and locks it while it holds the store's lock.
        with self.locked(exclusive=True):
            for path in self._temporary.iterdir():
                with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


class Writer:
    """One upload into a LocalStore. Use from one thread at a time; as a context manager it aborts unless finished.

    `write` hashes and writes at once (about a millisecond per MiB), so an event loop may call it with network-sized
    chunks; `finish` waits for the disk and belongs in a thread.
    """

    def __init__(self, store: LocalStore, max_bytes: int | None) -> None:
        self.size = 0
        self._store = store
        self._max_bytes = max_bytes
        self._sha256 = hashlib.sha256()
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._descriptor, self._path = store.new_temporary()
        self._open = True

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes. Raises TooLarge or NoSpace, after which the writer is aborted; ValueError when it is closed."""
        if not self._open:
            raise ValueError("this upload is finished or aborted")
        view = memoryview(data).cast("B")
        if self._max_bytes is not None and self.size + len(view) > self._max_bytes:
            self.abort()
            raise TooLarge(self._max_bytes)
        self._sha256.update(view)
        self._sha1.update(view)
        self.size += len(view)
        try:
            with full_disk(self._store.root):
                while view:
                    view = view[os.write(self._descriptor, view) :]
        except BaseException:
            self.abort()
            raise

    def finish(self) -> Blob:
        """Sync, rename into place and return the blob. Raises NoSpace, ValueError when it is closed already."""
        if not self._open:
            raise ValueError("this upload is finished or aborted")
        blob = Blob(f"sha256:{self._sha256.hexdigest()}", self.size, self._sha1.hexdigest())
        try:
            self._store.publish(self._descriptor, self._path, blob.digest)
        except BaseException:
            self.abort()
            raise
        self._open = False
        os.close(self._descriptor)
        return blob

    def abort(self) -> None:
        """Forget the bytes; safe to call at any time, also after finish."""
        if self._open:
            self._open = False
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)


@contextlib.contextmanager
def full_disk(directory: Path) -> Iterator[None]:
    """Turn "no space" and "over quota" of the system into NoSpace for `directory`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoSpace(directory) from error
        raise


def sync_directory(directory: Path) -> None:
    """Make renames in `directory` survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_directories(directory: Path, root: Path) -> None:
    if directory.is_dir():
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for made in (directory, directory.parent, directory.parent.parent):
        if made != root:
            as_its_owner(root, made)
            sync_directory(made)


def _same_device(path: Path, directory: Path) -> bool:
    return path.lstat().st_dev == directory.stat().st_dev and not path.is_symlink()
