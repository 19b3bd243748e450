"""Connections and transactions, on SQLite and on PostgreSQL.

A request or a job opens one `Tx`: `Database.write()` is a transaction, `Database.read()` runs in AUTOCOMMIT. All of it
is synchronous and belongs on a worker thread, never on the event loop (design.md section 5).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, CursorResult, Engine, Executable, Row, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.pool import QueuePool

from cupola import clock
from cupola.bell import Bells
from cupola.store import arrays as arrays  # says how IN is written on PostgreSQL
from cupola.store import readers
from cupola.store.prepared import Prepared

__all__ = ["Database", "DatabaseProblem", "Tx", "Vault"]

CHANNEL = "cupola_bells"
"""PostgreSQL notification channel; the payload is a bell's name."""


class DatabaseProblem(Exception):
    """The database cannot be used; the text says why and what to do."""


class Vault(Protocol):
    """Encryption at rest (cupola.secrets.vault). `context` binds a value to its place: `apps.environment`."""

    def seal(self, plain: bytes, context: str) -> str: ...

    def open(self, sealed: str, context: str) -> bytes: ...

    def derive(self, purpose: str) -> list[bytes]: ...


class Tx:
    """A connection for the time of one piece of work. Not for use by two threads."""

    def __init__(self, connection: Connection, vault: Vault, bells: Bells, writable: bool) -> None:
        self.connection = connection
        self.vault = vault
        self.writable = writable
        self.now = clock.micros()
        """Microseconds since 1970 at the start; the timestamp of everything written here."""
        self.statements = 0
        """Statements sent so far (tests count them)."""
        self._bells = bells
        self._rings: list[str] = []
        self._after: list[Callable[[], None]] = []

    def run(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Execute; `parameters` is one mapping or a list of them."""
        self.statements += 1
        return self.connection.execute(statement, parameters)

    def all(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """All rows."""
        if isinstance(statement, Prepared):
            return statement.all(self, parameters or {})
        return self.run(statement, parameters).all()

    def one(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Row[Any] | None:
        """The first row, or None."""
        if isinstance(statement, Prepared):
            return statement.one(self, parameters or {})
        return self.run(statement, parameters).first()

    def scalar(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Any:
        """The first column of the first row, or None."""
        if isinstance(statement, Prepared):
            row = statement.one(self, parameters or {})
            return None if row is None else row[0]
        return self.run(statement, parameters).scalar()

    def scalars(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        """The first column of all rows."""
        if isinstance(statement, Prepared):
            return [row[0] for row in statement.all(self, parameters or {})]
        return list(self.run(statement, parameters).scalars())

    def ring(self, bell: str) -> None:
        """Ring `bell` once this transaction is committed; never when it is rolled back."""
        if bell not in self._rings:
            self._rings.append(bell)

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` once the commit is done; it must not fail and must not touch the database."""
        self._after.append(action)

    def _before_commit(self) -> None:
        if self._rings and self.connection.dialect.name == "postgresql":
            for bell in self._rings:
                self.connection.execute(text("SELECT pg_notify(:channel, :bell)"), {"channel": CHANNEL, "bell": bell})

    def _committed(self) -> None:
        for bell in self._rings:
            self._bells.ring(bell)
        for action in self._after:
            action()


class _FairLock:
    """Writers get their turn in the order in which they asked; threading.Lock promises no order."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._queue: deque[threading.Lock] = deque()
        self._held = False

    def acquire(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._queue.append(turn)
        turn.acquire()

    def release(self) -> None:
        with self._guard:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._held = False


class Database:
    """One database. `url` empty means SQLite at `file`."""

    def __init__(
        self, url: str, file: Path, vault: Vault, bells: Bells, *, threads: int = 8, statement_timeout: float = 30.0
    ) -> None:
        self.vault = vault
        self.bells = bells
        self.url = _normalized(url, file)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._write_lock = _FairLock()
        self._timeout = statement_timeout
        # Readers have connections of their own that stay in AUTOCOMMIT: to switch one costs more than a small query.
        self.engine = self._engine(threads)
        self.reader = self._engine(threads, isolation_level="AUTOCOMMIT")
        self._readers = readers.Readers(self.reader, threads)
        if self.is_sqlite:
            event.listen(self.engine, "begin", _begin_immediate)

    def _engine(self, threads: int, **more: Any) -> Engine:
        if self.is_sqlite:
            arguments: dict[str, Any] = {"check_same_thread": False, "timeout": 30}
            more["poolclass"] = QueuePool
        else:
            # To compile a statement takes PostgreSQL longer than any of ours runs.
            arguments = {"options": f"-c statement_timeout={int(self._timeout * 1000)} -c jit=off"}
        engine = create_engine(self.url, pool_size=threads, max_overflow=threads, connect_args=arguments, **more)
        if self.is_sqlite:
            event.listen(engine, "connect", self._prepare_sqlite)
        else:
            event.listen(engine, "checkout", _try_idle)
            event.listen(engine, "checkin", _note_use)
        return engine

    def _prepare_sqlite(self, connection: Any, record: Any) -> None:
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "cache_size=-16384",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")

        def expired() -> int:
            return 1 if time.monotonic() > record.info.get("deadline", float("inf")) else 0

        connection.set_progress_handler(expired, 200_000)

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """Statements that only read, each its own snapshot."""
        connection = self._readers.take()
        try:
            self._start_clock(connection)
            yield Tx(connection, self.vault, self.bells, writable=False)
        except BaseException:
            # Whatever happened to it, the pool knows what to do.
            self._readers.drop(connection)
            raise
        self._readers.give_back(connection)

    @contextmanager
    def write(self) -> Iterator[Tx]:
        """One transaction: committed at the end of the block, rolled back when it raises."""
        if self.is_sqlite:
            self._write_lock.acquire()
        try:
            with self.engine.connect() as connection:
                self._start_clock(connection)
                with connection.begin():
                    tx = Tx(connection, self.vault, self.bells, writable=True)
                    yield tx
                    tx._before_commit()
        finally:
            if self.is_sqlite:
                self._write_lock.release()
        tx._committed()

    def _start_clock(self, connection: Connection) -> None:
        if self.is_sqlite:
            connection.info["deadline"] = time.monotonic() + self._timeout

    def check(self) -> None:
        """Raise DatabaseProblem when the database cannot be opened, is damaged or is locked by another program."""
        try:
            with self.engine.connect() as connection:
                if self.is_sqlite:
                    found = connection.execute(text("PRAGMA quick_check(1)")).scalar()
                    if found != "ok":
                        raise DatabaseProblem(
                            f"the database {self.url.database} is damaged ({found}): restore it from a backup, "
                            "or move it away to start with an empty one"
                        )
                connection.execute(text("SELECT 1"))
        except DBAPIError as error:
            where = self.url.database if self.is_sqlite else self.url.render_as_string(hide_password=True)
            raise DatabaseProblem(f"cannot use the database {where}: {error.orig}") from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        self._readers.close()

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        """The statements that anybody sends meanwhile, as they are written down (tests count them)."""
        seen: list[str] = []

        def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
            seen.append(statement)

        for engine in (self.engine, self.reader):
            event.listen(engine, "before_cursor_execute", note)
        try:
            yield seen
        finally:
            for engine in (self.engine, self.reader):
                event.remove(engine, "before_cursor_execute", note)


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _try_idle(connection: Any, record: Any, proxy: Any) -> None:
    """Try a connection that was not used for a while: the server may have been restarted since."""
    import psycopg  # loaded by the engine already; on SQLite it is never needed

    if time.monotonic() - record.info.get("used", 0.0) > readers.IDLE_SECONDS and "used" in record.info:
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except psycopg.Error as error:
            raise DisconnectionError from error


def _note_use(connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _normalized(url: str, file: Path) -> URL:
    if not url:
        return URL.create("sqlite", database=str(file))
    parsed = make_url(url)
    if parsed.drivername in {"postgres", "postgresql"}:
        return parsed.set(drivername="postgresql+psycopg")
    return parsed
