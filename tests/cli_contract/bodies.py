"""Request bodies as the CLI builds them."""

import hashlib
import json
import os
import stat
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

__all__ = ["build", "resources"]

HERE = Path(__file__).parent
BOUNDARY = "75812c0c0b750a33fc011dbf4b278864d967e72fc8403fb1ebd66e58f55e"

Fill = Callable[[Any, Mapping[str, Any]], Any]


def build(spec: Mapping[str, Any], values: Mapping[str, Any], fill: Fill) -> tuple[dict[str, str], bytes | None]:
    """The headers that go with the body, and the body."""
    if "json" in spec:
        # Compact, as Go's encoder writes it; the media type is that of every request to the controller anyway.
        return {"Content-Type": "application/json"}, json.dumps(
            fill(spec["json"], values), separators=(",", ":")
        ).encode()
    if "yaml" in spec:
        return {"Content-Type": "application/x-yaml"}, yaml.safe_dump(
            fill(spec["yaml"], values), sort_keys=False
        ).encode()
    if "form" in spec:
        form = sorted(fill(spec["form"], values).items())
        return {"Content-Type": "application/x-www-form-urlencoded"}, urllib.parse.urlencode(form).encode()
    if "parts" in spec:
        parts = [_part(name, fill(part, values)) for name, part in spec["parts"].items()]
        body = b"".join(b"--%b\r\n%b\r\n" % (BOUNDARY.encode(), part) for part in parts)
        return {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, body + f"--{BOUNDARY}--\r\n".encode()
    return {}, None


def _part(name: str, part: Any) -> bytes:
    if not isinstance(part, dict) or "file" not in part:
        return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{json.dumps(part)}'.encode()
    if "zip" in part:
        content = _zipped(HERE / part["zip"], part.get("without", []))
    else:
        content = part["bytes"] if "bytes" in part else part["text"].encode()
    head = f'Content-Disposition: form-data; name="{name}"; filename="{part["file"]}"\r\n'
    return head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + content


def _entries(directory: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(directory.rglob("*")):
        yield path.relative_to(directory).as_posix(), path


def _zipped(directory: Path, without: list[dict[str, Any]]) -> bytes:
    """The directory as the CLI packs it: links as links, permissions kept, files that the server has left out."""
    there = {one["path"] for one in without}
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in _entries(directory):
            if name in there:
                continue
            entry = zipfile.ZipInfo(name + "/" if path.is_dir() and not path.is_symlink() else name)
            entry.create_system = 3
            entry.external_attr = path.lstat().st_mode << 16
            content = os.fsencode(path.readlink()) if path.is_symlink() else b"" if path.is_dir() else path.read_bytes()
            archive.writestr(entry, content)
    return packed.getvalue()


def resources(directory: Path) -> list[dict[str, Any]]:
    """What `POST /v3/resource_matches` is asked: every regular file that is not empty."""
    found = []
    for name, path in _entries(directory):
        information = path.lstat()
        if stat.S_ISREG(information.st_mode) and information.st_size:
            checksum = {"value": hashlib.sha1(path.read_bytes()).hexdigest()}
            mode = f"{stat.S_IMODE(information.st_mode):o}"
            found.append({"path": name, "mode": mode, "checksum": checksum, "size_in_bytes": information.st_size})
    return found
