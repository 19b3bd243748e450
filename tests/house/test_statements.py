"""A list costs the same number of SQL statements for one row as for twenty, whoever asks and whatever is included."""

from typing import Any

import pytest
from sqlalchemy import Column, Row, Table, UniqueConstraint, insert, select

from cupola import guid
from cupola.api.table import OPERATIONS
from cupola.rest.operation import Operation
from cupola.store.schema import metadata
from tests.house.town import Recipe, Town, all_recipes, key_of

LISTS = {key_of(one): one for one in OPERATIONS if one.listing is not None and key_of(one) in all_recipes()}
COPIES = 19
SHOWS_ONE = {"GET /v3/apps/{guid}/revisions/deployed"}
"""Lists of what is one for each process: copies do not show up there."""


def copy(town: Town, table: Table, row: Row[Any], number: int, own: dict[str, Any]) -> dict[str, Any]:
    """Insert another row like this one, with `own` values: what else must be unique is changed or copied as well."""
    values = {name: value for name, value in row._mapping.items() if name in table.c and name != "id"} | own
    for column in unique_columns(table, set(own)):
        if values.get(column.name) is None:
            continue
        if column.foreign_keys:
            values[column.name] = copy_of_referred(town, column, values[column.name], number)
        elif column.name == "guid":
            values["guid"] = guid.new()
        elif isinstance(values[column.name], str):
            values[column.name] += f"-{number}"
        else:
            values[column.name] += number + 1
    with town.cloud.database.write() as tx:
        tx.run(insert(table).values(values))
    return values


def unique_columns(table: Table, own: set[str]) -> list[Column[Any]]:
    """One column of each unique constraint that `own` columns do not meet: the guid, a name, or else a reference."""
    found: list[Column[Any]] = []
    groups = [list(one.columns) for one in table.constraints if isinstance(one, UniqueConstraint)]
    groups += [list(index.columns) for index in table.indexes if index.unique]
    if "id" not in table.c:
        groups.append(list(table.primary_key.columns))
    for group in groups:
        if not group or any(column.name in own for column in group):
            continue
        plain = [column for column in group if not column.foreign_keys]
        best = next(
            (column for column in plain if column.name in {"guid", "name", "name_key", "title", "version"}), None
        )
        found.append(best if best is not None else (plain or group)[-1])
    return list(dict.fromkeys(found))


def copy_of_referred(town: Town, column: Column[Any], value: Any, number: int) -> Any:
    (key,) = column.foreign_keys
    table = key.column.table
    with town.cloud.database.read() as tx:
        row = tx.one(select(table).where(key.column == value))
    assert row is not None
    return copy(town, table, row, number, {})[key.column.name]


def copy_with_company(town: Town, table: Table, row: Row[Any], number: int) -> None:
    """Copy a row and all rows that refer to it: what a list shows often hangs on those."""
    made = copy(town, table, row, number, {})
    for other in metadata.sorted_tables:
        for column in other.columns:
            if any(key.column is table.c.guid for key in column.foreign_keys):
                with town.cloud.database.read() as tx:
                    company = tx.all(select(other).where(column == row.guid))
                for at, one in enumerate(company):
                    copy(town, other, one, number * 100 + at, {column.name: made["guid"]})


def grow(town: Town, operation: Operation, recipe: Recipe) -> int:
    """Copy the row that the list shows, until there are twenty; gives how many the list now has for an admin."""
    assert operation.listing is not None
    resource = operation.listing.resource
    shown = town.call("admin", operation, recipe).json()["resources"]
    assert shown, "the town has none of these: let the recipe's list have one"
    wanted = town[recipe.sees] if recipe.sees else shown[0]["guid"]
    with town.cloud.database.read() as tx:
        row = tx.one(select(resource.table).where(resource.table.c.guid == wanted))
    assert row is not None
    for number in range(COPIES):
        copy_with_company(town, metadata.tables[resource.table.name], row, number)
    return int(town.call("admin", operation, recipe).json()["pagination"]["total_results"]) - len(shown)


def statements(town: Town, operation: Operation, recipe: Recipe, caller: str) -> list[str]:
    with town.cloud.database.watched() as seen:
        answer = town.call(caller, operation, recipe)
    assert answer.status_code == 200, answer.text
    return list(seen)


@pytest.mark.parametrize("key", LISTS)
def test_lists_cost_a_constant_number_of_statements(town: Town, key: str) -> None:
    operation, recipe = LISTS[key], all_recipes()[key]
    assert operation.listing is not None
    includes = operation.listing.resource.includes if operation.listing.includes else ()
    wanted = "&".join([*filter(None, [recipe.query]), "per_page=500"])
    forms = [
        wanted,
        *([f"{wanted}&include={','.join(dict.fromkeys(one.name for one in includes))}"] if includes else []),
    ]
    recipes = [Recipe(recipe.guid, query=form, path=recipe.path, sees=recipe.sees) for form in forms]
    asked = [(one, caller) for one in recipes for caller in ("admin", "space_developer", "org_manager")]
    try:
        before = [len(statements(town, operation, one, caller)) for one, caller in asked]
        grown = grow(town, operation, recipes[0])
        after = [statements(town, operation, one, caller) for one, caller in asked]
    finally:
        town.restore()
    assert grown == COPIES or key in SHOWS_ONE, "the copies of the row do not show up in this list"
    for (one, caller), few, many in zip(asked, before, after, strict=True):
        assert len(many) == few, f"{caller} {one.query}:\n" + "\n".join(many[-5:])
        assert few <= 8 + len(includes)
