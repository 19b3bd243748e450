"""Query strings: unescaping, lists, pages, times, selectors."""

import string as characters
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola import clock
from cupola.errors import CloudError
from cupola.rest.query import Query, Requirement, Timestamps, parse_selector


def query(raw: str, *allowed: str, status: int | None = 400) -> Query:
    names = allowed or ("page", "per_page", "order_by", "created_ats", "names", "include", "label_selector", "flag")
    return Query(raw.encode(), names, status=status)


def refused(raw: str, status: int = 400) -> CloudError:
    with pytest.raises(CloudError) as caught:
        query(raw, status=status)
    return caught.value


def test_unknown_parameters_are_named_with_what_is_known() -> None:
    with pytest.raises(CloudError) as caught:
        query("b=1&names=x&a=2", "page", "names")
    assert (caught.value.status, caught.value.code) == (400, 10005)
    assert caught.value.detail == (
        "The query parameter is invalid: Unknown query parameter(s): 'b', 'a'. Valid parameters are: 'page', 'names'"
    )


def test_some_operations_answer_422() -> None:
    error = refused("b=1", 422)
    assert (error.status, error.code) == (422, 10008)
    assert error.detail.startswith("Unknown query parameter(s): 'b'. ")


def test_some_operations_ignore_what_they_do_not_know() -> None:
    assert query("b=1", "page", status=None).get("b") == "1"


def test_values_are_unescaped_twice() -> None:
    # On the wire %252C; after the query string is decoded %2C, which is no separator; then a comma.
    assert query("names=a%252Cb,c%2Cd").values("names") == ["a,b", "c", "d"]
    assert query("names=100%2525").values("names") == ["100%"]
    assert query("names=a+b").values("names") == ["a b"]
    assert query("names=a%252Bb").values("names") == ["a+b"]


@pytest.mark.parametrize("raw", ["names=%00", "names=a%2500b", "names=b,%00"])
def test_no_text_has_a_nul(raw: str) -> None:
    reads: list[Callable[[str], object]] = [query(raw).get, query(raw).values]
    for read in reads:
        with pytest.raises(CloudError) as caught:
            read("names")
        assert caught.value.detail == "The query parameter is invalid: Names must not contain the NUL character"


def test_empty_values() -> None:
    assert query("names=").values("names") == [""]
    assert query("names=a,,b").values("names") == ["a", "", "b"]
    assert query("names").values("names") == [""]
    assert query("").values("names") is None


def test_the_last_of_several_wins() -> None:
    assert query("names=a&names=b").values("names") == ["b"]


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(CloudError) as caught:
        Query(b"names=\xff", ["names"])
    assert caught.value.status == 400
    assert query("names=%FF").values("names") == ["\ufffd"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", (1, 50)),
        ("page=3&per_page=7", (3, 7)),
        ("per_page=5000", (1, 5000)),
        ("page=1099511627775", (2**40 - 1, 50)),
    ],
)
def test_page(raw: str, expected: tuple[int, int]) -> None:
    assert query(raw).page() == expected


@pytest.mark.parametrize(
    "page",
    ["0", "-1", "x", "", "1.5", "%D9%A1", "1099511627776", "9" * 30, "0" * 19 + "1" + "0" * 100, "1" + "0" * 5000],
)
def test_bad_page(page: str) -> None:
    with pytest.raises(CloudError) as caught:
        query(f"page={page}").page()
    assert caught.value.detail == "The query parameter is invalid: Page must be a positive integer"


@pytest.mark.parametrize(
    ("per_page", "says"),
    [
        *((text, "a positive integer") for text in ("0", "-1", "x", "", "1.5", "1_0", "%D9%A1", "%2010")),
        *((text, "between 1 and 5000") for text in ("5001", "9" * 5000)),
    ],
)
def test_bad_per_page(per_page: str, says: str) -> None:
    with pytest.raises(CloudError) as caught:
        query(f"per_page={per_page}").page()
    assert caught.value.detail == f"The query parameter is invalid: Per page must be {says}"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", None),
        ("order_by=name", ("name", False)),
        ("order_by=-name", ("name", True)),
        ("order_by=%2Bname", ("name", False)),
    ],
)
def test_order(raw: str, expected: tuple[str, bool] | None) -> None:
    assert query(raw).order(["created_at", "name"]) == expected


