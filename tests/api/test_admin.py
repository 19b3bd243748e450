"""What only operators do."""

from sqlalchemy import insert, select

from cupola.store.apps import buildpack_caches
from tests.api.conftest import Cloud
from tests.api.work import finished

PATH = "/v3/admin/actions/clear_buildpack_cache"


def test_the_buildpack_caches_of_all_apps_are_cleared(cloud: Cloud) -> None:
    with cloud.database.write() as tx:
        for app in ("one", "two"):
            values = {"app_guid": app, "stack": "cflinuxfs4", "digest": "sha256:c", "updated_at": tx.now}
            tx.run(insert(buildpack_caches).values(values))
    assert cloud.user().problem("POST", PATH)[:2] == (403, 10003)
    first = cloud.admin.post(PATH)
    assert cloud.admin.post(PATH).headers["Location"] == first.headers["Location"]
    job = finished(cloud, cloud.admin, "POST", PATH)
    assert (job["operation"], job["state"]) == ("admin.clear_buildpack_cache", "COMPLETE")
    assert list(job["links"]) == ["self"]
    with cloud.database.read() as tx:
        assert tx.scalars(select(buildpack_caches.c.app_guid)) == []
    assert cloud.admin.post(PATH).headers["Location"] != first.headers["Location"]


def test_the_usage_of_the_platform_is_for_those_who_read_everything(cloud: Cloud) -> None:
    cloud.app()
    shown = cloud.client("cloud_controller.global_auditor").ok("GET", "/v3/info/usage_summary")
    assert shown["usage_summary"]["started_instances"] == 0
    assert shown["links"]["self"]["href"] == f"{cloud.settings.api_url}/v3/info/usage_summary"
    assert cloud.user().problem("GET", "/v3/info/usage_summary") == (404, 10000, "Unknown request")
