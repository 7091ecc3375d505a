"""Norm types: each a norm, each with the duality map of its own unit ball."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import L1, L2, RMS, ChannelRMS, Dense, HeadRMS, Linf, Norm, OneHot, VectorNorm
from modula.norms import DualRMS
from tests import reference
from tests.helpers import close, rand

VECTOR_NORMS = [RMS, L2, L1, Linf, DualRMS]
DENSE_NORMS = [*VECTOR_NORMS, HeadRMS, ChannelRMS]
SCALES = [1e-30, 1e-20, 1.0, 1e20, 1e30]

seeds = st.integers(0, 2**32)
widths = st.integers(1, 9)
every_norm = pytest.mark.parametrize("norm", DENSE_NORMS)
every_vector_norm = pytest.mark.parametrize("norm", VECTOR_NORMS)


@pytest.mark.parametrize("norm", [RMS, L2, L1, Linf, HeadRMS, ChannelRMS])
@given(seed=seeds, d=widths)
def test_norm_agrees_with_its_definition(norm, seed, d):
    x = rand(seed, d)
    close(norm.norm(x), reference.vector_norm(norm, x.numpy()))


@every_vector_norm
def test_dual_of_dual_is_the_norm_itself(norm):
    assert norm.dual.dual is norm


@every_norm
@pytest.mark.parametrize("scale", SCALES)
def test_dualize_ignores_the_scale_in_float32(norm, scale):
    g = rand(0, 3, 7, dtype=torch.float32)
    close(norm.dualize(scale * g), norm.dualize(g), rtol=1e-5)


@every_norm
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("measure", ["norm", "dual_norm"])
def test_norms_follow_the_scale_in_float32(norm, scale, measure):
    x = rand(0, 3, 7, dtype=torch.float32)
    close(getattr(norm, measure)(scale * x) / scale, getattr(norm, measure)(x), rtol=1e-5)


@every_norm
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("measure", ["norm", "dual_norm"])
def test_nothing_overflows_on_the_way_to_a_norm_within_the_range(norm, dtype, measure):
    """The vector's entries are so large that their sum, or its root, would be infinite."""
    f = getattr(norm, measure)
    unit = torch.ones(16, dtype=torch.float64)
    scale = torch.finfo(dtype).max / max(1.0, f(unit).item()) / 2
    close(f((scale * unit).to(dtype)) / scale, f(unit), rtol=0.01)


@every_norm
@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0, 0)])
def test_vectors_without_entries_and_no_vectors_have_norm_zero(norm, shape):
    x = torch.zeros(*shape[:1], 1, 1, *shape[1:])
    assert norm.norm(x).shape == norm.dual_norm(x).shape == x.shape[:-1]
    assert not norm.norm(x).any()
    assert norm.dualize(x).shape == x.shape
    assert norm.measure(x) == 0


@every_norm
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_is_kept(norm, dtype):
    g = rand(0, 3, 7, dtype=dtype)
    assert {norm.norm(g).dtype, norm.dual_norm(g).dtype, norm.dualize(g).dtype} == {dtype}


@pytest.mark.parametrize("norm", [RMS, L2, L1, Linf, HeadRMS])
@given(seed=seeds, shape=st.lists(st.integers(1, 3), min_size=0, max_size=3))
def test_measure_is_the_largest_over_leading_axes(norm, seed, shape):
    x = rand(seed, *shape, 4)
    close(norm.measure(x), max(reference.vector_norm(norm, v.numpy()) for v in x.reshape(-1, 4)))


@given(seed=seeds)
def test_measure_of_an_image_is_the_largest_pixel(seed):
    x = rand(seed, 2, 3, 4, 5)
    pixels = [x[b, :, i, j].numpy() for b in range(2) for i in range(4) for j in range(5)]
    close(ChannelRMS.measure(x), max(reference.vector_norm(RMS, pixel) for pixel in pixels))


def test_one_hot_ids_have_norm_one():
    assert OneHot.measure(torch.tensor([[3, 1, 4]])) == 1


def test_ones_have_rms_one_at_every_width():
    assert [RMS.norm(torch.ones(d)).item() for d in (1, 16, 1024)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("missing", ["norm", "dualize"])
def test_an_unfinished_norm_says_what_to_define(missing):
    class Unfinished(VectorNorm):
        pass

    with pytest.raises(NotImplementedError, match=rf"Unfinished\.{missing}"):
        getattr(Unfinished, missing)(torch.ones(3))


def test_a_bare_norm_says_that_it_cannot_measure():
    class Bare(Norm):
        pass

    with pytest.raises(NotImplementedError, match=r"Bare\.measure"):
        Bare.measure(torch.ones(3))


def test_dual_norm_follows_from_a_duality_map_alone():
    class Largest(Dense):
        @classmethod
        def dualize(cls, g):
            return g.sign()

    assert Largest.dual_norm(torch.tensor([1.0, -2.0, 4.0])) == 7