@pytest.mark.parametrize("wanted", ["", "size", "--name", "name,created_at", "+-name"])
def test_bad_order(wanted: str) -> None:
    with pytest.raises(CloudError) as caught:
        query("order_by=" + quote(wanted)).order(["created_at", "name"])
    assert caught.value.detail == "The query parameter is invalid: Order by can only be: 'created_at', 'name'"


def test_boolean() -> None:
    assert query("flag=true").boolean("flag") is True
    assert query("flag=false").boolean("flag") is False
    assert query("").boolean("flag") is None
    with pytest.raises(CloudError, match="Flag must be 'true' or 'false'"):
        query("flag=1").boolean("flag")


NOON = "2026-11-24T12:00:00Z"


def test_timestamps() -> None:
    noon = clock.parse_api(NOON)
    assert query(f"created_ats={NOON},{NOON}").timestamps("created_ats") == [Timestamps("", (noon, noon))]
    both = query(f"created_ats[gt]={NOON}&created_ats%5Blte%5D={NOON}").timestamps("created_ats")
    assert both == [Timestamps("gt", (noon,)), Timestamps("lte", (noon,))]


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (f"created_ats[ge]={NOON}", "Created ats Invalid relational operator: 'ge'"),
        (f"created_ats[]={NOON}", "Created ats Invalid relational operator: ''"),
        (f"created_ats[gt={NOON}", "Created ats Invalid relational operator: 'gt'"),
        (
            f"created_ats[gt]={NOON},{NOON}",
            "Created ats only accepts one value when using a relational operator",
        ),
        *(
            (
                f"created_ats={quote(bad)}",
                "Created ats has an invalid timestamp format. Timestamps should be formatted as 'YYYY-MM-DDThh:mm:ssZ'",
            )
            for bad in (
                "",
                "now",
                "2026-11-24",
                "2026-11-24T12:00:00",
                "2026-11-24T12:00:00+00:00",
                "2026-11-24T12:00:00.5Z",
                "2026-1-4T1:0:0Z",
                "2026-13-24T12:00:00Z",
                "2026-02-30T12:00:00Z",
                f"{NOON},",
                f" {NOON}",
            )
        ),
    ],
)
def test_bad_timestamps(raw: str, detail: str) -> None:
    with pytest.raises(CloudError) as caught:
        query(raw).timestamps("created_ats")
    assert caught.value.detail == "The query parameter is invalid: " + detail


def test_only_what_has_operators_takes_brackets() -> None:
    assert "Unknown query parameter(s): 'names[not]'" in refused("names[not]=a").detail
    assert "Unknown query parameter(s): 'page[gt]'" in refused("page[gt]=1").detail


def test_includes() -> None:
    assert query("include=space,space.org").includes(["space", "space.org"]) == ["space", "space.org"]
    assert query("").includes(["space"]) == []
    with pytest.raises(CloudError, match=r"Invalid included resource: 'x'\. Valid included resources are: 'a', 'b'"):
        query("include=a,x").includes(["a", "b"])
    with pytest.raises(CloudError, match="Duplicate included resource: 'a'"):
        query("include=a,b,a").includes(["a", "b"])


def test_links_keep_filters_and_sort_keys() -> None:
    made = query("per_page=2&names=b%252C%20c&created_ats[gt]=x&page=1").link("http://api/v3/x", 2, 2)
    assert made == "http://api/v3/x?created_ats%5Bgt%5D=x&names=b%252C%20c&page=2&per_page=2"


