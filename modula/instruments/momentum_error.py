"""`momentum_error`: how far the optimizer's average of gradients is from the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from modula.instruments.report import (
    Report,
    canvas,
    caption,
    name_rows,
    number,
    prominent,
    ratio,
    scatter_rows,
    table,
)
from modula.optim import SteepestDescent
from modula.optim.rules.momentum import BUFFER
from modula.plan import Plan
from modula.vector import Gradient

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class AverageError:
    """Gradient and average of one weight, in its share of the dual norm: cᵢ·‖·‖ᵢ†."""

    path: str
    """The parameter's name; empty for the whole network, whose numbers are the sums."""

    gradient: float
    """‖g‖†."""

    average: float
    """‖m‖†."""

    error: float
    """‖m − g‖†."""

    @property
    def relative(self) -> float | None:
        """‖m − g‖†/‖g‖†; None for a zero gradient."""
        return ratio(self.error, self.gradient)


@dataclass(frozen=True)
class MomentumErrorReport(Report[AverageError]):
    """The error of the average of gradients: the network's, then one row a weight."""

    def __str__(self) -> str:
        rows, left_out = prominent(self.rows, [row.error for row in self.rows])
        header = ["path", "‖g‖†", "‖m‖†", "‖m − g‖†", "over ‖g‖†"]
        cells = [
            [
                row.path or "model",
                number(row.gradient),
                number(row.average),
                number(row.error),
                number(row.relative),
            ]
            for row in rows
        ]
        return table(header, cells, left=(0,), left_out=left_out, reason="none larger")

    def scalars(self) -> dict[str, float]:
        return {f"momentum_error/{name}": row.error for name, row in self.named()}

    def plot(self, axes: Axes | None = None) -> Axes:
        rows, _ = prominent(self.rows, [row.error for row in self.rows])
        axes = canvas(axes, height=1.2 + 0.22 * len(rows))
        scatter_rows(axes, [row.gradient or None for row in rows], "‖g‖†", "black", bound=True)
        scatter_rows(axes, [row.error or None for row in rows], "‖m − g‖†", "tab:blue")
        name_rows(axes, [row.path or "model" for row in rows])
        axes.set(xscale="log", xlabel="dual norm")
        caption(axes, "Error of the average of gradients")
        return axes


@torch.no_grad()
def momentum_error(optimizer: SteepestDescent, gradient: Gradient) -> MomentumErrorReport:
    """Return how far the average of gradients m is from a gradient g, in the dual norm.

    A step along the exact dual of m lowers the loss of gradient g, to first order, by
    lr·(‖m‖† − ‖m − g‖†) at least. Momentum takes noise out of m and adds lag; their sum is the
    error. Take g from as many data as you can afford, at the present weights.

    Args:
        optimizer: after a step or more, with a rule that keeps `Momentum`. The sum that it keeps is
            divided by Σβᵏ, so that m is a true average; Nesterov's look-ahead is not counted in.
        gradient: of the model's loss, with all of its weights.

    Returns:
        The network's row, then one row a weight in parameter order.

    Raises:
        TypeError: `optimizer` is not a SteepestDescent.
        ValueError: its rule keeps no sum of gradients, or it has not taken a step.
        LayoutError: the gradient is not of its model.

    Example:
        >>> import torch
        >>> from modula import Linear, SteepestDescent
        >>> from modula.instruments import momentum_error
        >>> model, x = Linear(2, 4), torch.randn(8, 4)
        >>> optimizer = SteepestDescent(model, lr=0.1)
        >>> model(x).square().mean().backward()
        >>> same = model.gradient()
        >>> optimizer.step()
        >>> momentum_error(optimizer, same)[""].error
        0.0

    Source: the error that the convergence proofs of Pethick et al. 2025 (arXiv:2502.07529) bound.
    """
    if not isinstance(optimizer, SteepestDescent):
        raise TypeError(
            "momentum_error takes the SteepestDescent that trains the model, got "
            f"{type(optimizer).__name__}"
        )
    plan = optimizer.model.plan()
    average = _average(optimizer, plan)
    gradients, averages, errors = (
        plan.dual_norms(one).tolist() for one in (gradient, average, average - gradient)
    )
    rows = [AverageError(*row) for row in zip(plan.names, gradients, averages, errors, strict=True)]
    whole = AverageError("", sum(gradients), sum(averages), sum(errors))
    return MomentumErrorReport((whole, *rows))


def _average(optimizer: SteepestDescent, plan: Plan) -> Gradient:
    """The average of gradients that `Momentum` keeps as a sum."""
    beta = optimizer.param_groups[0].get("momentum")
    states = [optimizer.state[p] for p in plan.weights]
    if beta is None or any(BUFFER not in state for state in states):
        raise ValueError(
            "momentum_error reads the sum of gradients that Momentum keeps, and "
            f"{optimizer.rule!r} keeps none: use a rule such as Dualized(Momentum(0.9))"
        )
    averages = []
    for name, state in zip(plan.names, states, strict=True):
        if not state["step"]:
            raise ValueError(
                f"the optimizer has not moved {name!r} yet, so that there is no average of its "
                "gradients: take a step first"
            )
        steps = int(state["step"])
        averages.append(state[BUFFER] * ((1 - beta) / (1 - beta**steps)))
    return Gradient.from_tensors(plan.names, averages)
