"""How the work of a broker ends badly: what the job says, what the last operation says, and what is left behind."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from cupola.brokers.problems import BrokerError
from cupola.domain import service_errors
from cupola.errors import CloudError
from cupola.store.database import Tx

__all__ = ["Door", "NotDone", "broker_failed", "late", "not_done", "text_of"]

T = TypeVar("T")


class Door(Protocol):
    """How whoever calls brokers comes to the database between calls: a job (OutsideJob) or a request (StreamCall)."""

    def read(self, function: Callable[[Tx], T]) -> Awaitable[T]: ...

    def write(self, function: Callable[[Tx], T]) -> Awaitable[T]: ...


class NotDone(CloudError):
    """The error of a job; `description` is for the last operation, `orphan`: the broker may have made something.

    `keeps`: the operation that was under way before is still the last one.
    """

    def __init__(self, error: CloudError, description: str, *, orphan: bool = False, keeps: bool = False) -> None:
        super().__init__(error.code, error.title, error.status, error.detail)
        self.description = description
        self.orphan = orphan
        self.keeps = keeps


def text_of(error: CloudError) -> str:
    """What a user reads of an error."""
    return error.text if isinstance(error, BrokerError) else error.detail


def broker_failed(verb: str, error: BrokerError) -> NotDone:
    """The broker did not do what `verb` (provision, update, bind) says."""
    return NotDone(service_errors.unable_to_perform(verb, error.text), error.text, orphan=error.orphan)


def not_done(verb: str, description: str, *, orphan: bool = False, keeps: bool = False) -> NotDone:
    """It was not done, for a reason of its own."""
    return NotDone(service_errors.unable_to_perform(verb, description), description, orphan=orphan, keeps=keeps)


def late(verb: str, *, orphan: bool = False) -> NotDone:
    """The broker was asked again and again for as long as it may take."""
    description = f"Service Broker failed to {verb} within the required time."
    return NotDone(service_errors.job_timeout(), description, orphan=orphan)
