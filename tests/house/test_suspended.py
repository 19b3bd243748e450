"""Every write in a suspended or vanishing organization and space: refused to all but those who pass."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from cupola.store.orgs import organizations, spaces
from tests.house.town import CALLERS, Recipe, Town, all_recipes, operation_of

PINNED = Path(__file__).with_name("permissions.txt")
MEMBERS = ("org_manager", "space_developer", "space_manager", "space_supporter")
NOWHERE = {"POST /v3/resource_matches"}
"""Writes of members that touch no organization and no space."""


def writes(*callers: str) -> Iterator[tuple[str, str]]:
    """(operation, caller) of all writes that succeed as long as nothing is suspended."""
    for line in PINNED.read_text().splitlines():
        if line.startswith(("POST", "PATCH", "PUT", "DELETE")):
            *key, cells = line.partition("  ")
            statuses = dict(zip(CALLERS, cells.split(), strict=True))
            yield from ((key[0], caller) for caller in callers if statuses[caller].startswith("2"))


def outcome(town: Town, key: str, caller: str, *states: tuple[Any, str]) -> int:
    """The code of the error of a write in such a state, 0 when it succeeds; the town is afterwards as before."""
    recipe = all_recipes()[key]

    def first(town: Town) -> None:
        if recipe.first is not None:
            recipe.first(town)
        with town.cloud.database.write() as tx:
            for table, column in states:
                tx.run(update(table).values({column: True}))

    changed: Recipe = replace(recipe, first=first)
    answer = town.call(caller, operation_of(key), changed)
    town.restore()
    return int(answer.json()["errors"][0]["code"]) if answer.status_code >= 400 else 0


@pytest.mark.parametrize(
    ("table", "column", "code"),
    [
        (organizations, "suspended", 10017),
        (spaces, "suspended", 10019),
        (organizations, "deleting", 10020),
        (spaces, "deleting", 10020),
    ],
    ids=["organization suspended", "space suspended", "organization goes", "space goes"],
)
def test_members(town: Town, table: Any, column: str, code: int) -> None:
    """Managers of the organization pass what is so of the space."""
    found = {
        (key, caller): outcome(town, key, caller, (table, column))
        for key, caller in writes(*MEMBERS)
        if key not in NOWHERE
    }
    assert len(found) > 100
    passing = {"org_manager"} if table is spaces else set()
    expected = {(key, caller): 0 if caller in passing else code for key, caller in found}
    assert {one: found[one] for one in found if found[one] != expected[one]} == {}


def test_admins(town: Town) -> None:
    """Admins pass everything."""
    states = ((organizations, "suspended"), (spaces, "suspended"))
    found = {key: outcome(town, key, caller, *states) for key, caller in writes("admin")}
    assert {key for key, code in found.items() if code in {10017, 10019, 10020}} == set()
    assert {key: code for key, code in found.items() if code} == {}
