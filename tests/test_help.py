"""`--help` of every script: it shows the defaults, and neither trains nor writes."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def is_command(path: Path) -> bool:
    """Whether a file is run as a script."""
    return 'if __name__ == "__main__":' in path.read_text()


SCRIPTS = sorted(path for path in (ROOT / "examples").rglob("*.py") if is_command(path))
MODULES = [
    "modula",
    "tests.hostile",
    "benchmarks.lift_zoo",
    *sorted(f"benchmarks.{p.stem}" for p in (ROOT / "benchmarks").glob("*.py") if is_command(p)),
]
COMMANDS = [*(str(path.relative_to(ROOT)) for path in SCRIPTS), *MODULES]


def run(command: str) -> None:
    """Run a script or a module as Python does, in this process."""
    if command.endswith(".py"):
        runpy.run_path(str(ROOT / command), run_name="__main__")
    else:
        runpy.run_module(command, run_name="__main__", alter_sys=True)


@pytest.fixture
def parsers(monkeypatch: pytest.MonkeyPatch) -> list[argparse.ArgumentParser]:
    """The parsers that are made meanwhile."""
    made: list[argparse.ArgumentParser] = []
    initialize = argparse.ArgumentParser.__init__

    def noting(self: argparse.ArgumentParser, *arguments: object, **options: object) -> None:
        initialize(self, *arguments, **options)  # type: ignore[arg-type]  # passed on as they come
        made.append(self)

    monkeypatch.setattr(argparse.ArgumentParser, "__init__", noting)
    return made


@pytest.mark.filterwarnings("ignore::RuntimeWarning:runpy")
@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_default_and_does_nothing(
    command: str,
    parsers: list[argparse.ArgumentParser],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = [str((ROOT / command).parent), *sys.path] if command.endswith(".py") else [*sys.path]
    monkeypatch.setattr(sys, "path", path)
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(command)
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("usage:")
    assert not list(tmp_path.iterdir())
    for action in parsers[-1]._actions:
        assert action.help, f"{command}: {action.option_strings} has no help"
        is_flag = action.nargs == 0 or action.default in (None, [], "")
        assert is_flag or "default" in action.help, (
            f"{command}: the help of {action.option_strings} does not say its default"
        )
