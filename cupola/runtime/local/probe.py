"""What this machine really offers, found out by doing it: an instance of each mode that runs `true`.

`choose` picks the mode for a cell; `report` says for `cupola doctor` what is missing, what follows and what helps.
"""

import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cupola.runtime.engine import EngineError
from cupola.runtime.local import cgroups, droplets, kernel, network, spaces

__all__ = ["Choice", "Finding", "choose", "platform_id", "report", "try_mode"]

Mode = Literal["root", "rootless", "process", "none"]
_TRIAL_MIB = 4
"""Disk limit of a trial instance: room enough for an empty file system."""


@dataclass(frozen=True)
class Finding:
    """One feature: whether it works here, what follows when it does not, and what to do about it."""

    feature: str
    available: bool
    consequence: str = ""
    remedy: str = ""
    how: str = ""
    """By what, where there are several ways."""


@dataclass(frozen=True)
class Choice:
    """How instances of this cell are made. `weaker` says why no stronger mode was taken."""

    mode: Mode
    overlay: bool
    landlock: bool
    groups: cgroups.Cgroups | None
    own_network: bool = False
    space: spaces.Kind = "polling"
    weaker: tuple[str, ...] = ()


def platform_id(data_dir: Path) -> str:
    """Eight hex digits that name this platform in control groups; made from its data directory."""
    return hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:8]


def try_mode(
    mode: Mode,
    overlay: bool,
    directory: Path,
    rootfs: str = "",
    *,
    own_network: bool = False,
    space: spaces.Kind = "polling",
) -> str:
    """Run `true` in an instance of this mode, below `directory`. Returns what failed, or an empty string."""
    base = directory / f"probe-{mode}-{os.getpid()}"
    if base.exists():
        droplets.remove_tree(base)
    base.mkdir(parents=True, mode=0o700)
    try:
        return _try(mode, overlay, base, rootfs, own_network, space)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return str(error)
    finally:
        spaces.remove(base / "trial")
        droplets.remove_tree(base)


def _try(mode: Mode, overlay: bool, base: Path, rootfs: str, own_network: bool, space: spaces.Kind) -> str:
    etc, scratch, record = base / "etc", base / "scratch", base / "trial"
    for path in (etc, scratch, record):
        path.mkdir()
    configuration = {
        "mode": mode,
        "etc": str(etc),
        "scratch": str(scratch),
        "rootfs": rootfs,
        "read_only": [],
        "own_network": own_network,
    }
    spaces.Spaces(space, base / "disks").make(space, record, _TRIAL_MIB)
    _write_trial(mode, overlay, record, own_network, space)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [
        sys.executable,
        "-S",
        "-m",
        "cupola.runtime.local.spawner",
        str(theirs.fileno()),
        json.dumps(configuration),
    ]
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with ours, theirs:
        ours.settimeout(20)
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            theirs.close()
            first = json.loads(ours.recv(65536) or b'{"error": "the spawner ended at once"}')
            if "error" in first:
                return str(first["error"])
            ours.send(os.fsencode(record))
            answer = json.loads(ours.recv(65536) or b'{"error": "the spawner ended"}')
            if "fault" in answer:
                # Less isolation would hide it, and every instance would meet it.
                raise RuntimeError(f"a trial of isolation mode {mode} met a fault of this program: {answer['error']}")
            if "error" in answer:
                return str(answer["error"])
            return _wait(record, int(answer["pid"]))
        finally:
            ours.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _write_trial(mode: Mode, overlay: bool, record: Path, own_network: bool, space: spaces.Kind) -> None:
    files = record / "files"
    for name in ("home/vcap/app", "tmp", "upper", "work", "lower/app", "space"):
        (files / name).mkdir(parents=True)
    test = "true" if mode in ("process", "none") else 'test "$(id -u)" = 2000 && test -d app && echo x > app/probe'
    if space != "polling":
        test += f" && ! head -c {2 * _TRIAL_MIB << 20} /dev/zero > probe"
    directory = str(files / "home/vcap") if mode in ("process", "none") else "/home/vcap"
    program = {
        "argv": ["/bin/sh", "-c", test], "env": {"PATH": "/usr/bin:/bin"}, "directory": directory,
        "stdout": os.devnull, "stderr": os.devnull,
    }  # fmt: skip
    base = 4_000_000_000 if mode == "root" else -1
    if mode == "root":
        for name in ("home/vcap/app", "home/vcap", "upper", "work"):
            os.chown(files / name, base + 2000, base + 2000)
        for name in ("lower", "lower/app"):
            os.chown(files / name, 2000, 2000)
    launch = {
        "files": str(files), "lower": str(files / "lower") if overlay else "", "uid": base, "hostname": "trial",
        "binds": [], "readable": ["/usr", "/bin", "/lib", "/lib64", "/proc"], "writable": [str(record), "/dev"],
        "confine": mode != "none", "landlock": mode == "process" and kernel.landlock_abi() > 0, "search": False,
        "cgroups": [], "limits": {}, "programs": [program], "grace": 1, "shm_bytes": 65536,
        "network": {"address": network.internal_address(0), "forwards": [], "bound": [], "group": -1} if own_network else None,
        "space": spaces.mounted(space, record, _TRIAL_MIB),
    }  # fmt: skip
    (record / "launch.json").write_text(json.dumps(launch))


