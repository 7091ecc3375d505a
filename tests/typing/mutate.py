"""Widen each overload of the algebra to Any, one at a time, and report which the corpus catches.

    python -m tests.typing.mutate [--only NAME] [--first NUMBER] [--checkers NAME …]

The overloads are those of modula/algebra/operators.pyi. Each is widened in up to three ways: its
operands, its self type where it names one, its result. (An operand of any object is as wide as Any
already.) A mutant is caught if one of the checkers then disagrees with a mark or a pinned type of
some program. The mutants that nothing catches are listed at the end, and fail the command. The
whole takes about a quarter of an hour; `--first` goes on with a run that ended early.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.typing import corpus
from tests.typing.checkers import CHECKERS, DEVELOPED_WITH
from tests.typing.installed import ROOT, Installation

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
        "operands": [
            note for name, note in annotated if name != "self" and ast.unparse(note) != "object"
        ],
        "self": [note for name, note in annotated if name == "self"],
        "result": [node.returns] if node.returns and node.name != "__init__" else [],
    }
    if any("Never" in ast.unparse(note) for note in parts["operands"]):
        parts["result"] = []  # no operand matches, so nothing has the result
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
    """An installation of the project's sources, in which mutants are checked.

    Args:
        folder: an empty one, for the installation.
        checkers: the names of those that look for the mutants.
    """

    def __init__(self, folder: Path, checkers: Iterable[str] = DEVELOPED_WITH) -> None:
        self._installation = Installation.make(ROOT / "modula", corpus.PROGRAMS, folder)
        self._checkers = tuple(checkers)
        self._target = self._installation.site_packages / TARGET
        self.source = self._target.read_text(encoding="utf-8")

    def catch(self, mutant: Mutant) -> str | None:
        """Return the first disagreement that the mutant causes, or None."""
        self._target.write_text(mutant.apply(self.source), encoding="utf-8")
        try:
            return self._first_disagreement()
        finally:
            self._target.write_text(self.source, encoding="utf-8")

    def _first_disagreement(self) -> str | None:
        read = corpus.programs()
        for name in self._checkers:
            result = corpus.judge(CHECKERS[name], self._installation, read)
            for line in result.unexpected(read):
                return line
        return None


def escaped(laboratory: Laboratory, chosen: Sequence[Mutant], first: int) -> list[Mutant]:
    """Return the mutants that nothing catches, and print what catches each of the others.

    Args:
        laboratory: where to check them.
        chosen: all of them.
        first: the number of the one to begin with.
    """
    missed = []
    for number, mutant in enumerate(chosen[first - 1 :], first):
        caught = laboratory.catch(mutant)
        print(f"[{number}/{len(chosen)}] {mutant}\n    {caught or 'NOT CAUGHT'}", flush=True)
        if caught is None:
            missed.append(mutant)
    return missed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", default="", help="take only overloads whose class and name contain this"
    )
    parser.add_argument(
        "--first",
        type=int,
        default=1,
        metavar="NUMBER",
        help="of the mutant to begin with (default %(default)s)",
    )
    parser.add_argument(
        "--checkers",
        nargs="+",
        choices=CHECKERS,
        default=list(DEVELOPED_WITH),
        help="that look for the mutants, in this order (default %(default)s)",
    )
    return parser


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    only: str = options.only
    first: int = options.first
    with tempfile.TemporaryDirectory() as folder:
        laboratory = Laboratory(Path(folder), options.checkers)
        chosen = [
            mutant
            for mutant in mutants(laboratory.source)
            if only in f"{mutant.owner}.{mutant.signature}"
        ]
        if not chosen:
            parser.error(f"--only {only}: no class and name of an overload contain this")
        if not 1 <= first <= len(chosen):
            parser.error(f"--first {first}: there are mutants 1 to {len(chosen)}")
        missed = escaped(laboratory, chosen, first)
    tried = len(chosen) - first + 1
    print(
        f"mutants {first} to {len(chosen)} of the overloads in {TARGET}: "
        f"{tried - len(missed)} of {tried} caught"
    )
    print("\n".join(f"  not caught: {mutant}" for mutant in missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
