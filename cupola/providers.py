"""What an operator says of identity providers: sections of the settings (docs/identity.md), and what in them is wrong.

    [identity.oidc.corp]      an OpenID Connect provider; `corp` is the origin of its users
    [identity.ldap.ldap]      a directory
    [uaa]                     the identity server of others, with identity.mode = external

Secrets are never in these sections: they name a file or an environment variable.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

__all__ = ["LdapProvider", "OidcProvider", "Provider", "Uaa", "described", "is_local", "problems", "secret"]

_ORIGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_BUILT_IN = frozenset({"uaa", "unknown", "login-server", "keystone", "saml"})
"""Origins that mean something else in a UAA."""
_ATTRIBUTES = frozenset(
    {"user_name", "email", "email_verified", "given_name", "family_name", "phone_number", "external_groups"}
)
_CUSTOM = "user.attribute."
"""What begins so is shown by /userinfo to clients with the scope `user_attributes`."""


class Provider(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What both kinds of provider have."""

    create_users: bool = True
    """Let in who was not made known before."""
    attributes: dict[str, str] = msgspec.field(default_factory=dict)
    """Our attributes to the provider's; default by kind."""
    groups: dict[str, list[str]] = msgspec.field(default_factory=dict)
    """The provider's groups to ours."""
    ca_file: str = ""
    """Certificates (PEM) that the provider is trusted by instead of the system's."""
    skip_tls_verification: bool = False
    timeout_seconds: float = 5.0
    """Seconds for a whole exchange with the provider."""
    concurrency: int = 8
    """Logins that wait for it at once; more are refused."""


class OidcProvider(Provider):
    """An OpenID Connect provider."""

    issuer: str
    client_id: str
    client_secret_file: str = ""
    client_secret_env: str = ""
    client_authentication: Literal["basic", "post", "none"] = "basic"
    scopes: list[str] = msgspec.field(default_factory=lambda: ["openid", "profile", "email"])
    link_text: str = ""
    """What the login page calls it; default its origin."""
    show_link: bool = True
    """Show it on the login page."""
    password_grant: bool = False
    """Take names and passwords and hand them to its token endpoint."""
    accept_assertions: bool = False
    """Take its id tokens for the grant jwt-bearer."""
    userinfo: bool = False
    """Ask its userinfo endpoint for what the id token lacks."""
    discovery_url: str = ""
    """Default: below the issuer, as OpenID Connect Discovery says."""
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    userinfo_endpoint: str = ""
    jwks_uri: str = ""
    """Of a provider without discovery."""


class LdapProvider(Provider):
    """A directory: the name is searched for, then the password is tried."""

    urls: list[str]
    """Tried in this order."""
    start_tls: bool = True
    """Ask for TLS at `ldap://`."""
    allow_plain: bool = False
    """Send passwords without TLS."""
    bind_dn: str = ""
    bind_password_file: str = ""
    bind_password_env: str = ""
    """Who searches; without it anybody may."""
    search_base: str = ""
    search_filter: str = "(uid={username})"
    user_dn: str = ""
    """Instead of a search: the user's DN, with `{username}` in it."""
    group_base: str = ""
    """Where groups are searched; without it there are none but those of the user's own attribute."""
    group_filter: str = "(member={dn})"
    group_depth: int = 1
    """Levels of groups in groups."""
    group_name: str = "dn"
    """What a group is called in `groups`: `dn`, or an attribute such as `cn`."""


