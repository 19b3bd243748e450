"""The catalog of a service broker: what it may say, and what is wrong with it (reference/service-brokers.md section 3).

`examine` gives all complaints, as a tree that becomes one text; `Catalog.of` reads a document without any.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cupola.domain.catalog_checks import (
    boolean,
    description,
    hashed,
    integer,
    maintenance_info,
    objects,
    requires,
    shareable,
    storable,
    string,
    strings,
)
from cupola.domain.service_schemas import schema_problems

__all__ = ["Catalog", "CatalogPlan", "CatalogService", "Report", "examine", "osmapi_features"]

_MAX_TAGS = 2048
_MAX_POLLING = 2**31 - 1
OSMAPI_VERSION = "1"
_OSMAPI_FEATURES = ("backup", "plan_definitions")


@dataclass(frozen=True)
class CatalogPlan:
    """A plan, what it inherits from its service resolved; `maximum_polling_duration` in seconds."""

    id: str
    name: str
    description: str
    free: bool
    bindable: bool
    plan_updateable: bool
    metadata: dict[str, Any]
    maximum_polling_duration: int | None
    maintenance_info: dict[str, Any]
    schemas: dict[str, Any]

    @classmethod
    def of(cls, given: Mapping[str, Any], service: Mapping[str, Any]) -> "CatalogPlan":
        """From a catalog without a complaint."""
        longest = given.get("maximum_polling_duration")
        return cls(
            id=given["id"],
            name=given["name"],
            description=given["description"],
            free=_default(given.get("free"), True),
            bindable=_default(given.get("bindable"), service["bindable"]),
            plan_updateable=_default(given.get("plan_updateable"), _default(service.get("plan_updateable"), False)),
            metadata=given.get("metadata") or {},
            maximum_polling_duration=None if longest is None else max(0, min(longest, _MAX_POLLING)),
            maintenance_info=given.get("maintenance_info") or {},
            schemas=given.get("schemas") or {},
        )


@dataclass(frozen=True)
class CatalogService:
    """A service with its plans; `dashboard_client` {id, secret, redirect_uri} or nothing."""

    id: str
    name: str
    description: str
    bindable: bool
    plan_updateable: bool
    instances_retrievable: bool
    bindings_retrievable: bool
    allow_context_updates: bool
    tags: list[str]
    requires: list[str]
    metadata: dict[str, Any]
    dashboard_client: dict[str, str] | None = field(repr=False)
    plans: list[CatalogPlan]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "CatalogService":
        """From a catalog without a complaint."""
        return cls(
            id=given["id"],
            name=given["name"],
            description=given["description"],
            bindable=given["bindable"],
            plan_updateable=_default(given.get("plan_updateable"), False),
            instances_retrievable=_default(given.get("instances_retrievable"), False),
            bindings_retrievable=_default(given.get("bindings_retrievable"), False),
            allow_context_updates=_default(given.get("allow_context_updates"), False),
            tags=given.get("tags") or [],
            requires=given.get("requires") or [],
            metadata=given.get("metadata") or {},
            dashboard_client=given.get("dashboard_client") or None,
            plans=[CatalogPlan.of(plan, given) for plan in given["plans"]],
        )


@dataclass(frozen=True)
class Catalog:
    """All services of a broker."""

    services: list[CatalogService]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Catalog":
        """From a document that `examine` finds nothing wrong with."""
        return cls([CatalogService.of(one) for one in document["services"]])


def _default(value: bool | None, otherwise: bool) -> bool:
    return otherwise if value is None else value


@dataclass
class Report:
    """Complaints about a part of a catalog, and reports on the parts below it."""

    heading: str = ""
    complaints: list[str] = field(default_factory=list)
    parts: list["Report"] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.complaints) or any(self.parts)

    def lines(self, depth: int = 0) -> Iterator[str]:
        """The text, line by line: headings only where something is wrong."""
        for complaint in self.complaints:
            yield "  " * depth + complaint
        for part in self.parts:
            if part:
                yield "  " * depth + part.heading
                yield from part.lines(depth + 1)

    @property
    def text(self) -> str:
        """All of it, one complaint a line."""
        return "".join(line + "\n" for line in self.lines())


def examine(document: Mapping[str, Any]) -> Report:
    """What is wrong with a catalog by itself, apart from what is stored already."""
    services = document.get("services")
    if services is not None and not isinstance(services, list):
        return Report(complaints=list(objects("Service list", services)))
    found = [one for one in services or [] if isinstance(one, dict)]
    report = Report(complaints=list(_of_catalog(services or [], found)))
    report.parts = [_of_service(one) for one in found]
    return report


def _of_catalog(services: list[Any], found: list[dict[str, Any]]) -> Iterator[str]:
    if len(found) < len(services):
        yield from objects("Service list", services)
    if not services:
        yield "Service broker must provide at least one service"
    if _repeated(one.get("id") for one in found):
        yield "Service ids must be unique"
    if _repeated(one.get("name") for one in found):
        yield "Service names must be unique within a broker"
    clients = (one.get("dashboard_client") for one in found)
    if _repeated(client.get("id") for client in clients if isinstance(client, dict)):
        yield "Service dashboard_client id must be unique"
    yield from _shared_plan_ids(found)


def _repeated(values: Iterable[Any]) -> bool:
    texts = [value for value in values if isinstance(value, str)]
    return len(set(texts)) < len(texts)


def plans_of(service: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those of a service's plans that are objects."""
    plans = service.get("plans")
    return [plan for plan in plans if isinstance(plan, dict)] if isinstance(plans, list) else []


