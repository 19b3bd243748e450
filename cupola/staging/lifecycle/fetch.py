"""Custom buildpacks: fetched from the address of an archive or a git repository, inside the staging container.

    FetchError    the text says which and what to do; it may contain the address's credentials, so it is scrubbed

Each host that is called, also after a redirect or for a submodule, is judged by the policy and dialled at the address that was
judged. A proxy of the host's is the exception: there the proxy resolves names.
"""

import base64
import http.client
import os
import re
import shutil
import socket
import ssl
import stat
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cupola.outbound import Policy, Refused
else:  # a neighbour, where this runs
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from outbound import Policy, Refused

__all__ = ["FetchError", "Source", "fetch"]

_MAX_BYTES = 2 * 1024**3
_MAX_UNPACKED = 4 * _MAX_BYTES
_TIMEOUT = 60.0
"""Seconds without a byte."""
_PORTS = {"http": 80, "https": 443, "git": 9418, "ssh": 22}
_ARCHIVES = (".zip", ".tgz", ".tar.gz")
_SCP = re.compile(r"(?:[\w.-]+@)([\w.-]+):\S+", re.ASCII)
_RELATIVE = re.compile(r"(?:\.\.?/)+")
_SUBMODULE_DEPTH = 5


class FetchError(Exception):
    """The buildpack could not be had."""


@dataclass(frozen=True)
class Source:
    """An address, and how it is reached. `run` runs an argument list with an environment and returns its status."""

    url: str
    policy: Policy
    env: Mapping[str, str]
    run: Callable[[Sequence[str], Mapping[str, str]], int]


def fetch(source: Source, target: Path) -> None:
    """Put the buildpack into the directory `target`, which is made. Raises FetchError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    parts = urllib.parse.urlsplit(source.url)
    if parts.scheme in ("http", "https") and parts.path.lower().endswith(_ARCHIVES):
        _archive(source, target)
    elif parts.scheme in _PORTS or _SCP.fullmatch(source.url.partition("#")[0]):
        _clone(source, target)
    else:
        raise FetchError(f"{source.url} is neither the name of an installed buildpack nor a URL: see `cf buildpacks`")


def _archive(source: Source, target: Path) -> None:
    archive = target.with_name(target.name + ".archive")
    _download(source, archive)
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, target)
        else:
            _untar(archive, target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError, NotImplementedError) as error:
        raise FetchError(f"{source.url} is no usable archive: {error}") from None
    finally:
        archive.unlink()


def _download(source: Source, archive: Path) -> None:
    url = urllib.parse.urlsplit(source.url)
    user, _, address = url.netloc.rpartition("@")
    request = urllib.request.Request(  # noqa: S310 - `fetch` lets http and https through only
        urllib.parse.urlunsplit(url._replace(netloc=address, fragment="")), headers={"User-Agent": "cupola-staging"}
    )
    if user:
        request.add_unredirected_header("Authorization", "Basic " + _basic(user))
    try:
        with _opener(source).open(request, timeout=_TIMEOUT) as answer, archive.open("wb") as file:
            left = _MAX_BYTES
            while chunk := answer.read(1024 * 1024):
                left -= len(chunk)
                if left < 0:
                    raise FetchError(f"{source.url} is larger than {_MAX_BYTES} bytes")
                file.write(chunk)
    except urllib.error.HTTPError as error:
        raise FetchError(f"{source.url} answered {error.code} {error.reason}: check the address") from None
    except Refused as error:
        raise FetchError(f"{source.url} may not be called: {error}") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FetchError(f"{source.url} cannot be reached: {reason}: {_advice(url.hostname or '')}") from None


def _advice(host: str) -> str:
    if host == "localhost" or host.startswith("127."):
        return "check the address; loopback is the container's own unless an operator adds host:port to staging.allow"
    return "check the address"


def _basic(user: str) -> str:
    return base64.b64encode(urllib.parse.unquote(user).encode()).decode()


def _opener(source: Source) -> urllib.request.OpenerDirector:
    """Opens URLs with the environment's proxies and certificates, at addresses that the policy has judged."""
    context = ssl.create_default_context(cafile=source.env.get("SSL_CERT_FILE") or None)
    proxies = _proxies(source.env, urllib.parse.urlsplit(source.url).hostname or "")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(proxies),
        _Judged(source.policy, proxies, context),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _proxies(env: Mapping[str, str], host: str) -> dict[str, str]:
    """The proxies for this host, by scheme."""
    no = env.get("no_proxy") or env.get("NO_PROXY", "")
    if urllib.request.proxy_bypass_environment(host, {"no": no}):  # type: ignore[attr-defined]  # typeshed leaves it out
        return {}
    found = {
        scheme: env.get(f"{scheme}_proxy") or env.get(f"{scheme.upper()}_PROXY", "") for scheme in ("http", "https")
    }
    every = env.get("all_proxy") or env.get("ALL_PROXY", "")
    return {scheme: url or every for scheme, url in found.items() if url or every}


