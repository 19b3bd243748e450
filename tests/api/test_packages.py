"""Packages, matched resources, builds and droplets over HTTP, with real archives."""

import hashlib
import io
import zipfile
from typing import Any

import msgspec

from tests.api.conftest import Cloud


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def package(cloud: Cloud, app: str) -> Any:
    body = {"type": "bits", "relationships": {"app": {"data": {"guid": app}}}}
    return cloud.admin.ok("POST", "/v3/packages", body, 201)


def upload(cloud: Cloud, guid: str, bits: bytes | None, resources: Any = None, name: str = "bits") -> Any:
    files: Any = {name: ("app.zip", bits, "application/zip")} if bits is not None else None
    data = {"resources": msgspec.json.encode(resources).decode()} if resources is not None else None
    if files is None and data is not None:
        files = {"resources": (None, data["resources"], None)}
        data = None
    return cloud.admin.post(f"/v3/packages/{guid}/upload", files=files, data=data)


def test_bits_are_uploaded_once_and_come_back(cloud: Cloud) -> None:
    app = cloud.app()["guid"]
    made = package(cloud, app)
    assert made["state"] == "AWAITING_UPLOAD"
    answer = upload(cloud, made["guid"], zipped({"index.html": b"hello"}))
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "READY"
    assert len(answer.json()["data"]["checksum"]["value"]) == 64
    down = cloud.admin.get(f"/v3/packages/{made['guid']}/download")
    with zipfile.ZipFile(io.BytesIO(down.content)) as archive:
        assert archive.read("index.html") == b"hello"
    again = upload(cloud, made["guid"], zipped({"x": b""}))
    assert (again.status_code, again.json()["errors"][0]["code"]) == (400, 150004)
    once = "Bits may be uploaded only once. Create a new package to upload different bits."
    assert again.json()["errors"][0]["detail"] == once


def test_a_second_upload_needs_only_what_changed(cloud: Cloud) -> None:
    app, data = cloud.app()["guid"], b"x" * 70_000
    upload(cloud, package(cloud, app)["guid"], zipped({"big.bin": data}))
    resource = {
        "checksum": {"value": hashlib.sha1(data).hexdigest()},
        "size_in_bytes": len(data),
        "path": "big.bin",
        "mode": "644",
    }
    unknown = {**resource, "checksum": {"value": "0" * 40}}
    matched = cloud.admin.ok("POST", "/v3/resource_matches", {"resources": [resource, unknown]}, 201)["resources"]
    assert matched == [resource]
    second = package(cloud, app)["guid"]
    answer = upload(cloud, second, None, matched)
    assert answer.status_code == 200, answer.text
    down = cloud.admin.get(f"/v3/packages/{second}/download")
    with zipfile.ZipFile(io.BytesIO(down.content)) as archive:
        assert archive.read("big.bin") == data


def test_hostile_and_broken_uploads_are_refused_and_the_package_still_waits(cloud: Cloud) -> None:
    made = package(cloud, cloud.app()["guid"])["guid"]
    bad = upload(cloud, made, zipped({"../escape": b"x"}))
    assert bad.status_code == 422
    assert "escape" in bad.json()["errors"][0]["detail"]
    assert upload(cloud, made, b"this is no zip").status_code == 422
    assert "Unknown field" in upload(cloud, made, b"x", name="other").json()["errors"][0]["detail"]
    truncated = cloud.admin.post(
        f"/v3/packages/{made}/upload",
        content=b'--b\r\nContent-Disposition: form-data; name="bits"; filename="a.zip"\r\n\r\nPK',
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert truncated.status_code == 400
    assert cloud.admin.ok("GET", f"/v3/packages/{made}")["state"] == "AWAITING_UPLOAD"


def test_who_may_not_write_cannot_upload_a_byte(cloud: Cloud) -> None:
    app = cloud.app()
    made = package(cloud, app["guid"])["guid"]
    auditor = cloud.user(space_auditor=app["relationships"]["space"]["data"]["guid"])
    files = {"bits": ("app.zip", zipped({"x": b"y"}), "application/zip")}
    assert auditor.post(f"/v3/packages/{made}/upload", files=files).status_code == 403
    assert cloud.user().post(f"/v3/packages/{made}/upload", files=files).status_code == 404


def test_builds_take_ready_packages_one_at_a_time(cloud: Cloud) -> None:
    app = cloud.app()["guid"]
    made = package(cloud, app)["guid"]
    body = {"package": {"guid": made}}
    assert cloud.admin.problem("POST", "/v3/builds", body) == (
        400,
        1004,
        "Bad request: Cannot stage package whose state is not ready.",
    )
    upload(cloud, made, zipped({"index.html": b"x"}))
    build = cloud.admin.ok("POST", "/v3/builds", body, 201)
    assert (build["state"], build["droplet"], build["package"]) == ("STAGING", None, {"guid": made})
    assert build["lifecycle"] == {"type": "buildpack", "data": {"buildpacks": [], "stack": "cflinuxfs4"}}
    one = "Only one build can be STAGING at a time per application."
    assert cloud.admin.problem("POST", "/v3/builds", body) == (422, 170017, one)
    listed = cloud.admin.ok("GET", f"/v3/apps/{app}/builds?states=STAGING")["resources"]
    assert [one["guid"] for one in listed] == [build["guid"]]
    missing = cloud.admin.problem("POST", "/v3/builds", {"package": {"guid": "nope"}})
    assert missing[2] == "Unable to use package. Ensure that the package exists and you have access to it."


def test_a_droplet_is_uploaded_and_downloaded(cloud: Cloud) -> None:
    app = cloud.app()["guid"]
    body = {"relationships": {"app": {"data": {"guid": app}}}, "process_types": {"web": "run"}}
    droplet = cloud.admin.ok("POST", "/v3/droplets", body, 201)
    assert droplet["state"] == "AWAITING_UPLOAD"
    files = {"bits": ("droplet.tgz", b"bits", "application/gzip")}
    answer = cloud.admin.post(f"/v3/droplets/{droplet['guid']}/upload", files=files)
    assert answer.status_code == 202, answer.text
    job = cloud.admin.ok("GET", answer.headers["Location"].removeprefix(cloud.settings.api_url))
    assert (job["operation"], job["state"]) == ("droplet.upload", "COMPLETE")
    shown = cloud.admin.ok("GET", f"/v3/droplets/{droplet['guid']}")
    assert (shown["state"], shown["process_types"]) == ("STAGED", {"web": "run"})
    assert cloud.admin.get(f"/v3/droplets/{droplet['guid']}/download").content == b"bits"
