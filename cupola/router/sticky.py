"""Sticky sessions: a browser that got a session cookie from an instance comes back to it (app-runtime.md section 12)."""

__all__ = ["VCAP_ID", "cookie_to_set", "wanted_instance"]

VCAP_ID = b"__VCAP_ID__"
_MAX_COOKIES = 64 * 1024
"""Bytes of a Cookie header that are looked at."""
_COPIED = frozenset({b"expires", b"secure", b"samesite", b"partitioned"})


def wanted_instance(cookies: bytes, names: frozenset[bytes]) -> str:
    """The instance that the request's cookies name, or empty. Both the session's and our own cookie must be there."""
    found = b""
    session = False
    for pair in cookies[:_MAX_COOKIES].split(b";"):
        name, _, value = pair.strip().partition(b"=")
        if name == VCAP_ID:
            found = found or value.strip(b'"')
        elif name in names:
            session = True
    return found.decode("latin-1") if session else ""


def cookie_to_set(
    set_cookies: bytes, names: frozenset[bytes], instance: str, path: str, *, wanted: str
) -> bytes | None:
    """The header line that ties the client to `instance`, or None.

    `set_cookies` are the response's Set-Cookie values, one a line; `wanted` is what `wanted_instance` said: a client
    whose instance is gone is tied to the one that answered.
    """
    attributes: list[bytes] | None = [] if wanted and wanted != instance else None
    for cookie in set_cookies.split(b"\n") if set_cookies else ():
        first, *rest = cookie.split(b";")
        name = first.partition(b"=")[0].strip()
        if name == VCAP_ID:
            return None
        if name in names and not attributes:
            attributes = _attributes(rest)
    if attributes is None:
        return None
    fixed = f"Set-Cookie: {VCAP_ID.decode()}={instance}; Path={path}; HttpOnly".encode("latin-1", "replace")
    return b"; ".join([fixed, *attributes])


def _attributes(given: list[bytes]) -> list[bytes]:
    """What our cookie takes from the session's: it must live as long and travel as far. A Max-Age only if it deletes."""
    taken = []
    for attribute in given:
        name, _, value = attribute.strip().partition(b"=")
        key = name.lower()
        if key in _COPIED or (key == b"max-age" and value.strip().startswith((b"-", b"0"))):
            taken.append(attribute.strip())
    return taken
