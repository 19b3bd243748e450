"""The network of an instance: a namespace with nothing but a loopback, and sockets that lead out of it.

Inside, an app sees 127.0.0.1, an address of its own, and the whole of IPv4 behind `lo`: whatever TCP connection it
makes ends at the gateway, a listener that was made inside and is served outside, by the cell (egress.py). Names are
asked of the gateway's address. Nothing else leads out or in; connections into the instance are made inside by its init
and handed out (ingress.py).
"""

import contextlib
import os
import socket
from typing import Any

from cupola.runtime.local import netlink

__all__ = ["GATEWAY", "INGRESS", "begin", "finish", "internal_address"]

GATEWAY = "169.254.0.2"
"""Where egress and names are served inside every instance."""
_EGRESS_PORT = 1
"""Below 1024, so that no app can want it."""
_DNS_PORT = 53
_BACKLOG = 512
INGRESS = "ingress.sock"
"""Name of the socket in the record directory."""
_LOOPBACK = 1


def internal_address(slot: int) -> str:
    """The instance's own address; a slot is one instance's on this machine."""
    return f"10.254.{slot >> 8}.{slot & 255}"


def begin() -> dict[str, socket.socket]:
    """Set up what is the same in every instance's network namespace, which the caller just entered.

    Returns the sockets that the cell serves, by name: `egress`, `dns-udp`, `dns-tcp`. Raises OSError.
    """
    netlink.link_up(_LOOPBACK)
    netlink.add_address(_LOOPBACK, GATEWAY)
    return {
        "egress": _listener(GATEWAY, _EGRESS_PORT),
        "dns-tcp": _listener(GATEWAY, _DNS_PORT),
        "dns-udp": _datagrams(GATEWAY, _DNS_PORT),
    }


def finish(
    wanted: dict[str, Any], directory: str, served: dict[str, socket.socket]
) -> tuple[socket.socket, dict[str, socket.socket]]:
    """The rest, for the instance with this record directory.

    `wanted`: `address` (the instance's own), `forwards` (ports of 127.0.0.1 that lead to the same port of the host),
    `bound` (the same, of services that are bound) and `group` (whose processes may connect to the ingress besides this
    user's, or -1). Returns the listener of the ingress, and all that the cell serves: what `begin` gave, and
    `forward-PORT`, `bound-PORT`. Raises OSError.
    """
    netlink.add_address(_LOOPBACK, wanted["address"])
    netlink.add_local_default(_LOOPBACK, wanted["address"])
    rules = netlink.Rules("cupola")
    rules.let_through("127.0.0.0", 8)
    rules.let_through(GATEWAY, 32)
    rules.let_through(wanted["address"], 32)
    rules.send_tcp_to(GATEWAY, _EGRESS_PORT)
    rules.commit()
    forwards = {f"forward-{port}": _listener("127.0.0.1", port) for port in wanted["forwards"]}
    bound = {f"bound-{port}": _listener("127.0.0.1", port) for port in wanted["bound"]}
    return _ingress(directory, wanted["group"]), served | forwards | bound


def _listener(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(_BACKLOG)
    return made


def _datagrams(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, port))
    return made


def _ingress(directory: str, group: int) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The name of a Unix socket is short, that of a data directory may be long.
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        name = f"/proc/self/fd/{handle}/{INGRESS}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        made.bind(name)
        os.chmod(name, 0o600 if group < 0 else 0o660)
        if group >= 0:
            os.chown(name, -1, group)
    finally:
        os.close(handle)
    made.listen(_BACKLOG)
    return made
