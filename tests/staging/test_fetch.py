"""Custom buildpacks from addresses of archives and git repositories, and which hosts may be named."""

import base64
import http.server
import io
import os
import shutil
import ssl
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cupola.config import Settings
from tests.staging.staged import Staged, archive, stage, write

SCRIPTS = {
    "bin/compile": "#!/bin/sh\necho compiled by custom\n",
    "bin/release": "#!/bin/sh\necho 'default_process_types: {web: ./x}'\n",
}
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a directory, redirects below /moved/, and /private/ only with a password."""

    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.seen.append((self.path, self.headers.get("Authorization")))
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", server.moved_to + self.path.removeprefix("/moved"))
            self.end_headers()
        elif (
            self.path.startswith("/private/")
            and self.headers.get("Authorization") != "Basic " + base64.b64encode(b"joe:pass@word").decode()
        ):
            self.send_error(401)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Tests have their own record."""


class Server(http.server.ThreadingHTTPServer):
    """Knows what it was asked for."""

    seen: list[tuple[str, str | None]]
    moved_to = ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(directory: Path) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), partial(Handler, directory=str(directory))) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def web(tmp_path: Path) -> Path:
    made = tmp_path / "web"
    made.mkdir()
    return made


@pytest.fixture
def server(web: Path) -> Iterator[Server]:
    with serving(web) as found:
        yield found


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write(tmp_path / "app", {"file.txt": "text"})


def build(
    app: Path,
    tmp_path: Path,
    url: str,
    *,
    allow: list[str] | None = None,
    anywhere: bool = False,
    env: Mapping[str, str] | None = None,
) -> Staged:
    settings = Settings()
    settings.outbound.allow = allow or []
    chosen = [{"key": url, "name": url, "url": url}]
    return stage(app, tmp_path, chosen=chosen, settings=settings, anywhere=anywhere, env=dict(env or {}))


def test_an_archive_is_fetched_for_an_admin(app: Path, tmp_path: Path, web: Path, server: Server) -> None:
    (web / "bp.zip").write_bytes(archive({f"bp-main/{name}": text for name, text in SCRIPTS.items()}))
    staged = build(app, tmp_path, f"http://{server.address}/bp.zip?raw=1", anywhere=True)
    assert f"Downloading buildpack http://{server.address}/bp.zip?raw=1..." in staged.log
    assert "compiled by custom" in staged.log
    metadata = staged.good.result["lifecycle_metadata"]
    assert isinstance(metadata, dict)
    assert metadata["buildpacks"][0]["name"] == ""


def test_a_tar_is_unpacked_with_its_modes_and_links(app: Path, tmp_path: Path, web: Path, server: Server) -> None:
    with tarfile.open(web / "bp.tgz", "w:gz") as tar:
        for name, text in (("bp/bin/release", SCRIPTS["bin/release"]), ("bp/lib/real", SCRIPTS["bin/compile"])):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o755
            tar.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("bp/bin/compile")
        link.type, link.linkname = tarfile.SYMTYPE, "../lib/real"
        tar.addfile(link)
    assert "compiled by custom" in build(app, tmp_path, f"http://{server.address}/bp.tgz", anywhere=True).log


def test_credentials_of_the_address_are_sent_and_not_shown(
    app: Path, tmp_path: Path, web: Path, server: Server
) -> None:
    write(web / "private", {})
    (web / "private" / "bp.zip").write_bytes(archive(SCRIPTS))
    staged = build(app, tmp_path, f"http://joe:pass%40word@{server.address}/private/bp.zip", anywhere=True)
    assert "compiled by custom" in staged.log
    assert "pass" not in staged.log
    wrong = build(app, tmp_path, f"http://joe:other@{server.address}/private/bp.zip", anywhere=True)
    assert "answered 401 Unauthorized: check the address" in wrong.bad.reason
    assert "other" not in wrong.log + wrong.bad.reason


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "key.pem").write_bytes(private)
    return directory / "cert.pem", directory / "key.pem"


