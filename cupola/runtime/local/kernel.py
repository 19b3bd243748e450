"""System calls that Python does not offer, by ctypes: namespaces, mounts, capabilities, seccomp, Landlock.

Every function raises OSError with the call's name. Numbers are the kernel's ABI (x86_64 and aarch64); calls from 424 on
have one number everywhere.
"""

import ctypes
import functools
import os
import platform
import struct
from collections.abc import Iterable

__all__ = [
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "MNT_DETACH",
    "MS_BIND",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_PRIVATE",
    "MS_RDONLY",
    "MS_REC",
    "MS_REMOUNT",
    "MS_SLAVE",
    "bound_capabilities",
    "drop_capabilities",
    "favor_group_changes",
    "idmapped_clone",
    "landlock_abi",
    "landlock_restrict",
    "mount",
    "no_new_privileges",
    "not_dumpable",
    "parent_death_signal",
    "pivot_root",
    "seccomp_deny",
    "set_host_name",
    "setns",
    "signal_descriptor",
    "subreaper",
    "tee",
    "umount",
    "unshare",
]

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 4096, 16384, 1 << 18, 1 << 19
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)
_X86 = platform.machine() == "x86_64"
_PIVOT_ROOT = 155 if _X86 else 41
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_FSOPEN, _FSCONFIG = 430, 431
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_AUDIT_ARCH = 0xC000003E if _X86 else 0xC00000B7


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(what: str, number: int, *arguments: object) -> int:
    return _check(_libc.syscall(ctypes.c_long(number), *arguments), what)


def _prctl(what: str, option: int, *arguments: int) -> int:
    padded = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    return _check(_libc.prctl(option, *padded), what)


def unshare(flags: int) -> None:
    """Leave the namespaces in `flags` for new ones."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Join the namespace that `descriptor` names."""
    _check(_libc.setns(descriptor, kind), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2); the message of an error names the target."""
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, f"mount {kind or 'bind'} {target}")


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    _syscall("pivot_root", _PIVOT_ROOT, ctypes.c_char_p(os.fsencode(new)), ctypes.c_char_p(os.fsencode(old)))


def idmapped_clone(source: str, target: str, user_namespace: int) -> None:
    """Bind `source` at `target` with its owners mapped through a user namespace (kernel 5.12, file system's support)."""
    flags = 1 | os.O_CLOEXEC  # OPEN_TREE_CLONE
    tree = _syscall("open_tree", _OPEN_TREE, -100, ctypes.c_char_p(os.fsencode(source)), flags)
    try:
        attributes = struct.pack("=QQQQ", 0x00100000, 0, 0, user_namespace)  # MOUNT_ATTR_IDMAP
        buffer = ctypes.create_string_buffer(attributes)
        empty = ctypes.c_char_p(b"")
        _syscall("mount_setattr", _MOUNT_SETATTR, tree, empty, 0x1000, buffer, ctypes.c_size_t(len(attributes)))
        _syscall("move_mount", _MOVE_MOUNT, tree, empty, -100, ctypes.c_char_p(os.fsencode(target)), 0x4)
    finally:
        os.close(tree)


def favor_group_changes(name: str) -> int:
    """Let processes change their control group at once instead of after an RCU grace period (some 12 ms).

    That is the kernel's `favordynmods` (Linux 6.0): it holds for the machine while a hierarchy with this option exists.
    Ours, `name`, has no controller and is mounted nowhere; it is there as long as the returned descriptor is open.
    """
    context = _syscall("fsopen cgroup", _FSOPEN, ctypes.c_char_p(b"cgroup"), 1)
    try:
        for command, key, value in ((0, b"none", None), (1, b"name", name.encode()), (0, b"favordynmods", None)):
            _syscall("fsconfig cgroup", _FSCONFIG, context, command, ctypes.c_char_p(key), ctypes.c_char_p(value), 0)
        _syscall("fsconfig cgroup", _FSCONFIG, context, 6, None, None, 0)
    except OSError:
        os.close(context)
        raise
    return context


def tee(source: int, target: int, count: int) -> int:
    """Copy up to `count` bytes of pipe `source` to pipe `target`, where they stay in `source`: tee(2), never waiting.

    Returns how many; 0: the pipe is empty, and nobody can write to it. Raises BlockingIOError while it is empty.
    """
    return _check(_libc.tee(source, target, ctypes.c_size_t(count), 2), "tee")


def signal_descriptor(numbers: Iterable[int]) -> int:
    """A descriptor that is readable while one of these (blocked) signals is pending: signalfd(2)."""
    mask = sum(1 << (number - 1) for number in numbers)
    data = ctypes.create_string_buffer(struct.pack("=Q", mask) + bytes(120))
    return _check(_libc.signalfd(-1, data, os.O_CLOEXEC), "signalfd")


def set_host_name(name: str) -> None:
    """sethostname(2), in a UTS namespace of one's own."""
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)), "sethostname")


