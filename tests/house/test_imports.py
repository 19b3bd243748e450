"""What the processes of the data plane load, and that the layers of the house hold."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cupola

ROOT = Path(__file__).parents[2]
HEAVY = ("sqlalchemy", "alembic", "psycopg", "starlette", "uvicorn", "cupola.store", "cupola.domain", "cupola.api")


def loaded_by(*modules: str) -> set[str]:
    """Every module that is in memory after importing these, in an interpreter of their own."""
    names = "import " + ", ".join(modules) + "; import sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", names], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "modules",
    [("cupola.processes.router",), ("cupola.processes.cell",), ("cupola.runtime.local.spawner",)],
    ids=lambda modules: modules[0],
)
def test_the_data_plane_loads_no_database(modules: tuple[str, ...]) -> None:
    found = {name for name in loaded_by(*modules) if name.startswith(HEAVY)}
    assert found == set()


def test_the_rules_load_no_web_framework() -> None:
    rules = sorted(
        f"cupola.domain.{file.stem}" for file in (ROOT / "cupola/domain").glob("*.py") if file.stem != "__init__"
    )
    found = {
        name for name in loaded_by(*rules) if name.startswith(("starlette", "uvicorn", "cupola.rest", "cupola.api"))
    }
    assert found == set()


def test_layers() -> None:
    # Not in this process: it would switch off every logger that other tests listen to.
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_package_has_its_place() -> None:
    """import-linter's layers are exhaustive; this says so for whoever turns that off."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(one for one in settings["contracts"] if one["type"] == "layers")
    placed = {name.strip(" ()") for layer in layers["layers"] for name in layer.replace("|", ":").split(":")}
    here = Path(cupola.__file__).parent
    packages = {path.name for path in here.iterdir() if (path / "__init__.py").exists()}
    modules = {path.stem for path in here.glob("*.py") if path.stem != "__init__"}
    assert layers["exhaustive"]
    assert packages | modules <= placed


def test_no_file_is_too_long() -> None:
    """What cannot be read in one sitting is cut; migrations are written by a script."""
    long = {
        str(file.relative_to(ROOT)): lines
        for folder in ("cupola", "tests", "benchmarks", "scripts")
        for file in (ROOT / folder).rglob("*.py")
        if "migrations" not in file.parts and (lines := len(file.read_text().splitlines())) > 600
    }
    assert long == {}


def test_no_module_is_a_drawer() -> None:
    """A module named for everything has no subject."""
    drawers = {"utils", "util", "helpers", "common", "misc", "base"}
    assert [str(file) for file in (ROOT / "cupola").rglob("*.py") if file.stem in drawers] == []


def test_what_is_let_pass_has_a_reason() -> None:
    """`noqa` and `type: ignore` are followed by a reason in words."""
    bare = []
    for folder in ("cupola", "tests", "benchmarks", "scripts"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                for mark in ("# noqa" + ": ", "# type" + ": ignore["):
                    rest = line.partition(mark)[2]
                    if rest and "#" not in rest and " - " not in rest and not in_text(file, number):
                        bare.append(f"{file.relative_to(ROOT)}:{number}")
    assert "\n".join(bare) == ""


def in_text(file: Path, number: int) -> bool:
    """Whether the line belongs to a string."""
    for node in ast.walk(ast.parse(file.read_text())):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.lineno <= number <= (node.end_lineno or 0)
        ):
            return node.end_lineno != node.lineno
    return False
