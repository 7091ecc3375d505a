"""Several weights in one tensor are the weights apart: their largest norm, the sum of their dual
norms, each its own duality map.
"""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from modula import L2, RMS, Atom, Linear, Linf, Module, ReLU
from modula.geometry import Geometry, Spectral, Stacked, Taps, Vectors
from modula.polar import orthogonalize
from tests.helpers import close, rand, random_gradient, record_batches
from tests.strategies import seeds

MATRIX = Spectral(RMS, RMS)
MATRIX_CASES = {
    "query, key and value": (Stacked(MATRIX, 3), (12, 5)),
    "query, key and value, side by side": (Stacked(MATRIX, 3, axis=1), (5, 12)),
    "heads": (Stacked(MATRIX, 4), (8, 6)),
    "one weight": (Stacked(MATRIX, 1), (4, 5)),
    "grouped queries": (Stacked(MATRIX, (8, 2, 2)), (12, 5)),
    "grouped queries, side by side": (Stacked(MATRIX, (8, 2, 2), axis=-1), (5, 12)),
    "unequal all": (Stacked(MATRIX, (1, 3, 2)), (6, 4)),
    "equal, but not neighbours": (Stacked(MATRIX, (2, 3, 2)), (7, 4)),
    "gate and up": (Stacked(MATRIX, 2), (10, 4)),
    "experts": (Stacked(MATRIX, None), (3, 4, 5)),
    "experts on the middle axis": (Stacked(MATRIX, None, axis=1), (4, 3, 5)),
    "experts on the last axis": (Stacked(MATRIX, None, axis=-1), (4, 5, 3)),
    "one expert": (Stacked(MATRIX, None), (1, 4, 5)),
    "gates of experts": (Stacked(Stacked(MATRIX, 2), None), (3, 8, 5)),
    "gates of unequal experts": (Stacked(Stacked(MATRIX, (2, 4)), None), (3, 6, 5)),
    "kernels": (Stacked(Taps(), 2), (6, 3, 2, 2)),
    "kernels by input": (Stacked(Taps(), (1, 2), axis=1), (4, 3, 2, 3)),
    "kernels of experts": (Stacked(Taps(), None), (2, 4, 3, 2, 2)),
}
VECTOR_CASES = {
    "rows": (Stacked(Vectors(RMS), 2), (6, 4)),
    "parts of rows": (Stacked(Vectors(RMS), (1, 3), axis=1), (6, 4)),
    "parts of columns": (Stacked(Vectors(L2, axis=-2), 3), (6, 4)),
    "biases": (Stacked(Vectors(RMS, axes=1), 3), (12,)),
    "unequal biases": (Stacked(Vectors(Linf, axes=1), (3, 1, 2)), (6,)),
    "biases of experts": (Stacked(Vectors(RMS, axes=1), None), (3, 4)),
}
CASES = MATRIX_CASES | VECTOR_CASES

every = pytest.mark.parametrize(("stacked", "shape"), CASES.values(), ids=CASES)
of_matrices = pytest.mark.parametrize(("stacked", "shape"), MATRIX_CASES.values(), ids=MATRIX_CASES)
some = settings(max_examples=5)


