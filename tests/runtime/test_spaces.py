"""The disk limit of instances, held by every means that this machine offers, and by those of another kernel."""

import asyncio
import contextlib
import io
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cupola.blobs.store import LocalStore
from cupola.config import Settings
from cupola.runtime.engine import EngineError
from cupola.runtime.local import probe, quotas
from cupola.runtime.local.engine import LocalEngine
from tests.runtime.conftest import Recorder, until
from tests.runtime.test_local_engine import container, opened

PROJECT_QUOTAS = os.environ.get("CUPOLA_TEST_PROJECT_QUOTAS", "")
"""A directory on a file system with project quotas: set in the machine that `test_project_quotas` boots."""
MODULES = Path("/usr/lib/uml/modules")
MIB = 1 << 20
FULL = ("No space left on device", "Disk quota exceeded")
WRITE = """
head -c 30M /dev/zero > big; echo "home $?"; rm big; sync
head -c 30M /dev/zero > /tmp/big; echo "tmp $?"; rm /tmp/big; sync
head -c 2M /dev/zero > small && sync && echo fits; exec sleep 1000
"""


@contextlib.contextmanager
def btrfs(directory: Path) -> Iterator[Path]:
    """A btrfs with quotas, mounted for the while."""
    if os.getuid() != 0 or not (shutil.which("mkfs.btrfs") and shutil.which("btrfs")):
        pytest.skip("root and the programs of btrfs are needed")
    image, place = directory / "btrfs.img", directory / "btrfs"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(300 * MIB)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True)
    done = subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a btrfs cannot be mounted here: {done.stderr}")
    try:
        subprocess.run(["btrfs", "quota", "enable", str(place)], check=True)
        yield place
    finally:
        # Mount namespaces of instances that have just ended go in their own time.
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(params=["project", "btrfs", "loop", "tmpfs"])
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Settings, probe.Choice]]:
    """Settings and choice of a cell whose instances this holds to their limit."""
    with contextlib.ExitStack() as stack:
        place = tmp_path
        if request.param == "project":
            if not PROJECT_QUOTAS:
                pytest.skip("runs in the machine of test_project_quotas")
            place = Path(PROJECT_QUOTAS) / tmp_path.name
        if request.param == "btrfs":
            place = stack.enter_context(btrfs(tmp_path))
        settings = Settings(data_dir=place / "data")
        settings.runtime.graceful_stop_seconds = 1.0
        settings.run_dir.mkdir(parents=True, mode=0o700)
        try:
            choice = probe.choose("auto", settings.data_dir, "", request.param)
        except EngineError as error:
            if PROJECT_QUOTAS:
                raise
            pytest.skip(str(error))
        assert choice.space == request.param
        yield settings, choice


@pytest.fixture
def droplet_of(limited: tuple[Settings, probe.Choice]) -> str:
    from tests.runtime.conftest import droplet

    return droplet.__wrapped__(limited[0])  # type: ignore[attr-defined,no-any-return] # the same, elsewhere


async def test_an_instance_gets_what_it_may_write_and_no_more(
    limited: tuple[Settings, probe.Choice], launcher: Path, droplet_of: str, recorder: Recorder
) -> None:
    settings, choice = limited
    async with opened(settings, choice, launcher, recorder) as engine:
        one = container(droplet_of, WRITE if choice.mode == "root" else WRITE.replace("/tmp/", "$TMPDIR/"), disk_mb=16)
        other = container(droplet_of, "head -c 12M /dev/zero > much && sync && echo whole; exec sleep 1000", disk_mb=16)
        await engine.create(one, lambda _: None)
        await engine.create(other, lambda _: None)
        await until(lambda: "fits" in recorder.text() and "whole" in recorder.text())
        lines = recorder.text()
        assert "home 1" in lines
        assert "tmp 1" in lines
        assert sum(lines.count(words) for words in FULL) == 2
        live = engine._live[one.guid]
        assert 2 * MIB <= live.space.used(live.pid) < 4 * MIB
        assert engine._live[other.guid].space.used(engine._live[other.guid].pid) >= 12 * MIB
        usage = await until(lambda: (found := engine.usage(other.guid)) and found.disk and found)
        assert usage.disk <= 17 * MIB
        assert one.guid not in recorder.exits, "the limit ends nothing"


