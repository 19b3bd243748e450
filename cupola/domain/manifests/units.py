"""Amounts in manifests: `512M`, `1.5G`, `16K`; whole MiB for memory and disk, bytes per second for log rates."""

import re
from typing import Any

__all__ = ["UNITS", "from_bytes_rate", "from_mb", "to_bytes_rate", "to_mb"]

UNITS = "B, K, KB, M, MB, G, GB, T, or TB"
_AMOUNT = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(B|[KMGT]i?B?)\s*", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"\s*-?\d", re.ASCII)
_BYTES = {"B": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def _bytes(text: Any) -> int:
    match = _AMOUNT.fullmatch(text) if isinstance(text, str) else None
    if match is None and not _NUMBER.match(str(text)):
        raise ValueError("is not a number")
    if match is None:
        raise ValueError(f"must use a supported unit: {UNITS}")
    return int(float(match[1]) * _BYTES[match[2][0].upper()])


def to_mb(value: Any) -> int:
    """MiB. Raises ValueError with the rest of a sentence that begins with the field."""
    amount = _bytes(value) // _BYTES["M"]
    if amount < 1:
        raise ValueError("must be greater than 0MB")
    return amount


def to_bytes_rate(value: Any) -> int:
    """Bytes per second; -1 is unlimited. Raises ValueError likewise."""
    if value in (-1, "-1"):
        return -1
    if value in (0, "0"):
        return 0
    amount = _bytes(value)
    if amount < -1:
        raise ValueError("must be an integer greater than or equal to -1")
    return amount


def from_mb(amount: int) -> str:
    """`512M`."""
    return f"{amount}M"


def from_bytes_rate(amount: int) -> Any:
    """`1M` where it is even, bytes otherwise; -1 is unlimited."""
    if amount == -1:
        return -1
    for unit in ("T", "G", "M", "K"):
        if amount and amount % _BYTES[unit] == 0:
            return f"{amount // _BYTES[unit]}{unit}"
    return f"{amount}B"
