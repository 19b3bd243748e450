"""From YAML to checked values; every complaint names its application (behaviours.md section 14)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import yaml

from cupola import errors
from cupola.domain import route_options
from cupola.domain.apps import forbidden_names
from cupola.domain.manifests.units import to_bytes_rate, to_mb
from cupola.domain.processes import ENDPOINT
from cupola.errors import CloudError, Several
from cupola.store import labels

__all__ = [
    "AppManifest",
    "ProcessManifest",
    "RouteManifest",
    "ServiceManifest",
    "SidecarManifest",
    "env_text",
    "load",
    "parse",
]

MAX_BYTES = 1024 * 1024
_ROUTE = re.compile(r"(?:(?:https?|tcp)://)?[^\s/:?#]+(?::\d{1,5})?(?:/\S*)?")
_PROCESS_KEYS = (
    "command",
    "instances",
    "memory",
    "disk_quota",
    "log-rate-limit-per-second",
    "timeout",
    "health-check-type",
    "health-check-http-endpoint",
    "health-check-invocation-timeout",
    "health-check-interval",
    "readiness-health-check-type",
    "readiness-health-check-http-endpoint",
    "readiness-health-check-invocation-timeout",
    "readiness-health-check-interval",
)
_SPELLED = {
    key.replace("-", "_"): key
    for key in (*_PROCESS_KEYS, "cnb-credentials", "default-route", "no-route", "random-route")
}


@dataclass(frozen=True)
class ProcessManifest:
    """A process's section: `update` as PATCH takes it, `scale` as the scale action takes it."""

    type: str
    update: dict[str, Any] = field(default_factory=dict)
    scale: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RouteManifest:
    """A route's section."""

    route: str
    protocol: str | None = None
    options: dict[str, Any] | None = None


@dataclass(frozen=True)
class SidecarManifest:
    """A sidecar's section; memory in MiB."""

    name: str
    command: str
    process_types: list[str]
    memory_mb: int | None = None


@dataclass(frozen=True)
class ServiceManifest:
    """A service's section; parameters are for the broker."""

    name: str
    parameters: dict[str, Any] | None = None
    binding_name: str | None = None


@dataclass(frozen=True)
class AppManifest:
    """One checked application of a manifest. None means that the manifest does not say."""

    name: str
    lifecycle: str | None = None
    buildpacks: list[str] | None = None
    stack: str | None = None
    docker: dict[str, Any] | None = None
    environment: dict[str, str] | None = None
    features: dict[str, bool] | None = None
    metadata: dict[str, Any] | None = None
    processes: list[ProcessManifest] = field(default_factory=list)
    sidecars: list[SidecarManifest] = field(default_factory=list)
    routes: list[RouteManifest] = field(default_factory=list)
    services: list[ServiceManifest] = field(default_factory=list)
    no_route: bool = False
    random_route: bool = False
    default_route: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)
    """The application as it was written."""


