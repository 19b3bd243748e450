"""The cluster of our own: made once, whoever is killed meanwhile; found again with its data; nobody else comes in."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from cupola.databases import choice, cluster
from cupola.databases.choice import Unreadable
from cupola.databases.cluster import NoPostgres, Place
from tests.database_broker.conftest import ROOT, Cluster, placed, require_postgres, serving


def test_data_outlives_a_killed_server_and_a_stopped_one(tmp_path: Path) -> None:
    require_postgres()
    made = placed(tmp_path / "data")
    made.start()
    try:
        with serving(made.server()) as platform:
            binding = platform.bound(platform.bought())[1]
        for ending in (signal.SIGKILL, signal.SIGINT):
            with psycopg.connect(binding["uri"], autocommit=True) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
                connection.execute("INSERT INTO kept VALUES (1)")
            made.stop(ending)
            _start_patiently(made)
        with psycopg.connect(binding["uri"]) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (2,)
    finally:
        made.stop()
    assert binding["password"] not in made.log()
    assert "database system is shut down" in made.log()


def _start_patiently(made: Cluster) -> None:
    """As the supervisor: what a killed server left may hold its memory for a moment."""
    for _ in range(20):
        try:
            made.start()
        except AssertionError:
            continue
        return
    pytest.fail(made.log())


def test_what_a_killed_first_start_left_is_no_cluster(tmp_path: Path) -> None:
    require_postgres()
    made = placed(tmp_path / "data")
    begun = made.data / "databases/postgres.new"
    begun.mkdir()
    (begun / "PG_VERSION").write_text("15\n")
    (begun / "base").mkdir()
    (made.data / "databases/initdb").mkdir()
    (made.data / "databases/initdb/password").write_text("another")
    made.start()
    try:
        with made.administrator() as server:
            assert server.execute("SELECT 1").fetchone() == (1,)
    finally:
        assert made.stop() == 0
    assert not begun.exists()
    assert not (made.data / "databases/initdb").exists()


def test_the_cluster_is_closed_to_others(postgres: Cluster) -> None:
    place = Place.of(postgres.data)
    assert stat.S_IMODE(place.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(place.data.stat().st_mode) == 0o700
    assert stat.S_IMODE((place.root / "choice.json").stat().st_mode) == 0o600
    assert postgres.process is not None
    server = psutil.Process(postgres.process.pid)
    assert server.uids().real != 0
    assert not any(postgres.choice.admin_password in word for word in server.cmdline())
    assert Path(f"/proc/{server.pid}/status").read_text().count("NoNewPrivs:\t1") == 1
    addresses = {one.laddr.ip for one in server.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}


def test_a_version_that_is_not_installed_is_named(tmp_path: Path) -> None:
    require_postgres()
    programs, number = cluster.find()
    assert (programs / "initdb").exists()
    assert cluster.find(number) == (programs, number)
    with pytest.raises(
        NoPostgres, match=r"made by PostgreSQL 7, which is not installed here: install it .*postgresql-7"
    ):
        cluster.find(7)


def test_without_programs_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster, "_PLACES", (str(tmp_path / "*/bin"),))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoPostgres, match="install the package `postgresql`, or name a server"):
        cluster.find()
    found = tmp_path / "1/bin"
    found.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (found / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.1'\n")
        (found / name).chmod(0o755)
    with pytest.raises(NoPostgres, match="are not installed"):
        cluster.find()


def test_a_decision_is_kept_and_what_is_damaged_is_said(tmp_path: Path) -> None:
    assert choice.read(tmp_path) is None
    first = choice.made(None, "")
    assert first.port != first.broker_port
    choice.write(tmp_path, first)
    assert choice.read(tmp_path) == first
    again = choice.made(first, "postgresql://a:b@c")
    assert (again.secret, again.port, again.server) == (first.secret, first.port, "postgresql://a:b@c")
    assert choice.digest(first) != choice.digest(again)
    (tmp_path / "databases/choice.json").write_text("{")
    with pytest.raises(Unreadable, match=r"choice\.json cannot be read"):
        choice.read(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_brokers_user_reads_the_decision_and_changes_nothing(tmp_path: Path) -> None:
    from cupola.config import Account

    choice.write(tmp_path, choice.made(None, ""), Account(12345, 12345))
    place = tmp_path / "databases"
    for path, mode in ((place, 0o710), (place / "choice.json", 0o640)):
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (mode, 0, 12345)
    shutil.rmtree(place)
    choice.share(tmp_path, Account(12345, 12345))


@pytest.mark.parametrize(
    ("process", "loads"),
    [("controller", set()), ("router", set()), ("cell", set()), ("supervisor", {"", ".choice"})],
)
def test_who_offers_nothing_loads_nothing(process: str, loads: set[str]) -> None:
    code = f"import sys, cupola.processes.{process}; print(*(name for name in sys.modules if 'databases' in name))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {f"cupola.databases{name}" for name in loads}
