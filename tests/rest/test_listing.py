"""Lists over a real database: filters, order, pages, selectors, includes, and how many statements they take."""

from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import insert, update

from cupola import clock
from cupola.rest import listing
from cupola.rest.query import Query
from tests.rest.widgets import OPERATIONS, WIDGETS, House, parts, widgets


def test_an_empty_list_has_one_page(house: House) -> None:
    page = house.ok("GET", "/v3/widgets")
    link = {"href": "http://localhost:9080/v3/widgets?page=1&per_page=50"}
    assert page == {
        "pagination": {
            "total_results": 0,
            "total_pages": 1,
            "first": link,
            "last": link,
            "next": None,
            "previous": None,
        },
        "resources": [],
    }


def test_pages(house: House) -> None:
    for number in range(5):
        house.add(f"w{number}")
    page = house.ok("GET", "/v3/widgets?per_page=2&page=2")
    assert [one["name"] for one in page["resources"]] == ["w2", "w3"]
    base = "http://localhost:9080/v3/widgets?page={}&per_page=2"
    assert page["pagination"] == {
        "total_results": 5,
        "total_pages": 3,
        "first": {"href": base.format(1)},
        "last": {"href": base.format(3)},
        "next": {"href": base.format(3)},
        "previous": {"href": base.format(1)},
    }
    assert house.names("?per_page=2&page=3") == ["w4"]
    beyond = house.ok("GET", "/v3/widgets?per_page=2&page=9")
    assert (beyond["resources"], beyond["pagination"]["total_results"]) == ([], 5)
    full = house.ok("GET", "/v3/widgets?per_page=5")["pagination"]
    assert (full["total_results"], full["total_pages"], full["next"]) == (5, 1, None)


def test_following_links_sees_every_row_once(house: House) -> None:
    wanted = [f"a,b {number}%" for number in range(5)]
    for name in [*wanted, "other"]:
        house.add(name)
    listed = ",".join(quote(quote(name, safe=""), safe="") for name in wanted)
    url: str | None = f"/v3/widgets?per_page=2&order_by=-name&names={listed}"
    seen = []
    while url is not None:
        page = house.ok("GET", url)
        seen += [one["name"] for one in page["resources"]]
        assert page["pagination"]["total_results"] == 5
        following = page["pagination"]["next"]
        url = following["href"] if following else None
    assert seen == sorted(wanted, reverse=True)


def test_filters_are_and_of_ors(house: House) -> None:
    house.add("a", size=1)
    house.add("b", size=2)
    house.add("c", size=2)
    assert house.names("?names=a,b") == ["a", "b"]
    assert house.names("?names=a,b&sizes=2,3") == ["b"]
    assert house.names("?names=none") == []
    # What is no number matches nothing, rather than failing.
    assert house.names("?sizes=x") == []
    assert house.names("?sizes=x,1") == ["a"]
    assert house.names("?size=2") == ["b", "c"]
    assert house.names("?size=x") == []


def test_leaving_out(house: House) -> None:
    for name in "abc":
        house.add(name)
    assert house.names("?names[not]=a,c") == ["b"]
    assert house.names("?names=a,b&names[not]=a") == ["b"]
    assert house.problem("GET", "/v3/widgets?sizes[not]=1")[0] == 400


def test_guids(house: House) -> None:
    first, second = house.add("a"), house.add("b")
    house.add("c")
    assert house.names(f"?guids={second},{first}") == ["a", "b"]


def test_the_empty_value_means_no_value(house: House) -> None:
    house.add("in", box_guid=house.add_box("box"))
    house.add("out")
    assert house.names("?box_guids=") == ["out"]


def test_booleans(house: House) -> None:
    house.add("mine", owner="me")
    house.add("free")
    assert house.names("?owned=true") == ["mine"]
    assert house.names("?owned=false") == ["free"]
    assert house.problem("GET", "/v3/widgets?owned=yes")[:2] == (400, 10005)


def test_bad_parameters(house: House) -> None:
    status, code, detail = house.problem("GET", "/v3/widgets?wrong=1")
    assert (status, code) == (400, 10005)
    assert detail.endswith(
        "Unknown query parameter(s): 'wrong'. Valid parameters are: 'page', 'per_page', 'order_by', 'created_ats', "
        "'updated_ats', 'guids', 'names', 'sizes', 'box_guids', 'owned', 'size', 'include', 'label_selector'"
    )


def test_only_what_the_caller_may_see(house: House) -> None:
    house.add("mine", owner="me")
    house.add("theirs", owner="them")
    house.add("free")
    assert house.names(token="me read") == ["mine", "free"]
    assert house.names(token="me admin_read_only") == ["mine", "theirs", "free"]
    page = house.ok("GET", "/v3/widgets?per_page=1", token="me read")
    assert page["pagination"]["total_results"] == 2


def test_order(house: House) -> None:
    for name in ("b", "c", "a"):
        house.add(name)
    assert house.names() == ["b", "c", "a"]
    assert house.names("?order_by=name") == ["a", "b", "c"]
    assert house.names("?order_by=%2Bname") == ["a", "b", "c"]
    assert house.names("?order_by=-name") == ["c", "b", "a"]
    assert house.problem("GET", "/v3/widgets?order_by=size")[:2] == (400, 10005)


