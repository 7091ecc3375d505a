"""`Linear` is well-normed between every pair of norms that it accepts."""

import pytest
import torch

from modula import L2, RMS, Linear, Linf, NormPairError
from tests.helpers import (
    PAIRS,
    close,
    full,
    largest_gain,
    largest_weight_gain,
    rand,
    random_gradient,
)

every_pair = pytest.mark.parametrize(
    "pair", PAIRS, ids=lambda pair: "→".join(norm.__name__ for norm in pair)
)


def layer(pair: tuple, shape: tuple[int, int], seed: int) -> Linear:
    """A Linear with a random weight of norm 1, in float64."""
    made = Linear(*shape, domain=pair[0], codomain=pair[1]).double()
    weight = rand(seed, *shape)
    with torch.no_grad():
        made.weight.copy_(weight / made.geometry.norm(weight[None]))
    return made


@every_pair
def test_the_bound_on_the_weight_is_attained(pair):
    made = layer(pair, (4, 5), 0)
    x = full(made.domain, rand(1, 1, 5))
    close(largest_weight_gain(made, x, starts=20), 1.0, rtol=1e-6)


@pytest.mark.parametrize("pair", [(RMS, RMS), (L2, L2)], ids=["RMS", "L2"])
def test_a_fresh_layer_attains_its_sensitivity(pair):
    made = Linear(4, 7, domain=pair[0], codomain=pair[1]).double()
    close(largest_gain(made, rand(0, 2, 7)), 1.0, rtol=1e-6)


def test_it_multiplies_by_the_weight():
    made, x = Linear(3, 5).double(), rand(0, 2, 4, 5)
    close(made(x), torch.einsum("oi,bpi->bpo", made.weight, x))


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_initial_weight_is_semi_orthogonal(shape):
    singular_values = torch.linalg.svdvals(Linear(*shape).weight)
    close(singular_values, (shape[0] / shape[1]) ** 0.5 * torch.ones(min(shape)), rtol=1e-5)


def test_one_step_moves_features_by_the_same_amount_at_every_width():
    moved = []
    for width in (8, 64, 512):
        made = Linear(width, width).double()
        x = full(made.domain, rand(0, 1, width))
        update = made.dualize(made.gradient((made(x) * rand(1, width)).sum()), method="svd")
        moved.append(RMS.measure(x @ update["weight"].mT).item())
    close(moved, [1.0, 1.0, 1.0])


@pytest.mark.parametrize("widths", [(0, 3), (3, 0), (-1, 3), (2.5, 3)])
def test_a_width_below_one_is_refused(widths):
    with pytest.raises(ValueError, match="Linear takes widths of at least 1"):
        Linear(*widths)


def test_a_pair_without_a_duality_map_is_refused():
    with pytest.raises(NormPairError, match="Linf → L2"):
        Linear(3, 4, domain=Linf, codomain=L2)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_an_integer_weight_is_refused(dtype):
    with pytest.raises(TypeError, match="Linear holds a floating-point weight"):
        Linear(3, 4, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtype_is_that_of_the_weight(dtype):
    made = Linear(3, 4, dtype=dtype)
    assert (
        made(torch.ones(2, 4, dtype=dtype)).dtype
        == made.dualize(random_gradient(made, 0))["weight"].dtype
        == dtype
    )


def test_repr_can_be_read_back():
    assert repr(
        eval(repr(Linear(3, 4, codomain=Linf)), {"Linear": Linear, "RMS": RMS, "Linf": Linf})
    ) == repr(Linear(3, 4, codomain=Linf))