def _heavy(settings: Settings, mebibytes: int) -> str:
    """The digest of a droplet of that size."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        member = tarfile.TarInfo("./app/heavy")
        member.size = mebibytes * MIB
        tar.addfile(member, io.BytesIO(os.urandom(member.size)))
    return LocalStore(settings.data_dir / "blobs").put_stream([buffer.getvalue()]).digest


async def test_the_droplet_counts(limited: tuple[Settings, probe.Choice], launcher: Path, recorder: Recorder) -> None:
    settings, choice = limited
    droplet = _heavy(settings, 20)
    async with opened(settings, choice, launcher, recorder) as engine:
        write = (
            "head -c 20M /dev/zero > big; echo big $?; rm big; head -c 6M /dev/zero > some; echo some $?; sleep 1000"
        )
        one = container(droplet, write, disk_mb=32)
        await engine.create(one, lambda _: None)
        await until(lambda: "some" in recorder.text())
        assert "big 1" in recorder.text()
        assert "some 0" in recorder.text()
        live = engine._live[one.guid]
        assert 26 * MIB <= live.space.used(live.pid) <= 33 * MIB
        with pytest.raises(EngineError, match=r"the droplet takes 2[01] MB, and the app may have 16 MB|exceeded"):
            await engine.create(container(droplet, "true", disk_mb=16), lambda _: None)
        assert len(list((settings.data_dir / "cell" / "instances").iterdir())) == 1


async def test_many_begin_at_once(
    limited: tuple[Settings, probe.Choice], launcher: Path, droplet_of: str, recorder: Recorder
) -> None:
    settings, choice = limited
    async with opened(settings, choice, launcher, recorder) as engine:
        many = [container(droplet_of, f"echo number {n}.; exec sleep 1000", disk_mb=16) for n in range(24)]
        await asyncio.gather(*(engine.create(one, lambda _: None) for one in many))
        await until(lambda: all(f"number {n}." in recorder.text() for n in range(24)))
        for one in many:
            live = engine._live[one.guid]
            assert live.space.kind == choice.space


async def test_what_was_limited_goes_without_a_trace(
    limited: tuple[Settings, probe.Choice], launcher: Path, droplet_of: str, recorder: Recorder
) -> None:
    settings, choice = limited
    instances = settings.data_dir / "cell" / "instances"
    async with opened(settings, choice, launcher, recorder) as engine:
        one = container(droplet_of, "head -c 2M /dev/zero > small; echo there; exec sleep 1000", disk_mb=16)
        await engine.create(one, lambda _: None)
        await until(lambda: "there" in recorder.text())
        files = instances / one.guid / "files"
        project = quotas.project_of(files) if choice.space == "project" else 0
        devices = _devices(instances / one.guid)
        assert len(devices) == (choice.space == "loop")
        os.kill(engine._live[one.guid].pid, signal.SIGKILL)
        await until(lambda: one.guid in recorder.exits)
        await engine.destroy(one.guid)
        assert not any((settings.data_dir / "cell" / "trash").iterdir())
        await until(lambda: not any(_backing(device) for device in devices))
        if choice.space == "project":
            assert project > 0
            assert _limit(settings.data_dir, project) == 0
        if choice.space == "btrfs":
            assert "files" not in _subvolumes(settings.data_dir)


async def test_a_second_cell_knows_the_limits_of_what_it_finds(
    limited: tuple[Settings, probe.Choice], launcher: Path, droplet_of: str, recorder: Recorder
) -> None:
    settings, choice = limited
    first = LocalEngine(settings, choice, launcher=launcher)
    await first.open(recorder)
    command = "head -c 2M /dev/zero > small; sync; echo there; sleep 3; head -c 30M /dev/zero > big; echo ended $?; exec sleep 1000"
    one = container(droplet_of, command, disk_mb=16)
    await first.create(one, lambda _: None)
    await until(lambda: "there" in recorder.text())
    await first.close()
    # The kind is the instance's, whatever the settings say by then.
    changed = probe.choose("auto", settings.data_dir, "", "polling")
    async with opened(settings, changed, launcher, recorder) as second:
        live = second._live[one.guid]
        assert live.space.kind == choice.space
        assert live.space.used(live.pid) >= 2 * MIB
        await until(lambda: "ended 1" in recorder.text())


async def test_a_limit_that_is_polled_ends_an_instance(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    changed = probe.choose(choice.mode, settings.data_dir, "", "polling")
    async with opened(settings, changed, launcher, recorder) as engine:
        one = container(droplet, "for i in 1 2 3; do head -c 5M /dev/zero > $i; done; sleep 1000", disk_mb=8)
        await engine.create(one, lambda _: None)
        await until(lambda: one.guid in recorder.exits, 60)
    assert recorder.exits[one.guid].out_of_disk


def test_what_does_not_work_here_is_said(settings: Settings) -> None:
    if quotas.is_enforced(settings.data_dir):
        pytest.skip("project quotas are switched on here")
    with pytest.raises(EngineError, match=r'runtime\.disk_limit = "project" does not work here'):
        probe.choose("none", settings.data_dir, "", "project")


@pytest.mark.timeout(500)
@pytest.mark.parametrize("system", ["ext4", "xfs"])
def test_project_quotas(tmp_path: Path, system: str) -> None:
    """A kernel with project quotas runs as a process of ours, with this machine's files, and in it the tests above."""
    kernel, maker = (
        shutil.which("linux.uml"),
        shutil.which(f"mkfs.{system}", path=os.environ["PATH"] + ":/usr/sbin:/sbin"),
    )
    if os.getuid() != 0 or not kernel or not maker or not MODULES.is_dir():
        pytest.skip(f"root, user-mode-linux and mkfs.{system} are needed")
    image, script = tmp_path / "image", tmp_path / "init"
    with image.open("wb") as file:
        file.truncate(400 * MIB)
    options = ["-F", "-O", "quota,project", "-E", "quotatype=prjquota"] if system == "ext4" else ["-f"]
    subprocess.run([maker, "-q", *options, str(image)], check=True)
    script.write_text(
        INIT.format(system=system, modules=MODULES, python=sys.executable, root=Path(__file__).parents[2])
    )
    script.chmod(0o755)
    command = [
        kernel, "mem=768M", "rootfstype=hostfs", "rootflags=/", "ro", f"ubda={image}", f"init={script}", "con=null", "con0=fd:0,fd:1",
        f"uml_dir={tmp_path}", "quiet",
    ]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=480)
    if "BOOTED" not in done.stdout:
        pytest.skip(f"user-mode-linux does not boot here: {(done.stdout + done.stderr)[-1000:]}")
    assert "TESTS ENDED WITH 0" in done.stdout, done.stdout[-6000:] + done.stderr[-2000:]
    assert "\n4 passed" in done.stdout, done.stdout[-3000:]


