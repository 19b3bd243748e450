"""The command line itself, without a platform."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cupola.cli.commands import cupola
from tests.cli.conftest import ROOT, environment, free_port


def run(*words: str, status: int = 0) -> str:
    done = CliRunner().invoke(cupola, list(words))
    assert done.exit_code == status, done.output
    return done.output


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, cupola.cli.commands as c; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"rich", "aiohttp", "msgspec", "asyncio", "psutil", "yaml", "sqlalchemy", "starlette"}


def test_help_lists_every_command() -> None:
    text = run("--help")
    for name in ("up", "down", "status", "doctor", "logs", "login-info", "push"):
        assert f"\n  {name} " in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("up", "--set", "nonsense"), "--set takes NAME=VALUE, not 'nonsense'"),
        (("up", "--set", "platform.prot=1"), "invalid setting: Object contains unknown field `prot`"),
        (("up", "--port", "0"), "0 is not in the range 1<=x<=65535"),
        (("up", "--listen", "0.0.0.0"), "would offer plain HTTP to the network"),
        (("push", "--var", "x"), "--var takes NAME=VALUE"),
    ],
)
def test_wrong_words_are_explained(tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    text = CliRunner().invoke(cupola, ["--data-dir", str(tmp_path / "d"), *words])
    assert text.exit_code in {1, 2}
    assert expected in " ".join(text.output.split())


def test_a_settings_file_that_is_wrong_is_named(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[platform]\nport = [1]\n")
    assert "invalid setting" in run("up", "--config", str(file), "--data-dir", str(tmp_path / "d"), status=1)


def test_without_a_platform_commands_say_so(tmp_path: Path) -> None:
    nowhere = ("--data-dir", str(tmp_path / "none"))
    assert json.loads(run("status", "--json", *nowhere, status=3))["problem"] == "there is no platform here"
    assert "There is no platform in" in run("down", *nowhere)
    for words in (("login-info",), ("logs",), ("push", str(ROOT / "samples/static"))):
        assert "there is no platform in" in run(*words, *nowhere, status=1)
    assert not (tmp_path / "none").exists()


def test_the_directory_may_be_named_before_the_command_or_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert str(tmp_path / "x") in run("--data-dir", str(tmp_path / "x"), "down")
    monkeypatch.setenv("CUPOLA_DATA_DIR", str(tmp_path / "y"))
    assert str(tmp_path / "y") in run("down")


def test_doctor_leaves_no_trace(tmp_path: Path) -> None:
    place = tmp_path / "new" / "data"
    found = json.loads(run("doctor", "--json", "--data-dir", str(place), status=0))
    assert {one["section"] for one in found} == {
        "Machine",
        "Addresses",
        "Isolation of apps",
        "Runtimes for apps",
        "Services",
    }
    assert all(one["remedy"] for one in found if one["state"] != "good" and one["name"] not in {"mode", "root"})
    assert not list(tmp_path.iterdir())


def test_doctor_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPOLA_PLATFORM_PORT", str(free_port()))
    text = run("doctor", "--data-dir", str(tmp_path))
    assert "Isolation of apps" in text
    assert "The platform can run here" in text or "Everything is there." in text
