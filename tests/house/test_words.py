"""Codes of errors, types of audit events and names of jobs are those of the contract, and nothing else."""

import ast
import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from cupola.api.table import OPERATIONS
from cupola.brokers.client import BrokerClient
from cupola.jobs.runner import Runner
from cupola.processes.handlers import handlers
from cupola.rest.operation import Operation
from cupola.store.jobs import jobs
from cupola.store.platform import audit_events
from tests.house import contract, pinned, source
from tests.house.test_permissions import entry, operation_key
from tests.house.town import Recipe, Town, all_recipes, key_of, operation_of

OWN_STATUSES = {
    1004: {413},  # a body that is too large
    10001: {502},  # a backend that does not answer
    10016: {429},  # too many requests wait for one service broker
    10008: {409, 413},  # a lock on what is being deleted; an upload that is too large
    130008: {422},  # as v3 answers (behaviour of route bindings), whatever the table says
}
"""Codes that are used with another status than upstream's as well."""
CODE, TITLE, STATUS = range(3)


def errors() -> set[tuple[int, str]]:
    known = {(one["code"], one["title"]) for one in contract.table("errors")["errors"]}
    reused = {(one["code"], one["lost"]) for one in contract.table("errors")["reused_codes"]}
    return known | reused


def test_every_error_is_one_of_the_contract() -> None:
    statuses = {(one["code"], one["title"]): one["http_status"] for one in contract.table("errors")["errors"]}
    wrong = []
    for place, call in source.calls("CloudError", "_too_many"):
        code, title, status = (one.value if isinstance(one, ast.Constant) else None for one in call.args[:3])
        if not isinstance(code, int):
            continue
        if (code, title) not in errors():
            wrong.append(f"{place}: {code} {title!r} is no error of the contract")
        expected = statuses.get((code, str(title)), status)
        if isinstance(status, int) and status not in {expected, *OWN_STATUSES.get(code, ())}:
            wrong.append(f"{place}: {code} {title!r} has status {expected}, not {status}")
    assert "\n".join(wrong) == ""


def test_every_error_says_something_that_can_be_checked() -> None:
    """Codes that are not constants where an error is made come from a place that has them as constants."""
    indirect = {
        place.rpartition(":")[0]
        for place, call in source.calls("CloudError")
        if not isinstance(call.args[CODE], ast.Constant)
    }
    assert indirect <= {"store/labels.py", "domain/manifests/apply.py", "api/service_bindings.py"}


def event_types() -> set[str]:
    return {one["type"] for one in contract.table("audit_event_types")}


def test_every_audit_event_is_one_of_the_contract() -> None:
    wrong, own = [], {key[0] for key in pinned.read_reasons("events_beyond_contract.txt")}
    for place, text in source.strings():
        if text in own:
            continue
        if re.fullmatch(r"(audit|app)\.[a-z_.{}-]+(crash|[a-z_{}-]+)", text) and text.startswith("audit."):
            pattern = re.compile(re.escape(text).replace(r"\{\}", "[a-z_-]+"))
            if not any(pattern.fullmatch(type_) for type_ in event_types()):
                wrong.append(f"{place}: {text}")
    assert "\n".join(wrong) == ""


def job_names() -> set[str]:
    return {one["operation"] for one in contract.table("job_operations")["operations"]}


def test_every_job_is_one_of_the_contract(town: Town) -> None:
    own = {key[0] for key in pinned.read_reasons("jobs_beyond_contract.txt")}
    assert set(handlers(town.cloud.settings)) - job_names() - own == set()
    for place, call in source.calls("enqueue", "completed"):
        name = call.args[1] if len(call.args) > 1 else None
        if isinstance(name, ast.Constant):
            assert name.value in job_names() | own, place


def writes() -> list[str]:
    """Keys of recipes that change something."""
    served = {key_of(operation) for operation in OPERATIONS}
    return [
        key
        for key, recipe in all_recipes().items()
        if operation_key(key) in served and recipe.leaves_traces(operation_of(key))
    ]


