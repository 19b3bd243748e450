"""Keys at rest are replaced while the platform runs, and whoever does it may be killed."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from cupola import clock
from cupola.secrets.vault import Vault, VaultProblem
from cupola.store import rows, sealed
from cupola.store.apps import apps
from cupola.store.database import Database
from cupola.store.jobs import jobs
from cupola.store.reseal import KEEP_SECONDS, NESTED, finish_rotation, leftovers, reseal
from cupola.store.tables import metadata
from tests.cloud import Cloud, open_cloud

ROOT = Path(__file__).parents[2]
SECRET = {"PASSWORD": "correct horse"}


@pytest.fixture
def cloud(fresh_database: Database, tmp_path: Path) -> Iterator[Cloud]:
    """With real encryption, which other tests do without."""
    plain, fresh_database.vault = fresh_database.vault, Vault.load_or_create(tmp_path / "keys")
    with open_cloud(fresh_database, tmp_path / "data") as opened:
        yield opened
    fresh_database.vault = plain


def vault_of(cloud: Cloud) -> Vault:
    found = cloud.database.vault
    assert isinstance(found, Vault)
    return found


def everything(database: Database) -> str:
    """All that the database holds, as text."""
    with database.read() as tx:
        return "\n".join(str(row) for table in metadata.sorted_tables for row in tx.all(select(table)))


def filled(cloud: Cloud, count: int = 1) -> list[str]:
    """Apps with a secret variable; their guids."""
    space = cloud.space()["guid"]
    return [cloud.app(space=space, environment_variables=SECRET)["guid"] for _ in range(count)]


def variables(cloud: Cloud, app: str) -> Any:
    return cloud.admin.ok("GET", f"/v3/apps/{app}/environment_variables")["var"]


def test_what_another_process_rotated_is_used_at_once(tmp_path: Path) -> None:
    one, other = Vault.load_or_create(tmp_path), Vault.load_or_create(tmp_path)
    before = one.seal(b"x", "apps.environment")
    key = other.rotate()
    sealed_now = one.seal(b"y", "apps.environment")
    assert sealed_now.startswith(f"v1:{key}:")
    assert [one.open(text, "apps.environment") for text in (before, sealed_now)] == [b"x", b"y"]
    later = other.rotate()
    assert Vault.load_or_create(tmp_path).seal(b"z", "a.b").startswith(f"v1:{later}:")
    assert one.open(other.seal(b"z", "a.b"), "a.b") == b"z"


def test_rotations_at_once_lose_no_key(tmp_path: Path) -> None:
    vaults = [Vault.load_or_create(tmp_path) for _ in range(4)]
    texts = [vault.seal(b"x", "a.b") for vault in vaults]
    threads = [threading.Thread(target=vault.rotate) for vault in vaults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Vault.load_or_create(tmp_path)
    assert len(found.keys) == 5
    assert {found.open(text, "a.b") for text in texts} == {b"x"}


def test_every_secret_is_sealed_anew(cloud: Cloud) -> None:
    vault = vault_of(cloud)
    old = vault.active
    (app,) = filled(cloud)
    space = cloud.space()["guid"]
    manifest = b"applications: [{name: a, env: {PASSWORD: correct horse}}]"
    cloud.admin.request("POST", f"/v3/spaces/{space}/actions/apply_manifest", None, content=manifest,
                        headers={"Content-Type": "application/x-yaml"})  # fmt: skip
    cloud.admin.ok("PATCH", "/v3/environment_variable_groups/running", {"var": {"TOKEN": "battery staple"}})
    before = everything(cloud.database)
    assert before.count(f"v1:{old}:") >= 3
    assert "correct horse" not in before
    key = vault.rotate()
    with cloud.database.read() as tx:
        assert leftovers(tx, vault) >= 3
    progress = reseal(cloud.database, vault)
    assert (progress.resealed, progress.unopened) == (before.count(f"v1:{old}:"), 0)
    after = everything(cloud.database)
    assert f"v1:{old}:" not in after
    assert after.count(f"v1:{key}:") == progress.resealed
    assert variables(cloud, app) == SECRET
    with cloud.database.read() as tx:
        assert leftovers(tx, vault) == 0
        payload = tx.scalar(select(jobs.c.payload).where(jobs.c.operation == "space.apply_manifest"))
        assert vault.open(payload["manifest"], "jobs.manifest") == manifest
    assert reseal(cloud.database, vault).resealed == 0


def test_who_is_killed_in_the_middle_has_done_no_harm(cloud: Cloud, tmp_path: Path) -> None:
    vault = vault_of(cloud)
    (app,) = filled(cloud)
    with cloud.database.write() as tx:
        row = rows.by_guid(tx, apps, app)
        assert row is not None
        for number in range(450):
            values = {**row._mapping, "guid": f"copy-{number}", "name": f"copy-{number}", "name_key": f"copy-{number}"}
            values = {name: value for name, value in values.items() if name in apps.c and name != "id"}
            tx.run(insert(apps).values(values))
    vault.rotate()
    code = (
        "import os, signal, sys; from pathlib import Path; from cupola.bell import Bells; "
        "from cupola.secrets.vault import Vault; from cupola.store.database import Database; "
        "from cupola.store.reseal import reseal; "
        "vault = Vault.load_or_create(Path(sys.argv[1])); "
        "database = Database(sys.argv[2], Path(sys.argv[3]), vault, Bells()); "
        "reseal(database, vault, lambda progress: os.kill(os.getpid(), signal.SIGKILL))"
    )
    url = cloud.database.url
    words = [
        str(vault._path.parent),
        "" if cloud.database.is_sqlite else url.render_as_string(hide_password=False),
        url.database or "",
    ]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    with cloud.database.read() as tx:
        left = leftovers(tx, vault)
    assert 0 < left < 451
    assert variables(cloud, app) == SECRET
    assert finish_rotation(cloud.database, vault).resealed == left
    with cloud.database.read() as tx:
        assert leftovers(tx, vault) == 0
        texts = set(tx.scalars(select(apps.c.environment).where(apps.c.environment.is_not(None))))
        assert all(sealed.opened(tx, apps.c.environment, text) == SECRET for text in texts)


def test_a_key_is_forgotten_when_a_day_is_over_and_nothing_needs_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = vault_of(cloud)
    (app,) = filled(cloud)
    old = vault.active
    key = vault.rotate()
    now = clock.nanos()
    finish_rotation(cloud.database, vault)
    assert set(vault.keys) == {old, key}
    monkeypatch.setattr(clock, "nanos", lambda: now + int((KEEP_SECONDS + 60) * 1e9))
    # As long as a row cannot be sealed anew, its key stays: the damage may be a lost context, not a lost value.
    with cloud.database.write() as tx:
        stray = sealed.seal(tx, apps.c.environment, SECRET)
        assert stray is not None
        tx.run(update(apps).where(apps.c.guid == app).values(environment=f"v1:{old}:AAAA"))
    finish_rotation(cloud.database, vault)
    assert set(vault.keys) == {old, key}
    with cloud.database.write() as tx:
        tx.run(update(apps).where(apps.c.guid == app).values(environment=stray))
    finish_rotation(cloud.database, vault)
    assert set(vault.keys) == {key}
    assert variables(cloud, app) == SECRET
    with pytest.raises(ValueError, match="is the active key"):
        vault.forget(key)


def test_text_that_only_looks_sealed_stays_as_it_is(cloud: Cloud) -> None:
    vault = vault_of(cloud)
    text = f"v1:{vault.active}:c29tZXRoaW5n"
    flag = cloud.admin.ok("PATCH", "/v3/feature_flags/route_sharing", {"enabled": True, "custom_error_message": text})
    vault.rotate()
    progress = reseal(cloud.database, vault)
    assert progress.unopened == 1
    assert cloud.admin.ok("GET", "/v3/feature_flags/route_sharing")["custom_error_message"] == text
    assert flag["custom_error_message"] == text


def test_requests_go_on_meanwhile(cloud: Cloud) -> None:
    vault = vault_of(cloud)
    guids = filled(cloud, 3)
    last: dict[str, str] = {}
    over = threading.Event()

    def change() -> None:
        number = 0
        while not over.is_set():
            number += 1
            for guid in guids:
                last[guid] = str(number)
                body = {"var": {"PASSWORD": last[guid]}}
                cloud.admin.ok("PATCH", f"/v3/apps/{guid}/environment_variables", body)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(5):
            vault.rotate()
            reseal(cloud.database, vault)
    finally:
        over.set()
        thread.join()
    assert {guid: variables(cloud, guid)["PASSWORD"] for guid in guids} == last
    reseal(cloud.database, vault)
    with cloud.database.read() as tx:
        assert leftovers(tx, vault) == 0


def test_a_lost_key_file_is_told_and_nothing_more_is_sealed(tmp_path: Path) -> None:
    vault = Vault.load_or_create(tmp_path)
    text = vault.seal(b"x", "a.b")
    (tmp_path / "vault.json").unlink()
    with pytest.raises(VaultProblem, match="restore it from a backup"):
        vault.seal(b"y", "a.b")
    assert vault.open(text, "a.b") == b"x"


def test_every_place_inside_of_json_is_known() -> None:
    """Columns are found by themselves; what is sealed within a document has to be named."""
    known = {f"{column.partition('.')[0]}.{member}" for column, members in NESTED.items() for member in members}
    call = re.compile(r'vault\.(?:seal|open)\([^\n]*"([a-z_.]+)"\)')
    used = {name for file in (ROOT / "cupola").rglob("*.py") for name in call.findall(file.read_text())}
    assert used == known
