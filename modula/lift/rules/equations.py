"""Contractions as equations of axes, as einsum writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_letters

from modula.lift.trace import Call


@dataclass(frozen=True)
class Equation:
    """The axes of one operand of a contraction, of all others, of its data, of the output."""

    mine: str
    others: str
    data: str
    output: str


def equation_of(call: Call, slot: str) -> Equation | None:
    """Return the axes of the operand in a slot of einsum or tensordot; None if they are unknown.

    Args:
        call: of einsum with an equation or with lists of axes, or of tensordot.
        slot: of one operand.
    """
    operands = [a for a in call.arguments if not a.slot.endswith("as written")]
    ranks = [len(a.shape) for a in operands]
    position = next((i for i, a in enumerate(operands) if a.slot == slot), None)
    terms = _tensordot(call, ranks) if call.operation == "tensordot" else _einsum(call, ranks)
    if terms is None or position is None or len(terms) != len(operands) + 1:
        return None
    *inputs, output = terms
    others = "".join(inputs[:position] + inputs[position + 1 :])
    is_data = [a.source.kind != "parameter" for a in operands]
    data = "".join([term for term, one in zip(inputs, is_data, strict=True) if one])
    return Equation(inputs[position], others, data, output)


def _einsum(call: Call, ranks: Sequence[int]) -> list[str] | None:
    """The letters of each operand and of the output."""
    equation = call.constants.get("0", call.constants.get("equation"))
    if isinstance(equation, str):
        left, arrow, right = equation.replace(" ", "").partition("->")
        inputs = left.split(",")
        output = right if arrow else _implied(inputs)
    else:
        lists = [value for _, value in sorted(_lists(call))]
        if len(lists) not in (len(ranks), len(ranks) + 1):
            return None
        inputs = ["".join([ascii_letters[i] for i in one]) for one in lists[: len(ranks)]]
        given = lists[len(ranks) :]
        output = "".join([ascii_letters[i] for i in given[0]]) if given else _implied(inputs)
    if len(inputs) != len(ranks):
        return None
    missing = [
        rank - len(term.replace("...", "")) for rank, term in zip(ranks, inputs, strict=True)
    ]
    free = [letter for letter in ascii_letters if not any(letter in term for term in inputs)]
    most = max([n for n, term in zip(missing, inputs, strict=True) if "..." in term], default=0)
    if most > len(free):
        return None
    filled = [
        term.replace("...", "".join(free[most - n : most]))
        for term, n in zip(inputs, missing, strict=True)
    ]
    return [*filled, output.replace("...", "".join(free[:most]))]


def _implied(inputs: Sequence[str]) -> str:
    """The output of an equation without an arrow: all letters that occur once, in order."""
    letters = "".join(inputs).replace(".", "")
    once = sorted([letter for letter in set(letters) if letters.count(letter) == 1])
    return ("..." if any("..." in term for term in inputs) else "") + "".join(once)


def _lists(call: Call) -> Iterator[tuple[int, Sequence[int]]]:
    """The lists of axes among the arguments, with their positions."""
    for slot, value in call.constants.items():
        if slot.isdecimal() and isinstance(value, (list, tuple)):
            yield int(slot), value


def _tensordot(call: Call, ranks: Sequence[int]) -> list[str] | None:
    dims = call.constants.get("dims", call.constants.get("2", 2))
    if len(ranks) != 2:
        return None
    first, second = ranks
    if isinstance(dims, int):
        pairs = [(first - dims + k, k) for k in range(dims)]
    elif isinstance(dims, (list, tuple)) and len(dims) == 2:
        left, right = [one if isinstance(one, (list, tuple)) else [one] for one in dims]
        pairs = [(a % first, b % second) for a, b in zip(left, right, strict=True)]
    else:
        return None
    a, b = list(ascii_letters[:first]), list(ascii_letters[first : first + second])
    for i, j in pairs:
        b[j] = a[i]
    contracted = {a[i] for i, _ in pairs}
    output = [letter for letter in a + b if letter not in contracted]
    return ["".join(a), "".join(b), "".join(output)]
