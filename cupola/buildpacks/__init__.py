"""The system buildpacks that come with the platform, each a directory in the classic layout (bin/detect, bin/supply, ...).

They need sh and a Python that the stack has, and nothing else; apps built by them hold no absolute path of the container.
"""

import io
import zipfile
from pathlib import Path

__all__ = ["SYSTEM", "directory", "pack"]

_DIRECTORIES = {
    "staticfile_buildpack": "staticfile",
    "python_buildpack": "python",
    "nodejs_buildpack": "nodejs",
    "binary_buildpack": "binary",
}
SYSTEM = tuple(_DIRECTORIES)
"""Names in the order of detection."""


def directory(name: str) -> Path:
    """Where the buildpack `name` is. Raises KeyError for another name."""
    return Path(__file__).resolve().parent / _DIRECTORIES[name]


def pack(name: str) -> bytes:
    """The buildpack as a zip file, the same bytes for the same content. Raises KeyError."""
    root = directory(name)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if path.is_dir() or "__pycache__" in inside.parts:
                continue
            entry = zipfile.ZipInfo(inside.as_posix(), (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            # An installed wheel does not keep modes.
            entry.external_attr = (0o100755 if inside.parts[0] == "bin" else 0o100644) << 16
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()