class _Loader(yaml.SafeLoader):
    """Anchors and aliases are refused: they make small documents large."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave the parser out
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise errors.bad_request("Manifest does not support Anchors and Aliases")
        return super().compose_node(parent, index)


def load(text: bytes) -> list[dict[str, Any]]:
    """The `applications` of a YAML document. Raises 400, 422."""
    if len(text) > MAX_BYTES:
        raise errors.bad_request("Manifest size is too large. The maximum supported size is 1MB.")
    try:
        document = yaml.load(text, _Loader)  # noqa: S506  # a subclass of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise errors.message_parse(f"invalid YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(document, dict):
        raise errors.message_parse("invalid request body")
    if document.get("version") not in (None, 1):
        raise errors.unprocessable("Unsupported manifest schema version. Currently supported versions: [1].")
    applications = document.get("applications")
    if not isinstance(applications, list) or not applications:
        raise errors.unprocessable("Cannot parse manifest with no 'applications' field.")
    for index, application in enumerate(applications):
        if not isinstance(application, dict):
            raise errors.unprocessable(f"For application at index {index}: must be a mapping")
        _spell(application)
        listed = application.get("processes")
        for process in listed if isinstance(listed, list) else ():
            if isinstance(process, dict):
                _spell(process)
    return applications


def _spell(given: dict[str, Any]) -> None:
    """Give keys the spelling that is used here; people write `_` and `-` as they like."""
    for key in [*given]:
        usual = _SPELLED.get(key.replace("-", "_")) if isinstance(key, str) else None
        if usual is not None and usual != key and usual not in given:
            given[usual] = given.pop(key)


def parse(applications: list[dict[str, Any]], *, hashing: bool = True) -> list[AppManifest]:
    """Check all applications. Raises 422 with one error per problem. `hashing`: as in `route_options`."""
    found: list[AppManifest] = []
    problems: list[str] = []
    for index, given in enumerate(applications):
        name = given.get("name")
        shown = f"'{name}'" if isinstance(name, str) and name else f"at index {index}"
        mine: list[str] = []
        app = _application(given, mine, hashing=hashing)
        problems.extend(f"For application {shown}: {problem}" for problem in mine)
        found.append(app)
    if problems:
        several: list[CloudError] = [errors.unprocessable(problem) for problem in dict.fromkeys(problems)]
        raise several[0] if len(several) == 1 else Several(several)
    return found


def _application(given: Mapping[str, Any], problems: list[str], *, hashing: bool) -> AppManifest:
    name = given.get("name")
    if not isinstance(name, str) or not name:
        problems.append("Name must not be empty" if name in (None, "") else "Name must be a string")
        name = ""
    docker, buildpacks = given.get("docker"), _buildpacks(given, problems)
    if docker is not None and buildpacks:
        problems.append("Cannot specify both buildpack(s) and docker keys")
    if docker is not None and not isinstance(docker, dict):
        problems.append("Docker must be an object")
        docker = None
    lifecycle = given.get("lifecycle")
    if lifecycle is not None and lifecycle not in {"buildpack", "docker", "cnb"}:
        problems.append("Lifecycle type must be one of buildpack, docker, cnb")
    metadata = given.get("metadata")
    if metadata is not None:
        problems.extend(labels.problems(metadata))
    return AppManifest(
        name=name,
        lifecycle=lifecycle or ("docker" if docker else None),
        buildpacks=buildpacks,
        stack=_text(given, "stack", problems),
        docker=docker,
        environment=_environment(given, problems),
        features=_features(given, problems),
        metadata=metadata,
        processes=_processes(given, problems),
        sidecars=list(_sidecars(given, problems)),
        routes=list(_routes(given, problems, hashing=hashing)),
        services=_services(given, problems),
        no_route=_flag(given, "no-route", problems),
        random_route=_flag(given, "random-route", problems),
        default_route=_flag(given, "default-route", problems),
        given=given,
    )


def _text(given: Mapping[str, Any], key: str, problems: list[str]) -> str | None:
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        problems.append(f"{key.capitalize()} must be a string")
        return None
    return value


def _flag(given: Mapping[str, Any], key: str, problems: list[str]) -> bool:
    value = given.get(key, False)
    if not isinstance(value, bool):
        problems.append(f"{key.capitalize()} must be a boolean")
    return value is True


def _buildpacks(given: Mapping[str, Any], problems: list[str]) -> list[str] | None:
    one, several = given.get("buildpack"), given.get("buildpacks")
    if "buildpack" in given and "buildpacks" in given:
        problems.append("Buildpack and Buildpacks fields cannot be used together.")
    if several is not None:
        if not isinstance(several, list) or not all(isinstance(name, str) for name in several):
            problems.append("Buildpacks can only contain strings")
            return None
        return several
    if "buildpack" in given:
        # `default` and null mean detection.
        return [] if one in (None, "default", "null") else [str(one)]
    return None


def _environment(given: Mapping[str, Any], problems: list[str]) -> dict[str, str] | None:
    variables = given.get("env")
    if variables is None:
        return None
    if not isinstance(variables, dict):
        problems.append("Env must be an object of keys and values")
        return None
    problems.extend(f"Env {problem}" for problem in forbidden_names({str(name): 1 for name in variables}))
    return {str(name): env_text(value) for name, value in variables.items()}


def env_text(value: Any) -> str:
    """A variable as the text it becomes: numbers and booleans as YAML writes them, null as nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return str(value)


