"""Measure how far cheap bounds on the norm of an update with rescaled rows are from the norm.

    python -m benchmarks.rule_norms
    python -m benchmarks.rule_norms --lines columns

Trains a GPT on the standard library's source with `SecondMoments`. At some steps it prints, for
weights of each shape, the norm of the update with rescaled lines over that of the one before, for a
Frobenius norm that is kept, and how far two bounds exceed it: the largest factor of a line, and the
largest singular value by (Σσ⁸)^⅛.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from modula import SteepestDescent, Update
from modula.geometry import Spectral
from modula.optim import Dualized, Momentum, Rule, SecondMoments, Step, ToNorm

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "experiments"))
from gpt_on_text import add_options, add_size, loss_after_training, model_of, text
from trials import table

STEPS = (2, 50)
Row = tuple[float, float, float]


class Noted(Rule):
    """A rule, and a note of its last update."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.last: Update | None = None

    @property
    def inner(self) -> Rule:
        return self.rule

    def __call__(self, step: Step) -> Update:
        self.last = self.rule(step)
        return self.last


@dataclass(frozen=True)
class Measured(ToNorm):
    """`ToNorm`, and a note of the norms at some steps."""

    lines: str
    inside: Noted
    found: dict[tuple[int, str], list[Row]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, step: Step, changed: Update) -> Update:
        before = self.inside.last or changed
        for geometry, state, *pair in zip(
            step.plan.geometries, step.states, before.tensors, changed.tensors, strict=True
        ):
            count = int(state["step"].item())
            if count in STEPS and isinstance(geometry, Spectral):
                self.found[count, str(tuple(pair[0].shape))].append(self._measure(*pair))
        return super().__call__(step, changed)

    def _measure(self, before: Tensor, changed: Tensor) -> Row:
        axis = 1 if self.lines == "rows" else 0
        factors = changed.norm(dim=axis) / before.norm(dim=axis).clamp(min=1e-30)
        sigma, own = (torch.linalg.svdvals(t.double()) for t in (changed, before))
        kept = own.norm() / sigma.norm()
        norm = sigma.max()
        bounds = (factors.max() * own.max(), sigma.pow(8).sum() ** 0.125)
        ratio, *over = ((norm * kept / own.max()), *[bound / norm for bound in bounds])
        return ratio.item(), over[0].item(), over[1].item()


def main(given: Sequence[str] | None = None) -> list[list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    add_size(parser)
    parser.set_defaults(width=128, heads=4, steps=max(STEPS))
    parser.add_argument(
        "--lines", default="rows", choices=["rows", "columns"], help="(default %(default)s)"
    )
    options = parser.parse_args(given)

    corpus = text.load(options.data)
    torch.manual_seed(0)
    model = model_of(corpus, options)
    inside = Noted(Dualized(Momentum(0.85)))
    measured = Measured(options.lines, inside)
    rule = SecondMoments(inside, lines=options.lines, rescaling=measured)
    with tqdm(total=options.steps, unit="step", leave=False) as bar:

        def show(taken: int) -> None:
            bar.update(taken - bar.n)

        loss_after_training(
            model,
            [SteepestDescent(model, 0.25, rule=rule)],
            corpus,
            options,
            seed=0,
            windows=8,
            after_step=show,
        )
    rows = [
        [str(count), shape, *[_range([row[k] for row in found]) for k in range(3)]]
        for (count, shape), found in measured.found.items()
    ]
    print(table(["step", "shape", "norm", "largest factor", "(Σσ⁸)^⅛"], rows))
    return rows


def _range(numbers: Sequence[float]) -> str:
    return f"{min(numbers):.2f} to {max(numbers):.2f}"


if __name__ == "__main__":
    main()
