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
    """

    checker: str
    kind: Kind
    reason: str
    lines: tuple[tuple[str, str], ...]


ACCEPTED: tuple[Accepted, ...] = (
    Accepted(
        "ty",
        "missed",
        "where a type variable has no solution it infers `Unknown`, and accepts the operand",
        (
            ("shapes.py", "Add() @ Parallel(a(), b())"),
            ("tuples.py", "Add() @ (Identity(), e())"),
            ("tuples.py", "Add() @ (e(), Identity())"),
            ("tuples.py", "Add() @ (ReLU(), b())"),
            ("tuples.py", "Add() @ (b(), ReLU())"),
            ("tuples.py", "Add() @ ((a(), b()) @ e())"),
            ("tuples.py", "Add() @ ((a(), b(), b()) @ e())"),
        ),
    ),
    Accepted(
        "ty",
        "missed",
        "it does not derive that two type variables are one where a bond's method, generic in one "
        "space, stands for two ([ty #2045](https://github.com/astral-sh/ty/issues/2045))",
        (
            ("tuples.py", "Take2() @ (Identity(), Identity())"),
            ("tuples.py", "Take2() @ (ReLU(), ReLU())"),
            ("tuples.py", "Take3() @ (Identity(), Identity(), Identity())"),
            ("tuples.py", "Take8() @ (a(), b(), a(), c(), a(), b(), a(), Identity())"),
            ("tuples.py", "Left() @ ((Identity(), Identity()), Identity())"),
            ("tuples.py", "Take4() @ (Identity(), Identity(), Identity(), Identity())"),
            ("tuples.py", "Take5() @ (Identity(), Identity(), Identity(), Identity(), Identity())"),
            ("tuples.py", "Take6() @ (ReLU(), ReLU(), ReLU(), ReLU(), ReLU(), ReLU())"),
            ("tuples.py", "Take7() @ (ReLU(), ReLU(), ReLU(), ReLU(), ReLU(), ReLU(), ReLU())"),
            (
                "tuples.py",
                "Take8() @ (ReLU(), ReLU(), ReLU(), ReLU(), ReLU(), ReLU(), ReLU(), ReLU())",
            ),
            ("tuples.py", "Right() @ (Identity(), (Identity(), Identity()))"),
            ("tuples.py", "Pairs() @ ((Identity(), Identity()), (Identity(), Identity()))"),
        ),
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
        "inside the arguments of another call it infers `Any` for a class whose `__init__` names "
        "the type of `self`",
        (
            (
                "tuples.py",
                "assert_type((Concatenation(Concatenation(a(), b()), a()), a()) @ e(), "
                "Module[OneHot, tuple[tuple[tuple[RMS, Linf], RMS], RMS]])",
            ),
        ),
    ),
)


def accepted(checker: str, kind: Kind) -> Iterator[tuple[str, str]]:
    """Yield the lines on which a checker errs.

    Args:
        checker: its name.
        kind: of the error.
    """
    for group in ACCEPTED:
        if (group.checker, group.kind) == (checker, kind):
            yield from group.lines
