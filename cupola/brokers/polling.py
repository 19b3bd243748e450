"""When to ask a broker again how far it is, and when to give up (reference/service-brokers.md section 8)."""

from cupola.config import Brokers

__all__ = ["expired", "next_poll"]

_MAX_INTERVAL = 86_400.0
_MINUTE = 60_000_000


def next_poll(settings: Brokers, polls: int, retry_after: float | None) -> float:
    """Seconds until the next question, after `polls` of them; a broker may ask for more, never for less."""
    # Exponents that a float cannot hold are those of a broker that is asked at the maximum anyway.
    interval = min(settings.poll_max_seconds, settings.poll_seconds * settings.poll_backoff ** min(polls, 100))
    return min(_MAX_INTERVAL, max(interval, retry_after or 0.0))


def expired(settings: Brokers, since: int, now: int, maximum_polling_duration: int | None) -> bool:
    """Whether an operation that began at `since` takes too long; times in microseconds, the plan's maximum in seconds.

    A plan may allow less time than the platform, never more.
    """
    limit = settings.max_poll_minutes * _MINUTE
    if maximum_polling_duration is not None and maximum_polling_duration > 0:
        limit = min(limit, maximum_polling_duration * 1_000_000)
    return now - since >= limit
