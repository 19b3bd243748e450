"""Packages and droplets: their states, what can be made, copied, uploaded and downloaded, and what is hidden."""

import io
import zipfile
from typing import Any

import pytest
from sqlalchemy import insert

from cupola.store import rows, sealed
from cupola.store.platform import feature_flags
from cupola.store.staging import packages
from tests.api.conftest import Cloud
from tests.deploying import Site
from tests.scripted_cell import staged_droplet


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


def _app(guid: str) -> dict[str, Any]:
    return {"relationships": {"app": {"data": {"guid": guid}}}}


def _package(site: Site, **more: Any) -> str:
    values = {"app_guid": site.app, "type": "bits", "state": "READY", "digest": "sha256:p"}
    with site.cloud.database.write() as tx:
        return str(rows.add(tx, packages, {**values, **more}).guid)


def _docker_package(site: Site) -> str:
    with site.cloud.database.write() as tx:
        password = sealed.seal(tx, packages.c.password, "secret")
    return _package(site, type="docker", digest=None, image="registry/image", username="ann", password=password)


def test_a_package_is_for_the_lifecycle_of_its_app(site: Site) -> None:
    body = {"type": "docker", "data": {"image": "registry/image"}, **_app(site.app)}
    problem = site.cloud.admin.problem("POST", "/v3/packages", body)
    assert problem == (422, 10008, "Cannot create Docker package for a buildpack app.")
    assert site.cloud.admin.problem("POST", "/v3/packages", {"type": "zip", **_app(site.app)})[0] == 422
    # The API does not switch this flag on while no engine runs such apps.
    with site.cloud.database.write() as tx:
        flag = {"name": "diego_docker", "enabled": True, "custom_error_message": None, "updated_at": tx.now}
        tx.run(insert(feature_flags).values(flag))
    docker = site.cloud.app("docker", site.space, lifecycle={"type": "docker", "data": {}})["guid"]
    problem = site.cloud.admin.problem("POST", "/v3/packages", {"type": "bits", **_app(docker)})
    assert problem == (422, 10008, "Cannot create bits package for a Docker app.")
    made = site.cloud.admin.ok("POST", "/v3/packages", {**body, **_app(docker)}, 201)
    assert made["state"] == "READY"
    problem = site.cloud.admin.problem("POST", "/v3/droplets", {**_app(docker), "process_types": {"web": "run"}})
    assert problem == (422, 10008, "Droplet creation is not available for apps with docker lifecycles.")


def test_a_docker_password_is_never_shown(site: Site) -> None:
    shown = site.cloud.admin.ok("GET", f"/v3/packages/{_docker_package(site)}")
    assert shown["data"] == {"image": "registry/image", "username": "ann", "password": "***"}


def test_copying_needs_another_app(site: Site) -> None:
    path = f"/v3/packages?source_guid={_package(site)}"
    assert site.cloud.admin.problem("POST", path, _app(site.app))[2] == "Source and destination app cannot be the same"
    other = site.cloud.app("other", site.space)["guid"]
    assert site.cloud.admin.ok("POST", path, _app(other), 201)["relationships"]["app"]["data"]["guid"] == other
    unknown = (422, 10008, "Source package is invalid. Ensure it exists and you have access to it.")
    assert site.cloud.admin.problem("POST", "/v3/packages?source_guid=nope", _app(other)) == unknown
    elsewhere = site.cloud.app()
    stranger = site.cloud.user(space_developer=elsewhere["relationships"]["space"]["data"]["guid"])
    assert stranger.problem("POST", path, _app(elsewhere["guid"])) == unknown
    assert stranger.problem("POST", path, _app(other))[2] == (
        "App is invalid. Ensure it exists and you have access to it."
    )


def test_an_upload_has_bits_or_resources(site: Site) -> None:
    admin = site.cloud.admin
    made = admin.ok("POST", "/v3/packages", {"type": "bits", **_app(site.app)}, 201)["guid"]
    path = f"/v3/packages/{made}/upload"
    for resources in (b"", b"[]"):
        empty = admin.post(path, files={"resources": (None, resources)})
        assert empty.json()["errors"][0]["detail"] == "Upload must include either resources or bits"
    broken = admin.post(path, files={"resources": (None, b"{")})
    assert broken.json()["errors"][0]["detail"] == "Resources must be valid JSON."
    admin.ok("PATCH", "/v3/feature_flags/app_bits_upload", {"enabled": False})
    developer = site.user("space_developer")
    refused = developer.post(path, files={"bits": ("a.zip", b"PK", "application/zip")})
    assert refused.json()["errors"][0]["code"] == 330002


ONE = "Resources array contains at least one resource with"


