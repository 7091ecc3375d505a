"""Compare duals of other spectra: fewer and more steps of the iteration, random values, powers.

    python examples/experiments/spectra.py            # half an hour
    python examples/experiments/spectra.py --quick    # minutes

Trains a GPT on text by updates that have the singular vectors of the averaged gradient, and
singular values that are 1 up to the error of 3 to 8 steps of the default iteration; exactly 1;
random between 0.5 and 1.5, anew in every step; or those of the gradient to a power, over the
largest. Each runs at five rates with the first seed, and with the other seeds at the best of them,
from the same initial weights on the same batches. Leaves spectra.json and spectra.png in --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from best_rates import Comparison, Outcome, Trial
from gpt_on_text import (
    SETTINGS,
    add_options,
    add_size,
    loss_after_training,
    model_of,
    text,
)
from torch import Tensor
from trials import Runs, arguments, powers, publish

from modula import SteepestDescent
from modula.polar import Method, PolarExpress

RATES = powers(2**-5, 2**-1)
RATES_OF_POWERS = powers(2**-3, 2**1)
"""Most singular values of a power are below 1, so that its steps are shorter at the same rate."""

Spectrum = Callable[[Tensor], Tensor]
"""From singular values, [batch, m] in descending order, to those of the update."""


@dataclass(frozen=True)
class WithSpectrum(Method):
    """U·f(Σ)·Vᵀ by a singular value decomposition, for any f.

    Args:
        spectrum: f.
    """

    spectrum: Spectrum

    def __call__(self, X: Tensor) -> Tensor:
        U, S, Vh = torch.linalg.svd(X, full_matrices=False)
        made: Tensor = (U * self.spectrum(S).unsqueeze(-2)) @ Vh
        return made


def touched(S: Tensor) -> Tensor:
    """Return 1 for each singular value that is more than rounding error, and 0 for others."""
    return (torch.finfo(S.dtype).eps * S.shape[-1] * S.amax(-1, keepdim=True) < S).to(S)


def random_values(seed: int) -> Spectrum:
    """Return the map to values that are uniform in [0.5, 1.5], anew in every call."""
    generator = torch.Generator().manual_seed(seed)

    def spectrum(S: Tensor) -> Tensor:
        return touched(S) * (0.5 + torch.rand(S.shape, generator=generator))

    return spectrum


def power(exponent: float) -> Spectrum:
    """Return the map to (σ/σ_max)^exponent."""

    def spectrum(S: Tensor) -> Tensor:
        largest = S.amax(-1, keepdim=True)
        return touched(S) * (S / torch.where(largest > 0, largest, 1)).pow(exponent)

    return spectrum


def steps(count: int) -> Callable[[int], Method]:
    return lambda seed: PolarExpress(steps=count)


def by_power(exponent: float) -> Callable[[int], Method]:
    return lambda seed: WithSpectrum(power(exponent))


EXACT = "exactly 1"
DUALS: dict[str, Callable[[int], Method]] = {
    "the default": lambda seed: PolarExpress(),
    **{f"{count} steps": steps(count) for count in range(3, 9)},
    EXACT: by_power(0.0),
    "random in [0.5, 1.5]": lambda seed: WithSpectrum(random_values(seed)),
    "σ^¼": by_power(0.25),
    "σ^½": by_power(0.5),
    "σ^¾": by_power(0.75),
    "σ": by_power(1.0),
}
"""The methods, from the seed of a run."""


def rates_of(dual: str, options: argparse.Namespace) -> Sequence[float]:
    """Return the rates at which a dual runs."""
    if options.rates is not None:
        given: list[float] = options.rates
        return given
    return RATES_OF_POWERS if dual.startswith("σ") else RATES


def main(given: Sequence[str] | None = None) -> Runs[Trial, Outcome]:
    parser = arguments(__doc__, seeds=3)
    add_options(parser)
    add_size(parser)
    parser.add_argument(
        "--rates", nargs="+", type=float, help="learning rates of the grid, for all duals"
    )
    options = parser.parse_args(given)
    options.steps = options.steps or (60 if options.quick else 200)

    settings = {key: getattr(options, key) for key in SETTINGS}
    runs = Runs(options.out / "spectra.json", Trial, Outcome, settings, fresh=options.fresh)
    rates = {dual: rates_of(dual, options) for dual in DUALS}
    comparison = Comparison(runs, rates, options.seeds)
    corpus = text.load(options.data)
    comparison.make(lambda trial: train(trial, corpus, options))
    summary = comparison.summary("singular values of the update", EXACT)
    publish("spectra", comparison.plot(), summary, options.out)
    return runs


def train(trial: Trial, corpus: text.Corpus, options: argparse.Namespace) -> Outcome:
    torch.manual_seed(trial.seed)
    model = model_of(corpus, options)
    method = DUALS[trial.choice](trial.seed)
    optimizer = SteepestDescent(model, trial.lr, momentum=0.85, method=method)
    return Outcome(
        loss_after_training(model, [optimizer], corpus, options, seed=trial.seed, windows=512)
    )


if __name__ == "__main__":
    main()
