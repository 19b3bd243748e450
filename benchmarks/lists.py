"""Lists on a large platform: our times beside a query by hand on the same data, and beside Cloud Foundry's own.

    python -m benchmarks.lists [--quick] [--sqlite | --postgresql] [--only TEXT] [--markdown]

Puts the volumes of Cloud Foundry's performance CI (benchmarks/lists_volumes/seed.py) into SQLite and into a throw-away
PostgreSQL, and asks the whole application, in this process, for each list. `--quick` uses a twentieth of the volumes and
few rounds: what it says is rough, and misses are told but are no failure.

By hand means: the same answer, from SQL as text on the driver's own connection and one plain function for each noun
(benchmarks/lists_volumes/hand.py, views.py). Times are milliseconds of wall time, the best of several rounds that alternate between the
two sides. Goals (exit status 1 where one is missed): at most 3 times the query by hand; the first page of a list at most
3 times slower than on a platform of a hundredth of the size; the last page at most 5 times slower than the first. Half a
millisecond is allowed beside each: what a request costs that asks for nothing (benchmarks/api.py has goals for that). The
growth is judged up to 100,000 rows (and a few more), where the small platform fills a page as well, and for callers
whose own share does not grow along: who has a role in a tenth of everything has a hundred times as many roles there.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.lists_volumes.cases import Case, cases
from benchmarks.lists_volumes.hand import ByHand, connect
from benchmarks.lists_volumes.seed import seed
from benchmarks.lists_volumes.town import Town, Volumes
from cupola.api.table import OPERATIONS
from cupola.bell import Bells
from cupola.config import load
from cupola.rest.dispatch import App
from cupola.rest.operation import Services
from cupola.store.database import Database
from tests import postgres
from tests.databases import PlainVault, create_database

Ask = Callable[[], Awaitable[Any]]
BESIDE_HAND, GROWTH, DEPTH = 3.0, 3.0, 5.0
ALLOWED = 0.5
"""Milliseconds beside each goal."""
GROWN = 110_000
"""Rows up to which the growth is judged."""
SMALL, QUICK = 0.01, 0.05
ROUNDS, SECONDS, QUICK_SECONDS = 30, 1.0, 0.05
"""Rounds of one case at most, and for how long there are more of them."""


@dataclass
class Platform:
    """A seeded database with the application over it."""

    database: Database
    app: App
    town: Town
    threads: ThreadPoolExecutor
    api: str
    """The URL that links begin with."""

    async def get(self, path: str, who: str) -> bytes:
        """The body of the answer to a request by one of the town's actors."""
        plain, _, query = path.partition("?")
        headers = [(b"host", b"localhost:9080"), (b"authorization", who.encode()), (b"accept", b"application/json")]
        scope = {"type": "http", "method": "GET", "path": plain, "query_string": query.encode(), "headers": headers}
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        assert sent[0]["status"] == 200, (path, sent)
        return bytes(sent[1]["body"])


@dataclass(frozen=True)
class Result:
    """One case on one database: milliseconds."""

    case: Case
    rows: int
    hand: float
    ours: float
    small: float | None
    """Our time on the small platform, for first pages that are full there, too."""

    @property
    def key(self) -> tuple[str, str]:
        return self.case.title.partition(",")[0], self.case.who


@contextmanager
def platform(url: str, volumes: Volumes) -> Iterator[Platform]:
    """A platform of this size, gone afterwards."""
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(1) as threads:
        directory = Path(name)
        settings = load(environment={}, flags={"data_dir": str(directory)})
        database = Database(url, directory / "cupola.db", PlainVault(), Bells())
        town = seed(database, settings, volumes)

        async def no_wait(_guid: str, _seconds: float) -> None:
            return None

        services = Services(
            settings, database, authenticate=lambda header: town.actors[header or ""], wait_for_job=no_wait
        )
        app = App(OPERATIONS, services)
        yield Platform(database, app, town, threads, settings.api_url)
        app.close()
        database.close()


async def measure(sides: Mapping[str, Ask], seconds: float) -> dict[str, float]:
    """Milliseconds of one request, for each side."""
    best = dict.fromkeys(sides, float("inf"))
    until = time.perf_counter() + seconds
    for number in range(ROUNDS):
        for name, ask in sides.items():
            start = time.perf_counter()
            await ask()
            best[name] = min(best[name], (time.perf_counter() - start) * 1000)
        if number >= 2 and time.perf_counter() > until:
            break
    return best


async def run_case(large: Platform, small: Platform, case: Case, twin: Case, seconds: float) -> Result:
    """Measure one case; `twin` is the same on the small platform."""
    path = case.path
    first = msgspec.json.decode(await large.get(path, case.who))
    total = first["pagination"]["total_results"]
    page = first["pagination"]["total_pages"] if case.last else 1
    if page > 1:
        path += f"{'&' if '?' in path else '?'}page={page}"
    open_, named = connect(large.database)
    connection = open_()
    offset = (page - 1) * case.per_page
    actor = large.town.actors[case.who].guid
    hand = ByHand(connection.cursor(), named, case.hand, large.api, actor, case.per_page, offset)
    loop = asyncio.get_running_loop()
    agree(case, hand.ask(), msgspec.json.decode(await large.get(path, case.who)))
    sides: dict[str, Ask] = {
        "hand": lambda: loop.run_in_executor(large.threads, hand.ask),
        "ours": lambda: large.get(path, case.who),
    }
    if case.is_first and await is_full(small, twin):
        sides["small"] = lambda: small.get(twin.path, twin.who)
    best = await measure(sides, seconds)
    connection.close()
    return Result(case, total, best["hand"], best["ours"], best.get("small"))


