"""Runs the scripts of buildpacks and makes the staging log: line by line, without credentials."""

import re
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

__all__ = ["Log", "Scrubber", "capture", "run"]

_CREDENTIALS = re.compile(rb"(://)[^/\s@'\"]{1,512}@")
_LONGEST_LINE = 64 * 1024
_LONGEST_OUTPUT = 1024 * 1024
CANNOT_RUN = 126
"""Exit status, as in a shell, of a program that cannot be executed."""


class Scrubber:
    """Takes credentials out of lines: the given texts, and the user information of URLs."""

    def __init__(self, texts: Iterable[str]) -> None:
        encoded = {text.encode("utf-8", "surrogateescape") for text in texts if len(text) >= 4}
        self._texts = sorted(encoded, key=len, reverse=True)

    def __call__(self, line: bytes) -> bytes:
        for text in self._texts:
            if text in line:
                line = line.replace(text, b"[redacted]")
        return _CREDENTIALS.sub(rb"\1[redacted]@", line) if b"@" in line else line

    def text(self, text: str) -> str:
        """The same for text."""
        return self(text.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")


class Log:
    """The staging log: two streams, whole lines, flushed at once because somebody watches."""

    def __init__(self, out: IO[bytes], err: IO[bytes], scrub: Scrubber) -> None:
        self._out = out
        self._err = err
        self._scrub = scrub
        self._lock = threading.Lock()
        self._last = {False: b"", True: b""}

    def say(self, text: str, *, error: bool = False) -> None:
        """Write one line."""
        self._write(self._err if error else self._out, text.encode("utf-8", "surrogateescape") + b"\n")

    def pump(self, source: IO[bytes], *, error: bool) -> None:
        """Copy lines until `source` ends."""
        sink = self._err if error else self._out
        self._last[error] = b""
        while line := source.readline(_LONGEST_LINE):
            self._write(sink, line)
            self._last[error] = line.strip() or self._last[error]
        source.close()

    @property
    def last(self) -> str:
        """What the last program said last, on stderr if it said anything there; credentials are still in it."""
        return (self._last[True] or self._last[False]).decode("utf-8", "replace").removeprefix("**ERROR** ")[:500]

    def _write(self, sink: IO[bytes], line: bytes) -> None:
        with self._lock:
            sink.write(self._scrub(line))
            sink.flush()


def run(log: Log, argv: Sequence[str], directory: Path, env: Mapping[str, str]) -> int:
    """Run a program whose output goes to the log; returns its status as a shell gives it."""
    child = _start(log, argv, directory, env)
    if child is None:
        return CANNOT_RUN
    assert child.stdout is not None
    other = _pump_errors(log, child)
    log.pump(child.stdout, error=False)
    other.join()
    return _status(child.wait())


def capture(log: Log, argv: Sequence[str], directory: Path, env: Mapping[str, str]) -> tuple[int, bytes]:
    """Run a program; returns its status and what it wrote to stdout, at most 1 MiB. Its stderr goes to the log."""
    child = _start(log, argv, directory, env)
    if child is None:
        return CANNOT_RUN, b""
    assert child.stdout is not None
    other = _pump_errors(log, child)
    output = child.stdout.read(_LONGEST_OUTPUT)
    child.stdout.close()
    other.join()
    return _status(child.wait()), output


def _start(log: Log, argv: Sequence[str], directory: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(
            argv, cwd=directory, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        reason = error.strerror or str(error)
        log.say(
            f"Cannot run {Path(argv[0]).name}: {reason}: is its first line the path of an interpreter that the stack has?",
            error=True,
        )
        return None


def _pump_errors(log: Log, child: subprocess.Popen[bytes]) -> threading.Thread:
    assert child.stderr is not None
    pump = threading.Thread(target=log.pump, args=(child.stderr,), kwargs={"error": True})
    pump.start()
    return pump


def _status(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode
