"""What anybody may know: prompts, versions, addresses, public keys."""

import hashlib

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from cupola import __version__, clock
from cupola.uaa.forms import parameters
from cupola.uaa.problems import json_response
from cupola.uaa.service import Identity

__all__ = ["UAA_VERSION", "discovery", "health", "info", "token_key", "token_keys"]

UAA_VERSION = "77.20.0"
"""The UAA whose subset this is; the CLI wants at least 4.26.0 for `--origin`."""


async def info(identity: Identity, request: Request) -> Response:
    """What clients must ask of a user, and where the parts of the identity server are."""
    settings = identity.settings
    body = {
        "app": {"version": UAA_VERSION, "name": f"cupola {__version__}"},
        "links": {"uaa": settings.uaa_url, "login": settings.login_url},
        "zone_name": "uaa",
        "entityID": settings.login_url.partition("://")[2],
        "commit_id": __version__,
        "timestamp": clock.format_api(0),
        "idpDefinitions": {},
        "oauthLinks": {
            one.settings.link_text or origin: f"{settings.login_url}/login/start/{origin}"
            for origin, one in identity.providers.oidc.items()
            if one.settings.show_link
        },
        "prompts": _prompts(identity, parameters(request).get("origin", "")),
    }
    return json_response(body)


def _prompts(identity: Identity, origin: str) -> dict[str, list[str]]:
    """What to ask users for; of `origin` alone where that is one of the providers."""
    code = f"Temporary Authentication Code ( Get one at {identity.settings.login_url}/passcode )"
    pair = {"username": ["text", "Email"], "password": ["password", "Password"]}
    if origin in identity.providers.settings:
        return pair if identity.providers.takes_passwords(origin) else {"passcode": ["password", code]}
    return {**pair, "passcode": ["password", code]}


async def health(identity: Identity, request: Request) -> Response:
    """`ok`."""
    return Response("ok", media_type="text/plain")


async def discovery(identity: Identity, request: Request) -> Response:
    """OpenID Connect discovery (OpenID Connect Discovery 1.0 section 3)."""
    uaa = identity.settings.uaa_url
    body = {
        "issuer": identity.issuer_url,
        "authorization_endpoint": f"{uaa}/oauth/authorize",
        "token_endpoint": f"{uaa}/oauth/token",
        "introspection_endpoint": f"{uaa}/introspect",
        "userinfo_endpoint": f"{uaa}/userinfo",
        "jwks_uri": f"{uaa}/token_keys",
        "end_session_endpoint": f"{uaa}/logout.do",
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "email", "phone", "roles", "user_attributes"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "code_challenge_methods_supported": ["S256", "plain"],
        "claims_supported": [
            "sub",
            "user_name",
            "origin",
            "iss",
            "auth_time",
            "amr",
            "aud",
            "client_id",
            "azp",
            "zid",
            "exp",
            "iat",
            "jti",
            "email",
            "email_verified",
            "given_name",
            "family_name",
            "phone_number",
            "nonce",
            "roles",
        ],
    }
    return json_response(body)


async def token_keys(identity: Identity, request: Request) -> Response:
    """The public keys that tokens are signed with (RFC 7517); 304 when the reader knows them."""
    body = await identity.thread(identity.keys.jwks)
    tag = f'"{hashlib.sha256(msgspec.json.encode(body)).hexdigest()[:32]}"'
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    return json_response(body, headers={"ETag": tag, "Cache-Control": "no-cache"})


async def token_key(identity: Identity, request: Request) -> Response:
    """The key that signs now."""
    return json_response(await identity.thread(identity.keys.active_jwk))