def test_ties_are_broken_by_guid(house: House) -> None:
    guids = [house.add(f"w{number}") for number in range(6)]
    with house.database.write() as tx:
        tx.run(update(widgets).values(created_at=5_000_000))
    listed = [one["guid"] for one in house.ok("GET", "/v3/widgets?order_by=created_at")["resources"]]
    assert listed == sorted(guids)
    listed = [one["guid"] for one in house.ok("GET", "/v3/widgets?order_by=-created_at")["resources"]]
    assert listed == sorted(guids, reverse=True)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("created_ats={1}", ["w1", "late1"]),
        ("created_ats={0},{2}", ["w0", "w2"]),
        ("created_ats[gt]={1}", ["w2"]),
        ("created_ats[gte]={1}", ["w1", "late1", "w2"]),
        ("created_ats[lt]={1}", ["w0"]),
        ("created_ats[lte]={1}", ["w0", "w1", "late1"]),
        ("created_ats[gt]={0}&created_ats[lt]={2}", ["w1", "late1"]),
        ("created_ats%5Bgt%5D={1}", ["w2"]),
        ("updated_ats[gt]={2}", []),
    ],
)
def test_times_are_whole_seconds(house: House, condition: str, expected: list[str]) -> None:
    seconds = [1_000_000_000 + number for number in range(3)]
    for number, second in enumerate(seconds):
        house.add(f"w{number}", created_at=second * 1_000_000, updated_at=0)
        if number == 1:
            # Shown as the same second, though it is almost the next one.
            house.add("late1", created_at=second * 1_000_000 + 999_999, updated_at=0)
    times = [clock.format_api(second * 1_000_000) for second in seconds]
    assert house.names("?" + condition.format(*times)) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("tier", ["a", "b", "c"]),
        ("!tier", ["d"]),
        ("tier=gold", ["a"]),
        ("tier==gold", ["a"]),
        ("tier!=gold", ["b", "c", "d"]),
        ("tier in (gold,silver)", ["a", "b"]),
        ("tier notin (gold,silver)", ["c", "d"]),
        ("tier=", ["c"]),
        ("tier,zone=eu", ["a"]),
        ("tier=gold,zone!=eu", []),
        ("example.com/x", ["d"]),
        ("TIER", []),
    ],
)
def test_label_selectors(house: House, selector: str, expected: list[str]) -> None:
    house.add("a", {"tier": "gold", "zone": "eu"})
    house.add("b", {"tier": "silver"})
    house.add("c", {"tier": ""})
    house.add("d", {"example.com/x": "1"})
    assert house.names("?label_selector=" + quote(selector)) == expected


def test_bad_label_selectors(house: House) -> None:
    lead = "The query parameter is invalid: "
    assert house.problem("GET", "/v3/widgets?label_selector=")[2] == lead + "Missing label_selector value"
    assert house.problem("GET", "/v3/widgets?label_selector=a+b")[2] == lead + "Invalid label_selector value"


def test_labels_follow_their_resource(house: House) -> None:
    guid = house.ok("POST", "/v3/widgets", {"name": "a", "metadata": {"labels": {"k": "v", "old": "1"}}})["guid"]
    metadata = {"labels": {"k": "w", "old": None}, "annotations": {"note": "free text"}}
    shown = house.ok("PATCH", f"/v3/widgets/{guid}", {"metadata": metadata})
    assert shown["metadata"] == {"labels": {"k": "w"}, "annotations": {"note": "free text"}}
    assert house.names("?label_selector=k%3Dw") == ["a"]
    assert house.names("?label_selector=k%3Dv") == []
    assert house.names("?label_selector=old") == []


def test_at_most_50_labels(house: House) -> None:
    labels = {f"k{number}": "v" for number in range(50)}
    guid = house.ok("POST", "/v3/widgets", {"name": "a", "metadata": {"labels": labels}})["guid"]
    status, code, detail = house.problem("PATCH", f"/v3/widgets/{guid}", {"metadata": {"labels": {"more": "v"}}})
    assert (status, code) == (422, 390020)
    assert detail == "Failed to add 1 labels because it would exceed maximum of 50"
    house.ok("PATCH", f"/v3/widgets/{guid}", {"metadata": {"labels": {"more": "v", "k0": None}}})


def test_the_list_of_a_parent(house: House) -> None:
    box = house.add_box("box")
    house.add("in", box_guid=box)
    house.add("hidden", box_guid=box, owner="somebody")
    house.add("out")
    path = f"/v3/boxes/{box}/widgets"
    assert house.names(path=path) == ["in", "hidden"]
    assert house.names(path=path, token="me read") == ["in"]
    assert house.names("?names=hidden", path=path) == ["hidden"]
    assert house.problem("GET", "/v3/boxes/none/widgets") == (404, 10010, "Box not found")
    link = house.ok("GET", path)["pagination"]["first"]["href"]
    assert link == f"http://localhost:9080{path}?page=1&per_page=50"
    # This list takes fewer parameters than the resource's own.
    valid = house.problem("GET", path + "?sizes=1")[2].partition("Valid parameters are: ")[2]
    assert valid.endswith("'guids', 'names', 'label_selector'")
    assert house.problem("GET", path + "?include=box")[0] == 400
    assert house.names("?names[not]=hidden", path=path) == ["in"]
    assert house.problem("GET", path + "?sizes[not]=1")[0] == 400


