"""Running Python as an ordinary user, for tests that root runs: what others cannot read of root's is not used."""

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Ordinary", "Unavailable", "ordinary_user"]

ROOT = Path(__file__).resolve().parents[1]
_ACCOUNTS = ("nobody", "daemon")


class Unavailable(Exception):
    """There is no ordinary user to be; the text says why."""


@dataclass
class Ordinary:
    """An interpreter with this environment's packages, and the account that runs it; `home` is the account's here."""

    python: str
    account: pwd.struct_passwd
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its processes."""
        packages = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        # Files of root's checkout are not its to write beside.
        own = {"HOME": str(self.home), "PYTHONPATH": ":".join(dict.fromkeys(packages)), "PYTHONDONTWRITEBYTECODE": "1"}
        inherited = {name: text for name, text in os.environ.items() if name.lower().endswith(("_proxy", "_cert_file"))}
        package_access = {
            name: text for name, text in os.environ.items() if name.startswith(("PIP_", "NPM_CONFIG_", "GOPROXY"))
        }
        return {**kept, **inherited, **package_access, **own}

    @property
    def identity(self) -> dict[str, Any]:
        """Keyword arguments of subprocess."""
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}

    def run(self, *arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run the interpreter; stderr is among stdout."""
        return subprocess.run(
            [self.python, *arguments], cwd=self.home, env=self.environment, text=True, timeout=seconds, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **self.identity,
        )  # fmt: skip


@contextmanager
def ordinary_user() -> Iterator[Ordinary]:
    """An ordinary user with a home of their own, whose path is short enough for sockets. Raises Unavailable."""
    if os.getuid() != 0:
        raise Unavailable("only root becomes somebody else")
    account = next((one for one in pwd.getpwall() if one.pw_name in _ACCOUNTS), None)
    if account is None:
        raise Unavailable(f"there is no account {' or '.join(_ACCOUNTS)}")
    home = Path(tempfile.mkdtemp(prefix="cupola-"))
    try:
        os.chown(home, account.pw_uid, account.pw_gid)
        yield _with_python(account, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _with_python(account: pwd.struct_passwd, home: Path) -> Ordinary:
    why = ""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in dict.fromkeys([os.path.realpath(sys.executable), f"/usr/bin/{version}", f"/usr/local/bin/{version}"]):
        found = Ordinary(python, account, home)
        try:
            done = found.run("-c", "import cupola.processes.cell, sqlalchemy, pytest")
        except OSError as error:
            why = f"{python}: {error.strerror}"
            continue
        if done.returncode == 0:
            return found
        why = f"{python}: {done.stdout.strip().rpartition(chr(10))[2]}"
    raise Unavailable(f"{account.pw_name} cannot run this checkout ({why})")
