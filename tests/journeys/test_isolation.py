"""All samples in every isolation mode that this machine can offer: pushed, answering, seen through the router."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from tests.journeys.platform import ROOT, Platform, eventually
from tests.ordinary import Unavailable, ordinary_user
from tests.ports import free_port

SAMPLES = {"static": b"<html", "python": b"<html", "node": b"", "binary": b""}


@pytest.fixture(scope="module", params=["root", "rootless", "process", "none"])
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform of its own whose instances are isolated in this mode; rootless is for ordinary users."""
    mode = request.param
    with ExitStack() as stack:
        if mode == "root" and os.getuid() != 0:
            pytest.skip("mode root needs root")
        platform = Platform(tmp_path_factory.mktemp(mode) / "data", free_port())
        if mode == "rootless" and os.getuid() == 0:
            try:
                user = stack.enter_context(ordinary_user())
            except Unavailable as error:
                pytest.skip(str(error))
            platform = Platform(user.home / "data", platform.port, user=user)
        stack.callback(platform.down)
        platform.up("--isolation", mode)
        yield platform


@pytest.mark.timeout(400)
def test_every_sample_answers(own: Platform, request: pytest.FixtureRequest) -> None:
    mode = request.node.callspec.params["own"]
    assert (own.data_dir / "run" / "cell.ready").read_text().strip() == mode
    own.cupola("push", *(str(ROOT / "samples" / name) for name in SAMPLES), seconds=300)
    for name, expected in SAMPLES.items():
        answer = eventually(partial(answered, own, f"sample-{name}"), what=name)
        assert expected in answer.body.lower()
    assert mode in own.cupola("status").stdout


def answered(own: Platform, name: str) -> Any:
    """The answer of an app, once it is a good one."""
    found = own.app(name)
    return found.status == 200 and found