class _Judged(urllib.request.HTTPSHandler):
    """http and https, where a connection is made only to an address that the policy allows."""

    def __init__(self, policy: Policy, proxies: Mapping[str, str], context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._tls = context
        self._policy = policy
        self._proxies = {urllib.parse.urlsplit(url).netloc.rpartition("@")[2] for url in proxies.values()}

    http_request = urllib.request.HTTPHandler.http_request

    def http_open(self, request: urllib.request.Request) -> Any:
        """See OpenerDirector."""
        return self._judged(http.client.HTTPConnection, request)

    def https_open(self, request: urllib.request.Request) -> Any:
        """See OpenerDirector."""
        return self._judged(partial(http.client.HTTPSConnection, context=self._tls), request)

    def _judged(self, kind: Callable[..., Any], request: urllib.request.Request) -> Any:
        policy = Policy(anywhere=True) if request.host in self._proxies else self._policy

        def connection(host: str, **options: Any) -> Any:
            made = kind(host, **options)
            # The hook of http.client for how its socket is made.
            made._create_connection = partial(_connect, policy)
            return made

        return self.do_open(connection, request)


def _connect(policy: Policy, address: tuple[str, int], timeout: float, source: object = None) -> socket.socket:
    last: OSError | None = None
    for judged in policy.resolve(*address):
        try:
            return socket.create_connection((judged, address[1]), timeout)
        except OSError as error:
            last = error
    raise last or OSError("no address")


class _Unpacker:
    """Puts the entries of an archive below `target`; refuses names and links that lead out. Raises ValueError."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._left = _MAX_UNPACKED
        self._links: list[tuple[str, Path]] = []

    def directory(self, name: str) -> None:
        _inside(self._target, name).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, mode: int, size: int, source: IO[bytes]) -> None:
        path = _inside(self._target, name)
        self._left -= size
        if self._left < 0:
            raise ValueError("it is too large when unpacked")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1024 * 1024)
        path.chmod((mode & 0o777 or 0o644) | 0o600)

    def link(self, name: str, to: str) -> None:
        place = _inside(self._target, name)
        if to.startswith("/"):
            raise ValueError(f"the link {name!r} leads out of the archive")
        _inside(self._target, str(Path(name).parent / to))
        self._links.append((to, place))

    def finish(self) -> None:
        """Links last, so that nothing is written through one."""
        for to, place in self._links:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(to)


def _unzip(archive: Path, target: Path) -> None:
    unpacker = _Unpacker(target)
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            mode = entry.external_attr >> 16
            if entry.is_dir():
                unpacker.directory(entry.filename)
            elif stat.S_ISLNK(mode):
                unpacker.link(entry.filename, file.read(entry).decode())
            else:
                with file.open(entry) as source:
                    unpacker.file(entry.filename, mode, entry.file_size, source)
    unpacker.finish()


def _untar(archive: Path, target: Path) -> None:
    unpacker = _Unpacker(target)
    with tarfile.open(archive, "r:*") as file:
        for entry in file:
            if entry.isdir():
                unpacker.directory(entry.name)
            elif entry.issym():
                unpacker.link(entry.name, entry.linkname)
            elif source := file.extractfile(entry) if entry.isreg() or entry.islnk() else None:
                with source:
                    unpacker.file(entry.name, entry.mode, entry.size, source)
    unpacker.finish()


def _inside(target: Path, name: str) -> Path:
    path = os.path.normpath(target / name)
    if path != str(target) and not path.startswith(f"{target}{os.sep}"):
        raise ValueError(f"the entry {name!r} leads out of the archive")
    return Path(path)


def _clone(source: Source, target: Path) -> None:
    address, _, branch = source.url.partition("#")
    if shutil.which("git", path=source.env.get("PATH")) is None:
        raise FetchError(
            f"{address} needs git, which this stack has not: use the URL of a zip file, or have git installed on the host"
        )
    if branch.startswith("-"):
        raise FetchError(f"{address} has no branch, tag or commit {branch!r}")
    options = ["--branch", branch] if branch else []
    if _git(source, address, ["clone", "--quiet", "--depth", "1", *options, "--", address, str(target)]):
        # The server may not know shallow clones, and a commit is no branch.
        shutil.rmtree(target, ignore_errors=True)
        if _git(source, address, ["clone", "--quiet", "--", address, str(target)]):
            raise FetchError(f"{address} cannot be cloned: check the address and that it needs no password")
        if branch and _git(source, address, ["-C", str(target), "checkout", "--quiet", branch, "--"]):
            raise FetchError(f"{address} has no branch, tag or commit {branch!r}")
    _submodules(source, address, target, _SUBMODULE_DEPTH)


def _submodules(source: Source, address: str, target: Path, depth: int) -> None:
    """Fetch what .gitmodules names, level by level, so that each host is judged before it is called."""
    if not (target / ".gitmodules").is_file():
        return
    if depth == 0:
        raise FetchError(f"{address} has submodules nested deeper than {_SUBMODULE_DEPTH}")
    text = (target / ".gitmodules").read_text(encoding="utf-8", errors="replace")
    for path, url in _gitmodules(text):
        place = target / path
        if not place.resolve().is_relative_to(target.resolve()):
            raise FetchError(f"{address} has a submodule outside of itself: {path}")
        relative = _RELATIVE.match(url)
        if relative and relative[0].count("..") > urllib.parse.urlsplit(address).path.strip("/").count("/") + 1:
            raise FetchError(f"{address} has a submodule outside of its host: {url}")
        whole = address if relative else url
        if _git(source, whole, ["-C", str(target), "submodule", "--quiet", "update", "--init", "--", path]):
            raise FetchError(f"{address}: its submodule {path} cannot be fetched from {url}")
        _submodules(source, whole, place, depth - 1)


def _gitmodules(text: str) -> list[tuple[str, str]]:
    """(path, url) of each submodule."""
    found = []
    for section in re.split(r"(?m)^\s*\[submodule\b.*\]\s*$", text)[1:]:
        values = dict(re.findall(r"(?m)^\s*(path|url)\s*=\s*(\S.*?)\s*$", section))
        if values.get("path") and values.get("url"):
            found.append((values["path"], values["url"]))
    return found


def _git(source: Source, address: str, arguments: Sequence[str]) -> int:
    """Run git for this address; returns its status. Raises FetchError when the policy forbids the host."""
    env = {**source.env, "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ":".join(_PORTS)}
    env.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new")
    return source.run(["git", *_git_options(source, address), *arguments], env)


def _git_options(source: Source, address: str) -> list[str]:
    """Options that make git dial the judged address and follow no redirect from there. Raises FetchError."""
    if match := _SCP.fullmatch(address):
        host, port, scheme = match[1], 22, "ssh"
    else:
        parts = urllib.parse.urlsplit(address)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise FetchError(f"{address} is no address that git may fetch here: use https, http, ssh or git")
        host, port, scheme = parts.hostname, parts.port or _PORTS[parts.scheme], parts.scheme
    if _proxies(source.env, host).get(scheme) or source.policy.anywhere:
        return []
    try:
        judged = source.policy.resolve(host, port)
    except Refused as error:
        raise FetchError(f"{address} may not be called: {error}") from None
    except OSError as error:
        raise FetchError(f"{address} cannot be reached: {error}: check the address") from None
    if scheme not in ("http", "https"):
        return []
    first = f"[{judged[0]}]" if ":" in judged[0] else judged[0]
    return ["-c", f"http.curloptResolve={host}:{port}:{first}", "-c", "http.followRedirects=false"]
