"""The python buildpack: where requirements come from, how they are installed, and how an app starts."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cupola.blobs.store import LocalStore
from cupola.blobs.tars import unpack_tar
from cupola.config import Settings
from tests.buildpacks.index import BACKEND, PYPROJECT, Index, serving, source, wheel
from tests.buildpacks.running import LAUNCHER, environment, running
from tests.staging.staged import Staged, stage, system, write

HAVE = f"{sys.version_info[0]}.{sys.version_info[1]}"
PACKAGES = dict([
    wheel("alpha", needs="beta>=1", script=True), wheel("alpha", "2.0"), wheel("beta"), wheel("beta", "1.5"), wheel("gamma"), wheel("notes"),
    source("delta"), wheel("uvicorn", script=True), wheel("gunicorn", script=True), wheel("waitress", script=True),
])  # fmt: skip
SHOW = "import importlib.metadata as m; print(sorted(f'{d.name}=={d.version}' for d in m.distributions()))"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    with serving(PACKAGES) as found:
        use(monkeypatch, found)
        yield found


def use(monkeypatch: pytest.MonkeyPatch, index: Index) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("PIP_RETRIES", "0")
    # pip keeps nothing that came over plain http from a host that is not trusted.
    monkeypatch.setenv("PIP_TRUSTED_HOST", "127.0.0.1")


def build(
    tmp_path: Path, files: Mapping[str, str | bytes], *, cache: str = "", env: dict[str, str] | None = None
) -> Staged:
    app = write(tmp_path / "app", {name: text for name, text in files.items() if isinstance(text, str)})
    for name, content in files.items():
        if isinstance(content, bytes):
            (app / name).parent.mkdir(exist_ok=True)
            (app / name).write_bytes(content)
    settings = Settings()
    settings.staging.allow = ["127.0.0.1"]
    chosen = system(LocalStore(tmp_path / "blobs"), "python_buildpack")
    return stage(app, tmp_path, chosen=chosen, settings=settings, cache=cache, env=env)


def launched(staged: Staged, root: Path, command: str) -> str:
    """What a command prints in the unpacked droplet."""
    unpack_tar(staged.blobs.path(staged.good.droplet), root, outside_links=True)
    argv = [sys.executable, "-I", "-S", str(LAUNCHER), str(root / "app"), command]
    done = subprocess.run(argv, env=environment(root, 1, {}), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("Invoking start command.\n")[2]


def installed(staged: Staged, root: Path) -> list[str]:
    text = launched(staged, root, f'python -c "{SHOW}"')
    found = json.loads(text.replace("'", '"'))
    assert isinstance(found, list)
    return found


def test_requirements_are_installed_and_scripts_run_elsewhere(tmp_path: Path, index: Index) -> None:
    staged = build(tmp_path, {"requirements.txt": "alpha==1.0\n"})
    assert installed(staged, tmp_path / "run") == ["alpha==1.0", "beta==1.5"]
    assert (
        launched(staged, tmp_path / "other", "alpha; which python | sed s,.*/deps,deps,")
        == "script of alpha\ndeps/0/bin/python\n"
    )
    metadata = staged.good.result["lifecycle_metadata"]
    assert isinstance(metadata, dict)
    assert metadata["buildpacks"][0]["name"] == "python"


def test_the_second_build_takes_packages_from_the_cache(tmp_path: Path, index: Index) -> None:
    files = {"requirements.txt": "alpha\ndelta\n"}
    first = build(tmp_path, files)
    assert "Building wheel for delta" in first.log
    index.seen.clear()
    second = build(tmp_path, files, cache=first.good.cache)
    assert installed(second, tmp_path / "run") == ["alpha==2.0", "delta==1.0"]
    assert not [path for path in index.seen if path.endswith(".whl")]
    assert "Building wheel for delta" not in second.log


def test_credentials_of_the_index_are_used_and_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(PACKAGES, password="indexsecret") as index:
        use(monkeypatch, index)
        staged = build(tmp_path, {"requirements.txt": "gamma\n"})
        assert installed(staged, tmp_path / "run") == ["gamma==1.0"]
    assert "indexsecret" not in staged.log
    assert b"indexsecret" not in staged.blobs.path(staged.good.droplet).read_bytes()


def test_vendored_packages_need_no_index(tmp_path: Path, index: Index) -> None:
    name, content = wheel("vendored")
    staged = build(tmp_path, {"requirements.txt": "vendored\n", f"vendor/{name}": content})
    assert installed(staged, tmp_path / "run") == ["vendored==1.0"]
    assert "Using the packages in vendor/ and no index" in staged.log
    assert index.seen == []


def test_a_local_project_is_installed_where_it_can_be_found_again(tmp_path: Path, index: Index) -> None:
    local = {"lib/pyproject.toml": PYPROJECT, "lib/backend.py": BACKEND.format(name="local", version="3.0")}
    staged = build(tmp_path, {"requirements.txt": "-e ./lib\n--editable=./lib\n", **local})
    assert launched(staged, tmp_path / "run", "python -c 'import local; print(local.VALUE)'") == "built\n"


UV_LOCK = """
version = 1
[[package]]
name = "app"
version = "0.1"
source = { virtual = "." }
dependencies = [{ name = "alpha", extra = ["more"] }, { name = "gamma", marker = "sys_platform == 'win32'" }]
[package.dev-dependencies]
dev = [{ name = "notes" }]
[[package]]
name = "alpha"
version = "1.0"
source = { registry = "https://index.example/simple" }
dependencies = [{ name = "beta" }]
[package.optional-dependencies]
more = [{ name = "delta" }]
[[package]]
name = "beta"
version = "1.0"
source = { registry = "https://index.example/simple" }
[[package]]
name = "delta"
version = "1.0"
source = { registry = "https://index.example/simple" }
[[package]]
name = "gamma"
version = "1.0"
source = { registry = "https://index.example/simple" }
[[package]]
name = "notes"
version = "1.0"
source = { registry = "https://index.example/simple" }
"""
POETRY_1 = """
[[package]]
name = "alpha"
version = "1.0"
optional = false
[package.dependencies]
Beta = [{version = ">=1", markers = "python_version >= '3.0'"}, {version = ">=1", markers = "python_version < '3.0'"}]
gamma = {version = "*", optional = true}
[[package]]
name = "beta"
version = "1.0"
optional = false
[[package]]
name = "gamma"
version = "1.0"
optional = true
[[package]]
name = "notes"
version = "1.0"
optional = false
"""
POETRY_2 = """
[[package]]
name = "alpha"
version = "1.0"
groups = ["main", "dev"]
[[package]]
name = "beta"
version = "1.0"
groups = ["main"]
markers = "sys_platform == 'linux'"
[[package]]
name = "gamma"
version = "1.0"
groups = ["main"]
markers = "sys_platform == 'win32'"
[[package]]
name = "notes"
version = "1.0"
groups = ["dev"]
"""
PIPFILE_LOCK = json.dumps({
    "_meta": {"requires": {}, "sources": [{"url": "https://index.example/simple"}]},
    "default": {"alpha": {"version": "==1.0", "markers": "python_version >= '3'"}, "beta": {"version": "==1.0"}},
    "develop": {"notes": {"version": "==1.0"}},
})  # fmt: skip
SOURCES: list[tuple[dict[str, str], list[str]]] = [
    ({"Pipfile": "[packages]\nalpha = '*'\n", "Pipfile.lock": PIPFILE_LOCK}, ["alpha==1.0", "beta==1.0"]),
    ({"Pipfile": "[packages]\nalpha = '<2'\ngamma = {version = '*', markers = \"sys_platform == 'win32'\"}\n[dev-packages]\nnotes = '*'\n"}, ["alpha==1.0", "beta==1.5"]),
    ({"pyproject.toml": "[project]\nname = 'app'\nversion = '0'\ndependencies = ['alpha<2']\n"}, ["alpha==1.0", "beta==1.5"]),
    ({"pyproject.toml": "[project]\nname = 'app'\nversion = '0'\ndependencies = ['alpha[more]']\n", "uv.lock": UV_LOCK}, ["alpha==1.0", "beta==1.0", "delta==1.0"]),
    ({"pyproject.toml": "[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\npython = '*'\nalpha = '*'\n", "poetry.lock": POETRY_1}, ["alpha==1.0", "beta==1.0"]),
    ({"pyproject.toml": "[project]\ndependencies = ['alpha']\n", "poetry.lock": POETRY_2}, ["alpha==1.0", "beta==1.0"]),
    ({"pyproject.toml": PYPROJECT, "backend.py": BACKEND.format(name="project", version="9.0")}, ["project==9.0"]),
    ({"pyproject.toml": "[tool.ruff]\n"}, []),
]  # fmt: skip


@pytest.mark.parametrize(("files", "expected"), SOURCES)
def test_every_file_that_names_requirements(
    tmp_path: Path, index: Index, files: dict[str, str], expected: list[str]
) -> None:
    assert installed(build(tmp_path, files), tmp_path / "run") == expected


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"requirements.txt": "none-of-that==1\n"}, "pip could not install the app's requirements"),
        ({"requirements.txt": "", "runtime.txt": "python-3.4.x\n"}, f"runtime.txt asks for Python 3.4, but this stack has {HAVE}"),
        ({"requirements.txt": "", ".python-version": "2.7.18\n"}, ".python-version asks for Python 2.7"),
        ({"Pipfile": "[requires]\npython_version = '3.4'\n"}, "Pipfile asks for Python 3.4"),
        ({"Pipfile": "[[["}, "Pipfile is not valid"),
        ({"Pipfile.lock": "{"}, "Pipfile.lock is not valid"),
        ({"pyproject.toml": "["}, "pyproject.toml is not valid"),
        ({"pyproject.toml": "[tool.poetry.dependencies]\nalpha = '*'\n"}, "there is no poetry.lock: run `poetry lock`"),
        ({"pyproject.toml": "[tool.poetry.dependencies]\nother = '*'\n", "poetry.lock": POETRY_1}, "poetry.lock has no other"),
        ({"pyproject.toml": "[project]\nname='x'\n", "uv.lock": "version = 1\n"}, "uv.lock does not name the project itself"),
        ({"environment.yml": ""}, "conda is not supported here"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_says_why(tmp_path: Path, index: Index, files: dict[str, str], words: str) -> None:
    staged = build(tmp_path, files)
    assert staged.bad.error_id == "BuildpackCompileFailed"
    assert words in staged.log


@pytest.mark.parametrize("text", [f"python-{HAVE}.x", HAVE, "3", f"{HAVE}.1\n"])
def test_the_platforms_own_version_may_be_asked_for(tmp_path: Path, index: Index, text: str) -> None:
    assert build(tmp_path, {"requirements.txt": "", "runtime.txt": text}).status == 0


FLASK = "from flask import Flask\napp = Flask(__name__)\n"
FASTAPI = "import fastapi\nservice: fastapi.FastAPI = fastapi.FastAPI()\n"
PLAIN = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'plain wsgi']\n"
FACTORY = "from flask import Flask\ndef create_app(config=None):\n    return Flask(__name__)\n"
DEFAULTS: list[tuple[dict[str, str], str]] = [
    ({"requirements.txt": "gunicorn", "app.py": FLASK}, "exec gunicorn --bind 0.0.0.0:$PORT app:app"),
    ({"requirements.txt": "waitress", "wsgi.py": FLASK}, 'exec python "$DEPS_DIR/0/serve.py" wsgi:app'),
    ({"requirements.txt": "uvicorn", "main.py": FASTAPI}, "exec uvicorn --host 0.0.0.0 --port $PORT main:service"),
    ({"requirements.txt": "uvicorn", "app/main.py": FASTAPI}, "exec uvicorn --host 0.0.0.0 --port $PORT app.main:service"),
    ({"requirements.txt": "", "app.py": PLAIN}, 'exec python "$DEPS_DIR/0/serve.py" app:application'),
    ({"requirements.txt": "gunicorn", "app.py": FACTORY}, "exec gunicorn --bind 0.0.0.0:$PORT 'app:create_app()'"),
    ({"requirements.txt": "", "main.py": "print(1)\n"}, "exec python main.py"),
    ({"requirements.txt": "", "main.py": "def broken(:\n", "server.py": "if __name__ == '__main__': pass\n"}, "exec python server.py"),
    ({"requirements.txt": "gunicorn", "manage.py": "", "shop/wsgi.py": "", "shop/asgi.py": ""}, "exec gunicorn --bind 0.0.0.0:$PORT shop.wsgi:application"),
    ({"requirements.txt": "uvicorn", "manage.py": "", "shop/wsgi.py": "", "shop/asgi.py": ""}, "exec uvicorn --host 0.0.0.0 --port $PORT shop.asgi:application"),
    ({"requirements.txt": "gunicorn", "app.py": FLASK, "Procfile": "web: mine\n"}, "mine"),
    ({"requirements.txt": "", "library.py": "x = 1\n"}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("files", "command"), DEFAULTS)
def test_the_start_command_where_none_is_named(
    tmp_path: Path, index: Index, files: dict[str, str], command: str
) -> None:
    staged = build(tmp_path, files, env={"DISABLE_COLLECTSTATIC": "1"})
    assert staged.good.result["process_types"] == ({"web": command} if command else {})


def test_an_asgi_app_without_a_server_is_told_so(tmp_path: Path, index: Index) -> None:
    staged = build(tmp_path, {"requirements.txt": "", "main.py": FASTAPI})
    assert "main:service is an ASGI application, but no server for it is installed: add uvicorn" in staged.log
    assert staged.status == 223


@pytest.mark.parametrize(
    "module",
    [
        PLAIN,
        "def create_app():\n    return application\n" + PLAIN.replace("application", "inner") + "application = None\n",
    ],
)
def test_a_wsgi_app_is_served_by_the_library_alone(tmp_path: Path, index: Index, module: str) -> None:
    if "create_app" in module:
        module = "from wsgi_part import application as made\ndef create_app():\n    return made\n"
    staged = build(tmp_path, {"requirements.txt": "", "app.py": module, "wsgi_part.py": PLAIN})
    with running(staged, tmp_path / "run") as app, urllib.request.urlopen(app.address, timeout=30) as answer:
        assert answer.read() == b"plain wsgi"


DJANGO = """import pathlib, sys
assert sys.argv[1:3] == ["collectstatic", "--noinput"]
if "--dry-run" not in sys.argv:
    pathlib.Path("collected").write_text("yes")
