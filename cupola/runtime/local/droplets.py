"""Unpacked droplets: each is unpacked once, then shared by overlay, or copied for each instance.

The cache holds `<digest>/` per droplet, complete when it has that name. It is bounded by `keep`.
"""

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

from cupola.blobs.archives import ArchiveError
from cupola.blobs.tars import unpack_tar

__all__ = ["Droplets", "make_layout", "remove_tree"]


class Droplets:
    """Blocking; use in worker threads. `owner` is the user that unpacked files get, or -1 for our own."""

    def __init__(self, directory: Path, owner: int, keep: int = 64) -> None:
        self._directory = directory
        self._owner = owner
        self._keep = keep
        self._sizes: dict[str, int] = {}
        self._guard = threading.Lock()
        self._leaving = ""
        """The droplet that is about to be removed, unless somebody wants it."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in directory.glob("*.new"):
            remove_tree(leftover)

    def find(self, digest: str) -> Path | None:
        """The directory of a droplet that is known already, or None. Takes microseconds."""
        final = self._directory / digest.partition(":")[2]
        if final.name not in self._sizes or final.name == self._leaving:
            return None
        try:
            os.utime(final)
        except OSError:
            return None
        return final

    def unpacked(self, digest: str, archive: Path) -> Path:
        """The directory of the unpacked droplet (what becomes /home/vcap). Raises OSError."""
        final = self._directory / digest.partition(":")[2]
        with self._guard:
            if final.is_dir():
                with contextlib.suppress(OSError):
                    os.utime(final)
                self._sizes.setdefault(final.name, disk_usage(final))
                return final
        new = final.with_name(f"{final.name}.{os.urandom(4).hex()}.new")
        try:
            new.mkdir(mode=0o755)
            # Links may point to places that are only inside the container (a link to an interpreter is common).
            unpack_tar(archive, new, outside_links=True)
            make_layout(new)
            if self._owner >= 0:
                chown_tree(new, self._owner)
            self._sizes[final.name] = disk_usage(new)
            new.rename(final)
        except ArchiveError as error:
            raise OSError(f"the droplet cannot be unpacked: {error}; restage the app") from error
        except OSError:
            if not final.is_dir():
                raise
        finally:
            if new.exists():
                remove_tree(new)
        return final

    def size(self, unpacked: Path) -> int:
        """Bytes of disk blocks of a droplet that was unpacked or found."""
        return self._sizes[unpacked.name]

    def sweep(self, in_use: Callable[[], set[str]]) -> None:
        """Remove the longest unused droplets beyond the bound. `in_use` gives the digests of those that must stay.

        Who wants a droplet says so there before asking for it.
        """
        entries = sorted((e for e in self._directory.iterdir() if e.suffix != ".new"), key=lambda e: e.stat().st_mtime)
        for entry in entries[: max(len(entries) - self._keep, 0)]:
            doomed = entry.with_name(entry.name + ".new")
            with self._guard:
                # Before looking: whoever finds it after that asks for it to be unpacked, and waits.
                self._leaving = entry.name
                is_wanted = any(digest.partition(":")[2] == entry.name for digest in in_use())
                if not is_wanted:
                    self._sizes.pop(entry.name, None)
                    entry.rename(doomed)
                self._leaving = ""
            if not is_wanted:
                remove_tree(doomed)


def make_layout(home: Path) -> None:
    """What every instance finds in its /home/vcap."""
    for name in ("app", "deps", "tmp", "logs", "profile.d"):
        (home / name).mkdir(mode=0o755, exist_ok=True)


def chown_tree(root: Path, owner: int) -> None:
    """Give a tree to a user and its group of the same number; symbolic links themselves, not their targets."""
    os.chown(root, owner, owner, follow_symlinks=False)
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            os.chown(os.path.join(directory, name), owner, owner, follow_symlinks=False)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a tree, sharing blocks where the file system can; hard links would let one instance change another.

    Raises OSError.
    """
    cp = _gnu_cp()
    if not cp:
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        return
    # A fifth of the processor time of shutil, and none of it under this process's lock.
    done = subprocess.run(
        [cp, "-a", "--reflink=auto", f"{source}/.", f"{target}/"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise OSError(f"copying {source} failed: {done.stderr.strip().partition(chr(10))[0]}")


@cache
def _gnu_cp() -> str:
    """Where it is; empty where `cp` is another one."""
    found = shutil.which("cp") or ""
    said = subprocess.run([found, "--version"], capture_output=True, check=False).stdout if found else b""
    return found if b"GNU coreutils" in said else ""


def remove_tree(path: Path) -> None:
    """Remove a tree, also one whose directories were made unwritable by the app."""

    def again(function: object, name: str, _error: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(name), 0o700)
            os.chmod(name, 0o700, follow_symlinks=False) if not os.path.islink(name) else None
            os.rmdir(name) if os.path.isdir(name) and not os.path.islink(name) else os.unlink(name)

    shutil.rmtree(path, onerror=again)
    if path.exists():
        shutil.rmtree(path, ignore_errors=True)


def disk_usage(root: Path) -> int:
    """Bytes of disk blocks below `root`; files that vanish meanwhile count nothing."""
    total = 0
    stack = [str(root)]
    while stack:
        with contextlib.suppress(OSError), os.scandir(stack.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
    return total
