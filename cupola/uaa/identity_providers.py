"""/identity-providers: the providers of the configuration, as UAA describes its own. They cannot be changed here."""

import uuid
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from cupola.providers import LdapProvider, OidcProvider
from cupola.uaa.bearer import bearer
from cupola.uaa.forms import parameters
from cupola.uaa.problems import Problem, json_response
from cupola.uaa.service import Identity

__all__ = ["refuse_change", "search", "show"]

_NAMESPACE = uuid.UUID("6b0f0f3c-5a51-4f56-9c3e-0f6b8d6e1c55")
"""Of ids that follow from the origin, so that they stay the same over restarts and in all controllers."""


async def search(identity: Identity, request: Request) -> Response:
    """List the providers, or the one with an `originKey`."""
    await bearer(identity, request, "idps.read")
    query = parameters(request)
    wanted = query.get("originKey", "")
    found = [one for one in _all(identity) if not wanted or one["originKey"] == wanted]
    if wanted and not found:
        raise _unknown(wanted)
    return json_response([_written(one, query) for one in found])


async def show(identity: Identity, request: Request) -> Response:
    """Get one provider."""
    await bearer(identity, request, "idps.read")
    wanted = request.path_params["id"]
    for one in _all(identity):
        if one["id"] == wanted:
            return json_response(_written(one, parameters(request)))
    raise _unknown(wanted)


async def refuse_change(identity: Identity, request: Request) -> Response:
    """Say where providers are changed."""
    await bearer(identity, request, "idps.write")
    raise Problem(
        405,
        "method_not_allowed",
        "Identity providers are configured by the operator, in the sections identity.oidc and identity.ldap of the settings.",
    )


def _unknown(name: str) -> Problem:
    return Problem(404, "not_found", f"There is no identity provider {name[:100]}.")


def _written(one: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
    """`config` is JSON in a text, unless it is asked for as it is."""
    if query.get("rawConfig", "").lower() == "true":
        return one
    return {**one, "config": msgspec.json.encode(one["config"]).decode()}


def _all(identity: Identity) -> list[dict[str, Any]]:
    settings = identity.settings.identity
    return [
        _view("uaa", "uaa", _internal(identity)),
        *(_view(origin, "ldap", _ldap(one)) for origin, one in settings.ldap.items()),
        *(_view(origin, "oidc1.0", _oidc(one)) for origin, one in settings.oidc.items()),
    ]


def _view(origin: str, type_: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": type_,
        "config": config,
        "id": str(uuid.uuid5(_NAMESPACE, origin)),
        "originKey": origin,
        "name": origin,
        "version": 0,
        "created": 0,
        "last_modified": 0,
        "active": True,
        "identityZoneId": "uaa",
    }


def _internal(identity: Identity) -> dict[str, Any]:
    settings = identity.settings.identity
    return {
        "emailDomain": None,
        "passwordPolicy": None,
        "lockoutPolicy": {
            "lockoutPeriodSeconds": settings.lockout_seconds,
            "lockoutAfterFailures": settings.lockout_failures,
            "countFailuresWithin": settings.lockout_window_seconds,
        },
        "disableInternalUserManagement": False,
    }


def _oidc(one: OidcProvider) -> dict[str, Any]:
    return {
        "issuer": one.issuer,
        "discoveryUrl": one.discovery_url or f"{one.issuer.rstrip('/')}/.well-known/openid-configuration",
        "authUrl": one.authorization_endpoint or None,
        "tokenUrl": one.token_endpoint or None,
        "tokenKeyUrl": one.jwks_uri or None,
        "userInfoUrl": one.userinfo_endpoint or None,
        "relyingPartyId": one.client_id,
        "scopes": one.scopes,
        "linkText": one.link_text or None,
        "showLinkText": one.show_link,
        "addShadowUserOnLogin": one.create_users,
        "passwordGrantEnabled": one.password_grant,
        "skipSslValidation": one.skip_tls_verification,
        "attributeMappings": one.attributes,
        "externalGroupsWhitelist": sorted(one.groups),
        "pkce": True,
    }


def _ldap(one: LdapProvider) -> dict[str, Any]:
    tls = "none" if all(url.startswith("ldaps:") for url in one.urls) or not one.start_tls else "simple"
    return {
        "baseUrl": " ".join(one.urls),
        "ldapProfileFile": f"ldap/ldap-{'search-and-bind' if one.search_base else 'simple-bind'}.xml",
        "ldapGroupFile": f"ldap/ldap-groups-{'map-to-scopes' if one.group_base else 'null'}.xml",
        "bindUserDn": one.bind_dn or None,
        "userSearchBase": one.search_base or None,
        "userSearchFilter": one.search_filter if one.search_base else None,
        "userDNPattern": one.user_dn or None,
        "groupSearchBase": one.group_base or None,
        "groupSearchFilter": one.group_filter if one.group_base else None,
        "maxGroupSearchDepth": one.group_depth,
        "skipSSLVerification": one.skip_tls_verification,
        "tlsConfiguration": tls,
        "addShadowUserOnLogin": one.create_users,
        "attributeMappings": one.attributes,
        "externalGroupsWhitelist": sorted(one.groups),
    }