@pytest.fixture(scope="module")
def recorded(town: Town) -> dict[str, list[str]]:
    """What each writing operation, done by an admin, puts into the audit events."""
    found = {}
    recipes = all_recipes()
    for key in writes():
        if recipes[key].first is not None:
            recipes[key].first(town)  # type: ignore[misc]  # mypy forgets what was asked of a subscript
        last = _last_event(town)
        answer = town.call("admin", operation_of(key), replace(recipes[key], first=None))
        assert answer.status_code < 300, f"{key}: {answer.text[:500]}"
        with town.cloud.database.read() as tx:
            new = audit_events.select().where(audit_events.c.id > last).order_by(audit_events.c.id)
            found[key] = [row.type for row in tx.all(new)]
        town.restore()
    return found


def _last_event(town: Town) -> int:
    with town.cloud.database.read() as tx:
        return max([0, *map(int, tx.scalars(select(audit_events.c.id)))])


def test_operations_record_what_the_contract_says(recorded: dict[str, list[str]]) -> None:
    explained = pinned.read_reasons("events_exceptions.txt")
    missing = []
    for key, types in recorded.items():
        expected = (entry(key) or {}).get("audit_events") or []
        # One event for each type of role: the recipe gives or takes one role.
        if any(one.startswith("audit.user.") for one in types):
            continue
        missing += [f"{key} | {one}" for one in expected if one not in types and (key, one) not in explained]
    assert "\n".join(missing) == ""


def test_operations_record_nothing_else(recorded: dict[str, list[str]]) -> None:
    explained = pinned.read_reasons("events_exceptions.txt")
    more = []
    for key, types in recorded.items():
        found: Any = entry(key)
        if found is None:
            continue
        known = {*(found["audit_events"] or []), *(found["audit_events_indirect"] or [])}
        known |= {key[0] for key in pinned.read_reasons("events_beyond_contract.txt")}
        more += [f"{key} | {one}" for one in dict.fromkeys(types) if one not in known and (key, one) not in explained]
    assert "\n".join(more) == ""


def _job(town: Town, operation: Operation, recipe: Recipe) -> str | None:
    answer = town.call("admin", operation, recipe)
    location = answer.headers.get("Location", "")
    return location.rpartition("/")[2] if "/v3/jobs/" in location else None


def _row(town: Town, guid: str) -> Any:
    with town.cloud.database.read() as tx:
        return tx.one(jobs.select().where(jobs.c.guid == guid))


def _link_problems(town: Town, guid: str) -> list[str]:
    """What is wrong with the link to the job's resource."""
    shown = town.cloud.admin.ok("GET", f"/v3/jobs/{guid}")
    named = {one["operation"]: one["resource_link"] for one in contract.table("job_operations")["operations"]}
    links = {name for name in shown["links"] if name != "self"}
    expected = {named[shown["operation"]]} if named.get(shown["operation"]) else links
    # What is deleted already is not linked.
    return [] if links in (expected, set()) else [f"{shown['operation']} links {links}, not {expected}"]


async def _run(town: Town, guid: str) -> None:
    """Run what is to be done, as the controller does, until this job has ended or was put off."""
    settings, database = town.cloud.settings, town.cloud.database
    brokers = BrokerClient(settings)
    runner = Runner(database, handlers(settings, brokers), settings.jobs, database.bells)
    ended = asyncio.create_task(runner.wait(guid, 10))
    await asyncio.sleep(0)  # so that the first attempt is seen to end, also when it fails
    await runner.start(alone=True)
    await ended
    await runner.stop()
    await brokers.close()


def test_every_job_that_an_operation_starts_is_the_contracts_and_ends(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    """With one of everything there, nothing refers to what a job deletes."""
    wrong = []
    for key, recipe in all_recipes().items():
        if key not in writes():
            continue
        guid = _job(town, operation_of(key), recipe)
        if guid is not None:
            expected = (entry(key) or {}).get("job_operation")
            if expected and _row(town, guid).operation not in expected:
                wrong.append(f"{key} starts {_row(town, guid).operation}, not {expected}")
            wrong += _link_problems(town, guid)
            asyncio.run(_run(town, guid))
            ended = _row(town, guid)
            if ended.state != "COMPLETE":
                wrong.append(f"{key}: {ended.operation} is {ended.state} {ended.errors}: {caplog.text[-1000:]}")
        town.restore()
    assert "\n".join(wrong) == ""
