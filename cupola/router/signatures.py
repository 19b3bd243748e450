"""Signatures of requests that go through a route service, as Cloud Foundry's router makes them.

X-CF-Proxy-Signature   base64 of AES-256-GCM over {"forwarded_url": URL, "requested_time": RFC 3339}
X-CF-Proxy-Metadata    base64 of {"nonce": base64}

Invalid   the headers were not made by this platform, or were altered
Expired   they were, but too long ago
"""

import base64
import binascii
import contextlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

__all__ = ["LIFE_SECONDS", "Expired", "Invalid", "forwarded_url", "sign"]

LIFE_SECONDS = 60.0
"""For which a route service may keep a request before it passes it on."""
_NONCE_BYTES = 12


class Invalid(Exception):
    """Not a signature of ours; the text says why."""


class Expired(Exception):
    """A signature of ours that is too old."""


class _Contents(msgspec.Struct):
    forwarded_url: str
    requested_time: datetime


class _Metadata(msgspec.Struct):
    nonce: bytes


_contents = msgspec.json.Decoder(_Contents)
_metadata = msgspec.json.Decoder(_Metadata)
_encode = msgspec.json.encode


def sign(key: bytes, url: str, seconds: float) -> tuple[bytes, bytes]:
    """Signature and metadata for a request to `url` at `seconds` since 1970."""
    nonce = os.urandom(_NONCE_BYTES)
    contents = _Contents(url, datetime.fromtimestamp(seconds, UTC))
    signature = _cipher(key).encrypt(nonce, _encode(contents), None)
    return base64.urlsafe_b64encode(signature), base64.urlsafe_b64encode(_encode(_Metadata(nonce)))


def forwarded_url(keys: Sequence[bytes], signature: bytes, metadata: bytes, seconds: float) -> str:
    """The address that was signed, by one of `keys`. `seconds` since 1970 is now. Raises Invalid, Expired."""
    try:
        nonce = _metadata.decode(base64.urlsafe_b64decode(metadata)).nonce
        sealed = base64.urlsafe_b64decode(signature)
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, ValueError):
        raise Invalid("the headers are not as the router made them") from None
    contents = _opened(keys, nonce, sealed)
    if seconds - contents.requested_time.timestamp() > LIFE_SECONDS:
        raise Expired(f"it is older than {LIFE_SECONDS:g} seconds")
    return contents.forwarded_url


@lru_cache(maxsize=16)
def _cipher(key: bytes) -> Any:
    # Most routers never see a route service, and this library takes megabytes.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _opened(keys: Sequence[bytes], nonce: bytes, sealed: bytes) -> _Contents:
    from cryptography.exceptions import InvalidTag  # see _cipher

    for key in keys:
        with contextlib.suppress(InvalidTag, ValueError):
            return _contents.decode(_cipher(key).decrypt(nonce, sealed, None))
    raise Invalid("it was not made by this router")
