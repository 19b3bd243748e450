"""What /oauth/token gives for what: one function per grant type."""

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Row, select
from starlette.requests import Request

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit, codes
from cupola.uaa.assertions import issuer_of, subject
from cupola.uaa.issue import Client, Login, user_scopes
from cupola.uaa.login import check_password, hinted_origin, logged_in, taken_in
from cupola.uaa.oidc import Oidc
from cupola.uaa.outside import Unreachable
from cupola.uaa.problems import Problem, bad_request, invalid_scope, provider_down, unauthorized
from cupola.uaa.profiles import Refused
from cupola.uaa.refresh import end_session, refresh
from cupola.uaa.scopes import JWT_BEARER, TOKEN_EXCHANGE, audience
from cupola.uaa.service import Identity

__all__ = ["GRANTS", "Asked", "grant"]

_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  # the name of a kind of token
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_SUBJECT_TYPES = {_ACCESS_TOKEN, _JWT, "urn:ietf:params:oauth:token-type:id_token"}


@dataclass(frozen=True)
class Asked:
    """A request for a token, by a client that proved who it is."""

    request: Request
    form: dict[str, str]
    client: Client

    @property
    def wanted(self) -> list[str] | None:
        """Scopes asked for; None for all that may be had."""
        return self.form.get("scope", "").split() or None

    @property
    def opaque(self) -> bool:
        return self.form.get("token_format") == "opaque"

    @property
    def source(self) -> audit.Source:
        return audit.Source.of(self.request, self.client.client_id)

    @property
    def az_attr(self) -> dict[str, Any] | None:
        """Additional claims that the caller asks for, as JSON with strings in it."""
        given = self.form.get("authorities")
        if not given:
            return None
        try:
            found = msgspec.json.decode(given, type=dict[str, dict[str, str]])
        except (msgspec.DecodeError, msgspec.ValidationError):
            return None
        return found.get("az_attr")


async def by_password(identity: Identity, asked: Asked) -> dict[str, Any]:
    """Give a user's token for a name and a password (RFC 6749 section 4.3)."""
    form, source = asked.form, asked.source
    if form.get("passcode"):
        return await _by_passcode(identity, asked, form["passcode"])
    origin = hinted_origin(identity, form.get("login_hint"))
    username, password, allowed = form.get("username", ""), form.get("password", ""), asked.client.allowed_providers
    checked = await check_password(identity, source, username, password, origin, allowed=allowed)

    def work(tx: Tx) -> dict[str, Any]:
        user = logged_in(tx, identity.settings.identity, source, checked)
        scopes = user_scopes(tx, asked.client, user, asked.wanted)
        methods = identity.providers.methods(user.origin)
        login = Login("password", tx.now, methods, opaque=asked.opaque, az_attr=asked.az_attr)
        return identity.issuer.for_user(tx, asked.client, user, login, scopes)

    return await identity.write(work)


async def by_refresh_token(identity: Identity, asked: Asked) -> dict[str, Any]:
    """Give a new access token for a refresh token (RFC 6749 section 6)."""
    token = asked.form.get("refresh_token", "")

    def work(tx: Tx) -> dict[str, Any] | Problem:
        return refresh(tx, identity.issuer, asked.client, token, asked.wanted, identity.lifetime(tx))

    answer = await identity.write(work)
    if isinstance(answer, Problem):
        raise answer
    return answer


async def by_client_credentials(identity: Identity, asked: Asked) -> dict[str, Any]:
    """Give a client a token of its own (RFC 6749 section 4.4)."""
    client = asked.client
    if client.auth_method in {"none", "empty"}:
        raise Problem(401, "invalid_client", "A client without a secret has no token of its own")
    if asked.opaque:
        return await identity.write(lambda tx: identity.issuer.for_client(tx, client, asked.wanted, opaque=True))
    return await identity.read(lambda tx: identity.issuer.for_client(tx, client, asked.wanted))


async def _by_passcode(identity: Identity, asked: Asked, passcode: str) -> dict[str, Any]:
    """Give a token for a code of the page /passcode, as `cf login --sso` asks for it."""
    source = asked.source

    def work(tx: Tx) -> dict[str, Any] | None:
        row = codes.find(tx, "passcode", passcode)
        user = None if row is None else _active(tx, row.user_guid)
        if row is None or user is None or not codes.take(tx, row):
            return None
        scopes = user_scopes(tx, asked.client, user, asked.wanted)
        audit.record(tx, "UserAuthenticationSuccess", source, user, {"method": "passcode"})
        session, methods = row.details["session"], identity.providers.methods(user.origin)
        login = Login("password", row.details["auth_time"], methods, session=session, opaque=asked.opaque)
        return identity.issuer.for_user(tx, asked.client, user, login, scopes)

    answer = await identity.write(work)
    if answer is None:
        raise unauthorized("Invalid passcode")
    return answer


