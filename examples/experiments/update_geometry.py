"""Measure μP and Shampoo as special cases of the duality map.

    python examples/experiments/update_geometry.py            # a minute or two
    python examples/experiments/update_geometry.py --quick

Measures how the entries of initial weights, of dualized updates, and of updates over gradients
scale with the width of a network, layer by layer, and compares with the exponents of μP's table.
Computes the update of Shampoo without accumulation from its definition in float64, and compares
with `modula.polar`. Leaves update_geometry.json and update_geometry.png in --out.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))  # for digits

import digits
from trials import Bar, Runs, arguments, band, canvas, publish, table

from modula import Linear, ReLU
from modula.polar import InverseRoot, MethodLike, orthogonalize

LAYERS = ("input", "hidden", "output")
MU_P = {
    "weights": dict(zip(LAYERS, (0.0, -0.5, -1.0), strict=True)),
    "update": dict(zip(LAYERS, (0.0, -1.0, -1.0), strict=True)),
    "update over gradient": dict(zip(LAYERS, (1.0, 0.0, -1.0), strict=True)),
}
"""Exponents of the width in table 3 of Yang et al. 2022: the root of the initial variance, Adam's
rate, and SGD's rate."""

FIXED_BATCH = 16
METHODS: dict[str, MethodLike] = {
    "inverse_root": InverseRoot(steps=60),
    "inverse_root, both sides": InverseRoot(steps=60, sides="both"),
    "svd": "svd",
    "polar_express (the default)": "polar_express",
}


@dataclass(frozen=True)
class Trial:
    """One measurement: of a network of one width, or of Shampoo's update of one matrix."""

    what: str
    width: int
    seed: int


@dataclass(frozen=True)
class Measured:
    """Root mean squares by layer, or the largest error by method and dtype."""

    numbers: dict[str, dict[str, float]]


def main(given: Sequence[str] | None = None) -> Runs[Trial, Measured]:
    parser = arguments(__doc__, seeds=5)
    parser.add_argument(
        "--widths", nargs="+", type=int, help="by default 64, 128, … 1024; with --quick up to 256"
    )
    options = parser.parse_args(given)
    options.widths = options.widths or [2**k for k in range(6, 9 if options.quick else 11)]

    runs = Runs(
        options.out / "update_geometry.json",
        Trial,
        Measured,
        {"fixed batch": FIXED_BATCH},
        fresh=options.fresh,
    )
    measure = {"fixed batch": fixed_batch, "large batch": large_batch, "shampoo": shampoo}
    trials = [
        Trial(what, width, seed)
        for what in measure
        for width in shapes(what, options)
        for seed in range(options.seeds)
    ]
    with Bar(lambda trial: trial.width**2 + 1e5, trials, made=runs.results) as bar:
        runs.make(trials, lambda trial: Measured(measure[trial.what](trial.width, trial.seed)), bar)
    results = {trial: runs.results[trial].numbers for trial in trials}
    publish(
        "update_geometry", plot(results, options.widths), summary(results, options), options.out
    )
    return runs


def shapes(what: str, options: argparse.Namespace) -> list[int]:
    """Return the widths of a measurement.

    Shampoo's definition takes an eigendecomposition in float64, so it is computed for small ones.
    """
    return [width for width in options.widths if what != "shampoo" or width <= 256]


# μP


def fixed_batch(width: int, seed: int) -> dict[str, dict[str, float]]:
    """Measure on a batch of fixed size, as in the limit that μP describes."""
    return sizes_of_entries(width, seed, FIXED_BATCH)


def large_batch(width: int, seed: int) -> dict[str, dict[str, float]]:
    """Measure on four inputs per unit of width, so that gradients can have full rank."""
    return sizes_of_entries(width, seed, 4 * width)


def sizes_of_entries(width: int, seed: int, batch: int) -> dict[str, dict[str, float]]:
    """Return the RMS of the entries of weights, update and update over gradient, by layer."""
    torch.manual_seed(seed)
    images, labels, _, _ = digits.load()
    # noise, so that a large batch has full rank
    x = images.flatten(1) + 0.5 * torch.randn(len(images), 64)
    model = Linear(10, width) @ ReLU() @ Linear(width, width) @ ReLU() @ Linear(width, 64)
    chosen = torch.randint(len(x), (batch,))
    grad = model.gradient(F.cross_entropy(model(x[chosen]), labels[chosen]))
    update = model.dualize(grad, method="svd")
    found: dict[str, dict[str, float]] = {kind: {} for kind in MU_P}
    for layer, w, g, u in zip(
        LAYERS, model.weights.tensors, grad.tensors, update.tensors, strict=True
    ):
        found["weights"][layer] = root_mean_square(w)
        found["update"][layer] = root_mean_square(u)
        found["update over gradient"][layer] = root_mean_square(u) / root_mean_square(g)
    return found