def _shared_plan_ids(services: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    seen: dict[str, tuple[Any, Any]] = {}
    for service in services:
        for plan in plans_of(service):
            id_ = plan.get("id")
            if not isinstance(id_, str) or not id_:
                continue
            if id_ in seen:
                name, offering = seen[id_]
                yield (
                    f"Plan ids must be unique. Unable to register plan with id '{id_}' (plan name '{plan.get('name')}', "
                    f"service name '{service.get('name')}') because it uses the same id as another plan in the catalog "
                    f"(plan name '{name}', service name '{offering}')"
                )
            else:
                seen[id_] = (plan.get("name"), service.get("name"))


def _of_service(given: Mapping[str, Any]) -> Report:
    report = Report(f"Service {_name(given)}", list(_service_complaints(given)))
    plans = given.get("plans")
    if plans is None or plans == []:
        report.complaints.append("At least one plan is required")
    elif not isinstance(plans, list) or not all(isinstance(plan, dict) for plan in plans):
        report.complaints += objects("Service plans list", plans)
    else:
        report.parts = [_of_plan(plan) for plan in plans]
        if not any(report.parts):
            report.complaints += _repeated_plans(given, plans)
    return report


def _name(given: Mapping[str, Any]) -> str:
    return given["name"] if isinstance(given.get("name"), str) else ""


def _service_complaints(given: Mapping[str, Any]) -> Iterator[str]:
    yield from string("Service id", given.get("id"), required=True)
    yield from string("Service name", given.get("name"), required=True)
    yield from description("Service description", given.get("description"))
    yield from boolean('Service "bindable" field', given.get("bindable"), required=True)
    for name in ("plan_updateable", "bindings_retrievable", "instances_retrievable", "allow_context_updates"):
        yield from boolean(f'Service "{name}" field', given.get(name))
    yield from _tags(given)
    yield from strings('Service "requires" field', given.get("requires"))
    yield from hashed("Service metadata", given.get("metadata"))
    yield from shareable(given.get("metadata"))
    yield from _dashboard_client(given.get("dashboard_client"))
    yield from requires(given.get("requires"))
    yield from storable("Service", given)


def _tags(given: Mapping[str, Any]) -> Iterator[str]:
    tags = given.get("tags")
    complaints = list(strings("Service tags", tags))
    yield from complaints
    if tags and not complaints and len("".join(tags)) > _MAX_TAGS:
        yield f"Tags for the service {_name(given)} must be {_MAX_TAGS} characters or less."


def _dashboard_client(client: Any) -> Iterator[str]:
    if client is None or client == {}:
        return
    if not isinstance(client, dict):
        yield from hashed("Service dashboard client attributes", client)
        return
    for name in ("id", "secret", "redirect_uri"):
        yield from string(f"Service dashboard client {name}", client.get(name), required=True)


def _of_plan(given: Mapping[str, Any]) -> Report:
    report = Report(f"Plan {_name(given)}", list(_plan_complaints(given)))
    report.parts = [Report("Schemas", list(schema_problems(given.get("schemas"))))]
    return report


def _plan_complaints(given: Mapping[str, Any]) -> Iterator[str]:
    yield from string("Plan id", given.get("id"), required=True)
    yield from string("Plan name", given.get("name"), required=True)
    yield from description("Plan description", given.get("description"))
    yield from hashed("Plan metadata", given.get("metadata"))
    for name in ("free", "bindable", "plan_updateable"):
        yield from boolean(f"Plan {name}", given.get(name))
    yield from integer("Maximum polling duration", given.get("maximum_polling_duration"))
    yield from maintenance_info(given.get("maintenance_info"))
    yield from storable("Plan", given)


def _repeated_plans(service: Mapping[str, Any], plans: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    ids: set[str] = set()
    names: set[str] = set()
    for plan in plans:
        if plan["id"] in ids:
            yield f"Plan ids must be unique. Service {_name(service)} already has a plan with id '{plan['id']}'"
        if plan["name"] in names:
            yield (
                f"Plan names must be unique within a service. Service {_name(service)} already has a plan named "
                f"{plan['name']}"
            )
        ids.add(plan["id"])
        names.add(plan["name"])


def osmapi_features(metadata: Mapping[str, Any]) -> tuple[list[str], str | None]:
    """(features that we use, what is wrong with the declaration if anything) of a service's `metadata.osmapi`."""
    declared = metadata.get("osmapi")
    if declared is None:
        return [], None
    if not isinstance(declared, dict) or not isinstance(declared.get("version"), str):
        return [], 'metadata.osmapi must be an object with a string "version" and a list "features"'
    version = declared["version"]
    if version.partition(".")[0] != OSMAPI_VERSION:
        shown = msgspec.json.encode(version[:40]).decode()
        return [], f'metadata.osmapi has version {shown}, and this platform speaks version "{OSMAPI_VERSION}" only'
    features = declared.get("features")
    if not isinstance(features, list) or not all(isinstance(one, str) for one in features):
        return [], "metadata.osmapi.features must be a list of strings"
    return [one for one in _OSMAPI_FEATURES if one in features], None
