"""An environment in which modula is installed as a user has it: from its wheel.

Checkers treat an installed package otherwise than the sources beside a program: they read its
`py.typed`, and report no error inside it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".mypy_cache" / "corpus"
"""Where mypy keeps what it knows of torch from run to run."""
SETTINGS = Path(__file__).parent / "settings"
PROGRAMS = "programs"
"""The folder of an installation that holds the programs to check."""


@dataclass(frozen=True)
class Installation:
    """A folder with an environment, copies of the programs to check, and checkers' settings."""

    folder: Path

    @classmethod
    def make(cls, package: Path, programs: Path, folder: Path) -> Installation:
        """Install a package beside the packages of the running interpreter.

        Args:
            package: the folder `modula`, from a wheel or from the sources.
            programs: the folder of the programs to check.
            folder: an empty one for the environment, outside of what git ignores, where some
                checkers do not look.
        """
        made = cls(folder)
        venv.create(made.environment, symlinks=True)
        _copy(package, made.site_packages / "modula")
        # A path file adds the folder alone: path files inside it, as that of an editable modula,
        # do not count.
        (made.site_packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        _copy(programs, folder / PROGRAMS)
        for path in SETTINGS.iterdir():
            shutil.copy(path, folder)
        return made

    @property
    def environment(self) -> Path:
        return self.folder / "environment"

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.environment / "lib" / version / "site-packages"


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


def wheel(folder: Path) -> Path:
    """Build the wheel, unpack it into `folder`, and return the package that it holds."""
    with tempfile.TemporaryDirectory() as built:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        subprocess.run([*command, f"--wheel-dir={built}", str(ROOT)], check=True)
        (archive,) = Path(built).glob("*.whl")
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
    return folder / "modula"
