"""The native engine with real processes, in every mode that this machine and user can offer."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cupola import clock, guid
from cupola.config import Settings
from cupola.endpoints import dial
from cupola.runtime.engine import Container, EngineError, Program
from cupola.runtime.local import engine as engines
from cupola.runtime.local import kernel, probe, record, spaces
from cupola.runtime.local.engine import LocalEngine
from cupola.runtime.local.forks import Forks
from tests.runtime.conftest import Recorder, until


def container(droplet: str, command: str, **more: Any) -> Container:
    fields: dict[str, Any] = {
        "guid": guid.new(), "kind": "process", "owner": "process-1", "version": "v1", "app_guid": "app-1",
        "memory_mb": 128, "disk_mb": 64, "droplet": droplet, "env": {"VCAP_SERVICES": "{}"}, "ports": [8080],
        "programs": [Program(name="", command=command, source="APP/PROC/WEB")], "created": clock.micros(),
    }  # fmt: skip
    return Container(**fields | more)


@contextlib.asynccontextmanager
async def opened(
    settings: Settings, choice: probe.Choice, launcher: Path, recorder: Recorder
) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(
        settings,
        choice,
        launcher=launcher,
    )
    await engine.open(recorder)
    try:
        yield engine
    finally:
        for key in list(engine._live):
            await engine.stop(key, 0)
            await engine.destroy(key)
        await engine.close()


async def run_to_end(engine: LocalEngine, recorder: Recorder, wanted: Container) -> None:
    await engine.create(wanted, lambda _: None)
    await until(lambda: wanted.guid in recorder.exits)


async def test_an_app_runs_in_its_directory_and_its_lines_and_status_arrive(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, choice, launcher, recorder) as engine:
        one = container(
            droplet, "cat hello.txt; echo; echo problem >&2; pwd; echo $PORT $CF_INSTANCE_INDEX; exit 3", index=2
        )
        steps: list[str] = []
        address = await engine.create(one, steps.append)
        await until(lambda: one.guid in recorder.exits)
        assert recorder.exits[one.guid].statuses == [("APP/PROC/WEB", 3)]
        assert ("APP/PROC/WEB", "OUT", "hello") in recorder.lines
        assert ("APP/PROC/WEB", "ERR", "problem") in recorder.lines
        port = address.ports[0]
        assert f"{port.internal if choice.own_network else port.external} 2" in recorder.text()
        if choice.mode in ("root", "rootless"):
            assert "/home/vcap/app" in recorder.text()
        assert steps[0] == "Downloading droplet..."
        await engine.destroy(one.guid)
        assert not (settings.data_dir / "cell/instances" / one.guid).exists()


async def test_lines_of_the_shortest_lives_arrive(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    """An instance may have ended before anybody looks at it."""
    async with opened(settings, choice, launcher, recorder) as engine:
        engine._plan._command = _bare  # type: ignore[method-assign]  # the launcher would take longer than the look
        for number in range(25):
            await run_to_end(engine, recorder, container(droplet, f"echo line {number}"))
    assert [text for _, _, text in recorder.lines] == [f"line {number}" for number in range(25)]


def _bare(entry: Any, program: Program, files: Any, plan: Any) -> tuple[list[str], dict[str, str]]:
    return ["/bin/sh", "-c", program.command], {}


async def test_isolation_hides_the_platform_and_other_processes(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    if choice.mode == "none":
        pytest.skip("mode none isolates nothing, as its name says")
    secret = settings.data_dir / "secret"
    secret.write_text("the-secret")
    async with opened(settings, choice, launcher, recorder) as engine:
        command = (
            f"cat {secret}; ls {settings.data_dir}/blobs; cat /etc/shadow; kill -0 {os.getpid()} && echo can-signal;"
            "unshare -U true && echo can-unshare; grep NoNewPrivs /proc/self/status; grep Seccomp: /proc/self/status;"
            "grep CapEff /proc/self/status; touch /usr/probe && echo can-write-usr; id -u"
        )
        await run_to_end(engine, recorder, container(droplet, command))
        text = recorder.text()
        for leak in ("the-secret", "sha256\n", "root:", "can-signal", "can-unshare", "can-write-usr"):
            assert leak not in text
        assert "NoNewPrivs:\t1" in text
        assert "Seccomp:\t2" in text
        if choice.mode in ("root", "rootless"):
            assert "CapEff:\t0000000000000000" in text
            assert "2000" in text


async def test_instances_do_not_share_files(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, choice, launcher, recorder) as engine:
        await run_to_end(
            engine, recorder, container(droplet, "echo changed > hello.txt && echo wrote $(cat hello.txt)")
        )
        await run_to_end(engine, recorder, container(droplet, "echo read $(cat hello.txt)"))
        assert "wrote changed" in recorder.text()
        assert "read hello" in recorder.text()


async def test_sigterm_is_forwarded_and_what_ignores_it_is_killed(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, choice, launcher, recorder) as engine:
        polite = container(droplet, "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done")
        stubborn = container(
            droplet, "trap '' TERM; echo stubborn-up; (setsid sleep 1000 &); while :; do sleep 0.05; done"
        )
        await engine.create(polite, lambda _: None)
        await engine.create(stubborn, lambda _: None)
        await until(lambda: "stubborn-up" in recorder.text() and "\nup" in "\n" + recorder.text())
        await asyncio.gather(engine.stop(polite.guid, 1), engine.stop(stubborn.guid, 1))
        assert "bye" in recorder.text()
        assert (recorder.exits[polite.guid].status, recorder.exits[polite.guid].killed) == (7, False)
        assert (recorder.exits[stubborn.guid].status, recorder.exits[stubborn.guid].killed) == (137, True)


async def test_programs_of_a_container_end_together(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, choice, launcher, recorder) as engine:
        main = Program(
            name="", command="echo main $MEMORY_LIMIT; exec sleep 1000", source="APP/PROC/WEB", memory_mb=100
        )
        side = Program(name="agent", command="sleep 0.3; exit 5", source="APP/PROC/WEB/SIDECAR/AGENT", memory_mb=28)
        one = container(droplet, "", programs=[main, side])
        await run_to_end(engine, recorder, one)
        assert recorder.exits[one.guid].statuses == [("APP/PROC/WEB/SIDECAR/AGENT", 5), ("APP/PROC/WEB", 143)]
        assert "main 100m" in recorder.text()


async def test_too_much_memory_ends_an_instance_and_is_named(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, choice, launcher, recorder) as engine:
        eater = "exec python3 -c 'import time; held = bytearray(300 << 20); held[::4096] = b\"x\" * len(held[::4096]); time.sleep(60)'"
        one = container(droplet, eater, memory_mb=64)
        await run_to_end(engine, recorder, one)
        assert recorder.exits[one.guid].out_of_memory
        assert recorder.exits[one.guid].status == 137


async def test_a_second_engine_adopts_running_instances_and_learns_of_ended_ones(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    stays = container(droplet, "while :; do echo tick; sleep 0.1; done")
    ends = container(droplet, "sleep 0.5; exit 9")
    first = LocalEngine(
        settings,
        choice,
        launcher=launcher,
    )
    await first.open(Recorder())
    for one in (stays, ends):
        await first.create(one, lambda _: None)
    record = settings.data_dir / "cell/instances" / ends.guid
    await first.close()
    await until(lambda: (record / "exit.new").read_bytes())
    second = LocalEngine(
        settings,
        choice,
        launcher=launcher,
    )
    found = await second.open(recorder)
    try:
        assert [adopted.guid for adopted, _ in found] == [stays.guid]
        await until(lambda: ends.guid in recorder.exits and "tick" in recorder.text())
        assert recorder.exits[ends.guid].status == 9
        await second.stop(stays.guid, 1)
        assert stays.guid in recorder.exits
    finally:
        for one in (stays, ends):
            await second.stop(one.guid, 0)
            await second.destroy(one.guid)
        await second.close()


async def test_an_instance_is_reached_at_its_address_and_measured(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, choice, launcher, recorder) as engine:
        one = container(droplet, "exec python3 server.py")
        address = await engine.create(one, lambda _: None)
        await until(lambda: "listening" in recorder.text())
        if not choice.own_network:
            assert address.endpoints["8080"] == f"tcp:127.0.0.1:{address.ports[0].external}"
        with await dial(address.endpoints["8080"]) as made:
            made.setblocking(True)
            made.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert made.recv(100).startswith(b"HTTP/1.0 200")
        usage = await until(lambda: (found := engine.usage(one.guid)) and found.memory > 1 << 20 and found)
        assert usage.cpu_seconds > 0


async def test_groups_go_with_the_last_instance(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    if choice.groups is None:
        pytest.skip("there are no control groups for us here")
    parents = set(choice.groups.parents.values())
    engine = LocalEngine(settings, choice, launcher=launcher)
    await engine.open(recorder)
    one = container(droplet, "sleep 1000")
    await engine.create(one, lambda _: None)
    await engine.close()
    assert all(parent.exists() for parent in parents), "the instance goes on without a cell"
    async with opened(settings, choice, launcher, recorder) as again:
        await again.stop(one.guid, 0)
        await again.destroy(one.guid)
    assert not any(parent.exists() for parent in parents)


def _favoured() -> bool:
    return ":name=cupola:" in Path("/proc/self/cgroup").read_text()


async def test_the_kernel_is_asked_to_change_groups_at_once(
    settings: Settings, choice: probe.Choice, launcher: Path, recorder: Recorder, tmp_path: Path
) -> None:
    if choice.groups is None or choice.groups.version != 1 or os.getuid() != 0:
        pytest.skip("root with control groups of version 1 is needed")
    try:
        os.close(kernel.favor_group_changes("cupola-try"))
    except OSError as error:
        pytest.skip(f"this kernel does not offer it: {error}")
    async with opened(settings, choice, launcher, recorder):
        assert _favoured()


def test_the_setting_goes_with_its_descriptor() -> None:
    try:
        descriptor = kernel.favor_group_changes("cupola-alone")
    except OSError as error:
        pytest.skip(f"root and Linux 6.0 are needed: {error}")
    groups = Path("/proc/self/cgroup")
    assert ":name=cupola-alone:/" in groups.read_text()
    assert not os.get_inheritable(descriptor), "no app gets it"
    os.close(descriptor)
    deadline = time.monotonic() + 20
    while ":name=cupola-alone:" in groups.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_droplets_of_instances_that_are_gone_are_removed(
    settings: Settings,
    choice: probe.Choice,
    launcher: Path,
    droplet: str,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "_RENEW_SECONDS", 0.05)
    unpacked = settings.data_dir / "cell" / "droplets"
    async with opened(settings, choice, launcher, recorder) as engine:
        engine._droplets._keep = 0
        one = container(droplet, "sleep 1000")
        await engine.create(one, lambda _: None)
        await asyncio.sleep(0.3)
        assert len(list(unpacked.iterdir())) == 1
        await engine.stop(one.guid, 0)
        await engine.destroy(one.guid)
        await until(lambda: not list(unpacked.iterdir()))
        again = container(droplet, "cat hello.txt")
        await run_to_end(engine, recorder, again)
        assert recorder.exits[again.guid].statuses == [("APP/PROC/WEB", 0)]


async def test_what_cannot_be_made_leaves_nothing(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, choice, launcher, recorder) as engine:
        one = container("sha256:" + "0" * 64, "true")
        with pytest.raises(EngineError, match="droplet"):
            await engine.create(one, lambda _: None)
        assert not (settings.data_dir / "cell/instances" / one.guid).exists()
        assert engine._ports._claims == {}


def test_a_fault_of_ours_is_no_lack_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not end in less isolation."""
    write = probe._write_trial

    def forgotten(mode: probe.Mode, overlay: bool, record: Path, own_network: bool, space: spaces.Kind) -> None:
        write(mode, overlay, record, own_network, space)
        launch = json.loads((record / "launch.json").read_text())
        del launch["programs"]
        (record / "launch.json").write_text(json.dumps(launch))

    monkeypatch.setattr(probe, "_write_trial", forgotten)
    with pytest.raises(RuntimeError, match="KeyError: 'programs'"):
        probe.choose("process", tmp_path)


