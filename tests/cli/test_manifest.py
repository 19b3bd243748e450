"""What `cupola push` makes of manifests and flags."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cupola.cli.manifest import Flags, ManifestProblem, applications, document, read_variables


def write(directory: Path, text: str, name: str = "manifest.yml") -> Path:
    (directory / name).write_text(text)
    return directory


def sections(directory: Path, flags: Flags | None = None) -> list[dict[str, Any]]:
    return [app.section for app in applications(directory, None, flags or Flags())]


def test_without_a_manifest_the_directory_names_the_app(tmp_path: Path) -> None:
    assert sections(tmp_path) == [{"name": tmp_path.name, "default-route": True}]
    assert sections(tmp_path, Flags(name="x", memory="64M")) == [{"name": "x", "memory": "64M", "default-route": True}]


def test_flags_lie_over_the_manifest(tmp_path: Path) -> None:
    write(tmp_path, "applications: [{name: a, memory: 1G, buildpack: old, instances: 3}]")
    found = sections(tmp_path, Flags(memory="64M", buildpacks=("new",), disk="1G", command="run", health_check="http"))
    assert found == [
        {
            "name": "a", "memory": "64M", "instances": 3, "disk_quota": "1G", "command": "run",
            "health-check-type": "http", "buildpacks": ["new"], "default-route": True,
        }
    ]  # fmt: skip


def test_flags_go_to_the_web_process_where_the_manifest_has_one(tmp_path: Path) -> None:
    write(tmp_path, "applications: [{name: a, processes: [{type: worker}, {type: web, instances: 1}]}]")
    (found,) = sections(tmp_path, Flags(instances=4, buildpacks=("b",)))
    assert found["processes"] == [{"type": "worker"}, {"type": "web", "instances": 4}]
    assert found["buildpacks"] == ["b"]
    assert "instances" not in found


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("{name: a}", Flags(), {"default-route": True}),
        ("{name: a, routes: [{route: x.y}]}", Flags(), {"routes": [{"route": "x.y"}]}),
        ("{name: a, no-route: true}", Flags(), {"no-route": True}),
        ("{name: a, routes: [{route: x.y}]}", Flags(no_route=True), {"no-route": True}),
        ("{name: a}", Flags(random_route=True), {"random-route": True}),
        ("{name: a, routes: [{route: x.y}]}", Flags(random_route=True), {"routes": [{"route": "x.y"}]}),
    ],
)
def test_an_app_without_a_word_on_routes_gets_the_default_one(
    tmp_path: Path, text: str, flags: Flags, expected: Any
) -> None:
    write(tmp_path, f"applications: [{text}]")
    assert sections(tmp_path, flags) == [{"name": "a", **expected}]


def test_paths_are_relative_to_the_manifest_and_not_sent(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    write(tmp_path, "applications: [{name: a, path: code}]")
    (app,) = applications(tmp_path, None, Flags())
    assert app.path == tmp_path / "code"
    assert "path" not in app.section
    write(tmp_path, "applications: [{name: a, path: nowhere}]")
    with pytest.raises(ManifestProblem, match="nowhere of a does not exist"):
        applications(tmp_path, None, Flags())


def test_variables_keep_their_type_alone_and_are_text_within_text(tmp_path: Path) -> None:
    write(tmp_path, "applications: [{name: ((name))-web, instances: ((count)), env: {TOKEN: 'a ((name)) b'}}]")
    write(tmp_path, "name: x\ncount: 1", "vars.yml")
    variables = {**read_variables([tmp_path / "vars.yml"]), "count": 2}
    (found,) = sections(tmp_path, Flags(variables=variables))
    assert found["name"] == "x-web"
    assert found["instances"] == 2
    assert found["env"] == {"TOKEN": "a x b"}
    with pytest.raises(ManifestProblem, match=r"uses \(\(name\)\): give it with --var name=VALUE"):
        sections(tmp_path)


def test_several_apps_are_pushed_together_or_chosen_by_name(tmp_path: Path) -> None:
    write(tmp_path, "applications: [{name: a}, {name: b}]")
    assert [one["name"] for one in sections(tmp_path)] == ["a", "b"]
    assert [one["name"] for one in sections(tmp_path, Flags(name="b", memory="1G"))] == ["b"]
    with pytest.raises(ManifestProblem, match="no application named c"):
        sections(tmp_path, Flags(name="c"))
    with pytest.raises(ManifestProblem, match=r"--memory is for one app, but .* has 2: choose one with --name"):
        sections(tmp_path, Flags(memory="1G"))


def test_one_app_may_be_pushed_under_another_name(tmp_path: Path) -> None:
    write(tmp_path, "applications: [{name: a, memory: 1G}]")
    assert sections(tmp_path, Flags(name="z")) == [{"name": "z", "memory": "1G", "default-route": True}]


def test_the_document_has_no_anchors(tmp_path: Path) -> None:
    write(tmp_path, "env: &e {A: '1'}\napplications: [{name: a, env: *e}, {name: b, env: *e}]")
    text = document(applications(tmp_path, None, Flags())).decode()
    assert "&" not in text
    assert "*" not in text
    assert [one["env"] for one in yaml.safe_load(text)["applications"]] == [{"A": "1"}, {"A": "1"}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("applications: [", "is not valid YAML"),
        ("apps: []", "has no list `applications`"),
        ("applications: [1]", "has no list `applications` of mappings"),
        ("applications: [{memory: 1G}]", "has no name"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, expected: str) -> None:
    write(tmp_path, text)
    with pytest.raises(ManifestProblem, match=expected):
        sections(tmp_path)
