"""Measure a small GPT with every instrument, and sweep the mass of a residual network's blocks.

    # a few minutes; on the source of Python's standard library, and digits
    python examples/instruments.py
    # updates the documentation
    python examples/instruments.py --out docs/figures/instruments --write docs/guides/instruments.md

Writes a figure for each instrument to --out, and all tables to tables.json there. The tables of
bounds and of radii are written onto the page that --write gives.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from digits import load as load_digits
from matplotlib.axes import Axes
from text import batch, load
from torch import Tensor
from tqdm import tqdm

from modula import (
    GPT,
    RMS,
    AnyModule,
    Atom,
    Bond,
    Composition,
    Gradient,
    Linear,
    Module,
    ReLU,
    residual,
)
from modula.instruments import (
    MassSweep,
    RadiiReport,
    Report,
    Row,
    WellNormedReport,
    alignment,
    feature_learning,
    mass_sweep,
    movement,
    radii,
    sensitivity,
    spectra,
    watch,
    well_normed,
)

KINDS_WITHOUT_NAME = ("Composition", "Concatenation")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="stdlib",
        help='"stdlib", "shakespeare" or a UTF-8 file (default %(default)s)',
    )
    parser.add_argument(
        "--steps", type=int, default=500, help="training steps of the GPT (default %(default)s)"
    )
    parser.add_argument(
        "--width", type=int, default=64, help="number of features (default %(default)s)"
    )
    parser.add_argument(
        "--blocks", type=int, default=2, help="number of blocks (default %(default)s)"
    )
    parser.add_argument(
        "--context", type=int, default=32, help="characters per window (default %(default)s)"
    )
    parser.add_argument(
        "--search",
        type=int,
        default=10,
        help="rounds of each search of well_normed (default %(default)s)",
    )
    parser.add_argument(
        "--sweep-steps",
        type=int,
        default=150,
        help="training steps of each run of the sweep (default %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="of the sweep (default %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/instruments"),
        help="folder of the figures and tables (default %(default)s)",
    )
    parser.add_argument(
        "--log",
        type=Path,
        default=Path("runs/instruments/watch.csv"),
        help="the file that the watch writes (default %(default)s)",
    )
    parser.add_argument(
        "--write", type=Path, help="write two tables onto this page, between their marks"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, str]:
    options = parse(arguments)
    matplotlib.use("Agg")
    options.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    corpus = load(options.data)
    batches = torch.Generator().manual_seed(0)
    model = GPT(corpus.size, d_embed=options.width, num_heads=4, num_blocks=options.blocks)
    x, y = batch(corpus.validation, 4, options.context, batches)
    start = model.weights.clone()
    bounds_before = well_normed(model, x[:1], steps=options.search)
    radii_before = radii(model, x)

    momentum = Gradient({name: torch.zeros_like(weight) for name, weight in model.weights.items()})
    with watch(model, every=max(1, options.steps // 25), log=options.log) as watcher:
        for step in tqdm(range(options.steps), unit="step", desc="GPT"):
            inputs, targets = batch(corpus.train, 8, options.context, batches)
            loss = loss_of(model, inputs, targets)
            grad = model.gradient(loss)
            momentum *= 0.85
            momentum += grad
            update = model.dualize(
                0.85 * momentum + grad,
                target_norm=0.1 * (1 - step / options.steps),
                support=grad,
            )
            watcher.step(inputs, gradient=grad, update=update, loss=loss)
            model.weights -= update

    grad = model.gradient(loss_of(model, x, y))
    update = model.dualize(grad)
    bounds_after = well_normed(model, x[:1], steps=options.search)
    reports: dict[str, Report[Row]] = {
        "sensitivity": sensitivity(model, x[:1], steps=options.search),
        "well_normed": bounds_after,
        "radii": radii_before,
        "feature_learning": feature_learning(model, update, x),
        "alignment": alignment(model, x, update),
        "spectra": spectra(grad),
        "movement": movement(start, model.weights),
    }
    for name, report in reports.items():
        save(report.plot(), options.out / f"{name}.png")
    save(watcher.plot("alignment/update/*"), options.out / "watch.png")

    sweep = sweep_of_digits(options.sweep_steps, options.seeds, options.out / "mass_sweep.json")
    save(sweep.plot(), options.out / "mass_sweep.png")

    tables = {name: str(report) for name, report in reports.items()} | {"mass_sweep": str(sweep)}
    tables["table of bounds"] = table_of_bounds(model, bounds_before, bounds_after, options)
    tables["table of radii"] = table_of_radii(model, radii_before, radii(model, x))
    (options.out / "tables.json").write_text(
        json.dumps(tables, indent=1, ensure_ascii=False) + "\n"
    )
    for name, text in tables.items():
        print(f"{name}\n{text}\n")
    if options.write:
        for name in ("bounds", "radii"):
            write_between(options.write, name, tables[f"table of {name}"])
    return tables


def write_between(page: Path, name: str, text: str) -> None:
    """Replace the text between the two comments of that name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


