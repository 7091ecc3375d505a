"""`Stacked`: several weights in one tensor, as fused projections, heads, gates and experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modula.geometry.base import Geometry, Matrices
from modula.geometry.parts import magnitudes
from modula.polar import MethodLike


@dataclass(frozen=True)
class Stacked(Geometry):
    """Several weights in one tensor, consecutive along one axis, each with its own duality map.

    The norm is the largest norm of a block and the dual norm is the sum of the blocks' dual norms.

    Args:
        block: the geometry of one weight, called a block of the tensor.
        sizes: the number of blocks of equal length along the axis, or the length of each; None if
            each index along the axis is one block, which then has one axis less than the tensor, as
            experts in [expert, d_out, d_in].
        axis: of the tensor. A geometry does not see the forward map: whether that splits the same
            axis is checked by `modula.testing.check_atom`, whose bounds a wrong axis violates.

    Raises:
        ValueError: a number or a length below 1; when a tensor is given, an axis of another length
            than the sizes sum to.

    Example:
        >>> import torch
        >>> from modula import RMS
        >>> from modula.geometry import Spectral, Stacked
        >>> fused = Stacked(Spectral(RMS, RMS), 3)  # query, key and value in [3·d, d]
        >>> weight = torch.cat([torch.eye(2), 2 * torch.eye(2), 3 * torch.eye(2)])
        >>> fused.norm(weight[None])
        tensor([3.])
        >>> torch.equal(fused.dualize(weight[None], "svd")[0], torch.cat([torch.eye(2)] * 3))
        True
    """

    block: Geometry
    sizes: int | tuple[int, ...] | None
    axis: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.sizes, Sequence):
            object.__setattr__(self, "sizes", tuple(self.sizes))
        lengths = self.sizes if isinstance(self.sizes, tuple) else (self.sizes or 1,)
        if not lengths or min(lengths) < 1 or self.sizes == 0:
            raise ValueError(
                f"Stacked takes at least one block, of length at least 1; got sizes={self.sizes}"
            )
        if not -self.axes <= self.axis < self.axes:
            raise ValueError(
                f"Stacked takes an axis from {-self.axes} to {self.axes - 1} for tensors of "
                f"{self.axes} axes, got axis={self.axis}"
            )

    @property
    def axes(self) -> int:  # type: ignore[override] # follows from the block's
        return self.block.axes + (self.sizes is None)

    def norm(self, weight: Tensor) -> Tensor:
        norms = [self.block.norm(block) for block in self._blocks(weight)]
        return torch.cat(norms, dim=-1).amax(dim=-1)

    def dual_norm(self, gradient: Tensor) -> Tensor:
        norms = [self.block.dual_norm(block) for block in self._blocks(gradient)]
        return torch.cat(norms, dim=-1).sum(dim=-1)

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        return self._by_block(lambda block: self.block.dualize(block, method), gradient)

    def part_sizes(self, gradient: Tensor) -> Tensor | None:
        return self._by_block(self._sizes_in_block, gradient)

    def project(self, weight: Tensor) -> Tensor:
        return self._by_block(self.block.project, weight)

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        blocks = [
            torch.stack([self.block.sample(tuple(one), generator, device) for _ in range(count)])
            for count, one in self._shapes(shape)
        ]
        return self._joined(blocks, shape)

    def orthogonal_parts(self, gradient: Tensor) -> Matrices | None:
        if type(self).dualize is not Stacked.dualize:
            return None
        of_blocks = [self.block.orthogonal_parts(block) for block in self._blocks(gradient)]
        known = [one for one in of_blocks if one is not None]
        if len(known) != len(of_blocks):
            return None
        # [batch, block, count, d_out, d_in] is a batch of block·count matrices
        return Matrices(
            [matrices.flatten(-4, -3) for one in known for matrices in one.matrices],
            [radius for one in known for radius in one.radii],
        )

    def from_orthogonal_parts(self, factors: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        shapes = self._shapes(shape)
        each = len(factors) // len(shapes)
        blocks = []
        for i, (count, one) in enumerate(shapes):
            own = [torch.unflatten(f, -3, (count, -1)) for f in factors[i * each : (i + 1) * each]]
            blocks.append(self.block.from_orthogonal_parts(own, one))
        return self._joined(blocks, shape)

    def _sizes_in_block(self, block: Tensor) -> Tensor:
        """The sizes of the parts of each block: [batch, count, *block] -> the same."""
        flat = block.flatten(0, 1)
        sizes = self.block.part_sizes(flat)
        if sizes is None:
            sizes = magnitudes(flat, tuple(range(1, flat.dim())))
        return torch.unflatten(sizes.expand(-1, *block.shape[2:]), 0, block.shape[:2])

    def _by_block(self, f: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
        shape = tuple(weight.shape[-self.axes :])
        return self._joined([f(block) for block in self._blocks(weight)], shape)

    def _lengths(self, length: int) -> tuple[int, ...]:
        """The length of each block along an axis of that length."""
        if self.sizes is None:
            return (1,) * length
        if isinstance(self.sizes, int):
            lengths = (length // self.sizes,) * self.sizes
        else:
            lengths = self.sizes
        if sum(lengths) != length or 0 in lengths:
            raise ValueError(
                f"Stacked with sizes={self.sizes} takes no axis of length {length}: change the "
                "width or the sizes"
            )
        return lengths

    def _runs(self, length: int) -> list[tuple[int, int]]:
        """Consecutive blocks of equal length, as (their number, their length)."""
        runs: list[tuple[int, int]] = []
        for one in self._lengths(length):
            if runs and runs[-1][1] == one:
                runs[-1] = (runs[-1][0] + 1, one)
            else:
                runs.append((1, one))
        return runs

    def _shapes(self, shape: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]]:
        """The number of blocks in each run, and the shape of one."""
        axis = self.axis % self.axes
        before, after = shape[:axis], shape[axis + 1 :]
        if self.sizes is None:
            return [(shape[axis], before + after)]
        return [(count, (*before, length, *after)) for count, length in self._runs(shape[axis])]

    def _blocks(self, weight: Tensor) -> list[Tensor]:
        """The blocks of each run: [..., *shape] -> [..., count, *block]."""
        axis = self.axis % self.axes - self.axes
        runs = self._runs(weight.shape[axis])
        pieces = torch.split(weight, [count * length for count, length in runs], dim=axis)
        return [
            self._unstacked(piece, axis, count)
            for piece, (count, _) in zip(pieces, runs, strict=True)
        ]

    def _unstacked(self, piece: Tensor, axis: int, count: int) -> Tensor:
        apart = piece if self.sizes is None else torch.unflatten(piece, axis, (count, -1))
        front = axis if self.sizes is None else axis - 1
        return apart.movedim(front, -self.block.axes - 1)

    def _joined(self, blocks: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """The inverse of `_blocks`."""
        axis = self.axis % self.axes - self.axes
        pieces = []
        for block in blocks:
            if self.sizes is None:
                pieces.append(block.movedim(-self.block.axes - 1, axis))
            else:
                apart = block.movedim(-self.block.axes - 1, axis - 1)
                pieces.append(apart.flatten(axis - 1, axis))
        return pieces[0].contiguous() if len(pieces) == 1 else torch.cat(pieces, dim=axis)
