"""What services put into instances, with real processes: files of bindings, and volumes, in every mode that there is."""

from pathlib import Path

import pytest

from cupola.config import Settings
from cupola.runtime.engine import EngineError
from cupola.runtime.local import probe
from cupola.runtime.messages import Volume
from tests.runtime.conftest import Recorder
from tests.runtime.test_local_engine import container, opened, run_to_end

ROOT = "/etc/cf-service-bindings"


async def test_files_are_where_the_variable_says(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    one = container(
        droplet,
        'cat "$SERVICE_BINDING_ROOT/db/password"; echo; cat "$SERVICE_BINDING_ROOT/db/type"; echo; '
        'echo new > "$SERVICE_BINDING_ROOT/db/password" 2>/dev/null || echo read-only',
        env={"SERVICE_BINDING_ROOT": ROOT},
        files={"db/password": "s3cret", "db/type": "mysql"},
    )
    other = container(droplet, 'ls "${SERVICE_BINDING_ROOT:-/etc/cf-service-bindings}" 2>&1; echo end')
    async with opened(settings, choice, launcher, recorder) as engine:
        await run_to_end(engine, recorder, one)
        text = recorder.text()
        assert "s3cret\nmysql" in text
        if choice.mode in ("root", "rootless"):
            assert "read-only" in text
        recorder.lines.clear()
        await run_to_end(engine, recorder, other)
        assert "end" in recorder.text()
        assert "db" not in recorder.text()


async def test_all_services_in_one_file(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    one = container(
        droplet,
        'cat "$VCAP_SERVICES_FILE_PATH"; echo; echo "$VCAP_SERVICES_FILE_PATH"',
        env={"VCAP_SERVICES_FILE_PATH": f"{ROOT}/vcap_services"},
        files={"vcap_services": '{"db":[]}'},
    )
    async with opened(settings, choice, launcher, recorder) as engine:
        await run_to_end(engine, recorder, one)
    assert '{"db":[]}' in recorder.text()
    assert (f"{ROOT}/vcap_services" in recorder.text()) == (choice.mode in ("root", "rootless"))


async def test_volumes_outlive_instances_and_are_seen_by_several(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    place = "/var/vcap/data/shared"
    volume = Volume(id="volume-1", place=place)
    writer = container(
        droplet,
        f"echo kept > {place}/note; stat -c %u {place}/note; ls /var/vcap/data; ls -d /var/tmp",
        volumes=[volume],
    )
    reader = container(
        droplet,
        f"cat {place}/note; echo more >> {place}/note; stat -c %u {place}/note; "
        f"cat /elsewhere/note; echo x > /elsewhere/note || echo read-only",
        volumes=[volume, Volume(id="volume-1", place="/elsewhere", read_only=True)],
    )
    stranger = container(droplet, "ls /var/vcap 2>&1; echo end")
    async with opened(settings, choice, launcher, recorder) as engine:
        if choice.mode not in ("root", "rootless"):
            with pytest.raises(EngineError, match="cannot mount volumes"):
                await engine.create(writer, lambda _: None)
            return
        await run_to_end(engine, recorder, writer)
        assert ("APP/PROC/WEB", "OUT", "2000") in recorder.lines
        assert ("APP/PROC/WEB", "OUT", "shared") in recorder.lines
        recorder.lines.clear()
        await run_to_end(engine, recorder, reader)
        lines = [line for _, _, line in recorder.lines]
        assert lines[:3] == ["kept", "2000", "kept"]
        assert "read-only" in lines
        recorder.lines.clear()
        await run_to_end(engine, recorder, stranger)
        assert "shared" not in recorder.text()
    assert (settings.data_dir / "volumes" / "volume-1" / "note").read_text() == "kept\nmore\n"
