"""Users are found by name regardless of case, and once per origin."""

from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from cupola.bell import Bells
from cupola.secrets.vault import Vault
from cupola.store import identity
from cupola.store.database import Database
from cupola.store.schema import metadata


def test_users(tmp_path: Path) -> None:
    database = Database("", tmp_path / "db", Vault.load_or_create(tmp_path), Bells())
    metadata.create_all(database.engine, tables=[identity.identities, identity.oauth_clients])
    with database.write() as tx:
        ann = identity.create_user(tx, "Ann")
        identity.create_user(tx, "ann", "ldap")
    with pytest.raises(IntegrityError), database.write() as tx:
        identity.create_user(tx, "ANN")
    with database.read() as tx:
        assert [row.guid for row in identity.find_users(tx, "aNN", "uaa")] == [ann]
        assert len(identity.find_users(tx, "ann")) == 2
        assert identity.names_of(tx, [ann, "none"]) == {ann: ("Ann", "uaa")}
        assert identity.user_exists(tx, ann)
        assert not identity.client_exists(tx, "cf")
    database.close()
