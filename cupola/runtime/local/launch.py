"""How an instance is started, as data: its files, its environment, and launch.json for the fork that makes it."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cupola
from cupola import clock, outbound
from cupola.config import Settings
from cupola.runtime.engine import Address, Container, Program, StagingPlan
from cupola.runtime.local import bindings, birth, droplets, identity, network, spaces, stack
from cupola.runtime.local.record import Record
from cupola.runtime.local.trust import PLACE, Trust
from cupola.runtime.messages import Endpoint, Port

__all__ = ["MAX_OPENED", "VCAP", "Launcher", "address", "not_opened", "opened"]

VCAP = 2000
_CREDENTIALS = "credentials"
"""In the record directory: the instance's key and certificate."""
_USERS = 1_000_000_000
"""First user id of instances; each has the 10 000 from here plus its slot times 10 000."""
_HOST = "127.0.0.1"
MAX_OPENED = 16
"""Ports of the machine's loopback that bound services may open to an instance."""
_MIB = 1024 * 1024


def address(container: Container, slot: int, directory: Path | None) -> Address:
    """Where a container is reached. With a network of its own, by the ingress in its record `directory`.

    On the host's network its first port is the allotted one, others are what they are.
    """
    own = network.internal_address(slot) if directory is not None else _HOST
    if container.kind != "process" or not container.ports:
        return Address(host=_HOST, internal_ip=own)
    outside = [slot, *container.ports[1:]]
    pairs = list(zip(container.ports, outside, strict=True))
    return Address(
        host=_HOST,
        internal_ip=own,
        ports=[Port(internal, external) for internal, external in pairs],
        endpoints={
            str(internal): f"unix:{directory / network.INGRESS}:{internal}" if directory else f"tcp:{_HOST}:{external}"
            for internal, external in pairs
        },
    )