@pytest.mark.parametrize(
    ("resources", "detail"),
    [
        ([], "Resources must have at least 1 resource"),
        ("x", "Resources must be an array"),
        (
            [{"checksum": {"value": "0" * 40}, "size_in_bytes": 1}] * 5001,
            "Resources array can have at most 5000 resources",
        ),
        ([{"size_in_bytes": 1}], f"{ONE} a non-object checksum"),
        ([{"checksum": {}, "size_in_bytes": 1}], f"{ONE} a non-string checksum value"),
        ([{"checksum": {"value": "x"}, "size_in_bytes": 1}], f"{ONE} a non-SHA1 checksum value"),
        ([{"checksum": {"value": "0" * 40}, "size_in_bytes": "1"}], f"{ONE} a non-integer size_in_bytes"),
        ([{"checksum": {"value": "0" * 40}, "size_in_bytes": -1}], f"{ONE} a negative size_in_bytes"),
        ([{"checksum": {"value": "0" * 40}, "size_in_bytes": 1, "mode": 7}], f"{ONE} a non-string mode"),
        ([{"checksum": {"value": "0" * 40}, "size_in_bytes": 1, "mode": "rwx"}], f"{ONE} an incorrect mode"),
        ([{}] * 2, f"{ONE} a non-object checksum, {ONE} a non-integer size_in_bytes"),
    ],
)
def test_resources_that_cannot_be_matched(cloud: Cloud, resources: Any, detail: str) -> None:
    assert cloud.admin.problem("POST", "/v3/resource_matches", {"resources": resources}) == (422, 10008, detail)


def test_matching_ignores_what_it_does_not_know_and_can_be_switched_off(cloud: Cloud) -> None:
    resource = {"checksum": {"value": "0" * 40}, "size_in_bytes": 70_000}
    body = {"resources": [resource], "colour": "red"}
    assert cloud.admin.ok("POST", "/v3/resource_matches", body, 201) == {"resources": []}
    cloud.admin.ok("PATCH", "/v3/feature_flags/resource_matching", {"enabled": False})
    assert cloud.admin.ok("POST", "/v3/resource_matches", body, 201) == {"resources": []}


def test_bits_are_downloaded_of_ready_packages_of_bits(site: Site) -> None:
    admin = site.cloud.admin
    waiting = admin.ok("POST", "/v3/packages", {"type": "bits", **_app(site.app)}, 201)["guid"]
    assert admin.problem("GET", f"/v3/packages/{waiting}/download")[2] == "Package has no bits to download."
    assert admin.problem("GET", f"/v3/packages/{_docker_package(site)}/download")[2] == "Package type must be bits."


def test_a_droplet_waits_for_its_bits_once(site: Site) -> None:
    admin = site.cloud.admin
    made = admin.ok("POST", "/v3/droplets", {**_app(site.app), "process_types": {"web": "run"}}, 201)
    assert (made["state"], "upload" in made["links"], "download" in made["links"]) == ("AWAITING_UPLOAD", True, False)
    path = f"/v3/droplets/{made['guid']}"
    assert admin.problem("GET", path + "/download")[2] == "Only staged droplets can be downloaded."
    for files, problem in (
        ({"bits": ("a.zip", b"x", "application/zip")}, "a.zip is not a tgz"),
        ({"bits": ("a.tgz", b"", "application/gzip")}, "a.tgz cannot be empty"),
        ({"file": ("a.tgz", b"x", "application/gzip")}, "A droplet tgz file must be uploaded as 'bits'"),
    ):
        wrong = admin.post(path + "/upload", files=files)
        detail = f"Uploaded droplet file is invalid: {problem}"
        assert (wrong.status_code, wrong.json()["errors"][0]["detail"]) == (422, detail)
    assert admin.post(path + "/upload", files={"bits": ("a.tgz", b"x", "application/gzip")}).status_code == 202
    again = admin.post(path + "/upload", files={"bits": ("a.tgz", b"x", "application/gzip")})
    once = "Droplet may be uploaded only once. Create a new droplet to upload bits."
    assert (again.status_code, again.json()["errors"][0]["detail"]) == (422, once)
    shown = admin.ok("GET", path)
    assert (shown["state"], "upload" in shown["links"], "download" in shown["links"]) == ("STAGED", False, True)


def test_who_downloads_a_droplet(site: Site) -> None:
    droplet = site.droplet()
    path = f"/v3/droplets/{droplet}/download"
    assert site.user("space_supporter").problem("GET", path)[:2] == (403, 10003)
    assert site.cloud.user().problem("GET", path)[0] == 404
    docker = staged_droplet(site.cloud.database, site.app, lifecycle_type="docker", image="registry/image:1")
    problem = site.user("space_developer").problem("GET", f"/v3/droplets/{docker}/download")
    assert problem == (422, 10008, "Cannot download droplets with 'docker' lifecycle.")


def test_what_a_droplet_hides(site: Site) -> None:
    """Commands and buildpack output are for developers, and in lists for nobody."""
    droplet = staged_droplet(
        site.cloud.database,
        site.app,
        execution_metadata="run it",
        buildpacks=[{"name": "https://me:secret@example.com/b.git", "detect_output": "x"}],
    )
    path = f"/v3/droplets/{droplet}"
    shown = site.user("space_developer").ok("GET", path)
    assert (shown["execution_metadata"], shown["process_types"]["web"]) == ("run it", "run web")
    assert shown["buildpacks"][0]["name"] == "https://***:***@example.com/b.git"
    hidden = site.user("space_auditor").ok("GET", path)
    assert hidden["execution_metadata"] == "[PRIVATE DATA HIDDEN]"
    assert hidden["process_types"] == {"redacted_message": "[PRIVATE DATA HIDDEN]"}
    for listed in site.cloud.admin.ok("GET", "/v3/droplets")["resources"]:
        assert listed["execution_metadata"] == "[PRIVATE DATA HIDDEN IN LISTS]"
        assert listed["process_types"] == {"redacted_message": "[PRIVATE DATA HIDDEN IN LISTS]"}