def test_includes_come_once(house: House) -> None:
    first, second = house.add_box("first"), house.add_box("second")
    house.add("a", box_guid=first, spare_box_guid=second)
    house.add("b", box_guid=first, spare_box_guid=first)
    house.add("c")
    page = house.ok("GET", "/v3/widgets?include=box")
    assert [box["name"] for box in page["included"]["boxes"]] == ["first"]
    page = house.ok("GET", "/v3/widgets?include=box,spare")
    assert sorted(box["name"] for box in page["included"]["boxes"]) == ["first", "second"]
    assert "included" not in house.ok("GET", "/v3/widgets")
    assert house.ok("GET", "/v3/widgets?include=box&names=none")["included"] == {"boxes": []}


def test_includes_of_one(house: House) -> None:
    box = house.add_box("box")
    guid = house.add("a", box_guid=box, spare_box_guid=box)
    shown = house.ok("GET", f"/v3/widgets/{guid}?include=box,spare")
    assert [one["guid"] for one in shown["included"]["boxes"]] == [box]
    assert "included" not in house.ok("GET", f"/v3/widgets/{guid}")


@pytest.mark.parametrize("path", ["/v3/widgets", "/v3/widgets/{guid}"])
def test_bad_includes(house: House, path: str) -> None:
    path = path.format(guid=house.add("a"))
    assert house.problem("GET", path + "?include=x")[2] == (
        "The query parameter is invalid: Invalid included resource: 'x'. Valid included resources are: 'box', 'spare'"
    )
    assert house.problem("GET", path + "?include=box,box")[2] == (
        "The query parameter is invalid: Duplicate included resource: 'box'"
    )


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?include=box,spare",
        "?label_selector=k",
        "?order_by=name&names=w1,w2,w3",
        "?per_page=3",
        "?per_page=2&page=2",
    ],
)
@pytest.mark.parametrize("token", ["root admin", "me read"])
def test_statements_do_not_grow_with_rows(house: House, query: str, token: str) -> None:
    def seed(first: int, count: int) -> None:
        for number in range(first, first + count):
            box = house.add_box(f"b{number}")
            guid = house.add(f"w{number}", {"k": "v"}, box_guid=box, spare_box_guid=box)
            with house.database.write() as tx:
                tx.run(insert(parts).values(widget_guid=guid, name="wheel"))

    def count() -> int:
        del house.statements[:]
        house.ok("GET", "/v3/widgets" + query, token=token)
        return len(house.statements)

    seed(0, 4)
    few = count()
    seed(4, 30)
    assert count() == few
    assert few <= 5


def test_views_get_what_belongs_to_each_row(house: House) -> None:
    guids = [house.add("a"), house.add("b"), house.add("c")]
    with house.database.write() as tx:
        for guid, name in ((guids[0], "x"), (guids[1], "y"), (guids[0], "z")):
            tx.run(insert(parts).values(widget_guid=guid, name=name))
    shown = house.ok("GET", "/v3/widgets")["resources"]
    assert [one["parts"] for one in shown] == [["x", "z"], ["y"], []]
    assert house.ok("GET", f"/v3/widgets/{guids[0]}")["parts"] == ["x", "z"]


def test_a_shape_is_built_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.names("?names=a&sizes=1")
    built: list[Any] = []
    original = listing._order

    def build(*given: Any) -> Any:
        built.append(given)
        return original(*given)

    monkeypatch.setattr(listing, "_order", build)
    house.names("?names=b,c&sizes=2")
    assert built == []
    house.names("?names=b&sizes=2&order_by=name")
    assert len(built) == 1


def test_values_are_never_part_of_a_statement(house: House) -> None:
    house.add("a")
    hostile = "x') OR 1=1 --"
    del house.statements[:]
    assert house.names("?names=" + quote(hostile)) == []
    assert house.names("?order_by=name&label_selector=k%3Dv&guids=" + quote(hostile)) == []
    assert not [statement for statement in house.statements if "1=1" in statement]


def test_pages_of_what_is_in_memory() -> None:
    query = Query(b"per_page=2&page=2", ["page", "per_page"])
    page = listing.page_of(query, "http://api/v3/x", list("abcde"))
    assert page["resources"] == ["c", "d"]
    assert page["pagination"]["total_pages"] == 3
    assert page["pagination"]["next"] == {"href": "http://api/v3/x?page=3&per_page=2"}


def test_parameters_in_the_order_of_upstream() -> None:
    lists = [operation.listing for operation in OPERATIONS if operation.listing is not None]
    assert listing.parameters(lists[0])[:8] == WIDGETS.parameters[:8]
    assert listing.parameters(lists[1])[-1] == "names[not]"
