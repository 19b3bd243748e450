"""Usage events of apps and services."""

import uuid
from collections.abc import Callable

from sqlalchemy import insert

from cupola.store.app_usage_events import app_usage_events
from cupola.store.service_usage_events import service_usage_events
from tests.house.town import Recipe, Town

_PLACE = {"created_at": 1, "space_guid": "s", "space_name": "s", "organization_guid": "o"}


def _app_event(town: Town) -> str:
    values = {"guid": str(uuid.uuid4()), "state": "STARTED", "app_guid": "a", "app_name": "a", **_PLACE}
    with town.cloud.database.write() as tx:
        tx.run(insert(app_usage_events).values(values))
    return str(values["guid"])


def _service_event(town: Town) -> str:
    instance = {"service_instance_guid": "i", "service_instance_name": "i"}
    values = {"guid": str(uuid.uuid4()), "state": "CREATED", **instance, **_PLACE}
    with town.cloud.database.write() as tx:
        tx.run(insert(service_usage_events).values(**values, service_instance_type="managed_service_instance"))
    return str(values["guid"])


MAKERS: dict[str, Callable[[Town], str]] = {"app_usage_event": _app_event, "service_usage_event": _service_event}

RECIPES = {
    f"{verb}/v3/{kind}_usage_events{rest}": Recipe(guid, sees=sees)
    for kind in ("app", "service")
    for verb, rest, guid, sees in (
        ("GET ", "", "", f"{kind}_usage_event"),
        ("GET ", "/{guid}", f"{kind}_usage_event", ""),
        ("POST ", "/actions/destructively_purge_all_and_reseed", "", ""),
    )
}
