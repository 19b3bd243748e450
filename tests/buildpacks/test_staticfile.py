"""The staticfile buildpack: every option of a Staticfile, through the real server of a real droplet."""

import base64
import gzip
import hashlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from cupola.blobs.store import LocalStore
from cupola.buildpacks.staticfile.lib import passwords
from tests.buildpacks.running import App, running
from tests.staging.staged import Staged, stage, system, write

PAGE = "<p>" + "a page that is long enough to be compressed. " * 20 + "</p>"


class Answer:
    """Status, header fields (by lower-case name) and body."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.fields = {name.lower(): value for name, value in answer.getheaders()}
        self.body = answer.read()


def ask(app: App, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def build(tmp_path: Path, files: Mapping[str, str]) -> Staged:
    app = write(tmp_path / "app", files)
    blobs = LocalStore(tmp_path / "blobs")
    return stage(app, tmp_path, chosen=system(blobs, "staticfile_buildpack"))


@contextmanager
def site(tmp_path: Path, files: Mapping[str, str], env: Mapping[str, str] | None = None) -> Iterator[App]:
    with running(build(tmp_path, files), tmp_path / "run", env) as app:
        yield app


def test_files_are_served_with_types_and_nothing_private(tmp_path: Path) -> None:
    files = {
        "Staticfile": "", "index.html": PAGE, "a/index.html": "inner", "style.css": "p{}", "data.json": "{}", "x.wasm": "w", "blob": "b",
        "Procfile": "", "manifest.yml": "", ".hidden": "secret", ".well/known": "secret", "sp ace/é.txt": "ü",
    }  # fmt: skip
    with site(tmp_path, files) as app:
        first = ask(app, "/")
        assert (first.status, first.body.decode(), first.fields["content-type"]) == (
            200,
            PAGE,
            "text/html; charset=utf-8",
        )
        types = {
            name: ask(app, name).fields["content-type"] for name in ("/style.css", "/data.json", "/x.wasm", "/blob")
        }
        assert types == {
            "/style.css": "text/css; charset=utf-8", "/data.json": "application/json", "/x.wasm": "application/wasm",
            "/blob": "application/octet-stream",
        }  # fmt: skip
        assert ask(app, "/sp%20ace/%C3%A9.txt").body.decode() == "ü"
        moved = ask(app, "/a?x=1")
        assert (moved.status, moved.fields["location"]) == (301, "/a/?x=1")
        assert ask(app, "/a/").body == b"inner"
        for path in ("/.hidden", "/.well/known", "/Staticfile", "/Procfile", "/manifest.yml", "/none", "/style.css/"):
            assert ask(app, path).status == 404, path
        assert ask(app, "/", "POST").status == 405
        assert ask(app, "/", "HEAD").fields["content-length"] == str(len(PAGE))
        assert "strict-transport-security" not in first.fields


def test_paths_and_links_never_lead_out_of_the_site(tmp_path: Path) -> None:
    app_files = write(tmp_path / "app", {"Staticfile": "root: site\n", "site/index.html": "in", "secret.txt": "out"})
    (app_files / "site" / "link").symlink_to("../secret.txt")
    blobs = LocalStore(tmp_path / "blobs")
    staged = stage(app_files, tmp_path, chosen=system(blobs, "staticfile_buildpack"))
    with running(staged, tmp_path / "run") as app:
        assert ask(app, "/").body == b"in"
        for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "//secret.txt", "/link", "/%00"):
            assert ask(app, path).status == 404, path


def test_conditions_ranges_and_compression(tmp_path: Path) -> None:
    with site(
        tmp_path, {"Staticfile": "", "page.html": PAGE, "digits.txt": "0123456789", "big.bin": "x" * 1_000_000}
    ) as app:
        whole = ask(app, "/page.html")
        squeezed = ask(app, "/page.html", Accept_Encoding="br, gzip")
        assert gzip.decompress(squeezed.body).decode() == PAGE
        assert (squeezed.fields["content-encoding"], squeezed.fields["vary"]) == ("gzip", "Accept-Encoding")
        assert ask(app, "/page.html", Accept_Encoding="gzip;q=0").body.decode() == PAGE
        for headers in (
            {"If_None_Match": whole.fields["etag"]},
            {"If_None_Match": f'"x", W/{whole.fields["etag"]}'},
            {"If_Modified_Since": whole.fields["last-modified"]},
        ):
            again = ask(app, "/page.html", **headers)
            assert (again.status, again.body) == (304, b"")
        assert (
            ask(app, "/page.html", If_None_Match='"x"', If_Modified_Since=whole.fields["last-modified"]).status == 200
        )
        ranges = {"bytes=2-4": b"234", "bytes=7-": b"789", "bytes=-2": b"89", "bytes=8-99": b"89"}
        for asked, expected in ranges.items():
            part = ask(app, "/digits.txt", Range=asked)
            assert (part.status, part.body) == (206, expected)
        assert ask(app, "/digits.txt", Range="bytes=2-4").fields["content-range"] == "bytes 2-4/10"
        beyond = ask(app, "/digits.txt", Range="bytes=10-")
        assert (beyond.status, beyond.fields["content-range"]) == (416, "bytes */10")
        assert ask(app, "/digits.txt", Range="bytes=4-2").status == 200
        assert ask(app, "/digits.txt", Range="bytes=1-2", If_Range='"other"').body == b"0123456789"
        assert len(ask(app, "/big.bin").body) == 1_000_000


def test_compressed_neighbours_are_sent_as_they_are(tmp_path: Path) -> None:
    app_files = write(tmp_path / "app", {"Staticfile": "", "both.js": "plain"})
    for name in ("both.js.gz", "only.js.gz"):
        (app_files / name).write_bytes(gzip.compress(b"squeezed"))
    staged = stage(app_files, tmp_path, chosen=system(LocalStore(tmp_path / "blobs"), "staticfile_buildpack"))
    with running(staged, tmp_path / "run") as app:
        sent = ask(app, "/both.js", Accept_Encoding="gzip")
        assert (gzip.decompress(sent.body), sent.fields["content-type"]) == (
            b"squeezed",
            "text/javascript; charset=utf-8",
        )
        assert ask(app, "/both.js").body == b"plain"
        assert ask(app, "/only.js").body == b"squeezed"


def test_root_directory_listing_and_dot_files(tmp_path: Path) -> None:
    files = {
        "Staticfile": "root: dist/site\ndirectory: visible\nhost_dot_files: true\n", "top.txt": "not served",
        "dist/site/docs/b & c.txt": "x", "dist/site/.well-known/acme": "challenge", "dist/site/index.html": "home",
    }  # fmt: skip
    with site(tmp_path, files) as app:
        listing = ask(app, "/docs/").body.decode()
        assert "<h1>Index of /docs/</h1>" in listing
        assert '<a href="./b%20%26%20c.txt">b &amp; c.txt</a>' in listing
        assert ask(app, "/").body == b"home"
        assert ask(app, "/.well-known/acme").body == b"challenge"
        assert ask(app, "/top.txt").status == 404


def test_a_directory_without_index_or_listing_is_forbidden(tmp_path: Path) -> None:
    with site(tmp_path, {"Staticfile": "directory: false\n", "docs/x.txt": "x"}) as app:
        assert ask(app, "/docs/").status == 403
        assert ask(app, "/docs/x.txt").body == b"x"


def test_pushstate_gives_the_index_for_what_is_not_there(tmp_path: Path) -> None:
    with site(tmp_path, {"Staticfile": "pushstate: enabled\n", "index.html": "app", "real.js": "code"}) as app:
        assert [ask(app, path).body for path in ("/", "/deep/route", "/route/", "/real.js")] == [
            b"app",
            b"app",
            b"app",
            b"code",
        ]
        assert ask(app, "/.git/config").status == 404


def test_status_codes_have_pages_of_their_own(tmp_path: Path) -> None:
    files = {
        "Staticfile": 'status_codes:\n  404: /404.html\n  "4xx": /other.html\n', "404.html": "lost", "other.html": "other", "d/x": "",
    }  # fmt: skip
    with site(tmp_path, files) as app:
        lost = ask(app, "/none")
        assert (lost.status, lost.body) == (404, b"lost")
        refused = ask(app, "/404.html", "DELETE")
        assert (refused.status, refused.body) == (405, b"other")


def test_https_is_forced_by_option_and_by_variable(tmp_path: Path) -> None:
    option = {"Staticfile": "force_https: true\nhttp_strict_transport_security: true\n", "index.html": "x"}
    with site(tmp_path / "a", option) as app:
        moved = ask(app, "/p?q=1", Host="site.example", X_Forwarded_Proto="http")
        assert (moved.status, moved.fields["location"]) == (301, "https://site.example/p?q=1")
        shown = ask(app, "/p", Host="inner", X_Forwarded_Host="outer.example", X_Forwarded_Prefix="/base/")
        assert shown.fields["location"] == "https://outer.example/base/p"
        secure = ask(app, "/", X_Forwarded_Proto="https")
        assert (secure.status, secure.fields["strict-transport-security"]) == (200, "max-age=31536000")
    with site(tmp_path / "b", {"Staticfile": "", "index.html": "x"}, {"FORCE_HTTPS": "true"}) as app:
        assert ask(app, "/").status == 301


def test_strict_transport_security_with_its_two_additions(tmp_path: Path) -> None:
    name = "http_strict_transport_security"
    text = f"{name}: true\n{name}_include_subdomains: true\n{name}_preload: true\n"
    with site(tmp_path, {"Staticfile": text, "index.html": "x"}) as app:
        assert ask(app, "/").fields["strict-transport-security"] == "max-age=31536000; includeSubDomains; preload"


def _hashes() -> list[str]:
    """The same password in every form of htpasswd that this machine can verify."""
    found = [
        "{PLAIN}pass word", "{SHA}" + base64.b64encode(hashlib.sha1(b"pass word").digest()).decode(),
        passwords.apr1(b"pass word", "8charsal"),
    ]  # fmt: skip
    if shutil.which("openssl"):
        for option in ("-apr1", "-6"):
            made = subprocess.run(
                ["openssl", "passwd", option, "-salt", "abcd", "pass word"], capture_output=True, text=True, check=True
            )
            found.append(made.stdout.strip())
    return found


def test_basic_authentication(tmp_path: Path) -> None:
    lines = "".join(f"user{number}:{hashed}\n" for number, hashed in enumerate(_hashes()))
    with site(tmp_path, {"Staticfile": "root: public\n", "Staticfile.auth": lines, "public/index.html": "in"}) as app:
        refused = ask(app, "/")
        assert (refused.status, refused.fields["www-authenticate"]) == (401, 'Basic realm="Restricted"')
        for number in range(len(_hashes())):
            right = base64.b64encode(f"user{number}:pass word".encode()).decode()
            wrong = base64.b64encode(f"user{number}:pass".encode()).decode()
            assert ask(app, "/", Authorization=f"Basic {right}").body == b"in"
            assert ask(app, "/", Authorization=f"Basic {wrong}").status == 401
        assert ask(app, "/", Authorization="Basic ???").status == 401
        assert ask(app, "/Staticfile.auth").status == 401


def test_server_side_includes(tmp_path: Path) -> None:
    page = (
        '<!--#set var="who" value="a<b" -->[<!--#include virtual="/part.html" -->][<!--#echo var="who" -->]'
        '[<!--#echo var="none" default="nobody" -->][<!--#if expr="$args = /x=1/" -->one<!--#elif expr="$args" -->some'
        '<!--#else -->none<!--#endif -->][<!--#include file="../secret" -->][<!--#config timefmt="%A" -->]'
    )
    files = {"Staticfile": "ssi: enabled\n", "index.html": page, "part.html": '<!--#echo var="who" encoding="none" -->'}
    with site(tmp_path, files) as app:
        error = "[an error occurred while processing the directive]"
        assert ask(app, "/?x=1").body.decode() == f"[a<b][a&lt;b][nobody][one][{error}][]"
        assert "[some]" in ask(app, "/?y").body.decode()
        assert "[none]" in ask(app, "/").body.decode()


def test_an_include_that_includes_itself_ends(tmp_path: Path) -> None:
    with site(tmp_path, {"Staticfile": "ssi: true", "index.html": '.<!--#include file="index.html" -->'}) as app:
        assert ask(app, "/").body.startswith(b"..........")


def test_own_mime_types(tmp_path: Path) -> None:
    types = "types {\n  text/x-strange  odd queer; # why not\n  model/thing thing;\n}\n"
    with site(tmp_path, {"Staticfile": "", "mime.types": types, "a.odd": "x", "b.thing": "x"}) as app:
        assert ask(app, "/a.odd").fields["content-type"] == "text/x-strange; charset=utf-8"
        assert ask(app, "/b.thing").fields["content-type"] == "model/thing"


def test_included_nginx_directives_that_are_honoured(tmp_path: Path) -> None:
    text = """
    add_header X-Site "Best site; ever";   # for all
    error_page 404 /lost.html;
    location ~* \\.(js|css)$ { expires 30d; add_header X-Kind asset; }
    location = /old { return 301 https://$host/new?$args; }
    location ^~ /private/ { deny all; }
    location /moved/ { rewrite ^/moved/(.*)$ /to/$1 permanent; }
    location /teapot { return 418 "short and stout"; }
    """
    files = {
        "Staticfile": "root: public\nlocation_include: includes/*.conf\n", "nginx/conf/includes/own.conf": text,
        "public/index.html": "home", "public/lost.html": "lost", "public/app.JS": "1", "public/private/a.js": "2",
    }  # fmt: skip
    with site(tmp_path, files) as app:
        assert ask(app, "/").fields["x-site"] == "Best site; ever"
        asset = ask(app, "/app.JS")
        assert (asset.fields["cache-control"], asset.fields["x-kind"]) == ("max-age=2592000", "asset")
        assert "x-site" not in asset.fields
        assert ask(app, "/none").body == b"lost"
        assert ask(app, "/private/a.js").status == 403
        assert ask(app, "/old?a=b", Host="h.example:9").fields["location"] == "https://h.example/new?a=b"
        moved = ask(app, "/moved/a/b?q=1")
        assert (moved.status, moved.fields["location"]) == (301, "/to/a/b?q=1")
        teapot = ask(app, "/teapot")
        assert (teapot.status, teapot.body) == (418, b"short and stout")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"Staticfile": "root: none"}, "specifies a root directory none that does not exist"),
        ({"Staticfile": "root: ../.."}, "leads out of the app"),
        ({"Staticfile": "a: [b"}, "Staticfile line 1: a quote or bracket is not closed"),
        ({"Staticfile": "pushstate: perhaps"}, "pushstate: perhaps is neither true nor false"),
        ({"Staticfile": "status_codes:\n  200: /x"}, "status_codes: 200"),
        ({"Staticfile": "location_include: x.conf"}, "there is no file nginx/conf/x.conf"),
        ({"Staticfile": "", "nginx.conf": ""}, "nginx.conf cannot be used"),
        ({"Staticfile": "", "Staticfile.auth": "nonsense"}, "line 1 is not `user:hash`"),
        (
            {"Staticfile": "location_include: x.conf", "nginx/conf/x.conf": "auth_basic on;"},
            "nginx/conf/x.conf: the nginx directive 'auth_basic on' cannot be honoured",
        ),
        ({"Staticfile": "location_include: x.conf", "nginx/conf/x.conf": "expires 1d"}, "a ; is missing after 'expires 1d'"),
    ],
)  # fmt: skip
def test_what_is_wrong_ends_staging_with_a_sentence(tmp_path: Path, files: Mapping[str, str], message: str) -> None:
    staged = build(tmp_path, files)
    assert staged.bad.error_id == "BuildpackCompileFailed"
    assert message in staged.log


def test_unknown_options_are_named(tmp_path: Path) -> None:
    staged = build(tmp_path, {"Staticfile": "pushtate: true\nenable_http2: true\n", "index.html": ""})
    assert staged.status == 0
    assert "Staticfile: pushtate is unknown and has no effect" in staged.log
    assert "enable_http2: the server behind the router speaks HTTP/1.1" in staged.log


def _raw(app: App, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", app.port), 10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def test_malformed_requests_are_answered_and_end_the_connection(tmp_path: Path) -> None:
    with site(tmp_path, {"Staticfile": "", "index.html": "x"}) as app:
        for request in (
            b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
            b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
        ):  # fmt: skip
            assert _raw(app, request + b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request"), request
        assert _raw(app, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")
        two = _raw(app, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.0\r\n\r\n")
        assert two.startswith(b"HTTP/1.1 405 ")
        assert two.endswith(b"\r\n\r\nx")


def test_it_ends_at_once_when_asked(tmp_path: Path) -> None:
    with site(tmp_path, {"Staticfile": "", "index.html": "x"}) as app:
        os.killpg(app.process.pid, signal.SIGTERM)
        assert app.process.wait(10) == 0