async def is_full(small: Platform, twin: Case) -> bool:
    """Whether a first page has as many rows there, too: six rows beside fifty say nothing of how a list grows."""
    page = msgspec.json.decode(await small.get(twin.path, twin.who))
    return len(page["resources"]) == twin.per_page


def agree(case: Case, hand: tuple[int, bytes], own: Any) -> None:
    """Both sides answer the same resources."""
    total, body = hand
    assert total == own["pagination"]["total_results"], (case.title, case.who, total, own["pagination"])
    for theirs, ours in zip(msgspec.json.decode(body)["resources"], own["resources"], strict=True):
        assert theirs == ours, (case.title, case.who, theirs, ours)


def judge(results: Sequence[Result]) -> list[str]:
    """What misses a goal, as sentences."""
    missed = []
    firsts = {one.key: one for one in results if one.case.is_first}
    for one in results:
        name = f"{one.case.title} ({one.case.who})"
        if one.ours > BESIDE_HAND * one.hand + ALLOWED:
            missed.append(f"{name}: {one.ours / one.hand:.1f} times the query by hand")
        judged = one.case.steady and one.rows <= GROWN
        if judged and one.small is not None and one.ours > GROWTH * one.small + ALLOWED:
            missed.append(f"{name}: {one.ours / one.small:.1f} times as slow as on the small platform")
        first = firsts.get(one.key)
        if one.case.last and first is not None and one.ours > DEPTH * first.ours + ALLOWED:
            missed.append(f"{name}: {one.ours / first.ours:.1f} times as slow as the first page")
    return missed


HEAD = ("list", "who", "rows", "ours ms", "by hand ms", "ratio", "small ms", "grown", "Cloud Foundry ms")


def line(one: Result) -> tuple[str, ...]:
    """A row of the table."""
    return (
        one.case.title,
        one.case.who,
        f"{one.rows}",
        f"{one.ours:.1f}",
        f"{one.hand:.1f}",
        f"{one.ours / one.hand:.2f}",
        "" if one.small is None else f"{one.small:.1f}",
        "" if one.small is None else f"{one.ours / one.small:.1f}",
        "" if one.case.published is None else f"{one.case.published}",
    )


def show(cells: Sequence[str], markdown: bool) -> None:
    if markdown:
        print("| " + " | ".join(cells) + " |")
    else:
        print(f"{cells[0]:36} {cells[1]:10}" + "".join(f"{cell:>11}" for cell in cells[2:]), flush=True)


async def compare(large: Platform, small: Platform, only: str, markdown: bool, seconds: float) -> list[str]:
    """Measure all cases whose title has `only` in it; gives what misses a goal."""
    results = []
    show(HEAD, markdown)
    if markdown:
        show(["---"] * len(HEAD), markdown)
    for case, twin in zip(cases(large.town), cases(small.town), strict=True):
        if only in case.title:
            results.append(await run_case(large, small, case, twin, seconds))
            show(line(results[-1]), markdown)
    return judge(results)


def run(title: str, urls: tuple[str, str], options: argparse.Namespace) -> list[str]:
    """Seed two platforms on one kind of database and compare; gives what misses a goal."""
    volumes = Volumes().scaled(QUICK) if options.quick else Volumes()
    seconds = QUICK_SECONDS if options.quick else SECONDS
    started = time.perf_counter()
    with platform(urls[0], volumes) as large, platform(urls[1], volumes.scaled(SMALL)) as small:
        print(f"\n{title}: seeded in {time.perf_counter() - started:.0f} s\n")
        missed = asyncio.run(compare(large, small, options.only, options.markdown, seconds))
    for sentence in missed:
        print(f"MISSED {sentence}")
    return missed


def main() -> int:
    """Run the benchmark; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.lists")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the volumes, few rounds")
    parser.add_argument("--sqlite", action="store_true", help="SQLite alone")
    parser.add_argument("--postgresql", action="store_true", help="PostgreSQL alone")
    parser.add_argument("--only", default="", help="lists whose title has this in it")
    parser.add_argument("--markdown", action="store_true", help="print tables for docs/performance.md")
    options = parser.parse_args()
    missed = []
    if not options.postgresql:
        missed += run("SQLite", ("", ""), options)
    if not options.sqlite:
        try:
            with postgres.server() as server:
                urls = create_database(server), create_database(server)
                missed += run("PostgreSQL", urls, options)
        except postgres.NoPostgres as problem:
            print(f"PostgreSQL is left out: {problem}")
    return 1 if missed and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main())
