"""Heads of requests and responses: httptools (llhttp, strict) judges them; what it would still let through is refused here.

    Malformed       the head is not one that every reader would understand in the same way; carries status and reason

The parser sees heads only, and calls nobody: a head that it does not refuse has no bare CR or LF, no folded lines, no
space before a colon, at most one Content-Length and not both it and Transfer-Encoding, so that its lines may then be
taken apart simply. A line that it has passed once is remembered, and a response of nothing but such lines is not shown
to it again. Where a body ends is decided in framing.py from the one header that says so: a second message in the same bytes
is never touched before the first one is answered.
"""

import httptools

__all__ = ["CHUNKED", "NO_BODY", "UNTIL_CLOSE", "Malformed", "Reader", "Request", "Response"]

NO_BODY = 0
CHUNKED = -1
"""Instead of a length in bytes: the body comes in chunks."""
UNTIL_CLOSE = -2
"""Instead of a length in bytes: the body ends with the connection (responses only)."""

_END = b"\r\n\r\n"
_CARRIAGE_RETURN = 13
_MINOR = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_NO_CONTENT = frozenset({204, 304})

_REQUEST_NAMES = frozenset(
    b"host connection keep-alive proxy-connection te transfer-encoding upgrade content-length expect proxy-authorization "
    b"http2-settings cookie user-agent referer x-forwarded-for x-forwarded-proto x-request-start x-vcap-request-id "
    b"x-cf-applicationid x-cf-instanceid x-cf-instanceindex x-cf-app-instance x-cf-process-instance x-cf-proxy-signature "
    b"x-cf-proxy-metadata x-cf-forwarded-url idempotency-key x-idempotency-key x-b3-traceid x-b3-spanid "
    b"x-b3-parentspanid b3 traceparent tracestate".split()
)
_REQUEST_KEPT = frozenset(
    b"cookie user-agent referer x-request-start idempotency-key x-idempotency-key x-b3-parentspanid".split()
)
"""Headers that the router reads and passes on as they are."""
_RESPONSE_NAMES = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate te transfer-encoding upgrade content-length set-cookie "
    b"x-vcap-request-id x-cf-routererror".split()
)
_RESPONSE_KEPT = frozenset({b"set-cookie"})
_JOINED = {b"cookie": b"; ", b"x-forwarded-for": b", ", b"connection": b",", b"te": b",", b"set-cookie": b"\n"}
"""What stands between the values of a header that came more than once; of others the first counts."""
_ONCE = frozenset({b"host", b"content-length", b"transfer-encoding"})
_OF_THE_CONNECTION = frozenset({b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings"})

_REPEATED = frozenset(
    b"host connection user-agent te expect upgrade x-forwarded-proto accept accept-encoding accept-language "
    b"cache-control pragma dnt upgrade-insecure-requests priority sec-fetch-dest sec-fetch-mode sec-fetch-site "
    b"sec-fetch-user sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-gpc content-type content-length "
    b"transfer-encoding server date vary accept-ranges keep-alive x-powered-by x-content-type-options x-frame-options "
    b"strict-transport-security referrer-policy x-xss-protection content-encoding expires last-modified etag".split()
)
"""Headers whose lines come again and again and hold no secrets: such a line is taken apart once."""
_SEEN = 8192
_SEEN_BYTES = 256
"""Lines that are remembered, and the longest of them."""

Line = tuple[bytes, bytes, bool]
"""Key of a header that the router reads, value, whether the line is passed on."""
_ORDINARY: Line = (b"", b"", True)
"""Any other header."""
_MANY_BYTES = 8192
_MAX_HEADERS = 1000
"""Headers of a message; only heads of more than `_MANY_BYTES` are counted."""
_MAX_CONNECTION = 4096
"""Bytes of a Connection header."""
_SHORT_LIST = 256
"""Values of Connection, and status lines, that are remembered."""
_connections: dict[bytes, tuple[frozenset[bytes], frozenset[bytes]]] = {}
_status_lines: dict[bytes, tuple[bytes, int, bool]] = {}


class Malformed(Exception):
    """A head, or the framing of a body, that is refused: answered with `status`, then the connection is closed."""

    def __init__(self, status: int, reason: str, router_error: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.router_error = router_error


class Reader:
    """Heads of one connection, one at a time, however the bytes come. `rest` is what came after the head.

    `make` is the class of httptools' parser, which is renewed after each message with a body: that is not for the
    parser. At `max_bytes` a head is too large. Malformed carries `status`, or 431 for a request that is too large.
    """

    __slots__ = ("_judged", "_make", "_max", "_parser", "_partial", "_status", "begun", "rest")

    def __init__(
        self, make: type[httptools.HttpRequestParser | httptools.HttpResponseParser], max_bytes: int, status: int
    ) -> None:
        self.begun = False
        """Whether some, but not all, of a head has come."""
        self.rest = b""
        self._make = make
        self._max = max_bytes
        self._status = status
        self._parser = make(None)
        self._partial = bytearray()
        self._judged = False

    def read(self, data: bytes) -> bytes | None:
        """The whole head once its last bytes are there, to be judged. Raises Malformed for pieces that cannot become one."""
        end = data.find(_END) + 4
        if end < 4 or self.begun or self._partial or data[0] == _CARRIAGE_RETURN or end >= self._max:
            return self._go_on(data)
        if end == len(data):
            self.rest = b""
        else:
            self.rest = data[end:]
            data = data[:end]
        self._judged = False
        return data

    def judge(self, head: bytes) -> None:
        """Show a head that `read` gave to the parser, unless it has seen it. Raises Malformed."""
        if self._judged:
            return
        self._judged = True
        if len(head) > _MANY_BYTES and head.count(b"\n") > _MAX_HEADERS:
            raise self._too_large()
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self.renew()
        except httptools.HttpParserError as error:
            raise Malformed(self._status, str(error)) from None

    def renew(self) -> None:
        """Forget the message whose head was judged, so that the parser does not wait for its body."""
        if self._judged:
            self._parser = self._make(None)

    def _go_on(self, data: bytes) -> bytes | None:
        """The slow way, for a head that comes in pieces.

        What came so far is judged at once: nonsense that never ends must not wait for its timeout.
        """
        partial = self._partial
        start = len(partial) if self.begun else 0
        partial += data
        if not self.begun:
            while partial.startswith(b"\r\n"):
                del partial[:2]
            self.begun = bytes(partial[:2]) not in (b"", b"\r")
        end = partial.find(_END, max(start - 3, 0)) + 4 if self.begun else 0
        if end < 4:
            end = len(partial)
            self._piece(start, end)
            return None
        self._piece(start, end)
        head, self.rest = bytes(partial[:end]), bytes(partial[end:])
        self._partial = bytearray()
        self.begun = False
        return head

    def _piece(self, start: int, end: int) -> None:
        if end >= self._max:
            raise self._too_large()
        if self.begun:
            self._judged = False
            self.judge(bytes(self._partial[start:end]))

    def _too_large(self) -> Malformed:
        if self._status == 502:
            return Malformed(502, "the response head is too large")
        return Malformed(431, "", "max-request-size-exceeded")


class Request:
    """The head of a request that the parser has passed. `special` holds the headers that the router reads, by lower-case name; `lines` the headers
    that go on as they are, in order; `length` is bytes or CHUNKED. `quoted`: there is a quote in it."""

    __slots__ = ("keep_alive", "length", "lines", "method", "minor", "quoted", "special", "target", "upgrade")

    def __init__(self, head: bytes) -> None:
        lines = head[:-4].split(b"\r\n")
        words = lines[0].split(b" ")
        # The parser lets several spaces, a line feed before the line and fragments pass.
        if len(words) != 3 or words[1].find(b"#") >= 0 or head < b"A":
            raise Malformed(400, "malformed request line")
        self.method, self.target, version = words
        self.quoted = head.find(b'"') >= 0
        minor = self.minor = _MINOR.get(version, -1)
        if minor < 0:
            raise Malformed(400, "")
        self.lines, self.special, new = _sort(lines, _request_lines)
        if new:
            _request_lines.remember(new)
        self.keep_alive = minor == 1
        self.upgrade = b""
        self.length = NO_BODY
        special = self.special
        if b"connection" in special:
            self._read_connection(special[b"connection"])
        if b"content-length" in special:
            self.length = int(special[b"content-length"])
        elif b"transfer-encoding" in special:
            self.length = self._chunked(special[b"transfer-encoding"])
        if self.upgrade and self.length:
            # The new protocol would begin behind the body: refused in the way that the protocol offers, by ignoring it.
            self.upgrade = b""

    def value_of(self, name: str) -> bytes | None:
        """The first value of any header that goes on, None without one."""
        wanted = name.lower().encode("latin-1", "replace")
        if wanted in self.special:
            return self.special[wanted]
        for line in self.lines:
            given, _, value = line.partition(b":")
            if given.lower() == wanted:
                return value.strip()
        return None

    def _read_connection(self, value: bytes) -> None:
        tokens, named = _connections.get(value) or _connection(value)
        self.keep_alive = b"close" not in tokens if self.minor else b"keep-alive" in tokens
        if b"upgrade" in tokens and self.minor:
            protocol = self.special.get(b"upgrade", b"")
            # An upgrade to cleartext HTTP/2 would hide every further request of the connection from the router.
            if protocol.lower().find(b"h2c") < 0:
                self.upgrade = protocol
        if named:
            self.lines = _without(self.lines, named)

    def _chunked(self, value: bytes) -> int:
        if self.minor == 0:
            raise Malformed(400, "Transfer-Encoding in an HTTP/1.0 request")
        if value.lower() != b"chunked":
            raise Malformed(501, "unsupported transfer coding")
        return CHUNKED


class Response:
    """The head of a response, which `reader` has read; see Request. `line` is the status line as it is sent on, without its line end."""

    __slots__ = ("keep_alive", "length", "line", "lines", "special", "status")

    def __init__(self, head: bytes, method: bytes, reader: Reader) -> None:
        lines = head[:-4].split(b"\r\n")
        first = lines[0]
        known = _status_lines.get(first)
        self.lines, special, new = _sort(lines, _response_lines)
        if new is not None or known is None:
            reader.judge(head)
            _response_lines.remember(new or [])
        elif b"content-length" in special and b"transfer-encoding" in special:
            raise Malformed(502, "both Content-Length and Transfer-Encoding")
        self.line, status, self.keep_alive = known or _status_line(first)
        self.status = status
        self.special = special
        if b"connection" in special:
            value = special[b"connection"]
            tokens, named = _connections.get(value) or _connection(value)
            self.keep_alive = b"close" not in tokens if self.keep_alive else b"keep-alive" in tokens
            if named:
                self.lines = _without(self.lines, named)
        if b"transfer-encoding" in special and special[b"transfer-encoding"].lower() != b"chunked":
            raise Malformed(502, "unsupported transfer coding")
        if method == b"HEAD" or status in _NO_CONTENT or status < 200:
            self.length = NO_BODY
        elif b"content-length" in special:
            self.length = int(special[b"content-length"])
        elif b"transfer-encoding" in special:
            self.length = CHUNKED
        else:
            self.length = UNTIL_CLOSE


class _Lines:
    """What header lines of one direction mean: `names` are read by the router, of these `kept` are passed on as well.

    `seen` are lines that the parser has passed.
    """

    def __init__(self, names: frozenset[bytes], kept: frozenset[bytes]) -> None:
        self.seen: dict[bytes, Line] = {}
        self._kinds = {name: (name, name in kept, name in _REPEATED) for name in names}
        self._kinds |= dict.fromkeys(_REPEATED - names, (b"", True, True))
        # As most clients and servers write them: `Content-Type`.
        self._kinds |= {name.title(): kind for name, kind in self._kinds.items()}

    def read(self, line: bytes) -> tuple[Line, bool]:
        """Take a line apart; with it whether the line is worth remembering."""
        name, _, value = line.partition(b":")
        kind = self._kinds.get(name) or self._kinds.get(name.lower())
        if kind is None:
            return _ORDINARY, False
        key, kept, repeated = kind
        return (key, value.strip(), kept) if key else _ORDINARY, repeated and len(line) <= _SEEN_BYTES

    def remember(self, lines: list[tuple[bytes, Line]]) -> None:
        """Keep lines of a head that the parser has passed."""
        if len(self.seen) >= _SEEN:
            self.seen.clear()
        self.seen.update(lines)


_request_lines = _Lines(_REQUEST_NAMES, _REQUEST_KEPT)
_response_lines = _Lines(_RESPONSE_NAMES, _RESPONSE_KEPT)


def _sort(lines: list[bytes], known: _Lines) -> tuple[list[bytes], dict[bytes, bytes], list[tuple[bytes, Line]] | None]:
    """Tell the headers that the router reads from those that it only passes on; the first line is no header.

    The third value is None when all lines are known, else those that may be remembered. Raises Malformed for a
    repeated header that may come once.
    """
    passed: list[bytes] = []
    special: dict[bytes, bytes] = {}
    new: list[tuple[bytes, Line]] | None = None
    seen = known.seen.get
    del lines[0]
    for line in lines:
        found = seen(line)
        if found is None:
            found, repeated = known.read(line)
            new = new or []
            if repeated:
                new.append((line, found))
        if found is _ORDINARY:
            passed.append(line)
            continue
        key, value, kept = found
        if key not in special:
            special[key] = value
        elif key in _ONCE:
            raise Malformed(400, f"repeated {key.decode().title()} header")
        elif key in _JOINED:
            special[key] += _JOINED[key] + value
        if kept:
            passed.append(line)
    return passed, special, new


def _connection(value: bytes) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """The tokens of a Connection header, and those of them that name headers which end here (RFC 9110, 7.6.1)."""
    if len(value) > _MAX_CONNECTION:
        raise Malformed(400, "the Connection header is too long")
    tokens = frozenset(token.strip().lower() for token in value.split(b",")) - {b""}
    found = tokens, tokens - _OF_THE_CONNECTION
    if len(_connections) < _SHORT_LIST and len(value) < _SEEN_BYTES:
        _connections[value] = found
    return found


def _status_line(line: bytes) -> tuple[bytes, int, bool]:
    """A status line as it is sent on, its status, and whether its version keeps connections. Raises Malformed."""
    if line[:9] not in (b"HTTP/1.1 ", b"HTTP/1.0 "):
        raise Malformed(502, "malformed status line")
    # The space before an absent reason is not optional.
    found = b"HTTP/1.1 %b %b" % (line[9:12], line[13:]), int(line[9:12]), line[7:8] == b"1"
    if len(_status_lines) < _SHORT_LIST and len(line) < _SEEN_BYTES:
        _status_lines[line] = found
    return found


def _without(lines: list[bytes], named: frozenset[bytes]) -> list[bytes]:
    return [line for line in lines if line[: line.index(b":")].lower() not in named]