def no_new_privileges() -> None:
    """From now on exec gives no rights: set-user-id bits are void."""
    _prctl("no_new_privs", 38, 1)


def not_dumpable() -> None:
    """Other processes of this user may not read this one's memory or /proc files."""
    _prctl("dumpable", 4, 0)


def subreaper() -> None:
    """Orphans among the descendants become children of this process."""
    _prctl("child_subreaper", 36, 1)


def parent_death_signal(number: int) -> None:
    """Get this signal when the parent thread ends."""
    _prctl("pdeathsig", 1, number)


def bound_capabilities(keep: Iterable[int] = ()) -> None:
    """No exec gives capabilities but `keep`. Call before changing the user."""
    wanted = set(keep)
    for capability in range(64):
        if capability not in wanted:
            # Without CAP_SETPCAP, or past the kernel's last capability, there is nothing to drop.
            _libc.prctl(24, *(ctypes.c_ulong(a) for a in (capability, 0, 0, 0)))


def drop_capabilities(keep: Iterable[int] = ()) -> None:
    """Give up all capabilities but `keep`, which also survive exec (ambient). Call after changing the user."""
    wanted = set(keep)
    bound_capabilities(wanted)
    mask = sum(1 << capability for capability in wanted)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    data = ctypes.create_string_buffer(struct.pack("=6I", low, low, low, high, high, high))
    _check(_libc.capset(header, data), "capset")
    _libc.prctl(47, *(ctypes.c_ulong(a) for a in (4, 0, 0, 0)))
    for capability in wanted:
        _prctl("ambient", 47, 2, capability)


def keep_capabilities() -> None:
    """From now on changes of the user leave the capabilities as they are, and access(2) counts them."""
    _prctl("securebits", 28, 1 << 2)


# System calls that no app needs and that have opened kernels before; the list is ours, in the spirit of Docker's.
_DENIED_X86 = {
    "acct": 163, "add_key": 248, "adjtimex": 159, "bpf": 321, "chroot": 161, "clock_adjtime": 305, "clock_settime": 227,
    "create_module": 174, "delete_module": 176, "fanotify_init": 300, "finit_module": 313, "get_kernel_syms": 177,
    "init_module": 175, "ioperm": 173, "iopl": 172, "kcmp": 312, "kexec_file_load": 320, "kexec_load": 246,
    "keyctl": 250, "lookup_dcookie": 212, "mbind": 237, "migrate_pages": 256, "mknod": 133, "mknodat": 259,
    "mount": 165, "move_pages": 279, "name_to_handle_at": 303, "nfsservctl": 180, "open_by_handle_at": 304,
    "perf_event_open": 298, "pivot_root": 155, "process_vm_readv": 310, "process_vm_writev": 311, "ptrace": 101,
    "query_module": 178, "quotactl": 179, "reboot": 169, "request_key": 249, "setdomainname": 171, "sethostname": 170,
    "setns": 308, "settimeofday": 164, "swapoff": 168, "swapon": 167, "_sysctl": 156, "umount2": 166, "unshare": 272,
    "uselib": 134, "userfaultfd": 323, "ustat": 136, "vhangup": 153, "vmsplice": 278,
}  # fmt: skip
_DENIED_ARM = {
    "acct": 89, "add_key": 217, "adjtimex": 171, "bpf": 280, "chroot": 51, "clock_adjtime": 266, "clock_settime": 112,
    "delete_module": 106, "fanotify_init": 262, "finit_module": 273, "init_module": 105, "kcmp": 272,
    "kexec_file_load": 294, "kexec_load": 104, "keyctl": 219, "lookup_dcookie": 18, "mbind": 235, "migrate_pages": 238,
    "mknodat": 33, "mount": 40, "move_pages": 239, "name_to_handle_at": 264, "nfsservctl": 42, "open_by_handle_at": 265,
    "perf_event_open": 241, "pivot_root": 41, "process_vm_readv": 270, "process_vm_writev": 271, "ptrace": 117,
    "quotactl": 60, "reboot": 142, "request_key": 218, "setdomainname": 162, "sethostname": 161, "setns": 268,
    "settimeofday": 170, "swapoff": 225, "swapon": 224, "umount2": 39, "unshare": 97, "userfaultfd": 282, "vhangup": 58,
    "vmsplice": 75,
}  # fmt: skip
_DENIED_EVERYWHERE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442, "quotactl_fd": 443,
}  # fmt: skip
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38, 0x80000000
_NAMESPACES = 0x7E020080
_MKNOD_KINDS = 0o060000 | 0o020000