def _wait(record: Path, pid: int) -> str:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        descriptor = -1
    if descriptor >= 0:
        if not select.select([descriptor], [], [], 10)[0]:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        os.close(descriptor)
    text = (record / "exit.new").read_text()
    statuses = json.loads(text)["statuses"] if text else []
    return "" if statuses == [[0, 0]] else f"the trial instance ended with {text or 'nothing'}"


def choose(isolation: str, data_dir: Path, rootfs: str = "", disk_limit: str = "auto") -> Choice:
    """The mode to use. Raises EngineError when what is forced does not work, or nothing that isolates does."""
    directory = data_dir / "cell"
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    landlock = kernel.landlock_abi() > 0
    is_root = os.getuid() == 0
    groups = cgroups.find(platform_id(data_dir)) if isolation != "none" else None
    weaker: list[str] = []
    candidates: list[Mode] = ["root", "rootless"] if isolation == "auto" else []
    if isolation in ("root", "rootless"):
        candidates = ["root"] if isolation == "root" else ["rootless"]
    for mode in candidates:
        if (mode == "root") != is_root:
            weaker.append(f"{mode}: {'root' if mode == 'root' else 'a user other than root'} is needed")
            continue
        for overlay in (True, False):
            failure = try_mode(mode, overlay, directory, rootfs)
            if not failure:
                own_network, space = _extras(mode, overlay, directory, rootfs, disk_limit, weaker)
                return Choice(mode, overlay, landlock, groups, own_network, space, tuple(weaker))
            weaker.append(f"{mode}{' with overlay' if overlay else ''}: {failure}")
    if isolation == "none":
        return Choice("none", False, False, None, space=_space("none", False, directory, "", disk_limit, weaker))
    if isolation in ("auto", "process") and (landlock or is_root):
        failure = try_mode("process", False, directory)
        if not failure:
            space = _space("process", False, directory, "", disk_limit, weaker)
            return Choice("process", False, landlock, groups, space=space, weaker=tuple(weaker))
        weaker.append(f"process: {failure}")
    elif isolation in ("auto", "process"):
        weaker.append("process: this kernel has no Landlock, and we are not root")
    raise EngineError(
        f'apps cannot be isolated here ({"; ".join(weaker)}): see `cupola doctor`, or set runtime.isolation = "none" '
        "to run them as plain processes that can read the platform's files"
    )


def _extras(
    mode: Mode, overlay: bool, directory: Path, rootfs: str, disk_limit: str, weaker: list[str]
) -> tuple[bool, spaces.Kind]:
    """Whether instances can have a network of their own, and what holds them to their disk limit."""
    best = next(spaces.candidates(disk_limit, mode, directory, overlay=overlay), None)
    # Nearly always both work, and one trial tells.
    if best is not None and not try_mode(mode, overlay, directory, rootfs, own_network=True, space=best):
        return True, best
    failure = try_mode(mode, overlay, directory, rootfs, own_network=True)
    if failure:
        weaker.append(f"a network of its own: {failure}")
    return not failure, _space(mode, overlay, directory, rootfs, disk_limit, weaker)


def _space(mode: Mode, overlay: bool, directory: Path, rootfs: str, disk_limit: str, weaker: list[str]) -> spaces.Kind:
    failures: list[str] = []
    for kind in spaces.candidates(disk_limit, mode, directory, overlay=overlay):
        failure = "" if kind == "polling" else try_mode(mode, overlay, directory, rootfs, space=kind)
        if not failure:
            weaker += failures
            return kind
        failures.append(f"disk limit by {kind}: {failure}")
    why = "; ".join(failures) or "see `cupola doctor` for what it needs"
    raise EngineError(f'runtime.disk_limit = "{disk_limit}" does not work here ({why}): set it to "auto"')


