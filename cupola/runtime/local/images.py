"""File systems of limited size: ext4 in a sparse file, mounted by a loop device in the instance's mount namespace.

The mount, and with it the device, go when the namespace does; nothing is to be cleaned up but the file. Imports only the
standard library and its neighbours that do the same, because the spawner's forks mount.
"""

import errno
import fcntl
import os
import struct
import time

from cupola.runtime.local import kernel

__all__ = ["copy_image", "mount_image"]

_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A
_AUTOCLEAR = 4
_MIB = 1024 * 1024
_TRIES = 1000
_PAUSE_SECONDS = 0.002


def copy_image(source: str, target: str) -> None:
    """Copy what is written of a sparse file: some hundred kilobytes of a new image. Raises OSError."""
    reader = os.open(source, os.O_RDONLY)
    writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(writer, os.fstat(reader).st_size)
        end = 0
        while True:
            try:
                start = os.lseek(reader, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            end = os.lseek(reader, start, os.SEEK_HOLE)
            while start < end:
                start += os.pwrite(writer, os.pread(reader, min(end - start, _MIB), start), start)
    finally:
        os.close(reader)
        os.close(writer)


def mount_image(image: str, target: str) -> None:
    """Mount an image in this mount namespace; its device is free again when the last mount is gone. Raises OSError."""
    device, name = _attach(image)
    try:
        # What an instance removes is given back to the machine's disk; nothing of it is to outlive a loss of power.
        kernel.mount(name, target, "ext4", kernel.MS_NOSUID | kernel.MS_NODEV, "discard,noinit_itable,nobarrier")
    finally:
        os.close(device)


def _attach(image: str) -> tuple[int, str]:
    file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        # The kernel gives the same free device to all who ask before one of them has taken it: ours take turns.
        fcntl.flock(control, fcntl.LOCK_EX)
        for _ in range(_TRIES):
            name = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
            failure = _configure(device, file)
            if not failure:
                return device, name
            os.close(device)
            if failure != errno.EBUSY:
                raise OSError(failure, f"{name} cannot show {image}: {os.strerror(failure)}")
            # Another program took the device in between, or lets go of it.
            time.sleep(_PAUSE_SECONDS)
        raise OSError(errno.EBUSY, "no loop device is free")
    finally:
        os.close(control)
        os.close(file)


def _configure(device: int, file: int) -> int:
    """The number of the error, or 0. What is written to the device stays in the page cache of the file for a while.

    Direct I/O would keep pages once instead of twice, and have instances that end within seconds write to the disk.
    """
    information = struct.pack("=5Q4I", *(0,) * 8, _AUTOCLEAR) + bytes(64 + 64 + 32 + 16)
    try:
        fcntl.ioctl(device, _CONFIGURE, struct.pack("=II", file, 0) + information + bytes(64))
    except OSError as error:
        return error.errno or errno.EIO
    return 0
