"""The small YAML reader against PyYAML: what both read is the same, and nothing else is guessed."""

import contextlib
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cupola.buildpacks.common.yaml_subset import YamlError, load

_SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff\ufffe\uffff"), max_size=20)  # fmt: skip
_KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True).filter(
    lambda key: isinstance(yaml.safe_load(key), str)
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=12
)


@settings(derandomize=True)
@given(_VALUES, st.sampled_from([None, True, False]))
@example("\xa0", None)
@example("0E0", None)
@example(["- a", "b: c", "#d"], True)
def test_what_pyyaml_writes_is_read_back(value: Any, flow: bool | None) -> None:
    assert load(yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)) == value


@pytest.mark.parametrize(
    "text",
    [
        "web: bundle exec puma -C config/puma.rb\nworker: sidekiq # in the background\n",
        "---\ndefault_process_types:\n  web: 'it''s'\n  other: \"a\\tb \\u00fc\"\n...\n",
        "processes:\n- type: web\n  command: run\n  platforms: {cloudfoundry: {sidecar_for: [web, worker]}}\n-   type: x\n    command: |\n      one\n      two\n",
        "a: >-\n  folded\n  text\n\n  more\nb: |+\n  kept\n\nc: plain text\n  over lines\n",
        "status_codes:\n  '404': /404.html\n  5xx: /50x.html\nroot: public/\n", "- 1\n- [a, {b: c}]\n-\n  - nested\n", "", "# nothing\n",
        "{}", "[]", "a:\n- 1\nb:\n", "\"quoted key\": 1\n'other': 2\n", "a: 1.5\nb: -3\nc: ~\nd: null\ne: 'null'\n", "url: http://host:80/x#y\n",
    ],
)  # fmt: skip
def test_what_buildpacks_and_apps_write(text: str) -> None:
    assert load(text) == yaml.safe_load(text)


def test_keys_are_text() -> None:
    assert load("404: /404.html\ntrue: 1\n{}: x\n".replace("{}", "1.5")) == {"404": "/404.html", "true": 1, "1.5": "x"}


@pytest.mark.parametrize(
    "text",
    [
        "web ./run\nx: 1\n", "a: [1, 2\n", "a: 'open\n", "a: b: c\n", "\tweb: x\n", "a: &anchor 1\n", "a: *alias\n", "a: !!python/object x\n",
        "a: 1\na: 2\n", "a: 1\n  b: 2\n", "- 1\nb: 2\n", "a: {b: 1]}\n", "a: @x\n", "[" * 200, "a:\n" + "".join(" " * n + "a:\n" for n in range(1, 80)),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(YamlError, match=r"^line \d+: "):
        load(text)


@settings(derandomize=True)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    # Any other exception than this one fails the test.
    with contextlib.suppress(YamlError):
        load(text)
