"""The python buildpack: a virtual environment in deps/<n>, filled by pip, and a start command where the app names none."""

import ast
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib

VERSION = "1.0.0"
MARKERS = ("requirements.txt", "pyproject.toml", "setup.py", "Pipfile", "Pipfile.lock")
CANDIDATES = ("main.py", "app.py", "wsgi.py", "asgi.py", "server.py", "application.py")
ASGI = {"FastAPI", "Starlette", "Quart", "Litestar", "Sanic"}
WSGI = {"Flask", "Bottle", "get_wsgi_application", "App"}


def fail(text):
    print("       **ERROR** " + text, file=sys.stderr, flush=True)
    sys.exit(1)


def say(text):
    print(text, flush=True)


def read(path):
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, IsADirectoryError):
        return ""


def detect(build):
    if not any(os.path.isfile(os.path.join(build, name)) for name in MARKERS):
        sys.exit(1)
    print(f"python {VERSION}")


def interpreter(build):
    """The Python that the app asks for (runtime.txt or .python-version), else the platform's."""
    own = os.environ.get("CUPOLA_PYTHON") or sys.executable
    have = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for name in ("runtime.txt", ".python-version"):
        match = re.match(r"\s*(?:python-?)?(\d+)(?:\.(\d+|x))?", read(os.path.join(build, name)))
        if not match:
            continue
        wanted = match[1] if match[2] in (None, "x") else f"{match[1]}.{match[2]}"
        if have == wanted or have.startswith(wanted + "."):
            return own, have
        other = shutil.which(f"python{wanted}")
        if other and other.startswith("/usr/") and "." in wanted:
            return other, wanted
        fail(f"{name} asks for Python {wanted}, but this stack has {have}: change {name}, or install python{wanted} on the host below /usr")
    return own, have


def make_environment(target, python, version):
    """A virtual environment that may be moved: nothing in it names its own place."""
    packages = os.path.join(target, "lib", f"python{version}", "site-packages")
    os.makedirs(packages, exist_ok=True)
    os.makedirs(os.path.join(target, "bin"), exist_ok=True)
    for name in ("python", "python3", f"python{version}"):
        link = os.path.join(target, "bin", name)
        if not os.path.lexists(link):
            os.symlink(python if name == "python" else "python", link)
    with open(os.path.join(target, "pyvenv.cfg"), "w", encoding="utf-8") as file:
        file.write(f"home = {os.path.dirname(python)}\ninclude-system-site-packages = false\nversion = {version}\n")
    return packages


