"""A checkpoint matches a model only if all settings of all modules are equal."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from types import SimpleNamespace

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
    Conv1D,
    Conv2D,
    ConvTranspose2D,
    FunctionalAttention,
    FunctionBond,
    Gate,
    GatedMLP,
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


class Masked(Bond[RMS, RMS]):
    """A user's bond with a mask that is not saved: a buffer, or an attribute."""

    def __init__(self, size: int, is_buffer: bool) -> None:
        super().__init__()
        mask = torch.ones(4, 4, dtype=torch.bool).triu(size)
        if is_buffer:
            self.register_buffer("mask", mask, persistent=False)
        else:
            self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        return x


def endless() -> list[object]:
    entries: list[object] = [1]
    entries.append(entries)
    return entries


class Mode(Enum):
    FAST = 1
    EXACT = 2


class Raise:
    """A function that is an object."""

    def __init__(self, exponent: float) -> None:
        self.exponent = exponent

    def __call__(self, x: Tensor) -> Tensor:
        return x**self.exponent

    def apply(self, x: Tensor) -> Tensor:
        return x**self.exponent


def raising(exponent: float) -> Callable[[Tensor], Tensor]:
    """A function that encloses its exponent."""

    def raised(x: Tensor) -> Tensor:
        return x**exponent

    return raised


