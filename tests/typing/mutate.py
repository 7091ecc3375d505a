"""Widen each overload of the algebra to Any, one at a time, and report which the corpus catches.

    python -m tests.typing.mutate [--only NAME]

The overloads are those of modula/algebra/operators.pyi. Each is widened in up to three ways: its
operands, its self type where it names one, its result. A mutant is caught if one of the two
checkers then disagrees with a mark or a pinned type of some program. The mutants that nothing
catches are listed at the end, and fail the command. The whole takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import ast
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.typing import corpus

TARGET = Path("modula/algebra/operators.pyi")


@dataclass(frozen=True)
class Mutant:
    """One overload with some of its annotations replaced by Any."""

    owner: str
    line: int
    signature: str
    part: str
    spans: tuple[tuple[int, int, int, int], ...]
    """The annotations to replace: first line, first column in bytes, last line, last column."""

    def apply(self, source: str) -> str:
        """Return the source with these annotations replaced. The import goes last, which a stub
        allows, so that lines keep their numbers.
        """
        lines = source.encode().splitlines(keepends=True)
        for first, start, last, end in sorted(self.spans, reverse=True):
            text = b"".join(lines[first - 1 : last])
            tail = len(lines[last - 1]) - end
            lines[first - 1 : last] = [text[:start] + b"typing.Any" + text[len(text) - tail :]]
        return b"".join(lines).decode() + "import typing\n"

    def __str__(self) -> str:
        return f"{self.owner}.{self.signature}, {self.part} (line {self.line})"


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every way in which an overload of `source` can be widened."""
    for owner in ast.walk(ast.parse(source)):
        if not isinstance(owner, ast.ClassDef):
            continue
        for node in ast.walk(owner):
            if isinstance(node, ast.FunctionDef) and any(
                isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list
            ):
                yield from _widenings(owner.name, node)


def _widenings(owner: str, node: ast.FunctionDef) -> Iterator[Mutant]:
    arguments = [
        *node.args.posonlyargs,
        *node.args.args,
        *([node.args.vararg] if node.args.vararg else []),
    ]
    annotated = [
        (argument.arg, argument.annotation) for argument in arguments if argument.annotation
    ]
    parts = {
        "operands": [note for name, note in annotated if name != "self"],
        "self": [note for name, note in annotated if name == "self"],
        "result": [node.returns] if node.returns and node.name != "__init__" else [],
    }
    if node.name == "__call__":
        parts["operands"] = []  # they are Value in every overload, and do not choose among them
    written = ", ".join(f"{name}: {ast.unparse(note)}" for name, note in annotated)
    for part, notes in parts.items():
        spans = tuple(
            (note.lineno, note.col_offset, note.end_lineno or 0, note.end_col_offset or 0)
            for note in notes
        )
        if spans:
            yield Mutant(owner, node.lineno, f"{node.name}({written})", part, spans)


class Laboratory:
    """A copy of the project's sources in a temporary folder, in which mutants are checked."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        for part in ("modula", "tests/typing"):
            shutil.copytree(
                corpus.ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        (folder / "tests/__init__.py").touch()
        if corpus.CACHE.exists():  # so that mypy need not analyse torch anew
            shutil.copytree(corpus.CACHE, folder / corpus.CACHE.relative_to(corpus.ROOT))
        self.source = (folder / TARGET).read_text(encoding="utf-8")

    def catch(self, mutant: Mutant) -> str | None:
        """Return the first disagreement that the mutant causes, or None."""
        (self.root / TARGET).write_text(mutant.apply(self.source), encoding="utf-8")
        try:
            return self._first_disagreement()
        finally:
            (self.root / TARGET).write_text(self.source, encoding="utf-8")

    def _first_disagreement(self) -> str | None:
        expected = {
            place
            for program in corpus.programs(self.root)
            for place in program.rejected_by("static")
        }
        names = {program.path.name for program in corpus.programs(self.root)}
        for judge, look in (("mypy", corpus.mypy_errors), ("pyright", corpus.pyright_errors)):
            found = {
                place: message for place, message in look(self.root).items() if place[0] in names
            }
            for line in corpus.differences(expected, found, judge):
                return line
        return None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", default="", help="take only overloads whose class and name contain this"
    )
    only: str = parser.parse_args().only
    with tempfile.TemporaryDirectory() as folder:
        laboratory = Laboratory(Path(folder))
        chosen = [
            mutant
            for mutant in mutants(laboratory.source)
            if only in f"{mutant.owner}.{mutant.signature}"
        ]
        escaped = []
        for number, mutant in enumerate(chosen, 1):
            caught = laboratory.catch(mutant)
            print(f"[{number}/{len(chosen)}] {mutant}\n    {caught or 'NOT CAUGHT'}", flush=True)
            if caught is None:
                escaped.append(mutant)
    print(
        f"{len(chosen)} mutants of the overloads in {TARGET}: {len(chosen) - len(escaped)} caught, "
        f"{len(escaped)} not"
    )
    print("\n".join(f"  not caught: {mutant}" for mutant in escaped))
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
