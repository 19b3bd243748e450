"""Filters against a reading of their own in Python: the same users, whatever the filter says."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from cupola.store import identity as tables
from cupola.store.database import Database
from cupola.uaa.problems import Problem
from cupola.uaa.scim_filter import Attribute, condition
from cupola.uaa.users import _ATTRIBUTES

PEOPLE = [
    ("ann", "Ann", ""),
    ("Bob", "", "O'Neil"),
    ("a_b", "A%", "x"),
    ('q"x', "Q", "Back\\slash"),
    ("and", "or", "eq"),
]
Person = tuple[str, str, str]
NAMES = {"userName": 0, "name.givenName": 1, "familyName": 2}
COMPARE: dict[str, Callable[[str, str], bool]] = {
    "eq": operator.eq,
    "co": lambda held, value: value in held,
    "sw": str.startswith,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


@dataclass(frozen=True)
class Filter:
    """A filter as text, and what it means."""

    text: str
    means: Callable[[Person], bool]


def _comparison(name: str, compare: str, value: str) -> Filter:
    def means(person: Person) -> bool:
        return COMPARE[compare](person[NAMES[name]].lower(), value.lower())

    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return Filter(f'{name} {compare} "{quoted}"', means)


def _present(name: str) -> Filter:
    return Filter(f"{name} pr", lambda person: person[NAMES[name]] != "")


def _joined(word: str, parts: list[Filter]) -> Filter:
    every = all if word == "and" else any
    text = f" {word} ".join(f"({part.text})" for part in parts)
    return Filter(text, lambda person: every(part.means(person) for part in parts))


_names = st.sampled_from(sorted(NAMES))
_values = st.sampled_from(["", "a", "ANN", "_", "%", '"', "\\", "'", "or", "o'n", 'q"', "b", "eq"])
_leaves = st.one_of(
    st.builds(_comparison, _names, st.sampled_from(sorted(COMPARE)), _values), st.builds(_present, _names)
)
_filters = st.recursive(
    _leaves,
    lambda inner: st.builds(_joined, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=4)),
    max_leaves=8,
)


@pytest.fixture
def people(fresh_database: Database) -> Database:
    with fresh_database.write() as tx:
        for name, given_name, family_name in PEOPLE:
            tables.create_user(tx, name, given_name=given_name, family_name=family_name)
    return fresh_database


def _found(database: Database, text: str) -> set[str]:
    with database.read() as tx:
        return set(tx.scalars(select(tables.identities.c.username).where(condition(text, _ATTRIBUTES))))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=_filters)
def test_filters_mean_what_they_say(people: Database, wanted: Filter) -> None:
    assert _found(people, wanted.text) == {person[0] for person in PEOPLE if wanted.means(person)}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="()\"\\' aeoprqndus.Nmtrue%_0123;-\u00e9", max_size=40))
def test_anything_else_is_refused(people: Database, text: str) -> None:
    try:
        found = _found(people, text)
    except Problem as problem:
        found, refused = set(), (problem.status, problem.error)
    else:
        refused = (400, "scim")
    assert refused == (400, "scim")
    assert found <= {person[0] for person in PEOPLE}


def test_one_statement_for_many_values(people: Database) -> None:
    text = " or ".join(f'userName eq "{number}"' for number in range(1500)) + ' or userName eq "BOB"'
    assert _found(people, text) == {"Bob"}
    mixed = 'userName eq "ann" or familyName sw "o\'" or userName eq "bob" and givenName eq "x"'
    assert _found(people, mixed) == {"ann", "Bob"}


def test_an_endpoint_refuses_by_itself() -> None:
    attributes: dict[str, Attribute] = {"username": Attribute(tables.identities.c.username_key, "folded")}
    seen: list[Any] = []
    condition('userName eq "a" or USERNAME co "b"', attributes, lambda *asked: seen.append(asked))
    assert seen == [("userName", "eq"), ("USERNAME", "co")]
    with pytest.raises(Problem, match="Invalid filter 'x'"):
        condition("x", attributes, wording="Invalid filter '{}'")
