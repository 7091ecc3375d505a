"""Check programs, line by line, against type checkers and the interpreter.

    python -m tests.typing.corpus [--all] [--write docs/guides/type-errors.md]

Checkers must reject a line that ends in `# E: reason`, and it must raise when it is run; every
other line must pass all of them. `# E static: …` marks a line that only the checkers reject (Python
does not read annotations), `# E run: …` one that only the interpreter rejects (widths).
docs/guides/type-errors.md lists these exceptions with their reasons. Types are pinned by
`assert_type`, which a checker fails if the type has degraded to Any.

modula is installed from its wheel, as a user has it. The verdicts that differ are listed, with
their reasons, in tests/typing/accepted.py; any other difference fails the command.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from tests.typing.accepted import ACCEPTED, Kind, accepted
from tests.typing.checkers import CHECKERS, DEVELOPED_WITH, Checker, Place
from tests.typing.installed import ROOT, Installation, wheel
from tests.typing.messages import message_list
from tests.typing.tables import write_table

Verdict: TypeAlias = Literal["both", "static", "run"]

PROGRAMS = ROOT / "tests" / "typing" / "programs"
MARK = re.compile(r"#\s*E(?P<only> static| run)?: (?P<reason>\S.*)$")


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
        marks: dict[int, Verdict] = {line: _verdict(mark["only"]) for line, mark in found if mark}
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

    def statement_at(self, line: int) -> str:
        """Return the innermost statement that holds a line, without its comments."""
        around = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or line)
        ]
        innermost = max(around, key=lambda node: (node.lineno, -(node.end_lineno or 0)))
        return ast.unparse(innermost)


def _verdict(only: str | None) -> Verdict:
    return "static" if only == " static" else "run" if only == " run" else "both"


def programs(folder: Path = PROGRAMS) -> list[Program]:
    return [
        Program.read(path) for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"
    ]


@dataclass(frozen=True)
class Result:
    """How the verdicts of one checker differ from the marks."""

    checker: str
    missed: tuple[Place, ...]
    false: dict[Place, str]
    """The lines that it rejects and that are not marked, with its messages."""

    messages: Mapping[Place, str] = field(default_factory=dict)
    """Of all lines that it rejects."""

    def differences(self) -> Iterator[str]:
        """Yield all differences."""
        for name, line in self.missed:
            yield f"{name}:{line}: marked as wrong, but {self.checker} accepts it"
        for (name, line), message in self.false.items():
            yield f"{name}:{line}: not marked as wrong, but {message}"

    def unexpected(self, read: Iterable[Program]) -> Iterator[str]:
        """Yield the differences that are not listed as accepted, and what is listed in vain."""
        by_name = {program.path.name: program for program in read}
        places: dict[Kind, Iterable[Place]] = {"missed": self.missed, "false": self.false}
        for kind, found in places.items():
            listed = set(accepted(self.checker, kind))
            seen = set()
            for name, line in found:
                program = by_name.get(name)
                statement = name, program.statement_at(line) if program else ""
                seen.add(statement)
                if statement not in listed:
                    message = self.false.get((name, line), f"{self.checker} accepts it")
                    mark = "marked as wrong" if kind == "missed" else "not marked as wrong"
                    yield f"{name}:{line}: {mark}, but {message}"
            for name, code in sorted(listed - seen):
                yield f"{name}: listed as {kind} by {self.checker}, but is not: {code}"

    def __str__(self) -> str:
        return f"{len(self.missed)} missed, {len(self.false)} false"


def judge(checker: Checker, installation: Installation, read: Iterable[Program]) -> Result:
    """Run one checker on the programs of an installation."""
    expected = {place for program in read for place in program.rejected_by("static")}
    found = checker.errors(installation)
    false = {place: message for place, message in found.items() if place not in expected}
    return Result(checker.name, tuple(sorted(expected - set(found))), false, found)


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


def check_run(read: Iterable[Program]) -> list[str]:
    """Return all differences between the marks and the interpreter."""
    return [
        line
        for program in read
        for line in differences(program.rejected_by("run"), run(program), "the interpreter")
    ]


def summary(read: Iterable[Program]) -> str:
    """Return the counts of the corpus."""
    every = list(read)
    verdicts = [verdict for program in every for verdict in program.marks.values()]
    static, at_run = len(verdicts) - verdicts.count("run"), len(verdicts) - verdicts.count("static")
    return (
        f"{len(every)} programs: {sum(program.pins for program in every)} pinned types; {static} "
        f"lines that checkers must reject, {at_run} that the interpreter must, "
        f"{verdicts.count('both')} of them both"
    )


def table(results: Iterable[tuple[str, Result]]) -> list[str]:
    """Return the verdicts in Markdown, with the reason for each difference.

    Args:
        results: with the version of each checker.
    """
    rows = ["| checker | wrong lines missed | right lines rejected | why |", "|---|---|---|---|"]
    for version, result in results:
        reasons = [
            f"{len(group.lines)} {group.kind}: {group.reason}".replace("|", "\\|")
            for group in ACCEPTED
            if group.checker == result.checker
        ]
        rows.append(
            f"| {version} | {len(result.missed)} | {len(result.false)} | {'; '.join(reasons)} |"
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="run all five checkers, not three")
    parser.add_argument("--write", type=Path, help="write the tables of all five into this page")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    read = programs()
    names = CHECKERS if options.all or options.write else DEVELOPED_WITH
    failures: list[str] = []
    results: list[tuple[str, Result]] = []
    with tempfile.TemporaryDirectory() as folder:
        package = wheel(Path(folder, "wheel"))
        installation = Installation.make(package, PROGRAMS, Path(folder, "installed"))
        for name in names:
            result = judge(CHECKERS[name], installation, read)
            failures += result.unexpected(read)
            results.append((CHECKERS[name].version(), result))
            print(f"{results[-1][0]:15} {result}", flush=True)
    failures += check_run(read)
    if options.write:
        write_table(options.write, "verdicts", table(results))
        places = {
            (program.path.name, program.statement_at(line)): (program.path.name, line)
            for program in read
            for line in program.marks
        }
        columns = [(result.checker, result.messages) for _, result in results]
        write_table(options.write, "messages", message_list(places, columns))
    print("\n".join([*failures, f"{summary(read)}; {len(failures)} unexpected differences"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
