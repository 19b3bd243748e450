"""A package index and packages of our own, so that tests of pip need nobody else's."""

import base64
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

BACKEND = """
import zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(directory + "/" + name, "w") as wheel:
        wheel.writestr("{name}.py", "VALUE = 'built'\\n")
        info = "{name}-{version}.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def wheel(name: str, version: str = "1.0", *, needs: str = "", script: bool = False) -> tuple[str, bytes]:
    """File name and bytes of a wheel with one module, that may need another and may have a script of its name."""
    module = f"VALUE = {version!r}\ndef main():\n    print('script of {name}')\n"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (
        f"Requires-Dist: {needs}\n" if needs else ""
    )
    files = {
        f"{name}.py": module, f"{info}/METADATA": metadata, f"{info}/RECORD": "",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }  # fmt: skip
    if script:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{name} = {name}:main\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for inside, text in files.items():
            archive.writestr(inside, text)
    return f"{name}-{version}-py3-none-any.whl", buffer.getvalue()


def source(name: str, version: str = "1.0") -> tuple[str, bytes]:
    """File name and bytes of a source distribution that builds itself without any other package."""
    root = f"{name}-{version}"
    files = {
        "pyproject.toml": PYPROJECT, "backend.py": BACKEND.format(name=name, version=version),
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }  # fmt: skip
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for inside, text in files.items():
            member = tarfile.TarInfo(f"{root}/{inside}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return f"{root}.tar.gz", buffer.getvalue()


class Index(http.server.ThreadingHTTPServer):
    """`packages` by file name; whoever asks needs `password` when there is one. `seen` are the paths asked for."""

    packages: Mapping[str, bytes]
    password = ""
    seen: list[str]

    @property
    def url(self) -> str:
        user = f"builder:{self.password}@" if self.password else ""
        return f"http://{user}127.0.0.1:{self.server_address[1]}/simple"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        index = self.server
        assert isinstance(index, Index)
        index.seen.append(self.path)
        right = "Basic " + base64.b64encode(f"builder:{index.password}".encode()).decode()
        if index.password and self.headers.get("Authorization") != right:
            self._answer(401, "text/plain", b"who are you", ("WWW-Authenticate", "Basic"))
        elif self.path.startswith("/simple/"):
            project = self.path.split("/")[2]
            names = [name for name in index.packages if name.split("-")[0].replace("_", "-") == project]
            page = "".join(f'<a href="/files/{name}">{name}</a>' for name in names)
            self._answer(200 if names else 404, "text/html", page.encode())
        else:
            content = index.packages.get(self.path.removeprefix("/files/"))
            caching = ("Cache-Control", "max-age=3600")
            self._answer(404 if content is None else 200, "application/octet-stream", content or b"", caching)

    def _answer(self, status: int, kind: str, body: bytes, more: tuple[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *([more] if more else [])):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests have their own record."""


@contextmanager
def serving(packages: Mapping[str, bytes], password: str = "") -> Iterator[Index]:
    """An index on a free port of loopback."""
    with Index(("127.0.0.1", 0), _Handler) as index:
        index.packages, index.password, index.seen = packages, password, []
        thread = threading.Thread(target=index.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield index
        finally:
            index.shutdown()
            thread.join()
