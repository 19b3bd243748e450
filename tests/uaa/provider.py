"""An OpenID Connect provider for tests: real HTTP, its own signatures, and every fault that a test asks for."""

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from tests.uaa.house import Answer, Browser, House, query_of

__all__ = ["CLIENT", "SECRET", "Provider", "came_back", "logged_in", "running", "settings_of"]

CLIENT = "cupola"
SECRET = "the client's secret/+"
Claims = dict[str, Any]


class Provider:
    """`users` maps names to claims (`password` is none of them); `current` is who is logged in there in all browsers."""

    def __init__(self, url: str) -> None:
        self.issuer = url
        self.users: dict[str, Claims] = {}
        self.current = ""
        self.keys: dict[str, RSAKey | ECKey] = {}
        self.rotate("k1")
        self.asked: list[str] = []
        """Paths, in order."""
        self.alter: Callable[[Claims], Claims] = lambda claims: claims
        """What becomes of the claims of an id token."""
        self.sign: Callable[[Claims], str] = self.signed
        self.faults: dict[str, Callable[[], tuple[int, Any]]] = {}
        """Path to status and body, instead of the usual."""
        self.forms: list[dict[str, str]] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._tokens: dict[str, str] = {}

    def add(self, name: str, password: str = "secret", **claims: Any) -> Claims:
        """A user; logged in there from now on."""
        self.users[name] = {"sub": f"sub-of-{name}", "preferred_username": name, "password": password, **claims}
        self.current = name
        return self.users[name]

    def rotate(self, kid: str, key: RSAKey | ECKey | None = None, *, keep: bool = False) -> None:
        """Sign with another key; the old ones are kept or forgotten."""
        made = key or RSAKey.generate_key(2048, {"kid": kid}, private=True)
        self.keys = {**(self.keys if keep else {}), kid: made}
        self.active = kid

    def signed(self, claims: Mapping[str, Any], *, kid: str = "", key: Any = None, alg: str = "RS256") -> str:
        """A token."""
        kid = kid or self.active
        return jwt.encode({"alg": alg, "kid": kid}, dict(claims), key or self.keys[kid], algorithms=[alg])

    def id_token(self, name: str, **more: Any) -> str:
        """A token of a user, for our client."""
        now = int(time.time())
        claims = {key: value for key, value in self.users[name].items() if key != "password"}
        common = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300}
        given = {**common, **claims, **more}
        return self.sign(self.alter({key: value for key, value in given.items() if value is not None}))

    def code(self, query: Mapping[str, str]) -> str:
        """A code, as for a browser that was asked with `query`."""
        made = secrets.token_urlsafe(16)
        self._codes[made] = {**query, "user": self.current}
        return made

    # What it answers: status, body (a mapping is JSON, a text a redirect)

    def answer(self, method: str, path: str, query: dict[str, str], headers: Mapping[str, str]) -> tuple[int, Any]:
        self.asked.append(path)
        if path in self.faults:
            return self.faults[path]()
        serve = {
            "/.well-known/openid-configuration": self._described,
            "/keys": self._published,
            "/authorize": self._authorize,
            "/token": self._token,
            "/userinfo": self._userinfo,
        }.get(path)
        return serve(query, headers) if serve is not None else (404, {"error": "not_found"})

    def _described(self, query: dict[str, str], headers: Mapping[str, str]) -> tuple[int, Any]:
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        found = {name: f"{self.issuer}/{path}" for name, path in {**names, "userinfo_endpoint": "userinfo"}.items()}
        return 200, {"issuer": self.issuer, **found, "response_types_supported": ["code"]}

    def _published(self, query: dict[str, str], headers: Mapping[str, str]) -> tuple[int, Any]:
        public = [{**key.as_dict(private=False), "kid": kid, "use": "sig"} for kid, key in self.keys.items()]
        odd = [{"kty": "OKP", "crv": "unknown", "x": "?"}, {"kty": "RSA", "use": "enc", "n": "x", "e": "AQAB"}, "odd"]
        return 200, {"keys": [*odd, *public]}

    def _authorize(self, query: dict[str, str], headers: Mapping[str, str]) -> tuple[int, Any]:
        assert query["client_id"] == CLIENT
        back = {"code": self.code(query), "state": query["state"]}
        return 302, f"{query['redirect_uri']}?{urlencode(back)}"

    def _token(self, form: dict[str, str], headers: Mapping[str, str]) -> tuple[int, Any]:
        self.forms.append(form)
        if not self._knows_client(form, headers):
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") == "password":
            known = self.users.get(form["username"], {})
            if not known or known["password"] != form["password"]:
                return 400, {"error": "invalid_grant"}
            return 200, self._tokens_for(form["username"])
        asked = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if asked is None or asked["redirect_uri"] != form["redirect_uri"] or asked["code_challenge"] != challenge:
            return 400, {"error": "invalid_grant"}
        return 200, self._tokens_for(asked["user"], nonce=asked["nonce"])

    def _tokens_for(self, name: str, **more: str) -> dict[str, Any]:
        token = secrets.token_urlsafe(16)
        self._tokens[token] = name
        return {"access_token": token, "token_type": "Bearer", "id_token": self.id_token(name, **more)}

    def _knows_client(self, form: dict[str, str], headers: Mapping[str, str]) -> bool:
        kind, _, text = headers.get("authorization", "").partition(" ")
        if kind == "Basic":
            name, _, given = base64.b64decode(text).decode().partition(":")
            return (unquote_plus(name), unquote_plus(given)) == (CLIENT, SECRET)
        return (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)

    def _userinfo(self, query: dict[str, str], headers: Mapping[str, str]) -> tuple[int, Any]:
        name = self._tokens.get(headers.get("authorization", "").removeprefix("Bearer "))
        if name is None:
            return 401, {"error": "invalid_token"}
        return 200, {**self.users[name], "password": None, "phone_number": "+49 30 1"}


