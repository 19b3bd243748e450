"""One platform for all journeys, and every official `cf` that this machine has.

$CF_BIN names the programs (several are separated by colons); otherwise `cf`, `cf8` and `cf9` on PATH.
"""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.journeys.cf import Cf
from tests.journeys.platform import Platform, started


def _binaries() -> list[str]:
    named = os.environ.get("CF_BIN", "")
    found = named.split(":") if named else [shutil.which(name) or "" for name in ("cf", "cf8", "cf9")]
    return sorted({os.path.realpath(one) for one in found if one})


BINARIES = _binaries()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed journey shows what the platform's processes said last."""
    report = yield
    used = getattr(item, "funcargs", {})
    platform = used.get("platform") or used.get("own")
    if report.failed and isinstance(platform, Platform):
        report.sections.append(("platform", platform.diagnosis()))
    return report


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    # Credentials are changed without a gap only where an app may be bound twice.
    more = ("--set", "services.max_bindings_per_app_and_instance=2")
    with started(tmp_path_factory.mktemp("platform") / "data", *more) as platform:
        yield platform


@pytest.fixture(scope="session", params=BINARIES or [""], ids=[Path(one).name for one in BINARIES] or ["no cf"])
def cf(request: pytest.FixtureRequest, platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Cf:
    """A `cf` that is logged in, with a space of its own."""
    if not request.param:
        pytest.skip("no official cf CLI on PATH and $CF_BIN names none")
    name = Path(request.param).name
    cf = Cf(request.param, tmp_path_factory.mktemp(name))
    cf("api", platform.url)
    cf("auth", "admin", platform.password)
    cf("create-org", f"org-{name}")
    cf("create-space", "journeys", "-o", f"org-{name}")
    cf("target", "-o", f"org-{name}", "-s", "journeys")
    return cf


@pytest.fixture(scope="module")
def desk(
    cf: Cf, platform: Platform, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cf]:
    """A second session of the same `cf`, with an org of the module's own that goes with all that is in it.

    The org is called like the module and the program (`tenancy-cf9`), its space `desk`.
    """
    org = f"{request.module.__name__.rpartition('_')[2]}-{cf.name}"
    desk = Cf(cf.program, tmp_path_factory.mktemp(org))
    desk("api", platform.url)
    desk("auth", "admin", platform.password)
    desk("create-org", org)
    desk("create-space", "desk", "-o", org)
    desk("target", "-o", org, "-s", "desk")
    yield desk
    desk("delete-org", "-f", org)


@pytest.fixture
def platform_url(platform: Platform) -> str:
    return platform.url
