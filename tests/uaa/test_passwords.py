"""Hashes: old kinds are taken and made anew; unknown users take as long as wrong passwords; guesses at once."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import bcrypt
import pytest
from sqlalchemy import select, update

from cupola.store import identity as tables
from cupola.uaa.passwords import Passwords, importable
from tests.uaa.house import House, Platform, opened


@pytest.mark.parametrize("prefix", ["", "{bcrypt}"])
def test_users_of_a_uaa_log_in_and_get_a_new_hash(house: House, prefix: str) -> None:
    joe = house.user("joe")
    old = prefix + bcrypt.hashpw(b"from a UAA", bcrypt.gensalt(4)).decode()

    def kept() -> str:
        with house.database.read() as tx:
            table = tables.identities
            return str(tx.scalar(select(table.c.password_hash).where(table.c.guid == joe["id"])))

    with house.database.write() as tx:
        tx.run(update(tables.identities).where(tables.identities.c.guid == joe["id"]).values(password_hash=old))
    assert house.token(grant_type="password", username="joe", password="wrong").status_code == 401
    assert kept() == old
    body = house.log_in("joe", "from a UAA")
    assert kept().startswith("$argon2id$")
    assert house.log_in("joe", "from a UAA")
    assert house.api(body["access_token"]) == 200, "a new hash of the same password ends nothing"


def test_hashes() -> None:
    passwords = Passwords(64)
    kept = passwords.hash("ü")
    assert passwords.matches("ü", kept)
    assert not passwords.matches("u", kept)
    assert not passwords.matches("x", "no hash")
    assert not passwords.matches("x", "$2a$garbage")
    assert not passwords.matches("", None)
    assert not passwords.matches("\ud800", kept)
    assert not passwords.is_old(kept)
    assert passwords.is_old(Passwords(32).hash("x")), "other costs than those of today"
    long = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert passwords.matches("x" * 80, long), "bcrypt looks at 72 bytes, and so does a UAA"
    assert importable(long)
    assert importable("{bcrypt}" + long)
    assert importable(kept)
    for bad in ("", "x", "{noop}secret", "$2a$10$short", "$argon2id$x", "$1$md5", "secret"):
        assert not importable(bad), bad


def test_secrets_of_clients_are_remembered_not_guessed() -> None:
    passwords = Passwords(64)
    kept = [passwords.hash("one"), passwords.hash("two")]
    for _ in range(2):
        assert passwords.secret_matches("one", kept)
        assert passwords.secret_matches("two", kept)
        assert not passwords.secret_matches("three", kept)
        assert not passwords.secret_matches("", kept)
    assert not passwords.secret_matches("one", kept[1:]), "a secret that was removed is forgotten"
    assert passwords.secret_matches("", [""])
    assert not passwords.secret_matches("x", [""])
    assert not passwords.secret_matches("", [])


def test_unknown_users_take_as_long(platform: Platform) -> None:
    with opened(platform, identity__shared_secret_argon2_memory_kib=19456, identity__lockout_failures=1000) as house:
        house.user("joe")

        def spent(name: str) -> float:
            start = time.process_time()
            house.token(grant_type="password", username=name, password="wrong")
            return time.process_time() - start

        spent("joe")
        known, unknown = [], []
        for _ in range(7):
            known.append(spent("joe"))
            unknown.append(spent("nobody"))
        shorter, longer = sorted((statistics.median(known), statistics.median(unknown)))
        # Without the hash of nobody the difference would be a factor of five or more.
        assert longer < 2 * shorter, (known, unknown)


def test_many_guesses_at_once(platform: Platform) -> None:
    with opened(platform) as house:
        house.user("joe", "secret-7")

        def guess(number: int) -> str:
            answer = house.token(grant_type="password", username="joe", password=f"secret-{number}")
            return str(answer.json().get("error_description", "in"))

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(guess, range(40, 80)))
        assert found.count("Bad credentials") <= 5 + 4, "what was hashed already when the lock fell"
        assert guess(7).startswith("Your account has been locked")
