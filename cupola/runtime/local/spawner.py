"""The spawner: a small single-threaded process that forks instances, so that the cell's event loop never does.

It gets record directories, one per datagram, on an inherited socket and forks for each; the fork answers on the same
socket with `{"guid", "pid", "start"}` or `{"guid", "error"}` (`"fault"` besides where the machine is not to blame). It
ends with the socket. Instances outlive it. Imports only the standard library and its neighbours that do the same,
because its memory is every instance's memory.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from cupola.runtime.local import birth, kernel, stack

__all__ = ["main", "start_time"]

_QUIET_MILLISECONDS = 2
"""Without a request, after which a fork for the next one is made in advance."""
_PATIENCE_SECONDS = 60.0
"""For which none is made after one has ended unused."""


def start_time(pid: int, proc: int | None = None) -> int:
    """Clock ticks from boot to the start of process `pid`: with the pid, this names a process for good. 0: gone.

    `proc` is a descriptor of the /proc to look in.
    """
    try:
        descriptor = os.open(f"{pid}/stat" if proc is not None else f"/proc/{pid}/stat", os.O_RDONLY, dir_fd=proc)
        with open(descriptor, "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def main(arguments: list[str]) -> None:
    """`spawner <descriptor> <configuration as JSON>`; see `stack.prepare` for the configuration."""
    channel = socket.socket(fileno=int(arguments[0]))
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # it ends with its channel
    os.umask(0o022)
    configuration: dict[str, Any] = json.loads(arguments[1])
    if configuration["mode"] != "rootless":
        # There it could not write its own user map, and a pid namespace keeps others away.
        kernel.not_dumpable()
    try:
        stack.prepare(configuration)
    except (OSError, ValueError) as error:
        channel.send(json.dumps({"error": f"cannot prepare isolation mode {configuration['mode']}: {error}"}).encode())
        return
    hierarchy = -1
    if configuration.get("favordynmods"):
        # Kernels before 6.0 do not know it: there each instance waits for its groups.
        with contextlib.suppress(OSError):
            hierarchy = kernel.favor_group_changes("cupola")
    channel.send(json.dumps({"ready": True}).encode())
    kernel.seccomp_program()
    gc.collect()
    gc.freeze()
    serve(channel, configuration, hierarchy)


class _Spare:
    """A fork whose instance is in its namespaces already: most of what a start takes. It waits to hear which one."""

    def __init__(self, channel: socket.socket, configuration: dict[str, Any], closed: list[int]) -> None:
        wanted, self.tell = os.pipe()
        self.pid = _fork(partial(_wait, channel, configuration, wanted), [*closed, self.tell])
        os.close(wanted)

    def give(self, request: bytes) -> bool:
        """Have it make this instance; False when it is gone."""
        try:
            os.write(self.tell, request)
        except BrokenPipeError:
            return False
        finally:
            os.close(self.tell)
        return True


def _wait(channel: socket.socket, configuration: dict[str, Any], wanted: int) -> None:
    unborn = birth.Unborn(configuration, [channel.fileno(), wanted])
    poll = select.poll()
    poll.register(wanted, select.POLLIN)
    poll.register(unborn.report, select.POLLIN)
    poll.poll()
    poll.unregister(wanted)
    if poll.poll(0):
        raise OSError("a fork that was made in advance is of no use")
    request = os.read(wanted, 4096)
    os.close(wanted)
    if request:
        bear(channel, request.decode(), lambda: unborn)


def serve(channel: socket.socket, configuration: dict[str, Any], hierarchy: int) -> None:
    """Fork for each request until the other side is gone. `hierarchy` (kernel.favor_group_changes) is the spawner's alone."""
    own = [hierarchy] if hierarchy >= 0 else []
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    spares: list[_Spare] = []
    patience = 0.0
    while True:
        few = len(spares) < configuration.get("spares", 0) and time.monotonic() >= patience
        ready = poll.poll(_QUIET_MILLISECONDS if few else 1000)
        if _reap(spares):
            patience = time.monotonic() + _PATIENCE_SECONDS
        closed = [*own, *(one.tell for one in spares)]
        if not ready:
            if few:
                spares.append(_Spare(channel, configuration, closed))
            continue
        request = channel.recv(4096)
        if not request:
            return
        if any(spares.pop().give(request) for _ in range(len(spares))):
            continue
        _fork(partial(_make, channel, request, configuration), closed)


def _make(channel: socket.socket, request: bytes, configuration: dict[str, Any]) -> None:
    bear(channel, request.decode(), lambda: birth.Unborn(configuration, [channel.fileno()]))


def _reap(spares: list[_Spare]) -> bool:
    """Forget the forks that have ended; whether a spare was among them."""
    lost = False
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            for spare in [one for one in spares if one.pid == pid]:
                os.close(spare.tell)
                spares.remove(spare)
                lost = True
    return lost


def _fork(work: Callable[[], None], closed: list[int]) -> int:
    """A child that closes these descriptors, does its work and ends."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for descriptor in closed:
            os.close(descriptor)
        os.setsid()
        work()
        status = 0
    except OSError:
        # Whoever asked was told, or asks again.
        status = 2
    finally:
        os._exit(status)


def bear(channel: socket.socket, directory: str, begin: Callable[[], birth.Unborn]) -> None:
    """In the fork: have what `begin` gives become the instance of this record directory, and say how it went."""
    guid = os.path.basename(directory)
    pid = 0
    try:
        # Opened now, because the instance's root becomes this process's root as well.
        record = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        pid = begin().make(directory)
        start = start_time(pid, proc)
        # Written before it is told: a cell that dies in between finds the instance.
        descriptor = os.open("pid.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=record)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{pid} {start}")
        os.rename("pid.new", "pid", src_dir_fd=record, dst_dir_fd=record)
        _expect_wanted(record)
        answer: dict[str, Any] = {"guid": guid, "pid": pid, "start": start}
    except OSError as error:
        if pid:
            # Its record cannot be written, or is gone: no cell would ever find it. The init ends its programs first.
            os.kill(pid, signal.SIGINT)
        answer = {"guid": guid, "error": f"{error}"}
    except birth.Fault as error:
        answer = {"guid": guid, "error": f"{error}", "fault": True}
    except BaseException as error:
        traceback.print_exc()
        answer = {"guid": guid, "error": f"{type(error).__name__}: {error}", "fault": True}
    channel.send(json.dumps(answer).encode())


def _expect_wanted(record: int) -> None:
    """Raises OSError when the cell has given this instance up (record.give_up), or removed its record."""
    with contextlib.suppress(FileNotFoundError):
        os.stat("void", dir_fd=record)
        raise TimeoutError("nobody waits for this container any more")
    if os.fstat(record).st_nlink == 0:
        raise TimeoutError("the record of this container is gone")


if __name__ == "__main__":
    main(sys.argv[1:])
