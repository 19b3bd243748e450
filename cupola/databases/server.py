"""What is said to the PostgreSQL server: one database and one owner per instance, one login per binding.

    db_GUID          the database; nobody connects but its owner's members
    db_GUID_owner    owns everything in it, and cannot log in
    u_GUID           the role of a binding: a member of the owner that acts as the owner from the first statement on

What the broker knows is what the server knows: requests are kept as comments of these, so there is no second truth that
could differ. Steps are in such an order, and so repeatable, that a broker which was killed anywhere between them goes on
when it is asked again. Blocking; a connection for each call, because calls are rare.

    Refused        the answer to a request is no; status and text as in the Open Service Broker API
    Unavailable    the server cannot be asked
"""

import hashlib
import hmac
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

__all__ = ["Location", "Names", "Refused", "Server", "Unavailable", "names"]

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_CONNECT_SECONDS = 10
_STATEMENT_SECONDS = 60
_LOCK_SECONDS = 20
_GONE_SECONDS = 5.0
"""Seconds in which connections that were ended must be gone."""

Connection = psycopg.Connection[TupleRow]


class Refused(Exception):
    """No. `error` is a word of the Open Service Broker API, or empty."""

    def __init__(self, status: int, text: str, error: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.error = error


class Unavailable(Exception):
    """The server does not answer, or not as it should."""


@dataclass(frozen=True)
class Location:
    """Where apps find the server. `options` belong into their URLs, such as sslmode."""

    host: str
    port: int
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Names:
    """What an instance's things are called on the server."""

    database: str
    owner: str


def _hexadecimal(guid: str, what: str) -> str:
    if not _GUID.fullmatch(guid):
        raise Refused(400, f"the {what} must be a guid such as 6c4a1b7e-0d5f-4c55-9a53-2d6a0f1f8a11")
    return guid.replace("-", "")


def names(instance: str) -> Names:
    """The names of an instance. Raises Refused for what is no guid."""
    found = f"db_{_hexadecimal(instance, 'instance_id')}"
    return Names(found, f"{found}_owner")


class Server:
    """The server, through its administrator's eyes. `secret` is what passwords of bindings are derived from."""

    def __init__(self, administrator: Mapping[str, Any], location: Location, secret: str) -> None:
        self._administrator = make_conninfo(
            **{
                "connect_timeout": _CONNECT_SECONDS,
                "application_name": "cupola-databases",
                "options": f"-c statement_timeout={_STATEMENT_SECONDS}s -c lock_timeout={_LOCK_SECONDS}s",
                **administrator,
            }
        )
        self._location = location
        self._secret = secret.encode()

    # Instances.

    def provision(self, instance: str, request: Mapping[str, str], connections: int) -> bool:
        """Make a database; whether it was made now, and not there already for the same request. Raises Refused."""
        called = names(instance)
        note = {"instance": instance, **request}
        with self._locked(instance) as server:
            kept = _note_of_database(server, called.database)
            if kept is not None:
                _require_same(kept, note, "instance")
                return False
            begun = _note_of_role(server, called.owner)
            if begun is None:
                with server.transaction():
                    _run(server, "CREATE ROLE {owner} NOLOGIN", owner=called.owner)
                    _be_member(server, called.owner)
                    _comment(server, "ROLE", called.owner, note)
            else:
                _require_same(begun, note, "instance")
            if not _exists(server, called.database):
                # From the empty template, and closed until nobody but its owner may come in.
                _run(
                    server,
                    "CREATE DATABASE {database} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false",
                    database=called.database,
                    owner=called.owner,
                )
            with server.transaction():
                _run(server, "REVOKE ALL ON DATABASE {database} FROM PUBLIC", database=called.database)
                _limit(server, called.database, connections)
                _run(server, "ALTER DATABASE {database} WITH ALLOW_CONNECTIONS true", database=called.database)
                _comment(server, "DATABASE", called.database, note)
        return True

    def update(self, instance: str, service_id: str, plan_id: str, connections: int) -> None:
        """Give a database another plan. Raises Refused."""
        called = names(instance)
        with self._locked(instance) as server:
            note = _require_database(server, called.database)
            if note.get("service_id") != service_id:
                raise Refused(400, f"the instance {instance} is of another service")
            changed = {**note, "plan_id": plan_id}
            with server.transaction():
                _limit(server, called.database, connections)
                _comment(server, "ROLE", called.owner, changed)
                _comment(server, "DATABASE", called.database, changed)

    def deprovision(self, instance: str) -> None:
        """Remove a database with everything in it, and the roles of its bindings. Raises Refused."""
        called = names(instance)
        with self._locked(instance) as server:
            there = _exists(server, called.database)
            if not there and _role(server, called.owner) is None:
                raise Refused(410, "there is no such instance")
            members = _members(server, called.owner)
            if there:
                _run(server, "ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false", database=called.database)
                for member in members:
                    _shut(server, member)
                _run(server, "DROP DATABASE {database} WITH (FORCE)", database=called.database)
            with server.transaction():
                for role in (*members, called.owner):
                    _run(server, "DROP ROLE IF EXISTS {role}", role=role)

    def instance(self, instance: str) -> dict[str, Any]:
        """What an instance was asked for with. Raises Refused."""
        called = names(instance)
        with self._connection() as server:
            return _require_database(server, called.database)

    # Bindings.

    def bind(self, instance: str, binding: str, request: Mapping[str, str]) -> tuple[bool, dict[str, Any]]:
        """Make a role; whether it was made now, and its credentials. Raises Refused."""
        called, role = names(instance), _binding_role(binding)
        note = {"instance": instance, "binding": binding, **request}
        password = self._password(binding)
        with self._locked(instance) as server:
            owned = _require_database(server, called.database)
            if owned.get("service_id") != request.get("service_id"):
                raise Refused(400, f"the instance {instance} is of another service")
            kept = _note_of_role(server, role)
            if kept is not None:
                _require_same(kept, note, "binding")
                # Its removal may have begun, and not ended.
                _run(server, "ALTER ROLE {role} LOGIN", role=role)
                return False, self._credentials(called, role, password)
            verifier = _verifier(server, role, password)
            with server.transaction():
                # The server learns no password: what an error or its log might show is of no use to anybody.
                _run(server, "CREATE ROLE {role} LOGIN PASSWORD {password}", role=role, password=sql.Literal(verifier))
                _be_member(server, role)
                _run(server, "GRANT {owner} TO {role}", owner=called.owner, role=role)
                _run(
                    server,
                    "ALTER ROLE {role} IN DATABASE {database} SET role TO {owner}",
                    role=role, database=called.database, owner=called.owner,
                )  # fmt: skip
                _comment(server, "ROLE", role, note)
        return True, self._credentials(called, role, password)

    def unbind(self, instance: str, binding: str) -> None:
        """End a binding's connections and remove its role; what it owns goes to the owner. Raises Refused."""
        called, role = names(instance), _binding_role(binding)
        with self._locked(instance) as server:
            note = _note_of_role(server, role)
            if note is None or note.get("instance") != instance:
                raise Refused(410, "there is no such binding")
            _shut(server, role)
            if _exists(server, called.database):
                with self._connection(called.database) as inside, inside.transaction():
                    _run(inside, "REASSIGN OWNED BY {role} TO {owner}", role=role, owner=called.owner)
                    _run(inside, "DROP OWNED BY {role}", role=role)
            _run(server, "DROP ROLE {role}", role=role)

    def binding(self, instance: str, binding: str) -> dict[str, Any]:
        """The credentials of a binding. Raises Refused."""
        called, role = names(instance), _binding_role(binding)
        with self._connection() as server:
            note = _note_of_role(server, role)
        if note is None or note.get("instance") != instance:
            raise Refused(404, "there is no such binding")
        return self._credentials(called, role, self._password(binding))

    def endpoints(self) -> list[dict[str, Any]]:
        """What an app that is bound must reach."""
        return [{"host": self._location.host, "ports": [str(self._location.port)], "protocol": "tcp"}]

    def _password(self, binding: str) -> str:
        found = hmac.new(self._secret, b"binding:" + binding.encode(), hashlib.sha256).digest()
        return urlsafe_b64encode(found).decode().rstrip("=")

    def _credentials(self, called: Names, role: str, password: str) -> dict[str, Any]:
        where = self._location
        host = f"[{where.host}]" if ":" in where.host else where.host
        options = "&".join(f"{name}={value}" for name, value in where.options.items())
        address = f"{host}:{where.port}/{called.database}"
        return {
            "uri": f"postgresql://{role}:{password}@{address}{'?' + options if options else ''}",
            "jdbcUrl": f"jdbc:postgresql://{address}?user={role}&password={password}{'&' + options if options else ''}",
            "hostname": where.host,
            "port": where.port,
            "name": called.database,
            "username": role,
            "password": password,
        }

    # Connections.

    @contextmanager
    def _connection(self, database: str | None = None) -> Iterator[Connection]:
        where = make_conninfo(self._administrator, dbname=database) if database else self._administrator
        try:
            with psycopg.connect(where, autocommit=True) as server:
                yield server
        except psycopg.Error as error:
            said = error.diag.message_primary or str(error).strip().partition("\n")[0] or type(error).__name__
            raise Unavailable(f"the database server does not do what it should: {said}") from error

    @contextmanager
    def _locked(self, instance: str) -> Iterator[Connection]:
        """One request for an instance at a time, whoever asks; the lock ends with the connection."""
        number = int.from_bytes(hashlib.sha256(instance.encode()).digest()[:8], signed=True)
        with self._connection() as server:
            try:
                server.execute("SELECT pg_advisory_lock(%s)", (number,))
            except psycopg.errors.LockNotAvailable as error:
                raise Refused(422, "another request for this instance is under way", "ConcurrencyError") from error
            yield server


def _binding_role(binding: str) -> str:
    return f"u_{_hexadecimal(binding, 'binding_id')}"


def _run(server: Connection, statement: str, **parts: str | sql.Literal) -> None:
    """A statement whose {parts} are names of things, or literals."""
    filled = {name: sql.Identifier(part) if isinstance(part, str) else part for name, part in parts.items()}
    server.execute(sql.SQL(statement).format(**filled))


def _one(server: Connection, query: str, *values: str) -> Any:
    row = server.execute(query, values).fetchone()
    return None if row is None else row[0]


def _exists(server: Connection, database: str) -> bool:
    return _one(server, "SELECT 1 FROM pg_database WHERE datname = %s", database) is not None


def _role(server: Connection, role: str) -> Any:
    return _one(server, "SELECT oid FROM pg_roles WHERE rolname = %s", role)


def _note_of_database(server: Connection, database: str) -> dict[str, Any] | None:
    """The request that a complete database was made for."""
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    return _note(_one(server, query, database))


def _note_of_role(server: Connection, role: str) -> dict[str, Any] | None:
    return _note(_one(server, "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s", role))


def _note(text: str | None) -> dict[str, Any] | None:
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])


