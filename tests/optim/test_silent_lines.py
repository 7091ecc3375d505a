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
    Dualized(Whitened(Momentum(0.5), beta=0.5, every=20, eps=0.0)),
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


def last_step(rule: Rule, silent: range) -> tuple[Linear, Tensor, Tensor]:
    """Return a trained model, and its weight before and after the last of its steps."""
    torch.manual_seed(0)
    model = Linear(4, 5)
    optimizer = SteepestDescent(model, 0.01, rule=rule)
    before = model.weight.detach().clone()
    for g in gradients(silent)[: silent.stop + 1]:
        before.copy_(model.weight.detach())
        model.weight.grad = g
        optimizer.step()
    return model, before, model.weight.detach()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_a_line_may_fall_silent_for_good(rule: Rule) -> None:
    _, before, after = last_step(rule, range(5, STEPS + 10))
    moved = before - after
    assert moved.isfinite().all()
    assert moved[0].norm() > 1e-4
    assert moved[1].norm() + moved[:, 2].norm() < 1e-3 * moved.norm()


@pytest.mark.parametrize("rule", RULES[4:6], ids=lambda rule: rule.kind)
def test_a_line_that_moves_again_takes_part_of_a_step_of_norm_lr(rule: Rule) -> None:
    model, before, after = last_step(rule, range(5, STEPS))
    moved = before - after
    norms = model.plan().norms([moved])
    close(norms[0], torch.tensor(0.01), rtol=0.02)
    assert (moved.norm(dim=1) > 1e-3).all()
