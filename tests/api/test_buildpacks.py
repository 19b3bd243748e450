"""Buildpacks: their order, what can be uploaded and when, which may be named."""

import gzip
import io
import zipfile
from typing import Any

import pytest

from cupola.store import rows
from cupola.store.staging import packages
from tests.api.conftest import Cloud
from tests.api.work import finished
from tests.scripted_cell import ScriptedCell


def _zip(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


BITS = _zip({"bin/detect": "#!/bin/sh", "bin/compile": "#!/bin/sh"})
FOR_STACK = _zip({"manifest.yml": "stack: cflinuxfs4\n", "bin/detect": "#!/bin/sh"})


def _new(cloud: Cloud, name: str, **more: Any) -> Any:
    return cloud.admin.ok("POST", "/v3/buildpacks", {"name": name, **more}, 201)


def _upload(cloud: Cloud, guid: str, bits: bytes = BITS, name: str = "b.zip") -> Any:
    return cloud.admin.post(f"/v3/buildpacks/{guid}/upload", files={"bits": (name, bits, "application/zip")})


def _order(cloud: Cloud) -> list[str]:
    return [one["name"] for one in cloud.admin.ok("GET", "/v3/buildpacks?per_page=100")["resources"]]


def test_a_new_one_is_first_and_moves_the_others(cloud: Cloud) -> None:
    for name in ("a", "b"):
        _new(cloud, name)
    assert _order(cloud) == ["b", "a"]
    third = _new(cloud, "c", position=2)
    assert (_order(cloud), third["position"]) == (["b", "c", "a"], 2)
    assert _new(cloud, "d", position=99)["position"] == 4
    moved = cloud.admin.ok("PATCH", f"/v3/buildpacks/{third['guid']}", {"position": 1})
    assert (_order(cloud), moved["position"]) == (["c", "b", "a", "d"], 1)
    finished(cloud, cloud.admin, "DELETE", f"/v3/buildpacks/{third['guid']}")
    assert [(one["name"], one["position"]) for one in cloud.admin.ok("GET", "/v3/buildpacks")["resources"]] == [
        ("b", 1),
        ("a", 2),
        ("d", 3),
    ]


def test_names_are_unique_with_stack_and_lifecycle(cloud: Cloud) -> None:
    _new(cloud, "a")
    assert cloud.admin.problem("POST", "/v3/buildpacks", {"name": "a"}) == (
        422,
        10008,
        "Buildpack with name 'a' and an unassigned stack already exists",
    )
    _new(cloud, "a", stack="cflinuxfs4")
    assert cloud.admin.problem("POST", "/v3/buildpacks", {"name": "a", "stack": "cflinuxfs4"}) == (
        422,
        10008,
        "Buildpack with name 'a', stack 'cflinuxfs4' and lifecycle 'buildpack' already exists",
    )
    _new(cloud, "a", lifecycle="cnb")
    assert (
        cloud.admin.problem("POST", "/v3/buildpacks", {"name": "b", "stack": "nope"})[2]
        == "Stack 'nope' does not exist"
    )


def test_it_awaits_its_bits_and_then_is_ready(cloud: Cloud) -> None:
    made = _new(cloud, "a")
    assert (made["state"], made["filename"], made["enabled"], made["locked"]) == ("AWAITING_UPLOAD", None, True, False)
    answer = _upload(cloud, made["guid"])
    assert answer.status_code == 202
    job = cloud.admin.ok("GET", answer.headers["Location"].removeprefix(cloud.settings.api_url))
    assert (job["operation"], job["state"]) == ("buildpack.upload", "COMPLETE")
    shown = cloud.admin.ok("GET", f"/v3/buildpacks/{made['guid']}")
    assert (shown["state"], shown["filename"]) == ("READY", "b.zip")
    assert _upload(cloud, made["guid"], name="c.zip").status_code == 202


def test_only_zip_files_and_not_while_it_is_locked(cloud: Cloud) -> None:
    made = _new(cloud, "a", locked=True)
    refused = _upload(cloud, made["guid"])
    assert refused.json()["errors"][0]["detail"] == "Buildpack is locked"
    assert refused.status_code == 422
    cloud.admin.ok("PATCH", f"/v3/buildpacks/{made['guid']}", {"locked": False})
    lead = "Uploaded buildpack file is invalid:"

    def problem(of: str, bits: bytes, field: str = "bits") -> str:
        files = {field: ("b.tgz", bits, "application/zip")}
        wrong = cloud.admin.post(f"/v3/buildpacks/{of}/upload", files=files)
        assert wrong.status_code == 422
        return str(wrong.json()["errors"][0]["detail"])

    assert problem(made["guid"], b"text") == (
        f'{lead} b.tgz is not a zip file. Buildpacks of lifecycle "buildpack" must be valid zip files.'
    )
    assert problem(made["guid"], b"") == f"{lead} b.tgz cannot be empty"
    assert problem(made["guid"], BITS, "file") == f"{lead} A buildpack zip file must be uploaded as 'bits'"
    # What it is counts, not what it is called.
    assert _upload(cloud, made["guid"], name="b.tgz").status_code == 202
    native = _new(cloud, "b", lifecycle="cnb")["guid"]
    assert problem(native, BITS) == (
        f"{lead} b.tgz is not a gzip archive or cnb file. "
        'Buildpacks of lifecycle "cnb" must be valid gzip archives or cnb files.'
    )
    assert _upload(cloud, native, gzip.compress(b"layers")).status_code == 202


def test_its_stack_is_that_of_its_bits_and_fixed_once_known(cloud: Cloud) -> None:
    made = _new(cloud, "a")
    assert _upload(cloud, made["guid"], FOR_STACK).status_code == 202
    path = f"/v3/buildpacks/{made['guid']}"
    assert cloud.admin.ok("GET", path)["stack"] == "cflinuxfs4"
    cloud.admin.ok("POST", "/v3/stacks", {"name": "other"}, 201)
    assert cloud.admin.problem("PATCH", path, {"stack": "other"})[2] == "Buildpack stack can not be changed"
    elsewhere = _new(cloud, "b", stack="other")
    answer = _upload(cloud, elsewhere["guid"], FOR_STACK)
    job = (
        cloud.admin.ok("GET", answer.headers["Location"].removeprefix(cloud.settings.api_url))
        if answer.status_code == 202
        else None
    )
    detail = job["errors"][0]["detail"] if job else answer.json()["errors"][0]["detail"]
    assert "Uploaded buildpack stack (cflinuxfs4) does not match other" in detail


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"name": "a b"}, "Name can only contain alphanumeric characters, underscores, and hyphens"),
        ({"name": "a", "position": 0}, "Position must be greater than or equal to 1"),
        ({"name": "a", "enabled": "yes"}, "Enabled must be a boolean"),
        ({"name": "a", "lifecycle": "docker"}, 'Lifecycle must be either "buildpack" or "cnb"'),
    ],
)
def test_what_a_buildpack_may_be(cloud: Cloud, body: dict[str, Any], detail: str) -> None:
    assert cloud.admin.problem("POST", "/v3/buildpacks", body) == (422, 10008, detail)