async def by_code(identity: Identity, asked: Asked) -> dict[str, Any]:
    """Give a user's token for an authorization code (RFC 6749 section 4.1.3, RFC 7636 section 4.6)."""
    answer = await identity.write(lambda tx: _exchanged(identity, tx, asked))
    if isinstance(answer, Problem):
        raise answer
    return answer


def _exchanged(identity: Identity, tx: Tx, asked: Asked) -> dict[str, Any] | Problem:
    form, client, source = asked.form, asked.client, asked.source
    code = form.get("code", "")
    bad = bad_request(f"Invalid authorization code: {code[:64]}", "invalid_grant")
    row = codes.find(tx, "code", code)
    user = None if row is None else _active(tx, row.user_guid)
    if row is None or row.client_id != client.client_id or user is None:
        raise bad
    details = row.details

    def replayed() -> Problem:
        # Somebody has the code who should not: what it was exchanged for ends, too (RFC 6749 section 4.1.2).
        end_session(tx, details["session"], identity.lifetime(tx))
        audit.record(tx, "AuthorizationCodeReplayed", source, user)
        return bad

    if row.used_at is not None:
        return replayed()
    if form.get("redirect_uri", details.get("redirect_uri")) != details.get("redirect_uri"):
        raise bad_request("Redirect URI mismatch.", "invalid_grant")
    if details.get("redirect_uri") is not None and "redirect_uri" not in form:
        raise bad_request("Redirect URI mismatch.", "invalid_grant")
    _check_verifier(client, details, form.get("code_verifier"))
    if not codes.take(tx, row):
        return replayed()
    allowed = user_scopes(tx, client, user, None)
    scopes = [scope for scope in details["scopes"] if scope in allowed]
    if not scopes:
        raise invalid_scope("The user is no longer allowed what the code was for.", " ".join(details["scopes"]))
    methods = identity.providers.methods(user.origin)
    login = Login(
        "authorization_code", details["auth_time"], methods, details.get("nonce"), details["session"], asked.opaque
    )
    audit.record(tx, "TokenIssued", source, user)
    # A token of a program that a public client made into a code is not made into a session of a month.
    refreshable = not details.get("by_token") or client.auth_method != "none"
    return identity.issuer.for_user(tx, client, user, login, scopes, refreshable=refreshable)


def _check_verifier(client: Client, details: Mapping[str, Any], verifier: str | None) -> None:
    """Whether who brings the code is who asked for it. Raises 400."""
    challenge = details.get("challenge")
    if challenge is None:
        if verifier is not None or client.auth_method == "none":
            raise bad_request("Invalid code verifier: the code was asked for without a challenge", "invalid_grant")
        return
    if verifier is None:
        raise bad_request("Missing code verifier", "invalid_grant")
    proof = verifier
    if details.get("challenge_method") == "S256":
        digest = hashlib.sha256(verifier.encode("utf-8", "surrogatepass")).digest()
        proof = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    if not hmac.compare_digest(proof.encode("utf-8", "surrogatepass"), challenge.encode()):
        raise bad_request("Invalid code verifier", "invalid_grant")


async def by_assertion(identity: Identity, asked: Asked) -> dict[str, Any]:
    """Give a user's token for a token of ours that is meant for the client, or an id token of another identity provider
    that is meant for us (RFC 7523 section 2.1).

    One for ours ends with that and belongs to the same login; there is no refresh token (RFC 7521 section 4.1).
    """
    issuer = issuer_of(asked.form.get("assertion", ""))
    foreign = [one for one in identity.providers.oidc.values() if one.settings.issuer == issuer]
    if any(one.settings.accept_assertions for one in foreign):
        return await _by_foreign_assertion(identity, asked, foreign)
    claims, user = await subject(identity, asked.client.client_id, asked.form.get("assertion", ""), "assertion")
    source = asked.source

    def work(tx: Tx) -> dict[str, Any]:
        scopes = user_scopes(tx, asked.client, user, asked.wanted)
        audit.record(tx, "UserAuthenticationSuccess", source, user, {"method": "assertion"})
        login = _derived(JWT_BEARER, claims, asked.opaque)
        return identity.issuer.for_user(tx, asked.client, user, login, scopes, refreshable=False)

    return await identity.write(work)


