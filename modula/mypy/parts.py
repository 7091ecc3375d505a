"""The widths of modula's classes, by the names of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from modula.mypy.maps import Divided, Fixed, Map, Same, Space
from modula.mypy.widths import Width

Arguments: TypeAlias = Mapping[str, Width]
"""The arguments of a call whose values are known, by name."""

_MATRICES = ("fan_in", "fan_out")
_CHANNELS = ("in_channels", "out_channels")
_ONE_WIDTH = ("d", "d")
_EMBEDDING = ("d_embed", "d_embed")

FIXED: Mapping[str, tuple[str | None, str | None]] = {
    "Linear": _MATRICES,
    "Affine": _MATRICES,
    "LowRank": _MATRICES,
    "StackedLinear": _MATRICES,
    "MLP": _MATRICES,
    "ResMLP": _MATRICES,
    "GatedMLP": _MATRICES,
    "SwiGLU": _MATRICES,
    "GEGLU": _MATRICES,
    "HeadLinear": ("fan_in", "d_head"),
    "LSTM": ("fan_in", "d"),
    "GRU": ("fan_in", "d"),
    "Embed": (None, "d_embed"),
    "Sinusoid": (None, "d_embed"),
    "GPT": (None, "vocab_size"),
    "Llama": (None, "vocab_size"),
    "Bias": _ONE_WIDTH,
    "Gain": _ONE_WIDTH,
    "StackedBias": _ONE_WIDTH,
    "PositionTable": _ONE_WIDTH,
    "ClassToken": _ONE_WIDTH,
    "BatchNorm": _ONE_WIDTH,
    "MixtureOfExperts": _ONE_WIDTH,
    "Attention": _EMBEDDING,
    "ComposedAttention": _EMBEDDING,
    "FeedForward": _EMBEDDING,
    "ChannelBias": _ONE_WIDTH,
    "ChannelGain": _ONE_WIDTH,
    "ChannelBatchNorm": _ONE_WIDTH,
    "Conv1D": _CHANNELS,
    "Conv2D": _CHANNELS,
    "Conv3D": _CHANNELS,
    "ConvTranspose1D": _CHANNELS,
    "ConvTranspose2D": _CHANNELS,
    "ConvTranspose3D": _CHANNELS,
    "UNet": _CHANNELS,
    "ResCNN": ("in_channels", "fan_out"),
    "ResNet": ("in_channels", "fan_out"),
    "ViT": ("in_channels", "fan_out"),
}
"""The arguments that are the widths of input and output; None where the class does not say."""

FOLLOWING = ("modula.algebra.core.Elementwise", "modula.bonds.base.SameSpace")
"""Bases of the bonds from a space to itself, a user's own among them."""

_RULES: Mapping[str, Callable[[str, Arguments], Map]] = {
    "AvgPool": lambda text, arguments: Same(text),
    "SplitIntoHeads": lambda text, arguments: Divided(text, arguments.get("num_heads")),
}


def part(name: str, arguments: Arguments) -> Map | None:
    """Return the map that a call of a class of modula makes, or None for a class without widths.

    Args:
        name: of the class.
        arguments: the widths among the arguments of the call.

    Example:
        >>> from modula.mypy.parts import part
        >>> from modula.mypy.widths import Width
        >>> part("Linear", {"fan_out": Width.number(10), "fan_in": Width.named("n")}).text
        'Linear(10, n)'
    """
    text = f"{name}({', '.join(map(str, arguments.values()))})"
    if name in _RULES:
        return _RULES[name](text, arguments)
    if name not in FIXED:
        return None
    spaces: list[Space] = [arguments.get(key) if key else None for key in FIXED[name]]
    return Fixed(text, spaces[0], spaces[1])


def following(name: str) -> Map:
    """Return the map of a bond from a space to itself."""
    return Same(f"{name}()")
