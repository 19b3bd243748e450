"""The identity providers of others that this platform's configuration names."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cupola.config import ConfigError, Settings
from cupola.providers import LdapProvider, Provider
from cupola.uaa.oidc import Oidc
from cupola.uaa.outside import Outside

if TYPE_CHECKING:
    from cupola.uaa.directory import Directory

__all__ = ["Providers"]


class Providers:
    """By origin, in the order of the configuration. Nothing is asked before somebody logs in there."""

    def __init__(self, settings: Settings, outside: Outside) -> None:
        identity = settings.identity
        self.oidc: Mapping[str, Oidc] = {name: Oidc(name, one, outside) for name, one in identity.oidc.items()}
        self.ldap: Mapping[str, Directory] = _directories(identity.ldap, outside) if identity.ldap else {}
        self.settings: Mapping[str, Provider] = {**identity.oidc, **identity.ldap}

    def check(self) -> None:
        """Raises ConfigError when a secret cannot be read."""
        for kind, found in (("oidc", self.oidc), ("ldap", self.ldap)):
            for origin, one in found.items():
                try:
                    one.check()
                except ValueError as error:
                    raise ConfigError(f"identity.{kind}.{origin}: {error}") from error

    def takes_passwords(self, origin: str) -> bool:
        """Whether one can log in there with a name and a password that are given here."""
        return (
            origin == "uaa"
            or origin in self.ldap
            or (origin in self.oidc and self.oidc[origin].settings.password_grant)
        )

    def methods(self, origin: str) -> tuple[str, ...]:
        """How users of an origin log in, as tokens say it (`amr`)."""
        if origin in self.oidc:
            return ("ext", "oauth")
        return ("ext", "pwd") if origin in self.ldap else ("pwd",)


def _directories(settings: Mapping[str, LdapProvider], outside: Outside) -> dict[str, "Directory"]:
    # The protocol costs 70 ms to import, so it is imported where somebody has a directory.
    from cupola.uaa.directory import Directory

    return {name: Directory(name, one, outside) for name, one in settings.items()}
