"""A directory (LDAP) as an identity provider: the user is searched for, then the password is tried, then come the groups."""

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

from cupola.providers import LdapProvider, described, secret
from cupola.uaa.ldap import Entry, Ldap, escaped, filled, parsed_filter
from cupola.uaa.outside import Gate, Outside, Unreachable
from cupola.uaa.profiles import LDAP_ATTRIBUTES, Profile, Refused, of_entry

__all__ = ["Directory"]

_MOST_GROUPS = 1000
"""Groups of one user."""


class Directory:
    """A provider. Its methods run wherever the caller is; the work is done on the loop of `outside`."""

    def __init__(self, origin: str, settings: LdapProvider, outside: Outside) -> None:
        self.origin = origin
        self.settings = settings
        self._outside = outside
        self._gate = Gate(f"the directory {origin}", settings.concurrency, settings.timeout_seconds)
        self._first = 0

    def check(self) -> None:
        """Raises ValueError when the secret cannot be read or a filter is none."""
        secret(self.settings.bind_password_file, self.settings.bind_password_env)
        parsed_filter(self.settings.search_filter)
        parsed_filter(self.settings.group_filter)

    async def by_password(self, username: str, password: str) -> Profile | None:
        """The user with this name and password, None when they are wrong. Raises Unreachable, Refused."""
        return await self._outside.run(self._gate(lambda: self._by_password(username, password)))

    async def _by_password(self, username: str, password: str) -> Profile | None:
        connection = await self._connected()
        try:
            entry = await self._found(connection, username)
            if entry is None or not await connection.bind(entry.dn, password):
                return None
            if not self.settings.search_base:
                (entry,) = await self._read(connection, entry.dn) or [entry]
            groups = await self._groups(connection, username, entry)
            return of_entry(self.origin, self.settings, username, entry.dn, entry.attributes, groups)
        finally:
            connection.close()

    async def _connected(self) -> Ldap:
        """To the server that answered last, or else to the next one that does."""
        urls, tls = self.settings.urls, self._tls()
        trouble: Exception | None = None
        for step in range(len(urls)):
            number = (self._first + step) % len(urls)
            secured = tls if self.settings.start_tls or urls[number].startswith("ldaps:") else None
            try:
                # One that is silent leaves time for the next.
                async with asyncio.timeout(self.settings.timeout_seconds / len(urls)):
                    connection = await Ldap.connected(urls[number], secured)
            except (Unreachable, OSError) as error:
                trouble = error
            else:
                self._first = number
                return connection
        raise Unreachable(str(trouble) or f"no connection to {' or '.join(urls)}") from trouble

    def _tls(self) -> ssl.SSLContext | None:
        settings = self.settings
        if not settings.start_tls and all(url.startswith("ldap:") for url in settings.urls):
            return None
        try:
            context = ssl.create_default_context(
                cafile=Path(settings.ca_file).expanduser() if settings.ca_file else None
            )
        except OSError as error:
            raise Unreachable(f"cannot read the certificates in {settings.ca_file}: {error}") from error
        if settings.skip_tls_verification:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def _found(self, connection: Ldap, username: str) -> Entry | None:
        """The entry of the user with this name; without a search only its DN."""
        settings = self.settings
        if not settings.search_base:
            return Entry(settings.user_dn.replace("{username}", escaped(username)), {})
        await self._be_searcher(connection)
        what = filled(parsed_filter(settings.search_filter), {"username": username})
        entries = await connection.search(settings.search_base, what, self._attributes(), most=1)
        if len(entries) > 1:
            raise Refused(f"there are several entries for {username}: make search_filter stricter")
        return entries[0] if entries else None

    async def _be_searcher(self, connection: Ldap) -> None:
        settings = self.settings
        if not settings.bind_dn:
            return
        try:
            password = secret(settings.bind_password_file, settings.bind_password_env) or ""
        except ValueError as error:
            raise Unreachable(str(error)) from error
        if not await connection.bind(settings.bind_dn, password):
            raise Unreachable(f"it does not take bind_dn {settings.bind_dn} with its password")

    async def _read(self, connection: Ldap, dn: str) -> list[Entry]:
        return await connection.search(dn, None, self._attributes(), most=1, whole_tree=False)

    def _attributes(self) -> list[str]:
        return sorted(set(described(self.settings, LDAP_ATTRIBUTES).values()))

    async def _groups(self, connection: Ldap, username: str, entry: Entry) -> Sequence[str] | None:
        """Groups of the user, and groups that those are in, down to `group_depth`; None where they are not searched."""
        settings = self.settings
        if not settings.group_base:
            return None
        # Who may search groups is the one who searches users; without one, the user now does.
        await self._be_searcher(connection)
        template = parsed_filter(settings.group_filter)
        by_dn = settings.group_name.lower() == "dn"
        wanted = [] if by_dn else [settings.group_name]
        found: dict[str, Entry] = {}
        level = [entry.dn]
        for _ in range(settings.group_depth):
            following = []
            for dn in level:
                what = filled(template, {"username": username, "dn": dn})
                for group in await connection.search(settings.group_base, what, wanted, most=_MOST_GROUPS):
                    if group.dn.lower() not in found:
                        found[group.dn.lower()] = group
                        following.append(group.dn)
                if len(found) > _MOST_GROUPS:
                    raise Refused(f"{username} is in more than {_MOST_GROUPS} groups: make group_filter stricter")
            level = following
        if by_dn:
            return [group.dn for group in found.values()]
        return [name for group in found.values() for name in group.attributes.get(settings.group_name.lower(), ())]