def root_mean_square(t: torch.Tensor) -> float:
    return t.detach().square().mean().sqrt().item()


def slope(
    results: dict[Trial, dict[str, dict[str, float]]], what: str, kind: str, layer: str
) -> float:
    """Return the exponent of the width, by least squares in logarithms."""
    points = [
        (math.log(trial.width), math.log(found[kind][layer]))
        for trial, found in results.items()
        if trial.what == what
    ]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


# Shampoo


def shampoo(width: int, seed: int) -> dict[str, dict[str, float]]:
    """Return the largest error of any entry against Shampoo's update, by method and dtype."""
    generator = torch.Generator().manual_seed(seed)
    G = torch.randn(width, 2 * width, dtype=torch.float64, generator=generator)
    expected = torch.from_numpy(shampoo_update(G.numpy()))
    return {
        name: {
            str(dtype).removeprefix("torch."): (
                orthogonalize(G.to(dtype), method).double() - expected
            )
            .abs()
            .amax()
            .item()
            for dtype in (torch.float64, torch.float32)
        }
        for name, method in METHODS.items()
    }


def shampoo_update(G: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return L^(−¼)·G·R^(−¼) with L = GGᵀ and R = GᵀG, inverse on their range (Gupta et al. 2018,
    algorithm 1, for one step).
    """
    L, R = G @ G.T, G.T @ G
    update: NDArray[np.float64] = power(L, -1 / 4) @ G @ power(R, -1 / 4)
    return update


def power(A: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """A symmetric positive semidefinite matrix to a power, on its range."""
    values, vectors = np.linalg.eigh(A)
    kept = values > values[-1] * len(A) * np.finfo(np.float64).eps
    scaled: NDArray[np.float64] = (vectors[:, kept] * values[kept] ** exponent) @ vectors[:, kept].T
    return scaled


# What was found


def summary(results: dict[Trial, dict[str, dict[str, float]]], options: argparse.Namespace) -> str:
    rows = [
        [
            kind,
            layer,
            f"{MU_P[kind][layer]:g}",
            *(
                f"{slope(results, what, kind, layer):.2f}"
                for what in ("fixed batch", "large batch")
            ),
        ]
        for kind in MU_P
        for layer in LAYERS
    ]
    header = [
        "root mean square of the entries of",
        "layer",
        "exponent of μP",
        f"measured, batch {FIXED_BATCH}",
        "batch 4 × width",
    ]
    errors = [
        [
            name,
            *(
                format(
                    max(
                        found[name][dtype]
                        for trial, found in results.items()
                        if trial.what == "shampoo"
                    ),
                    ".1e",
                )
                for dtype in DTYPES
            ),
        ]
        for name in METHODS
    ]
    widths = f"Widths {options.widths[0]} to {options.widths[-1]}, {options.seeds} seeds."
    largest = max(shapes("shampoo", options))
    return "\n\n".join(
        [
            table(header, rows),
            widths,
            table(["method", *(f"largest error in {dtype}" for dtype in DTYPES)], errors),
            f"Normal matrices of n×2n up to n = {largest}, {options.seeds} seeds; the error is "
            "that of any entry against L^(−¼)·G·R^(−¼) from eigendecompositions in float64.",
        ]
    )


DTYPES = ("float64", "float32")


def plot(results: dict[Trial, dict[str, dict[str, float]]], widths: list[int]) -> Figure:
    figure, axes = canvas(1, len(MU_P), (3.6, 3.2))
    for kind, place in zip(MU_P, axes[0], strict=True):
        for i, layer in enumerate(LAYERS):
            curve = {
                float(width): [
                    found[kind][layer]
                    for trial, found in results.items()
                    if (trial.what, trial.width) == ("fixed batch", width)
                ]
                for width in widths
            }
            band(place, curve, f"C{i}", layer)
            start = statistics.fmean(curve[float(widths[0])])
            law = [start * (width / widths[0]) ** MU_P[kind][layer] for width in widths]
            place.plot(widths, law, color=f"C{i}", linestyle=":")
        place.set(xscale="log", yscale="log", xlabel="width", title=kind)
    axes[0][0].set_ylabel("root mean square of the entries")
    axes[0][0].legend(title="dotted: μP", fontsize="small")
    return figure


if __name__ == "__main__":
    main()