async def _by_foreign_assertion(identity: Identity, asked: Asked, providers: Sequence[Oidc]) -> dict[str, Any]:
    user = await _foreign_subject(identity, asked, providers)
    source = asked.source

    def work(tx: Tx) -> dict[str, Any]:
        scopes = user_scopes(tx, asked.client, user, asked.wanted)
        audit.record(tx, "UserAuthenticationSuccess", source, user, {"method": "assertion"})
        login = Login(JWT_BEARER, tx.now, identity.providers.methods(user.origin), opaque=asked.opaque)
        return identity.issuer.for_user(tx, asked.client, user, login, scopes, refreshable=False)

    return await identity.write(work)


async def _foreign_subject(identity: Identity, asked: Asked, providers: Sequence[Oidc]) -> Row[Any]:
    """Whom an assertion is of. Providers may share an issuer and differ in who they know us as. Raises 400, 401, 503."""
    reason: Refused | None = None
    for provider in providers:
        if not provider.settings.accept_assertions:
            continue
        try:
            profile = await provider.by_assertion(asked.form["assertion"], identity.issuer_url)
        except Unreachable as error:
            raise provider_down(provider.origin) from error
        except Refused as error:
            reason = error
            continue
        return await taken_in(identity, asked.source, profile)
    # What is wrong with a token that one holds is no secret, and without it nobody finds the mistake.
    raise bad_request(f"The assertion is refused: {reason}.", "invalid_grant")


async def by_exchange(identity: Identity, asked: Asked) -> dict[str, Any]:
    """Give a user's token for another one, of the same scopes or fewer and without a refresh token (RFC 8693)."""
    form, client = asked.form, asked.client
    if client.auth_method in {"none", "empty"}:
        raise Problem(401, "invalid_client", "A client without a secret cannot exchange tokens")
    if form.get("subject_token_type") not in _SUBJECT_TYPES:
        raise bad_request("subject_token_type must be one of: " + ", ".join(sorted(_SUBJECT_TYPES)))
    wanted_type = form.get("requested_token_type", _ACCESS_TOKEN)
    if wanted_type not in {_ACCESS_TOKEN, _JWT}:
        raise bad_request(f"requested_token_type must be one of: {_ACCESS_TOKEN}, {_JWT}")
    if form.get("actor_token"):
        raise bad_request("An actor_token is not supported: the client acts as the user.")
    claims, user = await subject(identity, client.client_id, form.get("subject_token", ""), "subject_token")
    source = asked.source

    def work(tx: Tx) -> dict[str, Any]:
        scopes = user_scopes(tx, client, user, asked.wanted)
        if "scope" in claims:
            scopes = [scope for scope in scopes if scope in claims["scope"]]
        scopes = _for_audience(scopes, form.get("audience", ""), client.client_id)
        if not scopes:
            shown = form.get("scope", "")
            raise invalid_scope(f"[{shown}] is invalid. The subject_token has none of the requested scopes", shown)
        audit.record(tx, "UserAuthenticationSuccess", source, user, {"method": "token exchange"})
        login = _derived(TOKEN_EXCHANGE, claims, opaque=False)
        return identity.issuer.for_user(tx, client, user, login, scopes, refreshable=False)

    return {**await identity.write(work), "issued_token_type": wanted_type}


def _derived(grant_type: str, claims: Mapping[str, Any], opaque: bool) -> Login:
    auth_time = int(claims["auth_time"]) * 1_000_000
    return Login(grant_type, auth_time, session=claims["sid"], opaque=opaque, until=claims["exp"])


def _for_audience(scopes: list[str], wanted: str, client_id: str) -> list[str]:
    """The scopes of the resources that are named; all of them when none is. Raises 400."""
    names = wanted.split()
    unknown = [name for name in names if name not in audience(scopes, client_id)]
    if unknown:
        raise bad_request(f"No scope here is for {' '.join(unknown)[:200]}.", "invalid_target")
    return [scope for scope in scopes if not names or set(audience([scope], "")) & set(names)]


def _active(tx: Tx, guid: str) -> Row[Any] | None:
    users = tables.identities
    return tx.one(select(users).where(users.c.guid == guid, users.c.active.is_(True)))


Grant = Callable[[Identity, Asked], Awaitable[dict[str, Any]]]
GRANTS: dict[str, Grant] = {
    "password": by_password,
    "refresh_token": by_refresh_token,
    "client_credentials": by_client_credentials,
    "authorization_code": by_code,
    JWT_BEARER: by_assertion,
    TOKEN_EXCHANGE: by_exchange,
}


def grant(name: str) -> Grant:
    """The function of a grant type. Raises 400."""
    if not name:
        raise bad_request("Missing grant type")
    if name == "implicit":
        raise bad_request("Implicit grant type not supported from token endpoint", "invalid_grant")
    found = GRANTS.get(name)
    if found is None:
        raise bad_request(f"Unsupported grant type: {name[:100]}", "unsupported_grant_type")
    return found