def pip_command(python, base):
    """How pip is run for the environment's interpreter."""
    found = subprocess.run(
        [base, "-I", "-c", "import pip, os; print(os.path.dirname(pip.__file__))"], capture_output=True, text=True, check=False
    )
    for place in (found.stdout.strip(), os.environ.get("CUPOLA_PIP", "")):
        runner = os.path.join(place, "__pip-runner__.py")
        if place and os.path.isfile(runner):
            return [python, runner]
        if place and os.path.isfile(os.path.join(place, "__main__.py")):
            return [python, place]
    bundled = subprocess.run(
        [base, "-I", "-c", "import ensurepip, os; print(os.path.dirname(ensurepip.__file__))"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    for directory in (os.path.join(bundled, "_bundled") if bundled else "", "/usr/share/python-wheels"):
        if os.path.isdir(directory):
            for name in sorted(os.listdir(directory)):
                if name.startswith("pip-") and name.endswith(".whl"):
                    return [python, os.path.join(directory, name, "pip")]
    return fail("there is no pip: install the package python3-pip on the host")


def requirements(build, scratch):
    """pip's arguments for what the app needs, or None when it needs nothing."""
    if os.path.isfile(os.path.join(build, "requirements.txt")):
        return ["-r", "requirements.txt"]
    lines = []
    if text := read(os.path.join(build, "Pipfile.lock")):
        try:
            for name, entry in json.loads(text).get("default", {}).items():
                lines.append(_pipenv_line(name, entry))
        except (ValueError, AttributeError) as error:
            fail(f"Pipfile.lock is not valid: {error}: run `pipenv lock`")
    elif text := read(os.path.join(build, "Pipfile")):
        say("       **WARNING** There is no Pipfile.lock: versions may differ from those that you tested; run `pipenv lock`")
        try:
            lines = [_pipenv_line(name, entry) for name, entry in tomllib.loads(text).get("packages", {}).items()]
        except tomllib.TOMLDecodeError as error:
            fail(f"Pipfile is not valid: {error}")
    if lines:
        path = os.path.join(scratch, "pipfile-requirements.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        return ["-r", path]
    if text := read(os.path.join(build, "pyproject.toml")):
        try:
            project = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            fail(f"pyproject.toml is not valid: {error}")
        if "build-system" in project or "name" in project.get("project", {}):
            return ["."]
        return None
    return ["."] if os.path.isfile(os.path.join(build, "setup.py")) else None


def _pipenv_line(name, entry):
    if isinstance(entry, str):
        return name if entry == "*" else name + entry
    if "git" in entry:
        return f"{name} @ git+{entry['git']}" + (f"@{entry['ref']}" if entry.get("ref") else "")
    extras = f"[{','.join(entry['extras'])}]" if entry.get("extras") else ""
    version = entry.get("version", "")
    line = name + extras + ("" if version == "*" else version)
    return line + (f" ; {entry['markers']}" if entry.get("markers") else "")


def install(build, cache, target, python, base):
    scratch = os.path.join(cache, "scratch")
    os.makedirs(scratch, exist_ok=True)
    wanted = requirements(build, scratch)
    if wanted is None:
        say("       There are no requirements")
        return
    env = dict(os.environ)
    env.setdefault("PIP_CACHE_DIR", os.path.join(cache, "pip"))
    env["PYTHONNOUSERSITE"] = "1"
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = env["PIP_NO_INPUT"] = env["PIP_NO_WARN_SCRIPT_LOCATION"] = "1"
    env.setdefault("PIP_PROGRESS_BAR", "off")
    options = []
    vendor = os.path.join(build, "vendor")
    if os.path.isdir(vendor) and any(n.endswith((".whl", ".tar.gz", ".zip")) for n in os.listdir(vendor)):
        say("       Using the packages in vendor/ and no index")
        options = ["--no-index", "--find-links", vendor]
        for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
            env.pop(name, None)
    command = [*pip_command(python, base), "install", *options, *wanted]
    say(f"       Running pip install {' '.join(['vendor/' if o == vendor else o for o in [*options, *wanted]])}")
    if subprocess.run(command, cwd=build, env=env, check=False).returncode:
        fail(
            "pip could not install the app's requirements; its last lines say which one. "
            "Is the name and version right, and is the package index reachable (PIP_INDEX_URL, staging.allow)?"
        )
    shutil.rmtree(scratch, ignore_errors=True)


def relocate(target):
    """Scripts begin with the absolute path of the interpreter of the moment; find it beside the script instead."""
    directory = os.path.join(target, "bin")
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        with open(path, "rb") as file:
            first, rest = file.readline(4096), file.read()
        if first.startswith(b"#!") and b"python" in first or first == b"#!/bin/sh\n" and rest.startswith(b"'''exec'"):
            if first == b"#!/bin/sh\n":
                rest = rest.partition(b"\n' '''\n")[2]
            with open(path, "wb") as file:
                file.write(b"#!/bin/sh\n'''exec' \"$(dirname \"$(readlink -f \"$0\")\")/python\" \"$0\" \"$@\"\n' '''\n" + rest)
            os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | 0o755)


def supply(build, cache, deps, index):
    say("-----> Python buildpack")
    target = os.path.join(deps, index)
    base, version = interpreter(build)
    say(f"       Python {version}")
    make_environment(target, base, version)
    say("-----> Installing the app's requirements")
    install(build, cache, target, os.path.join(target, "bin", "python"), base)
    relocate(target)
    shutil.copyfile(os.path.join(os.path.dirname(os.path.abspath(__file__)), "serve.py"), os.path.join(target, "serve.py"))
    os.makedirs(os.path.join(target, "profile.d"), exist_ok=True)
    with open(os.path.join(target, "profile.d", "python.sh"), "w", encoding="utf-8") as file:
        file.write(f"""export VIRTUAL_ENV="$DEPS_DIR/{index}"
export PATH="$VIRTUAL_ENV/bin:$PATH"
export PYTHONUNBUFFERED="${{PYTHONUNBUFFERED:-1}}"
export PYTHONPATH="$HOME${{PYTHONPATH:+:$PYTHONPATH}}"
export FORWARDED_ALLOW_IPS="${{FORWARDED_ALLOW_IPS:-*}}"
if [ ! -x "$VIRTUAL_ENV/bin/python" ] && [ -n "$CUPOLA_PYTHON" ]; then
  ln -sfn "$CUPOLA_PYTHON" "$VIRTUAL_ENV/bin/python"
fi
""")
    with open(os.path.join(target, "config.yml"), "w", encoding="utf-8") as file:
        file.write(f"name: python\nversion: {VERSION}\nconfig:\n  python: '{version}'\n")


def finalize(build, cache, deps, index, profile):
    for name in sorted(os.listdir(deps)):
        scripts = os.path.join(deps, name, "profile.d")
        for script in sorted(os.listdir(scripts)) if os.path.isdir(scripts) else []:
            shutil.copy(os.path.join(scripts, script), os.path.join(profile, f"{name}_{script}"))
    if os.path.isfile(os.path.join(build, "manage.py")):
        collect_static(build, os.path.join(deps, index, "bin", "python"))
    command = ""
    if "web:" not in read(os.path.join(build, "Procfile")):
        command = default_command(build, os.path.join(deps, index), index)
        say(f"-----> Start command: {command}" if command else "-----> No start command found; a Procfile may name one")
    with open(os.path.join(deps, index, "launch.yml"), "w", encoding="utf-8") as file:
        json.dump({"processes": [{"type": "web", "command": command}] if command else []}, file)


def collect_static(build, python):
    """Django's static files, as far as the project has them set up."""
    if os.environ.get("DISABLE_COLLECTSTATIC"):
        return
    check = [python, "manage.py", "collectstatic", "--noinput", "--dry-run"]
    if subprocess.run(check, cwd=build, capture_output=True, check=False).returncode == 0:
        say("-----> Running python manage.py collectstatic --noinput")
        if subprocess.run([python, "manage.py", "collectstatic", "--noinput"], cwd=build, check=False).returncode:
            fail("collectstatic failed: set the environment variable DISABLE_COLLECTSTATIC to 1 to leave it out")


def default_command(build, target, index):
    """A server for the first module that makes an ASGI or WSGI application, or the first script that runs by itself."""
    own = f'exec python "$DEPS_DIR/{index}/serve.py"'
    if os.path.isfile(os.path.join(build, "manage.py")):
        for name in sorted(os.listdir(build)):
            for module, kind in (("asgi", "asgi"), ("wsgi", "wsgi")):
                path = os.path.join(build, name, module + ".py")
                if os.path.isfile(path) and (kind == "wsgi" or _has(target, "uvicorn")):
                    return server(target, own, kind, f"{name}.{module}:application")
    scripts = []
    for name in CANDIDATES:
        path = os.path.join(build, name)
        if not os.path.isfile(path):
            continue
        try:
            tree = ast.parse(read(path))
        except (SyntaxError, ValueError):
            continue
        if found := application(tree):
            return server(target, own, found[0], f"{name[:-3]}:{found[1]}")
        if "__main__" in read(path) or name in ("main.py", "app.py", "server.py"):
            scripts.append(name)
    return f"exec python {scripts[0]}" if scripts else ""


def application(tree):
    """Kind and name of a module's application: a variable of a known framework, or `application(environ, start_response)`."""
    for node in tree.body:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if isinstance(value, ast.Call) and targets and isinstance(targets[0], ast.Name):
            function = value.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if called in ASGI:
                return "asgi", targets[0].id
            if called in WSGI:
                return "wsgi", targets[0].id
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name in ("app", "application"):
            count = len(node.args.args)
            if isinstance(node, ast.AsyncFunctionDef) and count == 3:
                return "asgi", node.name
            if isinstance(node, ast.FunctionDef) and count == 2:
                return "wsgi", node.name
    return None


def _has(target, program):
    return os.path.isfile(os.path.join(target, "bin", program))


def server(target, own, kind, name):
    if kind == "asgi":
        if _has(target, "uvicorn"):
            return f"exec uvicorn --host 0.0.0.0 --port $PORT {name}"
        if _has(target, "hypercorn"):
            return f"exec hypercorn --bind 0.0.0.0:$PORT {name}"
        if _has(target, "daphne"):
            return f"exec daphne -b 0.0.0.0 -p $PORT {name}"
        return fail(f"{name} is an ASGI application, but no server for it is installed: add uvicorn to requirements.txt")
    if _has(target, "gunicorn"):
        return f"exec gunicorn --bind 0.0.0.0:$PORT {name}"
    if _has(target, "waitress-serve"):
        return f"exec waitress-serve --listen=0.0.0.0:$PORT {name}"
    return f"{own} {name}"


def release(build):
    print("---\ndefault_process_types: {}")


if __name__ == "__main__":
    {"detect": detect, "supply": supply, "finalize": finalize, "release": release}[sys.argv[1]](*sys.argv[2:])
