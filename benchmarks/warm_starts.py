"""Whether the inverse root of one step's matrices prepares those of the next.

    python -m benchmarks.warm_starts
    python -m benchmarks.warm_starts --write docs/results/engine.md

A warm start would multiply the average X of a step by P = (YYᵀ + ε²)^(−½), with Y that of the step
before, so that fewer polynomials have to bring the singular values of PX to 1 than those of X. This
needs two things of consecutive steps: the small singular values of PX are larger, and the
orthogonal factor of PX is that of X. The table gives, for matrices that `benchmarks.real_gradients`
records, the twentieth and the median of σ over the largest, without P and with it, and the mean of
|uᵢᵀ O vᵢ − 1| of the exact factor O of PX, over the singular values of X above a thousandth of the
largest. All in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.docs_tables import write_between
from benchmarks.real_gradients import LOOK_AHEAD, parse, recorded_or_read
from modula.polar.polar_express import FLOOR

SMALLEST = 1e-3
"""The singular values that are compared, over the largest."""


def wide(X: Tensor) -> Tensor:
    return (X if X.shape[0] <= X.shape[1] else X.mT).double()


def inverse_root(Y: Tensor) -> Tensor:
    """Return (YYᵀ + ε²)^(−½), with ε the default's floor times (Σσ⁸)^⅛."""
    U, S, _ = torch.linalg.svd(Y, full_matrices=False)
    size = (S**8).sum() ** 0.125
    inverse: Tensor = (U / (S**2 + (FLOOR["default"] * size) ** 2).sqrt()) @ U.mT
    return inverse


def quantiles(S: Tensor) -> Tensor:
    """Return the twentieth and the median of singular values over the largest."""
    return torch.quantile(S / S[0], torch.tensor([0.05, 0.5], dtype=S.dtype))


def compared(before: Tensor, now: Tensor) -> Tensor:
    """Return the quantiles without and with a warm start, and the error of its factor."""
    X = wide(now)
    U, S, Vh = torch.linalg.svd(X, full_matrices=False)
    left, values, right = torch.linalg.svd(inverse_root(wide(before)) @ X, full_matrices=False)
    along = (U.mT @ left @ right @ Vh.mT).diagonal()
    error = (along - 1).abs()[SMALLEST * S[0] < S].mean()
    return torch.cat([quantiles(S), quantiles(values), error[None]])


def table(recorded: dict[str, list[Tensor]], steps: list[int]) -> str:
    header = "| step | σ of X: 5% | 50% | σ of PX: 5% | 50% | error of the factor |"
    rows = [header, "|---|---|---|---|---|---|"]
    for step in steps:
        pairs = zip(
            recorded[f"{step - 1}, {LOOK_AHEAD}"], recorded[f"{step}, {LOOK_AHEAD}"], strict=True
        )
        means = torch.stack([compared(before, now) for before, now in pairs]).mean(0).tolist()
        rows.append(f"| {step} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")
    return "\n".join(rows)


def main() -> None:
    options = parse(__doc__)
    steps = [step for step in options.steps if step > 0]
    options.steps = [step for second in steps for step in (second - 1, second)]
    written = table(recorded_or_read(options), steps)
    print(written)
    if options.write:
        write_between(options.write, "warm_starts", written)


if __name__ == "__main__":
    main()
