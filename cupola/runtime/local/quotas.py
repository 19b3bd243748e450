"""Limits that a file system keeps for a directory: project quotas of ext4 and xfs, quota groups of btrfs.

All of it needs root. Numbers are the kernel's ABI. Every function raises OSError; `EOPNOTSUPP`, `ENOTTY`, `ENOSYS`, `ESRCH`
and `ENOTCONN` are the answers of a file system that has no such quota, or on which it is not switched on.
"""

import ctypes
import errno
import fcntl
import os
import struct
import zlib
from pathlib import Path

__all__ = [
    "delete_subvolume",
    "is_enforced",
    "limit_project",
    "make_subvolume",
    "project_of",
    "project_used",
    "release_project",
]

_libc = ctypes.CDLL(None, use_errno=True)
_QUOTACTL_FD = 443  # Linux 5.14
_PROJECTS = 2
_GETQUOTA, _SETQUOTA, _XGETQSTATV = 0x800007, 0x800008, (ord("X") << 8) + 8
_VALID_SPACE_LIMITS = 1
_PROJECT_LIMITS_ENFORCED = 1 << 5
_FSGETXATTR, _FSSETXATTR = 0x801C581F, 0x401C5820
_INHERIT = 0x200
_FIRST_ID = 0x40000000
"""Project ids from here are ours; container engines and kubelets number theirs from far below."""
_SUBVOL_CREATE, _SNAP_DESTROY = 0x5000940E, 0x5000940F
_INO_LOOKUP, _QGROUP_CREATE, _QGROUP_LIMIT = 0xD0009412, 0x4010942A, 0x8030942B
_TOP_OF_SUBVOLUME = 256
_LIMIT_REFERENCED = 1


def _quotactl(descriptor: int, command: int, project: int, data: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(data, len(data))
    number = ctypes.c_uint((command << 8) | _PROJECTS)
    arguments = (ctypes.c_uint(descriptor), number, ctypes.c_uint(project), buffer)
    if _libc.syscall(ctypes.c_long(_QUOTACTL_FD), *arguments) < 0:
        number_of_error = ctypes.get_errno()
        raise OSError(number_of_error, f"quotactl: {os.strerror(number_of_error)}")
    return buffer.raw


def is_enforced(directory: Path) -> bool:
    """Whether the file system of `directory` counts projects and holds them to their limits."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # struct fs_quota_statv: version 1, flags in the next two bytes but one.
        state = _quotactl(descriptor, _XGETQSTATV, 0, struct.pack("=b", 1) + bytes(191))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return bool(struct.unpack_from("=H", state, 2)[0] & _PROJECT_LIMITS_ENFORCED)


def limit_project(directory: Path, limit: int) -> None:
    """Make the empty `directory` a project of its own, of at most `limit` bytes; what is made in it belongs to it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        project = _FIRST_ID | (zlib.crc32(os.fsencode(directory.resolve())) & 0x3FFFFFFF)
        blocks = max(limit // 1024, 1)
        _quotactl(
            descriptor, _SETQUOTA, project, struct.pack("=8QI4x", blocks, 0, 0, 0, 0, 0, 0, 0, _VALID_SPACE_LIMITS)
        )
        attributes = bytearray(fcntl.ioctl(descriptor, _FSGETXATTR, bytes(28)))
        flags = struct.unpack_from("=I", attributes, 0)[0]
        struct.pack_into("=I", attributes, 0, flags | _INHERIT)
        struct.pack_into("=I", attributes, 12, project)
        fcntl.ioctl(descriptor, _FSSETXATTR, bytes(attributes))
    finally:
        os.close(descriptor)


def project_of(directory: Path) -> int:
    """The project that `directory` belongs to; 0 for none."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return int(struct.unpack_from("=I", fcntl.ioctl(descriptor, _FSGETXATTR, bytes(28)), 12)[0])
    finally:
        os.close(descriptor)


def project_used(directory: Path) -> int:
    """Bytes that the project of `directory` takes."""
    project = project_of(directory)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return int(struct.unpack_from("=Q", _quotactl(descriptor, _GETQUOTA, project, bytes(72)), 16)[0])
    finally:
        os.close(descriptor)


def release_project(directory: Path) -> None:
    """Forget the limit of the project of `directory`, which is about to be removed."""
    project = project_of(directory)
    if project < _FIRST_ID:
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _quotactl(descriptor, _SETQUOTA, project, struct.pack("=8QI4x", *(0,) * 8, _VALID_SPACE_LIMITS))
    finally:
        os.close(descriptor)


def make_subvolume(directory: Path, limit: int) -> None:
    """Make `directory` as a subvolume of its btrfs, of at most `limit` bytes. Where quotas are off, nothing is left of it."""
    parent = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        name = os.fsencode(directory.name)
        fcntl.ioctl(parent, _SUBVOL_CREATE, _named(name))
        try:
            group = _subvolume(directory)
            fcntl.ioctl(parent, _QGROUP_LIMIT, struct.pack("=6Q", group, _LIMIT_REFERENCED, limit, 0, 0, 0))
        except OSError:
            fcntl.ioctl(parent, _SNAP_DESTROY, _named(name))
            raise
    finally:
        os.close(parent)


def delete_subvolume(directory: Path) -> None:
    """Delete `directory` with all that is in it, and its quota group, if it is a subvolume; else do nothing."""
    if not directory.is_dir() or directory.stat().st_ino != _TOP_OF_SUBVOLUME:
        return
    group = _subvolume(directory)
    parent = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(parent, _SNAP_DESTROY, _named(os.fsencode(directory.name)))
        try:
            fcntl.ioctl(parent, _QGROUP_CREATE, struct.pack("=QQ", 0, group))
        except OSError as error:
            # The kernel empties the subvolume later; from Linux 6.11 on it then removes the group itself.
            if error.errno not in (errno.EBUSY, errno.ENOENT, errno.ENOTCONN):
                raise
    finally:
        os.close(parent)


def _subvolume(directory: Path) -> int:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        data = bytearray(struct.pack("=QQ4080x", 0, _TOP_OF_SUBVOLUME))
        fcntl.ioctl(descriptor, _INO_LOOKUP, data, True)
        return int(struct.unpack_from("=Q", data, 0)[0])
    finally:
        os.close(descriptor)


def _named(name: bytes) -> bytearray:
    """struct btrfs_ioctl_vol_args; mutable, because ioctl takes longer arguments only so."""
    return bytearray(struct.pack("=q4088s", 0, name))
