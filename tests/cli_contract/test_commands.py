"""Every command of the CLI that the platform serves, replayed call by call.

What is replayed is in data/commands/; a failure names the command, the call, what was wrong and the whole answer.
"""

import pytest

from tests.cli_contract.book import read
from tests.cli_contract.replay import Broken, Replayer
from tests.journeys.platform import Platform

COMMANDS = list(read().commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, replayer: Replayer, platform: Platform) -> None:
    problem = ""
    try:
        replayer.shared(command)
    except Broken as broken:
        problem = str(broken)
    if problem:
        pytest.fail(problem, pytrace=False)
