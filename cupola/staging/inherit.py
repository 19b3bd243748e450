"""What builds inherit from the host, so that `pip install` and `npm ci` reach what they reach outside.

Inherited is exactly this list (setting `staging.inherit`; by default on, but off with a system domain):

* certificates: SSL_CERT_FILE, SSL_CERT_DIR, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, PIP_CERT, NODE_EXTRA_CA_CERTS, GIT_SSL_CAINFO
  (the files are copied unless the stack has them)
* pip: PIP_*, pip.conf of the system and the user; local directories of PIP_FIND_LINKS are readable
* npm: NPM_CONFIG_*, .npmrc of the user, npmrc of the system
* Go: GOPROXY, GONOPROXY, GONOSUMDB, GOSUMDB, GOPRIVATE, GOFLAGS
* proxies: HTTP_PROXY, HTTPS_PROXY, FTP_PROXY, ALL_PROXY, NO_PROXY, in both cases

Credentials in them are known to the build, which needs them, and to nothing else: they are in a file of the staging
container that does not become part of the droplet, `scrub` names them for the log, and a droplet or cache that
contains one is refused. Mirrors on private or loopback addresses are inherited only when `staging.allow` names them.
"""

import base64
import binascii
import configparser
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cupola import outbound
from cupola.config import Settings

__all__ = ["Inherited", "inherit", "secrets_in"]

_CERTIFICATE_FILES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
)
_GO = ("GOPROXY", "GONOPROXY", "GONOSUMDB", "GOSUMDB", "GOPRIVATE", "GOFLAGS")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY")
_NOT_PIP = frozenset({
    "PIP_CONFIG_FILE", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_CACHE_DIR", "PIP_LOG", "PIP_PYTHON",
    "PIP_REQUIRE_VIRTUALENV", "PIP_SRC", "PIP_BUILD", "PIP_FIND_LINKS", "PIP_CERT", "PIP_REPORT", "PIP_DRY_RUN",
})  # fmt: skip
"""Settings of the host that say where things are on the host, or that are treated on their own."""
_NOT_NPM = frozenset(
    {"NPM_CONFIG_PREFIX", "NPM_CONFIG_CACHE", "NPM_CONFIG_USERCONFIG", "NPM_CONFIG_GLOBALCONFIG", "NPM_CONFIG_NODEDIR"}
)
_VISIBLE = ("/usr/", "/etc/ssl/certs/", "/etc/ca-certificates/", "/etc/pki/")
"""Places that the stack shows at the same path."""
_NPM_SECRET = re.compile(r"^\s*[^#;\s=]*(?:_auth|_authToken|_password)\s*=\s*(.+?)\s*$", re.MULTILINE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"',|]+", re.IGNORECASE)
_MAX_FILE = 4 * 1024 * 1024


@dataclass
class Inherited:
    """What one staging gets. In values and file contents `@TMP@` stands for the container's /tmp."""

    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    """By path below the container's /tmp."""
    mounts: list[Path] = field(default_factory=list)
    """Directories of the host that are readable at the same path."""
    scrub: set[str] = field(default_factory=set)
    notices: list[str] = field(default_factory=list)
    """Lines for the staging log; they name settings, never values."""


def inherit(settings: Settings, environment: Mapping[str, str], home: Path, etc: Path = Path("/etc")) -> Inherited:
    """Collect from `environment`, the user's `home` and the system's `etc`. Unreadable files are left out."""
    found = Inherited()
    if not settings.inherits_package_access:
        return found
    _certificates(found, environment)
    _variables(found, environment)
    _find_links(found, environment)
    _pip_configuration(found, environment, home, etc)
    _npm_configuration(found, environment, home, etc)
    for name, value in list(found.environment.items()):
        # A proxy may be named without a scheme.
        url = f"http://{value}" if name.upper() in _PROXIES and "://" not in value else value
        if name.upper() != "NO_PROXY" and (refused := _refused(url, settings.staging.allow)):
            del found.environment[name]
            found.notices.append(_notice(name, refused))
    for name, content in list(found.files.items()):
        if name.endswith((".conf", "npmrc")) and (
            refused := _refused(content.decode(errors="replace"), settings.staging.allow)
        ):
            del found.files[name]
            for variable in [v for v, value in found.environment.items() if value == f"@TMP@/{name}"]:
                del found.environment[variable]
            found.notices.append(_notice(name.rpartition("/")[2], refused))
    texts = [
        *found.environment.values(),
        *(c.decode(errors="replace") for n, c in found.files.items() if not n.endswith(".pem")),
    ]
    found.scrub = secrets_in(texts)
    return found


