"""Operations of the contract that nobody answers yet: the list may only shrink."""

from pathlib import Path

from starlette.routing import Route

from cupola.api.table import OPERATIONS
from cupola.config import load
from cupola.logcache.routes import routes as log_cache_routes
from cupola.logs.ring import Ring
from cupola.rest.operation import Operation
from tests.house import contract, pinned

HEADER = """
Operations of the contract (tests/contract/operations.json) that Cupola does not serve yet.
A line that appears here is a step back; one that goes is written down by the next run with CUPOLA_WRITE_TABLES=1.
"""


def served(tmp_path: Path) -> set[str]:
    """What answers, from the tables that requests are looked up in."""
    found = {contract.normal(operation.method, operation.path) for operation in OPERATIONS}
    settings = load(environment={}, flags={"data_dir": str(tmp_path)})
    ring = Ring(tmp_path / "ring", settings.logs)

    async def nobody(*_: object) -> bool:
        return False

    for route in log_cache_routes(ring, nobody, "3.0.0"):
        assert isinstance(route, Route)
        found |= {contract.normal(method, route.path) for method in route.methods or ()}
    ring.close()
    return found


def by_form(key: str) -> Operation | None:
    """The operation that serves `POST /v3/packages?source_guid={}`: the same without the query, if it takes that."""
    method, _, path = key.partition(" ")
    bare, _, query = path.partition("?")
    for operation in OPERATIONS:
        if (operation.method, operation.path) == (method, bare):
            names = {parameter.name for parameter in operation.query}
            return operation if {part.partition("=")[0] for part in query.split("&")} <= names else None
    return None


def test_operations_not_served(tmp_path: Path) -> None:
    known = served(tmp_path)
    missing = [
        one
        for one in contract.table("operations")
        if contract.normal(one["method"], one["path"]) not in known
        and by_form(f"{one['method']} {one['path']}") is None
    ]
    lines = sorted((one["path"], one["method"], one["origin"]) for one in missing)
    pinned.check("operations_not_served.txt", HEADER, [f"{method} {path} [{origin}]" for path, method, origin in lines])


def test_operations_beyond_the_contract() -> None:
    """What no document has is listed, so that nothing is served by accident."""
    known = set(contract.operations())
    extra = [
        f"{operation.method} {operation.path}"
        for operation in OPERATIONS
        if contract.normal(operation.method, operation.path) not in known
    ]
    header = "Operations that Cupola serves and the contract does not have."
    pinned.check("operations_beyond_contract.txt", header, sorted(extra))
