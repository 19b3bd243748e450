"""The staticfile buildpack: moves the site to public/, turns the Staticfile into settings of our own server."""

import json
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
VERSION = "1.0.0"
MARKER = "Staticfile"
AUTH = "Staticfile.auth"
SWITCHES = ("ssi", "pushstate", "directory", "host_dot_files", "force_https", "http_strict_transport_security",
            "http_strict_transport_security_include_subdomains", "http_strict_transport_security_preload", "enable_http2")  # fmt: skip
ON = (True, "true", "True", "enabled", "visible", "on", "yes", 1)


def fail(text):
    print("       **ERROR** " + text, file=sys.stderr)
    sys.exit(1)


def parse(build):
    """Settings of the Staticfile. Its YAML is flat but for status_codes."""
    path = os.path.join(build, MARKER)
    found = {"status_codes": {}, "headers": {}}
    if not os.path.exists(path):
        return found
    section = None
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            text = re.sub(r"(^|\s)#.*$", "", line.rstrip())
            if not text.strip() or text.strip() == "---":
                continue
            match = re.match(r"""(\s*)(?:-\s*)?["']?([^"':]+?)["']?\s*:\s*(.*)$""", text)
            if not match:
                fail(f"Staticfile line {number}: expected `name: value`")
            indented, name, value = bool(match[1]), match[2].strip(), match[3].strip().strip("\"'")
            if indented and section == "status_codes":
                for code in name.split():
                    if not re.fullmatch(r"[45](\d\d|xx)", code):
                        fail(f"Staticfile line {number}: {code} is not a status code such as 404 or 4xx")
                    found["status_codes"][code] = "/" + value.lstrip("/")
                continue
            section = name
            if name == "status_codes":
                continue
            if name in SWITCHES:
                found[name] = value in ON
            elif name in ("root", "location_include", "index"):
                found[name] = value
            else:
                print(f"       **WARNING** Staticfile line {number}: {name} is unknown and has no effect")
    return found


def include(build, pattern, found):
    """The directives of nginx snippets that this server knows: add_header, expires, error_page, try_files to a page."""
    import glob

    base = os.path.join(build, "nginx", "conf")
    files = sorted(glob.glob(os.path.join(base, pattern)))
    if not files:
        fail(f"location_include: there is no file nginx/conf/{pattern}")
    for path in files:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = re.sub(r"(?m)(^|\s)#.*$", "", file.read())
        for directive in re.split(r"[;{}]", text):
            words = re.findall(r'"[^"]*"|\'[^\']*\'|\S+', directive)
            if not words:
                continue
            values = [word.strip("\"'") for word in words]
            if values[0] == "add_header" and len(values) >= 3 and "$" not in values[2]:
                found["headers"][values[1]] = values[2]
            elif values[0] == "expires" and len(values) == 2:
                seconds = _seconds(values[1])
                if seconds is not None:
                    found["headers"]["Cache-Control"] = "no-cache" if seconds < 0 else f"max-age={seconds}"
            elif values[0] == "error_page" and len(values) >= 3:
                found["status_codes"].update({code: values[-1] for code in values[1:-1]})
            else:
                print(f"       **WARNING** {os.path.relpath(path, build)}: nginx directive {values[0]} has no effect here; "
                      "add_header, expires and error_page have")  # fmt: skip


def _seconds(text):
    if text in ("off",):
        return None
    if text == "epoch":
        return -1
    if text == "max":
        return 315360000
    match = re.fullmatch(r"(-?\d+)([smhdwMy]?)", text)
    units = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000, "y": 31536000}
    return int(match[1]) * units[match[2]] if match else None


def detect(build):
    if not os.path.isfile(os.path.join(build, MARKER)):
        sys.exit(1)
    print(f"staticfile {VERSION}")


