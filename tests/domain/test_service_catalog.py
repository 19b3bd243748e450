"""What is wrong with a catalog, in Cloud Foundry's words and order."""

from typing import Any

import pytest

from cupola.domain.service_catalog import Catalog, examine, osmapi_features
from cupola.domain.service_schemas import parameters_problems
from tests.brokers.scripted import catalog, plan, service

DRAFT = "http://json-schema.org/draft-04/schema#"


def text(*services: Any) -> str:
    return examine({"services": list(services)}).text


def complaint(**changes: Any) -> str:
    """What is said of a service that differs from a good one."""
    given = {name: value for name, value in service(**changes).items() if value is not ...}
    found = text(given)
    heading = f"Service {given.get('name') if isinstance(given.get('name'), str) else ''}\n"
    return found.removeprefix(heading)


def plan_complaint(**changes: Any) -> str:
    """What is said of a plan that differs from a good one."""
    given = {name: value for name, value in plan(**changes).items() if value is not ...}
    found = text(service(plans=[given]))
    heading = f"Service db\n  Plan {given.get('name') if isinstance(given.get('name'), str) else ''}\n"
    return found.removeprefix(heading)


def test_nothing_is_wrong_with_a_good_catalog() -> None:
    full = service(
        tags=["a"],
        requires=["syslog_drain", "route_forwarding", "volume_mount"],
        metadata={"shareable": True},
        dashboard_client={"id": "i", "secret": "s", "redirect_uri": "http://d"},
        plan_updateable=True,
        plans=[
            plan(
                free=False,
                bindable=False,
                maximum_polling_duration=7,
                maintenance_info={"version": "1.2.3-rc.1+5", "description": "d"},
                schemas={"service_instance": {"create": {"parameters": {"$schema": DRAFT, "type": "object"}}}},
            )
        ],
    )
    assert not examine(catalog(full))
    (found,) = Catalog.of(catalog(full)).services
    (small,) = found.plans
    assert (small.free, small.bindable, small.plan_updateable, small.maximum_polling_duration) == (
        False,
        False,
        True,
        7,
    )


def test_what_is_left_out_is_inherited_or_usual() -> None:
    (found,) = Catalog.of(catalog(service(bindable=False))).services
    (small,) = found.plans
    assert (small.free, small.bindable, small.plan_updateable, small.maximum_polling_duration) == (
        True,
        False,
        False,
        None,
    )
    assert (found.instances_retrievable, found.bindings_retrievable, found.allow_context_updates) == (
        False,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ([], "Service broker must provide at least one service\n"),
        ([service("a"), {**service("b"), "id": "a-id"}], "Service ids must be unique\n"),
        (
            [service("a"), {**service("a", [plan("other")]), "id": "b"}],
            "Service names must be unique within a broker\n",
        ),
        (
            [service(name, dashboard_client={"id": "i", "secret": "s", "redirect_uri": "http://d"}) for name in "ab"],
            "Service dashboard_client id must be unique\n",
        ),
        (
            [service("a", [plan("p")]), service("b", [{**plan("q"), "id": "p-id"}])],
            (
                "Plan ids must be unique. Unable to register plan with id 'p-id' (plan name 'q', service name 'b') because "
                "it uses the same id as another plan in the catalog (plan name 'p', service name 'a')\n"
            ),
        ),
        (["x"], 'Service list must be an array of hashes, but has value ["x"]\n'),
    ],
)
def test_of_the_whole(services: Any, expected: str) -> None:
    assert text(*services) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"id": ...}, "  Service id is required\n"),
        ({"id": ""}, "  Service id is required\n"),
        ({"id": 1}, "  Service id must be a string, but has value 1\n"),
        ({"name": None}, "  Service name is required\n"),
        ({"name": {"a": [1, None, True, "b"]}}, '  Service name must be a string, but has value {"a"=>[1, nil, true, "b"]}\n'),
        ({"description": ...}, "  Service description is required\n"),
        ({"description": "x" * 10_001}, "  Service description may not have more than 10000 characters\n"),
        ({"bindable": ...}, '  Service "bindable" field is required\n'),
        ({"bindable": "true"}, '  Service "bindable" field must be a boolean, but has value "true"\n'),
        ({"plan_updateable": 0}, '  Service "plan_updateable" field must be a boolean, but has value 0\n'),
        ({"bindings_retrievable": 1}, '  Service "bindings_retrievable" field must be a boolean, but has value 1\n'),
        ({"tags": "a"}, '  Service tags must be an array of strings, but has value "a"\n'),
        ({"tags": ["a", 1]}, '  Service tags must be an array of strings, but has value ["a", 1]\n'),
        ({"tags": ["x" * 2049]}, "  Tags for the service db must be 2048 characters or less.\n"),
        ({"requires": {}}, '  Service "requires" field must be an array of strings, but has value {}\n'),
        ({"requires": ["magic"]}, '  Service "requires" field contains unsupported value "magic"\n'),
        ({"metadata": []}, "  Service metadata must be a hash, but has value []\n"),
        ({"metadata": {"shareable": "y"}}, '  Service metadata shareable must be a boolean, but has value "y"\n'),
        ({"dashboard_client": 1}, "  Service dashboard client attributes must be a hash, but has value 1\n"),
        (
            {"dashboard_client": {"secret": 2}},
            ("  Service dashboard client id is required\n"
            "  Service dashboard client secret must be a string, but has value 2\n"
            "  Service dashboard client redirect_uri is required\n"),
        ),
        ({"plans": []}, "  At least one plan is required\n"),
        ({"plans": ...}, "  At least one plan is required\n"),
        ({"plans": {}}, "  Service plans list must be an array of hashes, but has value {}\n"),
        ({"plans": [1]}, "  Service plans list must be an array of hashes, but has value [1]\n"),
        (
            {"plans": [plan("p"), {**plan("q"), "name": "p"}]},
            "  Plan names must be unique within a service. Service db already has a plan named p\n",
        ),
        ({"id": "x" * 256}, "  Service id may not have more than 255 characters\n"),
        ({"description": "a\0b"}, "  Service description must not contain the NUL character\n"),
    ],
)  # fmt: skip
def test_of_a_service(changes: dict[str, Any], expected: str) -> None:
    assert complaint(**changes) == expected


