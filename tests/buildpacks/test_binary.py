"""The binary buildpack: a Procfile is all that it needs, and it stands after others."""

import urllib.request
from pathlib import Path

from cupola import buildpacks
from cupola.blobs.store import LocalStore
from tests.buildpacks.running import running
from tests.staging.staged import SAMPLES, buildpack, stage, system, write


def test_a_procfile_is_enough(tmp_path: Path) -> None:
    staged = stage(SAMPLES / "binary", tmp_path)
    metadata = staged.good.result["lifecycle_metadata"]
    assert isinstance(metadata, dict)
    assert metadata["buildpacks"] == [{"key": "binary_buildpack-key", "name": "binary", "version": "1.0.0"}]
    assert staged.good.result["process_types"] == {"web": "./hello"}
    with running(staged, tmp_path / "run") as app, urllib.request.urlopen(app.address, timeout=30) as answer:
        assert answer.read() == b"Hello from a binary, instance 0\n"


def test_without_a_procfile_it_is_used_only_by_name_and_says_what_is_missing(tmp_path: Path) -> None:
    app = write(tmp_path / "app", {"program": ""})
    assert stage(app, tmp_path).bad.error_id == "NoAppDetectedError"
    named = stage(app, tmp_path, chosen=system(LocalStore(tmp_path / "blobs"), "binary_buildpack"))
    assert named.status == 0
    assert "No Procfile: give the start command with -c" in named.log


def test_what_others_supply_is_there_at_launch(tmp_path: Path) -> None:
    blobs = LocalStore(tmp_path / "blobs")
    tool = buildpack(blobs, "tool", {
        "supply": 'mkdir -p "$3/$4/bin" "$3/$4/lib" "$3/$4/profile.d"; printf "#!/bin/sh\\necho tool \\$LD_LIBRARY_PATH \\$SET\\n" > "$3/$4/bin/tool"; '
        'chmod +x "$3/$4/bin/tool"; echo "export SET=1" > "$3/$4/profile.d/a.sh"',
    })  # fmt: skip
    server = "import os, http.server as h, subprocess as s\nclass H(h.BaseHTTPRequestHandler):\n def do_GET(self):\n  self.send_response(200); self.end_headers(); self.wfile.write(s.check_output('tool'))\nh.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()\n"
    app = write(tmp_path / "app", {"Procfile": "web: exec python3 -B server.py\n", "server.py": server})
    staged = stage(app, tmp_path, chosen=[tool, *system(blobs, "binary_buildpack")])
    with running(staged, tmp_path / "run") as started, urllib.request.urlopen(started.address, timeout=30) as answer:
        assert answer.read().decode() == f"tool {tmp_path}/run/deps/0/lib 1\n"


def test_system_buildpacks_pack_the_same_bytes_with_executable_scripts() -> None:
    import io
    import zipfile

    for name in buildpacks.SYSTEM:
        made = buildpacks.pack(name)
        assert made == buildpacks.pack(name)
        with zipfile.ZipFile(io.BytesIO(made)) as archive:
            modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
        assert {"bin/detect", "bin/supply", "bin/finalize", "bin/release"} <= modes.keys()
        assert all(mode == (0o755 if inside.startswith("bin/") else 0o644) for inside, mode in modes.items())
