"""The cell's end of the spawner: asks for an instance and waits for the answer; starts another spawner when one dies."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from cupola.runtime.engine import EngineError

__all__ = ["Forks"]

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[3])


class Forks:
    """One spawner process at a time. `configuration` is that of `stack.prepare`."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self._configuration = configuration
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._waiting: dict[str, asyncio.Future[int]] = {}
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Start the spawner. Raises EngineError when it cannot prepare the isolation mode."""
        async with self._starting:
            if self._channel is None:
                await self._start()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {key: value for key, value in os.environ.items() if key in ("PATH", "PYTHONPATH", "LANG", "HOME")}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (_PACKAGE_ROOT, environment.get("PYTHONPATH"))))
        # -S: nothing of the site packages is needed, and every instance's init shares this memory.
        command = [
            sys.executable,
            "-S",
            "-m",
            "cupola.runtime.local.spawner",
            str(theirs.fileno()),
            json.dumps(self._configuration),
        ]
        with theirs:
            self._process = await asyncio.to_thread(
                subprocess.Popen, command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
            )
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            first = json.loads(
                await asyncio.wait_for(loop.sock_recv(ours, 65536), 30) or b'{"error": "the spawner ended at once"}'
            )
        except TimeoutError:
            first = {"error": "the spawner did not answer within 30 seconds"}
        if "error" in first:
            ours.close()
            raise EngineError(first["error"])
        self._channel = ours
        loop.add_reader(ours, self._readable, ours)

    def _readable(self, channel: socket.socket) -> None:
        try:
            data = channel.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost(channel)
            return
        answer = json.loads(data)
        future = self._waiting.pop(answer.get("guid", ""), None)
        if future is not None and not future.done():
            if "error" in answer:
                future.set_exception(EngineError(answer["error"]))
            else:
                future.set_result(int(answer["pid"]))

    def _lost(self, channel: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(channel)
        channel.close()
        self._channel = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(EngineError("the spawner ended; it is started again with the next instance"))
        self._waiting.clear()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)

    async def spawn(self, directory: Path) -> int:
        """Make the instance of this record directory; returns its init's pid. Raises EngineError."""
        if self._channel is None:
            await self.start()
        channel = self._channel
        assert channel is not None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        self._waiting[directory.name] = future
        try:
            await loop.sock_sendall(channel, os.fsencode(directory))
            return await asyncio.wait_for(future, 60)
        except TimeoutError:
            raise EngineError("the container was not made within 60 seconds: is the machine overloaded?") from None
        except OSError as error:
            raise EngineError(f"the spawner is gone ({error}); it is started again with the next instance") from error
        finally:
            self._waiting.pop(directory.name, None)

    async def close(self) -> None:
        """End the spawner; instances stay."""
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
            self._channel = None
        if self._process is not None:
            try:
                await asyncio.to_thread(self._process.wait, 5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)