def test_everybody_reads_and_only_admins_write(cloud: Cloud) -> None:
    path = f"/v3/buildpacks/{_new(cloud, 'a')['guid']}"
    assert cloud.user().ok("GET", path)["name"] == "a"
    assert cloud.user().problem("POST", "/v3/buildpacks", {"name": "b"})[0] == 403
    assert cloud.user().problem("PATCH", path, {"enabled": False})[0] == 403
    assert cloud.user().problem("DELETE", path)[0] == 403


def test_an_app_names_buildpacks_that_fit_its_stack(cloud: Cloud) -> None:
    cloud.admin.ok("POST", "/v3/stacks", {"name": "other"}, 201)
    _new(cloud, "there", stack="other")
    _new(cloud, "anywhere")
    app = f"/v3/apps/{cloud.app()['guid']}"

    def named(*names: str) -> dict[str, Any]:
        return {"lifecycle": {"type": "buildpack", "data": {"buildpacks": list(names)}}}

    assert cloud.admin.problem("PATCH", app, named("there"))[2] == (
        'Buildpack "there" for stack "cflinuxfs4" must be an existing admin buildpack or a valid git URI'
    )
    shown = cloud.admin.ok("PATCH", app, named("anywhere", "https://example.com/b.git"))
    assert shown["lifecycle"]["data"]["buildpacks"] == ["anywhere", "https://example.com/b.git"]


def test_a_new_app_names_buildpacks_that_are_ready(cloud: Cloud) -> None:
    made = _new(cloud, "waiting")["guid"]
    body = {
        "name": "shop",
        "relationships": {"space": {"data": {"guid": cloud.space()["guid"]}}},
        "lifecycle": {"data": {"buildpacks": ["waiting"]}},
    }
    assert cloud.admin.problem("POST", "/v3/apps", body) == (422, 10008, '"waiting" must be in ready state')
    assert _upload(cloud, made).status_code == 202
    assert cloud.admin.ok("POST", "/v3/apps", body, 201)["lifecycle"]["data"]["buildpacks"] == ["waiting"]


def test_custom_ones_may_be_switched_off(cloud: Cloud) -> None:
    cloud.settings.defaults.custom_buildpacks = False
    body = {"lifecycle": {"type": "buildpack", "data": {"buildpacks": ["https://example.com/b.git"]}}}
    problem = cloud.admin.problem("PATCH", f"/v3/apps/{cloud.app()['guid']}", body)
    assert problem == (400, 290004, "Custom buildpacks are disabled")


def test_which_are_asked_and_in_which_order(cloud: Cloud) -> None:
    """By position: those that are ready, enabled, of the lifecycle, and for the stack or for any."""
    cloud.admin.ok("POST", "/v3/stacks", {"name": "other"}, 201)
    for name, more in (
        ("any", {}),
        ("foreign", {"stack": "other"}),
        ("own", {"stack": "cflinuxfs4"}),
        ("off", {"enabled": False}),
        ("native", {"lifecycle": "cnb"}),
    ):
        bits = gzip.compress(b"layers") if name == "native" else BITS
        assert _upload(cloud, _new(cloud, name, **more)["guid"], bits).status_code == 202
    _new(cloud, "waiting")
    app = cloud.app()["guid"]
    with cloud.database.write() as tx:
        values = {"app_guid": app, "type": "bits", "state": "READY", "digest": "sha256:p"}
        package = rows.add(tx, packages, values).guid
    cell = ScriptedCell(cloud.database, cloud.settings)

    def asked(**more: Any) -> tuple[list[str], bool]:
        build = cloud.admin.ok("POST", "/v3/builds", {"package": {"guid": package}, **more}, 201)["guid"]
        task = cell.task(build)
        assert task is not None
        assert task.staging is not None
        cloud.admin.ok("PATCH", f"/v3/builds/{build}", {"state": "FAILED"})
        return [one["name"] for one in task.staging.buildpacks], task.staging.skip_detect

    assert asked() == (["own", "any"], False)
    named = {"type": "buildpack", "data": {"buildpacks": ["any", "own"]}}
    assert asked(lifecycle=named) == (["any", "own"], True)
