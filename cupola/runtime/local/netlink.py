"""Addresses, routes and packet rules of the network namespace that the caller is in, over netlink (RFC 3549).

Written as messages rather than by `ip` and `nft`, which a machine may lack and which cost ten times as much. Raises
OSError with what was refused.
"""

import os
import socket
import struct

__all__ = ["Rules", "add_address", "add_local_default", "link_up"]

_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12
_REQUEST, _ACK, _CREATE, _EXCLUDE, _APPEND = 1, 4, 0x400, 0x200, 0x800
_ERROR = 2

_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 20, 24
_IFF_UP = 1
_TABLE_LOCAL, _PROTOCOL_BOOT, _SCOPE_HOST, _ROUTE_LOCAL = 255, 3, 254, 2


def _attribute(kind: int, data: bytes) -> bytes:
    length = 4 + len(data)
    return struct.pack("=HH", length, kind) + data + b"\0" * (-length % 4)


def _nest(kind: int, *parts: bytes) -> bytes:
    return _attribute(kind | 0x8000, b"".join(parts))


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def _exchange(protocol: int, data: bytes, last: int, what: str) -> None:
    """Send messages and read acknowledgements until the one of number `last`."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as channel:
        channel.bind((0, 0))
        channel.settimeout(5)
        channel.send(data)
        while True:
            answer = channel.recv(65536)
            while len(answer) >= 16:
                length, kind, _flags, sequence, _port = struct.unpack_from("=IHHII", answer)
                if kind == _ERROR:
                    (number,) = struct.unpack_from("=i", answer, 16)
                    if number:
                        raise OSError(-number, f"{what}: {os.strerror(-number)}")
                    if sequence == last:
                        return
                answer = answer[(length + 3) & ~3 :]


def _route(kind: int, flags: int, body: bytes, what: str) -> None:
    _exchange(_NETLINK_ROUTE, _message(kind, _REQUEST | _ACK | flags, 1, body), 1, what)


def link_up(index: int) -> None:
    """Set an interface up."""
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP)
    _route(_RTM_NEWLINK, 0, body, "set the link up")


def add_address(index: int, address: str) -> None:
    """Give an interface one more IPv4 address (/32)."""
    packed = socket.inet_aton(address)
    body = struct.pack("=BBBBi", socket.AF_INET, 32, 0, _SCOPE_HOST, index)
    body += _attribute(2, packed) + _attribute(1, packed)  # IFA_LOCAL, IFA_ADDRESS
    _route(_RTM_NEWADDR, _CREATE | _EXCLUDE, body, f"add the address {address}")


def add_local_default(index: int, source: str) -> None:
    """Take every IPv4 destination for this machine itself, by way of `index`; connections come from `source`."""
    body = struct.pack(
        "=BBBBBBBBI", socket.AF_INET, 0, 0, 0, _TABLE_LOCAL, _PROTOCOL_BOOT, _SCOPE_HOST, _ROUTE_LOCAL, 0
    )
    body += _attribute(4, struct.pack("=i", index)) + _attribute(7, socket.inet_aton(source))  # RTA_OIF, RTA_PREFSRC
    _route(_RTM_NEWROUTE, _CREATE | _EXCLUDE, body, "add the local default route")


_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = 0xA00, 0xA03, 0xA06
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_IPV4 = 2
_HOOK_OUTPUT, _PRIORITY_DSTNAT = 3, -100
_REGISTER_VERDICT, _REGISTER_1, _REGISTER_2 = 0, 1, 2
_RETURN = -5


class Rules:
    """One nftables transaction: a table with a chain on locally made connections. `commit` applies all or nothing."""

    def __init__(self, table: str) -> None:
        self._table = table.encode() + b"\0"
        self._sequence = 1
        self._data = b""
        self._add(_NEW_TABLE, _CREATE, _attribute(1, self._table))
        hook = _nest(4, _attribute(1, _be(_HOOK_OUTPUT)), _attribute(2, struct.pack(">i", _PRIORITY_DSTNAT)))
        chain = _attribute(1, self._table) + _attribute(3, b"output\0") + hook + _attribute(7, b"nat\0")
        self._add(_NEW_CHAIN, _CREATE, chain)

    def let_through(self, network: str, prefix: int) -> None:
        """What goes to `network`/`prefix` stays as it is."""
        mask = (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF
        packed = struct.pack(">I", struct.unpack(">I", socket.inet_aton(network))[0] & mask)
        verdict = _nest(2, _attribute(1, struct.pack(">i", _RETURN)))
        self._rule(
            _payload_destination(),
            _expression(
                b"bitwise",
                _attribute(1, _be(_REGISTER_1)),
                _attribute(2, _be(_REGISTER_1)),
                _attribute(3, _be(4)),
                _nest(4, _attribute(1, struct.pack(">I", mask))),
                _nest(5, _attribute(1, _be(0))),
            ),
            _equal(packed),
            _expression(b"immediate", _attribute(1, _be(_REGISTER_VERDICT)), _nest(2, verdict)),
        )

    def send_tcp_to(self, address: str, port: int) -> None:
        """Every other TCP connection goes to `address`:`port`; there SO_ORIGINAL_DST tells where it was meant to go."""
        meta = _expression(b"meta", _attribute(2, _be(16)), _attribute(1, _be(_REGISTER_1)))  # l4proto
        self._rule(
            meta,
            _equal(bytes([socket.IPPROTO_TCP])),
            _immediate(_REGISTER_1, socket.inet_aton(address)),
            _immediate(_REGISTER_2, struct.pack(">H", port)),
            _expression(
                b"nat",
                _attribute(1, _be(1)),  # to another destination
                _attribute(2, _be(_IPV4)),
                _attribute(3, _be(_REGISTER_1)),
                _attribute(5, _be(_REGISTER_2)),
            ),
        )

    def commit(self) -> None:
        """Apply the transaction."""
        subsystem = struct.pack(">BBH", 0, 0, 10)
        begin = _message(_BATCH_BEGIN, _REQUEST, 0, subsystem)
        end = _message(_BATCH_END, _REQUEST, self._sequence, subsystem)
        _exchange(_NETLINK_NETFILTER, begin + self._data + end, self._sequence - 1, "add the packet rules")

    def _rule(self, *expressions: bytes) -> None:
        body = _attribute(1, self._table) + _attribute(2, b"output\0") + _nest(4, *expressions)
        self._add(_NEW_RULE, _CREATE | _APPEND, body)

    def _add(self, kind: int, flags: int, body: bytes) -> None:
        header = struct.pack(">BBH", _IPV4, 0, 0)
        self._data += _message(kind, _REQUEST | _ACK | flags, self._sequence, header + body)
        self._sequence += 1


def _be(value: int) -> bytes:
    return struct.pack(">I", value)


def _expression(name: bytes, *parts: bytes) -> bytes:
    return _nest(1, _attribute(1, name + b"\0"), _nest(2, *parts))


def _payload_destination() -> bytes:
    # From the network header (1), 16 bytes in, 4 bytes long.
    return _expression(
        b"payload",
        _attribute(1, _be(_REGISTER_1)),
        _attribute(2, _be(1)),
        _attribute(3, _be(16)),
        _attribute(4, _be(4)),
    )


def _equal(data: bytes) -> bytes:
    return _expression(b"cmp", _attribute(1, _be(_REGISTER_1)), _attribute(2, _be(0)), _nest(3, _attribute(1, data)))


def _immediate(register: int, data: bytes) -> bytes:
    return _expression(b"immediate", _attribute(1, _be(register)), _nest(2, _attribute(1, data)))
