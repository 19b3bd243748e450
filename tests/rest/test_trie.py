"""Route matching."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.rest.trie import Trie


@pytest.fixture
def trie() -> Trie[str]:
    made: Trie[str] = Trie()
    for method, path in (
        ("GET", "/"),
        ("GET", "/v3"),
        ("GET", "/v3/apps"),
        ("POST", "/v3/apps"),
        ("GET", "/v3/apps/{guid}"),
        ("GET", "/v3/apps/{guid}/processes/{type}"),
        ("GET", "/v3/apps/{app}/processes/web/stats"),
        ("GET", "/v3/apps/special/tasks"),
        ("DELETE", "/v3/apps/{other}"),
    ):
        made.add(method, path, f"{method} {path}")
    return made


@pytest.mark.parametrize(
    ("method", "path", "value", "parameters"),
    [
        ("GET", "/", "GET /", {}),
        ("GET", "/v3", "GET /v3", {}),
        ("GET", "/v3/apps", "GET /v3/apps", {}),
        ("GET", "/v3/apps/", "GET /v3/apps", {}),
        ("POST", "/v3/apps", "POST /v3/apps", {}),
        ("GET", "/v3/apps/a", "GET /v3/apps/{guid}", {"guid": "a"}),
        ("DELETE", "/v3/apps/a", "DELETE /v3/apps/{other}", {"other": "a"}),
        ("GET", "/v3/apps/special/tasks", "GET /v3/apps/special/tasks", {}),
        # A literal that leads nowhere gives way to the parameter beside it.
        ("GET", "/v3/apps/special", "GET /v3/apps/{guid}", {"guid": "special"}),
        (
            "GET",
            "/v3/apps/special/processes/web",
            "GET /v3/apps/{guid}/processes/{type}",
            {"guid": "special", "type": "web"},
        ),
        ("GET", "/v3/apps/a/processes/web/stats", "GET /v3/apps/{app}/processes/web/stats", {"app": "a"}),
    ],
)
def test_match(trie: Trie[str], method: str, path: str, value: str, parameters: dict[str, str]) -> None:
    assert trie.match(method, path) == (value, parameters)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v3/apps"),
        ("GET", "/v3/app"),
        ("GET", "/v3/apps/a/b"),
        ("GET", "/v3/apps//processes/web"),
        ("GET", "/v3/apps/a/processes/web/stats/more"),
        ("GET", "/v2"),
    ],
)
def test_no_match(trie: Trie[str], method: str, path: str) -> None:
    assert trie.match(method, path) is None


def test_nothing_is_declared_twice(trie: Trie[str]) -> None:
    with pytest.raises(ValueError, match=r"GET /v3/apps/\{name\} is declared twice"):
        trie.add("GET", "/v3/apps/{name}", "again")


_segment = st.sampled_from(["a", "b", "{x}", "{y}"])


@given(
    st.sets(st.lists(_segment, min_size=1, max_size=4).map(tuple), max_size=8),
    st.lists(st.sampled_from("abc"), max_size=4),
)
def test_as_a_plain_search_would(templates: set[tuple[str, ...]], segments: list[str]) -> None:
    trie: Trie[tuple[str, ...]] = Trie()
    kept: dict[tuple[str, ...], tuple[str, ...]] = {}
    for template in templates:
        shape = tuple("{}" if part.startswith("{") else part for part in template)
        if shape not in kept:
            kept[shape] = template
            trie.add("GET", "/" + "/".join(template), template)
    fits = [
        shape
        for shape in kept
        if len(shape) == len(segments)
        and all(part in ("{}", segment) for part, segment in zip(shape, segments, strict=True))
    ]
    found = trie.match("GET", "/" + "/".join(segments))
    if not fits:
        assert found is None
        return
    assert found is not None
    # The earliest literal wins.
    best = min(fits, key=lambda shape: [part == "{}" for part in shape])
    assert found[0] == kept[best]
