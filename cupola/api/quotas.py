"""What organization and space quotas have in common: their limits in bodies and in answers. null is unlimited."""

from typing import Any, TypedDict

from sqlalchemy import Row

from cupola.rest.message import Message, boolean, integer

__all__ = ["Apps", "AppsShape", "Domains", "Routes", "RoutesShape", "Services", "ServicesShape", "shown_limits"]

_MOST = 2**31 - 1
_MOST_BYTES = 2**63 - 1


def _limit(most: int = _MOST) -> Any:
    return integer(nullable=True, at_least=0, at_most=most)


class Apps(Message):
    """Limits of started processes and running tasks."""

    total_memory_in_mb = _limit()
    per_process_memory_in_mb = _limit()
    total_instances = _limit()
    per_app_tasks = _limit()
    log_rate_limit_in_bytes_per_second = _limit(_MOST_BYTES)


class Services(Message):
    """Limits of service instances and keys."""

    total_service_keys = _limit()
    total_service_instances = _limit()
    paid_services_allowed = boolean(nullable=True)


class Routes(Message):
    """Limits of routes."""

    total_routes = _limit()
    total_reserved_ports = _limit()


class Domains(Message):
    """Limit of private domains."""

    total_domains = _limit()


class AppsShape(TypedDict):
    """Limits of started processes and running tasks."""

    total_memory_in_mb: int | None
    per_process_memory_in_mb: int | None
    total_instances: int | None
    per_app_tasks: int | None
    log_rate_limit_in_bytes_per_second: int | None


class ServicesShape(TypedDict):
    """Limits of service instances and keys."""

    paid_services_allowed: bool
    total_service_instances: int | None
    total_service_keys: int | None


class RoutesShape(TypedDict):
    """Limits of routes."""

    total_routes: int | None
    total_reserved_ports: int | None


def shown_limits(row: Row[Any]) -> dict[str, dict[str, Any]]:
    """The limits that both kinds of quota have, as the API groups them."""
    return {
        "apps": {
            "total_memory_in_mb": row.total_memory_in_mb,
            "per_process_memory_in_mb": row.per_process_memory_in_mb,
            "total_instances": row.total_instances,
            "per_app_tasks": row.per_app_tasks,
            "log_rate_limit_in_bytes_per_second": row.log_rate_limit_in_bytes_per_second,
        },
        "services": {
            "paid_services_allowed": row.paid_services_allowed,
            "total_service_instances": row.total_service_instances,
            "total_service_keys": row.total_service_keys,
        },
        "routes": {
            "total_routes": row.total_routes,
            "total_reserved_ports": row.total_reserved_ports,
        },
    }
