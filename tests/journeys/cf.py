"""The official `cf` as a function."""

import functools
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Cf"]


@dataclass
class Cf:
    program: str
    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return Path(self.program).name

    def run(
        self, *arguments: str, cwd: Path | None = None, seconds: float = 180, answer: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and return how it ended; stderr is among stdout."""
        environment = {**os.environ, "CF_HOME": str(self.home), "CF_COLOR": "false", "LANG": "C.UTF-8"}
        environment |= self.environment
        environment.pop("CF_TRACE", None)
        return subprocess.run(
            [self.program, *arguments], cwd=cwd, env=environment, text=True, input=answer, timeout=seconds, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __call__(self, *arguments: str, cwd: Path | None = None, seconds: float = 180, answer: str = "") -> str:
        """Run a command that must succeed; what it printed."""
        done = self.run(*arguments, cwd=cwd, seconds=seconds, answer=answer)
        assert done.returncode == 0, f"cf {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def refused(self, *arguments: str, status: int = 1, cwd: Path | None = None, answer: str = "") -> str:
        """Run a command that must fail with this exit status; what it printed."""
        done = self.run(*arguments, cwd=cwd, answer=answer)
        assert done.returncode == status, f"cf {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    @functools.cached_property
    def major(self) -> int:
        """8 or 9."""
        return int(self("version").split(" version ")[1].partition(".")[0])

    def guid(self, app: str) -> str:
        return self("app", app, "--guid").strip()
