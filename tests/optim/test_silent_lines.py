"""Lines of matrices whose gradient vanishes for good, as that of a unit of ReLU that has died."""

import pytest
import torch
from torch import Tensor

from modula import Linear, SteepestDescent
from modula.optim import (
    Adam,
    AsDirection,
    Cautious,
    Dualized,
    KeepFrobenius,
    Momentum,
    Normalized,
    Rule,
    SecondMoments,
    Steepest,
    Whitened,
)
from tests.helpers import close

SHORT = Dualized(Momentum(0.5))
RULES = [
    SHORT,
    Normalized(Adam((0.5, 0.5))),
    Cautious(SHORT),
    Steepest(Momentum(0.5)),
    SecondMoments(SHORT, beta=0.5),
    SecondMoments(SHORT, beta=0.5, lines="columns"),
    SecondMoments(SHORT, beta=0.5, rescaling=KeepFrobenius()),
    Dualized(Whitened(Momentum(0.5), beta=0.5, every=20)),
    Normalized(AsDirection(Whitened(Momentum(0.5), beta=0.5, every=20))),
]
STEPS = 200
"""After which 0.5 to the power of the steps is below the smallest float32."""


def gradients(silent: range) -> list[Tensor]:
    """Of a matrix 4×5, of which row 1 and column 2 have none in some of the steps."""
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(STEPS + 10, 4, 5, generator=generator)
    made[list(silent), 1] = 0
    made[list(silent), :, 2] = 0
    return list(made)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_a_line_may_fall_silent_for_good(rule: Rule) -> None:
    torch.manual_seed(0)
    model = Linear(4, 5)
    optimizer = SteepestDescent(model, 0.01, rule=rule)
    for g in gradients(range(5, STEPS + 10)):
        before = model.weight.detach().clone()
        model.weight.grad = g
        optimizer.step()
    moved = (before - model.weight).detach()
    assert moved.isfinite().all()
    assert moved[0].norm() > 1e-4
    assert moved[1].norm() + moved[:, 2].norm() < 1e-3 * moved.norm()


@pytest.mark.parametrize("rule", RULES[4:6], ids=lambda rule: rule.kind)
def test_a_line_that_moves_again_takes_part_of_a_step_of_norm_lr(rule: Rule) -> None:
    torch.manual_seed(0)
    model = Linear(4, 5)
    optimizer = SteepestDescent(model, 0.01, rule=rule)
    for g in gradients(range(5, STEPS)):
        before = model.weights.clone()
        model.weight.grad = g
        optimizer.step()
    moved = before - model.weights
    close(model.norm(moved), torch.tensor(0.01), rtol=0.02)
    assert (moved.tensors[0].norm(dim=1) > 1e-3).all()