def _require_database(server: Connection, database: str) -> dict[str, Any]:
    found = _note_of_database(server, database)
    if found is None:
        raise Refused(404, "there is no such instance")
    return found


def _require_same(kept: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    if kept != wanted:
        raise Refused(409, f"there is another {what} with this id")


def _comment(server: Connection, kind: str, name: str, note: Mapping[str, Any]) -> None:
    text = sql.Literal(msgspec.json.encode(note).decode())
    _run(server, f"COMMENT ON {kind} {{name}} IS {{text}}", name=name, text=text)


def _limit(server: Connection, database: str, connections: int) -> None:
    _run(server, f"ALTER DATABASE {{database}} WITH CONNECTION LIMIT {connections:d}", database=database)


def _be_member(server: Connection, role: str) -> None:
    """An administrator that is no superuser manages only what it is a member of."""
    if not _one(server, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        _run(server, "GRANT {role} TO CURRENT_USER", role=role)


def _members(server: Connection, owner: str) -> list[str]:
    """The roles of an instance's bindings."""
    rows = server.execute(
        "SELECT member.rolname FROM pg_auth_members JOIN pg_roles member ON member.oid = pg_auth_members.member "
        "JOIN pg_roles owner ON owner.oid = pg_auth_members.roleid "
        "WHERE owner.rolname = %s AND member.rolname LIKE 'u\\_%%' ORDER BY 1",
        (owner,),
    )
    return [str(row[0]) for row in rows]


def _shut(server: Connection, role: str) -> None:
    """Nobody logs in with a role any more, and who did is out."""
    _run(server, "ALTER ROLE {role} NOLOGIN", role=role)
    deadline = time.monotonic() + _GONE_SECONDS
    end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = %s"
    while _one(server, end, role):
        if time.monotonic() > deadline:
            raise Unavailable(f"connections of {role} do not end")
        time.sleep(0.02)


def _verifier(server: Connection, role: str, password: str) -> str:
    """What a server keeps of a password (SCRAM), made here."""
    return server.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
