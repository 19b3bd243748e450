"""The engine as an ordinary user has it, when root runs the tests: the same files, in the modes of such a user."""

import os
import re
from collections.abc import Iterator

import pytest

from tests.ordinary import ROOT, Ordinary, Unavailable, ordinary_user

SUITE = (
    "test_local_engine.py",
    "test_network.py",
    "test_bindings.py",
    "test_identity.py",
    "test_cell.py",
    "test_output.py",
    "test_spaces.py",
)


@pytest.fixture(scope="module")
def user() -> Iterator[Ordinary]:
    if os.getuid() != 0:
        pytest.skip("an ordinary user runs these files anyway")
    try:
        with ordinary_user() as found:
            yield found
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.timeout(500)
@pytest.mark.parametrize("file", SUITE)
def test_the_engine_of_an_ordinary_user(user: Ordinary, file: str) -> None:
    arguments = ["-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    where = ["--basetemp", str(user.home / "t"), str(ROOT / "tests" / "runtime" / file)]
    done = user.run("-m", "pytest", "-q", *arguments, *where, seconds=480)
    assert done.returncode == 0, done.stdout[-8000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 0