def test_a_repeated_plan_is_told_twice() -> None:
    twice = text(service("db", [plan("p"), {**plan("q"), "id": "p-id"}]))
    assert twice == (
        "Plan ids must be unique. Unable to register plan with id 'p-id' (plan name 'q', service name 'db') because it "
        "uses the same id as another plan in the catalog (plan name 'p', service name 'db')\n"
        "Service db\n"
        "  Plan ids must be unique. Service db already has a plan with id 'p-id'\n"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"id": ...}, "    Plan id is required\n"),
        ({"name": 1}, "    Plan name must be a string, but has value 1\n"),
        ({"description": ""}, "    Plan description is required\n"),
        ({"metadata": 1.5}, "    Plan metadata must be a hash, but has value 1.5\n"),
        ({"free": "no"}, '    Plan free must be a boolean, but has value "no"\n'),
        ({"bindable": []}, "    Plan bindable must be a boolean, but has value []\n"),
        ({"maximum_polling_duration": "1"}, '    Maximum polling duration must be an integer, but has value "1"\n'),
        ({"maximum_polling_duration": True}, "    Maximum polling duration must be an integer, but has value true\n"),
        ({"maintenance_info": "1"}, '    Maintenance info must be a hash, but has value "1"\n'),
        (
            {"maintenance_info": {}},
            (
                "    Maintenance info version is required\n"
                "    Maintenance info version must be a Semantic Version, but has value nil\n"
            ),
        ),
        (
            {"maintenance_info": {"version": "1.0"}},
            '    Maintenance info version must be a Semantic Version, but has value "1.0"\n',
        ),
        (
            {"maintenance_info": {"version": "1.0.0", "description": 1, "extra": 1, "more": 2}},
            (
                "    Maintenance info description must be a string, but has value 1\n"
                "    Maintenance info contains invalid key(s): extra, more\n"
            ),
        ),
        (
            {"maintenance_info": {"version": "1.0.0", "description": "x" * 1965}},
            "    Maintenance info must serialize to 2000 characters or fewer in JSON, but serializes to 2001 characters\n",
        ),
        ({"schemas": 1}, "    Schemas\n      Schemas must be a hash, but has value 1\n"),
        (
            {"schemas": {"service_instance": {"create": 1}, "service_binding": 2}},
            (
                "    Schemas\n"
                "      Schema service_instance.create must be a hash, but has value 1\n"
                "      Schema service_binding must be a hash, but has value 2\n"
            ),
        ),
    ],
)
def test_of_a_plan(changes: dict[str, Any], expected: str) -> None:
    assert plan_complaint(**changes) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ([], "Schema service_binding.create.parameters must be a hash, but has value []"),
        ({"type": "object"}, "Schema service_binding.create.parameters is not valid. Schema must have $schema key but was not present"),
        ({"$schema": "http://mine/schema"}, "Schema service_binding.create.parameters is not valid. Custom meta schemas are not supported."),
        ({"$schema": DRAFT, "$ref": "http://evil.example/x"}, "Schema service_binding.create.parameters is not valid. No external references are allowed: http://evil.example/x"),
        ({"$schema": DRAFT, "x": "y" * 65_536}, "Schema service_binding.create.parameters is not valid. Must not be larger than 64KB"),
    ],
)  # fmt: skip
def test_of_a_schema(schema: Any, expected: str) -> None:
    schemas = {"service_binding": {"create": {"parameters": schema}}}
    assert plan_complaint(schemas=schemas) == f"    Schemas\n      {expected}\n"