def _instruction(code: int, yes: int, no: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


@functools.cache
def seccomp_program() -> bytes:
    """The filter as BPF, made once: foreign architectures end the process, the denied calls fail with EPERM, clone3 with ENOSYS.

    clone3 takes its flags by pointer, which a filter cannot see; with ENOSYS libraries fall back to clone. Making
    FIFOs and sockets by mknod stays possible.
    """
    load, equal, any_bit, at_least, end = 0x20, 0x15, 0x45, 0x35, 0x06
    denied = dict(_DENIED_X86 if _X86 else _DENIED_ARM)
    mknods = {name: denied.pop(name) for name in ("mknod", "mknodat") if name in denied}
    program = [
        _instruction(load, 0, 0, 4),
        _instruction(equal, 1, 0, _AUDIT_ARCH),
        _instruction(end, 0, 0, _KILL),
        _instruction(load, 0, 0, 0),
    ]
    if _X86:  # the x32 interface
        program += [_instruction(at_least, 0, 1, 0x40000000), _instruction(end, 0, 0, _ENOSYS)]
    program += [_instruction(equal, 0, 1, 435), _instruction(end, 0, 0, _ENOSYS)]
    program += [
        _instruction(equal, 0, 4, 56 if _X86 else 220),
        _instruction(load, 0, 0, 16),
        _instruction(any_bit, 0, 1, _NAMESPACES & ~0x80),
        _instruction(end, 0, 0, _EPERM),
        _instruction(end, 0, 0, _ALLOW),
    ]
    for name, number in mknods.items():
        mode_at = 24 if name == "mknod" else 32
        program += [
            _instruction(equal, 0, 4, number),
            _instruction(load, 0, 0, mode_at),
            # Character and block devices have bit 020000 and no bit 0100000 or 010000 (FIFO) set.
            _instruction(any_bit, 0, 1, 0o020000),
            _instruction(end, 0, 0, _EPERM),
            _instruction(end, 0, 0, _ALLOW),
        ]
    for number in sorted({*denied.values(), *_DENIED_EVERYWHERE.values()}):
        program += [_instruction(equal, 0, 1, number), _instruction(end, 0, 0, _EPERM)]
    return b"".join([*program, _instruction(end, 0, 0, _ALLOW)])


def seccomp_deny() -> None:
    """Install the filter for this process and its children. Needs no_new_privileges before."""
    program = seccomp_program()
    code = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("HP", len(program) // 8, ctypes.addressof(code)))
    _prctl("seccomp", 22, 2, ctypes.addressof(header))


_READ = (1 << 0) | (1 << 2) | (1 << 3)  # execute, read file, read directory
_PLACE = (1 << 1) | (1 << 5) | (1 << 8) | (1 << 14)  # write and truncate files, remove and make them
_FILE_ONLY = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14) | (1 << 15)


def landlock_abi() -> int:
    """The kernel's Landlock version; 0 when there is none."""
    result = _libc.syscall(ctypes.c_long(_LANDLOCK_CREATE), None, ctypes.c_size_t(0), 1)
    return max(int(result), 0)


def landlock_restrict(readable: Iterable[str], writable: Iterable[str], placeable: Iterable[str] = ()) -> None:
    """Confine this process to these trees (existing paths only), its signals and abstract sockets to itself (ABI 6).

    In `placeable` files are made, written and removed, and nothing is read.
    """
    abi = landlock_abi()
    rights = (1 << {1: 13, 2: 14}.get(abi, 15)) - 1
    if abi >= 5:
        rights |= 1 << 15
    attributes = struct.pack("=QQQ", rights, 0, 3 if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    buffer = ctypes.create_string_buffer(attributes)
    ruleset = _syscall("landlock_create_ruleset", _LANDLOCK_CREATE, buffer, ctypes.c_size_t(size), 0)
    try:
        for paths, access in ((readable, _READ), (writable, rights), (placeable, _PLACE)):
            for path in paths:
                _allow_path(ruleset, path, access & rights)
        _syscall("landlock_restrict_self", _LANDLOCK_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_path(ruleset: int, path: str, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(f"/proc/self/fd/{descriptor}") and os.path.exists("/proc/self/fd"):
            access &= _FILE_ONLY
        rule = ctypes.create_string_buffer(struct.pack("=Qi", access, descriptor))
        _syscall("landlock_add_rule", _LANDLOCK_ADD, ruleset, 1, rule, 0)
    finally:
        os.close(descriptor)
