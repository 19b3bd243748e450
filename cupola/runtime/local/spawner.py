"""The spawner: a small single-threaded process that forks instances, so that the cell's event loop never does.

It gets record directories, one per datagram, on an inherited socket and forks for each; the fork answers on the same
socket with `{"guid", "pid", "start"}` or `{"guid", "error"}`. It ends with the socket. Instances outlive it. Imports only the standard
library and `kernel`, because its memory is every instance's memory.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any

from cupola.runtime.local import birth, kernel, stack

__all__ = ["main", "start_time"]


def start_time(pid: int) -> int:
    """Clock ticks from boot to the start of process `pid`: with the pid, this names a process for good. 0: gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
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
    kernel.not_dumpable()
    configuration: dict[str, Any] = json.loads(arguments[1])
    try:
        stack.prepare(configuration)
    except (OSError, ValueError) as error:
        channel.send(json.dumps({"error": f"cannot prepare isolation mode {configuration['mode']}: {error}"}).encode())
        return
    channel.send(json.dumps({"ready": True}).encode())
    gc.collect()
    gc.freeze()
    serve(channel, configuration)


def serve(channel: socket.socket, configuration: dict[str, Any]) -> None:
    """Fork for each request until the other side is gone."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    while True:
        ready = poll.poll(1000)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not ready:
            continue
        request = channel.recv(4096)
        if not request:
            return
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                bear(channel, request.decode(), configuration)
                status = 0
            finally:
                os._exit(status)


def bear(channel: socket.socket, directory: str, configuration: dict[str, Any]) -> None:
    """In the fork: make the instance of this record directory and say how it went."""
    guid = os.path.basename(directory)
    try:
        with open(os.path.join(directory, "launch.json"), encoding="utf-8") as file:
            launch = json.load(file)
        pid = birth.make(launch, directory, configuration, channel.fileno())
        # Written before it is told: a cell that dies in between finds the instance.
        start = start_time(pid)
        temporary = os.path.join(directory, "pid.new")
        with open(temporary, "w", encoding="ascii") as file:
            file.write(f"{pid} {start}")
        os.rename(temporary, os.path.join(directory, "pid"))
        answer: dict[str, Any] = {"guid": guid, "pid": pid, "start": start}
    except BaseException as error:  # noqa: BLE001 - whatever went wrong must be told, this process has no other voice
        if not isinstance(error, OSError):
            traceback.print_exc()
        answer = {"guid": guid, "error": f"{error}"}
    channel.send(json.dumps(answer).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
