"""`cupola keys` while the platform runs: nothing stops, nothing is lost, old tokens are good until they end."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.journeys.client import Client
from tests.journeys.platform import Platform, started


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with started(tmp_path_factory.mktemp("keys") / "data") as platform:
        yield platform


def key_of(token: str) -> str:
    head: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    return str(head["kid"])


def test_keys_are_replaced_under_a_running_platform(platform: Platform) -> None:
    before = Client(platform)
    before.create_app("kept")
    guid = before.app_guid("kept")
    before.request("PATCH", f"/v3/apps/{guid}/environment_variables", {"var": {"PASSWORD": "correct horse"}})
    pids = {name: platform.pid(name) for name in ("controller", "router", "cell")}
    shown = platform.cupola("keys", "show").stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["secrets", "tokens"]
    said = platform.cupola("keys", "rotate").stdout
    assert "rows were sealed anew" in said
    after = Client(platform)
    assert after.get(f"/v3/apps/{guid}/environment_variables")["var"] == {"PASSWORD": "correct horse"}
    assert key_of(after._token) != key_of(before._token)
    assert before.get("/v3/apps")["pagination"]["total_results"] == 1
    shown = platform.cupola("keys", "show").stdout.splitlines()
    assert [" ".join(line.split()[2:4]).replace(",", "") for line in shown] == [
        "opens what", "seals since", "signs", "verifies"
    ]  # fmt: skip
    # What is written from now on, by the process that ran before, is sealed by the new key.
    active = next(line.split()[1] for line in shown if " seals" in line)
    after.request("PATCH", f"/v3/apps/{guid}/environment_variables", {"var": {"PASSWORD": "battery staple"}})
    files = list(platform.data_dir.glob("cupola.db*"))
    assert any(f"v1:{active}:".encode() in file.read_bytes() for file in files)
    assert {name: platform.pid(name) for name in pids} == pids


def test_one_kind_alone(platform: Platform) -> None:
    said = platform.cupola("keys", "rotate", "--tokens").stdout
    assert "tokens are signed by the key" in said
    assert "secrets" not in said
    assert "tokens" not in platform.cupola("keys", "rotate", "--secrets").stdout


def test_it_works_while_the_platform_is_down(platform: Platform) -> None:
    platform.down()
    assert "rows were sealed anew" in platform.cupola("keys", "rotate").stdout
    platform.up()
    client = Client(platform)
    guid = client.app_guid("kept")
    assert client.get(f"/v3/apps/{guid}/environment_variables")["var"] == {"PASSWORD": "battery staple"}


def test_without_a_platform(tmp_path_factory: pytest.TempPathFactory, platform: Platform) -> None:
    nowhere = Platform(tmp_path_factory.mktemp("nowhere"), platform.port)
    done = nowhere.cupola("keys", "rotate", check=False)
    assert (done.returncode, "there is no platform in" in done.stderr) == (1, True)
