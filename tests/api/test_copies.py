"""Packages and droplets are copied to another app by `source_guid`."""

from typing import Any

from cupola.store import rows
from cupola.store.staging import packages
from tests.api.conftest import Cloud
from tests.scripted_cell import staged_droplet


def _to(app: str) -> dict[str, Any]:
    return {"relationships": {"app": {"data": {"guid": app}}}}


def test_a_droplet_is_copied(cloud: Cloud) -> None:
    source, target = cloud.app()["guid"], cloud.app()["guid"]
    droplet = staged_droplet(cloud.database, source)
    path = f"/v3/droplets?source_guid={droplet}"
    copy = cloud.admin.ok("POST", path, _to(target), 201)
    original = cloud.admin.ok("GET", f"/v3/droplets/{droplet}")
    assert copy["guid"] != droplet
    assert (copy["state"], copy["relationships"]["app"]["data"]["guid"]) == ("STAGED", target)
    assert (copy["checksum"], copy["process_types"]) == (original["checksum"], original["process_types"])
    cloud.admin.ok("PATCH", f"/v3/apps/{target}/relationships/current_droplet", {"data": {"guid": copy["guid"]}})
    assert cloud.admin.problem("POST", "/v3/droplets?source_guid=nope", _to(target)) == (
        404,
        10010,
        "Droplet not found",
    )
    assert cloud.admin.problem("POST", path, _to("nope")) == (404, 10010, "App not found")
    docker = staged_droplet(cloud.database, source, lifecycle_type="docker", image="registry/image:1")
    problem = cloud.admin.problem("POST", f"/v3/droplets?source_guid={docker}", _to(target))
    assert problem == (422, 10008, "source and destination lifecycle types do not match")
    waiting = staged_droplet(cloud.database, source, state="AWAITING_UPLOAD")
    refused = cloud.admin.problem("POST", f"/v3/droplets?source_guid={waiting}", _to(target))
    assert refused == (422, 10008, "source droplet is not staged")


def test_a_package_is_copied(cloud: Cloud) -> None:
    space = cloud.space()
    here, org = space["guid"], space["relationships"]["organization"]["data"]["guid"]
    source, target = cloud.app(space=here)["guid"], cloud.app(space=here)["guid"]
    with cloud.database.write() as tx:
        values = {"app_guid": source, "type": "bits", "state": "READY", "digest": "sha256:p", "size": 3}
        package = rows.add(tx, packages, values).guid
    path = f"/v3/packages?source_guid={package}"
    developer = cloud.user(space_developer=here, organization_user=org)
    copy = developer.ok("POST", path, _to(target), 201)
    assert copy["guid"] != package
    assert (copy["state"], copy["data"]["checksum"]["value"]) == ("READY", "p")
    same = developer.problem("POST", path, _to(source))
    assert same == (422, 10008, "Source and destination app cannot be the same")
    assert cloud.user().problem("POST", path, _to(target))[0] == 422
