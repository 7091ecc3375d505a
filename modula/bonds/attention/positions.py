"""Positions: rotary ones of queries and keys, and sinusoidal ones that are added to embeddings.

Learned positions are an atom: `Embed(d_embed, context) @ Enumerate()`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modula.algebra.core import Bond
from modula.bonds.base import SameSpace
from modula.checks import Claim
from modula.graph import Radius
from modula.norms import RMS, HeadRMS, OneHot
from modula.scaling import working_dtype
from modula.spaces import Product, Signature, Space

ROPE_BASE = 10_000.0
"""The base of rotary positions in Su et al. 2021, and of sinusoidal ones in Vaswani et al. 2017."""


class Rope(SameSpace[tuple[HeadRMS, HeadRMS], tuple[HeadRMS, HeadRMS]]):
    """Rotary position embedding of a (query, key) pair, each [batch, head, position, d_head].

    Entry i and entry i + d_head/2 are rotated together by position·base^(−2i/d_head), so that
    scores depend on positions through their difference only. Where there are fewer queries than
    keys, they are at the last of the keys' positions.

    Sensitivity 1, radius R: proved, since every vector is rotated.

    Args:
        d_head: the width of a head, even.
        base: a bound on the wavelengths, in units of 2π positions.

    Raises:
        ValueError: d_head is odd or below 2, or the base is not positive and finite.

    Source: Su et al. 2021 (arXiv:2104.09864), equation 34.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def __init__(self, d_head: int, base: float = ROPE_BASE) -> None:
        super().__init__()
        if d_head < 2 or d_head % 2:
            raise ValueError(
                f"Rope rotates pairs of entries and takes an even d_head, got {d_head}"
            )
        check_base("Rope", base)
        self.d_head = d_head
        self.base = base
        head = Space(HeadRMS, d_head)
        self.declared_signature: Signature = (Product((head, head)), Product((head, head)))

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]  # a rotation keeps every norm

    def forward(self, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self._rotated(x, 0)

    def start(self) -> int:
        return 0

    def resume(self, x: tuple[Tensor, Tensor], state: int) -> tuple[tuple[Tensor, Tensor], int]:
        return self._rotated(x, state), state + x[1].shape[-2]

    def extra_repr(self) -> str:
        return f"{self.d_head}" + ("" if self.base == ROPE_BASE else f", base={self.base:g}")

    def _rotated(self, x: tuple[Tensor, Tensor], before: int) -> tuple[Tensor, Tensor]:
        """The pair rotated by positions that begin at `before`."""
        query, key = x
        angles = sinusoid_angles(key.shape[-2], self.d_head, self.base, before, query)
        cos, sin = angles.cos().to(query.dtype), angles.sin().to(query.dtype)
        last = -query.shape[-2]
        return _rotate(query, cos[last:], sin[last:]), _rotate(key, cos, sin)


class Sinusoid(Bond[OneHot, RMS]):
    """ids [..., position] ↦ sinusoids of their positions, [..., position, d_embed].

    Entries 2i and 2i + 1 are √2·sin and √2·cos of position·base^(−2i/d_embed), so that every vector
    has RMS 1. Add it to an embedding: `0.5 * Embed(d, vocab) + 0.5 * Sinusoid(d)`.

    Sensitivity 1, radius 1: proved, since the output does not depend on the ids.

    Args:
        d_embed: the width, even.
        base: a bound on the wavelengths, in units of 2π positions.

    Raises:
        ValueError: d_embed is odd or below 2, or the base is not positive and finite.

    Example:
        >>> import torch
        >>> from modula import RMS, Sinusoid
        >>> table = Sinusoid(16)(torch.zeros(1, 10, dtype=torch.long))
        >>> table.shape, RMS.measure(table)
        (torch.Size([1, 10, 16]), tensor(1.0000))

    Source: Vaswani et al. 2017 (arXiv:1706.03762), section 3.5.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def __init__(self, d_embed: int, base: float = ROPE_BASE) -> None:
        super().__init__()
        if d_embed < 2 or d_embed % 2:
            raise ValueError(
                f"Sinusoid has pairs of sine and cosine and takes an even d_embed, got {d_embed}"
            )
        check_base("Sinusoid", base)
        self.d_embed = d_embed
        self.base = base
        self.declared_signature: Signature = (Space(OneHot), Space(RMS, d_embed))

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0

    def forward(self, ids: Tensor) -> Tensor:
        return self._table(ids, 0)

    def start(self) -> int:
        return 0

    def resume(self, x: Tensor, state: int) -> tuple[Tensor, int]:
        return self._table(x, state), state + x.shape[-1]

    def extra_repr(self) -> str:
        return f"{self.d_embed}" + ("" if self.base == ROPE_BASE else f", base={self.base:g}")

    def _table(self, ids: Tensor, before: int) -> Tensor:
        like = torch.empty((), device=ids.device)  # of the default dtype, as embeddings are
        angles = sinusoid_angles(ids.shape[-1], self.d_embed, self.base, before, like)
        pairs = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).to(like.dtype)
        return (math.sqrt(2) * pairs).expand(*ids.shape, self.d_embed)


def check_base(name: str, base: float) -> None:
    """Raise if there are no wavelengths up to 2π·base.

    Args:
        name: of the bond, for the error.
        base: any number.

    Raises:
        ValueError: the base is not positive and finite.
    """
    if not (math.isfinite(base) and base > 0):
        raise ValueError(
            f"{name} takes a base > 0, the longest wavelength over 2π positions, got {base}"
        )


def sinusoid_angles(positions: int, d: int, base: float, before: int, like: Tensor) -> Tensor:
    """Return position·base^(−2i/d) for each position and each i < d/2: [position, d / 2].

    Args:
        positions: their number.
        d: the width, even.
        base: a bound on the wavelengths, in units of 2π positions.
        before: the number of the first position.
        like: gives the device, and the dtype, which is at least float32.
    """
    dtype = working_dtype(like.dtype)
    exponents = torch.arange(0, d, 2, device=like.device, dtype=dtype) / d
    numbers = torch.arange(before, before + positions, device=like.device, dtype=dtype)
    return torch.outer(numbers, base**-exponents)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
