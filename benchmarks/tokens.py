"""CPU time of a request's identity: a token that is known, one that is new, and with many revocations in force.

    python -m benchmarks.tokens [tokens]

Microseconds of CPU per call of the authenticator that the API uses, the best of five rounds; beside it what a bare
verification by joserfc costs in the same run. Exit status 1 when a known token costs 50 microseconds or more.
"""

import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet

from cupola import clock
from cupola.bell import Bells
from cupola.config import load
from cupola.secrets.vault import Vault
from cupola.store import identity as tables
from cupola.store.database import Database
from cupola.store.tables import metadata
from cupola.tokens.authenticate import Authenticator
from cupola.uaa.service import Identity

LIMIT = 50.0
ROUNDS = 5


def microseconds(run: Callable[[], None], calls: int) -> float:
    """CPU time of one call, of the fastest round."""
    spent = []
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return min(spent) / calls * 1e6


def signed(identity: Identity, number: int) -> list[str]:
    """Tokens as users have them."""
    now = int(clock.seconds())
    claims = {
        "iss": identity.issuer_url,
        "iat": now,
        "exp": now + 3600,
        "aud": ["cf", "cloud_controller", "openid", "password", "scim", "uaa"],
        "scope": ["cloud_controller.read", "cloud_controller.write", "openid", "password.write", "uaa.user"],
        "user_id": str(uuid.uuid4()),
        "user_name": "someone@example.org",
        "email": "someone@example.org",
        "origin": "uaa",
        "client_id": "cf",
        "rev_sig": "00010001",
        "zid": "uaa",
    }
    jku = f"{identity.settings.uaa_url}/token_keys"
    return [
        identity.keys.sign({**claims, "jti": uuid.uuid4().hex, "sid": uuid.uuid4().hex}, jku) for _ in range(number)
    ]


def main(number: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        settings = load(environment={}, flags={"data_dir": name})
        database = Database("", directory / "db", Vault.load_or_create(directory / "keys"), Bells())
        metadata.create_all(database.engine)
        identity = Identity(settings, database)
        headers = [f"bearer {token}" for token in signed(identity, number)]
        jwks: Any = identity.keys.jwks()
        keys = KeySet.import_key_set(jwks)

        def authenticate(tokens: Sequence[str]) -> Callable[[], None]:
            def run() -> None:
                for token in tokens:
                    identity.authenticate(token)

            return run

        def fresh() -> None:
            judge = Authenticator(identity.keys, identity.issuer_url, identity.revocations.concern)
            for header in headers:
                judge.authenticate(header, clock.seconds())

        def bare() -> None:
            for header in headers:
                jwt.decode(header.removeprefix("bearer "), keys, algorithms=["RS256"])

        authenticate(headers)()
        known = microseconds(authenticate(headers), number)
        with database.write() as tx:
            for _ in range(5000):
                tables.revoke(tx, "session", uuid.uuid4().hex, expires_at=tx.now + 10**12)
        authenticate(headers)()
        revoked = microseconds(authenticate(headers), number)
        rows = [
            ("a known token", known),
            ("a known token, 5000 revocations in force", revoked),
            ("a new token", microseconds(fresh, number)),
            ("joserfc alone, for comparison", microseconds(bare, number)),
        ]
        identity.close()
        database.close()
    for what, spent in rows:
        print(f"{what:<45}{spent:>8.1f} us")
    worst = max(known, revoked)
    print(f"limit for a known token: {LIMIT:.0f} us, {'kept' if worst < LIMIT else 'EXCEEDED'}")
    return 0 if worst < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