def test_https_is_verified_with_the_hosts_certificates(
    app: Path, tmp_path: Path, web: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (web / "bp.zip").write_bytes(archive(SCRIPTS))
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://{server.address}/bp.zip"
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert "certificate verify failed" in build(app, tmp_path, url, anywhere=True).bad.reason
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    assert build(app, tmp_path, url, allow=[server.address]).status == 0


@pytest.mark.parametrize("allowed", [True, False])
def test_others_may_not_name_hosts_inside(app: Path, tmp_path: Path, web: Path, server: Server, allowed: bool) -> None:
    (web / "bp.zip").write_bytes(archive(SCRIPTS))
    for host in ("127.0.0.1", "localhost"):
        url = f"http://{host}:{server.server_address[1]}/bp.zip"
        staged = build(app, tmp_path, url, allow=[f"{host}:{server.server_address[1]}"] if allowed else ["127.0.0.1:1"])
        assert bool(server.seen) is allowed
        if allowed:
            assert staged.status == 0
        else:
            assert staged.bad.error_id == "StagingError"
            assert "which is no public address: an operator can add" in staged.bad.reason


def test_a_redirect_is_judged_like_an_address(app: Path, tmp_path: Path, web: Path, server: Server) -> None:
    write(tmp_path / "inner", {})
    (tmp_path / "inner" / "bp.zip").write_bytes(archive(SCRIPTS))
    with serving(tmp_path / "inner") as inner:
        server.moved_to = f"http://{inner.address}"
        staged = build(app, tmp_path, f"http://{server.address}/moved/bp.zip", allow=[server.address])
        assert "may not be called" in staged.bad.reason
        assert inner.seen == []
        followed = build(app, tmp_path, f"http://{server.address}/moved/bp.zip", allow=[server.address, inner.address])
        assert followed.status == 0


def test_an_app_cannot_bring_a_proxy_around_the_policy(app: Path, tmp_path: Path, server: Server) -> None:
    proxy = {"http_proxy": f"http://{server.address}", "HTTP_PROXY": f"http://{server.address}"}
    staged = build(app, tmp_path, "http://192.0.2.1:9/bp.zip", env=proxy)
    assert "may not be called" in staged.bad.reason
    assert server.seen == []


def test_the_hosts_proxy_is_used(
    app: Path, tmp_path: Path, web: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy is asked for whole addresses, which this server takes for paths.
    write(web / "http:" / "buildpacks.example", {})
    (web / "http:" / "buildpacks.example" / "bp.zip").write_bytes(archive(SCRIPTS))
    for name in ("HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://{server.address}")
    settings = Settings()
    settings.staging.allow = [server.address]
    url = "http://buildpacks.example/bp.zip"
    staged = stage(app, tmp_path, chosen=[{"key": url, "name": url, "url": url}], settings=settings)
    assert staged.status == 0, staged.log
    assert server.seen == [("http://buildpacks.example/bp.zip", None)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"not an archive", "is no usable archive"),
        (archive({"../evil": "x"}), "leads out of the archive"),
        (archive({"bin/other": "x"})[:-30], "is no usable archive"),
    ],
)
def test_a_bad_archive_is_refused(
    app: Path, tmp_path: Path, web: Path, server: Server, content: bytes, problem: str
) -> None:
    (web / "bp.zip").write_bytes(content)
    staged = build(app, tmp_path, f"http://{server.address}/bp.zip", anywhere=True)
    assert problem in staged.bad.reason
    assert not (staged.directory / "tmp" / "buildpackdownloads" / "evil").exists()


def test_addresses_that_answer_nothing_useful(app: Path, tmp_path: Path, server: Server) -> None:
    assert (
        "answered 404 File not found: check the address"
        in build(app, tmp_path, f"http://{server.address}/no.zip", anywhere=True).bad.reason
    )
    assert "cannot be reached" in build(app, tmp_path, "http://127.0.0.1:1/no.zip", anywhere=True).bad.reason
    for url in ("file:///etc/passwd", "ftp://host/x.zip", "/etc"):
        assert (
            "is neither the name of an installed buildpack nor a URL"
            in build(app, tmp_path, url, anywhere=True).bad.reason
        )


