"""Jobs: what became of work that was accepted."""

from typing import Any, TypedDict

from sqlalchemy import Row

from cupola.domain import visibility
from cupola.rest.operation import Call, Operation, Reply, list_, show
from cupola.rest.present import Links, common
from cupola.rest.resource import Filter, Resource, World
from cupola.roles import Actor
from cupola.store.jobs import jobs

__all__ = ["OPERATIONS"]


class Job(TypedDict):
    """A job as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    operation: str
    state: str
    errors: list[dict[str, Any]]
    warnings: list[dict[str, str]]
    links: Links


def _link_name(resource_type: str) -> str:
    """`apps` is linked as `app`; two kinds of job have kept the plural (contract job_operations.json)."""
    return (
        resource_type if resource_type in {"service_brokers", "service_instances"} else resource_type.removesuffix("s")
    )


def view(row: Row[Any], world: World) -> dict[str, Any]:
    links = {"self": world.link(f"/v3/jobs/{row.guid}")}
    deleted = row.operation.endswith(".delete") and row.state == "COMPLETE"
    if row.resource_type and row.resource_guid and not deleted:
        links[_link_name(row.resource_type)] = world.link(f"/v3/{row.resource_type}/{row.resource_guid}")
    return {
        **common(row),
        "operation": row.operation,
        "state": row.state,
        "errors": row.errors,
        "warnings": row.warnings,
        "links": links,
    }


def _own(actor: Actor) -> Any:
    # One job is shown to whoever knows its guid; a list of all of them only to those who read everything.
    return None if actor.reads_everything else jobs.c.guid == ""


JOBS = Resource(
    name="job",
    path="/v3/jobs",
    table=jobs,
    view=view,
    shape=Job,
    visible=visibility.everyone,
    labels=False,
)
LISTED = Resource(
    name="job",
    path="/v3/jobs",
    table=jobs,
    view=view,
    shape=Job,
    visible=_own,
    labels=False,
    filters=[
        Filter("operations", jobs.c.operation),
        Filter("states", jobs.c.state, choices=("COMPLETE", "FAILED", "POLLING", "PROCESSING")),
        Filter("resource_guids", jobs.c.resource_guid),
    ],
)


def show_job(call: Call[Row[Any], None]) -> Reply:
    """Get one job."""
    return Reply(200, call.present(JOBS, call.row), early=call.row.state == "PROCESSING")


OPERATIONS: list[Operation] = [list_(LISTED, quiet=["label_selector"]), show(JOBS, run=show_job, bells=["jobs.done"])]