async def test_the_spawner_is_started_again_after_its_death(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, choice, launcher, recorder) as engine:
        assert engine._forks is not None
        before = engine._forks._process
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)
        await until(lambda: engine._forks is not None and engine._forks._channel is None)
        await run_to_end(engine, recorder, container(droplet, "echo again"))
        assert "again" in recorder.text()


def _spawners(settings: Settings) -> list[int]:
    """Pids of the spawner of this cell and of its forks that no instance has yet."""
    return [int(path.split("/")[2]) for path in _running(str(settings.data_dir / "cell" / "scratch"))]


def _with_two(choice: probe.Choice) -> int:
    """Processes with two forks in advance: each has an init that waits, and in mode `root` who made its users."""
    return 1 + 2 * (3 if choice.mode == "root" else 2)


async def test_forks_are_made_in_advance_and_end_with_the_spawner(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, choice, launcher, recorder) as engine:
        assert engine._forks is not None
        assert engine._forks._process is not None
        await until(lambda: len(_spawners(settings)) == _with_two(choice))
        await run_to_end(engine, recorder, container(droplet, "exit 3"))
        await until(lambda: len(_spawners(settings)) == _with_two(choice))
        os.kill(engine._forks._process.pid, signal.SIGKILL)
        await until(lambda: not _spawners(settings))
        await run_to_end(engine, recorder, container(droplet, "exit 4"))
    await until(lambda: not _spawners(settings))