def _features(given: Mapping[str, Any], problems: list[str]) -> dict[str, bool] | None:
    features = given.get("features")
    if features is None:
        return None
    known = {"ssh", "revisions", "service-binding-k8s", "file-based-vcap-services"}
    well = isinstance(features, dict) and features.keys() <= known
    if not well or not features or not all(isinstance(value, bool) for value in features.values()):
        problems.append("Features must be a map of valid feature names to booleans (true = enabled, false = disabled)")
        return None
    return dict(features)


def _processes(given: Mapping[str, Any], problems: list[str]) -> list[ProcessManifest]:
    listed = given.get("processes") or []
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        problems.append("Processes must be an array of process configurations")
        return []
    found: dict[str, ProcessManifest] = {}
    if any(key in given for key in _PROCESS_KEYS):
        found["web"] = _process("web", given, problems)
    seen: set[str] = set()
    for one in listed:
        type_ = one.get("type")
        if not isinstance(type_, str) or not type_:
            problems.append("All Processes must specify a type")
            continue
        if type_ in seen:
            problems.append(f'Process "{type_}" may only be present once')
        seen.add(type_)
        found[type_] = _process(type_, one, problems)
        if one.get("user") is not None:
            # Of processes alone: an application has none for all of them.
            problems.extend(f'Process "{type_}": {bad}' for bad in _length_problems("User", one["user"], 255))
            found[type_].update["user"] = one["user"]
    return list(found.values())


def _process(type_: str, given: Mapping[str, Any], problems: list[str]) -> ProcessManifest:
    update: dict[str, Any] = {}
    scale: dict[str, Any] = {}
    lead = f'Process "{type_}": '
    if "command" in given:
        command = given["command"]
        # `null` and `default` bring the detected command back.
        update["command"] = None if command in (None, "null", "default") else command
        if update["command"] is not None:
            problems.extend(lead + problem for problem in _length_problems("Command", command, 4096))
    for key, name, convert, label in (
        ("memory", "memory_in_mb", to_mb, "Memory"),
        ("disk_quota", "disk_in_mb", to_mb, "Disk quota"),
        ("log-rate-limit-per-second", "log_rate_limit_in_bytes_per_second", to_bytes_rate, "Log rate limit per second"),
    ):
        if given.get(key) is not None:
            try:
                scale[name] = convert(given[key])
            except ValueError as error:
                problems.append(f"{lead}{label} {error}")
    if given.get("instances") is not None:
        bad = _number_problem(given["instances"], 0, 2_000_000)
        if bad:
            problems.append(f"{lead}Instances {bad}")
        scale["instances"] = given["instances"]
    _health(given, update, lead, problems)
    return ProcessManifest(type_, update, scale)


def _length_problems(label: str, value: Any, most: int) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{label} must be a string"
    elif not 1 <= len(value) <= most:
        yield f"{label} must be between 1 and {most} characters"


