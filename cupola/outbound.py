"""Which hosts the platform calls for whom: brokers, drains, route services, registries, addresses of buildpacks.

    Refused     a host may not be called; the text names it and says what an operator can do

Admins may name any host. Others may not name loopback, private, link-local (and so metadata) or multicast addresses, nor
addresses of this machine, unless `outbound.allow` has them as `host`, `host:port` or a network such as `10.1.0.0/16`.
Judged is the address that is then dialled, not the name: dial what `Policy.resolve` returns, at each redirect anew.

Only the standard library: the builder runs this file in staging containers.
"""

import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Policy", "Refused", "is_loopback", "is_public", "names"]


class Refused(Exception):
    """This host may not be called."""


@dataclass(frozen=True)
class Policy:
    """What one actor may reach: `anywhere` for admins, else public addresses and what `allow` names."""

    anywhere: bool = False
    allow: Sequence[str] = ()

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of `host` that may be dialled, in the resolver's order.

        Raises Refused when there are addresses but none of them is allowed, OSError when the name has none.
        """
        addresses = _addresses(host, port)
        if self.anywhere or names(self.allow, host, port):
            return addresses
        permitted = [address for address in addresses if names(self.allow, address, port) or is_public(address)]
        if not permitted:
            raise Refused(
                f"{host} is at {addresses[0]}, which is no public address: an operator can add {host} to outbound.allow"
            )
        return permitted


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        # Names below localhost mean this machine (RFC 6761), which not every resolver knows; our own routes have them.
        if host.lower().rstrip(".").endswith(".localhost"):
            return ["127.0.0.1"]
        raise
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def names(allow: Sequence[str], host: str, port: int | None) -> bool:
    """Whether a list of `host`, `host:port` and networks names this host (a name or an address)."""
    host = host.lower().strip("[]")
    for entry in allow:
        if entry.lower() in (host, f"[{host}]", f"{host}:{port}", f"[{host}]:{port}"):
            return True
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
    return False


def is_loopback(host: str) -> bool:
    """Whether a host, as a broker or a setting names it, is the machine itself."""
    host = host.lower().strip("[]").removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    inner = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (inner or found).is_loopback or found.is_unspecified


def is_public(address: str) -> bool:
    """Whether an address is on the public internet and not one of this machine."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        # An IPv4 address in IPv6 clothes is dialled as the IPv4 address.
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if inner is not None:
            return is_public(str(inner))
        if parsed in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
    return parsed.is_global and not parsed.is_multicast and not _is_ours(str(parsed), parsed.version)


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


_UNUSED = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Addresses for documentation, which no machine has."""


def _is_ours(address: str, version: int) -> bool:
    """Whether this machine has the address: only then can a socket be bound to it.

    In a container whose whole network leads to the platform any address can be, and the platform judges there.
    """
    return _binds(address, version) and not _binds(_UNUSED[version], version)


def _binds(address: str, version: int) -> bool:
    with socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
