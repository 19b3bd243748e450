"""One OpenID Connect provider: where it is, how a browser gets there and back, what its tokens are worth.

OpenID Connect Core 1.0 (sections 3.1.2 and 3.1.3), Discovery 1.0, PKCE (RFC 7636), issuer in answers (RFC 9207). A token
is judged by the provider's keys and by what is configured here, never by what it says of itself.
"""

import base64
import hashlib
import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import quote_plus

from joserfc.errors import JoseError

from cupola import clock
from cupola.providers import OidcProvider, secret
from cupola.uaa.foreign_keys import ForeignKeys
from cupola.uaa.outside import Gate, Outside, Unreachable
from cupola.uaa.profiles import Profile, Refused, of_claims
from cupola.uaa.redirects import with_parameters
from cupola.uaa.web import Answer, Web, require_safe

__all__ = ["Oidc", "Proof", "Secrets"]

log = logging.getLogger(__name__)
LEEWAY = 60
"""Seconds by which the provider's clock may differ."""
KEPT = 3600.0
"""Seconds after which the provider's own description is read again."""
_WRONG_PASSWORD = frozenset({"invalid_grant", "access_denied", "unauthorized", "invalid_client"})
"""Errors that mean a wrong password. A UAA says `invalid_client` then, as it does for a wrong client."""


@dataclass(frozen=True)
class Endpoints:
    """Where the parts of a provider are."""

    authorization: str
    token: str
    keys: str
    userinfo: str = ""


@dataclass(frozen=True)
class Secrets:
    """What ties the answer of a provider to the question: made of `state` and of what only this browser has."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def of(cls, key: bytes, state: str, browser: str) -> "Secrets":
        """The same for the same arguments, so that nothing of it has to be kept."""

        def made(name: str) -> str:
            mac = hmac.digest(key, f"oidc {name}:{state}:{browser}".encode("utf-8", "surrogatepass"), "sha256")
            return base64.urlsafe_b64encode(mac).decode().rstrip("=")

        return cls(state, made("nonce"), made("verifier"))

    @property
    def challenge(self) -> str:
        """The PKCE challenge, by S256."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True)
class Proof:
    """What a browser brought back."""

    code: str
    secrets: Secrets
    redirect_uri: str


