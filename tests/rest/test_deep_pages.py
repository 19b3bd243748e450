"""Pages far into a list: the same rows as by counting, without counting (rest/seek.py)."""

from typing import Any

import pytest
from sqlalchemy import delete, insert

from cupola.rest import seek
from tests.rest.widgets import House, widgets

COUNT = 2 * seek.DEEP + 10


@pytest.fixture
def many(house: House) -> House:
    """2010 widgets; names fall while ids rise, and every 20 of them share a time."""
    values = [
        {
            "guid": f"g{number:05}",
            "name": f"w{COUNT - number:05}",
            "created_at": number // 20 * 1_000_000,
            "updated_at": 0,
            "owner": "me" if number % 2 else None,
        }
        for number in range(COUNT)
    ]
    with house.database.write() as tx:
        tx.run(insert(widgets), values)
    return house


def walk(house: House, query: str, **more: Any) -> tuple[list[str], list[str]]:
    """Guids seen by following `next`, and those of each page asked for once more on its own."""
    url: str | None = "/v3/widgets" + query
    seen: list[str] = []
    urls: list[str] = []
    again: list[str] = []
    while url is not None:
        urls.append(url)
        page = house.ok("GET", url, **more)
        seen += [one["guid"] for one in page["resources"]]
        url = (page["pagination"]["next"] or {}).get("href")
    seek._bookmarks._known.clear()
    for url in reversed(urls):
        again = [one["guid"] for one in house.ok("GET", url, **more)["resources"]] + again
    return seen, again


@pytest.mark.parametrize("query", ["", "&order_by=name", "&order_by=-created_at", "&order_by=created_at"])
@pytest.mark.parametrize("token", ["root admin", "me read"])
def test_every_row_once_however_one_gets_there(many: House, query: str, token: str) -> None:
    seen, again = walk(many, "?per_page=250" + query, token=token)
    assert len(seen) == len(set(seen)) == COUNT
    assert again == seen
    expected = sorted(seen)
    if query == "&order_by=name":
        expected.reverse()
    elif query == "&order_by=-created_at":
        expected.sort(reverse=True)
    assert seen == expected


def goes_on(house: House, query: str, **more: Any) -> bool:
    """Whether the page was found from the row before it."""
    del house.statements[:]
    house.names(query, **more)
    (page,) = [statement for statement in house.statements if "LIMIT" in statement]
    return "(widgets.id) > " in page


def test_a_walk_goes_on_from_where_it_was(many: House) -> None:
    many.names("?per_page=500&page=2")
    assert goes_on(many, "?per_page=500&page=3")


def test_the_last_pages_are_counted_from_the_end(many: House) -> None:
    assert many.names("?per_page=250&page=9") == [f"w{number:05}" for number in range(10, 0, -1)]
    del many.statements[:]
    assert len(many.names("?per_page=250&page=8")) == 250
    assert "DESC" in next(statement for statement in many.statements if "LIMIT" in statement)
    beyond = many.ok("GET", "/v3/widgets?per_page=250&page=10")
    assert (beyond["resources"], beyond["pagination"]["total_results"]) == ([], COUNT)


def test_only_the_same_question_of_the_same_caller_goes_on(many: House) -> None:
    many.names("?per_page=500&page=2", token="me read")
    for query, token in (
        ("?per_page=500&page=3", "you read"),
        ("?per_page=250&page=5", "me read"),
        ("?per_page=500&page=3&order_by=name", "me read"),
    ):
        assert not goes_on(many, query, token=token)


def test_a_walk_skips_nothing_when_rows_vanish_behind_it(many: House) -> None:
    second = many.ok("GET", "/v3/widgets?per_page=500&page=2")
    with many.database.write() as tx:
        tx.run(delete(widgets).where(widgets.c.guid.in_([f"g{number:05}" for number in range(100)])))
    third = many.ok("GET", second["pagination"]["next"]["href"])
    assert third["resources"][0]["guid"] == "g01000"


