"""What `pip install` brings: everything that the package reads at run time."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import cupola

ROOT = Path(__file__).parents[2]
NOT_SHIPPED = {"__pycache__"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = directory.glob("*.whl")
    return zipfile.ZipFile(file)


def test_every_file_of_the_package_is_in_it(wheel: zipfile.ZipFile) -> None:
    """Migrations, buildpacks with their programs, templates of pages: whatever lies in the package."""
    here = Path(cupola.__file__).parent
    files = {
        str(file.relative_to(here.parent))
        for file in here.rglob("*")
        if file.is_file() and not NOT_SHIPPED & set(file.parts)
    }
    shipped = {name for name in wheel.namelist() if name.startswith("cupola/")}
    assert sorted(files - shipped) == []
    assert sorted(shipped - files) == []
    assert "cupola/store/migrations/versions/0001_initial.py" in shipped


def test_programs_stay_programs(wheel: zipfile.ZipFile) -> None:
    """What may be executed here may be executed there."""
    here = Path(cupola.__file__).parent.parent
    modes = {entry.filename: entry.external_attr >> 16 & 0o111 for entry in wheel.infolist()}
    lost = [
        name
        for name, mode in modes.items()
        if name.startswith("cupola/") and (here / name).stat().st_mode & 0o100 and not mode
    ]
    assert lost == []


def test_licence_and_commands(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    (licence,) = [name for name in names if name.endswith("LICENSE")]
    assert "Apache License" in wheel.read(licence).decode()
    (commands,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "cupola = cupola.cli:main" in wheel.read(commands).decode()
    (metadata,) = [name for name in names if name.endswith("METADATA")]
    assert f"Version: {cupola.__version__}" in wheel.read(metadata).decode()
