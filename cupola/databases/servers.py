"""Servers: one that the operator names by a URL, or the cluster of our own; how the broker and how apps come to it.

BadServer    a URL names no server that databases can be offered on; the text says what is wrong with it
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cupola.databases.choice import Choice
from cupola.databases.cluster import ADMIN, HOST, OLDEST, Place
from cupola.databases.server import Location, Server

__all__ = ["BadServer", "Location", "Named", "examine", "named", "opened"]

_EXAMPLE = "write it as postgresql://ADMIN:PASSWORD@HOST"
_SECONDS = 10
_PORT = 5432


class BadServer(Exception):
    """Databases cannot be offered there."""


@dataclass(frozen=True)
class Named:
    """A server by its URL. `administrator` is for the library, password and all."""

    administrator: Mapping[str, Any]
    location: Location

    @property
    def shown(self) -> str:
        """Without secrets."""
        return f"{self.location.host}:{self.location.port}"

    @property
    def database(self) -> str:
        """The database in which the administrator works."""
        return str(self.administrator["dbname"])


def named(url: str) -> Named:
    """What a URL says. Raises BadServer."""
    try:
        scheme = urlsplit(url).scheme
        given: dict[str, Any] = conninfo_to_dict(url) if scheme in ("postgres", "postgresql") else {}
    except (ValueError, psycopg.Error):
        given = {}
    host, port = str(given.get("host") or ""), str(given.get("port") or _PORT)
    if not given or not host or not given.get("user"):
        raise BadServer(f"--server is not the URL of a PostgreSQL server with its administrator: {_EXAMPLE}")
    if host.startswith(("/", "@")) or "," in host or not port.isdigit():
        raise BadServer(f"--server must name one host, and a port, at which apps reach the server too: {_EXAMPLE}")
    mode = str(given.get("sslmode") or "")
    # What the broker verifies by, apps do not have.
    options = {"sslmode": "require" if mode.startswith("verify-") else mode} if mode else {}
    return Named({"dbname": "postgres", **given}, Location(host, int(port), options))


def examine(server: Named, platform: str) -> None:
    """Connect, and see that databases can be made there. `platform` is the URL of the platform's own database.

    Raises BadServer.
    """
    if platform:
        _require_other(server, platform)
    try:
        with psycopg.connect(**{"connect_timeout": _SECONDS, **server.administrator}) as connection:
            version = connection.info.server_version // 10_000
            row = connection.execute(
                "SELECT rolsuper OR (rolcreatedb AND rolcreaterole) FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
    except psycopg.Error as error:
        said = str(error).strip().partition("\n")[0]
        raise BadServer(f"the server {server.shown} cannot be used: {said}") from None
    if version < OLDEST:
        raise BadServer(f"the server {server.shown} is PostgreSQL {version}: databases need {OLDEST} or newer")
    if row is None or not row[0]:
        raise BadServer(
            f"{server.administrator['user']} may not make databases and roles on {server.shown}: "
            "ALTER ROLE it with CREATEDB CREATEROLE, or name another administrator"
        )


def _require_other(server: Named, platform: str) -> None:
    """Not the platform's own database, under whatever name."""
    own = conninfo_to_dict(platform)
    host = str(own.get("host") or "")
    port = str(own.get("port") or _PORT)
    database = str(own.get("dbname") or own.get("user") or "")
    local = not host or host.startswith(("/", "@"))
    same_host = _addresses("localhost" if local else host) & _addresses(server.location.host)
    if same_host and port == str(server.location.port) and database == server.database:
        raise BadServer(
            f"{server.shown}, database {database}, is the platform's own (database.url), on which no databases are "
            "offered: name another server, or another database of its administrator, as .../postgres"
        )


def _addresses(host: str) -> set[str]:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return {host.lower()}
    return {"127.0.0.1" if address == "::1" else address for address in found}


def opened(choice: Choice, data_dir: Path) -> Server:
    """The server of a decision. Raises BadServer, OSError."""
    if choice.server:
        server = named(choice.server)
        return Server(server.administrator, server.location, choice.secret)
    # The name of a socket is short, that of a data directory may be long; open as long as the process lives.
    place = Place.of(data_dir)
    handle = os.open(place.root, os.O_PATH | os.O_DIRECTORY)
    administrator = {
        "host": f"/proc/self/fd/{handle}/{place.socket.name}",
        "port": choice.port,
        "user": ADMIN,
        "password": choice.admin_password,
        "dbname": "postgres",
    }
    return Server(administrator, Location(HOST, choice.port), choice.secret)
