"""Feature flags set by their name in the body, as only some documents have it."""

from tests.api.conftest import Cloud


def test_posting_a_flag_sets_it(cloud: Cloud) -> None:
    body = {"name": "task_creation", "enabled": False, "custom_error_message": "not today"}
    made = cloud.admin.ok("POST", "/v3/feature_flags", body, 201)
    assert (made["name"], made["enabled"], made["custom_error_message"]) == ("task_creation", False, "not today")
    assert cloud.admin.ok("GET", "/v3/feature_flags/task_creation") == made
    again = cloud.admin.ok("POST", "/v3/feature_flags", {"name": "task_creation", "enabled": True}, 201)
    assert (again["enabled"], again["custom_error_message"]) == (True, "not today")
    known = cloud.admin.ok("GET", "/v3/feature_flags?per_page=100")
    assert known["pagination"]["total_results"] == 19


def test_only_known_flags_and_only_by_admins(cloud: Cloud) -> None:
    assert cloud.user().problem("POST", "/v3/feature_flags", {"name": "task_creation", "enabled": True})[0] == 403
    unknown = cloud.admin.problem("POST", "/v3/feature_flags", {"name": "nope", "enabled": True})
    assert unknown[:2] == (422, 10008)
    assert unknown[2].startswith("Name must be one of 'app_bits_upload', ")
    assert cloud.admin.problem("POST", "/v3/feature_flags", {"name": "task_creation"})[2] == "Enabled must be a boolean"


def test_what_the_engine_cannot_do_is_not_switched_on(cloud: Cloud) -> None:
    for name in ("diego_docker", "diego_cnb"):
        status, code, detail = cloud.admin.problem("PATCH", f"/v3/feature_flags/{name}", {"enabled": True})
        assert (status, code) == (422, 10008)
        assert detail.startswith(f"{name} cannot be enabled: this engine does not run ")
        assert cloud.admin.ok("PATCH", f"/v3/feature_flags/{name}", {"enabled": False})["enabled"] is False
