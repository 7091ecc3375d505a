"""A checkpoint matches a model only if all settings of all modules are equal."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modula import (
    GELU,
    GPT,
    L2,
    MLP,
    RMS,
    Atom,
    Attention,
    Bond,
    ComposedAttention,
    Conv2D,
    FunctionalAttention,
    FunctionBond,
    LayerNorm,
    Linear,
    Linf,
    Mean,
    Module,
    Mul,
    ReLU,
    ResCNN,
    ResMLP,
    RMSNorm,
    Rope,
    Softmax,
    Tanh,
    checkpoint,
    residual,
)
from modula.checkpoint import CheckpointError
from modula.geometry import Geometry, Vectors


class Power(Bond[RMS, RMS]):
    """A user's bond, whose settings `print` does not show."""

    def __init__(self, exponent: object) -> None:
        super().__init__()
        self._exponent = exponent

    def forward(self, x: Tensor) -> Tensor:
        return x


class Diagonal(Atom[RMS, RMS]):
    """A user's atom with a geometry to choose."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__((4,), geometry, fan_out=4, fan_in=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


def with_sensitivity(bond: Bond, sensitivity: float) -> Bond:
    bond.sensitivity = sensitivity
    return bond


def with_attribute(bond: Bond, name: str, value: object) -> Bond:
    setattr(bond, name, value)
    return bond


def function_bond(function: Callable[[Tensor], Tensor], domain: type = RMS) -> Bond:
    return FunctionBond(function, domain=domain, codomain=RMS)


def power(x: Tensor, exponent: float) -> Tensor:
    return x**exponent


gpt = partial(GPT, 11, d_embed=8, num_heads=2, num_blocks=1)
res_cnn = partial(ResCNN, 3, 2, width=4, num_blocks=1)
res_mlp = partial(ResMLP, 3, 5, width=4, num_blocks=1)

PAIRS: dict[str, tuple[Callable[[], Module], Callable[[], Module]]] = {
    "Attention, causal": (lambda: Attention(8, 2), lambda: Attention(8, 2, causal=False)),
    "Attention, rope_base": (lambda: Attention(8, 2), lambda: Attention(8, 2, rope_base=100.0)),
    "Attention, scale": (lambda: Attention(8, 2), lambda: Attention(8, 2, scale=0.5)),
    "atom, geometry": (
        lambda: Diagonal(Vectors(Linf, axes=1)),
        lambda: Diagonal(Vectors(RMS, axes=1)),
    ),
    "ComposedAttention, causal": (
        lambda: ComposedAttention(8, 2),
        lambda: ComposedAttention(8, 2, causal=False),
    ),
    "ComposedAttention, scale": (
        lambda: ComposedAttention(8, 2),
        lambda: ComposedAttention(8, 2, scale=0.5),
    ),
    "Conv2D, padding": (lambda: Conv2D(4, 2), lambda: Conv2D(4, 2, padding=0)),
    "Conv2D, stride": (lambda: Conv2D(4, 2), lambda: Conv2D(4, 2, stride=2)),
    "FunctionBond, arguments": (
        lambda: function_bond(partial(power, exponent=2.0)),
        lambda: function_bond(partial(power, exponent=3.0)),
    ),
    "FunctionBond, domain": (
        lambda: function_bond(torch.sin),
        lambda: function_bond(torch.sin, L2),
    ),
    "FunctionBond, function": (
        lambda: function_bond(torch.nn.functional.relu),
        lambda: function_bond(torch.relu),
    ),
    "FunctionalAttention, causal": (
        lambda: FunctionalAttention(),
        lambda: FunctionalAttention(causal=False),
    ),
    "GPT, activation": (gpt, partial(gpt, activation=GELU())),
    "GPT, attention_scale": (gpt, partial(gpt, attention_scale=0.5)),
    "GPT, final_scale": (gpt, partial(gpt, final_scale=2.0)),
    "GPT, rope_base": (gpt, partial(gpt, rope_base=100.0)),
    "LayerNorm, eps": (lambda: LayerNorm(), lambda: LayerNorm(1e-3)),
    "Linear, norms": (lambda: Linear(3, 4), lambda: Linear(3, 4, domain=L2, codomain=L2)),
    "Mean, axis": (lambda: Mean(), lambda: Mean(-3)),
    "MLP, activation": (
        lambda: MLP(3, 5, width=4),
        lambda: MLP(3, 5, width=4, activation=Tanh()),
    ),
    "Mul, in the last bit": (lambda: Mul(0.1), lambda: Mul(math.nextafter(0.1, 1.0))),
    "ResCNN, activation": (res_cnn, partial(res_cnn, activation=Tanh())),
    "ResMLP, activation": (res_mlp, partial(res_mlp, activation=Tanh())),
    "residual, num_branches": (lambda: residual(ReLU(), 4), lambda: residual(ReLU(), 8)),
    "RMSNorm, eps": (lambda: RMSNorm(), lambda: RMSNorm(1e-3)),
    "Rope, base": (lambda: Rope(4), lambda: Rope(4, 100.0)),
    "sensitivity set by hand": (lambda: ReLU(), lambda: with_sensitivity(ReLU(), 0.5)),
    "Softmax, scale": (lambda: Softmax(1.0), lambda: Softmax(-1.0)),
    "user's bond, a number": (lambda: Power(2.0), lambda: Power(3.0)),
    "user's bond, a string": (lambda: Power("two"), lambda: Power("three")),
    "user's bond, a tuple": (lambda: Power((2, ("a", None))), lambda: Power((2, ("b", None)))),
    "user's bond, True and 1": (lambda: Power(True), lambda: Power(1)),
    "user's bond, None": (lambda: Power(None), lambda: Power(0)),
}


def load_into(path: Path, saved: Module, other: Module) -> None:
    checkpoint.save(path / "run.pt", saved)
    checkpoint.load(path / "run.pt", other)


@pytest.mark.parametrize("pair", PAIRS)
def test_models_that_differ_in_one_setting_do_not_match(pair: str, tmp_path: Path) -> None:
    saved, other = PAIRS[pair]
    with pytest.raises(CheckpointError, match="of another model"):
        load_into(tmp_path, saved(), other())


@pytest.mark.parametrize("pair", PAIRS)
def test_models_of_equal_settings_match(pair: str, tmp_path: Path) -> None:
    _, make = PAIRS[pair]
    load_into(tmp_path, make(), make())


def test_the_error_names_the_setting_and_both_values(tmp_path: Path) -> None:
    match = r"_exponent of Power\(\) at '1' is 2 in the checkpoint and 3 here"
    with pytest.raises(CheckpointError, match=match):
        load_into(tmp_path, Power(2.0) @ ReLU(), Power(3.0) @ ReLU())


def test_a_transformers_model_matches_itself_read_from_a_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=8, n_head=2, n_layer=1, vocab_size=11)
    saved = transformers.GPT2LMHeadModel(config)
    saved.save_pretrained(tmp_path / "folder")
    other = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "folder")
    checkpoint.save(tmp_path / "run.pt", saved)
    checkpoint.load(tmp_path / "run.pt", other)


EQUAL: dict[str, tuple[Callable[[], Module], Callable[[], Module]]] = {
    "a number as int and as float": (lambda: Power(2), lambda: Power(2.0)),
    "a value set to the class's default": (
        lambda: ReLU(),
        lambda: with_sensitivity(ReLU(), ReLU.sensitivity),
    ),
    "a private attribute that a wrapper set": (
        lambda: ReLU(),
        lambda: with_attribute(ReLU(), "_is_wrapped", True),
    ),
    "recomputation of activations": (
        lambda: with_attribute(ReLU(), "gradient_checkpointing", False),
        lambda: with_attribute(ReLU(), "gradient_checkpointing", True),
    ),
    "masses": (lambda: MLP(3, 5, width=4), lambda: MLP(3, 5, width=4).tare(7.0)),
    "evaluation mode": (lambda: MLP(3, 5, width=4), lambda: MLP(3, 5, width=4).eval()),
}


@pytest.mark.parametrize("pair", EQUAL)
def test_differences_that_are_no_settings_match(pair: str, tmp_path: Path) -> None:
    saved, other = EQUAL[pair]
    load_into(tmp_path, saved(), other())
