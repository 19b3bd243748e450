"""Messages: every problem of a body, in words and order; missing is not null."""

from collections.abc import Iterator
from typing import Any

import pytest

from cupola.errors import CloudError
from cupola.rest.message import (
    Message,
    MetadataOnly,
    anything,
    array,
    boolean,
    integer,
    metadata,
    nested,
    object_,
    string,
    to_many,
    to_one,
)


class Inner(Message):
    box = to_one(required=True)
    extras = to_many()


class Whole(Message):
    name = string(required=True, min_length=2, max_length=5)
    nickname = string(nullable=True)
    kind = string(one_of=["red", "blue"])
    memory_in_mb = integer(more_than=0, at_most=10)
    count = integer(nullable=True, at_least=1)
    open_ = boolean()
    tags = array(items={"type": "string"}, checks=[lambda tags: ["has too many entries"] if len(tags) > 2 else []])
    options = object_()
    relationships = nested(Inner)
    secret = string(blank="can't be blank")
    free = anything(lambda value: ["Free must be odd"] if value == 2 else [])
    metadata = metadata()


GOOD: dict[str, Any] = {"name": "abc"}


def problems(**fields: Any) -> list[str]:
    return list(Whole({**GOOD, **fields}).problems())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": None}, "Name must be a string"),
        ({"name": 3}, "Name must be a string"),
        ({"name": "a"}, "Name is too short (minimum is 2 characters)"),
        ({"name": "abcdef"}, "Name is too long (maximum is 5 characters)"),
        ({"nickname": False}, "Nickname must be a string"),
        ({"kind": "green"}, "Kind must be one of 'red', 'blue'"),
        ({"memory_in_mb": "1"}, "Memory in mb is not a number"),
        ({"memory_in_mb": True}, "Memory in mb is not a number"),
        ({"memory_in_mb": None}, "Memory in mb is not a number"),
        ({"memory_in_mb": 1.5}, "Memory in mb must be an integer"),
        ({"memory_in_mb": 0}, "Memory in mb must be greater than 0"),
        ({"memory_in_mb": 11}, "Memory in mb must be less than or equal to 10"),
        ({"count": 0}, "Count must be greater than or equal to 1"),
        ({"open": "true"}, "Open must be a boolean"),
        ({"open": 1}, "Open must be a boolean"),
        ({"tags": "a"}, "Tags must be an array"),
        ({"tags": ["a", "b", "c"]}, "Tags has too many entries"),
        ({"options": []}, "Options must be an object"),
        ({"relationships": []}, "Relationships 'relationships' is not an object"),
        (
            {"relationships": {"box": {"data": {"guid": ""}}}},
            "Relationships Box guid must be between 1 and 200 characters",
        ),
        (
            {"relationships": {"box": {"data": {"guid": "a" * 201}}}},
            "Relationships Box guid must be between 1 and 200 characters",
        ),
        (
            {"relationships": {"box": {"data": {"guid": "a"}}, "x": 1, "y": 2}},
            "Relationships Unknown field(s): 'x', 'y'",
        ),
        ({"secret": ""}, "Secret can't be blank"),
        ({"secret": " "}, "Secret can't be blank"),
        ({"free": 2}, "Free must be odd"),
        ({"metadata": []}, "Metadata must be an object"),
        ({"metadata": {"labels": 1}}, "Metadata 'labels' is not an object"),
        ({"metadata": {"annotations": 1}}, "Metadata 'annotations' is not an object"),
        ({"metadata": {"labels": {"a/b/c": "v"}}}, "Metadata label key error: key has more than one '/'"),
        ({"metadata": {"labels": {"": "v"}}}, "Metadata label key error: key cannot be empty string"),
        (
            {"metadata": {"labels": {"CloudFoundry.org/a": "v"}}},
            "Metadata label key error: prefix 'cloudfoundry.org' is reserved",
        ),
        ({"metadata": {"labels": {"a b": "v"}}}, "Metadata label key error: 'a b' contains invalid characters"),
        (
            {"metadata": {"labels": {"a": "-v"}}},
            "Metadata label value error: '-v' starts or ends with invalid characters",
        ),
        (
            {"metadata": {"labels": {"a": "abcdefgh" * 8}}},
            "Metadata label value error: 'abcdefgh...' is greater than 63 characters",
        ),
        (
            {"metadata": {"annotations": {"a": "v" * 5001}}},
            "Metadata annotation value error: 'vvvvvvvv...' is greater than 5000 characters",
        ),
    ],
)
def test_one_problem(fields: dict[str, Any], expected: str) -> None:
    assert problems(**fields) == [expected]


@pytest.mark.parametrize(
    "fields",
    [
        {"nickname": None},
        {"count": None},
        {"memory_in_mb": 10},
        {"open": False},
        {"kind": "red"},
        {"relationships": {"box": {"data": {"guid": "g"}}, "extras": {"data": []}}},
        {"free": None},
        {"metadata": {"labels": {"example.com/a": "", "b": None}, "annotations": {"c d": None, "e": "\n"}}},
        {"metadata": {}},
    ],
)
def test_no_problem(fields: dict[str, Any]) -> None:
    assert problems(**fields) == []


