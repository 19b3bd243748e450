"""`fields[...]`: related resources cut to the keys that were asked for, in lists and of one resource."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row

from cupola.config import load
from cupola.rest.openapi import document
from cupola.rest.operation import list_, show
from cupola.rest.resource import Fields, World
from cupola.store import rows
from tests.rest.widgets import WIDGETS, House, boxes, house


def their_boxes(world: World, page: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    found = rows.by_guids(world.tx, boxes, [row.box_guid for row in page])
    return [{"guid": box.guid, "name": box.name, "relationships": {"shelf": {"data": None}}} for box in found.values()]


SHOWN = replace(
    WIDGETS, includes=(), fields=[Fields("box", "boxes", ("guid", "name", "relationships.shelf"), their_boxes)]
)
OPERATIONS = [list_(SHOWN), show(SHOWN, query_status=400)]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path, OPERATIONS) as opened:
        yield opened


def test_keys_are_cut_to_those_asked_for(shop: House) -> None:
    box = shop.add_box("red")
    widget = shop.add("a", box_guid=box)
    shop.add("b", box_guid=box)
    page = shop.ok("GET", "/v3/widgets?fields[box]=name")
    assert page["included"] == {"boxes": [{"name": "red"}]}
    page = shop.ok("GET", "/v3/widgets?fields%5Bbox%5D=guid,relationships.shelf")
    assert page["included"] == {"boxes": [{"guid": box, "relationships": {"shelf": {"data": None}}}]}
    assert shop.ok("GET", f"/v3/widgets/{widget}?fields[box]=guid")["included"] == {"boxes": [{"guid": box}]}
    assert "included" not in shop.ok("GET", f"/v3/widgets/{widget}")
    assert shop.ok("GET", "/v3/widgets?fields[box]=name&names=none")["included"] == {"boxes": []}


@pytest.mark.parametrize(
    ("path", "query", "detail"),
    [
        ("", "fields[lid]=name", "Fields [lid] valid resources are: 'box'"),
        ("", "fields[box]=size", "Fields valid keys for 'box' are: 'guid', 'name', 'relationships.shelf'"),
        ("", "fields=name", "Fields must be an object"),
        ("", "fields[box=name", "Fields must be an object"),
        ("/{guid}", "fields[box]=relationships.shelf", "Fields valid keys for 'box' are: 'guid', 'name'"),
    ],
)
def test_what_there_is_not(shop: House, path: str, query: str, detail: str) -> None:
    guid = shop.add("a")
    found = shop.problem("GET", f"/v3/widgets{path.format(guid=guid)}?{query}")
    assert found == (400, 10005, f"The query parameter is invalid: {detail}")


def test_they_are_described(tmp_path: Path) -> None:
    paths = document(OPERATIONS, load(environment={}))["paths"]
    keys = {
        path: next(one["schema"]["items"]["enum"] for one in found["get"]["parameters"] if one["name"] == "fields[box]")
        for path, found in paths.items()
    }
    assert keys == {
        "/v3/widgets": ["guid", "name", "relationships.shelf"],
        "/v3/widgets/{guid}": ["guid", "name"],
    }
