"""What only operators do, to the platform as a whole."""

from cupola.api import access
from cupola.rest.operation import Accepted, Call, Operation
from cupola.store import jobs

__all__ = ["OPERATIONS"]


def clear_buildpack_cache(call: Call[None, None]) -> Accepted:
    """Delete the buildpack caches of all apps; their next stagings fetch everything again."""
    # Asked for twice at once, it is done once.
    job = jobs.enqueue(call.tx, _CLEAR, {}, actor=call.actor, lane="cleanup", dedup=_CLEAR)
    return Accepted(job)


_CLEAR = "admin.clear_buildpack_cache"

OPERATIONS: list[Operation] = [
    Operation(
        "POST",
        "/v3/admin/actions/clear_buildpack_cache",
        clear_buildpack_cache,
        allow=access.ADMIN,
        status=202,
        job=True,
    )
]
