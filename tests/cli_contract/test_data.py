"""The data says what it should: no command is missing, nothing in it is unused, and what is put off is put off rightly."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import yaml

from tests.cli_contract.book import HERE, Book, Call, Each, Step, read
from tests.cli_contract.replay import Broken, Replayer
from tests.journeys.platform import Platform

BOOK = read()
DATA = HERE / "data"


def listed() -> set[str]:
    """Every command that section (f) of the reference names."""
    lines = (DATA / "commands.txt").read_text().splitlines()
    return {line for line in lines if not line.startswith("#")}


def calls(steps: Iterable[Step]) -> Iterator[Call]:
    for step in steps:
        if isinstance(step, Each):
            yield from calls(step.calls)
        else:
            yield step


def every_call(book: Book) -> Iterator[Call]:
    for command in book.commands.values():
        yield from calls((*command.prepare, *command.calls, *command.see, *command.restore))


def test_every_command_is_replayed_or_put_off_or_local() -> None:
    later = {word for tag in BOOK.later.values() for word in tag["commands"]}
    assert BOOK.words() | later | BOOK.local.keys() == listed()


def test_no_command_is_both_replayed_and_put_off() -> None:
    later = {word for tag in BOOK.later.values() for word in tag["commands"]}
    assert BOOK.words() & later == set()
    assert BOOK.words() & BOOK.local.keys() == set()
    assert later & BOOK.local.keys() == set()


def test_every_reason_is_given() -> None:
    assert all(BOOK.local.values())
    assert all(tag["reason"] for tag in BOOK.later.values())


@pytest.mark.parametrize("tag", BOOK.later)
def test_what_is_put_off_is_not_served_yet(tag: str, replayer: Replayer, platform: Platform) -> None:
    """Fails as soon as the platform serves it: then take the tag out of later.yaml and out of the commands."""
    reason = BOOK.later[tag]["reason"]
    try:
        replayer.replay_steps(f"later: {tag}", BOOK.probes[tag], replayer.shared("cf login"))
    except Broken as problem:
        pytest.fail(f"{reason}: no longer so; replay what `needs: {tag}`.\n{problem}", pytrace=False)


def test_every_use_names_a_command() -> None:
    known = BOOK.commands
    for command in known.values():
        for use in (*command.after, *command.fresh):
            assert use.command in known, f"{command.name} builds on {use.command}, which is not replayed"


def test_every_type_can_be_checked() -> None:
    assert list(BOOK.shapes.unknown()) == []
    for call in every_call(BOOK):
        for shape in [call.shape, *call.spec.get("includes", {}).values()]:
            assert not shape or BOOK.shapes.knows(shape), f"{call.method} {call.url}: no shape {shape}"


def test_every_shape_and_block_is_used() -> None:
    sources = [file.read_text() for file in DATA.rglob("*.yaml")]
    for name in yaml.safe_load((DATA / "shapes.yaml").read_text()).keys() - {"pagination"}:  # of every page
        used = re.compile(rf"[:{{] ?(\d{{3}} |(list|map|page|jwt) of |some )*{re.escape(name)}( or null)?[ ,}}\n]")
        assert any(used.search(text) for text in sources), f"no answer has the shape {name}"
    for name in yaml.safe_load((DATA / "blocks.yaml").read_text()):
        used = re.compile(rf"(- |[\[,] ?){re.escape(name)}( as \w+)?[\n,\] ]")
        assert any(used.search(text) for text in sources), f"no command uses the block {name}"


def test_every_pattern_is_a_pattern() -> None:
    patterns: list[Any] = [one for call in every_call(BOOK) for one in call.spec.get("matches", {}).values()]
    assert patterns
    for pattern in patterns:
        re.compile(pattern)


def test_calls_that_change_something_say_what_comes_of_it() -> None:
    """A POST that makes something without a shape or a Location that is polled would be checked by its status only."""
    bare = {
        f"{call.method} {call.url}"
        for call in every_call(BOOK)
        if call.status == 201 and not call.shape
    }  # fmt: skip
    assert bare == set()
