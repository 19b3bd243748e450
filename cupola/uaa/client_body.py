"""Clients as JSON: what a request may say of one, and how one is shown. Secrets go in and never come out."""

from collections.abc import Mapping
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey
from sqlalchemy import Row

from cupola.uaa.problems import Problem, scim
from cupola.uaa.redirects import is_pattern
from cupola.uaa.scopes import JWT_BEARER, TOKEN_EXCHANGE

__all__ = ["checked_jwks", "checked_secret", "invalid", "new_values", "view"]

GRANT_TYPES = frozenset(
    {"authorization_code", "client_credentials", "password", "refresh_token", "user_token", JWT_BEARER, TOKEN_EXCHANGE}
)
_KNOWN = {
    "client_id",
    "client_secret",
    "secret",
    "name",
    "scope",
    "resource_ids",
    "authorized_grant_types",
    "redirect_uri",
    "autoapprove",
    "authorities",
    "access_token_validity",
    "refresh_token_validity",
    "allowedproviders",
    "required_user_groups",
    "lastModified",
    "allowpublic",
    "jwks",
    "action",
    "approvals_deleted",
}
_LONGEST = 255
_MOST_SECONDS = 2**31 - 1


def invalid(text: str, status: int = 400) -> Problem:
    """The answer to a client that cannot be as described."""
    return scim(status, "invalid_client", text)


def checked_secret(secret: Any) -> str:
    """A new secret. Raises 400."""
    if not isinstance(secret, str):
        raise invalid("A client's secret must be a text.")
    if len(secret) > _LONGEST:
        raise invalid(f"A client's secret may have at most {_LONGEST} characters.")
    return secret


def checked_jwks(given: Any) -> dict[str, Any] | None:
    """Public keys (RFC 7517) that a client signs its assertions with; RSA only. Raises 400."""
    if given is None:
        return None
    try:
        found = KeySet.import_key_set(given)
        keys = [_public(key) for key in found.keys]
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise invalid("jwks must be a JSON Web Key Set of RSA public keys.") from None
    if not 1 <= len(keys) <= 10 or any(not key.get("kid") for key in keys):
        raise invalid("jwks needs one to ten keys, each with a kid.")
    return {"keys": keys}


def _public(key: Any) -> dict[str, Any]:
    if not isinstance(key, RSAKey) or key.raw_value.key_size < 2048:
        raise TypeError("not an RSA key of 2048 bits or more")
    return dict(key.as_dict(private=False))


def _texts(body: Mapping[str, Any], name: str, default: list[str]) -> list[str]:
    value = body.get(name)
    if value is None:
        return default
    # Some clients send what UAA takes as well: one text with commas.
    if isinstance(value, str):
        value = [one.strip() for one in value.split(",") if one.strip()]
    if isinstance(value, bool) and name == "autoapprove":
        value = ["true"] if value else []
    if not isinstance(value, list) or not all(isinstance(one, str) and len(one) <= 1024 for one in value):
        raise invalid(f"{name} must be a list of texts.")
    return sorted(set(value))


def _seconds(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None or value == 0:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MOST_SECONDS:
        raise invalid(f"{name} must be a number of seconds.")
    return value


def new_values(client_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a client that a body describes wholly, without the secret. Raises 400."""
    if not client_id or len(client_id) > _LONGEST or any(character in client_id for character in "/\\\0:"):
        raise invalid("A client_id must be given: at most 255 characters, without slashes and colons.")
    name = body.get("name")
    if name is not None and (not isinstance(name, str) or len(name) > _LONGEST):
        raise invalid(f"name must be a text of at most {_LONGEST} characters.")
    allowed = body.get("allowedproviders")
    public = body.get("allowpublic", False)
    values = {
        "name": name,
        "scope": _texts(body, "scope", ["uaa.none"]) or ["uaa.none"],
        "resource_ids": _texts(body, "resource_ids", []),
        "grant_types": _texts(body, "authorized_grant_types", []),
        "redirect_uris": _texts(body, "redirect_uri", []),
        "autoapprove": _texts(body, "autoapprove", []),
        "authorities": _texts(body, "authorities", ["uaa.none"]) or ["uaa.none"],
        "access_token_seconds": _seconds(body, "access_token_validity"),
        "refresh_token_seconds": _seconds(body, "refresh_token_validity"),
        "allowed_providers": None if allowed is None else _texts(body, "allowedproviders", []),
        "required_user_groups": _texts(body, "required_user_groups", []),
        "allow_public": public is True or public == "true",
        "extra": {key: value for key, value in body.items() if key not in _KNOWN},
    }
    _check_grants(values)
    return values


def _check_grants(values: Mapping[str, Any]) -> None:
    grants = values["grant_types"]
    if not grants:
        raise invalid("An authorized grant type must be provided. Must be one of: " + ", ".join(sorted(GRANT_TYPES)))
    for grant in grants:
        if grant not in GRANT_TYPES:
            raise invalid(f"{grant} is not an allowed grant type. Must be one of: {', '.join(sorted(GRANT_TYPES))}")
    if "authorization_code" in grants and not values["redirect_uris"]:
        raise invalid("A redirect_uri must be provided for the grant type authorization_code.")
    for uri in values["redirect_uris"]:
        if not is_pattern(uri):
            raise invalid(f"One of the redirect_uri is invalid: {uri}")
    if values["allow_public"] and "client_credentials" in grants:
        raise invalid(
            "A public client cannot have the grant type client_credentials: it has nothing to prove itself by."
        )


def view(row: Row[Any]) -> dict[str, Any]:
    """A client as it is shown."""
    body = {
        **row.extra,
        "client_id": row.client_id,
        "name": row.name,
        "scope": row.scope,
        "resource_ids": row.resource_ids or ["none"],
        "authorized_grant_types": row.grant_types,
        "redirect_uri": row.redirect_uris,
        "autoapprove": row.autoapprove,
        "authorities": row.authorities,
        "access_token_validity": row.access_token_seconds,
        "refresh_token_validity": row.refresh_token_seconds,
        "allowedproviders": row.allowed_providers,
        "required_user_groups": row.required_user_groups,
        "allowpublic": row.allow_public,
        "jwks": row.jwks,
        "lastModified": row.updated_at // 1000,
    }
    return {key: value for key, value in body.items() if value is not None}
