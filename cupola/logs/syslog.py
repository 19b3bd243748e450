"""Log lines and metrics as syslog messages (RFC 5424), as Cloud Foundry's syslog agent writes them.

<14>1 2026-01-02T15:04:05.000000+00:00 ORG.SPACE.APP APP-GUID [APP/PROC/WEB/0] - [tags@47450 ...] the line
"""

import re
import time
from collections.abc import Iterable, Mapping

from cupola.logs.envelope import Envelope

__all__ = ["framed", "messages"]

_OUT, _ERR = 14, 11
"""Facility user; severity info, or error for what was written to stderr."""
_ENTERPRISE = "47450"
_NOT_A_LABEL = re.compile(r"[^-A-Za-z0-9]+")
_NOT_A_NAME = re.compile(r'[^!-~]|[=\]"]')
_LABEL = 63
_APP_NAME = 48
_PROCESS_ID = 128
_NAME = 32
"""Most characters of the parts of a message (RFC 5424, section 6)."""
_ESCAPED = str.maketrans({'"': r"\"", "\\": r"\\", "]": r"\]"})


def messages(envelope: Envelope, *, metadata: bool = True) -> list[bytes]:
    """The messages of an envelope: one, or one for each value of a gauge. Without `metadata` no tags are in them."""
    tags = _element("tags", envelope.tags.items()) if metadata else ""
    if envelope.payload is not None:
        text = envelope.payload.replace(b"\x00", b"")
        return [_head(envelope, tags or "-") + text + b"\n"]
    return [_head(envelope, element + tags) + b"\n" for element in _metrics(envelope)]


def framed(message: bytes) -> bytes:
    """A message for a stream: its length before it (RFC 6587, octet counting)."""
    return b"%d %b" % (len(message), message)


def _head(envelope: Envelope, structured: str) -> bytes:
    severity = _ERR if envelope.stream == "ERR" else _OUT
    source = envelope.tags.get("source_type", "").upper().replace(" ", "-")
    process = f"[{source}/{envelope.instance_id}]" if envelope.instance_id else f"[{source}]"
    seconds, nanos = divmod(envelope.timestamp, 1_000_000_000)
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanos // 1000:06d}+00:00"
    parts = (at, _host(envelope.tags), envelope.source_id[:_APP_NAME], process[:_PROCESS_ID], "-", structured)
    return f"<{severity}>1 {' '.join(parts)} ".encode()


def _host(tags: Mapping[str, str]) -> str:
    labels = (_label(tags.get(f"{name}_name", "")) for name in ("organization", "space", "app"))
    return ".".join(label for label in labels if label) or "-"


def _label(name: str) -> str:
    return _NOT_A_LABEL.sub("", name.replace(" ", "-"))[:_LABEL].rstrip("-")


def _metrics(envelope: Envelope) -> list[str]:
    if envelope.gauge is not None:
        return [
            _element("gauge", [("name", name), ("value", repr(float(value))), ("unit", unit)])
            for name, (value, unit) in envelope.gauge.items()
        ]
    if envelope.counter is not None:
        name, delta, total = envelope.counter
        return [_element("counter", [("name", name), ("total", str(total)), ("delta", str(delta))])]
    if envelope.timer is not None:
        name, start, stop = envelope.timer
        return [_element("timer", [("name", name), ("start", str(start)), ("stop", str(stop))])]
    return []


def _element(name: str, values: Iterable[tuple[str, str]]) -> str:
    """Structured data, or nothing when there are no values."""
    shown = [
        f'{_NOT_A_NAME.sub("", key)[:_NAME]}="{value.translate(_ESCAPED)}"' for key, value in sorted(values) if key
    ]
    return f"[{name}@{_ENTERPRISE} {' '.join(shown)}]" if shown else ""