def test_an_image_is_set_for_docker_droplets_only(site: Site) -> None:
    body = {"image": "registry/image:2"}
    problem = site.cloud.admin.problem("PATCH", f"/v3/droplets/{site.first}", body)
    assert problem == (422, 10008, "Images can only be updated for docker droplets")
    waiting = staged_droplet(site.cloud.database, site.app, state="AWAITING_UPLOAD", lifecycle_type="docker")
    problem = site.cloud.admin.problem("PATCH", f"/v3/droplets/{waiting}", body)
    assert problem == (422, 10008, "Droplet image can only be updated on staged droplets")
    docker = staged_droplet(site.cloud.database, site.app, lifecycle_type="docker", image="registry/image:1")
    assert site.cloud.admin.ok("PATCH", f"/v3/droplets/{docker}", body)["image"] == "registry/image:2"
    assert site.user("space_developer").problem("PATCH", f"/v3/droplets/{docker}", body)[:2] == (403, 10003)


def test_builds_say_what_they_need(site: Site) -> None:
    admin = site.cloud.admin
    package = _package(site)
    admin.ok("POST", "/v3/buildpacks", {"name": "off", "enabled": False}, 201)
    body = {"package": {"guid": package}, "lifecycle": {"type": "buildpack", "data": {"buildpacks": ["off"]}}}
    assert admin.problem("POST", "/v3/builds", body) == (
        400,
        290003,
        "Buildpack is invalid: Requested buildpack(s) 'off' are disabled and cannot be used for staging",
    )
    unknown = {"package": {"guid": package}, "lifecycle": {"type": "buildpack", "data": {"buildpacks": ["nope"]}}}
    assert (
        'Buildpack "nope" must be an existing admin buildpack or a valid git URI'
        in admin.problem("POST", "/v3/builds", unknown)[2]
    )
    build = admin.ok(
        "POST",
        "/v3/builds",
        {
            "package": {"guid": package},
            "lifecycle": {
                "type": "buildpack",
                "data": {"buildpacks": ["https://example.com/b.git"], "stack": "cflinuxfs4"},
            },
        },
        201,
    )
    assert build["lifecycle"] == {
        "type": "buildpack",
        "data": {"buildpacks": ["https://example.com/b.git"], "stack": "cflinuxfs4"},
    }
    assert (build["state"], build["droplet"], build["error"]) == ("STAGING", None, None)


def test_a_package_says_in_which_state_it_is(site: Site) -> None:
    for state in ("AWAITING_UPLOAD", "PROCESSING_UPLOAD", "READY", "FAILED", "COPYING", "EXPIRED"):
        guid = _package(site, state=state)
        found = site.cloud.admin.ok("GET", f"/v3/packages?states={state}")["resources"]
        assert guid in {one["guid"] for one in found}
    assert site.cloud.admin.problem("GET", "/v3/packages?states=LOST")[0] == 400


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    return buffer.getvalue()


def test_a_token_is_judged_when_an_upload_begins(site: Site) -> None:
    """A token that expires while the bits are on their way is good enough."""
    admin, services = site.cloud.admin, site.cloud.services
    made = admin.ok("POST", "/v3/packages", {"type": "bits", **_app(site.app)}, 201)["guid"]
    judged, before = [], services.authenticate

    def once(header: str | None) -> Any:
        judged.append(header)
        assert len(judged) == 1, "the token is judged once, before the body is read"
        return before(header)

    services.authenticate = once
    try:
        answer = admin.post(f"/v3/packages/{made}/upload", files={"bits": ("a.zip", _zip(), "application/zip")})
    finally:
        services.authenticate = before
    assert (answer.status_code, answer.json()["state"]) == (200, "READY")


def test_what_packages_and_droplets_may_not_be(site: Site) -> None:
    admin, own = site.cloud.admin, _app(site.app)
    form = "Relationships 'relationships' is not an object"
    for path, body, detail in (
        ("packages", {}, f"{form}, Type must be one of 'bits, docker'"),
        ("packages", {**own, "type": 1}, "Type must be one of 'bits, docker'"),
        (
            "packages",
            {**own, "type": "bits", "data": {"image": "i"}},
            "Data must be empty if provided for bits packages",
        ),
        ("packages", {**own, "type": "docker", "data": {}}, "Data Image required"),
        ("droplets", {}, form),
        ("droplets", {**own, "process_types": []}, "Process types must be an object"),
        ("droplets", {**own, "process_types": {"": "x"}}, "Process types key must not be empty"),
        ("droplets", {**own, "process_types": {"web": 1}}, "Process types value must be a string"),
    ):
        assert admin.problem("POST", f"/v3/{path}", body) == (422, 10008, detail)
