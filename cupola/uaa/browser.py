"""Browsers: the session cookie, and proof that a form was ours.

Cookies belong to this host alone (with TLS their names begin with `__Host-`). The value X-Uaa-Csrf is an HMAC of the
session; it is in a cookie and in each form, and both must say the same. Besides, a request that says where it comes
from (Origin, Sec-Fetch-Site) must come from here.
"""

import hmac
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
from sqlalchemy import Row, delete, insert, select, update
from starlette.requests import Request
from starlette.responses import Response

from cupola import clock
from cupola.config import Settings
from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa.redirects import origin_of
from cupola.uaa.service import Identity

__all__ = [
    "CSRF",
    "Browser",
    "Place",
    "end_session",
    "local_path",
    "start_session",
    "with_session",
    "without_session",
]

CSRF = "X-Uaa-Csrf"
SESSION = "JSESSIONID"
USER = "Current-User"
IDLE = 30 * 60
LONGEST = 12 * 3600
"""Seconds after which a session ends: when it is not used, and in any case."""
MICRO = 1_000_000
sessions = tables.login_sessions


class Place:
    """Where the identity server is, as browsers see it."""

    def __init__(self, settings: Settings) -> None:
        self.path = urlsplit(settings.uaa_url).path
        self.secure = settings.uaa_url.startswith("https:")
        self._prefix = "__Host-" if self.secure else ""
        self.origins = {origin_of(settings.uaa_url), origin_of(settings.login_url)}
        if not settings.platform.system_domain:
            self.origins |= {f"http://{host}:{settings.platform.port}" for host in settings.system_hosts}

    def cookie(self, name: str) -> str:
        """The full name of a cookie."""
        return self._prefix + name

    def set_cookie(
        self, response: Response, name: str, value: str, *, readable: bool = False, seconds: int | None = None
    ) -> None:
        """A cookie of this host that ends with the browser, or after so many seconds."""
        response.set_cookie(
            self.cookie(name),
            value,
            max_age=seconds,
            path="/" if self.secure else self.path or "/",
            secure=self.secure,
            httponly=not readable,
            samesite="lax",
        )

    def drop_cookie(self, response: Response, name: str) -> None:
        """Remove a cookie."""
        path = "/" if self.secure else self.path or "/"
        response.delete_cookie(self.cookie(name), path=path, secure=self.secure, samesite="lax")


@dataclass(frozen=True)
class Browser:
    """The browser of a request. `user` and `session` are None when nobody is logged in."""

    request: Request
    identity: Identity
    place: Place
    session: Row[Any] | None
    user: Row[Any] | None

    @classmethod
    async def of(cls, identity: Identity, request: Request) -> "Browser":
        """Who the browser is logged in as."""
        place = Place(identity.settings)
        value = request.cookies.get(place.cookie(SESSION))
        if not value:
            return cls(request, identity, place, None, None)
        session, user = await identity.read(lambda tx: _find(tx, value))
        if session is not None and session.expires_at - MICRO * IDLE // 2 < clock.micros():
            await identity.write(lambda tx: _extend(tx, session))
        return cls(request, identity, place, session, user)

    def csrf(self) -> str:
        """The value for forms of this browser: the one that it has already, or a new one."""
        kept = self.request.cookies.get(self.place.cookie(CSRF), "")
        return kept if self._is_ours(kept) else self._made(secrets.token_urlsafe(16))

    def proves_form(self, form: dict[str, str]) -> bool:
        """Whether a form that was sent is one of ours, from a page of ours."""
        kept, given = self.request.cookies.get(self.place.cookie(CSRF), ""), form.get(CSRF, "")
        return self._from_here() and self._is_ours(kept) and hmac.compare_digest(kept.encode(), given.encode())

    def _from_here(self) -> bool:
        headers = self.request.headers
        if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return False
        origin = headers.get("origin")
        return origin is None or origin.lower() in self.place.origins

    def _made(self, nonce: str) -> str:
        session = "" if self.session is None else self.session.digest
        mac = hmac.new(self.identity.csrf_key, f"{nonce}:{session}".encode(), "sha256").hexdigest()
        return f"{nonce}.{mac}"

    def _is_ours(self, value: str) -> bool:
        nonce, dot, _ = value.partition(".")
        return bool(dot) and hmac.compare_digest(value.encode(), self._made(nonce).encode())


def _find(tx: Tx, value: str) -> tuple[Row[Any] | None, Row[Any] | None]:
    session = tx.one(select(sessions).where(sessions.c.digest == tables.digest(value), sessions.c.expires_at > tx.now))
    if session is None:
        return None, None
    people = tables.identities
    user = tx.one(select(people).where(people.c.guid == session.user_guid, people.c.active.is_(True)))
    return (session, user) if user is not None else (None, None)


def _extend(tx: Tx, session: Row[Any]) -> None:
    until = min(tx.now + IDLE * MICRO, session.auth_time + LONGEST * MICRO)
    tx.run(update(sessions).where(sessions.c.digest == session.digest).values(expires_at=until))


def start_session(tx: Tx, user: Row[Any]) -> str:
    """The value of the cookie of a new session: never one that a browser brought along."""
    value = secrets.token_urlsafe(32)
    tx.run(
        insert(sessions).values(
            digest=tables.digest(value), user_guid=user.guid, auth_time=tx.now, expires_at=tx.now + IDLE * MICRO
        )
    )
    return value


def end_session(tx: Tx, session: Row[Any]) -> None:
    """Log a browser out."""
    tx.run(delete(sessions).where(sessions.c.digest == session.digest))


def with_session(place: Place, response: Response, value: str, user: Row[Any]) -> Response:
    """The response with the cookies of a new session; forms need a new proof."""
    place.set_cookie(response, SESSION, value)
    place.set_cookie(response, USER, quote(msgspec.json.encode({"userId": user.guid})), readable=True)
    place.drop_cookie(response, CSRF)
    return response


def without_session(place: Place, response: Response) -> Response:
    """The response that makes a browser forget who was logged in."""
    for name in (SESSION, USER, CSRF):
        place.drop_cookie(response, name)
    return response


def local_path(place: Place, wanted: str | None) -> str:
    """Where to go after the login: one of our own pages and nothing else, relative to the identity server."""
    if wanted is not None and wanted.isascii() and wanted.isprintable() and not set('\\"<> ') & set(wanted):
        parts = urlsplit(wanted)
        if not parts.scheme and not parts.netloc and parts.path in {"/", "/oauth/authorize", "/passcode"}:
            return wanted
    return "/"