"""


@pytest.mark.parametrize(("env", "collected"), [({}, True), ({"DISABLE_COLLECTSTATIC": "1"}, False)])
def test_static_files_of_django_are_collected(
    tmp_path: Path, index: Index, env: dict[str, str], collected: bool
) -> None:
    staged = build(tmp_path, {"requirements.txt": "", "manage.py": DJANGO, "Procfile": "web: x\n"}, env=env)
    assert (staged.droplet / "app" / "collected").exists() is collected
    assert ("Running python manage.py collectstatic" in staged.log) is collected


def test_search_paths_of_other_buildpacks_are_there_at_launch(tmp_path: Path, index: Index) -> None:
    from tests.staging.staged import buildpack

    blobs = LocalStore(tmp_path / "blobs")
    tool = buildpack(blobs, "tool", {
        "supply": 'mkdir -p "$3/$4/bin" "$3/$4/profile.d"; printf "#!/bin/sh\\necho a tool\\n" > "$3/$4/bin/tool"; '
        'chmod +x "$3/$4/bin/tool"; echo "export FROM_TOOL=yes" > "$3/$4/profile.d/t.sh"',
    })  # fmt: skip
    app = write(tmp_path / "app", {"requirements.txt": "", "main.py": ""})
    staged = stage(app, tmp_path, chosen=[tool, *system(blobs, "python_buildpack")])
    assert launched(staged, tmp_path / "run", 'tool; echo "$FROM_TOOL"; python -c "print(1)"') == "a tool\nyes\n1\n"
