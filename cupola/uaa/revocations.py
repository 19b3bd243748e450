"""Which tokens are no longer good, from memory: read again when a bell rings, and every few seconds in any case."""

import threading
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from cupola.store import identity as tables
from cupola.store.database import Database

__all__ = ["BELL", "PERIOD", "Revocations", "pair", "signature"]

BELL = "revocations"
PERIOD = 3.0
"""Seconds after which a change by another process is seen, should its bell not be heard."""


def signature(user_generation: int, client_generation: int) -> str:
    """The claim `rev_sig`: the generations of user and client at the time of issue."""
    return f"{user_generation % tables.GENERATIONS:04x}{client_generation % tables.GENERATIONS:04x}"


class Revocations:
    """The table `revocations`, as of a moment ago."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.Lock()
        self._rung = 0
        self._notes: Mapping[tuple[str, str], int | None] = {}
        self._seen = (-1, 0.0)
        database.bells.on_ring(self._on_ring)

    def _on_ring(self, bell: str) -> None:
        if bell == BELL:
            self._rung += 1

    def _current(self) -> Mapping[tuple[str, str], int | None]:
        rung, at = self._seen
        if rung == self._rung and time.monotonic() - at < PERIOD:
            return self._notes
        with self._guard:
            rung, at = self._seen
            if rung != self._rung or time.monotonic() - at >= PERIOD:
                # Taken before reading: a bell during the read makes the next caller read again.
                seen = (self._rung, time.monotonic())
                self._notes = self._read()
                self._seen = seen
            return self._notes

    def _read(self) -> Mapping[tuple[str, str], int | None]:
        with self._database.read() as tx:
            found = tx.all(select(tables.revocations).where(tables.revocations.c.expires_at > tx.now))
        return {(row.kind, row.id): row.generation for row in found}

    def concern(self, claims: Mapping[str, Any]) -> bool:
        """Whether the token with these claims is no longer good."""
        notes = self._current()
        if not notes:
            return False
        if ("jti", str(claims.get("jti"))) in notes or ("session", str(claims.get("sid"))) in notes:
            return True
        carried = claims.get("rev_sig")
        for kind, claim, part in (("user", "user_id", slice(0, 4)), ("client", "client_id", slice(4, 8))):
            key = (kind, str(claims.get(claim)))
            if key in notes:
                generation = notes[key]
                if generation is None or not isinstance(carried, str) or carried[part] != f"{generation:04x}":
                    return True
        until = notes.get(("pair", pair(claims.get("user_id"), claims.get("client_id"))))
        return until is not None and claims["iat"] <= until


def pair(user_guid: str | None, client_id: str | None) -> str:
    """The id of a note on what a client got for a user."""
    return f"{user_guid} {client_id}"
