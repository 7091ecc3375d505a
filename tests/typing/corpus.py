"""Check programs, line by line, against mypy, pyright and the interpreter.

    python -m tests.typing.corpus

Both checkers must reject a line that ends in `# E: reason`, and it must raise when it is run; every
other line must pass all three. `# E static: …` marks a line that only the checkers reject (Python
does not read annotations), `# E run: …` one that only the interpreter rejects (widths).
docs/type-errors.md lists these exceptions with their reasons. Types are pinned by `assert_type`,
which both checkers fail if the type has degraded to Any.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["both", "static", "run"]
Place: TypeAlias = tuple[str, int]
"""A program's file name and a line in it."""

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".mypy_cache" / "corpus"
PROGRAMS = Path("tests/typing/programs")
MARK = re.compile(r"#\s*E(?P<only> static| run)?: (?P<reason>\S.*)$")

MYPY = [
    "--strict",
    "--warn-unreachable",
    "--disallow-any-expr",
    "--python-version=3.11",
    "--config-file=",
    "--no-error-summary",
]


@dataclass(frozen=True)
class Program:
    """One file of the corpus: its statements, and the verdict that each marked line must have."""

    path: Path
    tree: ast.Module
    marks: dict[int, Verdict]
    pins: int

    @classmethod
    def read(cls, path: Path) -> Program:
        text = path.read_text(encoding="utf-8")
        found = ((line, MARK.search(content)) for line, content in enumerate(text.splitlines(), 1))
        marks = {line: _verdict(mark["only"]) for line, mark in found if mark}
        calls = [
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        return cls(
            path,
            ast.parse(text, str(path)),
            marks,
            sum(getattr(call.func, "id", "") == "assert_type" for call in calls),
        )

    def rejected_by(self, judge: Literal["static", "run"]) -> set[Place]:
        return {
            (self.path.name, line)
            for line, verdict in self.marks.items()
            if verdict in ("both", judge)
        }


def _verdict(only: str | None) -> Verdict:
    return "static" if only == " static" else "run" if only == " run" else "both"


def programs(root: Path = ROOT) -> list[Program]:
    return [
        Program.read(path)
        for path in sorted((root / PROGRAMS).glob("*.py"))
        if path.name != "__init__.py"
    ]


def mypy_errors(root: Path = ROOT) -> dict[Place, str]:
    """Return the first message of mypy for each line that it rejects."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        *MYPY,
        f"--cache-dir={root / CACHE.relative_to(ROOT)}",
        str(PROGRAMS),
    ]
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if output.returncode not in (0, 1):
        raise RuntimeError(f"mypy did not run:\n{output.stdout}{output.stderr}")
    found: dict[Place, str] = {}
    for path, line, message in re.findall(
        r"^([^:\n]+):(\d+): error: (.*)$", output.stdout, re.MULTILINE
    ):
        found.setdefault(_place(path, int(line)), f"mypy: {message}")
    return found


def pyright_errors(root: Path = ROOT) -> dict[Place, str]:
    """Return the first message of pyright for each line that it rejects."""
    command = [
        sys.executable,
        "-m",
        "pyright",
        "--outputjson",
        f"--pythonpath={sys.executable}",
        f"--project={PROGRAMS.parent}",
    ]
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if output.returncode not in (0, 1):
        raise RuntimeError(f"pyright did not run:\n{output.stdout}{output.stderr}")
    found: dict[Place, str] = {}
    for entry in json.loads(output.stdout)["generalDiagnostics"]:
        if entry["severity"] == "error":
            message = entry["message"].splitlines()[0]
            found.setdefault(
                _place(entry["file"], entry["range"]["start"]["line"] + 1), f"pyright: {message}"
            )
    return found


def _place(path: str, line: int) -> Place:
    """The line of a message. A line of modula itself keeps its whole path."""
    return (Path(path).name if Path(path).parent.name == "programs" else path), line


def run(program: Program) -> dict[Place, str]:
    """Execute a program statement by statement, and return the exception of each line."""
    raised: dict[Place, str] = {}
    namespace: dict[str, object] = {"__name__": f"corpus_{program.path.stem}"}
    sys.modules[f"corpus_{program.path.stem}"] = type(sys)(f"corpus_{program.path.stem}")
    for statement in program.tree.body:
        code = compile(ast.Module([statement], []), str(program.path), "exec")
        try:
            exec(code, namespace)
        except Exception as error:
            raised[program.path.name, statement.lineno] = f"run: {type(error).__name__}: {error}"
    return raised


def differences(expected: set[Place], found: dict[Place, str], judge: str) -> Iterator[str]:
    """Yield the marked lines that a judge accepts, and the others that it rejects."""
    for name, line in sorted(expected - set(found)):
        yield f"{name}:{line}: marked as wrong, but {judge} accepts it"
    for name, line in sorted(set(found) - expected):
        yield f"{name}:{line}: not marked as wrong, but {found[name, line]}"


def check_static(root: Path = ROOT) -> list[str]:
    """Return all differences between the marks and the two checkers."""
    expected = {place for program in programs(root) for place in program.rejected_by("static")}
    return [
        *differences(expected, mypy_errors(root), "mypy"),
        *differences(expected, pyright_errors(root), "pyright"),
    ]


def check_run(root: Path = ROOT) -> list[str]:
    """Return all differences between the marks and the interpreter."""
    return [
        line
        for program in programs(root)
        for line in differences(program.rejected_by("run"), run(program), "the interpreter")
    ]


def summary() -> str:
    """Return the counts of the corpus."""
    every = programs()
    verdicts = [verdict for program in every for verdict in program.marks.values()]
    static, at_run = len(verdicts) - verdicts.count("run"), len(verdicts) - verdicts.count("static")
    return (
        f"{len(every)} programs: {sum(program.pins for program in every)} pinned types; {static} "
        f"lines rejected by mypy and by pyright, {at_run} by the interpreter, "
        f"{verdicts.count('both')} of them by all three"
    )


def main() -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = [*check_static(), *check_run()]
    print("\n".join([*found, f"type corpus: {summary()}; {len(found)} disagreements"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
