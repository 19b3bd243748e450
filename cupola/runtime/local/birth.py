"""How one instance comes to life, in forks of the spawner: namespaces, mounts, user, confinement, then the init.

`launch` (launch.json) is written by the engine: `files` (directory of the instance's own files), `lower` (unpacked
droplet to overlay, or empty), `uid` (base of its user range in mode `root`, its user in mode `process` as root, else
-1), `hostname`, `binds` ([host, inside] read-only), `volumes` ([host, inside, r or rw]), `readable` and `writable` (Landlock), `confine` (whether Landlock and
seccomp hold it), `search` (whether it needs to pass through directories of the platform's user), `cgroups` (paths of
cgroup.procs), `limits` (resource to value), `programs` ([argv, env, directory, stdout, stderr]), `grace` (seconds),
`network` (network.finish; none: the host's), `space` (what is mounted for what it writes: `image`, a file, or `bytes` of
memory; none: it writes to `files`).
"""

import contextlib
import json
import os
import resource
import signal
import traceback
from typing import Any

from cupola.runtime.local import images, init, kernel, network, stack, volumes
from cupola.runtime.local.ingress import Ingress

__all__ = ["Fault", "Unborn", "make_writable"]

_VCAP = 2000
_RANGE = 10_000
"""User ids per instance in mode `root`."""
_DAC_READ_SEARCH = 2


class Fault(Exception):
    """The machine is not to blame: this program is."""


class Unborn:
    """The init of an instance to be: in its namespaces, the first of its pid namespace, waiting to hear which it is.

    Its maker forks nothing else. `closed` are descriptors that are not for it. Raises OSError.
    """

    def __init__(self, configuration: dict[str, Any], closed: list[int]) -> None:
        users = _enter(configuration)
        told, self._tell = os.pipe()
        self.report, report = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for descriptor in (*closed, self._tell, self.report):
                    os.close(descriptor)
                _live(configuration, users, told, report)
            except OSError as error:
                os.write(report, f"{error}".encode()[:4000])
            except BaseException as error:
                traceback.print_exc()
                os.write(report, f"{_FAULT}{type(error).__name__}: {error}".encode()[:4000])
            finally:
                os._exit(1)
        os.close(told)
        os.close(report)
        if users is not None:
            users.leave()

    def make(self, directory: str) -> int:
        """Have it become the instance of this record directory; returns its pid once the programs run.

        Raises OSError or Fault; nothing runs then.
        """
        # Without a reader it has said why.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._tell, os.fsencode(directory))
        os.close(self._tell)
        said = b""
        while part := os.read(self.report, 4096):
            said += part
        if not said:
            return self.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        text = said.decode(errors="replace")
        if text.startswith(_FAULT):
            raise Fault(text.removeprefix(_FAULT))
        raise OSError(text)


_FAULT = "fault: "


def _enter(configuration: dict[str, Any]) -> "UserNamespace | None":
    """Leave for new namespaces; whatever is forked first after this is the init in them."""
    mode = configuration["mode"]
    if mode not in ("root", "rootless"):
        return None
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    if configuration["own_network"]:
        flags |= kernel.CLONE_NEWNET
    if mode == "root":
        users = UserNamespace()
        kernel.unshare(flags)
        return users
    kernel.unshare(flags | kernel.CLONE_NEWUSER)
    stack._map("self", f"{_VCAP} 0 1", f"{_VCAP} 0 1")
    return None


