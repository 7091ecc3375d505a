"""`Experts`: many matrices in one tensor, of which each vector meets the one that it is sent to."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from modula.algebra.core import Atom, AtomOptions
from modula.algebra.widths import check_width
from modula.atoms.expert_products import count_each, multiply_rows, multiply_rows_compiled
from modula.checks import Acts, Claim
from modula.geometry import Spectral, Stacked
from modula.graph import GraphBuilder, Radius, total_radius
from modula.network import weight_name
from modula.norms import RMS, OneHot
from modula.spaces import AnySpace, Product, Signature, Space, meet


class Experts(Atom[tuple[RMS, OneHot], RMS]):
    """(x, ids) ↦ W[id]·x for each vector x of [..., fan_in] and its id of [...].

    The weight [num, fan_out, fan_in] is measured by the largest RMS → RMS norm of a matrix, and
    each matrix is dualized by itself: an expert that no vector was sent to does not move.

    Sensitivity 1 in x, radius R_x: proved, since each vector meets one matrix of norm at most 1.
    Ids have no changes.

    Args:
        num: the number of experts.
        fan_out, fan_in: the widths of output and input.
        mass, device, dtype: as for every atom; the mass is that of all experts together.

    Raises:
        ValueError: a number or width below 1, or a negative mass; in the forward pass, ids of
            another shape than the vectors.
        TypeError: in the forward pass, ids that are not int64.

    Example:
        >>> import torch
        >>> from modula import Experts
        >>> ids = torch.tensor([0, 2, 2])
        >>> Experts(4, 16, 8)((torch.randn(3, 8), ids)).shape
        torch.Size([3, 16])
    """

    claim: Claim = "proved"
    acts: ClassVar[Acts] = "otherwise"

    def __init__(self, num: int, fan_out: int, fan_in: int, **options: Unpack[AtomOptions]) -> None:
        super().__init__((num, fan_out, fan_in), Stacked(Spectral(RMS, RMS), None), **options)
        num, fan_out, fan_in = self.weight.shape
        self._features = Space(RMS, fan_in)
        self.declared_signature: Signature = (
            Product((self._features, Space(OneHot, num))),
            Space(RMS, fan_out),
        )

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        own_domain, own_codomain = self.declared_signature
        return meet(own_domain, domain), meet(own_codomain, codomain)

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        operation, name = self.as_operation(), weight_name(path)
        return builder.add_weighted(path, operation, (source,), name, self, part=0)

    def radius(self, *inputs: Radius) -> Radius:
        return self.weight_sensitivity(*inputs)

    def weight_sensitivity(self, *inputs: Radius) -> float:
        (pair,) = inputs
        return total_radius(pair[0] if isinstance(pair, tuple) else pair)

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        features, ids = x
        self._check(features, ids)
        num = self.weight.shape[0]
        chosen = ids.reshape(-1)
        by_expert = chosen.argsort(stable=True)
        counts = count_each(chosen, num)
        sent = features.reshape(-1, features.shape[-1])[by_expert]
        multiply = multiply_rows_compiled if torch.compiler.is_compiling() else multiply_rows
        outputs = multiply(sent, self.weight, counts)
        return outputs[by_expert.argsort()].reshape(*ids.shape, -1)

    def _check(self, features: Tensor, ids: Tensor) -> None:
        check_width(self, self._features, features)
        if ids.dtype != torch.int64:
            raise TypeError(f"{self!r} takes ids of experts of dtype int64, got {ids.dtype}")
        if features.shape[:-1] != ids.shape:
            raise ValueError(
                f"{self!r} takes one id for each vector, got vectors of shape "
                f"{list(features.shape)} and ids of shape {list(ids.shape)}"
            )
        num = self.weight.shape[0]
        if ids.numel() and not torch.compiler.is_compiling():
            low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= num:
                raise IndexError(
                    f"{self!r} takes ids from 0 to {num - 1}, got ids from {low} to {high}"
                )

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.weight.shape))
