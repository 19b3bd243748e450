"""What a security group's rules may say, in Cloud Foundry's words (reference/behaviours.md section 16).

Two looks at a rule, as upstream: `problems` judges each value and prefixes what it finds with `Rules[0]: `;
`field_problems` judges which fields a rule of its protocol has, and is asked once everything else is right.
Destinations are one address, CIDR or range, of IPv4: lists and IPv6 are operator switches upstream, and off.
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

__all__ = ["SCHEMA", "field_problems", "problems"]

_PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "all")
_KEYS = ("code", "description", "destination", "log", "ports", "protocol", "type")
_FIELDS = {
    "tcp": ("protocol", "destination", "ports"),
    "udp": ("protocol", "destination", "ports"),
    "icmp": ("protocol", "destination", "code", "type"),
    "icmpv6": ("protocol", "destination", "code", "type"),
    "all": ("protocol", "destination"),
}
_DESTINATION = "destination must be a valid CIDR, IP address, or IP address range"
_RANGE = re.compile(r"\s*([0-9]+)\s*-\s*([0-9]+)\s*", re.ASCII)
_PORT = re.compile(r"\s*[0-9]+\s*", re.ASCII)

SCHEMA = {
    "type": "object",
    "properties": {
        "protocol": {"type": "string", "enum": list(_PROTOCOLS)},
        "destination": {"type": "string"},
        "ports": {"type": "string"},
        "type": {"type": "integer", "minimum": -1, "maximum": 255},
        "code": {"type": "integer", "minimum": -1, "maximum": 255},
        "description": {"type": "string"},
        "log": {"type": "boolean"},
    },
    "required": ["protocol", "destination"],
    "additionalProperties": False,
}
"""JSON schema of one rule."""


def problems(rules: Any) -> Iterator[str]:
    """Everything wrong with the values of a list of rules; complete sentences."""
    if not isinstance(rules, list):
        yield "Rules must be an array"
        return
    for index, rule in enumerate(rules):
        for problem in _rule_problems(rule) if isinstance(rule, dict) else ("must be an object",):
            yield f"Rules[{index}]: {problem}"


def field_problems(rules: list[Mapping[str, Any]]) -> list[str]:
    """Fields that do not belong to a rule of its protocol, and nulls; the rules have no other `problems`."""
    found = []
    for number, rule in enumerate(rules, 1):
        found += [f"rules rule number {number} {problem}" for problem in _field_problems(rule)]
    return found


def _field_problems(rule: Mapping[str, Any]) -> list[str]:
    allowed = (*_FIELDS[rule["protocol"]], "log", "description")
    extra = [f"contains the invalid field '{name}'" for name in rule if name not in allowed]
    if extra:
        return extra
    found = []
    if not rule["destination"]:
        found.append("contains invalid destination")
    if "log" in rule and not isinstance(rule["log"], bool):
        found.append("contains invalid log value")
    if "description" in rule and not isinstance(rule["description"], str):
        found.append("contains invalid description")
    return found


def _rule_problems(rule: Mapping[str, Any]) -> Iterator[str]:
    unknown = [name for name in rule if name not in _KEYS]
    if unknown:
        yield "unknown field(s): [" + ", ".join(f'"{name}"' for name in unknown) + "]"
    protocol = rule.get("protocol")
    if protocol not in _PROTOCOLS:
        yield "protocol must be 'tcp', 'udp', 'icmp', 'icmpv6' or 'all'"
    yield from _destination_problems(rule.get("destination"), protocol)
    if rule.get("description") and not isinstance(rule["description"], str):
        yield "description must be a string"
    if rule.get("log") and not isinstance(rule["log"], bool):
        yield "log must be a boolean"
    yield from _protocol_problems(rule, protocol)


def _protocol_problems(rule: Mapping[str, Any], protocol: Any) -> Iterator[str]:
    ports = rule.get("ports")
    if protocol in {"tcp", "udp"}:
        if ports is None or ports is False:
            yield "ports are required for protocols of type TCP and UDP"
        if not _valid_ports(ports):
            yield (
                "ports must be a valid single port, comma separated list of ports, or range or ports, "
                "formatted as a string"
            )
    elif protocol in {"icmp", "icmpv6"}:
        if protocol == "icmpv6":
            yield "icmpv6 cannot be used if enable_ipv6 is false"
        for name in ("code", "type"):
            value = rule.get(name)
            if value is None or value is False:
                yield f"{name} is required for protocols of type ICMP"
            if not _is_control(value):
                yield f"{name} must be an integer between -1 and 255 (inclusive)"
    elif protocol == "all" and ports is not None and ports is not False:
        yield "ports are not allowed for protocols of type all"


def _is_control(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -1 <= value <= 255


def _valid_ports(ports: Any) -> bool:
    if not isinstance(ports, str):
        return False
    both = _RANGE.fullmatch(ports)
    if both:
        first, last = (_port(text) for text in both.groups())
        return 0 < first < last < 65536
    listed = ports.split(",")
    while listed and listed[-1] == "":
        listed.pop()
    return bool(listed) and all(_PORT.fullmatch(one) and 0 < _port(one) < 65536 for one in listed)


def _port(text: str) -> int:
    # A number too long to be a port is not worth counting.
    text = text.strip()
    return int(text) if len(text) <= 10 else 65536


def _destination_problems(destination: Any, protocol: Any) -> Iterator[str]:
    if destination is None:
        yield _DESTINATION
    elif not isinstance(destination, str):
        yield "destination must be a string"
    elif re.search(r"\s", destination):
        yield "destination must not contain whitespace"
    elif "," in destination:
        yield _DESTINATION
    elif destination:
        yield from _address_problems(destination)


def _address_problems(destination: str) -> Iterator[str]:
    ends = destination.split("-")
    plain = not any(_has_leading_zeros(end) for end in ends)
    if not plain:
        yield "destination octets cannot contain leading zeros"
    if len(ends) == 1:
        if plain and _network(destination) is None:
            yield _DESTINATION
        return
    if len(ends) > 2 or not all(ends):
        yield _DESTINATION
        return
    first, last = (_address(end) for end in ends)
    if first is None or last is None:
        yield "destination IP address range is invalid"
    elif first > last:
        yield (
            "beginning of IP address range is numerically greater than the end of its range "
            "(range endpoints are inverted)"
        )


def _has_leading_zeros(address: str) -> bool:
    if "." not in address:
        return False
    octets = (octet.partition("/")[0] for octet in address.split("."))
    return any(octet.startswith("0") and len(octet) > 1 for octet in octets)


def _network(text: str) -> IPv4Network | None:
    try:
        return IPv4Network(text, strict=False) if "." in text.partition("/")[0] else None
    except ValueError:
        return None


def _address(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None
