"""What the platform's processes may do to the machine, as the kernel tells it."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cupola.config import Settings, write_resolved
from cupola.processes.privileges import CELL_CAPABILITIES
from cupola.runtime.local import kernel
from tests.journeys.platform import ROOT, Platform, started
from tests.ports import free_port

SITE = str(Path(pytest.__file__).parents[1])
ALL = ("controller", "router", "cell")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with started(tmp_path_factory.mktemp("privileges") / "data") as platform:
        yield platform


def status(platform: Platform, process: str) -> dict[str, str]:
    lines = Path(f"/proc/{platform.pid(process)}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def capabilities(found: dict[str, str], kind: str) -> set[int]:
    mask = int(found[kind], 16)
    return {number for number in range(64) if mask >> number & 1}


@pytest.mark.parametrize("process", ["controller", "router"])
def test_what_serves_requests_has_no_capability(platform: Platform, process: str) -> None:
    found = status(platform, process)
    for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert capabilities(found, kind) == set(), kind
    if os.geteuid() == 0:
        assert capabilities(found, "CapBnd") == set()
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


def test_the_cell_has_what_containers_take(platform: Platform) -> None:
    found = status(platform, "cell")
    assert capabilities(found, "CapEff") <= set(CELL_CAPABILITIES.values())
    assert found["NoNewPrivs"] == "1"
    if os.geteuid() == 0:
        # Neither loading of modules nor raw devices, clocks, the kernel's log, or the machine's end.
        assert capabilities(found, "CapBnd") & {16, 17, 22, 25, 34} == set()


@pytest.mark.parametrize("process", [*ALL, "supervisor"])
def test_nobody_looks_into_a_process(platform: Platform, process: str) -> None:
    pid = platform.pid(process)
    code = (
        "import sys; from cupola.runtime.local import kernel; kernel.drop_capabilities()\n"
        "try: print(len(open(f'/proc/{sys.argv[1]}/environ', 'rb').read()))\n"
        "except PermissionError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(pid)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "refused"
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert limits[limits.index("Max core file size") :].split()[4:6] == ["0", "0"]


def test_files_are_for_their_owner_alone(platform: Platform) -> None:
    """Within a directory that nobody else may enter, what is secret is closed once more."""
    assert stat.S_IMODE(platform.data_dir.stat().st_mode) == 0o700
    secret = [*platform.data_dir.glob("keys/*"), *platform.data_dir.glob("run/*.token")]
    secret += [platform.data_dir / "credentials.json", platform.data_dir / "run/settings.json"]
    assert {str(file) for file in secret if stat.S_IMODE(file.stat().st_mode) & 0o077} == set()
    assert {stat.S_IMODE(file.stat().st_mode) for file in platform.data_dir.glob("run/*.sock")} == {0o600}


def confined(process: str, data_dir: Path, code: str) -> str:
    """What `code` prints in a process that is confined as `process` is."""
    (data_dir / "run").mkdir(parents=True, exist_ok=True)
    write_resolved(Settings(data_dir=data_dir), data_dir / "run" / "settings.json")
    program = f"""
import sys
from pathlib import Path
from cupola.config import read_resolved
from cupola.processes import privileges
data = Path({str(data_dir)!r})
privileges.confine_{process}(read_resolved(data / "run" / "settings.json"))
def reads(path):
    try: Path(path).read_bytes(); return "reads"
    except PermissionError: return "refused"
def writes(path):
    # Nothing is lost where it is allowed and should not be.
    try: open(path, "ab").close(); return "writes"
    except PermissionError: return "refused"
{code}
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    if not kernel.landlock_abi():
        pytest.skip("this kernel has no Landlock")
    # Not below the temporary directory, which the controller may write.
    if ROOT.is_relative_to(tempfile.gettempdir()):
        pytest.skip(f"the checkout is in {tempfile.gettempdir()}, which the controller may write")
    made = Path(tempfile.mkdtemp(dir=ROOT, prefix=".test-privileges-"))
    for name in ("keys", "router", "tls", "run", "blobs"):
        (made / name).mkdir()
    for name in ("keys/vault.json", "cupola.db", "credentials.json", "run/router.token", "run/cell.token"):
        (made / name).write_text("secret")
    return made


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    for left in ROOT.glob(".test-privileges-*"):
        shutil.rmtree(left)


def test_the_router_sees_its_own_part(data: Path) -> None:
    said = confined(
        "router",
        data,
        "print([reads(data / name) for name in ('keys/vault.json', 'cupola.db', 'credentials.json', 'run/settings.json', "
        "'run/cell.token', 'run/router.token')])\n"
        "print([writes(data / name) for name in ('keys/vault.json', 'blobs/x', 'router/x', 'run/router.ready')])\n"
        "print(writes('/tmp/cupola-test-of-privileges'), reads('/etc/shadow'))\n"
        "(data / 'run' / 'router.ready').unlink()",
    )
    assert said.splitlines() == [
        "['refused', 'refused', 'refused', 'refused', 'refused', 'reads']",
        "['refused', 'refused', 'writes', 'writes']",
        "refused refused",
    ]


