"""Weights in another arrangement than stored, and kernels in any number of dimensions, are the same
matrices one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from modula import RMS, ChannelRMS
from modula.geometry import (
    Flattened,
    Geometry,
    Reshaped,
    Spectral,
    Stacked,
    Taps,
    Transposed,
    Vectors,
)
from tests.helpers import close, rand

MATRIX = Spectral(RMS, RMS)
Matrices = Callable[[Tensor], list[Tensor]]


def taps(kernel: Tensor) -> list[Tensor]:
    return list(kernel.flatten(2).unbind(-1))


def swapped_taps(kernel: Tensor) -> list[Tensor]:
    return taps(kernel.transpose(0, 1))


def in_groups(count: int, matrices: Matrices) -> Matrices:
    return lambda kernel: [m for group in kernel.chunk(count) for m in matrices(group)]


CASES: dict[str, tuple[Geometry, tuple[int, ...], Matrices, int]] = {
    "[in, out]": (Transposed(MATRIX), (4, 6), lambda w: [w.T], 1),
    "fused [in, out]": (
        Transposed(Stacked(MATRIX, 3)),
        (4, 6),
        lambda w: list(w.T.split(2)),
        1,
    ),
    "unequal [in, out]": (
        Transposed(Stacked(MATRIX, (4, 1, 1))),
        (4, 6),
        lambda w: list(w.T.split([4, 1, 1])),
        1,
    ),
    "experts [in, out]": (
        Stacked(Transposed(MATRIX), None),
        (3, 4, 5),
        lambda w: [one.T for one in w],
        1,
    ),
    "a vector": (Reshaped(MATRIX, 1, (4, 6)), (24,), lambda w: [w.view(4, 6)], 1),
    "in two shapes": (
        Reshaped(Flattened(MATRIX, 1, 2), 3, (2, 6, 3), (1, 0, 2)),
        (2, 6, 3),
        lambda w: [w.transpose(0, 1).flatten(1)],
        1,
    ),
    "patches": (Flattened(MATRIX, 1, 3), (4, 3, 2, 2), lambda w: [w.flatten(1)], 1),
    "heads out": (Flattened(MATRIX, 0, 2), (2, 3, 5), lambda w: [w.flatten(0, 1)], 1),
    "[in, heads, out]": (
        Flattened(Transposed(MATRIX), 1, 2),
        (5, 2, 3),
        lambda w: [w.flatten(1).T],
        1,
    ),
    "1-d kernel": (Taps(pixel_axes=1), (4, 3, 5), taps, 5),
    "2-d kernel": (Taps(), (4, 3, 2, 3), taps, 6),
    "3-d kernel": (Taps(pixel_axes=3), (2, 3, 2, 1, 2), taps, 4),
    "groups": (Stacked(Taps(), 2), (4, 3, 2, 2), in_groups(2, taps), 4),
    "depthwise": (Stacked(Taps(pixel_axes=1), 4), (4, 1, 3), in_groups(4, taps), 3),
    "transposed": (Transposed(Taps(added=4)), (3, 4, 4, 4), swapped_taps, 4),
    "transposed, groups": (
        Stacked(Transposed(Taps(pixel_axes=1, added=2)), 2),
        (6, 2, 4),
        in_groups(2, swapped_taps),
        2,
    ),
}
every = pytest.mark.parametrize(
    ("geometry", "shape", "matrices", "added"), CASES.values(), ids=CASES
)


def singular(matrix: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrix)


def ratio(matrix: Tensor) -> float:
    return math.sqrt(matrix.shape[0] / matrix.shape[1])


@every
def test_the_norm_is_the_largest_of_the_matrices(geometry, shape, matrices, added):
    w = rand(0, 2, *shape)
    expected = [max(float(singular(m)[0]) / ratio(m) for m in matrices(one)) * added for one in w]
    close(geometry.norm(w), expected)


@every
def test_the_dual_norm_is_their_sum(geometry, shape, matrices, added):
    g = rand(1, 2, *shape)
    expected = [
        sum(float(singular(m).sum()) * ratio(m) for m in matrices(one)) / added for one in g
    ]
    close(geometry.dual_norm(g), expected)


@every
def test_the_dual_is_that_of_each_matrix(geometry, shape, matrices, added):
    g = rand(2, 2, *shape)
    for one, dual in zip(g, geometry.dualize(g, "svd"), strict=True):
        for m, d in zip(matrices(one), matrices(dual), strict=True):
            U, _, Vh = torch.linalg.svd(m, full_matrices=False)
            close(d, U @ Vh * ratio(m) / added)


@every
def test_the_dual_attains_the_dual_norm(geometry, shape, matrices, added):
    g = rand(3, 2, *shape)
    pairing = (g * geometry.dualize(g, "svd")).flatten(1).sum(1)
    close(pairing, geometry.dual_norm(g))


@every
def test_projections_and_samples_have_norm_one(geometry, shape, matrices, added):
    projected = geometry.project(rand(4, 1, *shape))
    sample = geometry.sample(shape, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert sample.shape == shape
    assert sample.dtype == torch.float32
    close(geometry.norm(sample[None].double()), [1], rtol=1e-5)
    close(geometry.norm(projected), [1], rtol=2e-3)  # as accurate as the polar factor


@every
def test_joint_batches_give_the_dual(geometry, shape, matrices, added):
    g = rand(5, 2, *shape)
    parts = geometry.orthogonal_parts(g)
    factors = []
    for stack, radius in zip(parts.matrices, parts.radii, strict=True):
        U, _, Vh = torch.linalg.svd(stack, full_matrices=False)
        factors.append(U @ Vh * radius)
    close(geometry.from_orthogonal_parts(factors, shape), geometry.dualize(g, "svd"))


def test_rows_can_be_flattened_and_have_no_joint_batch():
    rows = Flattened(Vectors(RMS), 1, 2)
    w = rand(0, 1, 3, 2, 2)
    close(rows.norm(w), Vectors(RMS).norm(w.flatten(2)))
    assert rows.orthogonal_parts(w) is None


# The norms bound the maps


def largest(x: Tensor) -> float:
    """The largest RMS over channels of [batch, channel, *pixels]."""
    return float(x.square().mean(dim=1).sqrt().amax())


MAPS = {
    "1-d": (Taps(pixel_axes=1), (4, 3, 5), lambda x, w: F.conv1d(x, w), (2, 3, 9)),
    "dilated": (Taps(), (4, 3, 2, 2), lambda x, w: F.conv2d(x, w, dilation=2), (2, 3, 6, 6)),
    "groups": (
        Stacked(Taps(), 2),
        (4, 3, 2, 2),
        lambda x, w: F.conv2d(x, w, groups=2),
        (2, 6, 5, 5),
    ),
    "transposed": (
        Transposed(Taps(added=4)),
        (3, 4, 4, 4),
        lambda x, w: F.conv_transpose2d(x, w, stride=2),
        (2, 3, 5, 5),
    ),
    "3-d": (Taps(pixel_axes=3), (2, 3, 2, 2, 2), lambda x, w: F.conv3d(x, w), (1, 3, 4, 4, 4)),
}


@pytest.mark.parametrize(("geometry", "shape", "apply", "size"), MAPS.values(), ids=MAPS)
def test_a_kernel_of_norm_one_does_not_enlarge_images(geometry, shape, apply, size):
    w = geometry.sample(shape, torch.Generator().manual_seed(1), torch.device("cpu")).double()
    for seed in range(5):
        x = rand(seed, *size)
        if shape[1] * 2 == size[1]:  # each group sees its own channels
            x = x / torch.stack([c.square().mean(1).sqrt().amax() for c in x.chunk(2, 1)]).amax()
            out = max(largest(c) for c in apply(x, w).chunk(2, 1))
            assert out <= 1 + 1e-5
        else:
            assert largest(apply(x, w)) <= largest(x) * (1 + 1e-5)


def test_patches_are_one_linear_map():
    w = Flattened(MATRIX, 1, 3).sample((5, 3, 2, 2), None, torch.device("cpu")).double()
    x = rand(0, 2, 3, 4, 4)
    patches = F.unfold(x, 2, stride=2).transpose(1, 2)
    close(F.conv2d(x, w, stride=2).flatten(2).transpose(1, 2), patches @ w.flatten(1).T)
    bound = ChannelRMS.measure(F.conv2d(x, w, stride=2))
    assert bound <= RMS.measure(patches) * (1 + 1e-5)


@pytest.mark.parametrize("outer", [Transposed, lambda block: Flattened(block, 0, 1)])
def test_equal_arrangements_are_equal_and_hash_alike(outer):
    assert outer(Taps()) == outer(Taps())
    assert hash(outer(MATRIX)) == hash(outer(MATRIX))