def report(data_dir: Path, rootfs: str = "", disk_limit: str = "auto") -> list[Finding]:
    """Every feature of the native engine on this machine. Takes about a second."""
    is_root = os.getuid() == 0
    directory = data_dir / "cell"
    mode: Mode = "root" if is_root else "rootless"
    overlay_failure = try_mode(mode, True, directory, rootfs)
    mode_failure = try_mode(mode, False, directory, rootfs) if overlay_failure else ""
    network_failure = mode_failure or try_mode(mode, not overlay_failure, directory, rootfs, own_network=True)
    space = "polling" if mode_failure else _reported(mode, not overlay_failure, directory, rootfs, disk_limit)
    groups = cgroups.find(platform_id(data_dir))
    abi = kernel.landlock_abi()
    findings = [
        Finding(
            "root", is_root, "instances share one user, and control groups need systemd's delegation", "run as root"
        ),
        Finding(
            "namespaces",
            not mode_failure,
            f"instances are plain processes that Landlock confines; they see the host's processes ({mode_failure})",
            _namespace_remedy(),
        ),
        Finding(
            "overlay",
            not overlay_failure,
            f"each instance has a copy of its droplet ({overlay_failure})",
            "put data_dir on ext4, xfs or btrfs",
        ),
        Finding(
            "landlock",
            abi > 0,
            "mode `process` cannot hide files from apps",
            "boot with lsm=landlock,... (Linux 5.13 or newer)",
        ),
        Finding(
            "landlock signals",
            abi >= 6,
            "in mode `process` without root, instances can signal processes of the same user",
            "use Linux 6.12 or newer",
        ),
        Finding(
            "memory limit by the kernel",
            groups is not None,
            "memory is read every two seconds and an instance over its limit ended then",
            "as root: mount cgroups; else start with `systemd-run --user --scope -p Delegate=yes cupola up`",
        ),
        Finding(
            "cpu weight",
            groups is not None and "cpu" in groups.parents,
            "instances share the CPU evenly",
            "enable the cpu controller",
        ),
        Finding(
            "network namespace",
            not network_failure,
            f"instances use the host's network and can reach its local services ({network_failure})",
            "load the kernel modules nf_tables, nf_nat and nf_conntrack" if not mode_failure else _namespace_remedy(),
        ),
        Finding(
            "security groups",
            False,
            "security groups, network policies and isolation segments are stored, and not enforced by this engine yet",
            "none in this version; run untrusted apps on a network of their own",
        ),
        Finding(
            "disk limit by the kernel",
            space != "polling",
            "disk use is read every fifteen seconds and an instance over its limit ended then; one file cannot exceed it",
            "as root: mount the file system of data_dir with project quotas (ext4, xfs: prjquota; btrfs: `btrfs quota "
            "enable`), or install mkfs.ext4 and load the kernel module loop",
            how="" if space == "polling" else space,
        ),
    ]
    merged = os.path.islink("/bin") or bool(rootfs)
    findings.append(
        Finding(
            "merged /usr", merged, "the host's /usr alone is no root filesystem", "set runtime.rootfs to a directory"
        )
    )
    missing = [path for path in ("/usr/bin/bash", "/usr/bin/env") if not os.path.exists((rootfs or "") + path)]
    findings.append(
        Finding("bash", not missing, "start commands cannot run", f"install {', '.join(missing) or 'bash'}")
    )
    return findings


def _reported(mode: Mode, overlay: bool, directory: Path, rootfs: str, disk_limit: str) -> spaces.Kind:
    try:
        return _space(mode, overlay, directory, rootfs, disk_limit, [])
    except EngineError:
        return "polling"


def _namespace_remedy() -> str:
    try:
        if Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").read_text().strip() == "1":
            return "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
    except OSError:
        pass
    try:
        if Path("/proc/sys/kernel/unprivileged_userns_clone").read_text().strip() == "0":
            return "sysctl kernel.unprivileged_userns_clone=1, or run as root"
        if Path("/proc/sys/user/max_user_namespaces").read_text().strip() == "0":
            return "sysctl user.max_user_namespaces=10000"
    except OSError:
        pass
    return "outside of a container, or in one that may unshare; as root where that is possible"