class Oidc:
    """A provider. Its methods run wherever the caller is; the work is done on the loop of `outside`."""

    def __init__(self, origin: str, settings: OidcProvider, outside: Outside) -> None:
        self.origin = origin
        self.settings = settings
        self._outside = outside
        self._web = Web(outside, settings.ca_file, settings.skip_tls_verification)
        self._gate = Gate(str(self), settings.concurrency, settings.timeout_seconds)
        self._keys = ForeignKeys(self._fetch_keys, settings.timeout_seconds)
        self._found: Endpoints | None = None
        self._found_at = float("-inf")

    def __str__(self) -> str:
        return f"the identity provider {self.origin}"

    def check(self) -> None:
        """Raises ValueError when the secret cannot be read."""
        secret(self.settings.client_secret_file, self.settings.client_secret_env)

    async def address(self, secrets: Secrets, redirect_uri: str, *, prompt: str = "", login_hint: str = "") -> str:
        """Where to send a browser. Raises Unreachable."""
        endpoints = await self._outside.run(self._gate(self._endpoints))
        parameters = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.settings.scopes),
            "state": secrets.state,
            "nonce": secrets.nonce,
            "code_challenge": secrets.challenge,
            "code_challenge_method": "S256",
            "prompt": prompt or None,
            "login_hint": login_hint or None,
        }
        return with_parameters(endpoints.authorization, parameters)

    async def by_code(self, proof: Proof) -> Profile:
        """Who logged in there. Raises Unreachable, Refused."""
        return await self._outside.run(self._gate(lambda: self._by_code(proof)))

    async def by_password(self, username: str, password: str) -> Profile | None:
        """The user with this name and password, None when they are wrong. Raises Unreachable, Refused."""
        return await self._outside.run(self._gate(lambda: self._by_password(username, password)))

    async def by_assertion(self, token: str, audience: str) -> Profile:
        """Whom an id token of the provider is of; it must be meant for our client there, or for `audience`. Raises
        Unreachable, Refused."""

        async def work() -> Profile:
            return of_claims(self.origin, self.settings, await self._judged(token, audience))

        return await self._outside.run(self._gate(work))

    async def _by_code(self, proof: Proof) -> Profile:
        form = {
            "grant_type": "authorization_code",
            "code": proof.code,
            "redirect_uri": proof.redirect_uri,
            "code_verifier": proof.secrets.verifier,
        }
        answer = await self._asked(form)
        if answer.status in {400, 401, 403} and (answer.body or {}).get("error") == "invalid_grant":
            raise Refused("the code is not good (any more)")
        body = answer.good()
        claims = await self._judged(_id_token(body))
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), proof.secrets.nonce.encode()):
            raise Refused("the id token was made for another login (nonce)")
        return await self._profile(body, claims)

    async def _by_password(self, username: str, password: str) -> Profile | None:
        form = {
            "grant_type": "password",
            "username": username,
            "password": password,
            "scope": " ".join(self.settings.scopes),
        }
        answer = await self._asked(form)
        error = (answer.body or {}).get("error")
        if answer.status in {400, 401, 403} and error in _WRONG_PASSWORD:
            if error == "invalid_client":
                log.warning(
                    "%s answers a password with invalid_client: if it is always so, our own secret is wrong", self
                )
            return None
        body = answer.good()
        return await self._profile(body, await self._judged(_id_token(body)))

    async def _profile(self, body: Mapping[str, Any], claims: Mapping[str, Any]) -> Profile:
        if not self.settings.userinfo:
            return of_claims(self.origin, self.settings, claims)
        endpoint = (await self._endpoints()).userinfo
        if not endpoint:
            raise Unreachable("it has no userinfo endpoint")
        token = body.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise Refused("there is no access token for the userinfo endpoint")
        more = (await self._web.get(endpoint, {"Authorization": f"Bearer {token}"})).good()
        # Another user's answer must not be mixed in (OpenID Connect Core 1.0 section 5.3.2).
        if more.get("sub") != claims["sub"]:
            raise Refused("the userinfo endpoint tells of somebody else")
        return of_claims(self.origin, self.settings, {**more, **claims})

    async def _asked(self, form: dict[str, str]) -> Answer:
        """The answer of the token endpoint."""
        settings, headers = self.settings, {}
        try:
            own = secret(settings.client_secret_file, settings.client_secret_env) or ""
        except ValueError as error:
            raise Unreachable(str(error)) from error
        if settings.client_authentication == "basic":
            pair = f"{quote_plus(settings.client_id)}:{quote_plus(own)}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
            # A UAA decodes what RFC 6749 section 2.3.1 has us encode only when it is told to.
            headers["X-CF-ENCODED-CREDENTIALS"] = "true"
        else:
            form = {**form, "client_id": settings.client_id}
            if settings.client_authentication == "post":
                form["client_secret"] = own
        return await self._web.post_form((await self._endpoints()).token, form, headers)

    async def _judged(self, token: str, audience: str = "") -> dict[str, Any]:
        """The claims of an id token that is good (OpenID Connect Core 1.0 section 3.1.3.7). Raises Unreachable, Refused."""
        try:
            claims = await self._keys.verified(token)
        except (JoseError, ValueError, TypeError) as error:
            raise Refused(f"the id token is malformed or badly signed ({error})") from None
        fault = _fault(claims, self.settings.issuer, self.settings.client_id, audience)
        if fault is not None:
            raise Refused(f"the id token is not good: {fault}")
        return claims

    async def _endpoints(self) -> Endpoints:
        if self._found is not None and monotonic() - self._found_at < KEPT:
            return self._found
        try:
            self._found = await self._discovered()
        except Unreachable:
            if self._found is None:
                raise
        self._found_at = monotonic()
        return self._found

    async def _discovered(self) -> Endpoints:
        settings = self.settings
        if settings.authorization_endpoint:
            return Endpoints(
                settings.authorization_endpoint, settings.token_endpoint, settings.jwks_uri, settings.userinfo_endpoint
            )
        url = settings.discovery_url or settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        document = (await self._web.get(url)).good()
        # Whoever can write the document is not to become the issuer (OpenID Connect Discovery 1.0 section 4.3).
        if document.get("issuer") != settings.issuer:
            raise Unreachable(
                f"it says that its issuer is {str(document.get('issuer'))[:200]}, configured is {settings.issuer}"
            )
        userinfo = document.get("userinfo_endpoint")
        return Endpoints(
            require_safe("authorization_endpoint", document.get("authorization_endpoint")),
            require_safe("token_endpoint", document.get("token_endpoint")),
            require_safe("jwks_uri", document.get("jwks_uri")),
            require_safe("userinfo_endpoint", userinfo) if userinfo else "",
        )

    async def _fetch_keys(self) -> Mapping[str, Any]:
        return (await self._web.get((await self._endpoints()).keys)).good()


def _id_token(body: Mapping[str, Any]) -> str:
    token = body.get("id_token")
    if not isinstance(token, str) or not token.isascii():
        raise Refused("there is no id token: is `openid` among the scopes, and does the provider allow it?")
    return token


def _fault(claims: Mapping[str, Any], issuer: str, client_id: str, audience: str) -> str | None:
    now, named, azp = clock.seconds(), claims.get("aud"), claims.get("azp")
    meant = named if isinstance(named, list) else [named]
    if claims.get("iss") != issuer:
        return "it is of another issuer"
    if not audience or audience not in meant:
        if client_id not in meant:
            return "it is meant for somebody else"
        if azp != client_id and (azp is not None or len(meant) > 1):
            return "it was made for another client (azp)"
    if not _is_time(claims.get("exp")) or claims["exp"] + LEEWAY <= now:
        return "it has expired"
    if not _is_time(claims.get("iat")) or claims["iat"] - LEEWAY > now:
        return "its time of issue is missing or in the future"
    if not _is_time(claims.get("nbf", 0)) or claims.get("nbf", 0) - LEEWAY > now:
        return "it is not good yet"
    if not isinstance(claims.get("sub"), str) or not 0 < len(claims["sub"]) <= 255:
        return "it names nobody (sub)"
    return None


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
