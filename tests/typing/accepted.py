"""The verdicts of checkers that differ from the corpus, each with its reason.

`python -m tests.typing.corpus` fails if a verdict differs that is not listed here, and if one that
is listed here differs no longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["missed", "false"]


@dataclass(frozen=True)
class Accepted:
    """Lines on which one checker errs for one reason.

    Args:
        checker: its name.
        kind: "missed" for wrong lines that it accepts, "false" for right ones that it rejects.
        reason: what the checker does, as a sentence without its end.
        lines: the file and the statement, as `ast.unparse` writes it.
        always: whether it errs in every run. Zuban's result depends on the order in which its
            threads come to the programs.
    """

    checker: str
    kind: Kind
    reason: str
    lines: tuple[tuple[str, str], ...]
    always: bool = True


ACCEPTED: tuple[Accepted, ...] = (
    Accepted(
        "pyrefly",
        "missed",
        "for operands that ask for different spaces it infers their union, as in "
        "`Module[Linf | RMS, RMS]`, which neither an annotation nor a further module accepts",
        (
            ("tuples.py", "Add() @ (e(), Identity())"),
            ("tuples.py", "Take2() @ (Identity(), Identity())"),
            ("tuples.py", "Take2() @ (ReLU(), ReLU())"),
            ("tuples.py", "Take2() @ (a(), Identity())"),
        ),
    ),
    Accepted(
        "ty",
        "missed",
        "it does not call the descriptor by which `**` asks whether domain and codomain agree",
        (
            ("algebra.py", "Embed(4, 4) ** 2"),
            ("algebra.py", "(Linear(4, 4) @ Embed(4, 4)) ** 2"),
            ("algebra.py", "e() ** 2"),
            ("algebra.py", "Embed(4, 4) ** 0"),
            ("algebra.py", "Linear(4, 4, codomain=Linf) ** 2"),
            ("algebra.py", "Concatenation(f(), f()) ** 2"),
            ("attention.py", "SplitIntoHeads(2) ** 2"),
            ("bonds.py", "AvgPool() ** 2"),
            ("compounds.py", "GPT(9, d_embed=8, num_heads=2, num_blocks=1) ** 2"),
            ("compounds.py", "vit() ** 2"),
        ),
    ),
    Accepted(
        "ty",
        "missed",
        "it accepts any keyword where a function takes `**options: Unpack[AtomOptions]`",
        (
            ("atoms.py", "Embed(4, 9, domain=OneHot)"),
            ("attention.py", "HeadLinear(2, 4, 8, domain=RMS)"),
            ("shapes.py", "Linear(4, 3, bias=True)"),
        ),
    ),
    Accepted(
        "ty",
        "missed",
        "it does not compare the type variables of a generic method, by which a bond takes over "
        "its neighbour's space, with those of the operand",
        (
            ("algebra.py", "e() + Identity()"),
            ("bonds.py", "AvgPool() + Identity()"),
            ("tuples.py", "Take2() @ (Identity(), Identity())"),
            ("tuples.py", "Take2() @ (ReLU(), ReLU())"),
        ),
    ),
    Accepted(
        "ty",
        "missed",
        "for operands whose type variables have no solution it infers `Unknown`",
        (
            ("shapes.py", "Add() @ Parallel(a(), b())"),
            ("tuples.py", "Add() @ ((a(), b()) @ e())"),
            ("tuples.py", "Add() @ ((a(), b(), b()) @ e())"),
        ),
    ),
    Accepted(
        "ty",
        "missed",
        "of a method behind a decorator it takes `Self` for a free type variable",
        (
            ("vectors.py", "u() + g()"),
            ("vectors.py", "g() + u()"),
            ("vectors.py", "u() - g()"),
            ("vectors.py", "g() - u()"),
        ),
    ),
    Accepted(
        "ty",
        "false",
        "a class variable of a frozen dataclass is read-only to it, and the attribute of "
        "`Geometry` that it sets is not; Pyright would reject the line if `Geometry.axes` were a "
        "read-only property",
        (("own_parts.py", "axes = 1"),),
    ),
    Accepted(
        "zuban",
        "missed",
        "it takes the space of an elementwise bond for a tuple",
        (("tuples.py", "Add() @ ReLU()"),),
    ),
    Accepted(
        "zuban",
        "false",
        "inside the arguments of another call it infers `Any` for a class whose overloads name the "
        "type of `self`",
        (
            (
                "tuples.py",
                "assert_type((Concatenation(Concatenation(a(), b()), a()), a()) @ e(), "
                "Module[OneHot, tuple[tuple[tuple[RMS, Linf], RMS], RMS]])",
            ),
        ),
    ),
    Accepted(
        "zuban",
        "false",
        "in some runs it infers `Any` for the power of a module that a generic function returns",
        (
            (
                "algebra.py",
                "assert_type(residual(Linear(4, 4) @ ReLU(), 4) ** 4 @ e(), Module[OneHot, RMS])",
            ),
        ),
        always=False,
    ),
)


def accepted(checker: str, kind: Kind, *, always: bool) -> Iterator[tuple[str, str]]:
    """Yield the lines on which a checker errs.

    Args:
        checker: its name.
        kind: of the error.
        always: whether to leave out those on which it errs in some runs only.
    """
    for group in ACCEPTED:
        if (group.checker, group.kind) == (checker, kind) and (group.always or not always):
            yield from group.lines