def _live(configuration: dict[str, Any], users: "UserNamespace | None", told: int, report: int) -> None:
    """In the init: all that is the same for every instance, then, once it is told which one it is, the rest."""
    mode, root = configuration["mode"], configuration["scratch"]
    namespaced = mode in ("root", "rootless")
    os.setsid()
    served = None
    if namespaced:
        _begin_mounts(mode, root)
        served = network.begin() if configuration["own_network"] else None
    else:
        kernel.subreaper()
    directory = b""
    while part := os.read(told, 4096):
        directory += part
    os.close(told)
    if not directory:
        os._exit(0)
    path = os.fsdecode(directory)
    with open(os.path.join(path, "launch.json"), encoding="utf-8") as file:
        launch = json.load(file)
    exit_descriptor = os.open(os.path.join(path, "exit.new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    record = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    outputs = [_outputs(program) for program in launch["programs"]]
    joins = [os.open(path, os.O_WRONLY) for path in launch["cgroups"]]
    ingress = None
    if namespaced:
        owner = users.map(launch["uid"]) if users is not None else -1
        _mounts(launch, root, owner, configuration["read_only"])
        if served is not None:
            ingress = Ingress(*network.finish(launch["network"], path, served))
        _inside(launch, mode, root, owner)
    init.run(launch, outputs, joins, exit_descriptor, record, report, _confine(launch, mode), ingress)


def _outputs(program: dict[str, Any]) -> tuple[int, int]:
    # Opened for reading as well, so that lines wait in the pipe while no cell reads.
    return os.open(program["stdout"], os.O_RDWR), os.open(program["stderr"], os.O_RDWR)


class UserNamespace:
    """A user namespace that nobody is in yet; a child makes it, because only outside its maps can be set. Raises OSError."""

    def __init__(self) -> None:
        ready, self._done = os.pipe(), os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                os.close(self._done[1])
                kernel.unshare(kernel.CLONE_NEWUSER)
                os.write(ready[1], b"1")
                os.read(self._done[0], 1)
            finally:
                os._exit(0)
        os.close(ready[1])
        os.close(self._done[0])
        made = os.read(ready[0], 1)
        os.close(ready[0])
        if made != b"1":
            self.leave()
            raise OSError("cannot make a user namespace: is user.max_user_namespaces 0?")

    def map(self, base: int) -> int:
        """Give it users 0 to 9999 at `base`; a descriptor that names it. Once."""
        try:
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/{self._child}/{name}", "w", encoding="utf-8") as file:
                    file.write(f"0 {base} {_RANGE}")
            return os.open(f"/proc/{self._child}/ns/user", os.O_RDONLY)
        finally:
            self.leave()

    def leave(self) -> None:
        """Let its maker end, when everybody has left it. Who forked it waits for it or ends as well."""
        os.close(self._done[1])


def _begin_mounts(mode: str, root: str) -> None:
    """What every instance has besides the template: a /proc of its pid namespace, and terminals."""
    kernel.mount(root, root, "", kernel.MS_BIND | kernel.MS_REC)
    os.chdir(root)
    flags = kernel.MS_NOSUID | kernel.MS_NOEXEC
    kernel.mount("proc", root + "/proc", "proc", flags | kernel.MS_NODEV)
    for path in ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"):
        if os.path.exists(root + path) and mode == "root":
            stack.bind_read_only(root + path, root + path)
    # With one user only, group 5 (tty) has no name to map.
    with contextlib.suppress(OSError):
        kernel.mount("devpts", root + "/dev/pts", "devpts", flags, "newinstance,ptmxmode=0666,mode=0620")


def _mounts(launch: dict[str, Any], root: str, owner: int, shared: list[str]) -> None:
    files = _writable(launch)
    home = root + "/home/vcap"
    nosuid = kernel.MS_NOSUID | kernel.MS_NODEV
    if launch["lower"]:
        lower = launch["lower"]
        if owner >= 0:
            mapped = root + "/srv"
            kernel.idmapped_clone(lower, mapped, owner)
            lower = mapped
        data = f"lowerdir={lower},upperdir={files}/upper,workdir={files}/work"
        kernel.mount("overlay", home, "overlay", nosuid, data + (",userxattr" if owner < 0 else ""))
        if owner >= 0:
            kernel.umount(root + "/srv", kernel.MNT_DETACH)
    else:
        kernel.mount(files + "/home/vcap", home, "", kernel.MS_BIND)
        stack.remount(home, nosuid)
    kernel.mount(files + "/tmp", root + "/tmp", "", kernel.MS_BIND)
    stack.remount(root + "/tmp", nosuid)
    # What lies below /tmp on the host was covered just now.
    again = [[path, path] for path in shared if path.startswith("/tmp/")]
    for host, inside in (*again, *launch["binds"]):
        target = root + inside
        if inside == host and host.startswith("/usr/"):
            continue
        if os.path.isdir(host):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not os.path.exists(target):
                with open(target, "w", encoding="utf-8"):
                    pass
        stack.bind_read_only(host, target)
    volumes.mount_volumes(launch.get("volumes", []), root, owner)
    size = launch["shm_bytes"]
    kernel.mount("tmpfs", root + "/dev/shm", "tmpfs", nosuid, f"mode=1777,size={size}")


def _writable(launch: dict[str, Any]) -> str:
    """The directory of what the instance writes; what limits it is mounted now, and gone with the namespace."""
    files, space = str(launch["files"]), launch["space"]
    if space is None:
        return files
    place = files + "/space"
    if "image" in space:
        images.mount_image(space["image"], place)
    else:
        kernel.mount("tmpfs", place, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode=0755,size={space['bytes']}")
    make_writable(place, launch["uid"] + _VCAP if launch["uid"] >= 0 else -1)
    return place


def make_writable(directory: str, owner: int) -> None:
    """What an instance on an overlay writes to, in `directory`, for this user (-1: our own)."""
    for name, mode in (("upper", 0o755), ("work", 0o755), ("tmp", 0o1777)):
        path = os.path.join(directory, name)
        os.mkdir(path)
        os.chmod(path, mode)
        if owner >= 0:
            os.chown(path, owner, owner)


def _inside(launch: dict[str, Any], mode: str, root: str, owner: int) -> None:
    """Leave the machine's files behind and become the user that is root in there."""
    stack.enter(root)
    nosuid = kernel.MS_NOSUID | kernel.MS_NODEV
    stack.remount("/", kernel.MS_RDONLY | nosuid)
    kernel.set_host_name(launch["hostname"])
    if mode == "root":
        os.setgroups([])
        kernel.setns(owner, kernel.CLONE_NEWUSER)
        os.close(owner)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)


def _confine(launch: dict[str, Any], mode: str) -> init.Confine:
    """What each program does between fork and exec."""

    def confine(joins: list[int]) -> None:
        for join in joins:
            os.write(join, b"0")
            os.close(join)
        if mode == "root":
            with contextlib.suppress(OSError):
                kernel.unshare(kernel.CLONE_NEWCGROUP)
        for name, value in launch["limits"].items():
            _limit(getattr(resource, name), value)
        _oom_score()
        keep: list[int] = []
        if mode == "root":
            os.setgroups([])
            os.setresgid(_VCAP, _VCAP, _VCAP)
            os.setresuid(_VCAP, _VCAP, _VCAP)
        elif launch["uid"] >= 0:
            keep = [_DAC_READ_SEARCH] if launch["search"] else []
            kernel.keep_capabilities()
            os.setgroups([])
            os.setresgid(launch["uid"], launch["uid"], launch["uid"])
            os.setresuid(launch["uid"], launch["uid"], launch["uid"])
        if launch["confine"] or mode != "none":
            kernel.drop_capabilities(keep)
            kernel.no_new_privileges()
        if launch["landlock"] and mode == "process":
            kernel.landlock_restrict(launch["readable"], launch["writable"])
        if launch["confine"]:
            kernel.seccomp_deny()

    return confine


def _limit(kind: int, value: int) -> None:
    _soft, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (value, value))


def _oom_score() -> None:
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file:
        file.write("100")
