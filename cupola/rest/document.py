"""JSON bodies: from bytes to a document, or the refusal that every operation gives."""

from typing import Any

import msgspec

from cupola import errors

__all__ = ["decode"]


def decode(raw: bytes) -> Any:
    """The document; nothing at all counts as `{}`.

    Raises 400 for what cannot be read, 422 for a NUL character in a text: PostgreSQL keeps none, and nothing that is
    started with one would arrive whole.
    """
    if not raw.strip():
        return {}
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.message_parse() from None
    # The escape is the only way to write one; a look at the bytes spares the walk through the document.
    if b"\\u0000" in raw and _has_nul(document):
        raise errors.unprocessable("The request body must not contain the NUL character (\\u0000)")
    return document


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _has_nul(one) for key, one in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))
