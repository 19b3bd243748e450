"""The sample broker is pushed as an app of the platform and sells its service there, by the official CLI alone."""

import base64
import json
import re
from collections.abc import Iterator

import pytest

from tests.journeys.cf import Cf
from tests.journeys.platform import ROOT, Platform

SAMPLE = ROOT / "samples" / "broker"


@pytest.fixture
def broker(cf: Cf, platform: Platform) -> Iterator[str]:
    """Name of the broker's app and of the broker."""
    name = f"jotter-{cf.name}"
    cf("push", name, "--var", "password=choose-one", cwd=SAMPLE, seconds=300)
    yield name
    cf("delete", "-f", "-r", name)


def test_a_broker_that_is_an_app_sells_its_service(cf: Cf, platform: Platform, broker: str) -> None:
    url = f"http://{broker}.apps.localhost:{platform.port}"
    wrong = cf.run("create-service-broker", broker, "broker", "wrong", url)
    assert wrong.returncode == 1
    assert "Authentication with the service broker failed" in wrong.stdout
    cf("delete-service-broker", "-f", broker)
    cf("create-service-broker", broker, "broker", "choose-one", url)
    assert re.search(rf"{broker}\s+{url}", cf("service-brokers"))
    assert "jotter" not in cf("marketplace") or "none" in cf("service-access")
    cf("enable-service-access", "jotter", "-b", broker)
    assert re.search(r"jotter\s+small, large, slow\s+Notes under a key", cf("marketplace"))
    shown = cf("marketplace", "-e", "jotter", "--show-unavailable")
    assert re.search(r"large\s+Up to 10000 notes\s+paid\s+.*USD 1.50/MONTHLY", shown)

    cf("create-service", "jotter", "small", "notes", "-c", '{"max_notes": 2}', "--wait")
    assert re.search(rf"notes\s+jotter\s+small\s+create succeeded\s+{broker}", cf("services"))
    cf("create-service-key", "notes", "me", "--wait")
    printed = cf("service-key", "notes", "me")
    key = json.loads(printed[printed.index("{") :])
    credentials = key.get("credentials", key)
    path = credentials["uri"].partition(f":{platform.port}")[2]
    login = base64.b64encode(f"{credentials['username']}:{credentials['password']}".encode()).decode()
    headers = {"Authorization": f"Basic {login}"}
    host = f"{broker}.apps.localhost"
    assert platform.get(host, path).status == 401
    assert platform.get(host, f"{path}/monday", method="PUT", headers=headers).status == 200
    assert platform.get(host, path, headers=headers).json() == {"notes": {"monday": ""}}

    refused = cf.run("update-service", "notes", "-c", '{"max_notes": 1000}', "--wait")
    assert "max_notes must be a number from 1 to 100" in refused.stdout
    cf("update-service", "notes", "-p", "large", "-c", '{"max_notes": 1000}', "--wait")
    assert re.search(r"notes\s+jotter\s+large\s+update succeeded", cf("services"))
    cf("create-service", "jotter", "slow", "later", "--wait")
    assert re.search(r"later\s+jotter\s+slow\s+create succeeded", cf("services"))

    cf("disable-service-access", "jotter", "-p", "slow")
    assert re.search(r"jotter\s+slow\s+none", cf("service-access"))
    cf("update-service-broker", broker, "broker", "choose-one", url)
    in_use = cf.run("delete-service-broker", "-f", broker)
    assert "Can not remove brokers that have associated service instances" in in_use.stdout
    cf("delete-service-key", "-f", "notes", "me", "--wait")
    cf("delete-service", "-f", "notes", "--wait")
    cf("purge-service-offering", "-f", "jotter", "-b", broker)
    assert "later" not in cf("services")
    cf("delete-service-broker", "-f", broker)
    assert broker not in cf("service-brokers")
