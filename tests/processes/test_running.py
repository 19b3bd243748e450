"""The files that name the platform's processes."""

import os
import subprocess
from pathlib import Path

import msgspec

from cupola.processes import running


def test_a_process_names_itself(tmp_path: Path) -> None:
    running.write_own(tmp_path, "cell", "abc")
    found = running.read(tmp_path, "cell")
    assert found is not None
    assert (found.pid, found.fingerprint) == (os.getpid(), "abc")
    opened = running.open_running(tmp_path, "cell")
    assert opened is not None
    os.close(opened[1])
    running.forget(tmp_path, "cell")
    assert running.read(tmp_path, "cell") is None


def test_another_process_with_the_number_is_not_meant(tmp_path: Path) -> None:
    running.write_own(tmp_path, "cell", "abc")
    own = running.read(tmp_path, "cell")
    assert own is not None
    for changed in ({"start": own.start - 1}, {"boot": "another"}, {"pid": 2**22 + 1}):
        other = msgspec.structs.replace(own, **changed)
        (tmp_path / "cell.pid").write_bytes(msgspec.json.encode(other))
        assert running.read(tmp_path, "cell") is None
        assert running.open_running(tmp_path, "cell") is None


def test_a_zombie_does_not_run(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as child:
        descriptor = os.pidfd_open(child.pid)
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOWAIT)
        os.close(descriptor)
        running.write_own(tmp_path, "cell", "")
        own = running.read(tmp_path, "cell")
        assert own is not None
        (tmp_path / "cell.pid").write_bytes(msgspec.json.encode(msgspec.structs.replace(own, pid=child.pid)))
        assert running.read(tmp_path, "cell") is None


def test_a_damaged_file_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "cell.pid").write_text('{"pid":')
    assert running.read(tmp_path, "cell") is None


def test_the_fingerprint_is_of_settings_and_code() -> None:
    assert running.fingerprint(b"a") == running.fingerprint(b"a")
    assert running.fingerprint(b"a") != running.fingerprint(b"b")