async def test_without_a_fork_in_advance_one_is_made(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, choice, launcher, recorder) as engine:
        assert engine._forks is not None
        assert engine._forks._process is not None
        own = engine._forks._process.pid
        await until(lambda: len(_spawners(settings)) == _with_two(choice))
        for pid in _spawners(settings):
            if pid != own:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        await until(lambda: _spawners(settings) == [own])
        await asyncio.sleep(0.1)
        assert _spawners(settings) == [own], "what dies unused is not made again and again"
        one = container(droplet, "exit 3")
        await run_to_end(engine, recorder, one)
        assert recorder.exits[one.guid].statuses == [("APP/PROC/WEB", 3)]


async def test_what_the_cell_gave_up_does_not_run_on(
    settings: Settings,
    choice: probe.Choice,
    launcher: Path,
    droplet: str,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fork that is slower than the cell's patience, or survives it, must not leave an instance that nobody knows."""
    spawn = Forks.spawn

    async def given_up(forks: Forks, directory: Path) -> int:
        record.give_up(directory)
        return await spawn(forks, directory)

    monkeypatch.setattr(Forks, "spawn", given_up)
    seconds = str(100_000 + int.from_bytes(os.urandom(3)))
    async with opened(settings, choice, launcher, recorder) as engine:
        with pytest.raises(EngineError, match="nobody waits"):
            await engine.create(container(droplet, f"sleep {seconds}"), lambda _: None)
        await until(lambda: not _running(seconds))
        assert not list((settings.data_dir / "cell" / "instances").iterdir())


def _running(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [str(path)] if word.encode() in path.read_bytes() else []
    return found


async def test_lines_wait_while_no_cell_reads(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, choice, launcher, recorder) as engine:
        one = container(droplet, "for i in $(seq 100); do echo line $i; done; printf '\\xff\\n'; echo '{}'")
        await run_to_end(engine, recorder, one)
        seen = [line for _, _, line in recorder.lines if line.startswith("line ")]
        assert seen == [f"line {i}" for i in range(1, 101)]
        assert json.loads(recorder.lines[-1][2]) == {}