class Launcher:
    """Knows what is the same for every instance of this cell: interpreter, launcher program, readable places."""

    def __init__(
        self,
        settings: Settings,
        mode: str,
        root: Path,
        *,
        landlock: bool,
        own_network: bool,
        launcher: Path | None = None,
    ) -> None:
        self._settings = settings
        self._own_network = own_network
        self._mode = mode
        self._root = root
        self._landlock = landlock
        self._namespaced = mode in ("root", "rootless")
        self._bindings = bindings.place_inside(settings.runtime.rootfs)
        self.identities = identity.Identities(root / "identity") if settings.runtime.instance_identity else None
        self._credentials = identity.place_inside(settings.runtime.rootfs)
        # Where instances share an /etc that is ours, they see it there, else where it is.
        self._etc = root / "etc" / str(clock.nanos())
        etc = self._etc if self._namespaced and not settings.runtime.rootfs else None
        self._certificates = etc / "cf-system-certificates" if etc else root / "certificates"
        self.trust = Trust(self._certificates, etc, self._trusted())
        self._volumes = Path(settings.services.volumes_dir or settings.data_dir / "volumes")
        self._python = os.environ.get("CUPOLA_PYTHON") or os.path.realpath(sys.executable)
        self._prefix = os.path.realpath(os.path.join(os.path.dirname(self._python), ".."))
        self._launcher = launcher or Path(cupola.__file__).resolve().parent / "staging/lifecycle/launcher.py"
        self._shared = [self._prefix, str(self._launcher.parent)]
        if not (self._namespaced and not settings.runtime.rootfs):
            self._shared.append(str(root / "certificates"))
        uid_of_its_own = os.getuid() == 0 and mode == "process"
        self._own_user = uid_of_its_own
        # Directories of the platform's user are closed to others; Landlock then says what may be passed through to.
        self._search = uid_of_its_own and not (_open_to_all(self._python) and _open_to_all(str(root)))

    def prepare(self) -> dict[str, Any]:
        """Make what all instances share; returns the spawner's configuration."""
        scratch = self._root / "scratch"
        if self._namespaced:
            self._remove_old_etc()
            stack.build_etc(str(self._etc), network.GATEWAY if self._own_network else "")
            scratch.mkdir(mode=0o755, exist_ok=True)
        self.trust.begin()
        shared = [path for path in self._shared if os.path.isdir(path)]
        return {
            "mode": self._mode,
            "own_network": self._own_network,
            "etc": str(self._etc),
            "scratch": str(scratch),
            "rootfs": self._settings.runtime.rootfs,
            "read_only": shared,
        }

    def _remove_old_etc(self) -> None:
        """Instances that an earlier cell started have its /etc, and mounts of their own on it, as long as they run."""
        instances, old = self._root / "instances", self._root / "etc"
        if old.is_dir() and not any(instances.iterdir() if instances.is_dir() else ()):
            droplets.remove_tree(old)

    def _trusted(self) -> dict[str, Path]:
        """Name to file of the certificates that instances trust besides the stack's."""
        found = {"platform": self._settings.data_dir / "tls" / "authority.crt"}
        if self.identities is not None:
            found["instances"] = self.identities.authority_file
        files = [Path(name).expanduser() for name in self._settings.runtime.trusted_certificates]
        return found | {f"trusted-{number}-{file.stem}": file for number, file in enumerate(files)}

    def write_identity(self, entry: Record, directory: Path) -> None:
        """Give an instance a new key and certificate, in its record directory."""
        if self.identities is not None:
            place = directory / _CREDENTIALS
            self.identities.write(entry.container, entry.address.internal_ip, place, self._vcap(entry))

    def is_identity_due(self, directory: Path) -> bool:
        """Whether the certificate of an instance ends soon, or is missing."""
        soon = clock.seconds() + identity.RENEW_SECONDS
        return self.identities is not None and identity.ends_at(directory / _CREDENTIALS) < soon

    def make_files(self, entry: Record, files: Path, lower: Path | None) -> None:
        """The instance's own files, owned by its user; for a staging the stager has filled them already."""
        uid = self._vcap(entry)
        bindings.write_files(entry.container, files)
        if entry.layout == "overlay":
            if entry.space in spaces.MOUNTED:
                (files / "space").mkdir()
            else:
                birth.make_writable(str(files), uid)
            return
        home = files / "home" / "vcap"
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        if lower is not None:
            droplets.copy_tree(lower, home)
        droplets.make_layout(home)
        (files / "tmp").mkdir(exist_ok=True)
        if uid >= 0:
            droplets.chown_tree(files, uid)
        (files / "tmp").chmod(0o1777)

    def _vcap(self, entry: Record) -> int:
        base = _USERS + entry.slot * 10_000
        return base + VCAP if self._mode == "root" or self._own_user else -1

    def write_launch(
        self, entry: Record, directory: Path, lower: Path | None, plan: StagingPlan | None, procs: list[str]
    ) -> None:
        """Write launch.json and make the FIFOs."""
        files = directory / "files"
        container = entry.container
        uid = self._vcap(entry)
        if plan is not None and self._namespaced:
            self._make_places([inside for _host, inside in plan.read_only_mounts])
        programs = []
        for number, program in enumerate(container.programs):
            pipes = [str(directory / f"{name}.{number}") for name in ("out", "err")]
            for pipe in pipes:
                os.mkfifo(pipe, 0o600)
                if uid >= 0:
                    os.chown(pipe, uid, uid)
            argv, env = self._command(entry, program, files, plan)
            env |= self._certificate_variables(directory)
            inside = self._home(files)
            programs.append({"argv": argv, "env": env, "directory": inside, "stdout": pipes[0], "stderr": pipes[1]})
        launch = {
            "files": str(files),
            "lower": str(lower) if lower is not None and entry.layout == "overlay" else "",
            "uid": uid - VCAP if self._mode == "root" else uid,
            "hostname": container.guid[:63],
            "binds": self._binds(container, files, plan),
            "volumes": bindings.make_volumes(
                container, self._volumes, VCAP if self._mode == "root" else -1, can_mount=self._namespaced
            ),
            "readable": [*self._readable(plan), str(directory / _CREDENTIALS)],
            "writable": [str(files), "/dev"],
            "confine": self._mode != "none",
            "landlock": self._landlock,
            "search": self._search,
            "cgroups": procs,
            "limits": self._limits(entry),
            "programs": programs,
            "grace": self._settings.runtime.graceful_stop_seconds,
            "network": self._network(entry, plan),
            "space": spaces.mounted(entry.space, directory, spaces.left(container.disk_mb, entry.carried)),
            "shm_bytes": max(container.memory_mb * _MIB // 2, 64 * 1024),
        }
        text = json.dumps(launch)
        descriptor = os.open(directory / "launch.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)

    def _binds(self, container: Container, files: Path, plan: StagingPlan | None) -> list[list[str]]:
        found = [[str(host), inside] for host, inside in plan.read_only_mounts] if plan else []
        if not self._namespaced:
            return found
        own = bindings.directory(container, files)
        if own is not None:
            found.append([str(own), self._bindings])
        if self.identities is not None:
            found.append([str(files.parent / _CREDENTIALS), self._credentials])
        return found

    def _certificate_variables(self, directory: Path) -> dict[str, str]:
        own_etc = self._namespaced and not self._settings.runtime.rootfs
        found = {"CF_SYSTEM_CERT_PATH": PLACE if own_etc else str(self._certificates)}
        if self.identities is None:
            return found
        return found | identity.variables(self._credentials if self._namespaced else str(directory / _CREDENTIALS))

    def _network(self, entry: Record, plan: StagingPlan | None) -> dict[str, Any] | None:
        if not self._own_network:
            return None
        # The platform is where it is outside, so that an app reaches others, and the API, at the addresses it knows.
        platform = self._settings.platform
        forwards = {platform.https_port, platform.http_port} - {0} if platform.system_domain else {platform.port}
        if plan is not None:
            forwards |= _loopback_ports(plan.loopback)
        account = self._settings.account
        return {
            "address": network.internal_address(entry.slot),
            "forwards": sorted(forwards),
            "bound": [
                port for port in opened(entry.container.endpoints, entry.container)[:MAX_OPENED] if port not in forwards
            ],
            "group": -1 if account is None else account.gid,
        }

    def _make_places(self, inside: list[str]) -> None:
        """Empty files in the shared /etc, on which what a staging inherits can be mounted."""
        for path in inside:
            if path.startswith("/etc/"):
                place = self._etc / path.removeprefix("/etc/")
                place.parent.mkdir(parents=True, exist_ok=True)
                if not place.exists():
                    place.mkdir() if os.path.isdir(path) else place.touch(mode=0o644)

    def _home(self, files: Path) -> str:
        return "/home/vcap" if self._namespaced else str(files / "home" / "vcap")

    def _readable(self, plan: StagingPlan | None) -> list[str]:
        names = [f"/etc/{name}" for name in (*stack.ETC, "passwd", "group", "hosts", "resolv.conf", "host.conf")]
        places = [
            "/usr",
            "/bin",
            "/sbin",
            "/lib",
            "/lib32",
            "/lib64",
            "/libx32",
            "/opt",
            "/proc",
            "/sys/devices/system/cpu",
        ]
        return [
            *places,
            *names,
            *self._shared,
            *(str(host) for host, _inside in (plan.read_only_mounts if plan else [])),
        ]

    def _limits(self, entry: Record) -> dict[str, int]:
        container = entry.container
        limits = {
            "RLIMIT_NOFILE": self._settings.defaults.instance_file_descriptors,
            "RLIMIT_CORE": 0,
        }
        if container.disk_mb > 0 and entry.space == "polling":
            limits["RLIMIT_FSIZE"] = container.disk_mb * _MIB
        if self._own_user or self._mode == "root":
            # Counted per user, and the user is this instance's alone.
            limits["RLIMIT_NPROC"] = self._settings.runtime.pids
        return limits

    def _command(
        self, entry: Record, program: Program, files: Path, plan: StagingPlan | None
    ) -> tuple[list[str], dict[str, str]]:
        home = self._home(files)
        container = entry.container
        tmp = "/tmp" if self._namespaced else str(files / "tmp")
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8" if os.path.exists("/usr/lib/locale/locale-archive") else "C.UTF-8",
            "USER": "vcap",
            "HOME": home,
            "TMPDIR": tmp if plan else f"{home}/tmp",
            **(plan.env if plan else container.env),
            **_instance_variables(entry),
            "CUPOLA_HOME_ROOT": home,
            "CUPOLA_TMP_ROOT": tmp,
        }
        env.setdefault("MEMORY_LIMIT", f"{container.memory_mb}m")
        if program.memory_mb:
            env["MEMORY_LIMIT"] = f"{program.memory_mb}m"
        env["CUPOLA_PYTHON"] = self._python
        env |= bindings.located(env, self._bindings if self._namespaced else str(bindings.outside(files)))
        if plan is not None:
            return [part.replace("@TMP@", tmp) for part in plan.argv], env
        # Isolated: an app's PYTHONPATH or PYTHONHOME is for the app, not for the launcher.
        return [self._python, "-I", "-S", str(self._launcher), f"{home}/app", program.command, ""], env


def _instance_variables(entry: Record) -> dict[str, str]:
    container = entry.container
    variables = {
        "CF_INSTANCE_IP": entry.address.host,
        "CF_INSTANCE_INTERNAL_IP": entry.address.internal_ip,
        "CF_INSTANCE_PORT": "",
        "CF_INSTANCE_ADDR": "",
        "CF_INSTANCE_PORTS": "[]",
    }
    if container.kind != "process":
        return variables
    variables |= {
        "CF_INSTANCE_GUID": container.guid,
        "INSTANCE_GUID": container.guid,
        "CF_INSTANCE_INDEX": str(container.index),
        "INSTANCE_INDEX": str(container.index),
    }
    ports = entry.address.ports
    if ports:
        outside = f"{ports[0].external}"
        inside = f"{ports[0].internal}" if entry.address.internal_ip != entry.address.host else outside
        listed = [{"external": port.external, "internal": port.internal} for port in ports]
        variables |= {
            "CF_INSTANCE_PORT": outside,
            "CF_INSTANCE_ADDR": f"{entry.address.host}:{outside}",
            "CF_INSTANCE_PORTS": json.dumps(listed),
            "PORT": inside,
            "VCAP_APP_PORT": inside,
            "VCAP_APP_HOST": "0.0.0.0",  # noqa: S104 - the documented value
        }
    return variables


def opened(endpoints: Sequence[Endpoint], container: Container) -> list[int]:
    """Ports of this machine's loopback that services of a container are at; its own ports are its own."""
    found: set[int] = set()
    for endpoint in endpoints:
        if outbound.is_loopback(endpoint.host) and endpoint.protocol in ("tcp", "all"):
            for ports in endpoint.ports:
                first, _, last = ports.partition("-")
                end = min(int(last or first), 65535)
                found |= set(range(int(first), end + 1)[: MAX_OPENED + 1])
    return sorted(found - {0, *container.ports})


def not_opened(container: Container) -> str:
    """What is said when not every endpoint can be opened to a container, or an empty string."""
    over = opened(container.endpoints, container)[MAX_OPENED:]
    if not over:
        return ""
    return (
        f"the services of the app are at more than {MAX_OPENED} ports of this machine: "
        f"from 127.0.0.1:{over[0]} on they are not opened. Unbind services that the app does not use"
    )


def _loopback_ports(allowed: list[str]) -> set[int]:
    """Ports of entries such as `127.0.0.1:3128` or `localhost:3128`."""
    found = set()
    for entry in allowed:
        host, _, port = entry.rpartition(":")
        if host in (_HOST, "localhost") and port.isdigit() and 0 < int(port) < 65536:
            found.add(int(port))
    return found


def _open_to_all(path: str) -> bool:
    """Whether every directory on the way may be passed by any user."""
    return all(parent.stat().st_mode & 0o001 for parent in Path(path).resolve().parents)
