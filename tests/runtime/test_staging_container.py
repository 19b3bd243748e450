"""A staging runs as isolated as an app, in every mode: builder, droplet, and an app started from what was made."""

import asyncio
import io
import zipfile
from pathlib import Path

import cupola
from cupola import clock, guid
from cupola.blobs.store import LocalStore
from cupola.config import Settings
from cupola.runtime.engine import Container, Program
from cupola.runtime.local import probe
from cupola.runtime.local.engine import LocalEngine
from cupola.runtime.messages import DesiredTask, StagingInput
from cupola.staging.cell import CellStager
from tests.runtime.conftest import Recorder, until


def archive(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, (data, mode) in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100000 | mode) << 16
            made.writestr(entry, data)
    return buffer.getvalue()


def staticfile_buildpack() -> bytes:
    root = Path(cupola.__file__).parent / "buildpacks" / "staticfile"
    paths = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return archive({str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode & 0o777) for path in paths})


async def test_a_static_site_is_staged_and_served(settings: Settings, choice: probe.Choice, recorder: Recorder) -> None:
    blobs = LocalStore(settings.data_dir / "blobs")
    package = blobs.put_stream([archive({"Staticfile": (b"", 0o644), "index.html": (b"it is served", 0o644)})]).digest
    digest = blobs.put_stream([staticfile_buildpack()]).digest
    staging = StagingInput(
        package=package,
        buildpacks=[{"key": "staticfile_buildpack", "name": "staticfile_buildpack", "digest": digest}],
        skip_detect=False,
    )
    task = DesiredTask(
        guid=guid.new(),
        kind="staging",
        app_guid="app",
        memory_mb=512,
        disk_mb=256,
        env={"VCAP_SERVICES": "{}"},
        staging=staging,
    )
    build = Container(
        guid=task.guid, kind="staging", owner=task.guid, app_guid="app", memory_mb=512, disk_mb=256, env=task.env,
        programs=[Program(name="", command="", source="STG")], created=clock.micros(), task=task,
    )  # fmt: skip
    engine = LocalEngine(
        settings,
        choice.mode,
        cgroups=choice.groups,
        overlay=choice.overlay,
        landlock=choice.landlock,
        stager=CellStager(settings, blobs),
    )
    await engine.open(recorder)
    try:
        await engine.create(build, lambda _: None)
        ended = await until(lambda: recorder.exits.get(build.guid), 90)
        assert ended.staging is not None, recorder.text()
        app = Container(
            guid=guid.new(), kind="process", owner="p", app_guid="app", memory_mb=128, disk_mb=128, ports=[8080],
            droplet=ended.staging.droplet, env={"VCAP_APPLICATION": "{}"}, created=clock.micros(),
            programs=[Program(name="", command="", source="APP/PROC/WEB")],
        )  # fmt: skip
        address = await engine.create(app, lambda _: None)
        await until(lambda: "Serving" in recorder.text())
        reader, writer = await asyncio.open_connection("127.0.0.1", address.ports[0].external)
        writer.write(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        assert (await reader.read()).endswith(b"it is served")
        writer.close()
        await writer.wait_closed()
    finally:
        for key in list(engine._live):
            await engine.stop(key, 0)
            await engine.destroy(key)
        await engine.close()
