"""What a Staticfile and the files beside it say, as settings of the static server (JSON-able)."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cupola.buildpacks.common.steps import Failure, say, text_of, warn
    from cupola.buildpacks.common.yaml_subset import YamlError, load
    from cupola.buildpacks.staticfile.lib.nginx import NginxError, rules
    from cupola.buildpacks.staticfile.lib.passwords import parse as parse_passwords
else:  # neighbours, where the buildpack runs
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from nginx import NginxError, rules
    from passwords import parse as parse_passwords
    from steps import Failure, say, text_of, warn
    from yaml_subset import YamlError, load

__all__ = ["AUTH", "MARKER", "mime_types", "parse", "users"]

MARKER = "Staticfile"
AUTH = "Staticfile.auth"
SWITCHES = (
    "ssi", "pushstate", "directory", "host_dot_files", "force_https", "http_strict_transport_security",
    "http_strict_transport_security_include_subdomains", "http_strict_transport_security_preload", "enable_http2",
)  # fmt: skip
_ON = frozenset({"true", "enabled", "visible", "on", "yes", "1"})
_OFF = frozenset({"false", "disabled", "hidden", "off", "no", "0", ""})


def parse(build: Path) -> dict[str, Any]:
    """The settings: the switches that are on, `root`, `status_codes`, `rules`. Ends the step for what is wrong in it."""
    found: dict[str, Any] = {"root": "", "status_codes": {}, "rules": []}
    try:
        given = load(text_of(build / MARKER)) or {}
    except YamlError as error:
        raise Failure(f"Staticfile {error}: it must be YAML such as `root: public`") from None
    if not isinstance(given, dict):
        raise Failure("Staticfile must be lines of `name: value`, such as `root: public`")
    for name, value in given.items():
        if name in SWITCHES:
            found[name] = _switch(name, value)
        elif name == "root":
            found["root"] = str(value or "")
        elif name == "status_codes":
            found["status_codes"] = _status_codes(value)
        elif name == "location_include":
            found["rules"] = _include(build, str(value))
        else:
            warn(
                f"Staticfile: {name} is unknown and has no effect; known are root, status_codes, location_include, {', '.join(SWITCHES)}"
            )
    return found


def _switch(name: str, value: object) -> bool:
    text = str("" if value is None else value).lower()
    if text not in _ON | _OFF:
        raise Failure(f"Staticfile: {name}: {value} is neither true nor false")
    return text in _ON


def _status_codes(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Failure("Staticfile: status_codes must be lines such as `  404: /404.html` below it")
    codes: dict[str, str] = {}
    for key, page in value.items():
        for code in str(key).split():
            if not re.fullmatch(r"[45](\d\d|xx)", code) or not isinstance(page, str):
                raise Failure(
                    f"Staticfile: status_codes: {code}: {page} is not like `404: /404.html` or `5xx: /50x.html`"
                )
            codes[code] = "/" + page.lstrip("/")
    return codes


def _include(build: Path, pattern: str) -> list[dict[str, Any]]:
    base = build / "nginx" / "conf"
    files = sorted(path for path in base.glob(pattern.lstrip("/")) if path.is_file()) if pattern else []
    if not files:
        raise Failure(f"location_include: there is no file nginx/conf/{pattern}")
    found: list[dict[str, Any]] = []
    for path in files:
        try:
            found += rules(text_of(path))
        except NginxError as error:
            raise Failure(f"{path.relative_to(build)}: {error}") from None
    return found


def users(build: Path, source: Path) -> dict[str, str] | None:
    """Password hashes by user of Staticfile.auth, in the root directory or beside the Staticfile; None without it."""
    for place in (source, build):
        if (place / AUTH).is_file():
            found, problems = parse_passwords(text_of(place / AUTH))
            if problems:
                raise Failure(f"{AUTH}: {problems[0]}")
            say("-----> Enabling basic authentication using Staticfile.auth")
            return found
    return None


def mime_types(build: Path) -> dict[str, str]:
    """Types by extension of the app's own mime.types, in nginx's form or Apache's."""
    text = re.sub(r"#.*", "", text_of(build / "mime.types"))
    lines = re.sub(r"(?s)^[^{]*\{|\}[^}]*$", "", text).split(";") if "{" in text else text.splitlines()
    words = [line.split() for line in lines]
    return {"." + extension.lstrip("."): row[0] for row in words if len(row) > 1 for extension in row[1:]}
