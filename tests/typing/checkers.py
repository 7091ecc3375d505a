"""The type checkers: how each is started on a folder of programs, and how it writes a message."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from tests.typing.installed import CACHE, PROGRAMS, Installation

Place: TypeAlias = tuple[str, int]
"""A program's file name and a line in it."""

MYPY_MESSAGE = r"^(?P<path>[^:\n]+):(?P<line>\d+): error: (?P<message>.*)$"


@dataclass(frozen=True)
class Checker:
    """A type checker as a program.

    Args:
        name: of the program.
        options: with `{python}` for the interpreter, `{environment}` for its environment,
            and `{cache}` for a folder that is kept.
        message: a pattern with the groups path, line and message.
        loads_plugin: whether it imports the installed modula.
    """

    name: str
    options: tuple[str, ...]
    message: str
    loads_plugin: bool = False

    @property
    def program(self) -> str:
        """The path of the program, in the running interpreter's environment if it is there.

        Raises:
            FileNotFoundError: it is not installed.
        """
        found = shutil.which(self.name, path=sysconfig.get_path("scripts"))
        found = found or shutil.which(self.name)
        if found is None:
            raise FileNotFoundError(
                f"{self.name} is not installed: pip install --constraint constraints.txt "
                "--editable '.[dev,checkers]'"
            )
        return found

    def version(self) -> str:
        """Return the checker's name and version."""
        output = subprocess.run(
            [self.program, "--version"], capture_output=True, text=True, check=True
        ).stdout
        version = re.search(r"\d+(\.\d+)+", output)
        return f"{self.name} {version[0] if version else output.strip()}"

    def command(self, installation: Installation) -> list[str]:
        """Return the command that checks the programs of an installation."""
        filled = {
            "python": str(installation.python),
            "environment": str(installation.environment),
            "cache": str(CACHE),
        }
        return [self.program, *(option.format(**filled) for option in self.options)]

    def errors(self, installation: Installation) -> dict[Place, str]:
        """Return the messages for each line of the programs that the checker rejects.

        Raises:
            RuntimeError: the checker did not run.
        """
        for_plugin = {"PYTHONPATH": str(installation.site_packages)}
        output = subprocess.run(
            self.command(installation),
            cwd=installation.folder,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | (for_plugin if self.loads_plugin else {}),
        )
        if output.returncode not in (0, 1):
            raise RuntimeError(f"{self.name} did not run:\n{output.stdout}{output.stderr}")
        found: dict[Place, str] = {}
        for match in re.finditer(self.message, output.stdout, re.MULTILINE):
            path = Path(match["path"])
            # A line of modula itself keeps its whole path.
            name = path.name if path.parent.name == PROGRAMS else str(path)
            place = name, int(match["line"])
            before = f"{found[place]}\n" if place in found else f"{self.name}: "
            found[place] = before + match["message"]
        return found


CHECKERS = {
    checker.name: checker
    for checker in (
        Checker(
            "mypy",
            (
                "--strict",
                "--warn-unreachable",
                "--disallow-any-expr",
                "--python-version=3.11",
                "--python-executable={python}",
                "--cache-dir={cache}",
                "--config-file=mypy.ini",
                "--no-error-summary",
                PROGRAMS,
            ),
            MYPY_MESSAGE,
        ),
        Checker(
            "pyright",
            ("--pythonpath={python}", "--project=pyrightconfig.json"),
            r"^\s+(?P<path>/[^:\n]+):(?P<line>\d+):\d+ - error: (?P<message>.*)$",
        ),
        Checker(
            "pyrefly",
            (
                "check",
                "--config=pyrefly.toml",
                "--python-interpreter-path={python}",
                "--output-format=min-text",
                PROGRAMS,
            ),
            r"^ERROR (?P<path>[^:\n]+):(?P<line>\d+):\S+ (?P<message>.*)$",
        ),
        Checker(
            "ty",
            (
                "check",
                "--python={environment}",
                "--python-version=3.11",
                "--output-format=concise",
                PROGRAMS,
            ),
            r"^(?P<path>[^:\n]+):(?P<line>\d+):\d+: error\S* (?P<message>.*)$",
        ),
        Checker(
            "zuban",
            ("check", "--python-version=3.11", "--python-executable={python}", PROGRAMS),
            MYPY_MESSAGE,
        ),
    )
}
WITH_PLUGIN = replace(
    CHECKERS["mypy"],
    options=tuple(
        [option.replace("mypy.ini", "plugin.ini") for option in CHECKERS["mypy"].options]
    ),
    loads_plugin=True,
)
"""mypy with `modula.mypy`."""

DEVELOPED_WITH = ("mypy", "pyright", "pyrefly")
"""Those that `make check` runs."""