def _number_problem(value: Any, least: int, most: int | None = None) -> str:
    """What is wrong with a whole number, as the end of a sentence; "" when nothing is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "is not a number"
    if not isinstance(value, int):
        return "must be an integer"
    if value < least:
        return f"must be greater than or equal to {least}"
    return f"must be less than or equal to {most}" if most is not None and value > most else ""


def _health(given: Mapping[str, Any], update: dict[str, Any], lead: str, problems: list[str]) -> None:
    for prefix, target in (("health-check", "health_check"), ("readiness-health-check", "readiness_health_check")):
        check: dict[str, Any] = {}
        data: dict[str, Any] = {}
        label = prefix.replace("-", " ").capitalize()
        kind = given.get(f"{prefix}-type")
        if kind is not None:
            kind = "process" if kind == "none" else kind
            if kind not in {"port", "process", "http"}:
                problems.append(f'{lead}{label} type must be "port", "process", or "http"')
            check["type"] = kind
        if given.get(f"{prefix}-http-endpoint") is not None:
            data["endpoint"] = given[f"{prefix}-http-endpoint"]
            if kind not in (None, "http"):
                problems.append(f'{lead}{label} type must be "http" to set a health check HTTP endpoint')
            if not isinstance(data["endpoint"], str) or not ENDPOINT.fullmatch(data["endpoint"]):
                problems.append(f"{lead}{label} http endpoint must be a valid URI path")
        pairs = [("invocation-timeout", "invocation_timeout"), ("interval", "interval")]
        for key, name in pairs:
            if given.get(f"{prefix}-{key}") is not None:
                data[name] = given[f"{prefix}-{key}"]
        if target == "health_check" and given.get("timeout") is not None:
            data["timeout"] = given["timeout"]
        for name, value in data.items():
            bad = _number_problem(value, 1) if name != "endpoint" else ""
            if bad:
                field = "Timeout" if name == "timeout" else f"{label} {name.replace('_', ' ')}"
                problems.append(f"{lead}{field} {bad}")
        if data:
            check["data"] = data
        if check:
            update[target] = check


def _sidecars(given: Mapping[str, Any], problems: list[str]) -> Iterator[SidecarManifest]:
    listed = [] if given.get("sidecars") is None else given["sidecars"]
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        problems.append("Sidecars must be an array of sidecar configurations")
        return
    for one in listed:
        name, command, types = one.get("name"), one.get("command"), one.get("process_types")
        bad = [
            problem for label, value in (("Name", name), ("Command", command)) for problem in _required(label, value)
        ]
        if not isinstance(types, list):
            bad.append("Process types must be an array")
        elif not types:
            bad.append("Process types must have at least 1 process_type")
        memory = None
        try:
            memory = to_mb(one["memory"]) if one.get("memory") is not None else None
        except ValueError as error:
            bad.append(f"Memory {error}")
        problems.extend(f'Sidecar "{name}": {problem}' if name else f"Sidecar {problem.lower()}" for problem in bad)
        if not bad:
            yield SidecarManifest(name, command, types, memory)


def _required(label: str, value: Any) -> Iterator[str]:
    if value is None or value == "":
        yield f"{label} can't be blank"
    if not isinstance(value, str):
        yield f"{label} must be a string"


def _routes(given: Mapping[str, Any], problems: list[str], *, hashing: bool) -> Iterator[RouteManifest]:
    listed = given.get("routes") or []
    if not isinstance(listed, list):
        problems.append("Routes must be a list of route objects")
        return
    if given.get("no-route") and listed:
        problems.append("Cannot use the combination of properties: no-route, routes")
    if given.get("no-route") and given.get("random-route"):
        problems.append("Cannot use the combination of properties: no-route, random-route")
    if given.get("default-route") and given.get("random-route"):
        problems.append("Random-route and default-route may not be used together")
    for one in listed:
        if not isinstance(one, dict) or not isinstance(one.get("route"), str) or not one["route"].strip():
            problems.append("Routes must be a list of route objects")
            return
        route, protocol, options = one["route"], one.get("protocol"), one.get("options")
        if not _ROUTE.fullmatch(route):
            problems.append(f"The route '{route}' is not a properly formed URL")
        if protocol not in {None, "http1", "http2", "tcp"}:
            problems.append("Route protocol must be 'http1', 'http2' or 'tcp'.")
        if "options" in one:
            problems.extend(route_options.problems_in_manifest(route, options, hashing=hashing))
        yield RouteManifest(route, protocol, options if isinstance(options, dict) else None)


def _services(given: Mapping[str, Any], problems: list[str]) -> list[ServiceManifest]:
    listed = given.get("services") or []
    found = [_service(one) for one in listed] if isinstance(listed, list) else [None]
    if None in found:
        problems.append("Services must be a list of service instances")
    return [one for one in found if one is not None]


def _service(given: Any) -> ServiceManifest | None:
    """What is asked for, or None when that cannot be told."""
    if isinstance(given, str) and given:
        return ServiceManifest(given)
    if not isinstance(given, dict) or not given.keys() <= {"name", "parameters", "binding_name"}:
        return None
    name, parameters, binding_name = given.get("name"), given.get("parameters", {}), given.get("binding_name", "")
    if not isinstance(name, str) or not name or not isinstance(parameters, dict) or not isinstance(binding_name, str):
        return None
    return ServiceManifest(name, parameters or None, binding_name or None)
