"""`cupola doctor`: what this machine offers, found out by trying; what is missing, what follows, and what helps.

Works before the first start and while the platform runs.
"""

import itertools
import json
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.console import Console
from rich.markup import escape

from cupola.cli import certificates, checks, place, toolchains
from cupola.cli.place import shown
from cupola.cli.up import chosen_settings
from cupola.config import ConfigError, Settings
from cupola.databases import choice, cluster
from cupola.processes import running
from cupola.runtime.local import cgroups, kernel, probe

__all__ = ["Check", "doctor", "examine"]

State = Literal["good", "weaker", "bad"]
Wished = tuple[Path | None, dict[str, Any]] | None
"""A file with settings, and flags."""
_SCARCE_MEMORY_MB = 1024
_MARKS: dict[State, str] = {
    "good": "[green]\u2714[/]",
    "weaker": "[yellow]![/]",
    "bad": "[red]\u2718[/]",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `bad` means that `cupola up` cannot work; `weaker`, that something is missing."""

    section: str
    name: str
    state: State
    found: str = ""
    consequence: str = ""
    remedy: str = ""


def doctor(data_dir: Path, as_json: bool, wished: Wished = None) -> int:
    """Run the command; its exit status: 1 when something prevents the platform from running here.

    `wished` are settings of a platform that is to be started; without them those of the one that is there count.
    """
    console = Console(highlight=False)
    if as_json:
        found = list(examine(data_dir, wished))
        print(json.dumps([asdict(one) for one in found], indent=2))  # noqa: T201  # the answer itself
    else:
        found = _show(console, data_dir, wished)
    return 1 if any(one.state == "bad" for one in found) else 0


def _show(console: Console, data_dir: Path, wished: Wished) -> list[Check]:
    found: list[Check] = []
    section = ""
    examining = examine(data_dir, wished)
    while True:
        with console.status("Trying what this machine offers"):
            check = next(examining, None)
        if check is None:
            break
        found.append(check)
        if check.section != section:
            section = check.section
            console.print(f"[bold]{section}[/]")
        console.print(f"  {_MARKS[check.state]} {check.name:<24} {escape(check.found)}".rstrip(), soft_wrap=True)
        for label, text in (("so", check.consequence), ("help", check.remedy)):
            if text:
                console.print(f"      [dim]{label:<6}[/]{escape(text)}", soft_wrap=True)
    bad = [check.name for check in found if check.state == "bad"]
    weaker = sum(check.state == "weaker" for check in found)
    if bad:
        console.print(f"\n[red]The platform cannot run here[/]: {', '.join(bad)}.")
    elif weaker:
        console.print(f"\nThe platform can run here; {weaker} of {len(found)} things are weaker than they could be.")
    else:
        console.print("\n[green]Everything is there.[/]")
    return found


def examine(data_dir: Path, wished: Wished = None) -> Iterator[Check]:
    """Every check, in the order in which it is shown. Takes some seconds: instances of each mode are tried."""
    kept = None if wished else place.kept_settings(data_dir)
    is_running = kept is not None and running.read(kept.run_dir, "controller") is not None
    file, flags = wished or (None, {})
    settings = kept or chosen_settings(file, {"data_dir": str(data_dir), **flags})
    sections = (
        _machine(settings),
        _addresses(settings, is_running),
        _isolation(settings, is_running),
        _runtimes(settings),
        _services(settings),
    )
    for check in itertools.chain.from_iterable(sections):
        yield replace(check, consequence="", remedy="") if check.state == "good" else check


# Machine


def _machine(settings: Settings) -> Iterator[Check]:
    section = "Machine"
    version = platform.python_version()
    yield Check(
        section,
        "Python",
        "good" if sys.version_info >= (3, 11) else "bad",
        f"{version}, {sys.executable}",
        "",
        "install Python 3.11 or newer",
    )
    release = platform.release()
    number = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    is_linux = sys.platform == "linux"
    good = is_linux and number >= (5, 4)
    yield Check(
        section,
        "kernel",
        "good" if good else "bad",
        f"{platform.system()} {release}",
        "processes cannot be watched",
        "use Linux 5.4 or newer, in a virtual machine or a container elsewhere",
    )
    yield _user(section, settings)
    yield _memory(section)
    yield _disk(section, settings.data_dir)
    kind = checks.file_system(_existing(settings.data_dir))
    bad = checks.is_network(kind)
    yield Check(
        section,
        "data directory",
        "bad" if bad else "good",
        f"{shown(settings.data_dir)}{f' on {kind}' if kind else ''}",
        "the database would be damaged on a network file system",
        "choose a --data-dir on a local disk",
    )


def _user(section: str, settings: Settings) -> Check:
    """Who controller and router are."""
    if os.geteuid() != 0:
        return Check(section, "user", "good", f"user {os.geteuid()}")
    try:
        account = settings.account
    except ConfigError as error:
        return Check(
            section, "user", "bad", str(error), "the platform does not start", "set platform.user to one that is"
        )
    if account is not None:
        return Check(section, "user", "good", f"{settings.platform.user} for controller and router")
    found = "root" if kernel.landlock_abi() else "root, and there is no Landlock"
    return Check(
        section, "user", "weaker", f"{found}, without capabilities", "controller and router can read what root's files are",
        "set platform.user to a user of its own, for controller and router",
    )  # fmt: skip


def _memory(section: str) -> Check:
    available = psutil.virtual_memory().available // 2**20
    total = psutil.virtual_memory().total // 2**20
    state: State = "good" if available >= _SCARCE_MEMORY_MB else "weaker"
    return Check(
        section, "memory", state, f"{available} MiB of {total} MiB available",
        "the platform takes about 250 MiB and staging up to 1 GiB for an app", "end other programs, or set staging.memory_mb lower",
    )  # fmt: skip


def _disk(section: str, data_dir: Path) -> Check:
    free = shutil.disk_usage(_existing(data_dir)).free // 2**20
    state: State = "good" if free >= 4 * 1024 else "weaker" if free >= checks.MIN_FREE_MB else "bad"
    return Check(
        section,
        "disk",
        state,
        f"{free} MiB free",
        "droplets and staging need room: an app takes 100 MiB to 1 GiB",
        "make room, or choose a --data-dir on another disk",
    )


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


# Addresses


def _addresses(settings: Settings, is_running: bool) -> Iterator[Check]:
    section = "Addresses"
    for address, port in checks.public_ports(settings):
        if is_running and running.read(settings.run_dir, "router"):
            yield Check(section, f"port {port}", "good", "in use by this platform")
            continue
        problem = checks.port_problem(address, port, checks.option_of(settings, port))
        yield Check(
            section,
            f"port {port}",
            "weaker" if problem else "good",
            "" if problem else f"free on {address}",
            problem,
        )
    yield _instance_ports(section, settings)
    if settings.platform.system_domain:
        yield from _names(section, settings)
        yield from _certificates(settings)
        return
    name = f"doctor.{settings.apps_domain}"
    try:
        socket.getaddrinfo(name, 80)
    except OSError:
        yield Check(
            section, "names of apps", "weaker", f"{name} does not resolve",
            "browsers and curl find *.localhost by themselves; other programs do not",
            f"install libnss-myhostname (Debian, Ubuntu), or set http_proxy={settings.api_url} for the program",
        )  # fmt: skip
    else:
        yield Check(section, "names of apps", "good", f"*.{settings.apps_domain} resolves")


def _names(section: str, settings: Settings) -> Iterator[Check]:
    """Whether the names of the system hosts and of apps are known to the DNS, as seen from here."""
    for what, name, record in (
        ("names of system hosts", f"api.{settings.platform.system_domain}", f"*.{settings.platform.system_domain}"),
        ("names of apps", f"doctor.{settings.apps_domain}", f"*.{settings.apps_domain}"),
    ):
        try:
            addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)})
        except OSError:
            yield Check(
                section, what, "weaker", f"{name} does not resolve", "clients do not find the platform by this name",
                f"give {record} an A (and AAAA) record with the address of this machine",
            )  # fmt: skip
        else:
            yield Check(section, what, "good", f"{name} is {', '.join(addresses)}")


def _certificates(settings: Settings) -> Iterator[Check]:
    section = "Certificates"
    for found in certificates.findings(settings):
        state: State = "bad" if found.unusable else "weaker" if found.problem else "good"
        until = f"until {found.certificate.until}" if found.certificate else ""
        consequence = "clients refuse to connect"
        if found.problem:
            yield Check(section, found.what, state, found.problem, consequence, found.remedy)
        else:
            yield Check(section, found.what, state, until)
    if settings.apps_domain == settings.platform.system_domain:
        yield Check(
            section, "domain of apps", "weaker", f"that of the system hosts, {settings.apps_domain}",
            f"an app can set cookies for all of {settings.apps_domain}", "give apps a domain of their own (--apps-domain)",
        )  # fmt: skip


def _instance_ports(section: str, settings: Settings) -> Check:
    first, _, last = settings.runtime.port_range.partition("-")
    try:
        low, high = (int(word) for word in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
        overlaps = int(first) <= high and int(last) >= low
    except (OSError, ValueError):
        overlaps = False
    return Check(
        section, "ports of instances", "weaker" if overlaps else "good", settings.runtime.port_range,
        "the system gives ports of this range to outgoing connections, so an instance may find its port taken",
        "set runtime.port_range outside of net.ipv4.ip_local_port_range",
    )  # fmt: skip


# Isolation


def _isolation(settings: Settings, is_running: bool) -> Iterator[Check]:
    section = "Isolation of apps"
    with _directory(settings.data_dir) as directory:
        findings = probe.report(directory, settings.runtime.rootfs, settings.runtime.disk_limit)
        if directory != settings.data_dir:
            _remove_groups(directory)
    works = {finding.feature: finding.available for finding in findings}
    yield _mode(section, settings, works, is_running)
    seccomp = _tries(_filter_system_calls)
    yield Check(
        section,
        "seccomp",
        "good" if seccomp else "weaker",
        "",
        "apps may use every system call",
        "use a kernel with CONFIG_SECCOMP_FILTER, outside of a container that forbids it",
    )
    for finding in findings:
        state: State = "good" if finding.available else "bad" if finding.feature in _NEEDED else "weaker"
        yield Check(section, finding.feature, state, finding.how, finding.consequence, finding.remedy)


_NEEDED = frozenset({"bash", "merged /usr"})


def _mode(section: str, settings: Settings, works: dict[str, bool], is_running: bool) -> Check:
    wished = settings.runtime.isolation
    if is_running:
        mode = _read(settings.run_dir / "cell.ready") or "unknown"
        return Check(
            section, "mode", "good" if mode == "root" else "weaker", f"{mode} (of the running platform)", "see below"
        )
    if wished == "none":
        return Check(
            section, "mode", "weaker", "none", "apps can read the platform's files", "leave runtime.isolation at `auto`"
        )
    if works.get("namespaces"):
        mode = "root" if os.getuid() == 0 else "rootless"
    elif works.get("landlock") or os.getuid() == 0:
        mode = "process"
    else:
        return Check(
            section, "mode", "bad", "no isolation works here", "`cupola up` refuses to run apps",
            "see namespaces below; or `cupola up --isolation none` to run them as plain processes that can read the platform's files",
        )  # fmt: skip
    return Check(section, "mode", "good" if mode == "root" else "weaker", mode, "weaker than `root`; see below")


@contextmanager
def _directory(data_dir: Path) -> Iterator[Path]:
    """A directory on the file system of the platform, which may not be there yet."""
    if data_dir.is_dir() and os.access(data_dir, os.W_OK):
        yield data_dir
        return
    existing = _existing(data_dir)
    place_ = existing if os.access(existing, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=".cupola-doctor-", dir=place_) as made:
        yield Path(made)


def _remove_groups(directory: Path) -> None:
    groups = cgroups.find(probe.platform_id(directory))
    for parent in set(groups.parents.values()) if groups else ():
        try:
            parent.rmdir()
        except OSError:
            continue


def _filter_system_calls() -> None:
    kernel.no_new_privileges()
    kernel.seccomp_deny()


def _tries(action: Callable[[], None]) -> bool:
    """Whether something works that cannot be undone: done by a child process."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


# Runtimes


def _runtimes(settings: Settings) -> Iterator[Check]:
    for tool in toolchains.find(settings.runtime.rootfs):
        state: State = "good" if tool.version else "weaker"
        found = f"{tool.version} ({tool.path})" if tool.version else tool.problem
        yield Check("Runtimes for apps", tool.name, state, found, tool.consequence, tool.remedy)


# Services


def _services(settings: Settings) -> Iterator[Check]:
    """Whether databases can be offered on a cluster of our own."""
    section, name = "Services", "PostgreSQL"
    without = "`cupola services enable` offers databases on a server that is named with --server, and nowhere else"
    try:
        found = choice.read(settings.data_dir)
        if found is not None and found.enabled and found.server:
            yield Check(section, name, "good", "databases are offered on a named server")
            return
        if found is not None and found.enabled:
            without = "the databases that are offered here do not start"
        made_by = cluster.version(cluster.Place.of(settings.data_dir))
        programs, version = cluster.find(made_by)
        cluster.account()
    except choice.Unreadable as error:
        yield Check(section, name, "weaker", "", str(error), "")
    except cluster.NoPostgres as error:
        yield Check(section, name, "weaker", "", without, str(error))
    else:
        yield Check(section, name, "good", f"{version} ({programs})")
