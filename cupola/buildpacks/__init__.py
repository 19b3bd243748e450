"""The system buildpacks that come with the platform, each a directory in the classic layout (bin/detect, bin/supply, ...).

They need sh and a Python that the stack has, and nothing else; apps built by them hold no absolute path of the container.
"""

import io
import zipfile
from pathlib import Path

__all__ = ["SYSTEM", "directory", "pack"]

_HERE = Path(__file__).resolve().parent
_DIRECTORIES = {
    "staticfile_buildpack": "staticfile",
    "python_buildpack": "python",
    "nodejs_buildpack": "nodejs",
    "binary_buildpack": "binary",
}
SYSTEM = tuple(_DIRECTORIES)
"""Names in the order of detection."""
_SHARED = (_HERE / "common/steps.py", _HERE / "common/yaml_subset.py")
"""Put beside the modules in lib, so that each buildpack is whole."""


def directory(name: str) -> Path:
    """Where the buildpack `name` is. Raises KeyError for another name."""
    return _HERE / _DIRECTORIES[name]


def pack(name: str) -> bytes:
    """The buildpack as a zip file, the same bytes for the same content. Raises KeyError."""
    root = directory(name)
    files = {
        path.relative_to(root).as_posix(): path
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    if (root / "lib").is_dir():
        files.update({f"lib/{path.name}": path for path in _SHARED})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, path in sorted(files.items()):
            entry = zipfile.ZipInfo(inside, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            # An installed wheel does not keep modes.
            entry.external_attr = (0o100755 if inside.startswith("bin/") else 0o100644) << 16
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()