def apart(stacked: Stacked, tensor: Tensor) -> list[Tensor]:
    """The blocks of one tensor, cut out one by one."""
    if stacked.sizes is None:
        return list(tensor.unbind(stacked.axis))
    length = tensor.shape[stacked.axis]
    if isinstance(stacked.sizes, int):
        return list(tensor.split(length // stacked.sizes, dim=stacked.axis))
    return list(tensor.split(list(stacked.sizes), dim=stacked.axis))


def together(stacked: Stacked, blocks: list[Tensor]) -> Tensor:
    """The inverse of `apart`."""
    return (torch.stack if stacked.sizes is None else torch.cat)(blocks, dim=stacked.axis)


def pairing(g: Tensor, t: Tensor) -> Tensor:
    return (g * t).flatten(1).sum(dim=1)


# The weights apart


@every
@given(seed=seeds)
@some
def test_the_norm_is_the_largest_of_the_blocks(stacked, shape, seed):
    w = rand(seed, 2, *shape)
    expected = [max(float(stacked.block.norm(b[None])) for b in apart(stacked, one)) for one in w]
    close(stacked.norm(w), expected, rtol=1e-12)


@every
@given(seed=seeds)
@some
def test_the_dual_norm_is_the_sum_over_the_blocks(stacked, shape, seed):
    g = rand(seed, 2, *shape)
    expected = [
        sum(float(stacked.block.dual_norm(b[None])) for b in apart(stacked, one)) for one in g
    ]
    close(stacked.dual_norm(g), expected, rtol=1e-12)


def by_block(stacked: Stacked, tensors: Tensor, operation) -> Tensor:
    return torch.stack(
        [
            together(stacked, [operation(block[None])[0] for block in apart(stacked, one)])
            for one in tensors
        ]
    )


@every
@given(seed=seeds)
@some
def test_dualize_is_that_of_each_block(stacked, shape, seed):
    g = rand(seed, 2, *shape)
    expected = by_block(stacked, g, lambda block: stacked.block.dualize(block, "svd"))
    close(stacked.dualize(g, "svd"), expected, rtol=1e-12, atol=1e-12)


@every
@given(seed=seeds)
@some
def test_project_is_that_of_each_block(stacked, shape, seed):
    w = rand(seed, 2, *shape)
    expected = by_block(stacked, w, stacked.block.project)
    close(stacked.project(w), expected, rtol=1e-8, atol=1e-8)


@every
def test_sample_draws_the_blocks_one_after_another(stacked, shape):
    shapes = [tuple(block.shape) for block in apart(stacked, torch.empty(shape))]
    device, generator = torch.device("cpu"), torch.Generator()
    drawn = stacked.sample(shape, generator.manual_seed(3), device)
    generator.manual_seed(3)
    expected = [stacked.block.sample(one, generator, device) for one in shapes]
    assert torch.equal(drawn, together(stacked, expected))


@every
def test_sample_has_norm_one_in_every_block(stacked, shape):
    drawn = stacked.sample(shape, None, torch.device("cpu"))
    for block in apart(stacked, drawn):
        close(stacked.block.norm(block[None]), [1.0], rtol=1e-5)


# The laws of a geometry


@every
@given(seed=seeds)
@some
def test_dualize_has_norm_one_and_attains_the_dual_norm(stacked, shape, seed):
    g = rand(seed, 2, *shape)
    t = stacked.dualize(g, "svd")
    close(stacked.norm(t), [1.0, 1.0])
    close(pairing(g, t), stacked.dual_norm(g))


@every
@given(seed=seeds)
@some
def test_hoelder_inequality(stacked, shape, seed):
    g, w = rand(seed, 2, *shape), rand(seed + 1, 2, *shape)
    assert bool((pairing(g, w) <= stacked.dual_norm(g) * stacked.norm(w) * (1 + 1e-12)).all())


@every
def test_zero_blocks_stay_zero(stacked, shape):
    g = rand(0, 1, *shape)
    blocks = apart(stacked, g[0])
    blocks[0].zero_()
    g = together(stacked, blocks)[None]
    t = apart(stacked, stacked.dualize(g, "svd")[0])
    assert not t[0].any()
    assert all(block.any() for block in t[1:])


@every
def test_a_broken_block_breaks_no_other(stacked, shape):
    g = rand(0, 1, *shape)
    sound = apart(stacked, stacked.dualize(g, "svd")[0])
    blocks = [block.clone() for block in apart(stacked, g[0])]
    blocks[0].view(-1)[0] = torch.nan
    t = apart(stacked, stacked.dualize(together(stacked, blocks)[None], "svd")[0])
    assert t[0].isnan().any()
    for block, expected in zip(t[1:], sound[1:], strict=True):
        close(block, expected)


# Parts that are orthogonalised


@of_matrices
def test_the_orthogonal_parts_put_together_are_the_tensor(stacked, shape):
    g = rand(0, 2, *shape)
    parts = stacked.orthogonal_parts(g)
    assert torch.equal(stacked.from_orthogonal_parts(parts.matrices, shape), g)


@of_matrices
def test_the_orthogonal_parts_dualized_are_the_dual(stacked, shape):
    g = rand(0, 2, *shape)
    parts = stacked.orthogonal_parts(g)
    factors = []
    for matrices, radius in zip(parts.matrices, parts.radii, strict=True):
        factors.append(radius * orthogonalize(matrices, "svd"))
    close(stacked.from_orthogonal_parts(factors, shape), stacked.dualize(g, "svd"), atol=1e-10)


@pytest.mark.parametrize(("stacked", "shape"), VECTOR_CASES.values(), ids=VECTOR_CASES)
def test_vectors_have_no_orthogonal_parts(stacked, shape):
    assert stacked.orthogonal_parts(rand(0, 1, *shape)) is None


def test_a_block_that_overrides_dualize_is_dualized_by_it():
    class Half(Spectral):
        def dualize(self, gradient, method=None):
            return super().dualize(gradient, method) / 2

    stacked = Stacked(Half(RMS, RMS), 2)
    g = rand(0, 1, 6, 4)
    assert stacked.orthogonal_parts(g) is None
    close(stacked.dualize(g, "svd"), Stacked(MATRIX, 2).dualize(g, "svd") / 2)


# In a network


class Fused(Atom[RMS, RMS]):
    """A linear map whose rows are blocks under a norm of their own."""

    def __init__(self, shape: tuple[int, ...], geometry: Geometry) -> None:
        super().__init__(shape, geometry, fan_out=shape[0], fan_in=shape[-1])

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


def fused(sizes: int | tuple[int, ...]) -> Module:
    return (Linear(5, 12) @ ReLU() @ Fused((12, 5), Stacked(MATRIX, sizes))).double()


@pytest.mark.parametrize("sizes", [3, (4, 4, 4), (8, 2, 2), (2, 8, 2)])
@pytest.mark.parametrize("method", ["svd", "polar_express"])
def test_its_step_is_that_of_separate_atoms(sizes, method):
    model = fused(sizes)
    gradient = random_gradient(model, 0)
    blocks = apart(Stacked(MATRIX, sizes), gradient["0.weight"])
    (coefficient, _) = model.plan().coefficients
    step = apart(Stacked(MATRIX, sizes), model.dualize(gradient, method=method)["0.weight"])
    for block, moved in zip(blocks, step, strict=True):
        alone = MATRIX.dualize(block[None], method)[0]
        close(moved, coefficient * alone, atol=1e-12 if method == "svd" else 2e-3, rtol=1e-8)


def test_its_matrices_are_orthogonalised_in_one_call_with_others_of_their_shape(monkeypatch):
    calls = record_batches(monkeypatch)
    model = (Linear(4, 5) @ ReLU() @ Linear(5, 12) @ Fused((12, 5), Stacked(MATRIX, 3))).double()
    model.dualize(random_gradient(model, 0))
    assert sorted(map(tuple, calls)) == [(1, 5, 12), (4, 4, 5)]


def test_blocks_of_different_shapes_are_one_call_a_shape(monkeypatch):
    calls = record_batches(monkeypatch)
    model = Fused((12, 5), Stacked(MATRIX, (8, 2, 2))).double()
    model.dualize(random_gradient(model, 0))
    assert sorted(map(tuple, calls)) == [(1, 5, 8), (2, 2, 5)]


def test_a_fused_atom_starts_with_blocks_of_norm_one():
    layer = Fused((12, 5), Stacked(MATRIX, (8, 2, 2)))
    for block in apart(layer.geometry, layer.weight.detach()):
        close(MATRIX.norm(block[None]), [1.0], rtol=1e-5)


# What is refused


@pytest.mark.parametrize("sizes", [0, -1, (), (2, 0), (3, -1)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match=r"Stacked takes at least one.*sizes="):
        Stacked(MATRIX, sizes)


@pytest.mark.parametrize(("sizes", "axis"), [(2, 2), (2, -3), (None, 3), (None, -4)])
def test_an_axis_that_is_not_there_is_refused(sizes, axis):
    with pytest.raises(ValueError, match=f"axis.*got axis={axis}"):
        Stacked(MATRIX, sizes, axis)


MEASURES = ["norm", "dual_norm", "dualize", "project"]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("sizes", [5, (4, 4), (4, 4, 5), 24])
def test_a_tensor_that_the_sizes_do_not_fill_is_refused(measure, sizes):
    with pytest.raises(ValueError, match=rf"(?=.*12)(?=.*sizes={re.escape(str(sizes))})"):
        getattr(Stacked(MATRIX, sizes), measure)(rand(0, 1, 12, 5))


def test_an_atom_that_the_sizes_do_not_fill_is_refused_when_it_is_made():
    with pytest.raises(ValueError, match=r"(?=.*7)(?=.*sizes=2)"):
        Fused((7, 4), Stacked(MATRIX, 2))


# A key


def test_equal_geometries_are_one_key():
    assert Stacked(MATRIX, [1, 2]) == Stacked(MATRIX, (1, 2))
    assert len({Stacked(MATRIX, 3), Stacked(Spectral(RMS, RMS), 3), Stacked(MATRIX, 4)}) == 2


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5), seed=seeds)
def test_any_sizes_are_the_weights_apart(sizes, seed):
    stacked = Stacked(MATRIX, tuple(sizes))
    g = rand(seed, 1, sum(sizes), 3)
    expected = by_block(stacked, g, lambda block: MATRIX.dualize(block, "svd"))
    close(stacked.dualize(g, "svd"), expected)
    close(stacked.norm(stacked.dualize(g, "svd")), [1.0])