def git(*arguments: str | Path, directory: Path) -> str:
    env = {
        "PATH": os.environ["PATH"], "HOME": str(directory), "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c", "GIT_ALLOW_PROTOCOL": "file",
    }  # fmt: skip
    done = subprocess.run(["git", *arguments], cwd=directory, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(directory: Path, files: Mapping[str, str], submodules: Mapping[str, str] | None = None) -> str:
    """Make `directory`.git, to be served as files, with branches main and other; returns the first commit."""
    work = write(directory.with_name(directory.name + "-work"), files)
    git("init", "--quiet", "--initial-branch", "main", directory=work)
    for path in (work / "bin").iterdir() if (work / "bin").is_dir() else []:
        path.chmod(0o755)
    git("add", ".", directory=work)
    for place, (url, commit) in {name: value.split(" ") for name, value in (submodules or {}).items()}.items():
        with (work / ".gitmodules").open("a") as file:
            file.write(f'[submodule "{place}"]\n\tpath = {place}\n\turl = {url}\n')
        git("update-index", "--add", "--cacheinfo", f"160000,{commit},{place}", directory=work)
        git("add", ".gitmodules", directory=work)
    git("commit", "--quiet", "-m", "first", directory=work)
    first = git("rev-parse", "HEAD", directory=work)
    git("checkout", "--quiet", "-b", "other", directory=work)
    write(work, {"bin/compile": "#!/bin/sh\necho compiled by the other branch\n"})
    git("add", "bin", directory=work)
    git("commit", "--quiet", "-m", "second", directory=work)
    git("checkout", "--quiet", "main", directory=work)
    git("clone", "--quiet", "--bare", work, f"{directory}.git", directory=work)
    git("update-server-info", directory=Path(f"{directory}.git"))
    return first


@needs_git
def test_git_repositories_with_branches_and_commits(app: Path, tmp_path: Path, web: Path, server: Server) -> None:
    first = repository(web / "bp", SCRIPTS)
    url = f"http://{server.address}/bp.git"
    assert "compiled by custom" in build(app, tmp_path, url, anywhere=True).log
    assert "compiled by the other branch" in build(app, tmp_path, f"{url}#other", allow=[server.address]).log
    assert "compiled by custom" in build(app, tmp_path, f"{url}#{first}", anywhere=True).log
    assert "has no branch, tag or commit 'none'" in build(app, tmp_path, f"{url}#none", anywhere=True).bad.reason
    assert (
        "has no branch, tag or commit '--upload-pack=x'"
        in build(app, tmp_path, f"{url}#--upload-pack=x", anywhere=True).bad.reason
    )
    assert (
        "cannot be cloned: check the address"
        in build(app, tmp_path, f"http://{server.address}/none.git", anywhere=True).bad.reason
    )


@needs_git
def test_git_is_held_to_the_policy_also_for_submodules(app: Path, tmp_path: Path, web: Path, server: Server) -> None:
    inner = repository(web / "inner", {"note": "from the submodule"})
    compile_ = {**SCRIPTS, "bin/compile": '#!/bin/sh\ncat "$(dirname "$0")/../relative/note"\n'}
    repository(web / "outer", compile_, {"relative": f"../inner.git {inner}"})
    repository(web / "evil", SCRIPTS, {"away": f"http://127.0.0.1:1/x.git {inner}"})
    repository(web / "up", SCRIPTS, {"away": f"../../../127.0.0.1:1/x.git {inner}"})
    repository(web / "local", SCRIPTS, {"away": f"file:///etc {inner}"})
    url = f"http://{server.address}"
    assert "may not be called" in build(app, tmp_path, f"{url}/outer.git").bad.reason
    assert server.seen == []
    assert "from the submodule" in build(app, tmp_path, f"{url}/outer.git", allow=[server.address]).log
    assert (
        "http://127.0.0.1:1/x.git may not be called"
        in build(app, tmp_path, f"{url}/evil.git", allow=[server.address]).bad.reason
    )
    assert "a submodule outside of its host" in build(app, tmp_path, f"{url}/up.git", anywhere=True).bad.reason
    assert "is no address that git may fetch here" in build(app, tmp_path, f"{url}/local.git", anywhere=True).bad.reason


@needs_git
def test_git_follows_no_redirect_away_from_what_was_judged(
    app: Path, tmp_path: Path, web: Path, server: Server
) -> None:
    write(tmp_path / "elsewhere", {})
    repository(tmp_path / "elsewhere" / "bp", SCRIPTS)
    with serving(tmp_path / "elsewhere") as inner:
        server.moved_to = f"http://{inner.address}"
        staged = build(app, tmp_path, f"http://{server.address}/moved/bp.git", allow=[server.address])
        assert "cannot be cloned" in staged.bad.reason
        assert inner.seen == []


def test_without_git_the_message_says_what_to_do(app: Path, tmp_path: Path) -> None:
    staged = build(app, tmp_path, "https://192.0.2.1/bp.git", anywhere=True, env={"PATH": str(tmp_path)})
    assert (
        "needs git, which this stack has not: use the URL of a zip file, or have git installed on the host"
        in staged.bad.reason
    )
