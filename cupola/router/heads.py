"""Heads of requests and responses: httptools (llhttp, strict) reads them; what it would still let through is refused here.

    Malformed       the head is not one that every reader would understand in the same way; carries status and reason

Only heads go through the parser. Where a body ends is decided in framing.py from the one header that says so, so that a
second message in the same bytes is never touched before the first one is answered.
"""

import httptools

__all__ = ["CHUNKED", "NO_BODY", "UNTIL_CLOSE", "Malformed", "Request", "RequestReader", "Response", "ResponseReader"]

NO_BODY = 0
CHUNKED = -1
"""Instead of a length in bytes: the body comes in chunks."""
UNTIL_CLOSE = -2
"""Instead of a length in bytes: the body ends with the connection (responses only)."""

END = b"\r\n\r\n"
_MINOR = {b" HTTP/1.1": 1, b" HTTP/1.0": 0}
_NO_CONTENT = frozenset({204, 304})
_LONG_NAMES = 4096
"""Spellings of header names that are remembered."""

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

Header = tuple[bytes, bytes]
_Parser = httptools.HttpRequestParser | httptools.HttpResponseParser


class Malformed(Exception):
    """A head, or the framing of a body, that is refused: answered with `status`, then the connection is closed."""

    def __init__(self, status: int, reason: str, router_error: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.router_error = router_error


class Request:
    """The head of a request. `special` holds the headers that the router reads, by lower-case name; `lines` the headers
    that go on as they are, in order; `length` is bytes or CHUNKED."""

    __slots__ = ("connection", "keep_alive", "length", "lines", "method", "minor", "special", "target", "upgrade")

    def __init__(self, method: bytes, target: bytes, minor: int, headers: list[Header]) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.lines, self.special = _sort(headers, _request_keys, _REQUEST_NAMES, _REQUEST_KEPT)
        special = self.special
        self.connection: frozenset[bytes] | None = None
        self.keep_alive = minor == 1
        self.upgrade = b""
        if b"connection" in special:
            self._read_connection(special[b"connection"])
        self.length = NO_BODY
        if b"content-length" in special:
            self.length = int(special[b"content-length"])
        elif b"transfer-encoding" in special:
            self.length = self._chunked(special[b"transfer-encoding"])

    def value_of(self, name: str) -> bytes | None:
        """The first value of any header that goes on, None without one."""
        wanted = name.lower().encode("latin-1", "replace")
        if wanted in self.special:
            return self.special[wanted]
        for line in self.lines:
            given, _, value = line.partition(b": ")
            if given.lower() == wanted:
                return value
        return None

    def _read_connection(self, value: bytes) -> None:
        tokens = self.connection = _tokens(value)
        self.keep_alive = b"close" not in tokens if self.minor else b"keep-alive" in tokens
        protocol = self.special.get(b"upgrade", b"").strip()
        # An upgrade to cleartext HTTP/2 would hide every further request of the connection from the router.
        if b"upgrade" in tokens and protocol and b"h2c" not in protocol.lower() and self.minor:
            self.upgrade = protocol
        self.lines = _without_named(self.lines, tokens)

    def _chunked(self, value: bytes) -> int:
        if self.minor == 0:
            raise Malformed(400, "Transfer-Encoding in an HTTP/1.0 request")
        if value.strip().lower() != b"chunked":
            raise Malformed(501, "Unsupported transfer coding")
        return CHUNKED


class Response:
    """The head of a response; see Request. `line` is the status line as it is sent on, without its line end."""

    __slots__ = ("keep_alive", "length", "line", "lines", "special", "status")

    def __init__(self, status: int, line: bytes, headers: list[Header], method: bytes) -> None:
        self.status = status
        self.keep_alive = line.startswith(b"HTTP/1.1")
        self.line = line if self.keep_alive else b"HTTP/1.1" + line[8:]
        self.lines, special = _sort(headers, _response_keys, _RESPONSE_NAMES, _RESPONSE_KEPT)
        self.special = special
        if b"connection" in special:
            tokens = _tokens(special[b"connection"])
            self.keep_alive = b"close" not in tokens if self.keep_alive else b"keep-alive" in tokens
            self.lines = _without_named(self.lines, tokens)
        if b"transfer-encoding" in special and special[b"transfer-encoding"].strip().lower() != b"chunked":
            raise Malformed(502, "unsupported transfer coding")
        if status in _NO_CONTENT or status < 200 or method == b"HEAD":
            self.length = NO_BODY
        elif b"content-length" in special:
            self.length = int(special[b"content-length"])
        elif b"transfer-encoding" in special:
            self.length = CHUNKED
        else:
            self.length = UNTIL_CLOSE


class _Reader:
    """One head at a time, however the bytes come. `rest` is what came after the head."""

    __slots__ = ("_complete", "_headers", "_max", "_parser", "_partial", "_started", "_url", "rest")

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._complete = False
        self._headers: list[Header] = []
        self._partial = bytearray()
        self._started = False
        self._url = b""
        self.rest = b""

    @property
    def begun(self) -> bool:
        """Whether some, but not all, of a head has come."""
        return self._started

    def on_url(self, url: bytes) -> None:
        """For the parser, which may call it in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """For the parser."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """For the parser."""
        self._complete = True

    def _feed(self, parser: _Parser, data: bytes, status: int) -> bytes | None:
        """The whole head once its last bytes are there. Raises Malformed as soon as it cannot become one."""
        if self._started:
            return self._piece(parser, data, status)
        if self._partial:
            data = bytes(self._partial) + data
            self._partial.clear()
        while data.startswith(b"\r\n"):
            data = data[2:]
        if data in (b"", b"\r"):
            self._partial += data
            return None
        self._started = True
        self._headers = []
        self._complete = False
        self._url = b""
        end = data.find(END)
        if end < 0:
            return self._piece(parser, data, status)
        size = end + 4
        if size == len(data):
            head = data
            self.rest = b""
        else:
            head = data[:size]
            self.rest = data[size:]
        _parse(parser, head, status)
        return self._finish(head, status)

    def _piece(self, parser: _Parser, data: bytes, status: int) -> bytes | None:
        # What came so far is parsed at once: nonsense that never ends must not wait for its timeout.
        partial = self._partial
        start = len(partial)
        partial += data
        end = partial.find(END, max(start - 3, 0))
        if end < 0:
            _parse(parser, data, status)
            if len(partial) >= self._max:
                raise _too_large(status)
            return None
        size = end + 4
        head = bytes(partial[:size])
        self.rest = bytes(partial[size:])
        self._partial = bytearray()
        _parse(parser, head[start:], status)
        return self._finish(head, status)

    def _finish(self, head: bytes, status: int) -> bytes:
        if not self._complete:
            raise Malformed(status, "malformed header")
        if len(head) >= self._max:
            raise _too_large(status)
        self._started = False
        return head


class RequestReader(_Reader):
    """The requests of one connection, one after the other."""

    __slots__ = ()

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._parser = httptools.HttpRequestParser(self)

    def close(self) -> None:
        """Let go of the parser, which refers back to its reader."""
        del self._parser

    def read(self, data: bytes) -> Request | None:
        """The head that these bytes complete, or None. Raises Malformed."""
        parser = self._parser
        head = self._feed(parser, data, 400)
        if head is None:
            return None
        line = head[: head.find(b"\r\n")]
        version = line[-9:]
        if version not in _MINOR:
            raise Malformed(400, "")
        method = parser.get_method()
        target = self._url
        # The parser lets several spaces, a line feed before the line and fragments pass.
        if len(method) + len(target) + 10 != len(line) or not line.startswith(method) or b"#" in target:
            raise Malformed(400, "malformed request line")
        request = Request(method, target, _MINOR[version], self._headers)
        if request.length or (request.connection and b"upgrade" in request.connection):
            # The parser would now wait for a body that it never sees.
            self._parser = httptools.HttpRequestParser(self)
        return request


class ResponseReader(_Reader):
    """The responses of one connection to an instance."""

    __slots__ = ()

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._parser = httptools.HttpResponseParser(self)

    def close(self) -> None:
        """Let go of the parser, which refers back to its reader."""
        del self._parser

    def read(self, data: bytes, method: bytes) -> Response | None:
        """The head that these bytes complete, or None; `method` is that of the request. Raises Malformed."""
        parser = self._parser
        head = self._feed(parser, data, 502)
        if head is None:
            return None
        line = head[: head.find(b"\r\n")]
        if not line.startswith(b"HTTP/1."):
            raise Malformed(502, "malformed status line")
        if len(line) == len(b"HTTP/1.1 200"):
            line += b" "
        response = Response(parser.get_status_code(), line, self._headers, method)
        self._parser = httptools.HttpResponseParser(self)
        return response


def _parse(parser: _Parser, data: bytes, status: int) -> None:
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise Malformed(status, str(error)) from None


def _too_large(status: int) -> Malformed:
    if status == 400:
        return Malformed(431, "", "max-request-size-exceeded")
    return Malformed(502, "the response head is too large")


_request_keys: dict[bytes, bytes] = {}
_response_keys: dict[bytes, bytes] = {}


def _sort(
    headers: list[Header], keys: dict[bytes, bytes], names: frozenset[bytes], kept: frozenset[bytes]
) -> tuple[list[bytes], dict[bytes, bytes]]:
    """Tell the headers that the router reads from those that it only passes on. Raises Malformed for a repeated one
    that may come once."""
    lines: list[bytes] = []
    special: dict[bytes, bytes] = {}
    for header in headers:
        name = header[0]
        key = keys.get(name)
        if key is None:
            key = _learn(name, keys, names)
        if not key:
            lines.append(b": ".join(header))
            continue
        if key not in special:
            special[key] = header[1]
        elif key in _ONCE:
            raise Malformed(400, f"Repeated {key.decode().title()} header")
        elif key in _JOINED:
            special[key] += _JOINED[key] + header[1]
        if key in kept:
            lines.append(b": ".join(header))
    return lines, special


def _learn(name: bytes, keys: dict[bytes, bytes], names: frozenset[bytes]) -> bytes:
    """The key of a spelling: the lower-case name of a header that the router reads, else empty."""
    key = name.lower()
    if key not in names:
        key = b""
    if len(keys) >= _LONG_NAMES:
        keys.clear()
    keys[name] = key
    return key


def _tokens(value: bytes) -> frozenset[bytes]:
    found = _token_cache.get(value)
    if found is None:
        found = frozenset(token.strip().lower() for token in value.split(b",")) - {b""}
        if len(_token_cache) < 256 and len(value) < 64:
            _token_cache[value] = found
    return found


_token_cache: dict[bytes, frozenset[bytes]] = {}
_ORDINARY_TOKENS = frozenset({b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings"})


def _without_named(lines: list[bytes], tokens: frozenset[bytes]) -> list[bytes]:
    """Headers named in Connection end here (RFC 9110, 7.6.1)."""
    named = tokens - _ORDINARY_TOKENS
    if not named:
        return lines
    return [line for line in lines if line[: line.index(b":")].lower() not in named]
