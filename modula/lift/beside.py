"""Tables whose rows are added to those of a tied table, in a traced run.

Positions and kinds of tokens are looked up and added to the rows of the table of tokens, which may
be the head as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from modula.lift.trace import IDENTITIES, LAYOUTS, Call, Source, Trace
from modula.lift.uses import LOOKUPS, Beside, Measured

_LOOKUPS = LOOKUPS | frozenset(["embedding", "embedding_bag"])
_PASSED = LAYOUTS | IDENTITIES | frozenset(["add", "mul", "div"])

Factors = dict[str, float]
"""The tables of a sum, each with the number by which its rows are multiplied."""


def with_neighbours(trace: Trace, norms: Mapping[str, Measured]) -> dict[str, Measured]:
    """Return the norms, where a table that is added to a tied one names it.

    Args:
        trace: of the run.
        norms: the weights with their uses.
    """
    tied = {name for name, one in norms.items() if {"table", "matrix"} <= set(one.kinds)}
    beside: dict[str, Beside] = {}
    for factors in _sums(trace, norms) if tied else ():
        name = next((one for one in factors if one in tied), None)  # the first, on all processes
        if name is not None:
            for other in factors.keys() - tied:
                beside.setdefault(other, Beside(name, factors[name] / factors[other]))
    return {name: replace(one, beside=beside.get(name)) for name, one in norms.items()}


def _sums(trace: Trace, norms: Mapping[str, Measured]) -> Iterator[Factors]:
    """The tables in each sum of rows that the outputs depend on."""
    tables = {name for name, one in norms.items() if "table" in one.kinds}
    found: dict[int, Factors] = {}

    def of(source: Source) -> Factors:
        if source.kind == "parameter":
            return {source.parameter: 1.0} if source.parameter in tables else {}
        return found.get(source.call, {})

    for index in trace.reached():
        call = trace.calls[index]
        found[index] = _in_sum(call, [of(a.source) for a in call.arguments if a.is_floating])
        if call.operation == "add" and len(found[index]) > 1:
            yield found[index]


def _in_sum(call: Call, read: list[Factors]) -> Factors:
    """The tables in the sum that a call returns, from those in the tensors that it reads."""
    number = call.factor()
    is_sum = bool(number) or call.operation not in ("mul", "div")
    if not is_sum or call.operation not in _PASSED | _LOOKUPS:
        return {}
    return {name: factor * (number or 1.0) for one in read for name, factor in one.items()}