def test_near_the_start_pages_are_what_they_count(many: House) -> None:
    many.names("?per_page=5&page=1")
    with many.database.write() as tx:
        tx.run(delete(widgets).where(widgets.c.guid.in_([f"g{number:05}" for number in range(3)])))
    assert many.ok("GET", "/v3/widgets?per_page=5&page=2")["resources"][0]["guid"] == "g00008"


@pytest.mark.parametrize("token", ["root admin", "me read"])
@pytest.mark.parametrize("order", ["", "&order_by=-created_at"])
def test_pages_of_a_filtered_list_are_those_of_its_rows(many: House, order: str, token: str) -> None:
    """A condition on a range, whose page SQLite finds by the condition's own index."""
    query = f"?created_ats[gt]=1970-01-01T00:01:29Z&per_page=7{order}"
    first = house_page(many, query, token)
    last = house_page(many, f"{query}&page={first['pagination']['total_pages']}", token)
    expected = [f"g{number:05}" for number in range(90 * 20, COUNT)]
    if order:
        expected.reverse()
    assert first["pagination"]["total_results"] == len(expected)
    assert [one["guid"] for one in first["resources"]] == expected[:7]
    assert [one["guid"] for one in last["resources"]] == expected[-(len(expected) % 7 or 7) :]


def house_page(house: House, query: str, token: str) -> Any:
    return house.ok("GET", "/v3/widgets" + query, token=token)


NARROWED = [
    "?owned=true",
    "?owned=true&order_by=-created_at",
    "?created_ats[gt]=1970-01-01T00:00:09Z",
    "?sizes=1&owned=true&order_by=created_at",
    # Those that match come last: a page of them is not among the first rows.
    "?created_ats[gt]=1970-01-01T00:01:38Z",
]


@pytest.mark.parametrize("query", NARROWED)
def test_a_page_is_the_same_wherever_it_is_looked_for(many: House, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def pages() -> list[Any]:
        return [house_page(many, f"{query}&per_page=7&page={number}", "root admin") for number in (1, 2, 4, 5, 6)]

    expected = pages()
    monkeypatch.setattr(seek, "_MANY", 10)
    assert pages() == expected
    assert all(page["pagination"]["total_results"] > 20 for page in expected)
    assert len(expected[0]["resources"]) == 7


@pytest.mark.parametrize(
    ("query", "looked"), [("?owned=true", 1), (NARROWED[-1], 2), ("?created_ats[gt]=1970-01-01T00:01:40Z&sizes=1", 0)]
)
def test_sqlite_looks_among_the_first_rows_and_sorts_only_where_it_has_to(
    many: House, query: str, looked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not many.database.is_sqlite:
        pytest.skip("PostgreSQL knows how many rows match")
    monkeypatch.setattr(seek, "_MANY", 10)
    del many.statements[:]
    many.names(f"{query}&per_page=5")
    assert len([statement for statement in many.statements if "LIMIT" in statement]) == looked


def test_no_page_is_looked_for_where_nothing_matches(many: House) -> None:
    del many.statements[:]
    assert many.names("?names=nobody") == []
    assert len([statement for statement in many.statements if "FROM widgets" in statement]) == 1


@pytest.mark.parametrize("token", ["root admin", "me read"])
@pytest.mark.parametrize("values", ["guids=g00003,g00001,g00007,nothing", "names=w02007,w02009,w02003,nothing"])
def test_rows_that_are_named_come_with_their_number(many: House, values: str, token: str) -> None:
    del many.statements[:]
    page = house_page(many, f"?{values}&per_page=2", token)
    assert len([statement for statement in many.statements if "FROM widgets" in statement]) == 1
    assert ([one["guid"] for one in page["resources"]], page["pagination"]["total_results"]) == (
        ["g00001", "g00003"],
        3,
    )
    last = house_page(many, f"?{values}&per_page=2&page=2&order_by=-created_at", token)
    assert [one["guid"] for one in last["resources"]] == ["g00001"]
    assert house_page(many, f"?{values}&per_page=2&page=3", token)["pagination"]["total_results"] == 3
