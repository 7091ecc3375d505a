"""Components that are compiled, or whose activations are checkpointed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributed._composable import checkpoint
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
    checkpoint_wrapper,
)

from modula import MLP, RMS, Linear, Module, ReLU


def network() -> tuple[Module[RMS, RMS], Tensor]:
    torch.manual_seed(0)
    return Linear(4, 8) @ ReLU() @ Linear(8, 8) @ ReLU() @ Linear(8, 6), torch.randn(3, 6)


def gradients(model: Module[RMS, RMS], x: Tensor) -> list[Tensor]:
    return list(model.gradient(model(x).square().sum()).tensors)


def test_checkpointing_in_place_keeps_names_and_gradients() -> None:
    model, x = network()
    names, expected = model.weights.names, gradients(model, x)
    for component in model:
        checkpoint(component)
    assert model.weights.names == names
    torch.testing.assert_close(gradients(model, x), expected, rtol=0, atol=0)


def test_compiling_in_place_keeps_names_and_gradients() -> None:
    model, x = network()
    names, expected = model.weights.names, gradients(model, x)
    for component in model:
        component.compile(backend="eager")
    assert model.weights.names == names
    torch.testing.assert_close(gradients(model, x), expected)


@pytest.mark.parametrize(
    ("wrap", "instead"),
    [
        (
            checkpoint_wrapper,
            r"CheckpointWrapper wraps.*_composable\.checkpoint\(module\)",
        ),
        (torch.compile, r"OptimizedModule wraps a module.*module\.compile\(\)"),
    ],
)
def test_a_wrapper_is_refused_with_what_works_in_its_place(wrap: object, instead: str) -> None:
    model, x = network()
    expected = gradients(model, x)
    with pytest.raises(TypeError, match=instead):
        model[0] = wrap(model[0])  # type: ignore[operator]
    torch.testing.assert_close(gradients(model, x), expected, rtol=0, atol=0)


def test_the_wrappers_that_torch_applies_to_a_whole_model_are_refused_too() -> None:
    model, _ = network()
    with pytest.raises(TypeError, match=r"_composable\.checkpoint\(module\)"):
        apply_activation_checkpointing(model, check_fn=lambda m: isinstance(m, Linear))


def test_a_torch_module_is_not_taken_for_a_wrapper() -> None:
    with pytest.raises(TypeError, match="write an Atom for each"):
        MLP(4, 4, width=4, depth=2) @ nn.Bilinear(4, 4, 4)