@contextmanager
def running() -> Iterator[Provider]:
    """A provider that listens."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._reply(*provider.answer("GET", parts.path, dict(parse_qsl(parts.query)), self._headers()))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            self._reply(*provider.answer("POST", self.path, dict(parse_qsl(body)), self._headers()))

        def _headers(self) -> dict[str, str]:
            return {name.lower(): value for name, value in self.headers.items()}

        def _reply(self, status: int, body: Any) -> None:
            raw = b"" if isinstance(body, str) else body if isinstance(body, bytes) else msgspec.json.encode(body)
            self.send_response(status)
            if isinstance(body, str):
                self.send_header("Location", body)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients that give up are part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def settings_of(provider: Provider, secret_file: str, **more: Any) -> dict[str, Any]:
    """The section of the settings for a provider."""
    return {"issuer": provider.issuer, "client_id": CLIENT, "client_secret_file": secret_file, **more}


def came_back(house: House, visitor: Browser, provider: Provider, next: str = "", origin: str = "corp") -> Answer:
    """Go to the provider, which knows who one is, and come back; the answer of our callback."""
    sent = visitor.get(f"/login/start/{origin}", params={"next": next} if next else {})
    assert sent.status_code == 302, sent.text
    status, target = provider.answer("GET", "/authorize", query_of(sent.headers["location"]), {})
    assert status == 302
    base = f"{house.settings.login_url}/login/callback/{origin}"
    assert target.startswith(base)
    return visitor.get(target.removeprefix(house.settings.login_url))


def logged_in(house: House, visitor: Browser, provider: Provider, origin: str = "corp") -> dict[str, Any]:
    """Log in by the provider, then get a token by a passcode, as `cf login --sso` does."""
    answer = came_back(house, visitor, provider, "/passcode", origin)
    assert answer.headers["location"].endswith("/passcode"), answer.headers["location"]
    code = visitor.get("/passcode", headers={"Accept": "application/json"}).json()
    body = house.token(grant_type="password", passcode=code)
    assert body.status_code == 200, body.text
    found: dict[str, Any] = body.json()
    return found