def supply(build, cache, deps, index):
    here = os.path.dirname(os.path.abspath(__file__))
    target = os.path.join(deps, index, "server")
    os.makedirs(target, exist_ok=True)
    for name in ("server.py", "passwords.py", "pages.py"):
        shutil.copyfile(os.path.join(here, name), os.path.join(target, name))
    with open(os.path.join(deps, index, "config.yml"), "w", encoding="utf-8") as file:
        file.write(f"name: staticfile\nversion: {VERSION}\n")


def finalize(build, cache, deps, index, profile):
    found = parse(build)
    print("-----> Staticfile buildpack")
    if os.path.exists(os.path.join(build, "nginx.conf")):
        print("       **WARNING** nginx.conf has no effect: the site is served by the platform's own server")
    if found.get("location_include"):
        include(build, found["location_include"], found)
    if found.get("enable_http2"):
        print("       **WARNING** enable_http2: the server behind the router speaks HTTP/1.1")
    root = found.get("root", "") or "."
    source = os.path.normpath(os.path.join(build, root))
    if source != build.rstrip("/") and not source.startswith(build.rstrip("/") + "/"):
        fail(f"root: {root} leads out of the app")
    if not os.path.isdir(source):
        fail(f"the application Staticfile specifies a root directory {root} that does not exist")
    print(f"       Root folder {root}")
    from passwords import parse as parse_passwords

    for place in (source, build):
        path = os.path.join(place, AUTH)
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                found["users"], problems = parse_passwords(file.read())
            for problem in problems:
                fail(f"{AUTH}: {problem}")
            print("-----> Enabling basic authentication")
            break
    mime = os.path.join(build, "mime.types")
    if os.path.isfile(mime):
        with open(mime, encoding="utf-8", errors="replace") as file:
            text = re.sub(r"(?s)^.*?\{|\}.*$", "", re.sub(r"#.*", "", file.read()))
        rows = [row.split() for row in text.split(";")]
        found["types"] = {"." + extension: row[0] for row in rows if len(row) > 1 for extension in row[1:]}
    _move(build, source)
    for option in SWITCHES:
        if found.get(option):
            print(f"-----> Enabling {option.replace('_', ' ')}")
    with open(os.path.join(deps, index, "site.json"), "w", encoding="utf-8") as file:
        json.dump(found, file)
    for name in sorted(os.listdir(deps)):
        scripts = os.path.join(deps, name, "profile.d")
        for script in sorted(os.listdir(scripts)) if os.path.isdir(scripts) else []:
            shutil.copy(os.path.join(scripts, script), os.path.join(profile, f"{name}_{script}"))
    with open(os.path.join(deps, index, "launch.yml"), "w", encoding="utf-8") as file:
        file.write(f"""processes:
- type: web
  command: exec "${{CUPOLA_PYTHON:-python3}}" -I -B "$DEPS_DIR/{index}/server/server.py" "$DEPS_DIR/{index}/site.json" "$HOME/public"
""")


def _move(build, source):
    print("-----> Copying project files into public")
    target = os.path.join(build, ".cupola-public")
    private = {MARKER, AUTH, "manifest.yml", ".profile", ".profile.d", "Procfile", ".cupola-public", ".cloudfoundry", "nginx"}
    if source == build.rstrip("/"):
        os.makedirs(target)
        for name in os.listdir(build):
            if name not in private:
                os.rename(os.path.join(build, name), os.path.join(target, name))
    else:
        os.rename(source, target)
    auth = os.path.join(target, AUTH)
    if os.path.exists(auth):
        os.unlink(auth)
    public = os.path.join(build, "public")
    if os.path.lexists(public):
        shutil.rmtree(public) if os.path.isdir(public) and not os.path.islink(public) else os.unlink(public)
    os.rename(target, public)


def release(build):
    print("---\ndefault_process_types: {}")


if __name__ == "__main__":
    {"detect": detect, "supply": supply, "finalize": finalize, "release": release}[sys.argv[1]](*sys.argv[2:])
