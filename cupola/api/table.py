"""The complete API on one screen: every resource's operations, joined."""

from cupola.api import organizations, spaces, stacks
from cupola.rest.operation import Operation

__all__ = ["OPERATIONS"]

OPERATIONS: list[Operation] = [
    *organizations.OPERATIONS,
    *spaces.OPERATIONS,
    *stacks.OPERATIONS,
]
