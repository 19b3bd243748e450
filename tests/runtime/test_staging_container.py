"""Stagings run as isolated as apps, in every mode: each sample is staged and started by the engine; limits hold."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from cupola import clock, guid
from cupola.blobs.archives import zip_directory
from cupola.blobs.store import LocalStore
from cupola.config import Settings
from cupola.endpoints import dial
from cupola.runtime.engine import Container, Exit, Program
from cupola.runtime.local import probe
from cupola.runtime.local.engine import LocalEngine
from cupola.runtime.messages import Desired, DesiredTask, StagingInput, TaskFinished
from cupola.runtime.outbox import Outbox
from cupola.runtime.planner import Capacity
from cupola.runtime.reconciler import Reconciler
from cupola.staging.cell import CellStager
from tests.runtime.conftest import Recorder, until
from tests.staging.staged import SAMPLES, Buildpack, archive, buildpack, system, write
from tests.staging.test_fetch import serving

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = {
    "static": b"Hello from Cupola",
    "python": b"Hello from guest book",
    "node": b"Hello from Node",
    "binary": b"Hello from a binary",
}
OTHER_USER = 61_999


class Bench:
    """An open engine with a blob store, and what stagings and apps are made with."""

    def __init__(self, engine: LocalEngine, blobs: LocalStore, recorder: Recorder) -> None:
        self.engine, self.blobs, self.recorder = engine, blobs, recorder

    async def stage(
        self,
        package: bytes | Path,
        buildpacks: list[Buildpack],
        *,
        detect: bool = False,
        anywhere: bool = False,
        memory_mb: int = 1024,
        disk_mb: int = 1024,
        env: Mapping[str, str] | None = None,
    ) -> Exit:
        stored = self.blobs.put_file(package) if isinstance(package, Path) else self.blobs.put_stream([package])
        staging = StagingInput(package=stored.digest, buildpacks=buildpacks, skip_detect=not detect, anywhere=anywhere)
        task = DesiredTask(
            guid=guid.new(), kind="staging", app_guid="app", memory_mb=memory_mb, disk_mb=disk_mb,
            env={"VCAP_SERVICES": "{}", **(env or {})}, staging=staging,
        )  # fmt: skip
        build = Container(
            guid=task.guid, kind="staging", owner=task.guid, app_guid="app", memory_mb=memory_mb, disk_mb=disk_mb, env=task.env,
            programs=[Program(name="", command="", source="STG")], created=clock.micros(), task=task,
        )  # fmt: skip
        await self.engine.create(build, lambda _: None)
        ended = await until(lambda: self.recorder.exits.get(build.guid), 110)
        await self.engine.destroy(build.guid)
        assert isinstance(ended, Exit)
        return ended

    async def start(self, droplet: str, made_on: str) -> Container:
        app = Container(
            guid=guid.new(), kind="process", owner="p", app_guid="app", memory_mb=256, disk_mb=512, ports=[8080], droplet=droplet, made_on=made_on,
            env={"VCAP_APPLICATION": "{}"}, created=clock.micros(), programs=[Program(name="", command="", source="APP/PROC/WEB")],
        )  # fmt: skip
        self.progress: list[str] = []
        self.address = await self.engine.create(app, self.progress.append)
        return app

    async def answer(self) -> bytes:
        """What the app says at `/`, once it listens."""
        for _ in range(600):
            try:
                reader, writer = await asyncio.open_connection(sock=await dial(self.address.endpoints["8080"]))
                writer.write(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
                found = await reader.read()
                writer.close()
                await writer.wait_closed()
            except OSError:
                found = b""
            if found:
                return found
            assert not self.recorder.exits.keys() & self.engine._live.keys(), self.recorder.text()
            await asyncio.sleep(0.05)
        raise AssertionError(self.recorder.text())


@asynccontextmanager
async def opened(settings: Settings, choice: probe.Choice, recorder: Recorder) -> AsyncIterator[Bench]:
    blobs = LocalStore(settings.data_dir / "blobs")
    engine = LocalEngine(settings, choice, stager=CellStager(settings, blobs))
    await engine.open(recorder)
    try:
        yield Bench(engine, blobs, recorder)
    finally:
        for key in list(engine._live):
            await engine.stop(key, 0)
            await engine.destroy(key)
        await engine.close()


@pytest.mark.parametrize("sample", EXPECTED)
async def test_a_sample_is_staged_and_answers(
    settings: Settings, choice: probe.Choice, recorder: Recorder, tmp_path: Path, sample: str
) -> None:
    if sample == "node" and not (
        shutil.which("npm", path="/usr/bin:/bin") and shutil.which("node", path="/usr/bin:/bin")
    ):
        pytest.skip("there is no node below /usr")
    package = tmp_path / "package.zip"
    zip_directory(SAMPLES / sample, package)
    async with opened(settings, choice, recorder) as bench:
        ended = await bench.stage(package, system(bench.blobs), detect=True)
        if sample == "python" and "No matching distribution" in recorder.text():
            pytest.skip("the package index cannot be reached")
        assert ended.staging is not None, recorder.text()
        recorder.exits.clear()
        await bench.start(ended.staging.droplet, ended.staging.stack_fingerprint)
        assert EXPECTED[sample] in await bench.answer()
    assert "Invoking start command." in recorder.text()
    assert bench.progress == ["Downloading droplet...", bench.progress[1]]


async def test_a_droplet_of_another_stack_is_started_with_advice(settings: Settings, recorder: Recorder) -> None:
    async with opened(settings, probe.choose("none", settings.data_dir), recorder) as bench:
        made = buildpack(
            bench.blobs, "b", {"compile": "exit 0", "release": "echo 'default_process_types: {web: sleep 60}'"}
        )
        ended = await bench.stage(archive({"a": "b"}), [made])
        assert ended.staging is not None
        await bench.start(ended.staging.droplet, "vax glibc1.0 python2.7")
    assert bench.progress[-1].startswith("The droplet was made on another stack (vax glibc1.0 python2.7; here ")
    assert bench.progress[-1].endswith("restage the app if it does not start")


async def test_an_admins_buildpack_may_lie_on_loopback(
    settings: Settings, choice: probe.Choice, recorder: Recorder, tmp_path: Path
) -> None:
    scripts = {
        "bin/compile": "#!/bin/sh\necho from loopback\n",
        "bin/release": "#!/bin/sh\necho 'default_process_types: {web: x}'\n",
    }
    web = write(tmp_path / "web", {})
    (web / "bp.zip").write_bytes(archive(scripts))
    with serving(web) as server:
        url = f"http://{server.address}/bp.zip"
        custom = [{"key": url, "name": url, "url": url}]
        async with opened(settings, choice, recorder) as bench:
            ended = await bench.stage(archive({"a": "b"}), custom, anywhere=True)
            assert ended.staging is not None, recorder.text()
            assert "from loopback" in recorder.text()
            refused = await bench.stage(archive({"a": "b"}), custom)
    assert "may not be called" in refused.reason


async def test_lines_arrive_while_the_build_runs(settings: Settings, choice: probe.Choice, recorder: Recorder) -> None:
    async with opened(settings, choice, recorder) as bench:
        slow = buildpack(bench.blobs, "slow", {
            "compile": 'echo first; echo "to stderr" >&2; while [ ! -e "$1/../go" ]; do sleep 0.05; done; echo last',
            "release": "echo 'default_process_types: {web: ./x}'",
        })  # fmt: skip
        work = asyncio.create_task(bench.stage(archive({"a": "b"}), [slow]))
        await until(lambda: ("STG", "OUT", "first") in recorder.lines and ("STG", "ERR", "to stderr") in recorder.lines)
        assert "last" not in recorder.text()
        (live,) = bench.engine._live.values()
        (live.directory / "files" / "tmp" / "go").touch()
        assert (await work).staging is not None
        assert recorder.text().index("first") < recorder.text().index("last")


async def test_a_build_that_needs_too_much_memory_says_so(
    settings: Settings, choice: probe.Choice, recorder: Recorder
) -> None:
    async with opened(settings, choice, recorder) as bench:
        hog = buildpack(
            bench.blobs, "hog", {"compile": "exec python3 -c \"x = b'x' * 400_000_000; import time; time.sleep(60)\""}
        )
        ended = await bench.stage(archive({"a": "b"}), [hog], memory_mb=128)
    assert ended.staging is None
    assert "used more than its 128 MB of memory" in ended.reason, recorder.text()
    assert "-m" in ended.reason


async def test_a_build_that_writes_too_much_says_so(
    settings: Settings, choice: probe.Choice, recorder: Recorder
) -> None:
    script = 'head -c 100000000 /dev/zero > "$2/big" || exit 7'
    async with opened(settings, choice, recorder) as bench:
        hog = buildpack(bench.blobs, "hog", {"compile": script})
        ended = await bench.stage(archive({"a": "b"}), [hog], disk_mb=50)
    assert ended.staging is None
    assert ended.error_id in {"BuildpackCompileFailed", "StagingError"}
    assert "disk" in ended.reason or "compile" in ended.reason


async def test_nothing_of_the_host_is_in_reach(settings: Settings, choice: probe.Choice, recorder: Recorder) -> None:
    if choice.mode == "none":
        pytest.skip("mode none isolates nothing")
    secret = settings.data_dir / "secret"
    secret.write_text("platform")
    secret.chmod(0o644)
    script = f'if cat {secret}; then echo leaked; fi; test -w "$1"; touch /usr/x 2>/dev/null && echo leaked; env | sort; exit 0'
    async with opened(settings, choice, recorder) as bench:
        curious = buildpack(
            bench.blobs, "curious", {"compile": script, "release": "echo 'default_process_types: {web: x}'"}
        )
        ended = await bench.stage(archive({"a": "b"}), [curious], env={"MINE": "1"})
    assert ended.staging is not None, recorder.text()
    assert "leaked" not in recorder.text()
    assert "MINE=1" in recorder.text()
    assert "CF_STACK=cflinuxfs4" in recorder.text()


async def test_the_cell_ends_builds_at_their_time_limit_and_reports_both_ends(
    settings: Settings, tmp_path: Path
) -> None:
    blobs = LocalStore(settings.data_dir / "blobs")
    engine = LocalEngine(settings, probe.choose("none", settings.data_dir), stager=CellStager(settings, blobs))
    outbox = Outbox(tmp_path / "outbox", "cell")
    seen: list[str] = []
    said: dict[str, int] = {}

    def note(container: Container, source: str, stream: Literal["OUT", "ERR"], lines: list[bytes]) -> None:
        seen.extend(f"{container.guid} {source} {line.decode()}" for line in lines)
        said.update({f"{container.guid} {line.decode()}": clock.micros() for line in lines})

    capacity = Capacity(4096, 10)
    reconciler = Reconciler(engine, outbox, note, tmp_path / "cell", cell_id="cell", capacity=capacity, grace=1)
    reconciler.adopt(await engine.open(reconciler))
    work = asyncio.create_task(reconciler.run(lambda: None))
    package = blobs.put_stream([archive({"a": "b"})]).digest
    tasks = []
    for name, script, timeout in (
        ("slow", "sleep 600", 1.0),
        ("quick", "echo done", 60.0),
        ("bad", "echo why >&2; exit 3", 60.0),
        ("huge", "exit 0", 60.0),
    ):
        made = buildpack(blobs, name, {"compile": script, "release": "echo 'default_process_types: {web: x}'"})
        tasks.append(
            DesiredTask(
                guid=name,
                kind="staging",
                app_guid="a",
                memory_mb=9000 if name == "huge" else 64,
                disk_mb=64,
                env={},
                timeout=timeout,
                staging=StagingInput(package=package, buildpacks=[made], skip_detect=True),
            )
        )
    try:
        reconciler.set_full(Desired(1, [], tasks))
        finished = await until(lambda: _finished(outbox, 4))
    finally:
        await reconciler.stop_all()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await reconciler.close()
        await engine.close()
    assert finished["quick"].staging is not None
    assert (finished["slow"].error_id, finished["slow"].failure_reason) == (
        "StagingTimeExpired",
        "exceeded the time limit of 1 seconds",
    )
    assert (finished["huge"].error_id, finished["huge"].failure_reason) == (
        "InsufficientResources",
        "insufficient resources: memory",
    )
    assert seen.index("quick STG done") < seen.index("quick STG Uploading complete")
    assert "slow STG Uploading complete" not in seen
    assert finished["bad"].failure_reason.endswith("bin/compile of buildpack bad exited with status 3: why")
    # Its lines are old enough to be shown when clients learn that it has failed.
    assert finished["bad"].at - said["bad why"] > 2_000_000


def _finished(outbox: Outbox, count: int) -> dict[str, TaskFinished] | None:
    bodies = [event.body for event in outbox._pending.values()]
    found = {body.guid: body for body in bodies if isinstance(body, TaskFinished)}
    return found if len(found) == count else None


def _other_python() -> str | None:
    """An interpreter of this version that an ordinary user can run with our packages."""
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        try:
            check = [
                python,
                "-c",
                "import sys, pytest; sys.exit(sys.version_info[:2] != tuple(map(int, sys.argv[1:])))",
            ]
            numbers = [str(number) for number in sys.version_info[:2]]
            done = subprocess.run([*check, *numbers], check=False, env=_other_environment("/"), user=OTHER_USER, group=OTHER_USER, extra_groups=[], capture_output=True)  # fmt: skip
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


def _other_environment(home: str) -> dict[str, str]:
    packages = Path(pytest.__file__).resolve().parents[1]
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    return {
        **kept, "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": home, "PYTHONPATH": f"{ROOT}:{packages}", "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
    }  # fmt: skip


@pytest.mark.skipif(os.getuid() != 0, reason="this is the ordinary user's run already")
@pytest.mark.timeout(900)
def test_all_of_it_as_an_ordinary_user() -> None:
    python = _other_python()
    if python is None:
        pytest.skip("no interpreter of this version can be run by another user")
    home = Path("/tmp") / f"cupola-user-{guid.new()}"
    home.mkdir(mode=0o700)
    try:
        os.chown(home, OTHER_USER, OTHER_USER)
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={home}/tests", "-rs", __file__]
        done = subprocess.run(
            command, check=False, cwd=ROOT, env=_other_environment(str(home)), user=OTHER_USER, group=OTHER_USER, extra_groups=[],
            capture_output=True, text=True,
        )  # fmt: skip
    finally:
        shutil.rmtree(home, ignore_errors=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
