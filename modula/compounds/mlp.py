"""Multilayer perceptrons: `MLP`, the residual `ResMLP`, and `GatedMLP` with `SwiGLU`, `GEGLU`."""

from __future__ import annotations

from itertools import pairwise

from modula.algebra.core import Composition, Elementwise, Module
from modula.atoms import Linear
from modula.bonds import GELU, Gate, ReLU, SiLU
from modula.compounds.residual import residual
from modula.norms import RMS


class MLP(Composition[RMS, RMS]):
    """A stack of `depth` Linear layers with an activation between them.

    Sensitivity s^(depth − 1) for the sensitivity s of the activation: proved, if that is.

    Args:
        fan_out, fan_in: the widths of output and input.
        width: the width of the hidden layers.
        depth: the number of Linear layers, at least 1.
        activation: an elementwise bond; None takes ReLU.

    Raises:
        ValueError: `depth` < 1, or a width below 1.

    Example:
        >>> from modula import MLP
        >>> model = MLP(10, 784, width=256, depth=3)
        >>> model.mass, model.sensitivity
        (3.0, 1.0)
    """

    def __init__(
        self,
        fan_out: int,
        fan_in: int,
        *,
        width: int,
        depth: int = 2,
        activation: Elementwise | None = None,
    ) -> None:
        if depth < 1:
            raise ValueError(f"MLP has at least 1 layer, got depth={depth}")
        bond = ReLU() if activation is None else activation
        widths = [fan_in, *[width] * (depth - 1), fan_out]
        network: Module[RMS, RMS] = Linear(widths[1], widths[0])
        for below, above in pairwise(widths[1:]):
            network = Linear(above, below) @ bond @ network
        super().__init__(network)
        self.arguments: str = f"{fan_out}, {fan_in}, width={width}, depth={depth}"

    def extra_repr(self) -> str:
        return self.arguments


class ResMLP(Composition[RMS, RMS]):
    """A residual network of MLP blocks between a Linear into the width and a Linear out of it.

    Each block of `block_depth` pairs Linear @ activation is averaged with its input, (1 − 1/L)·x +
    (1/L)·block(x) for L blocks. The masses of all blocks sum to `block_mass`, so that the mass
    fractions of the first and the last layer do not depend on the depth.

    Sensitivity 1 and radius R for an activation with these: proved, if the activation's are.

    Args:
        fan_out, fan_in: the widths of output and input.
        width: the width of the blocks.
        num_blocks: L, at least 1.
        block_depth: Linear layers in a block, at least 1.
        block_mass: the mass of all blocks together; the first and the last layer have 1 each. The
            default does well at every depth (docs, "How much mass do blocks need?").
        activation: an elementwise bond; None takes ReLU.

    Raises:
        ValueError: a count or width below 1, or a negative mass.

    Example:
        >>> from modula import ResMLP
        >>> ResMLP(10, 784, width=64, num_blocks=8).sensitivity
        1.0
    """

    def __init__(
        self,
        fan_out: int,
        fan_in: int,
        *,
        width: int,
        num_blocks: int,
        block_depth: int = 2,
        block_mass: float = 8.0,
        activation: Elementwise | None = None,
    ) -> None:
        if num_blocks < 1 or block_depth < 1:
            raise ValueError(
                f"ResMLP has at least 1 block of at least 1 layer, got num_blocks={num_blocks}, "
                f"block_depth={block_depth}"
            )
        block = (
            Linear(width, width) @ (ReLU() if activation is None else activation)
        ) ** block_depth
        blocks = (residual(block, num_blocks) ** num_blocks).tare(block_mass)
        super().__init__(Linear(fan_out, width) @ blocks @ Linear(width, fan_in))
        self.arguments: str = (
            f"{fan_out}, {fan_in}, width={width}, num_blocks={num_blocks}, "
            f"block_depth={block_depth}"
        )

    def extra_repr(self) -> str:
        return self.arguments


class GatedMLP(Composition[RMS, RMS]):
    """An MLP with a gated hidden layer: W₃·(W₁x · φ(W₂x)), scaled to sensitivity 1.

    The activation φ is divided by its sensitivity, and the product by 2, since both of its factors
    depend on x.

    Sensitivity 1, radius R/2: conditional, as `Gate` is, on entries of magnitude at most 1 in both
    factors. An input of RMS 1 has larger entries, so that in a network it is an estimate.

    Args:
        fan_out, fan_in: the widths of output and input.
        width: of the hidden layer.
        activation: φ, an elementwise bond.

    Raises:
        ValueError: a width below 1.

    Example:
        >>> import torch
        >>> from modula import GatedMLP, ReLU
        >>> GatedMLP(8, 8, width=16, activation=ReLU())(torch.randn(3, 8)).shape
        torch.Size([3, 8])

    Source: Shazeer 2020 (arXiv:2002.05202), equation 6.
    """

    def __init__(self, fan_out: int, fan_in: int, *, width: int, activation: Elementwise) -> None:
        gate = activation / activation.sensitivity @ Linear(width, fan_in)
        super().__init__(Linear(fan_out, width) @ (0.5 * Gate()) @ (Linear(width, fan_in), gate))
        self.arguments: str = f"{fan_out}, {fan_in}, width={width}"

    def extra_repr(self) -> str:
        return self.arguments


class SwiGLU(GatedMLP):
    """`GatedMLP` with the activation SiLU, as in Llama.

    Args:
        fan_out, fan_in, width: as for `GatedMLP`.

    Example:
        >>> from modula import SwiGLU
        >>> mlp = SwiGLU(64, 64, width=128)
        >>> mlp.mass, round(mlp.sensitivity, 6)
        (3.0, 1.0)
    """

    def __init__(self, fan_out: int, fan_in: int, *, width: int) -> None:
        super().__init__(fan_out, fan_in, width=width, activation=SiLU())


class GEGLU(GatedMLP):
    """`GatedMLP` with the activation GELU.

    Args:
        fan_out, fan_in, width: as for `GatedMLP`.

    Example:
        >>> from modula import GEGLU
        >>> GEGLU(64, 64, width=128).mass
        3.0
    """

    def __init__(self, fan_out: int, fan_in: int, *, width: int) -> None:
        super().__init__(fan_out, fan_in, width=width, activation=GELU())
