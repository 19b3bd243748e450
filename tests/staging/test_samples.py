"""Every sample is staged by the real builder and started by the real launcher."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cupola.blobs.tars import unpack_tar
from cupola.staging import cell
from tests.staging.staged import SAMPLES, Staged, stage

LAUNCHER = Path(cell.__file__).parent / "lifecycle" / "launcher.py"


@contextmanager
def running(staged: Staged, root: Path) -> Iterator[str]:
    """The droplet, unpacked somewhere else than it was built, started; yields its address."""
    unpack_tar(staged.blobs.path(staged.good.droplet), root, outside_links=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "PORT": str(port), "CUPOLA_HOME_ROOT": str(root), "INSTANCE_INDEX": "0",
        "CUPOLA_PYTHON": os.path.realpath(sys.executable), "VCAP_APPLICATION": '{"name": "sample"}', "LANG": "C.UTF-8",
    }  # fmt: skip
    log = (root / "log").open("wb")
    process = subprocess.Popen([sys.executable, "-S", str(LAUNCHER), str(root / "app"), ""], env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, (root / "log").read_text()
                assert time.monotonic() < deadline, (root / "log").read_text()
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            log.close()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def body(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def droplet_starts(staged: Staged, root: Path, expected: str) -> None:
    with running(staged, root) as address:
        assert expected in body(address + "/")
    log = (root / "log").read_text()
    assert "Invoking pre-start scripts.\nInvoking start command.\n" in log


def test_static(tmp_path: Path) -> None:
    staged = stage(SAMPLES / "static", tmp_path)
    metadata = staged.good.result["lifecycle_metadata"]
    assert isinstance(metadata, dict)
    assert metadata["buildpack_key"] == "staticfile_buildpack-key"
    assert metadata["buildpacks"] == [{"key": "staticfile_buildpack-key", "name": "staticfile", "version": "1.0.0"}]
    droplet_starts(staged, tmp_path / "run", "Hello from Cupola")


def test_binary(tmp_path: Path) -> None:
    staged = stage(SAMPLES / "binary", tmp_path)
    assert staged.good.result["process_types"] == {"web": "./hello"}
    droplet_starts(staged, tmp_path / "run", "Hello from a binary")


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm on this machine")
def test_node(tmp_path: Path) -> None:
    staged = stage(SAMPLES / "node", tmp_path)
    assert staged.good.result["process_types"] == {"web": "npm start"}
    droplet_starts(staged, tmp_path / "run", "Hello from Node")


def test_python_and_its_cache(tmp_path: Path) -> None:
    staged = stage(SAMPLES / "python", tmp_path)
    if staged.status == 223 and re.search("No matching distribution|Could not find a version|Connection", staged.log):
        pytest.skip("the package index cannot be reached")
    assert "-----> Installing the app's requirements" in staged.log
    droplet_starts(staged, tmp_path / "run", "Hello from sample")
    again = stage(SAMPLES / "python", tmp_path, cache=staged.good.cache)
    assert again.good.droplet
    assert "Downloaded build artifacts cache" in again.log


def test_the_same_tree_gives_the_same_droplet(tmp_path: Path) -> None:
    first, second = stage(SAMPLES / "binary", tmp_path), stage(SAMPLES / "binary", tmp_path)
    assert first.good.droplet == second.good.droplet or _times_differ(first, second)


def _times_differ(first: Staged, second: Staged) -> bool:
    # config.yml is written by the build, so its second may be another.
    names = [staged.directory / "tmp/droplet/deps/0/config.yml" for staged in (first, second)]
    return int(names[0].stat().st_mtime) != int(names[1].stat().st_mtime)
