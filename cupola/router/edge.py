"""What system hosts are over http and over https: a redirect, and a promise to browsers that https stays (RFC 6797)."""

from cupola.config import Settings
from cupola.router.answers import Answer
from cupola.router.heads import Request
from cupola.router.table import host_name
from cupola.tls.places import source

__all__ = ["Edge"]

_CHALLENGE = b"/.well-known/acme-challenge/"


class Edge:
    """`hsts` is a header line for answers of system hosts over https, or empty."""

    def __init__(self, settings: Settings) -> None:
        port = settings.platform.https_port
        seconds = settings.tls.hsts_seconds
        self.hsts = b"Strict-Transport-Security: max-age=%d" % seconds if seconds > 0 else b""
        self._port = "" if port == 443 else f":{port}"
        certified = {*settings.system_hosts, *settings.tls.acme_names}
        self._challenged = frozenset(certified if source(settings) == "acme" else ())

    def is_challenge(self, host: bytes, target: bytes) -> bool:
        """Whether this is the ACME server, which looks whether a name is ours."""
        return target.startswith(_CHALLENGE) and host_name(host) in self._challenged

    def to_https(self, request: Request, host: bytes, target: bytes) -> Answer:
        """For a request over http to a system host. What carries secrets is refused: they went over the wire already."""
        url = f"https://{host_name(host)}{self._port}{target.decode('latin-1')}"
        if request.method not in (b"GET", b"HEAD"):
            return Answer(403, "", f"This host speaks https only: use {url.partition('?')[0]}", close=True)
        location = url.encode("latin-1", "replace")
        return Answer(301, "", "This host speaks https only.", b"Location: " + location + b"\r\n")
