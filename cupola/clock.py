"""Time, in one replaceable place, so that tests can move it.

Timestamps of the API are UTC with a resolution of one second, written `YYYY-MM-DDThh:mm:ssZ`. The database holds them
as integers: microseconds since 1970, so that the order of rows made within a second is kept.
"""

import time
from datetime import UTC, datetime
from functools import lru_cache

__all__ = ["format_api", "micros", "nanos", "parse_api", "seconds"]


def nanos() -> int:
    """Now, in nanoseconds since 1970 (log envelopes)."""
    return time.time_ns()


def micros() -> int:
    """Now, in microseconds since 1970 (database columns)."""
    return nanos() // 1000


def seconds() -> float:
    """Now, in seconds since 1970 (token claims, leases)."""
    return nanos() / 1e9


def format_api(value: int) -> str:
    """Microseconds since 1970 as the API writes them: `2026-11-24T10:00:00Z`."""
    return _written(value // 1_000_000)


@lru_cache(maxsize=1 << 14)
def _written(second: int) -> str:
    # Two for each row of a list, and many rows are of the same second.
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def parse_api(text: str) -> int:
    """The reverse of `format_api`; raises ValueError for any other form (contract: limits.json, filters)."""
    if len(text) != len("YYYY-MM-DDThh:mm:ssZ"):
        raise ValueError(f"not of the form YYYY-MM-DDThh:mm:ssZ: {text[:40]}")
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000
