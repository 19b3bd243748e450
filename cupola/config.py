"""Settings: one TOML file, then the environment, then flags; each layer overrides the one before.

A setting `port` in section `router` is `[router] port = 9080` in the file and `CUPOLA_ROUTER_PORT=9080` in the
environment. Every field here is described in docs/configuration.md (a test compares them).
"""

import os
import pwd
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from cupola.providers import LdapProvider, OidcProvider, Uaa, problems

__all__ = [
    "SYSTEM_NAMES",
    "Account",
    "Blobs",
    "Brokers",
    "ConfigError",
    "Database",
    "Defaults",
    "Identity",
    "Jobs",
    "Logs",
    "Outbound",
    "Platform",
    "RateLimits",
    "Router",
    "Runtime",
    "Services",
    "Settings",
    "Ssh",
    "Staging",
    "Tls",
    "load",
    "read_resolved",
    "write_resolved",
]


SYSTEM_NAMES = ("api", "uaa", "login", "log-cache", "log-stream", "console", "ssh")
"""Hosts below the system domain that are the platform's."""
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ConfigError(Exception):
    """A setting is unknown, of the wrong type or contradicts another; the text names it."""


class Account(NamedTuple):
    """A user of this machine."""

    uid: int
    gid: int


class _Section(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class Platform(_Section):
    """The platform's name and addresses (design.md section 1)."""

    name: str = "cupola"
    description: str = "Cupola: Cloud Foundry in Python"
    port: int = 9080
    """TCP port of the one origin in the default mode."""
    https_port: int = 443
    """With a system domain: where https is served."""
    http_port: int = 80
    """With a system domain: where http is served, apps as they are and system hosts as a redirect; 0 for nowhere."""
    listen: str = ""
    """Address that the public ports bind; anything but loopback needs TLS or `allow_plain_http`. Empty: loopback, or
    every address with a system domain."""
    allow_plain_http: bool = False
    system_domain: str = ""
    """Empty for the default mode (`http://localhost:PORT`); otherwise virtual hosts below this domain."""
    apps_domain: str = ""
    """Domain of app routes; default `apps.localhost`, or `apps.<system_domain>`."""
    admin_user: str = "admin"
    user: str = ""
    """User (name or number) that controller and router run as when the platform is started by root."""
    min_cli_version: str = ""
    """Oldest cf CLI that users should have: older ones are told by a warning, and `/v3/info` says so."""
    recommended_cli_version: str = ""
    reserved_domains_file: str = ""
    """Public suffix list: domains of which no organization gets one for itself. Empty: none."""
    cors_origins: list[str] = msgspec.field(default_factory=list)
    """Origins whose pages may call the API and the identity server, as `https://*.example.com`."""
    poll_seconds: float = 2.0
    """Seconds for which an answer that says "not yet" is held back, should it become "done" meanwhile; 0: never."""


class Tls(_Section):
    """Certificates of a platform with a system domain (design.md section 1)."""

    source: Literal["auto", "own", "files", "acme"] = "auto"
    """Who issues: an authority of our own, files, or ACME; `auto` takes files where a certificate is named."""
    certificate: str = ""
    """Certificate chain of the system hosts (PEM), its own first."""
    key: str = ""
    apps_certificate: str = ""
    """Certificate chain of the apps domain; without it that of the system hosts."""
    apps_key: str = ""
    domains_dir: str = ""
    """Directory with DOMAIN.crt and DOMAIN.key of other domains; without it `tls/domains` in the data directory."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    hsts_seconds: int = 31_536_000
    """Seconds for which browsers use nothing but https for system hosts; 0 to not tell them so."""
    acme_directory: str = "https://acme-v02.api.letsencrypt.org/directory"
    acme_email: str = ""
    acme_ca_file: str = ""
    """Certificates (PEM) that the ACME server is trusted by besides the system's."""
    acme_names: list[str] = msgspec.field(default_factory=list)
    """Names of apps to be certified besides the system hosts."""
    acme_dns_command: str = ""
    """Program that sets and removes the TXT record of a challenge; with it the whole domains are certified."""
    acme_wait_seconds: float = 60.0
    """Seconds between the making of a TXT record and the moment at which every name server has it."""


class RateLimits(_Section):
    """Requests to the API that one user, or one address without a login, may make."""

    enabled: bool = False
    general_limit: int = 2000
    """Requests of a user in `reset_minutes`."""
    unauthenticated_limit: int = 100
    """Requests of an address without a token in `reset_minutes`."""
    reset_minutes: int = 60


class Database(_Section):
    url: str = ""
    """Empty: SQLite in the data directory. Else `postgresql://user:password@host/name`."""
    statement_timeout: float = 30.0
    """Seconds after which a statement is cancelled."""
    threads: int = 8
    """Threads, and so connections, that serve requests."""


class Router(_Section):
    request_timeout: float = 900.0
    """Seconds for a whole request."""
    dial_timeout: float = 5.0
    idle_timeout: float = 900.0
    """Seconds that an idle client connection is kept."""
    header_timeout: float = 60.0
    """Seconds in which a client must have sent its header block."""
    max_header_bytes: int = 1024 * 1024
    max_connections_per_backend: int = 500
    balancing: Literal["round-robin", "least-connection"] = "round-robin"
    redact_query_params: Literal["none", "all", "hash"] = "none"
    """What access lines say of the query of a request: it may hold secrets of users."""
    sticky_cookies: list[str] = msgspec.field(default_factory=lambda: ["JSESSIONID"])
    drain_seconds: float = 10.0
    """Seconds for which a stopping router finishes the requests it has."""
    half_closed_timeout: float = 5.0
    """Seconds that a client which has closed its sending side, or is gone, is waited for while no answer moves."""
    backend_idle_timeout: float = 60.0
    """Seconds that an idle connection to an instance is kept."""
    controller_hold_seconds: float = 1.0
    """Seconds that a request to the API waits for a controller that is just restarting."""
    trace_b3: bool = True
    """Add B3 trace headers to requests and access lines."""
    trace_w3c: bool = False
    """Add or continue W3C `traceparent` and `tracestate`."""


class Runtime(_Section):
    isolation: Literal["auto", "root", "rootless", "process", "none"] = "auto"
    """Which mode of the native engine is used; `auto` takes the strongest that works here."""
    port_range: str = "61100-64999"
    """Host ports that instances may be given."""
    direct_ports: bool = False
    """Listen on the instance's host port even where the router has a more direct path."""
    rootfs: str = ""
    """Directory used as stack root filesystem instead of the host's /usr."""
    max_instances: int = 1000
    memory_mb: int = 0
    """Memory that all instances together may have, in MiB; 0 for the machine's."""
    pids: int = 1024
    """Processes and threads per instance."""
    disk_limit: Literal["auto", "project", "btrfs", "loop", "tmpfs", "polling"] = "auto"
    """Who holds instances to their disk limit; `auto` takes the first that works here, and never `tmpfs`."""
    favordynmods: bool = True
    """Have the kernel of this machine change control groups of processes at once (Linux 6.0, control groups version 1)."""
    graceful_stop_seconds: float = 10.0
    cell_id: str = ""
    instance_identity: bool = True
    """Give instances a key and a certificate of their own, good for a day and replaced in time."""
    trusted_certificates: list[str] = msgspec.field(default_factory=list)
    """Files (PEM) with certificates that instances trust besides those of the machine."""


class Staging(_Section):
    memory_mb: int = 1024
    disk_mb: int = 4096
    timeout_seconds: float = 900.0
    inherit: bool | None = None
    """Give builds the host's package access; default on, off with a system domain."""
    allow: list[str] = msgspec.field(default_factory=list)
    """Mirrors on private addresses or loopback that builds may reach, as host, host:port or network."""
    concurrency: int = 4


class Logs(_Section):
    max_lines_per_source: int = 10_000
    max_bytes_per_source: int = 16 * 1024 * 1024
    memory_mb: int = 128
    """Memory for recent envelopes of all sources together, in MiB; older ones stay on disk."""


class Ssh(_Section):
    port: int = 2222
    enabled: bool = True


class Blobs(_Section):
    max_package_bytes: int = 1024**3
    max_droplet_bytes: int = 2 * 1024**3
    max_buildpack_bytes: int = 2 * 1024**3
    resource_match_min_bytes: int = 1
    """Files smaller than this are uploaded again rather than matched; a match costs one look at a local disk."""
    resource_pool_mb: int = 2048
    """Space for files that are kept for matching, in MiB; the least recently used go first."""
    max_staged_droplets: int = 5
    max_valid_packages: int = 5


class Identity(_Section):
    mode: Literal["internal", "external"] = "internal"
    """Who keeps users and gives tokens: this platform, or the server of section `uaa`."""
    oidc: dict[str, OidcProvider] = msgspec.field(default_factory=dict)
    """OpenID Connect providers, by the origin of their users."""
    ldap: dict[str, LdapProvider] = msgspec.field(default_factory=dict)
    """Directories, by the origin of their users."""
    allow_user_creation_by_org_manager: bool = False
    """Let organization managers make users of other identity providers known, by name and origin."""
    access_token_seconds: int = 1200
    refresh_token_seconds: int = 2_592_000
    lockout_failures: int = 5
    lockout_window_seconds: int = 1200
    lockout_seconds: int = 300
    shared_secret_argon2_memory_kib: int = 19456
    """Memory of one argon2id hash, in KiB."""


class Jobs(_Section):
    lease_seconds: float = 30.0
    lanes: dict[str, int] = msgspec.field(
        default_factory=lambda: {"default": 4, "broker": 16, "blob": 2, "staging": 4, "cleanup": 2}
    )
    per_target: int = 4
    """Jobs of one service broker that run at once, so that one that hangs leaves room for the others."""


class Brokers(_Section):
    timeout_seconds: float = 60.0
    """Seconds for a connection to a service broker, and for it to say something; its whole answer may take twice that."""
    poll_seconds: float = 1.0
    """Seconds between the first two questions for the state of an operation; then they become rarer."""
    poll_backoff: float = 1.5
    """Factor by which the time between two questions grows."""
    poll_max_seconds: float = 60.0
    max_poll_minutes: int = 10_080
    """Minutes after which an operation that a broker never finishes has failed; a plan may have less."""
    max_answer_bytes: int = 16 * 1024 * 1024
    """The largest answer that is read of a service broker."""
    max_requests: int = 20
    """Requests to the API that wait for one service broker at once; more are refused."""
    ca_file: str = ""
    """Certificates (PEM) that service brokers are trusted by besides the system's."""
    skip_tls_verification: list[str] = msgspec.field(default_factory=list)
    """Service brokers whose certificate is not looked at, as host or host:port."""
    dashboard_scopes: list[str] = msgspec.field(
        default_factory=lambda: ["openid", "cloud_controller_service_permissions.read"]
    )
    """Scopes of the clients that are made for dashboards of services."""


class Services(_Section):
    route_services: bool = True
    """Whether services can be put in front of routes."""
    strict_route_service_signatures: bool = False
    """Refuse requests that come from a route service to a route that has none."""
    volume_services: bool = True
    """Whether apps can be bound to services that give them volumes."""
    volumes_dir: str = ""
    """Where the volumes of the driver `localdriver` lie; without it `volumes` in the data directory."""
    max_bindings_per_app_and_instance: int = 1
    """Bindings that one app may have to one service instance, to change credentials without a gap."""
    manifest_binding_seconds: float = 60.0
    """Seconds for which applying a manifest waits for a broker that makes a binding later."""
    drain_queue_bytes: int = 4 * 1024 * 1024
    """Bytes of log messages that wait for one syslog drain of an app; what does not fit is lost."""
    drain_timeout_seconds: float = 10.0
    """Seconds in which a syslog drain must take a connection, and then messages."""
    drain_backoff_max_seconds: float = 30.0
    """The longest pause before a syslog drain that failed is tried again."""
    ca_file: str = ""
    """Certificates (PEM) that route services and syslog drains are trusted by besides the system's."""
    skip_tls_verification: list[str] = msgspec.field(default_factory=list)
    """Route services and syslog drains whose certificate is not looked at, as host or host:port."""


class Outbound(_Section):
    allow: list[str] = msgspec.field(default_factory=list)
    """Private, loopback or link-local hosts that non-admins may make the platform call."""


class Defaults(_Section):
    app_memory_mb: int = 1024
    app_disk_mb: int = 1024
    app_disk_max_mb: int = 2048
    app_log_rate_bytes: int = 1_048_576
    instance_file_descriptors: int = 16384
    health_check_timeout_seconds: int = 60
    health_check_timeout_max_seconds: int = 180
    deployments: bool = True
    """Whether deployments can be created; off, apps are still restarted and those in progress go on."""
    stack: str = "cflinuxfs4"
    organization: str = "cupola"
    space: str = "dev"
    custom_buildpacks: bool = True


class Settings(_Section):
    """Everything that can be set. `data_dir` is where all state lives."""

    data_dir: Path = Path("~/.local/share/cupola")
    platform: Platform = msgspec.field(default_factory=Platform)
    tls: Tls = msgspec.field(default_factory=Tls)
    rate_limits: RateLimits = msgspec.field(default_factory=RateLimits)
    database: Database = msgspec.field(default_factory=Database)
    router: Router = msgspec.field(default_factory=Router)
    runtime: Runtime = msgspec.field(default_factory=Runtime)
    staging: Staging = msgspec.field(default_factory=Staging)
    logs: Logs = msgspec.field(default_factory=Logs)
    ssh: Ssh = msgspec.field(default_factory=Ssh)
    blobs: Blobs = msgspec.field(default_factory=Blobs)
    identity: Identity = msgspec.field(default_factory=Identity)
    uaa: Uaa = msgspec.field(default_factory=Uaa)
    jobs: Jobs = msgspec.field(default_factory=Jobs)
    brokers: Brokers = msgspec.field(default_factory=Brokers)
    services: Services = msgspec.field(default_factory=Services)
    outbound: Outbound = msgspec.field(default_factory=Outbound)
    defaults: Defaults = msgspec.field(default_factory=Defaults)

    @property
    def run_dir(self) -> Path:
        """Sockets, pid files and per-process tokens; mode 0700."""
        return self.data_dir / "run"

    @property
    def account(self) -> Account | None:
        """Whom controller and router run as where root starts them; None for root. Raises ConfigError."""
        name = self.platform.user
        if not name or os.geteuid() != 0:
            return None
        try:
            found = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except KeyError:
            raise ConfigError(
                f"platform.user = {name} is no user of this machine: make one, as with "
                f"`useradd --system --shell /usr/sbin/nologin {name}`"
            ) from None
        return Account(found.pw_uid, found.pw_gid) if found.pw_uid else None

    @property
    def listen(self) -> str:
        """The address of the public ports; `0.0.0.0` stands for every address of both families."""
        return self.platform.listen or ("0.0.0.0" if self.platform.system_domain else "127.0.0.1")  # noqa: S104 - a server's choice

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the public ports."""
        return self.listen in _LOOPBACK

    @property
    def api_url(self) -> str:
        """The public URL of the API, without a final slash."""
        return self._system_url("api")

    @property
    def uaa_url(self) -> str:
        """The public URL of the identity server."""
        if self.identity.mode == "external":
            return self.uaa.url.rstrip("/")
        return self._system_url("uaa", "/uaa")

    @property
    def login_url(self) -> str:
        """The public URL of the login pages; the identity server answers here as well."""
        if self.identity.mode == "external":
            return (self.uaa.login_url or self.uaa.url).rstrip("/")
        return self._system_url("login", "/uaa")

    @property
    def log_cache_url(self) -> str:
        """The public origin of log cache; clients append `/api/v1`."""
        return self._system_url("log-cache")

    def _system_url(self, name: str, path: str = "") -> str:
        domain = self.platform.system_domain
        return self.url_of(f"{name}.{domain}") if domain else f"{self.url_of('localhost')}{path}"

    def url_of(self, host: str) -> str:
        """The public origin of a system host or an app: https with a system domain."""
        if not self.platform.system_domain:
            return f"http://{host}:{self.platform.port}"
        port = self.platform.https_port
        return f"https://{host}" if port == 443 else f"https://{host}:{port}"

    @property
    def apps_domain(self) -> str:
        """The default shared domain of app routes."""
        if self.platform.apps_domain:
            return self.platform.apps_domain
        return f"apps.{self.platform.system_domain}" if self.platform.system_domain else "apps.localhost"

    @property
    def system_hosts(self) -> frozenset[str]:
        """Host names (lower case, without port) that the controller answers; every other host is an app route."""
        domain = self.platform.system_domain.lower()
        if not domain:
            return frozenset({"localhost", "127.0.0.1", "[::1]"})
        return frozenset(f"{name}.{domain}" for name in SYSTEM_NAMES)

    @property
    def inherits_package_access(self) -> bool:
        """Whether builds get the host's package mirrors, certificates and proxies."""
        return not self.platform.system_domain if self.staging.inherit is None else self.staging.inherit


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge the layers. `flags` maps `section.key` (or `data_dir`) to a value. Raises ConfigError."""
    merged: dict[str, Any] = {}
    if file is not None:
        try:
            merged = tomllib.loads(file.read_text())
        except OSError as error:
            raise ConfigError(f"cannot read {file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not valid TOML: {error}") from error
    for key, text in _from_environment(os.environ if environment is None else environment):
        _put(merged, key, text)
    for key, value in (flags or {}).items():
        if value is not None:
            _put(merged, key, _from_text(value, _type(key)) if isinstance(value, str) else value)
    try:
        settings = msgspec.convert(merged, Settings, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(f"invalid setting: {error}") from error
    settings.data_dir = settings.data_dir.expanduser().absolute()
    identity = settings.identity
    for problem in problems(identity.oidc, identity.ldap, settings.uaa, identity.mode):
        raise ConfigError(problem)
    for name in ("system_domain", "apps_domain"):
        setattr(settings.platform, name, _domain(f"platform.{name}", getattr(settings.platform, name)))
    _require_consistent(settings)
    return settings


def _domain(setting: str, value: str) -> str:
    """A domain in lower case. Raises ConfigError."""
    value = value.strip().lower().removesuffix(".")
    if value and (len(value) > 200 or not _DOMAIN.fullmatch(value)):
        raise ConfigError(f"{setting} = {value} is not a domain such as cf.example.com")
    return value


def _require_consistent(settings: Settings) -> None:
    platform, tls = settings.platform, settings.tls
    if not settings.is_loopback and not (platform.allow_plain_http or platform.system_domain):
        raise ConfigError(
            f"platform.listen = {platform.listen} would offer plain HTTP to the network: "
            "set platform.system_domain (TLS), or platform.allow_plain_http if that is what you want"
        )
    for name, certificate, key in (("", tls.certificate, tls.key), ("apps_", tls.apps_certificate, tls.apps_key)):
        if bool(certificate) != bool(key):
            raise ConfigError(f"tls.{name}certificate and tls.{name}key belong together: set both, or neither")
    if tls.source == "files" and not tls.certificate:
        raise ConfigError("tls.source = files needs tls.certificate and tls.key")
    if tls.source == "acme" and not platform.system_domain:
        raise ConfigError("tls.source = acme needs platform.system_domain: the names to be certified are below it")
    for name in ("min_cli_version", "recommended_cli_version"):
        version = getattr(platform, name)
        if version and not re.fullmatch(r"\d{1,9}(\.\d{1,9}){2}", version, re.ASCII):
            raise ConfigError(f"platform.{name} = {version} is not a version such as 8.0.0")
    if platform.reserved_domains_file and not Path(platform.reserved_domains_file).expanduser().is_file():
        raise ConfigError(f"platform.reserved_domains_file = {platform.reserved_domains_file} is not a file")
    if platform.system_domain and platform.https_port == platform.http_port:
        raise ConfigError(f"platform.https_port and platform.http_port are both {platform.http_port}: choose two")


def write_resolved(settings: Settings, path: Path) -> None:
    """Keep merged settings for the platform's processes, readable by their owner only."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    # The directory may be open to another user, who must not make root write elsewhere.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(settings, enc_hook=str))
    temporary.replace(path)


def read_resolved(path: Path) -> Settings:
    """What `write_resolved` kept. Raises ConfigError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Settings, dec_hook=_decode)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is not what this version writes: {error}") from error


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    sections = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    for section, kind in sections.items():
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            name = f"CUPOLA_{section.upper()}"
            if name in environment:
                found.append((section, environment[name]))
            continue
        for field in msgspec.structs.fields(kind):
            name = f"CUPOLA_{section.upper()}_{field.name.upper()}"
            if name in environment:
                found.append((f"{section}.{field.name}", _from_text(environment[name], field.type)))
    return found


def _type(key: str) -> Any:
    """The type of a setting, None of one that does not exist."""
    section, _, name = key.rpartition(".")
    kind = next((field.type for field in msgspec.structs.fields(Settings) if field.name == section), None)
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return None
    return next((field.type for field in msgspec.structs.fields(kind) if field.name == name), None)


def _from_text(text: str, kind: Any) -> Any:
    """Lists are `a,b`, tables `a=1,b=2`; everything else is converted with the other layers."""
    origin = getattr(kind, "__origin__", None)
    if origin is list:
        return [part for part in text.split(",") if part]
    if origin is dict:
        pairs = (part.partition("=") for part in text.split(",") if part)
        return {name.strip(): value.strip() for name, _, value in pairs}
    return text


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[name] = value


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)