def test_the_broker_of_databases_writes_nothing(data: Path) -> None:
    (data / "databases").mkdir()
    (data / "databases/choice.json").write_text("secret")
    said = confined(
        "databases",
        data,
        "print([reads(data / name) for name in ('keys/vault.json', 'cupola.db', 'databases/choice.json', 'run/settings.json')])\n"
        "print([writes(data / name) for name in ('keys/vault.json', 'databases/choice.json', 'run/databases.ready')])\n"
        "print(writes('/tmp/cupola-test-of-privileges'), reads('/etc/shadow'))\n"
        "(data / 'run' / 'databases.ready').unlink()",
    )
    assert said.splitlines() == [
        "['refused', 'refused', 'refused', 'refused']",
        "['refused', 'refused', 'writes']",
        "refused refused",
    ]


def test_the_controller_writes_its_data_and_nothing_else(data: Path) -> None:
    said = confined(
        "controller",
        data,
        "print([reads(data / name) for name in ('keys/vault.json', 'cupola.db')])\n"
        "print([writes(path) for path in (data / 'blobs' / 'x', privileges.__file__, '/etc/cupola-test', '/etc/shadow')])",
    )
    assert said.splitlines() == ["['reads', 'reads']", "['writes', 'refused', 'refused', 'refused']"]


def test_administration_is_no_system_call_of_theirs(data: Path) -> None:
    code = (
        "from cupola.runtime.local import kernel\n"
        "for call in (lambda: kernel.unshare(kernel.CLONE_NEWUSER), lambda: kernel.mount('none', '/', '', kernel.MS_REC)):\n"
        "    try: call(); print('done')\n"
        "    except OSError as error: print(error.errno)"
    )
    for process in ("controller", "router", "databases"):
        assert confined(process, data, code).split() == ["1", "1"]


def _interpreter_for_all() -> str:
    """A Python like this one that every user may start."""
    found = shutil.which(f"python{sys.version_info.major}.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
    return found or ""


@pytest.fixture(scope="module")
def of_nobody() -> Iterator[Platform]:
    """A platform whose controller and router are `nobody`."""
    if os.geteuid() != 0:
        pytest.skip("only root can start processes as another user")
    python = _interpreter_for_all()
    if not python or not os.access(ROOT, os.X_OK) or any(not parent.stat().st_mode & 1 for parent in ROOT.parents):
        pytest.skip("no interpreter and checkout that every user can read")
    home = Path(tempfile.mkdtemp(prefix="cupola-nobody-"))
    home.chmod(0o711)
    platform = Platform(home / "data", free_port())

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "cupola.cli", "--data-dir", str(platform.data_dir), *words]
        search = os.pathsep.join([str(ROOT), SITE])
        return subprocess.run(
            command, cwd="/", env={**os.environ, "PYTHONPATH": search}, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, timeout=110,
        )  # fmt: skip

    platform.cupola = lambda *words, **_: run(*words)  # type: ignore[method-assign]  # another interpreter
    try:
        done = run("up", "--detach", "--port", str(platform.port), "--set", "platform.user=nobody")
        assert done.returncode == 0, done.stdout + done.stderr
        yield platform
    finally:
        run("down")
        shutil.rmtree(home)


def test_controller_and_router_are_another_user(of_nobody: Platform) -> None:
    for process, uid in (("controller", 65534), ("router", 65534), ("cell", 0)):
        found = status(of_nobody, process)
        assert found["Uid"].split() == [str(uid)] * 4, process
        if uid:
            assert found["Groups"].split() == [found["Gid"].split()[0]]
            assert capabilities(found, "CapPrm") == capabilities(found, "CapBnd") == set()


def test_apps_run_and_are_reached_all_the_same(of_nobody: Platform) -> None:
    pushed = of_nobody.cupola("push", str(ROOT / "samples" / "static"))
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    assert of_nobody.app("sample-static").status == 200


def test_roots_files_stay_roots(of_nobody: Platform) -> None:
    """Of what lies in one directory with root's files the other user can take nothing away, and into none of it look."""
    data = of_nobody.data_dir
    for directory in (data, data / "run"):
        found = directory.stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o1770)
    assert (data / "cell").stat().st_uid == 0
    assert stat.S_IMODE((data / "cell" / "instances").stat().st_mode) == 0o710
    assert {file.stat().st_uid for file in (data / "keys").iterdir()} == {65534}
    stray = [str(file) for file in (data / "blobs").rglob("*") if file.stat().st_uid != 65534]
    assert stray == []


def test_root_works_on_behalf_of_the_other_user(of_nobody: Platform) -> None:
    made = of_nobody.cupola("keys", "rotate")
    assert made.returncode == 0, made.stderr
    assert (of_nobody.data_dir / "keys" / "vault.json").stat().st_uid == 65534
    assert of_nobody.get("localhost", "/v3/info").status == 200
