"""Redirect URIs against the patterns of a client."""

import pytest

from cupola.uaa.redirects import is_allowed, is_pattern, with_parameters


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (
            "https://a.org/cb",
            ["https://a.org/cb", "https://A.org/cb", "https://a.org/cb?x=1"],
            ["https://a.org/cb/", "https://a.org", "https://a.org/CB", "http://a.org/cb", "https://b.a.org/cb"],
        ),
        (
            "https://a.org/**",
            ["https://a.org/", "https://a.org/x/y", "https://a.org"],
            ["https://a.org.evil.org/", "https://evil.org/a.org/", "https://a.org/../x", "https://a.org/%2e%2e/x"],
        ),
        ("https://a.org/*/cb", ["https://a.org/x/cb"], ["https://a.org/x/y/cb", "https://a.org/cb"]),
        (
            "https://*.a.org/cb",
            ["https://x.a.org/cb"],
            ["https://a.org/cb", "https://x.y.a.org/cb", "https://evil.org?.a.org/cb", "https://x:1.a.org/cb"],
        ),
        (
            "http://127.0.0.1:*/",
            ["http://127.0.0.1:1/", "http://127.0.0.1:65535/"],
            ["http://127.0.0.1/", "http://127.0.0.1:1.evil.org/", "http://127.0.0.1:@evil.org/"],
        ),
        ("https://a.org/cb?x=1", ["https://a.org/cb?x=1"], ["https://a.org/cb", "https://a.org/cb?x=1&y=2"]),
        ("com.example.app:/cb", ["com.example.app:/cb"], ["com.example.app:/x", "com.example.other:/cb"]),
    ],
)
def test_patterns(pattern: str, good: list[str], bad: list[str]) -> None:
    assert is_pattern(pattern)
    for uri in good:
        assert is_allowed(uri, [pattern]), uri
    for uri in bad:
        assert not is_allowed(uri, [pattern]), uri


@pytest.mark.parametrize(
    "pattern",
    ["", "*", "https://*", "https://*.org/", "https://a.*/", "https://**.a.org/", "http*://a.org/", "https://a.org/#x"],
)
def test_patterns_that_are_too_wide(pattern: str) -> None:
    assert not is_pattern(pattern)


def test_parameters_are_added() -> None:
    assert with_parameters("https://a.org/cb", {"code": "a&b", "state": None}) == "https://a.org/cb?code=a%26b"
    assert with_parameters("https://a.org/cb?x=1", {"code": "c"}) == "https://a.org/cb?x=1&code=c"