@given(
    st.dictionaries(
        st.sampled_from(["names", "label_selector", "include"]),
        st.text(max_size=20).filter(lambda text: "\0" not in unquote(text)),
    )
)
def test_a_link_asks_for_the_same_again(pairs: dict[str, str]) -> None:
    raw = "&".join(f"{key}={quote(value)}" for key, value in pairs.items())
    first = query(raw)
    again = query(urlsplit(first.link("http://api/v3/x", 2, 3)).query)
    for name in pairs:
        assert again.values(name) == first.values(name)
    assert again.page() == (2, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", [Requirement("a", "exists")]),
        ("!a", [Requirement("a", "not_exists")]),
        ("a=b", [Requirement("a", "in", ("b",))]),
        ("a==b", [Requirement("a", "in", ("b",))]),
        ("a!=b", [Requirement("a", "not_in", ("b",))]),
        ("a=", [Requirement("a", "in", ("",))]),
        ("a in (b,c)", [Requirement("a", "in", ("b", "c"))]),
        ("a in(b)", [Requirement("a", "in", ("b",))]),
        ("a notin ( b , c )", [Requirement("a", "not_in", ("b", "c"))]),
        (" a , example.com/b = c ", [Requirement("a", "exists"), Requirement("example.com/b", "in", ("c",))]),
        ("in in (in)", [Requirement("in", "in", ("in",))]),
        ("notin", [Requirement("notin", "exists")]),
    ],
)
def test_selector(text: str, expected: list[Requirement]) -> None:
    assert parse_selector(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "a,",
        "!",
        "=b",
        "a b",
        "a in",
        "a in b",
        "a in (b",
        "a in (b))",
        "a in (b c)",
        "a in (b) c",
        "a in (b)(c)",
        "a=b=c",
        "a!b",
        "a=-b",
        "-a",
        "cloudfoundry.org/a",
        "a/b/c",
        "nodots/b",
        "a" * 64,
        "a=" + "b" * 64,
        "a\x00b",
        "ä",
    ],
)
def test_bad_selector(text: str) -> None:
    with pytest.raises(ValueError, match=r"^Invalid label_selector value$"):
        parse_selector(text)


@pytest.mark.parametrize("text", ["", "  "])
def test_empty_selector(text: str) -> None:
    with pytest.raises(ValueError, match=r"^Missing label_selector value$"):
        parse_selector(text)


def test_too_many_requirements() -> None:
    assert len(parse_selector(",".join(f"k{number}" for number in range(50)))) == 50
    with pytest.raises(ValueError, match=r"^Too many label_selector requirements \(maximum is 50\)$"):
        parse_selector(",".join(f"k{number}" for number in range(51)))


_ends = characters.ascii_letters + characters.digits
_name = st.builds(
    lambda first, middle, last: first + middle + last,
    st.sampled_from(_ends),
    st.text(_ends + "_.-", max_size=10),
    st.sampled_from(_ends),
)
_key = st.one_of(_name, _name.map(lambda name: "example.com/" + name))
_value = st.one_of(st.just(""), _name)
_blank = st.text(" ", max_size=2)


@st.composite
def _requirements(draw: st.DrawFn) -> tuple[Requirement, str]:
    """A requirement and one of the ways to write it."""
    key, blank, kind = draw(_key), draw(_blank), draw(st.sampled_from(["exists", "not_exists", "in", "not_in"]))
    if kind == "exists":
        return Requirement(key, kind), blank + key + blank
    if kind == "not_exists":
        return Requirement(key, kind), f"{blank}!{blank}{key}{blank}"
    values = tuple(draw(st.lists(_value, min_size=1, max_size=3)))
    if len(values) == 1 and draw(st.booleans()):
        sign = draw(st.sampled_from(["=", "=="])) if kind == "in" else "!="
        return Requirement(key, kind, values), f"{blank}{key}{blank}{sign}{blank}{values[0]}{blank}"
    word = "in" if kind == "in" else "notin"
    listed = f"{blank},{blank}".join(values)
    return Requirement(key, kind, values), f"{blank}{key} {blank}{word}{blank}({blank}{listed}{blank}){blank}"


@given(st.lists(_requirements(), min_size=1, max_size=6))
def test_what_is_written_is_read(written: list[tuple[Requirement, str]]) -> None:
    assert parse_selector(",".join(text for _, text in written)) == [requirement for requirement, _ in written]


@given(st.text(st.sampled_from("ab!=(), innot/.-"), max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    # Anything but a ValueError, which is how it refuses, would be a failed request.
    with suppress(ValueError):
        assert all(one.key and "," not in one.key and " " not in one.key for one in parse_selector(text))
