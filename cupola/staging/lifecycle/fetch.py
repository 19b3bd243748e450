"""Custom buildpacks: fetched from an archive URL or a git URL, inside the staging container."""

import os
import re
import shutil
import stat
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile

__all__ = ["FetchError", "fetch"]

_MAX_BYTES = 2 * 1024**3
_TIMEOUT = 60
"""Seconds without a byte."""
_GIT_SCHEMES = ("http", "https", "git", "ssh", "file")


class FetchError(Exception):
    """The buildpack could not be had; the text says which and what to do. It may contain the URL's credentials."""


def fetch(url, target, run):
    """Put the buildpack into the directory `target`. `run` runs an argument list and returns its status. Raises FetchError."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    parts = urllib.parse.urlsplit(url)
    path = parts.path.lower()
    if path.endswith((".zip", ".tgz", ".tar.gz")) and parts.scheme in ("http", "https"):
        archive = target + ".archive"
        _download(url, archive)
        try:
            _unzip(archive, target) if zipfile.is_zipfile(archive) else _untar(archive, target)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError) as error:
            raise FetchError(f"{url} is no usable archive: {error}") from None
        os.unlink(archive)
        return
    if not re.match(r"[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:", url) and parts.scheme not in _GIT_SCHEMES:
        raise FetchError(f"{url} is neither the name of an installed buildpack nor a URL: see `cf buildpacks`")
    _clone(url, target, run)


def _download(url, archive):
    request = urllib.request.Request(url, headers={"User-Agent": "cupola-staging"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer, open(archive, "wb") as file:
            left = _MAX_BYTES
            while chunk := answer.read(1024 * 1024):
                left -= len(chunk)
                if left < 0:
                    raise FetchError(f"{url} is larger than {_MAX_BYTES} bytes")
                file.write(chunk)
    except urllib.error.HTTPError as error:
        raise FetchError(f"{url} answered {error.code} {error.reason}: check the address") from None
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FetchError(f"{url} cannot be reached: {reason}: check the address and staging.allow") from None


def _inside(target, name):
    path = os.path.normpath(os.path.join(target, name))
    if path != target and not path.startswith(target + os.sep):
        raise ValueError(f"the entry {name!r} leads out of the archive")
    return path


def _unzip(archive, target):
    total = 0
    links = []
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            path = _inside(target, entry.filename)
            total += entry.file_size
            if total > 4 * _MAX_BYTES:
                raise ValueError("it is too large when unpacked")
            mode = entry.external_attr >> 16
            if entry.is_dir():
                os.makedirs(path, exist_ok=True)
            elif stat.S_ISLNK(mode):
                link = file.read(entry).decode()
                if os.path.isabs(link):
                    raise ValueError(f"the link {entry.filename!r} leads out of the archive")
                _inside(target, os.path.join(os.path.dirname(entry.filename), link))
                links.append((link, path))
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with file.open(entry) as source, open(path, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1024 * 1024)
                os.chmod(path, (mode & 0o777 or 0o644) | 0o600)
    # Links last, so that nothing is written through one.
    for link, path in links:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(link, path)


def _untar(archive, target):
    with tarfile.open(archive, "r:*") as file:
        if hasattr(tarfile, "data_filter"):
            file.extractall(target, filter="data")
        else:
            raise ValueError("this Python is too old to unpack tar files safely: use a zip file")


def _clone(url, target, run):
    address, _, branch = url.partition("#")
    if shutil.which("git") is None:
        raise FetchError(
            f"{address} needs git, which this stack has not: use the URL of a zip file, or install git on the host"
        )
    os.environ["GIT_TERMINAL_PROMPT"] = "0"
    options = ["--branch", branch] if branch else []
    quick = ["git", "clone", "--quiet", "--depth", "1", "--recursive", *options, "--", address, target]
    if run(quick) == 0:
        return
    shutil.rmtree(target, ignore_errors=True)
    full = ["git", "clone", "--quiet", "--recursive", "--", address, target]
    if run(full) != 0:
        raise FetchError(f"{address} cannot be cloned: check the address and that it needs no password")
    if branch and run(["git", "-C", target, "checkout", "--quiet", branch, "--"]) != 0:
        raise FetchError(f"{address} has no branch, tag or commit {branch!r}")
