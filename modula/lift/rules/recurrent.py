"""Recurrent cells: the matrices of the gates are stacked in one weight."""

from __future__ import annotations

from modula.geometry import Geometry, Spectral, Stacked
from modula.lift.rules.base import Role, Use, rule_for
from modula.lift.rules.matrices import bias
from modula.lift.rules.tables import rows
from modula.norms import RMS

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule_for(*_GATES, *[f"{cell}_cell" for cell in _GATES])
def gates(use: Use) -> Role | None:
    """The matrices [gate·out, in] of a cell, each gate a matrix, and their biases.

    The matrix that projects the hidden state of an LSTM has no gates: it has fewer rows than the
    others. A learned initial state is a table.
    """
    if not _is_weight(use):
        return rows(use)
    if not use.view.is_whole:
        return None
    if len(use.shape) == 1:
        return bias(use)
    count = _GATES[use.operation.removesuffix("_cell")]
    first = next(a.shape[0] for a in use.call.arguments if _is_weight(use, a.slot))
    block: Geometry = Spectral(RMS, RMS)
    return Role("matrix", Stacked(block, count) if count > 1 and use.shape[0] == first else block)


def _is_weight(use: Use, slot: str | None = None) -> bool:
    """Whether a slot, by default that of the use, takes a weight and no input or state.

    A layer takes its weights as a list, its last argument with several tensors.
    """
    slot = use.slot if slot is None else slot
    if use.operation.endswith("_cell"):
        return slot.startswith(("w_", "b_"))
    lists = [a.slot.partition(".")[0] for a in use.call.arguments if "." in a.slot]
    return slot.partition(".")[0] == max(lists, key=int, default="")
