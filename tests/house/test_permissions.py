"""Every operation called by everybody: the statuses are pinned in permissions.txt and agree with the contract."""

from functools import cache
from typing import Any

import pytest

from cupola.api.table import OPERATIONS
from cupola.rest.operation import Operation
from tests.house import contract, pinned
from tests.house.town import CALLERS, Recipe, Town, all_recipes, key_of, operation_of

HEADER = """
Who gets which answer: every operation called with a valid request, on a platform with one of everything.
Lists that succeed: `200` the thing of the recipe is seen, `some` only others, `none` nothing.
A `?word` behind a path is another form of the operation above. Recipes: tests/house/recipes.
"""
Table = dict[str, dict[str, str]]


def cell(operation: Operation, recipe: Recipe, town: Town, caller: str) -> str:
    """What one caller gets; the town is afterwards as before."""
    answer = town.call(caller, operation, recipe)
    status = str(answer.status_code)
    if status == "200" and "resources" in answer.text[-200_000:] and operation.listing is not None:
        seen = [one.get("guid") for one in answer.json()["resources"]]
        status = "none" if not seen else "200" if not recipe.sees or town[recipe.sees] in seen else "some"
    if recipe.first is not None or (answer.status_code < 400 and recipe.leaves_traces(operation)):
        town.restore()
    return status


def walked(town: Town) -> Table:
    """Operation to caller to cell."""
    recipes = all_recipes()
    keys = [key for operation in OPERATIONS for key in recipes if operation_key(key) == key_of(operation)]
    return {
        key: {caller: cell(operation_of(key), recipes[key], town, caller) for caller in CALLERS}
        for key in dict.fromkeys(keys)
    }


def operation_key(key: str) -> str:
    return key.partition("?")[0]


@pytest.fixture(scope="module")
def observed(town: Town) -> Table:
    return walked(town)


def lines(table: Table) -> list[str]:
    width = max(len(key) for key in table)
    names = [caller.replace("_", " ") for caller in CALLERS]
    head = [
        " " * width + "  " + "  ".join(f"{word:<7}" for word in row)
        for row in zip(*(columns(name) for name in names), strict=True)
    ]
    return [*head, *(f"{key:<{width}}  " + "  ".join(f"{table[key][one]:<7}" for one in CALLERS) for key in table)]


def columns(name: str) -> tuple[str, str, str]:
    words = name.replace("organization", "org").split()
    first, second, third = (*[""] * (3 - len(words)), *words)
    return first, second, third


def test_every_operation_has_a_recipe() -> None:
    served = {key_of(operation) for operation in OPERATIONS}
    recipes = {operation_key(key) for key in all_recipes()}
    assert sorted(served - recipes) == [], "say in tests/house/recipes how these are called"
    assert sorted(recipes - served) == [], "recipes of operations that are not served"


def test_who_gets_what_is_pinned(observed: Table) -> None:
    pinned.check("permissions.txt", HEADER, lines(observed))


def test_both_databases_answer_alike(observed: Table, postgres_town: Town) -> None:
    assert walked(postgres_town) == observed


def test_admins_succeed_as_the_contract_says(observed: Table) -> None:
    wrong = []
    for key, cells in observed.items():
        found, status = entry(key), cells["admin"]
        known = found["responses"]["success"] if found else None
        success = [str(one) for one in known or (200, 201, 202, 204)]
        if status not in success:
            wrong.append(f"{key} | admin | {status}")
    assert "\n".join(unexplained(wrong)) == ""


def test_who_may_is_what_the_contract_says(observed: Table) -> None:
    wrong = []
    for key, cells in observed.items():
        found = entry(key)
        if found is None or (found["roles_read"] is None and found["roles_permitted"] is None):
            continue
        wrong += [f"{key} | {one} | {cells[one]}" for one in CALLERS if not agrees(cells[one], found, one)]
    assert "\n".join(unexplained(wrong)) == ""


def agrees(status: str, found: Any, caller: str) -> bool:
    """Whether the contract's roles let the caller have this answer."""
    names = {role["role"] for role in (found["roles_read"] or []) + (found["roles_permitted"] or [])}
    if status == "some":
        # A part of a list is what everybody has who is not named for all of it.
        return caller not in named(names) or "all_roles" in names
    if status == "none":
        return caller not in named(names)
    if caller in {"admin_read_only", "global_auditor"} and found["method"] != "GET":
        return not status.startswith("2")
    return status.startswith("2") == (caller in named(names) or ("all_roles" in names and caller != "no_token"))


def test_no_token_is_always_401(observed: Table) -> None:
    open_to_all = {key_of(operation) for operation in OPERATIONS if operation.auth != "bearer"}
    assert {key: cells["no_token"] for key, cells in observed.items() if operation_key(key) not in open_to_all} == {
        key: "401" for key in observed if operation_key(key) not in open_to_all
    }


def test_who_reads_everything_writes_nothing(observed: Table) -> None:
    writes = {key: cells for key, cells in observed.items() if not key.startswith("GET ")}
    for caller in ("admin_read_only", "global_auditor"):
        allowed_anyway = {key for key, cells in writes.items() if cells[caller].startswith("2")}
        assert allowed_anyway == set(), caller


def test_nothing_breaks(observed: Table) -> None:
    broken = {key: cells for key, cells in observed.items() if any(status.startswith("5") for status in cells.values())}
    assert broken == {}


def entry(key: str) -> Any:
    """The contract's entry of a recipe's key, or None."""
    method, path = operation_key(key).split(" ")
    return contract.operations().get(contract.normal(method, path))


@cache
def explained() -> dict[tuple[str, ...], str]:
    lines = pinned.read_reasons("permissions_exceptions.txt")
    return {
        (key, caller.strip(), status): reason
        for (key, callers, status), reason in lines.items()
        for caller in callers.split(",")
    }


def unexplained(wrong: list[str]) -> list[str]:
    """Deviations without a line in permissions_exceptions.txt."""
    return [one for one in wrong if tuple(part.strip() for part in one.split("|")) not in explained()]


def named(names: set[str]) -> set[str]:
    """Our callers that the contract's roles name one by one."""
    may = {name.replace("organization_", "org_") for name in names} & {*CALLERS}
    if "unauthenticated" in names:
        may.add("no_token")
    # Who has a role in the space is a user of its organization in this town.
    if "org_user" in may:
        may |= {caller for caller in CALLERS if caller.startswith("space_")}
    return may


def test_every_exception_is_one(observed: Table) -> None:
    gone = [" | ".join(key) for key in explained() if observed.get(key[0], {}).get(key[1]) != key[2]]
    assert gone == [], "these lines of permissions_exceptions.txt explain what is no longer so"
