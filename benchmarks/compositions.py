"""Which composition of polynomials brings the singular values of real gradients closest to 1.

    python -m benchmarks.compositions
    python -m benchmarks.compositions --write docs/results/engine.md

Takes the singular values of the gradients that `benchmarks.real_gradients` records, and applies to
them every composition of minimax polynomials of degree 3 and 5, with the tolerance, margin and
floor of the default. The table gives for each number of matrix products the composition whose mean
error is the smallest, at the step and for the kind of gradient where it is the largest; the last
row is the default's. The products that keep remainders count as well. Rounding is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.docs_tables import write_between
from benchmarks.real_gradients import parse, recorded_or_read
from modula.polar.minimax import (
    Degrees,
    OddQuintic,
    minimax_composition,
    smallest_lower_bound,
)
from modula.polar.polar_express import DEGREES, FLOOR, MARGIN, TOLERANCE
from modula.polar.rounded_iteration import steps_with_remainder

PRODUCTS = {3: 2, 5: 3}
"""The products of a step, by the degree of its polynomial."""

FEWEST, MOST = 11, 19
"""The numbers of products that are compared."""


def values(matrices: list[Tensor]) -> Tensor:
    """Return the singular values above a thousandth of the largest, over (Σσ⁸)^⅛."""
    kept = []
    for matrix in matrices:
        sigma = torch.linalg.svdvals(matrix.double())
        kept.append(sigma[sigma > 1e-3 * sigma[0]] / (sigma**8).sum() ** 0.125)
    return torch.cat(kept)


def degrees() -> Iterator[Degrees]:
    """Yield the degrees of all compositions of at most MOST products."""
    for steps in range(FEWEST // 3, MOST // 2 + 1):
        for found in product(PRODUCTS, repeat=steps):
            if sum(PRODUCTS[degree] for degree in found) <= MOST:
                yield found


def composed(found: Degrees) -> tuple[OddQuintic, ...]:
    """Return the polynomials of these degrees for the smallest value that they bring to 1."""
    floor = FLOOR["default"]
    lower_bound = smallest_lower_bound(found, TOLERANCE["default"], MARGIN, floor)
    return minimax_composition(found, lower_bound, MARGIN, floor)


def products(found: Degrees) -> int:
    """Return the products for a square matrix. One result that needs its remainder costs none."""
    kept = steps_with_remainder(composed(found))
    return sum(PRODUCTS[degree] for degree in found) + (kept if kept > 1 else 0)


def error(found: Degrees, spectra: Mapping[str, Tensor]) -> float:
    """Return the largest of the mean errors on these spectra."""
    means = []
    for sigma in spectra.values():
        x = sigma
        for a, b, c in composed(found):
            x = a * x + b * x**3 + c * x**5
        means.append((x - 1).abs().mean().item())
    return max(means)


def table(spectra: Mapping[str, Tensor]) -> str:
    best: dict[int, tuple[float, Degrees]] = {}
    for found in tqdm(list(degrees()), unit="composition", leave=False):
        count = products(found)
        if FEWEST <= count <= MOST:
            best[count] = min(
                best.get(count, (float("inf"), found)), (error(found, spectra), found)
            )
    default = DEGREES["default"]
    chosen = [*sorted(best.items()), (products(default), (error(default, spectra), default))]
    rows = [
        f"| {count} | {', '.join(map(str, found))} | {mean:.4f} |"
        for count, (mean, found) in chosen
    ]
    return "\n".join(["| products | degrees | mean error of σ |", "|---|---|---|", *rows])


def main() -> None:
    options = parse(__doc__)
    spectra = {name: values(matrices) for name, matrices in recorded_or_read(options).items()}
    written = table(spectra)
    print(written)
    if options.write:
        write_between(options.write, "compositions", written)


if __name__ == "__main__":
    main()
