"""A process that runs jobs until it is killed: `python -m tests.jobs.victim URL`. Says `ready`, then what its jobs say.

Jobs: `slow` notes its mark and takes a moment; `outside` writes down that it has asked, says so, and waits for ever.
"""

import asyncio
import sys
import time
from pathlib import Path

from cupola.bell import Bells
from cupola.jobs.outside import Job, Outcome, Outside, OutsideJob
from cupola.store.database import Database, Tx
from tests.databases import PlainVault
from tests.jobs.rig import note, running


def say(word: str) -> None:
    print(word, flush=True)  # noqa: T201  # the test reads it


def slow(tx: Tx, job: Job) -> None:
    note(tx, job.payload["mark"])
    say(f"working {job.payload['mark']}")
    time.sleep(0.02)


async def outside(job: OutsideJob) -> Outcome:
    job.payload["asked"] = True
    await job.write(lambda tx: note(tx, "asked"))
    say("asked")
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def main(url: str) -> None:
    database = Database(url, Path("unused"), PlainVault(), Bells())
    async with running(database, {"slow": slow, "outside": Outside(outside)}, lease_seconds=1.0):
        say("ready")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