def secrets_in(texts: Iterable[str]) -> set[str]:
    """Credentials: user information of URLs (as written and decoded) and npm's _auth, _authToken and _password."""
    secrets: set[str] = set()
    for text in texts:
        for url in _URL.findall(text):
            user, at, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
            if at:
                password = user.partition(":")[2] or user
                secrets |= {user, password, unquote(password), _basic(user)}
        for secret in _NPM_SECRET.findall(text):
            plain = secret.strip("\"'")
            secrets |= {plain, *_decoded(plain)} if "${" not in secret else set()
    return {secret for secret in secrets if len(secret) >= 4}


def _basic(user: str) -> str:
    """What `user:password` of a URL becomes in an Authorization header."""
    return base64.b64encode(unquote(user).encode()).decode()


def _decoded(secret: str) -> set[str]:
    """The password in npm's _auth (base64 of `user:password`) and _password (base64 of it)."""
    try:
        text = base64.b64decode(secret, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return set()
    return {text.partition(":")[2] or text}


def _certificates(found: Inherited, environment: Mapping[str, str]) -> None:
    for name in _CERTIFICATE_FILES:
        path = environment.get(name, "")
        if not path:
            continue
        if path.startswith(_VISIBLE):
            found.environment[name] = path
        elif (content := _read(Path(path))) is not None:
            found.files[f"inherited/{name}.pem"] = content
            found.environment[name] = f"@TMP@/inherited/{name}.pem"
        else:
            found.notices.append(f"{name} is not inherited: the file it names cannot be read")
    directory = environment.get("SSL_CERT_DIR", "")
    if directory and (directory.rstrip("/") + "/").startswith(_VISIBLE):
        found.environment["SSL_CERT_DIR"] = directory


def _variables(found: Inherited, environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        upper = name.upper()
        pip = name.startswith("PIP_") and name not in _NOT_PIP
        npm = upper.startswith("NPM_CONFIG_") and upper not in _NOT_NPM
        if pip or npm or name in _GO or (upper in _PROXIES and name in (upper, upper.lower())):
            found.environment[name] = value


def _find_links(found: Inherited, environment: Mapping[str, str]) -> None:
    kept = []
    for place in environment.get("PIP_FIND_LINKS", "").split():
        path = Path(place.removeprefix("file://"))
        if "://" in place and not place.startswith("file://"):
            kept.append(place)
        elif path.is_absolute() and path.exists():
            found.mounts.append(path)
            kept.append(place)
    if kept:
        found.environment["PIP_FIND_LINKS"] = " ".join(kept)


def _pip_configuration(found: Inherited, environment: Mapping[str, str], home: Path, etc: Path) -> None:
    """One pip.conf of those that pip would read; later files win, as in pip."""
    places = [etc / "xdg/pip/pip.conf", etc / "pip.conf", home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    given = environment.get("PIP_CONFIG_FILE", "")
    if given and given != os.devnull:
        places.append(Path(given))
    merged = configparser.RawConfigParser(strict=False)
    for place in [] if given == os.devnull else places:
        content = _read(place)
        if content is None:
            continue
        try:
            merged.read_string(content.decode())
        except (configparser.Error, UnicodeDecodeError):
            found.notices.append(f"{place.name} is not inherited: it cannot be parsed")
    for section in merged.sections():
        for option in list(merged[section]):
            if f"PIP_{option.upper().replace('-', '_')}" in _NOT_PIP - {"PIP_FIND_LINKS", "PIP_CERT"}:
                merged.remove_option(section, option)
        certificate = merged.get(section, "cert", fallback="")
        if certificate and not certificate.startswith(_VISIBLE):
            merged.remove_option(section, "cert")
            if (content := _read(Path(certificate))) is not None:
                found.files["inherited/pip-cert.pem"] = content
                found.environment.setdefault("PIP_CERT", "@TMP@/inherited/pip-cert.pem")
        found.mounts += [
            Path(p)
            for p in merged.get(section, "find-links", fallback="").split()
            if p.startswith("/") and Path(p).exists()
        ]
    if any(merged[section] for section in merged.sections()):
        lines = []
        for section in merged.sections():
            lines.append(f"[{section}]")
            lines += [f"{option} = " + value.replace("\n", "\n    ") for option, value in merged[section].items()]
        found.files["inherited/pip.conf"] = ("\n".join(lines) + "\n").encode()
        found.environment["PIP_CONFIG_FILE"] = "@TMP@/inherited/pip.conf"


def _npm_configuration(found: Inherited, environment: Mapping[str, str], home: Path, etc: Path) -> None:
    given = next((value for name, value in environment.items() if name.upper() == "NPM_CONFIG_USERCONFIG"), "")
    for variable, name, place in (
        ("NPM_CONFIG_GLOBALCONFIG", "globalnpmrc", etc / "npmrc"),
        ("NPM_CONFIG_USERCONFIG", "npmrc", Path(given) if given else home / ".npmrc"),
    ):
        content = _read(place)
        if content:
            kept = [
                line
                for line in content.decode(errors="replace").splitlines()
                if not re.match(r"\s*(prefix|cache)\s*=", line)
            ]
            expanded = re.sub(r"\$\{(\w+)\}", lambda m: environment.get(m[1], m[0]), "\n".join(kept) + "\n")
            found.files[f"inherited/{name}"] = _npm_lines(expanded).encode()
            found.environment[variable] = f"@TMP@/inherited/{name}"
    for name in [name for name in found.environment if name.upper() == "NPM_CONFIG_REGISTRY"]:
        lines = _npm_lines(f"registry={found.environment[name]}\n")
        if "_auth" in lines:
            # As a variable it would win over what follows here, and npm would write the password into node_modules.
            del found.environment[name]
            found.files["inherited/npmrc"] = found.files.get("inherited/npmrc", b"") + lines.encode()
            found.environment["NPM_CONFIG_USERCONFIG"] = "@TMP@/inherited/npmrc"


def _npm_lines(text: str) -> str:
    """An npmrc whose registries name no user: credentials go to lines of their own, which npm keeps to itself."""

    def separate(match: re.Match[str]) -> str:
        parts = urlsplit(match[2])
        user, at, host = parts.netloc.rpartition("@")
        if not at:
            return match[0]
        path = parts.path if parts.path.endswith("/") else parts.path + "/"
        return f"{match[1]}{parts._replace(netloc=host).geturl()}\n//{host}{path}:_auth={_basic(user)}"

    return re.sub(r"(?m)^(\s*(?:@[\w.-]+:)?registry\s*=\s*)(\S+)", separate, text)


def _refused(text: str, allow: list[str]) -> str:
    """The first private host that a URL in `text` names and `allow` does not, or an empty string."""
    for url in _URL.findall(text):
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            continue
        if _private(host) and not outbound.names(allow, host, port):
            return f"{host}:{port}" if port else host
    return ""


def _private(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_private or address.is_loopback or address.is_link_local


def _notice(name: str, host: str) -> str:
    return f"{name} is not inherited: it names {host}, a private address. An operator can add it to staging.allow"


def _read(path: Path) -> bytes | None:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_FILE:
            return None
        return path.read_bytes()
    except OSError:
        return None
