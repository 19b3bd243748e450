"""Identifiers of resources: random UUIDs in the form Cloud Foundry clients expect."""

import uuid

__all__ = ["new"]


def new() -> str:
    """A random UUID (RFC 9562 version 4), lower case with hyphens."""
    return str(uuid.uuid4())