def test_a_schema_that_is_none() -> None:
    schemas = {
        "service_instance": {"update": {"parameters": {"$schema": DRAFT, "properties": {"a": {"type": "what"}}}}}
    }
    found = plan_complaint(schemas=schemas)
    assert found.startswith(
        "    Schemas\n      Schema service_instance.update.parameters is not valid. "
        "Must conform to JSON Schema Draft 04 (experimental support for later versions): "
        "The property '#/properties/a/type' is wrong: "
    )


def test_a_schema_may_refer_to_itself_and_name_a_property_ref() -> None:
    good = {
        "$schema": DRAFT,
        "definitions": {"a": {"type": "string"}},
        "properties": {"x": {"$ref": "#/definitions/a"}, "$ref": {"type": "string"}},
    }
    assert not examine(catalog(service(plans=[plan(schemas={"service_instance": {"create": {"parameters": good}}})])))


def test_a_schema_of_great_depth_costs_nobody_anything() -> None:
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(200):
        deep = {"not": deep}
    found = plan_complaint(schemas={"service_instance": {"create": {"parameters": {"$schema": DRAFT, **deep}}}})
    assert "nested deeper" in found


def test_several_complaints_in_their_order() -> None:
    given = {
        "services": [
            {**service("a", [{**plan("p"), "free": 1}]), "bindable": None},
            {**service("b"), "id": "a-id", "description": ""},
        ]
    }
    assert examine(given).text == (
        "Service ids must be unique\n"
        "Service a\n"
        '  Service "bindable" field is required\n'
        "  Plan p\n"
        "    Plan free must be a boolean, but has value 1\n"
        "Service b\n"
        "  Service description is required\n"
    )


@pytest.mark.parametrize(
    ("declared", "features", "wrong"),
    [
        (None, [], ""),
        (
            {"version": "1", "features": ["plan_definitions", "unheard of", "backup"]},
            ["backup", "plan_definitions"],
            "",
        ),
        ({"version": "1.4", "features": []}, [], ""),
        ({"version": "2", "features": ["backup"]}, [], 'speaks version "1" only'),
        ({"version": 1, "features": ["backup"]}, [], "must be an object"),
        ({"version": "1", "features": "backup"}, [], "must be a list of strings"),
        ("1", [], "must be an object"),
    ],
)
def test_what_a_broker_says_of_osmapi(declared: Any, features: list[str], wrong: str) -> None:
    found, why = osmapi_features({"osmapi": declared})
    assert found == features
    assert (why is None) == (not wrong)
    assert wrong in (why or "")
    # It is a warning, never a reason to refuse a catalog.
    assert not examine(catalog(service(metadata={"osmapi": declared})))


def test_parameters_against_a_schema() -> None:
    schema = {"$schema": DRAFT, "required": ["size"], "properties": {"size": {"type": "integer"}}}
    assert parameters_problems(schema, {"size": 1}) == []
    assert parameters_problems(schema, {}) == ["properties: 'size' is a required property"]
    assert parameters_problems(schema, {"size": "x"}) == ["size: 'x' is not of type 'integer'"]


def test_a_schema_that_cannot_be_used_forbids_nothing() -> None:
    assert parameters_problems({"type": "what"}, {"a": 1}) == []
    assert parameters_problems({"$ref": "http://evil.example/x"}, {"a": 1}) == []
    assert parameters_problems({"$ref": "#/missing"}, {"a": 1}) == []
    assert parameters_problems({"$ref": "#"}, {"a": 1}) == []
