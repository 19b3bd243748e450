"""What another identity provider says of a user, in our words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cupola.providers import LdapProvider, OidcProvider, described

__all__ = ["LDAP_ATTRIBUTES", "Profile", "Refused", "of_claims", "of_entry"]

LONGEST = 255
_MOST_GROUPS = 5000
_CUSTOM = "user.attribute."
_OIDC = {
    "email": "email",
    "email_verified": "email_verified",
    "given_name": "given_name",
    "family_name": "family_name",
    "phone_number": "phone_number",
}
LDAP_ATTRIBUTES = {
    "user_name": "uid",
    "email": "mail",
    "given_name": "givenName",
    "family_name": "sn",
    "phone_number": "telephoneNumber",
}


class Refused(Exception):
    """A provider's answer does not let anybody in; the text says why, for the log."""


@dataclass(frozen=True)
class Profile:
    """A user of another provider. `subject` is the provider's own name for the user, which never changes; None where
    the user name is that. `groups` are the provider's; None where it is not asked for them."""

    origin: str
    subject: str | None
    username: str
    email: str = ""
    given_name: str = ""
    family_name: str = ""
    phone_number: str | None = None
    verified: bool = True
    groups: Sequence[str] | None = None
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    external_id: str | None = None
    """What SCIM shows as externalId; default the subject."""


def of_claims(origin: str, settings: OidcProvider, claims: Mapping[str, Any]) -> Profile:
    """The user that claims tell of. Raises Refused."""
    names = described(settings, _OIDC)
    username = _username(claims, names)
    if not username or len(username) > LONGEST or len(username.lower()) > LONGEST:
        wanted = names.get("user_name", "preferred_username")
        raise Refused(f"the claim {wanted} has no name of at most {LONGEST} characters")

    def text(ours: str) -> str:
        value = _claim(claims, names[ours])
        return value[:LONGEST] if isinstance(value, str) else ""

    verified = _claim(claims, names["email_verified"])
    return Profile(
        origin,
        claims["sub"],
        username,
        email=text("email"),
        given_name=text("given_name"),
        family_name=text("family_name"),
        phone_number=text("phone_number") or None,
        verified=verified is not False and verified != "false",
        groups=_listed(_claim(claims, names["external_groups"])) if "external_groups" in names else None,
        attributes={
            ours.removeprefix(_CUSTOM): _listed(_claim(claims, theirs))
            for ours, theirs in names.items()
            if ours.startswith(_CUSTOM)
        },
    )


def _username(claims: Mapping[str, Any], names: Mapping[str, str]) -> str:
    if "user_name" in names:
        found = _claim(claims, names["user_name"])
        return found if isinstance(found, str) else ""
    preferred = claims.get("preferred_username")
    if isinstance(preferred, str) and preferred.strip():
        return preferred
    # An address that nobody proved could be somebody else's.
    email = claims.get("email")
    if isinstance(email, str) and email and claims.get("email_verified") is True:
        return email
    return str(claims["sub"])


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by name; `realm_access.roles` reaches into objects where there is no claim of the whole name."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _listed(value: Any) -> list[str]:
    found = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [one for one in found[:_MOST_GROUPS] if isinstance(one, str)]


def of_entry(
    origin: str,
    settings: LdapProvider,
    typed: str,
    dn: str,
    entry: Mapping[str, Sequence[str]],
    groups: Sequence[str] | None,
) -> Profile:
    """The user of a directory's entry (attribute names in lower case); `typed` is the name that was given at the login."""
    names = described(settings, LDAP_ATTRIBUTES)

    def values(ours: str) -> Sequence[str]:
        return entry.get(names[ours].lower(), ()) if ours in names else ()

    def text(ours: str) -> str:
        return next((one[:LONGEST] for one in values(ours) if one), "")

    found = None if groups is None and "external_groups" not in names else [*(groups or ()), *values("external_groups")]
    return Profile(
        origin,
        None,
        text("user_name") or typed,
        email=text("email"),
        given_name=text("given_name"),
        family_name=text("family_name"),
        phone_number=text("phone_number") or None,
        groups=found,
        attributes={ours.removeprefix(_CUSTOM): list(values(ours)) for ours in names if ours.startswith(_CUSTOM)},
        external_id=dn[:LONGEST],
    )
