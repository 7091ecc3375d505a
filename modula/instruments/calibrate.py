"""`calibrate`: bonds declare the sensitivities that are measured in the network where they
stand.
"""

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
    short,
    table,
    where,
)
from modula.instruments.sensitivity import Stretch, stretch
from modula.network import Network
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
    """What one bond declares, before and after."""

    path: str
    """Of the first place where the bond stands."""

    module: str
    before: float
    after: float


@dataclass(frozen=True)
class CalibrationReport(Report[Change]):
    """What `calibrate` changed, one row a bond whose declaration is another now."""

    before: float
    """The model's sensitivity before."""

    after: float
    """The model's sensitivity now."""

    def __str__(self) -> str:
        rows, left_out = prominent(
            self.rows, [abs(math.log(row.after / row.before)) for row in self.rows]
        )
        cells = [
            [where(row.path), short(row.module), number(row.before), number(row.after)]
            for row in rows
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
        return {f"calibrate/{where(row.path)}": row.after for row in self.rows}

    def plot(self, axes: Axes | None = None) -> Axes:
        rows, _ = prominent(self.rows, [abs(math.log(row.after / row.before)) for row in self.rows])
        axes = canvas(axes, height=1.2 + 0.25 * len(rows))
        axes.scatter(
            [row.before for row in rows],
            range(len(rows)),
            marker="|",
            s=120,
            color="black",
            label="declared before",
        )
        axes.scatter(
            [row.after for row in rows],
            range(len(rows)),
            s=18,
            color="tab:orange",
            label="now, as measured",
        )
        name_rows(axes, [f"{where(row.path)}  {row.module}" for row in rows])
        axes.set(xscale="log", xlabel="sensitivity")
        caption(axes, "Calibration")
        return axes


def calibrate(
    model: Network,
    x: Value,
    *,
    by: Literal["worst", "random"] = "worst",
    steps: int = 30,
    generator: torch.Generator | None = None,
) -> CalibrationReport:
    """Set every bond's declared sensitivity to the one measured at `x`, and report what changed.

    A declaration is set on the bond itself, not on its class, and from then on `claim` says
    "estimate". It is copied and pickled with the bond. Compounds derive theirs from it when they
    are asked, so that the next `model.dualize` uses it. Declarations that the measurement confirms
    stay as they are, and so do bonds on token ids. A bond that stands in several places gets the
    largest number.

    Do it at initialisation: the numbers hold for the weights and the inputs of that moment only.

    Args:
        model: the model, changed in place.
        x: its input, such as a batch of the training data.
        by: "worst", the largest stretch that a search finds; or "random", the largest of several
            random directions, which is what Large et al. 2024 estimate for ReLU as 1/√2.
        steps: rounds of the search.
        generator: where random numbers come from; None starts one of its own.

    Returns:
        One row a bond that changed, with `before` and `after`.

    Raises:
        ValueError: a bond stretches nothing, or not by a finite number; or its class computes its
            sensitivity. Nothing is changed then.
        TypeError: `model` is no module of modula's.

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
    measured: dict[int, list[Stretch]] = defaultdict(list)
    bonds: dict[int, Adjustable] = {}
    generator = own_generator() if generator is None else generator
    with differentiable():
        for bond in filter(is_bond, observations(model, x)):
            bonds[id(bond.operation)] = cast("Adjustable", bond.operation)
            measured[id(bond.operation)].append(stretch(bond, steps, 8, generator))
    found = {key: _largest(rows, by) for key, rows in measured.items()}
    changing = {
        key: after
        for key, after in found.items()
        if after is not None and _differs(after, bonds[key].sensitivity)
    }
    for key, after in changing.items():
        _check(bonds[key], measured[key][0].path, after)
    before = model.sensitivity
    changes = [
        Change(measured[key][0].path, repr(bonds[key]), bonds[key].sensitivity, after)
        for key, after in changing.items()
    ]
    for key, after in changing.items():
        bonds[key].sensitivity = after
        bonds[key].claim = "estimate"
    return CalibrationReport(tuple(changes), before, model.sensitivity)


def _largest(rows: Sequence[Stretch], by: Literal["worst", "random"]) -> float | None:
    """The largest number measured in any place; None if there is none."""
    numbers = [
        number for row in rows if (number := row.worst if by == "worst" else row.random) is not None
    ]
    return max(numbers, key=lambda value: math.inf if math.isnan(value) else value, default=None)


def _differs(after: float, before: float) -> bool:
    return not abs(after / before - 1) <= ATTAINED


def _check(bond: Adjustable, path: str, after: float) -> None:
    """Refuse a sensitivity that this bond cannot have."""
    if not math.isfinite(after) or after <= 0:
        raise ValueError(
            f"{bond!r} at {where(path)} was measured to have the sensitivity {after:g}, which must "
            "be positive and finite: look at what enters it, with "
            "modula.instruments.sensitivity(model, x), and calibrate on an input on which it is "
            "neither constant nor broken"
        )
    declared = inspect.getattr_static(type(bond), "sensitivity", None)
    if isinstance(declared, property) and declared.fset is None:
        raise ValueError(
            f"{bond!r} at {where(path)} computes its sensitivity, {bond.sensitivity:g}, and cannot "
            f"be given the {after:g} that was measured: declare it as an attribute instead of a "
            "property, or correct the computation"
        )
