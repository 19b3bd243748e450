"""Values open only where they were sealed, and with every key of the ring."""

from pathlib import Path

import pytest

from cupola.secrets.vault import Vault, VaultProblem


def test_rotation_and_context(tmp_path: Path) -> None:
    vault = Vault.load_or_create(tmp_path)
    sealed = vault.seal(b"x", "apps.environment")
    vault.rotate()
    again = Vault.load_or_create(tmp_path)
    assert again.open(sealed, "apps.environment") == b"x"
    resealed = again.reseal(sealed, "apps.environment")
    assert resealed != sealed
    assert again.reseal(resealed, "apps.environment") == resealed
    assert (tmp_path / "vault.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(VaultProblem, match="damaged"):
        again.open(sealed, "apps.other")
    with pytest.raises(VaultProblem):
        again.open("v1:none:AAAA", "apps.environment")
