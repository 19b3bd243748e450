"""Labels and annotations: which keys and values they may have, how they are merged, what they never cause."""

from typing import Any

import pytest

from tests.api.conftest import Cloud

LONG = "x" * 64


def _problem(cloud: Cloud, metadata: Any) -> str:
    status, code, detail = cloud.admin.problem("POST", "/v3/organizations", {"name": "o", "metadata": metadata})
    assert (status, code) == (422, 10008)
    return detail


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("a/b/c", "key has more than one '/'"),
        ("-a.b/name", "prefix '-a.b' must be in valid dns format"),
        ("cloudfoundry.org/a", "prefix 'cloudfoundry.org' is reserved"),
        ("CloudFoundry.ORG/a", "prefix 'cloudfoundry.org' is reserved"),
        ("example.com/", "key cannot be empty string"),
        ("", "key cannot be empty string"),
        ("a b", "'a b' contains invalid characters"),
        ("a%", "'a%' contains invalid characters"),
        (".a", "'.a' starts or ends with invalid characters"),
        ("a-", "'a-' starts or ends with invalid characters"),
        (LONG, "'xxxxxxxx...' is greater than 63 characters"),
    ],
)
def test_keys_of_labels_and_annotations(cloud: Cloud, key: str, problem: str) -> None:
    assert _problem(cloud, {"labels": {key: "v"}}) == f"Metadata label key error: {problem}"
    assert _problem(cloud, {"annotations": {key: "v"}}) == f"Metadata annotation key error: {problem}"


def test_a_prefix_is_a_dns_name_of_at_most_253(cloud: Cloud) -> None:
    fits = ".".join(["a" * 49] * 5) + ".bcd"
    assert len(fits) == 253
    cloud.admin.ok("POST", "/v3/organizations", {"name": "o", "metadata": {"labels": {f"{fits}/a": "1"}}}, 201)
    assert "must be in valid dns format" in _problem(cloud, {"labels": {f"{fits}e/a": "1"}})


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (LONG, "'xxxxxxxx...' is greater than 63 characters"),
        ("a b", "'a b' contains invalid characters"),
        ("_a", "'_a' starts or ends with invalid characters"),
    ],
)
def test_values_of_labels(cloud: Cloud, value: str, problem: str) -> None:
    assert _problem(cloud, {"labels": {"k": value}}) == f"Metadata label value error: {problem}"


def test_values_that_may_be(cloud: Cloud) -> None:
    metadata = {
        "labels": {"example.com/Name_1.x": "V-1.x", "empty": "", "a": "x" * 63},
        "annotations": {"example.com/note": "any text / at all " + "y" * 4982, "empty": ""},
    }
    made = cloud.admin.ok("POST", "/v3/organizations", {"name": "o", "metadata": metadata}, 201)
    assert made["metadata"] == metadata


def test_annotations_are_at_most_5000_characters(cloud: Cloud) -> None:
    expected = "Metadata annotation value error: 'yyyyyyyy...' is greater than 5000 characters"
    assert _problem(cloud, {"annotations": {"k": "y" * 5001}}) == expected


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ("text", "Metadata must be an object"),
        ({"labels": "text"}, "Metadata 'labels' is not an object"),
        ({"annotations": []}, "Metadata 'annotations' is not an object"),
        ({"colours": {}}, "Metadata has unexpected field(s): 'colours'"),
    ],
)
def test_metadata_has_a_form(cloud: Cloud, metadata: Any, problem: str) -> None:
    assert _problem(cloud, metadata) == problem


def test_null_deletes_and_what_is_not_named_stays(cloud: Cloud) -> None:
    both = {"labels": {"a": "1", "b": "2"}, "annotations": {"c": "3", "d": "4"}}
    path = (
        f"/v3/organizations/{cloud.admin.ok('POST', '/v3/organizations', {'name': 'o', 'metadata': both}, 201)['guid']}"
    )
    change = {"labels": {"a": None, "e": "5", "gone": None}, "annotations": {"c": None}}
    assert cloud.admin.ok("PATCH", path, {"metadata": change})["metadata"] == {
        "labels": {"b": "2", "e": "5"},
        "annotations": {"d": "4"},
    }
    # A key that is only deleted is not looked at, so that what older rules let in can go.
    assert cloud.admin.ok("PATCH", path, {"metadata": {"annotations": {"a b": None}}})["metadata"]["annotations"] == {
        "d": "4"
    }
    assert cloud.admin.ok("PATCH", path, {"name": "other"})["metadata"]["labels"] == {"b": "2", "e": "5"}


def test_there_are_at_most_50_labels_and_200_annotations(cloud: Cloud) -> None:
    labels = {f"k{number}": "v" for number in range(50)}
    path = f"/v3/organizations/{cloud.admin.ok('POST', '/v3/organizations', {'name': 'o', 'metadata': {'labels': labels}}, 201)['guid']}"
    more = {"metadata": {"labels": {"one": "more"}}}
    assert cloud.admin.problem("PATCH", path, more) == (
        422,
        390020,
        "Failed to add 1 labels because it would exceed maximum of 50",
    )
    cloud.admin.ok("PATCH", path, {"metadata": {"labels": {"one": "more", "k0": None}}})
    notes = {f"k{number}": "v" for number in range(201)}
    assert cloud.admin.problem("PATCH", path, {"metadata": {"annotations": notes}}) == (
        422,
        390023,
        "Failed to add 201 annotations because it would exceed maximum of 200",
    )


def test_it_is_always_there(cloud: Cloud) -> None:
    app = cloud.app()
    assert app["metadata"] == {"labels": {}, "annotations": {}}
    for path in ("/v3/apps", "/v3/spaces", "/v3/organizations", "/v3/processes", "/v3/stacks", "/v3/domains"):
        for one in cloud.admin.ok("GET", path)["resources"]:
            assert set(one["metadata"]) == {"labels", "annotations"}, path