def loss_of(model: GPT, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def table_of_bounds(
    model: AnyModule, before: WellNormedReport, after: WellNormedReport, options: argparse.Namespace
) -> str:
    """Return the largest ratios to the bounds by kind of module, before and after training."""
    kinds = paths_by_kind(model, [row.path for row in after])
    header = ["kind", "claim", "input", "weights", "output", "trained: input", "weights", "output"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for kind, paths in sorted(
        kinds.items(), key=lambda item: -max(after[path].worst for path in item[1])
    ):
        numbers = [
            largest([report[path].ratios().get(side) for path in paths])
            for report in (before, after)
            for side in ("input", "weights", "output")
        ]
        lines.append(f"| `{kind}` | {after[paths[0]].claim} | {' | '.join(numbers)} |")
    size = (
        f"GPT of {options.blocks} blocks, width {options.width}, context {options.context}, before "
        f"and after {options.steps} steps"
    )
    violated = (
        f"{size}. Proofs violated: {len(before.violated)} before, {len(after.violated)} after "
        "training."
    )
    return "\n".join([*lines, "", textwrap.fill(violated, 100)])


def table_of_radii(model: AnyModule, before: RadiiReport, after: RadiiReport) -> str:
    """Return radii and measured norms by kind of operation, before and after training."""
    kinds = paths_by_kind(model, [row.path for row in before if not row.module.startswith("tuple")])
    header = ["kind", "claim", "largest R", "measured", "measured, trained"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for kind, paths in kinds.items():
        rows = [before[path] for path in paths]
        numbers = [
            largest([row.radius for row in rows]),
            largest([row.measured for row in rows]),
            largest([after[path].measured for path in paths]),
        ]
        lines.append(f"| `{kind}` | {rows[0].claim} | {' | '.join(numbers)} |")
    bound = f"Σ p·R = {before.bound:.2f}, {before.claim}."
    return "\n".join([*lines, "", bound])


def paths_by_kind(model: AnyModule, paths: Sequence[str]) -> dict[str, list[str]]:
    """Return the paths of each kind of atom, bond, and compound that has a class of its own."""
    kinds: dict[str, list[str]] = {}
    for path in paths:
        module = model.get_submodule(path)
        kind = type(module).__name__
        if isinstance(module, (Atom, Bond)) or kind not in KINDS_WITHOUT_NAME:
            kinds.setdefault(kind, []).append(path)
    return kinds


def largest(numbers: Sequence[float | None]) -> str:
    measured = [number for number in numbers if number is not None]
    return f"{max(measured):.2f}" if measured else "·"


class Blocks(Composition[RMS, RMS]):
    """Residual blocks under a name, by which `tare` and `mass_sweep` find them."""

    def __init__(self, width: int, num_blocks: int) -> None:
        block = (Linear(width, width) @ ReLU()) ** 2
        super().__init__(residual(block, num_blocks) ** num_blocks)


def sweep_of_digits(steps: int, seeds: int, file: Path) -> MassSweep:
    """Return the losses of residual networks of two depths on digits, by the mass of their blocks.

    A sweep that was stopped goes on.
    """
    images, labels, _, _ = load_digits()
    x = images.flatten(1)

    def build(num_blocks: int) -> Module[RMS, RMS]:
        return Linear(10, 32) @ Blocks(32, num_blocks) @ Linear(32, 64)

    def train(model: Module[RMS, RMS]) -> float:
        for step in range(steps):
            chosen = torch.randint(len(x), (128,))
            loss = F.cross_entropy(model(x[chosen]), labels[chosen])
            model.weights -= model.dualize(
                model.gradient(loss), target_norm=0.2 * (1 - step / steps)
            )
        with torch.no_grad():
            return F.cross_entropy(model(x), labels).item()

    networks = {"2 blocks": lambda: build(2), "8 blocks": lambda: build(8)}
    masses = [2.0**k for k in range(-4, 7)]
    return mass_sweep(networks, train, "Blocks", masses, seeds=range(seeds), save=file)


def save(axes: Axes, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.savefig(path, dpi=90)
        plt.close(figure)


if __name__ == "__main__":
    main()
