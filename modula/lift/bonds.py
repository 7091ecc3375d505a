"""The bond that an operation of torch is, or the constant that is known for it.

Constants stand in `modula.bonds`; those of functions that are no bonds of modula's stand here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modula.algebra.core import Add, Identity, Mul
from modula.algebra.primitive import Primitive
from modula.bonds import (
    GELU,
    Abs,
    AdaptiveAvgPool2D,
    FunctionalAttention,
    LayerNorm,
    ReLU,
    RMSNorm,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from modula.checks import Claim
from modula.lift.trace import IDENTITIES, LAYOUTS, Call


@dataclass(frozen=True)
class Bonded:
    """A call that is a bond.

    Args:
        bond: with its constants. It takes several inputs as a tuple.
    """

    bond: Primitive


@dataclass(frozen=True)
class Constant:
    """A call that is no bond, with its sensitivity in each slot."""

    constant: float = 1.0
    claim: Claim = "estimate"


_ENTRYWISE: Mapping[str, Callable[[], Primitive]] = {
    "relu": ReLU,
    "gelu": GELU,
    "silu": SiLU,
    "tanh": Tanh,
    "abs": Abs,
    "sigmoid": Sigmoid,
    "softmax": Softmax,
    "layer_norm": LayerNorm,
    "rms_norm": RMSNorm,
    "adaptive_avg_pool2d": lambda: AdaptiveAvgPool2D(1),
}

_LIPSCHITZ_1 = frozenset(
    ["leaky_relu", "relu6", "softplus", "sin", "cos", "hardtanh", "clamp", "neg", "mean"]
)
"""Functions that are no bonds and stretch no change, leaky_relu for slopes of at most 1."""

_ONE_WAY = LAYOUTS | IDENTITIES | frozenset(["avg_pool2d", "masked_fill", "setitem", "where"])


def bond_of(call: Call, inputs: int) -> Bonded | Constant:
    """Return the bond that a call is, or its constant.

    Args:
        call: that uses no weight.
        inputs: the number of its inputs that depend on the network's.
    """
    name = call.operation
    if name in _ENTRYWISE and inputs == 1:
        return Bonded(_ENTRYWISE[name]())
    if name in ("add", "sub"):
        return Bonded(Identity() if inputs == 1 else Add()) if inputs else Constant()
    if name in ("mul", "div") and inputs == 1:
        return _multiple(call)
    if name == "scaled_dot_product_attention" and inputs == 3:
        return _attention(call)
    if name == "matmul" and inputs == 2:
        return Constant(_contracted(call), "conditional")
    if name in _LIPSCHITZ_1 or name in _ONE_WAY:
        return Constant(1.0, "proved" if name not in ("view", "reshape") else "conditional")
    return Constant()


def _multiple(call: Call) -> Bonded | Constant:
    """A product with a number, or its quotient."""
    number = call.constants.get("other", call.constants.get("input"))
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return Constant()
    if not number or not math.isfinite(number):
        return Constant(0.0 if not number else 1.0)
    return Bonded(Mul(number if call.operation == "mul" else 1 / float(number)))


def _attention(call: Call) -> Bonded:
    """Attention in one call, whose scale torch applies to query·key without a division by d."""
    width = call.arguments[0].shape[-1]
    scale = call.constants.get("scale")
    given = float(scale) if isinstance(scale, (int, float)) else width**-0.5
    is_causal = bool(call.constants.get("is_causal", False))
    return Bonded(FunctionalAttention(is_causal, given * width))


def _contracted(call: Call) -> float:
    """The sensitivity of a product of activations of RMS at most 1, by Cauchy–Schwarz.

    A product with weights of attention, whose rows sum to 1, is bounded by 1; the recorder does not
    know them, and the width is the bound for both.
    """
    return float(call.arguments[0].shape[-1])
