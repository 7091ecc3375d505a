"""Recurrent cells: the matrices of the gates are stacked in one weight."""

from __future__ import annotations

from modula.geometry import Geometry, Spectral, Stacked
from modula.lift.rules.base import Role, Use, rule_for
from modula.lift.rules.matrices import bias
from modula.norms import RMS

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule_for(*_GATES, *[f"{cell}_cell" for cell in _GATES])
def gates(use: Use) -> Role | None:
    """The matrices [gate·out, in] of a cell, each gate a matrix, and their biases.

    The matrix that projects the hidden state of an LSTM has no gates: it has fewer rows than the
    others.
    """
    if not use.view.is_whole:
        return None
    if len(use.shape) == 1:
        return bias(use)
    count = _GATES[use.operation.removesuffix("_cell")]
    first = next(a.shape[0] for a in use.call.arguments if a.source.kind == "parameter")
    block: Geometry = Spectral(RMS, RMS)
    return Role("matrix", Stacked(block, count) if count > 1 and use.shape[0] == first else block)
