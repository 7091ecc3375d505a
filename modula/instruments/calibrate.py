"""`calibrate`: set the sensitivities of bonds to those measured in a network."""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast

import torch

from modula.checks import Claim
from modula.instruments.derivative import differentiable, own_generator
from modula.instruments.observing import is_bond, observations
from modula.instruments.report import (
    Report,
    canvas,
    caption,
    name_rows,
    number,
    prominent,
    scatter_rows,
    short,
    table,
    where,
)
from modula.instruments.sensitivity import Stretch, stretch
from modula.network import Network
from modula.progress import progress
from modula.values import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ATTAINED = 1e-3
"""A measurement this close to the declaration leaves it as it is."""


class Adjustable(Protocol):
    """An operation whose sensitivity can be set."""

    sensitivity: float
    claim: Claim


@dataclass(frozen=True)
class Change:
    """The sensitivity that one bond declares, before and after."""

    path: str
    """The path of the bond's first use."""

    module: str
    before: float
    after: float


@dataclass(frozen=True)
class CalibrationReport(Report[Change]):
    """The declarations that `calibrate` changed, one row a bond."""

    before: float
    """The network's sensitivity before."""

    after: float
    """The network's sensitivity now."""

    def __str__(self) -> str:
        shown, left_out = self._prominent()
        cells = [
            [name, short(row.module), number(row.before), number(row.after)] for name, row in shown
        ]
        summary = f"the model's sensitivity was {number(self.before)} and is {number(self.after)}"
        if not cells:
            return f"no bond changed; {summary}"
        return (
            table(
                ["path", "bond", "declared", "now"],
                cells,
                left_out=left_out,
                reason="none changed more",
            )
            + f"\n{summary}"
        )

    def scalars(self) -> dict[str, float]:
        return {f"calibrate/{name}": row.after for name, row in self.named()}

    def plot(self, axes: Axes | None = None) -> Axes:
        shown, _ = self._prominent()
        axes = canvas(axes, height=1.2 + 0.25 * len(shown))
        before, after = [row.before for _, row in shown], [row.after for _, row in shown]
        scatter_rows(axes, before, "declared before", "black", bound=True)
        scatter_rows(axes, after, "now, as measured", "tab:orange")
        name_rows(axes, [f"{name}  {row.module}" for name, row in shown])
        axes.set(xscale="log", xlabel="sensitivity")
        caption(axes, "Calibration")
        return axes

    def _prominent(self) -> tuple[list[tuple[str, Change]], int]:
        changes = [abs(math.log(row.after / row.before)) for row in self.rows]
        return prominent(self.named(), changes)


def calibrate(
    model: Network,
    x: Value,
    *,
    by: Literal["worst", "random"] = "worst",
    steps: int = 30,
    generator: torch.Generator | None = None,
) -> CalibrationReport:
    """Set every bond's declared sensitivity to the one measured at `x`, and report the changes.

    A sensitivity is set on the bond itself, not on its class, and from then on `claim` says
    "estimate". It is copied and pickled with the bond. The network's own sensitivities are derived
    from it when they are asked for, so that the next `model.dualize` uses it. Bonds whose
    declaration is confirmed are left alone, and so are bonds on token ids. A bond that is used
    several times gets the largest number.

    Call it at initialisation: the numbers hold for the weights and the inputs of that moment only.

    Args:
        model: the network, changed in place.
        x: its input, such as a batch of the training data.
        by: "worst", the largest gain that a search finds; or "random", the largest of several
            random directions, as Large et al. 2024 estimate 1/√2 for ReLU.
        steps: rounds of the search.
        generator: of the random numbers; None starts one of its own.

    Returns:
        One row a bond that changed, with `before` and `after`.

    Raises:
        ValueError: the gain of a bond is zero or not finite, or its sensitivity cannot be set.
            Nothing is changed then.
        TypeError: `model` is not a network of modula's.

    Example:
        >>> import torch
        >>> from modula import Linear, RMSNorm
        >>> from modula.instruments import calibrate
        >>> model = Linear(2, 4) @ RMSNorm()
        >>> # of RMS 1/2, where RMSNorm has sensitivity 2
        >>> x = 0.5 * torch.nn.functional.normalize(torch.randn(8, 4)) * 2
        >>> report = calibrate(model, x)
        >>> round(report["0"].after, 3), round(model.sensitivity, 3)
        (2.0, 2.0)
    """
    if by not in ("worst", "random") or steps < 1:
        raise ValueError(
            f'calibrate goes by "worst" or "random", in at least 1 step; got by={by!r}, '
            f"steps={steps}"
        )
    generator = own_generator() if generator is None else generator
    operations: dict[int, Adjustable] = {}
    measured: dict[int, list[Stretch]] = defaultdict(list)
    with differentiable():
        bonds = list(filter(is_bond, observations(model, x)))
        for bond in progress(bonds, "calibrate", "bond"):
            operations[id(bond.operation)] = cast("Adjustable", bond.operation)
            measured[id(bond.operation)].append(stretch(bond, steps, 8, generator))
    changing = [
        (operations[key], change)
        for key, rows in measured.items()
        if (change := _change(rows, by)) is not None
    ]
    for operation, change in changing:
        _check(operation, change)
    before = model.sensitivity
    for operation, change in changing:
        operation.sensitivity = change.after
        operation.claim = "estimate"
    return CalibrationReport(tuple([change for _, change in changing]), before, model.sensitivity)


def _change(rows: Sequence[Stretch], by: Literal["worst", "random"]) -> Change | None:
    """The change that the uses of one bond call for; None if its declaration is confirmed."""
    after, first = _largest(rows, by), rows[0]
    if after is None or abs(after / first.declared - 1) <= ATTAINED:
        return None
    return Change(first.path, first.module, first.declared, after)


def _largest(rows: Sequence[Stretch], by: Literal["worst", "random"]) -> float | None:
    """The largest number measured at any use; None if there is none."""
    numbers = [
        number for row in rows if (number := row.worst if by == "worst" else row.random) is not None
    ]
    return max(numbers, key=lambda value: math.inf if math.isnan(value) else value, default=None)


def _check(operation: Adjustable, change: Change) -> None:
    """Raise if an operation cannot be given the sensitivity that was measured.

    Raises:
        ValueError: the number is not positive and finite, or the operation computes its own.
    """
    bond, after = f"{change.module} at {where(change.path)}", change.after
    if not math.isfinite(after) or after <= 0:
        raise ValueError(
            f"{bond} was measured to have the sensitivity {after:g}, which must be positive and "
            "finite: look at what enters it, with modula.instruments.sensitivity(model, x), and "
            "calibrate on an input at which its derivative is finite and not 0"
        )
    if not _can_be_set(operation):
        raise ValueError(
            f"{bond} computes its sensitivity, {change.before:g}, and cannot be given the "
            f"{after:g} that was measured: declare it as an attribute that can be set, or correct "
            "the computation"
        )


def _can_be_set(operation: object) -> bool:
    """Whether `sensitivity` is an attribute that can be assigned."""
    declared = inspect.getattr_static(type(operation), "sensitivity", None)
    computed = isinstance(declared, property) and declared.fset is None
    options = getattr(type(operation), "__dataclass_params__", None)
    frozen = bool(getattr(options, "frozen", False))
    return hasattr(operation, "sensitivity") and not computed and not frozen
