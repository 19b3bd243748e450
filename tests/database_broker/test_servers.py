"""Servers that an operator names: which are taken, which are not, and why."""

import pytest

from cupola.databases import servers
from cupola.databases.servers import BadServer
from tests.database_broker.conftest import Cluster


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://a:b@c", "is not the URL of a PostgreSQL server"),
        ("host=a user=b", "is not the URL of a PostgreSQL server"),
        ("postgresql://c/d", "is not the URL of a PostgreSQL server"),
        ("postgresql://a:b@", "is not the URL of a PostgreSQL server"),
        ("postgresql://a:b@c:port/d", "must name one host"),
        ("postgresql://a:b@/d?host=/var/run/postgresql", "must name one host"),
        ("postgresql://a:b@c,d/e", "must name one host"),
        ("postgresql://[a", "is not the URL of a PostgreSQL server"),
    ],
)
def test_what_names_no_server(url: str, text: str) -> None:
    with pytest.raises(BadServer, match=text):
        servers.named(url)


def test_what_a_url_says() -> None:
    server = servers.named("postgres://root:s%40crt@db.example.com?sslmode=verify-full&sslrootcert=/etc/ca.pem")
    assert server.administrator == {
        "host": "db.example.com", "user": "root", "password": "s@crt", "dbname": "postgres",
        "sslmode": "verify-full", "sslrootcert": "/etc/ca.pem",
    }  # fmt: skip
    assert (server.shown, server.database) == ("db.example.com:5432", "postgres")
    # Apps do not have the file.
    assert dict(server.location.options) == {"sslmode": "require"}
    assert servers.named("postgresql://a:b@c:1/d").location == servers.Location("c", 1)


@pytest.mark.parametrize(
    ("platform", "refused"),
    [
        ("postgresql://cupola:x@127.0.0.1:5499/own", True),
        ("postgresql://cupola:x@localhost:5499/own", True),
        ("postgresql://own:x@[::1]:5499", True),
        ("postgresql://cupola:x@/own?host=/var/run/postgresql&port=5499", True),
        ("postgresql://cupola:x@127.0.0.1:5498/own", False),
        ("postgresql://cupola:x@127.0.0.1:5499/other", False),
        ("", False),
    ],
)
def test_the_platforms_own_database_is_never_taken(platform: str, refused: bool) -> None:
    server = servers.named("postgresql://root:x@127.0.0.1:5499/own")
    with pytest.raises(BadServer) as caught:
        servers.examine(server, platform)
    text = str(caught.value)
    if refused:
        assert text.startswith("127.0.0.1:5499, database own, is the platform's own (database.url)")
    else:
        assert text.startswith("the server 127.0.0.1:5499 cannot be used: ")
    assert "root:x" not in text


def test_who_may_make_nothing_is_refused(postgres: Cluster) -> None:
    with postgres.administrator() as root:
        root.execute("CREATE ROLE nobody_much LOGIN PASSWORD 'x'")
        root.execute("CREATE DATABASE place")
    url = f"postgresql://nobody_much:x@127.0.0.1:{postgres.choice.port}/place"
    with pytest.raises(BadServer, match="nobody_much may not make databases and roles on 127"):
        servers.examine(servers.named(url), "")
    with pytest.raises(BadServer, match=r"cannot be used: .*password authentication failed"):
        servers.examine(servers.named(url.replace(":x@", ":y@")), "")
