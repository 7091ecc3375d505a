"""Properties of all methods of orthogonalisation, with NumPy's decomposition as the reference."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modula.polar import SVD, InverseRoot, NewtonSchulz, PolarExpress, Sketch, orthogonalize
from tests.helpers import close, rand
from tests.reference import polar_factor
from tests.strategies import seeds

METHODS = [
    "svd",
    "polar_express",
    "newton_schulz",
    "inverse_root",
    "sketch",
    NewtonSchulz(degree=3),
    PolarExpress(steps=9, lower_bound=1e-4),
    InverseRoot(sides="both"),
    Sketch(tolerance=1e-3),
]
ERROR = 4e-3
"""The largest error of an entry for any method in float64, if no singular value is tiny."""

every_method = pytest.mark.parametrize("method", METHODS, ids=str)
dims = st.integers(1, 8)


ROUNDING = 1e-4
"""How far two float32 computations of the same thing may lie apart."""


def orthogonal(seed: int, d: int) -> Tensor:
    return torch.linalg.qr(rand(seed, d, d)).Q


def conditioned(seed: int, m: int, n: int, smallest: float = 0.05) -> Tensor:
    """A matrix with singular values from 1 down to `smallest`."""
    rank = min(m, n)
    values = torch.linspace(1, smallest, rank, dtype=torch.float64)
    return orthogonal(seed, m)[:, :rank] @ torch.diag(values) @ orthogonal(seed + 1, n)[:rank]


@every_method
@given(seed=seeds, m=dims, n=dims)
def test_agrees_with_the_singular_value_decomposition(method, seed, m, n):
    G = conditioned(seed, m, n)
    close(orthogonalize(G, method), polar_factor(G.numpy()), atol=ERROR)


@every_method
@given(seed=seeds, m=dims, n=dims)
def test_follows_rotations_on_either_side(method, seed, m, n):
    G, Q, R = conditioned(seed, m, n), orthogonal(seed + 2, m), orthogonal(seed + 3, n)
    close(orthogonalize(Q @ G @ R, method), Q @ orthogonalize(G, method) @ R, atol=1e-9)


@every_method
@given(seed=seeds, m=dims, n=dims)
def test_commutes_with_transposition(method, seed, m, n):
    G = conditioned(seed, m, n)
    close(orthogonalize(G.mT, method), orthogonalize(G, method).mT, atol=1e-9)


@every_method
@given(seed=seeds)
def test_is_odd(method, seed):
    G = conditioned(seed, 4, 6)
    close(orthogonalize(-G, method), -orthogonalize(G, method))


@every_method
@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_ignores_the_scale_in_float32(method, scale):
    G = conditioned(0, 6, 9).float()
    close(orthogonalize(scale * G, method), orthogonalize(G, method), atol=ROUNDING)


@every_method
@pytest.mark.parametrize("scale", [2.0**-90, 2.0**90])
def test_powers_of_two_do_not_even_change_the_rounding(method, scale):
    G = conditioned(0, 6, 9).float()
    assert torch.equal(orthogonalize(scale * G, method), orthogonalize(G, method))


@every_method
@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (6, 9), (9, 6)])
def test_is_accurate_at_extreme_scales_in_float32(method, scale, shape):
    G = conditioned(0, *shape)
    close(
        orthogonalize((scale * G).float(), method), polar_factor(G.numpy()), atol=ERROR + ROUNDING
    )


@every_method
def test_a_batch_mixes_scales_without_loss(method):
    G = torch.stack(
        [scale * conditioned(i, 4, 6).float() for i, scale in enumerate((1e-30, 1.0, 1e30))]
    )
    close(
        orthogonalize(G, method),
        torch.stack([orthogonalize(each, method) for each in G]),
        atol=ROUNDING,
    )


@every_method
@pytest.mark.parametrize("shape", [(3, 2, 4, 6), (2, 6, 4), (1, 1, 3, 3), (4, 6)])
def test_leading_axes_are_a_batch(method, shape):
    G = rand(0, *shape)
    each = torch.stack([orthogonalize(one, method) for one in G.reshape(-1, *shape[-2:])])
    close(orthogonalize(G, method), each.reshape(shape), atol=1e-9)


@every_method
@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_matrix_becomes_nan(method, broken):
    G = rand(0, 3, 4, 6)
    G[1, 2, 3] = broken
    assert orthogonalize(G, method)[1].isnan().all()


@every_method
@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_matrix_touches_no_other(method, broken):
    G = rand(0, 3, 4, 6)
    whole = orthogonalize(G, method)
    G[1, 2, 3] = broken
    assert torch.equal(orthogonalize(G, method)[[0, 2]], whole[[0, 2]])


@every_method
@pytest.mark.parametrize("shape", [(3, 3), (2, 5, 3), (1, 4), (4, 1)])
def test_zero_stays_zero(method, shape):
    assert not orthogonalize(torch.zeros(shape), method).any()


@every_method
def test_a_zero_matrix_in_a_batch_stays_zero(method):
    G = rand(0, 3, 4, 6)
    G[1] = 0
    assert not orthogonalize(G, method)[1].any()


@every_method
@given(seed=seeds, m=dims, n=dims, data=st.data())
def test_directions_that_the_matrix_does_not_touch_stay_near_zero(method, seed, m, n, data):
    rank = data.draw(st.integers(0, min(m, n) - 1))
    G = (
        conditioned(seed, m, n)[:, :0] @ torch.zeros(0, n, dtype=torch.float64)
        if rank == 0
        else rand(seed, m, rank) @ rand(seed + 1, rank, n)
    )
    untouched = torch.linalg.svd(G).Vh[rank:]
    assert (orthogonalize(G, method) @ untouched.mT).abs().max() < 1e-8


@every_method
def test_rounding_of_rank_deficient_float32_matrices_is_not_lifted_to_one(method):
    G = (rand(0, 12, 3) @ rand(1, 3, 16)).float()
    untouched = torch.linalg.svd(G.double()).Vh[3:]
    assert (orthogonalize(G, method).double() @ untouched.mT).abs().max() < 0.05


@every_method
@pytest.mark.parametrize(
    ("dtype", "error"),
    [
        (torch.float64, ERROR),
        (torch.float32, 0.035),
        (torch.bfloat16, 0.04),
        (torch.float16, 0.035),
    ],
)
def test_every_dtype_is_computed_and_kept(method, dtype, error):
    G = conditioned(0, 6, 9, smallest=0.2).to(dtype)
    orthogonalized = orthogonalize(G, method)
    assert orthogonalized.dtype == dtype
    close(orthogonalized, polar_factor(G.double().numpy()), atol=error)


@every_method
@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0)])
def test_an_empty_batch_stays_empty(method, shape):
    assert orthogonalize(torch.zeros(shape), method).shape == shape


@every_method
@pytest.mark.parametrize("shape", [(1, 7), (7, 1)])
def test_a_vector_becomes_a_unit_vector(method, shape):
    G = rand(0, *shape)
    close(orthogonalize(G, method), G / G.norm(), atol=ERROR)


@every_method
def test_strides_do_not_matter(method):
    G = rand(0, 6, 4, 3)
    close(
        orthogonalize(G.permute(2, 1, 0), method),
        orthogonalize(G.permute(2, 1, 0).contiguous(), method),
        atol=1e-9,
    )


@every_method
def test_input_is_left_alone(method):
    G = rand(0, 4, 6)
    before = G.clone()
    orthogonalize(G, method)
    assert torch.equal(G, before)


@pytest.mark.parametrize("method", ["polar_express", "newton_schulz", "inverse_root"])
def test_steps_set_the_number_of_steps(method):
    G = conditioned(0, 4, 6, smallest=1e-3)
    errors = [
        np.abs(orthogonalize(G, method, steps=steps).numpy() - polar_factor(G.numpy())).max()
        for steps in (1, 4, 12)
    ]
    assert errors == sorted(errors, reverse=True)


def test_polar_express_is_the_default():
    G = rand(0, 4, 6)
    assert torch.equal(orthogonalize(G), orthogonalize(G, "polar_express"))


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("svd", SVD()),
        ("newton_schulz", NewtonSchulz()),
        ("polar_express", PolarExpress()),
        ("inverse_root", InverseRoot()),
        ("sketch", Sketch()),
    ],
)
def test_a_name_stands_for_the_method_with_its_defaults(name, method):
    G = rand(0, 4, 6)
    assert torch.equal(orthogonalize(G, name), orthogonalize(G, method))


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_matrices_that_are_not_floating_point_of_16_bits_are_refused(dtype):
    with pytest.raises(TypeError, match=f"floating-point matrices of 16 bits or more, got {dtype}"):
        orthogonalize(torch.ones(2, 2).to(dtype))


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (lambda G: G.to_sparse(), "layout torch.sparse_coo"),
        (lambda G: torch.nested.nested_tensor([G, G], layout=torch.jagged), "a nested tensor"),
        (lambda G: G.tolist(), "got list"),
        (lambda G: G.numpy(), "got ndarray"),
    ],
    ids=["sparse", "nested", "list", "ndarray"],
)
def test_other_containers_of_matrices_are_refused_by_name(made, named):
    with pytest.raises(TypeError, match=named):
        orthogonalize(made(torch.ones(2, 2)))


@pytest.mark.parametrize("method", [PolarExpress, NewtonSchulz, InverseRoot])
@pytest.mark.parametrize("steps", [2.5, "3", True])
def test_steps_that_are_no_whole_number_are_refused(method, steps):
    with pytest.raises(TypeError, match=f"{method.__name__} takes a whole number, got steps="):
        method(steps=steps)


@pytest.mark.parametrize("schedule", [((1.0, 2.0),), ((1.0, float("nan"), 0.0),)])
def test_a_schedule_takes_finite_triples(schedule):
    with pytest.raises(ValueError, match=r"polynomials \(a, b, c\) of finite numbers"):
        NewtonSchulz(schedule=schedule)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_fewer_than_two_axes_are_refused(shape):
    with pytest.raises(ValueError, match=r"matrices \[\.\.\., m, n\]"):
        orthogonalize(torch.ones(shape))


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no method 'cubic'.*polar_express.*newton_schulz.*svd"):
        orthogonalize(torch.eye(2), "cubic")


@pytest.mark.parametrize("method", ["polar_express", "newton_schulz", "inverse_root"])
def test_fewer_than_one_step_is_refused(method):
    with pytest.raises(ValueError, match="steps=0"):
        orthogonalize(torch.eye(2), method, steps=0)


@pytest.mark.parametrize("method", ["sketch", "svd"])
def test_steps_are_refused_by_methods_without(method):
    with pytest.raises(
        ValueError,
        match=(
            "takes no steps; leave `steps` out, or pick 'polar_express', 'newton_schulz' or "
            "'inverse_root'"
        ),
    ):
        orthogonalize(torch.eye(2), method, steps=3)


@pytest.mark.parametrize("method", ["newton_schulz", "inverse_root", "sketch"])
def test_an_accuracy_is_refused_by_methods_with_one(method):
    with pytest.raises(
        ValueError, match="has one accuracy; leave `accuracy` out, or pick 'polar_express'"
    ):
        orthogonalize(torch.eye(2), method, accuracy="high")


def test_an_unknown_accuracy_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match='accuracy "default" or "high", got \'low\''):
        orthogonalize(torch.eye(2), accuracy="low")


def test_an_accuracy_configures_the_method():
    G = rand(0, 40, 50, dtype=torch.float32)
    assert torch.equal(
        orthogonalize(G, accuracy="high"), orthogonalize(G, PolarExpress(accuracy="high"))
    )


def test_the_decomposition_takes_either_accuracy():
    G = rand(0, 4, 6)
    assert torch.equal(orthogonalize(G, "svd", accuracy="high"), orthogonalize(G, "svd"))


def test_steps_and_accuracy_go_together():
    G = rand(0, 40, 50, dtype=torch.float32)
    assert torch.equal(
        orthogonalize(G, steps=3, accuracy="high"),
        orthogonalize(G, PolarExpress(steps=3, accuracy="high")),
    )


@pytest.mark.parametrize("shape", [(8, 12), (40, 60), (60, 40), (2, 60, 40)], ids=str)
@pytest.mark.parametrize(
    "method", ["polar_express", "newton_schulz", "inverse_root", "sketch", "svd"]
)
def test_a_weight_that_requires_a_gradient_is_orthogonalised_like_any_other(shape, method):
    weight = torch.nn.Parameter(rand(0, *shape).float())
    found = orthogonalize(weight, method)
    assert not found.requires_grad
    assert torch.equal(found, orthogonalize(weight.detach(), method))
