"""The staticfile buildpack: moves the site to public/, turns the Staticfile into settings of our own server."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cupola.buildpacks.common.steps import (
        Failure,
        Place,
        finish_profile,
        main,
        say,
        warn,
        write_config,
        write_launch,
    )
    from cupola.buildpacks.staticfile.lib.staticfile import AUTH, MARKER, SWITCHES, mime_types, parse, users
else:  # neighbours, where the buildpack runs
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from staticfile import AUTH, MARKER, SWITCHES, mime_types, parse, users
    from steps import Failure, Place, finish_profile, main, say, warn, write_config, write_launch

_SERVER = ("server.py", "messages.py", "pages.py", "passwords.py", "website.py")
_PRIVATE = frozenset({
    MARKER, AUTH, "manifest.yml", "manifest.yaml", ".profile", ".profile.d", "Procfile", ".cloudfoundry", ".cfignore", "nginx", "mime.types",
})  # fmt: skip
"""What of the app's directory is not for visitors when the directory itself is the root."""


def detect(build: Path) -> str:
    """Whether there is a Staticfile."""
    return "staticfile" if (build / MARKER).is_file() else ""


def supply(place: Place) -> None:
    """Bring the server."""
    (place.own / "server").mkdir(parents=True, exist_ok=True)
    for name in _SERVER:
        shutil.copyfile(Path(__file__).resolve().parent / name, place.own / "server" / name)
    write_config(place, "staticfile")


def finalize(place: Place) -> None:
    """Write the server's settings and arrange the files."""
    say("-----> Staticfile buildpack")
    if (place.build / "nginx.conf").exists():
        raise Failure(
            "nginx.conf cannot be used: the site is served by the platform's own server. Remove the file and use the options "
            "of the Staticfile (root, status_codes, pushstate, location_include and others), or a buildpack with nginx"
        )
    found = parse(place.build)
    if found.get("enable_http2") or os.environ.get("ENABLE_HTTP2", "").lower() == "true":
        warn("enable_http2: the server behind the router speaks HTTP/1.1")
    source = _root(place.build, found["root"])
    say(f"       Root folder {found['root'] or '.'}")
    found["users"] = users(place.build, source)
    found["types"] = mime_types(place.build)
    _move(place.build, source)
    for option in SWITCHES:
        if found.get(option):
            say(f"-----> Enabling {option.replace('_', ' ')}")
    (place.own / "site.json").write_text(json.dumps(found), encoding="utf-8")
    finish_profile(place)
    server = f"$DEPS_DIR/{place.index}/server/server.py"
    settings = f"$DEPS_DIR/{place.index}/site.json"
    write_launch(place, {"web": f'exec "${{CUPOLA_PYTHON:-python3}}" -I -B "{server}" "{settings}" "$HOME/public"'})


def _root(build: Path, name: str) -> Path:
    source = Path(os.path.normpath(build / name.strip("/")))
    if not source.resolve().is_relative_to(build.resolve()):
        raise Failure(f"root: {name} leads out of the app")
    if not source.is_dir():
        raise Failure(f"the application Staticfile specifies a root directory {name} that does not exist")
    return source


def _move(build: Path, source: Path) -> None:
    say("-----> Copying project files into public")
    target = build / ".cupola-public"
    if source == build:
        target.mkdir()
        for path in list(build.iterdir()):
            if path.name not in _PRIVATE and path != target:
                path.rename(target / path.name)
    else:
        source.rename(target)
    (target / AUTH).unlink(missing_ok=True)
    public = build / "public"
    if public.is_symlink() or public.is_file():
        public.unlink()
    elif public.is_dir():
        shutil.rmtree(public)
    target.rename(public)


def release(build: Path) -> Mapping[str, str]:
    """Nothing: finalize wrote launch.yml."""
    return {}


if __name__ == "__main__":
    main(detect=detect, supply=supply, finalize=finalize, release=release)