@pytest.mark.parametrize(
    "box",
    [None, [], {}, {"data": None}, {"data": {}}, {"data": {"guid": "a", "x": 1}}, {"data": {"guid": "a"}, "x": 1}],
)
def test_a_relationship_of_another_form(box: Any) -> None:
    (problem,) = problems(relationships={"box": box})
    assert problem == 'Relationships Box must be structured like this: "box: {"data": {"guid": "valid-guid"}}"'


def test_a_relationship_whose_guid_is_no_text() -> None:
    assert problems(relationships={"box": {"data": {"guid": 1}}}) == [
        "Relationships Box guid must be a string",
        "Relationships Box guid must be between 1 and 200 characters",
    ]


def test_a_missing_relationship() -> None:
    assert problems(relationships={}) == ["Relationships 'relationships' must include one or more valid relationships"]
    assert problems(relationships={"extras": {"data": []}}) == [
        "Relationships Box can't be blank",
        'Relationships Box must be structured like this: "box: {"data": {"guid": "valid-guid"}}"',
    ]


@pytest.mark.parametrize("extras", [None, {"data": {"guid": "a"}}, {"data": ["a"]}, {"data": [{"guid": "a", "b": 1}]}])
def test_a_to_many_relationship_of_another_form(extras: Any) -> None:
    (problem,) = problems(relationships={"box": {"data": {"guid": "g"}}, "extras": extras})
    assert problem.startswith("Relationships Extras must be structured like this: ")


def test_problems_come_together_in_order_of_declaration_after_unknown_fields() -> None:
    with pytest.raises(CloudError) as caught:
        Whole.parse({"tags": 1, "zebra": 1, "open": 1, "ape": 2})
    assert (caught.value.status, caught.value.code) == (422, 10008)
    assert caught.value.detail == (
        "Unknown field(s): 'zebra', 'ape', Name must be a string, Open must be a boolean, Tags must be an array"
    )


def test_rules_between_fields_come_last() -> None:
    class Ruled(Message):
        first = integer()
        second = integer()

        def rules(self) -> Iterator[str]:
            if self.has("first") and self.has("second"):
                yield "First and second exclude each other"

    assert list(Ruled({"first": "x", "second": 1}).problems()) == [
        "First is not a number",
        "First and second exclude each other",
    ]


def test_unknown_fields_may_pass() -> None:
    class Open(Message):
        rejects_unknown = False
        name = string()

    assert Open.parse({"name": "a", "other": 1}).name == "a"
    assert "additionalProperties" not in Open.schema()


def test_missing_is_not_null() -> None:
    given = Whole.parse({"name": "abc", "nickname": None})
    assert (given.nickname, given.count) == (None, None)
    assert (given.has("nickname"), given.has("count")) == (True, False)
    assert given.only("name", "nickname", "count") == {"name": "abc", "nickname": None}


def test_values_are_read_from_where_they_are() -> None:
    box = {"data": {"guid": "g"}}
    extras = {"data": [{"guid": "a"}, {"guid": "b"}, {"guid": "a"}]}
    given = Whole.parse({"name": "abc", "open": False, "relationships": {"box": box, "extras": extras}})
    assert given.relationships.box == "g"
    assert given.relationships.extras == ["a", "b"]
    assert given.open_ is False
    assert Whole.parse({"name": "abc"}).relationships.box is None


def test_a_relationship_may_be_taken_away() -> None:
    class Clearing(Message):
        box = to_one(data_nullable=True)

    assert Clearing.parse({"box": {"data": None}}).box is None
    assert list(Clearing({"box": None}).problems()) != []


@pytest.mark.parametrize("document", [None, [], "a", 1, True])
def test_only_objects_are_bodies(document: Any) -> None:
    with pytest.raises(CloudError) as caught:
        MetadataOnly.parse(document)
    assert (caught.value.status, caught.value.code) == (400, 1001)


def test_schema() -> None:
    schema = Whole.schema()
    properties = schema["properties"]
    assert schema["required"] == ["name"]
    assert schema["additionalProperties"] is False
    assert properties["name"] == {"type": "string", "minLength": 2, "maxLength": 5}
    assert properties["nickname"] == {"type": ["string", "null"]}
    assert properties["memory_in_mb"] == {"type": "integer", "minimum": 1, "maximum": 10}
    assert properties["count"] == {"type": ["integer", "null"], "minimum": 1}
    assert properties["kind"]["enum"] == ["red", "blue"]
    assert properties["relationships"]["required"] == ["box"]
    assert "open" in properties


def test_a_nullable_choice_may_be_null_in_the_schema() -> None:
    class Choice(Message):
        color = string(nullable=True, one_of=["red"])

    assert Choice.schema()["properties"]["color"] == {"type": ["string", "null"], "enum": ["red", None]}
    assert list(Choice({"color": None}).problems()) == []