def with_default(exponent: float) -> Callable[[Tensor], Tensor]:
    def raised(x: Tensor, exponent: float = exponent) -> Tensor:
        return x**exponent

    return raised


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
    "Conv1D, kernel_size": (lambda: Conv1D(4, 2), lambda: Conv1D(4, 2, 5)),
    "Conv2D, dilation": (lambda: Conv2D(4, 2), lambda: Conv2D(4, 2, dilation=2)),
    "Conv2D, groups": (lambda: Conv2D(4, 4, groups=2), lambda: Conv2D(4, 4, groups=4)),
    "Conv2D, kernel_size": (lambda: Conv2D(4, 2, (3, 1)), lambda: Conv2D(4, 2, (1, 3))),
    "Conv2D, padding_mode": (
        lambda: Conv2D(4, 2),
        lambda: Conv2D(4, 2, padding_mode="circular"),
    ),
    "ConvTranspose2D, output_padding": (
        lambda: ConvTranspose2D(4, 2),
        lambda: ConvTranspose2D(4, 2, output_padding=1),
    ),
    "Conv2D, padding": (lambda: Conv2D(4, 2), lambda: Conv2D(4, 2, padding=0)),
    "Conv2D, stride": (lambda: Conv2D(4, 2), lambda: Conv2D(4, 2, stride=2)),
    "FunctionBond, arguments": (
        lambda: function_bond(partial(power, exponent=2.0)),
        lambda: function_bond(partial(power, exponent=3.0)),
    ),
    "FunctionBond, a lambda's constant": (
        lambda: function_bond(lambda x: x * 2),
        lambda: function_bond(lambda x: x * 3),
    ),
    "FunctionBond, a lambda's function": (
        lambda: function_bond(lambda x: x.sin()),
        lambda: function_bond(lambda x: x.cos()),
    ),
    "FunctionBond, a lambda's operator": (
        lambda: function_bond(lambda x: x + x),
        lambda: function_bond(lambda x: x * x),
    ),
    "FunctionBond, a default": (
        lambda: function_bond(with_default(2.0)),
        lambda: function_bond(with_default(3.0)),
    ),
    "FunctionBond, a method's object": (
        lambda: function_bond(Raise(2.0).apply),
        lambda: function_bond(Raise(3.0).apply),
    ),
    "FunctionBond, an enclosed variable": (
        lambda: function_bond(raising(2.0)),
        lambda: function_bond(raising(3.0)),
    ),
    "FunctionBond, an object": (
        lambda: function_bond(Raise(2.0)),
        lambda: function_bond(Raise(3.0)),
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
    "Gate, gate": (lambda: Gate(gate=RMS), lambda: Gate(gate=Linf)),
    "GatedMLP, activation": (
        lambda: GatedMLP(3, 5, width=4, activation=GELU()),
        lambda: GatedMLP(3, 5, width=4, activation=Tanh()),
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
    "user's bond, a dict": (lambda: Power({"a": [1]}), lambda: Power({"a": [2]})),
    "user's bond, a dtype": (lambda: Power(torch.float32), lambda: Power(torch.float64)),
    "user's bond, a list": (lambda: Power([3, 5]), lambda: Power([3, 7])),
    "user's bond, a long list": (
        lambda: Power(list(range(1000))),
        lambda: Power([*range(999), 0]),
    ),
    "user's bond, a mask": (lambda: Masked(1, False), lambda: Masked(2, False)),
    "user's bond, a mask in a buffer": (lambda: Masked(1, True), lambda: Masked(2, True)),
    "user's bond, a namespace": (
        lambda: Power(SimpleNamespace(a=1)),
        lambda: Power(SimpleNamespace(a=2)),
    ),
    "user's bond, a set": (lambda: Power({"a", "b"}), lambda: Power({"a", "c"})),
    "user's bond, an Enum": (lambda: Power(Mode.FAST), lambda: Power(Mode.EXACT)),
    "user's bond, None": (lambda: Power(None), lambda: Power(0)),
}


def load_into(path: Path, saved: Module, other: Module) -> None:
    checkpoint.save(path / "run.pt", saved)
    checkpoint.load(path / "run.pt", other)


def assert_loaded(path: Path, saved: Module, other: Module) -> None:
    load_into(path, saved, other)
    pairs = zip(saved.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(one, loaded.to(one.dtype)) for one, loaded in pairs)


@pytest.mark.parametrize("pair", PAIRS)
def test_models_that_differ_in_one_setting_do_not_match(pair: str, tmp_path: Path) -> None:
    saved, other = PAIRS[pair]
    with pytest.raises(CheckpointError, match="of another model"):
        load_into(tmp_path, saved(), other())


@pytest.mark.parametrize("pair", PAIRS)
def test_models_of_equal_settings_match(pair: str, tmp_path: Path) -> None:
    _, make = PAIRS[pair]
    assert_loaded(tmp_path, make(), make())


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
    "a mask that only one has made": (
        lambda: with_attribute(ReLU(), "mask", torch.ones(3, dtype=torch.bool)),
        lambda: with_attribute(ReLU(), "mask", None),
    ),
    "a cache of activations": (
        lambda: with_attribute(ReLU(), "last", torch.ones(3)),
        lambda: with_attribute(ReLU(), "last", torch.zeros(4)),
    ),
    "a set in another order": (lambda: Power({"a", "b"}), lambda: Power({"b", "a"})),
    "a dict in another order": (
        lambda: Power({"a": 1, "b": 2}),
        lambda: Power({"b": 2, "a": 1}),
    ),
    "a list that contains itself": (lambda: Power(endless()), lambda: Power(endless())),
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
    assert_loaded(tmp_path, saved(), other())


def with_buffer(t: Tensor) -> Bond:
    bond = ReLU()
    bond.register_buffer("table", t)
    return bond


@pytest.mark.parametrize("saved", [torch.float32, torch.complex64, torch.int64, torch.bool])
@pytest.mark.parametrize("loaded", [torch.float64, torch.complex128, torch.int32])
def test_numbers_are_converted_within_their_kind_alone(
    saved: torch.dtype, loaded: torch.dtype, tmp_path: Path
) -> None:
    models = with_buffer(torch.ones(2, dtype=saved)), with_buffer(torch.ones(2, dtype=loaded))
    of_one_kind = [
        saved.is_floating_point == loaded.is_floating_point,
        saved.is_complex == loaded.is_complex,
    ]
    if all(of_one_kind):
        load_into(tmp_path, *models)
    else:
        with pytest.raises(CheckpointError, match="'table' is"):
            load_into(tmp_path, *models)


def test_a_large_mask_is_compared(tmp_path: Path) -> None:
    masks = [torch.ones(1100, 1100, dtype=torch.bool).triu(k) for k in (0, 1)]
    models = [with_attribute(ReLU(), "mask", mask) for mask in (*masks, masks[0].clone())]
    load_into(tmp_path, models[0], models[2])
    with pytest.raises(CheckpointError, match="mask"):
        load_into(tmp_path, models[0], models[1])