INIT = """#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
LOAD='import ctypes, os, sys; ctypes.CDLL(None).syscall(313, os.open(sys.argv[1], 0), b"", 0)'
echo BOOTED
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
for name in quota_tree quota_v2 overlay; do {python} -c "$LOAD" $(find {modules} -name $name.ko); done
mkdir /run/quotas && mount -t {system} -o prjquota /dev/ubda /run/quotas || poweroff -f
cd {root}
export CUPOLA_TEST_PROJECT_QUOTAS=/run/quotas PYTHONDONTWRITEBYTECODE=1
{python} -m pytest -q --color=no -p no:cacheprovider -p no:xdist --basetemp /tmp/t -k "project and not quotas and not many" tests/runtime/test_spaces.py
echo "TESTS ENDED WITH $?"
poweroff -f
"""


def _devices(directory: Path) -> list[str]:
    return [device.name for device in Path("/sys/block").glob("loop*") if str(directory) in _backing(device.name)]


def _backing(device: str) -> str:
    try:
        return (Path("/sys/block") / device / "loop/backing_file").read_text()
    except OSError:
        return ""


def _subvolumes(directory: Path) -> str:
    listed = ["btrfs", "subvolume", "list", str(directory)]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout


def _limit(directory: Path, project: int) -> int:
    """Bytes that a project may take; 0 for no limit."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        return (
            int(struct.unpack_from("=Q", quotas._quotactl(descriptor, quotas._GETQUOTA, project, bytes(72)))[0]) * 1024
        )
    finally:
        os.close(descriptor)