class Uaa(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The identity server of others."""

    url: str = ""
    login_url: str = ""
    """Where people log in; default the same."""
    issuer: str = ""
    """What its tokens name as issuer; default as it says itself."""
    client_id: str = "cloud_controller_username_lookup"
    client_secret_file: str = ""
    client_secret_env: str = ""
    """A client there with `scim.userids` (and `scim.create`, to make users known by name; `clients.admin`, to make the
    clients of service dashboards)."""
    ca_file: str = ""
    skip_tls_verification: bool = False
    timeout_seconds: float = 5.0
    refresh_seconds: int = 300
    """Seconds between two looks at its keys, and for names of users that are missing."""


def secret(file: str, variable: str) -> str | None:
    """A secret from a file (its last line break is no part of it) or from the environment; None where neither is named.

    Raises ValueError.
    """
    if file:
        try:
            return Path(file).expanduser().read_text().removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ValueError(f"cannot read the secret in {file}: {why}") from error
    if variable:
        if variable not in os.environ:
            raise ValueError(f"the environment has no variable {variable}, which should hold the secret")
        return os.environ[variable]
    return None


def is_local(url: str) -> bool:
    """Whether a URL leads to this machine: only then may it be without TLS."""
    return urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"}


def problems(oidc: Mapping[str, OidcProvider], ldap: Mapping[str, LdapProvider], uaa: Uaa, mode: str) -> Iterator[str]:
    """What is wrong with these sections, one sentence each."""
    for kind, found in (("oidc", oidc), ("ldap", ldap)):
        for origin, one in found.items():
            where = f"identity.{kind}.{origin}"
            if not _ORIGIN.fullmatch(origin) or origin in _BUILT_IN:
                yield f"{where}: {origin} cannot be the name of a provider"
            if kind == "ldap" and origin in oidc:
                yield f"{where}: there is an OpenID Connect provider of this name"
            yield from (f"{where}.{text}" for text in _of_any(one))
            yield from (
                f"{where}.{text}" for text in (_of_oidc(one) if isinstance(one, OidcProvider) else _of_ldap(one))
            )
    if mode == "external":
        yield from (f"uaa.{text}" for text in _of_uaa(uaa))
        if oidc or ldap:
            yield "identity.oidc and identity.ldap do nothing with identity.mode = external: that server has providers"


def _of_any(one: Provider) -> Iterator[str]:
    for name in one.attributes:
        if name not in _ATTRIBUTES and not name.startswith(_CUSTOM):
            yield f"attributes: there is no attribute {name}; there are {', '.join(sorted(_ATTRIBUTES))} and {_CUSTOM}NAME"
    if one.timeout_seconds <= 0 or one.concurrency < 1:
        yield "timeout_seconds and concurrency must be more than 0"


def _of_oidc(one: OidcProvider) -> Iterator[str]:
    addresses = {
        name: getattr(one, name)
        for name in (
            "issuer",
            "discovery_url",
            "authorization_endpoint",
            "token_endpoint",
            "userinfo_endpoint",
            "jwks_uri",
        )
    }
    yield from (text for name, url in addresses.items() if url for text in _of_address(name, url))
    if one.client_authentication != "none" and not (one.client_secret_file or one.client_secret_env):
        yield "client_secret_file (or client_secret_env) is missing; a client without a secret needs client_authentication = none"
    if "openid" not in one.scopes:
        yield "scopes: openid is missing"
    own = [addresses[name] for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
    if any(own) and not all(own):
        yield "authorization_endpoint, token_endpoint and jwks_uri are given together or not at all"


def _of_address(name: str, url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.fragment:
        yield f"{name}: {url} is no address of a server"
    elif parts.scheme == "http" and not is_local(url):
        yield f"{name}: {url} is without TLS, which only this machine's own addresses may be"


def _of_ldap(one: LdapProvider) -> Iterator[str]:
    if not one.urls:
        yield "urls: there is none"
    for url in one.urls:
        parts = urlsplit(url)
        if parts.scheme not in {"ldap", "ldaps"} or not parts.hostname or parts.path not in {"", "/"}:
            yield f"urls: {url} is not ldap://HOST or ldaps://HOST, with a port or without"
        elif parts.scheme == "ldap" and not one.start_tls and not one.allow_plain:
            yield f"urls: {url} without start_tls sends passwords as they are; allow_plain = true if that is what you want"
    if bool(one.search_base) == bool(one.user_dn):
        yield "search_base or user_dn is needed, and only one of them"
    for name, text, field in (
        ("user_dn", one.user_dn, "{username}"),
        ("search_filter", one.search_filter if one.search_base else "", "{username}"),
    ):
        if text and field not in text:
            yield f"{name}: {field} is missing in {text}"
    if one.group_base and "{dn}" not in one.group_filter and "{username}" not in one.group_filter:
        yield f"group_filter: neither {{dn}} nor {{username}} is in {one.group_filter}"
    if one.bind_dn and not (one.bind_password_file or one.bind_password_env):
        yield "bind_password_file (or bind_password_env) is missing"
    if not 1 <= one.group_depth <= 10:
        yield "group_depth must be from 1 to 10"


def _of_uaa(one: Uaa) -> Iterator[str]:
    if not one.url:
        yield "url is missing: the address of the identity server"
        return
    yield from (
        text for name in ("url", "login_url") for text in _of_address(name, getattr(one, name)) if getattr(one, name)
    )
    if not (one.client_secret_file or one.client_secret_env):
        yield "client_secret_file (or client_secret_env) is missing: the secret of the client that looks users up"


def described(one: Provider, defaults: Mapping[str, str]) -> dict[str, str]:
    """Our attributes to the provider's, with the defaults of its kind."""
    return {**defaults, **one.attributes}
