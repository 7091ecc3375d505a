"""`MLP` and `ResMLP`: well-normed as a whole, whatever width and depth."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import GELU, MLP, RMS, Linear, ReLU, ResMLP, Tanh
from tests.helpers import close, full, largest_gain, largest_weight_gain, rand, random_gradient
from tests.reference import atom_norm, atoms
from tests.strategies import seeds

few = settings(max_examples=6)
NETWORKS = [
    lambda: MLP(3, 4, width=5, depth=3),
    lambda: MLP(3, 4, width=5, depth=2, activation=GELU()),
    lambda: ResMLP(3, 4, width=5, num_blocks=3),
    lambda: ResMLP(3, 4, width=5, num_blocks=1, block_depth=1),
]
every_network = pytest.mark.parametrize(
    "build", NETWORKS, ids=["MLP", "MLP-GELU", "ResMLP", "ResMLP-1"]
)


@every_network
@few
@given(seed=seeds)
def test_no_change_of_the_input_grows_beyond_the_sensitivity(build, seed):
    network = build().double()
    assert largest_gain(network, rand(seed, 2, 4), starts=3) <= network.sensitivity * (1 + 1e-6)


@pytest.mark.parametrize(
    "build",
    [build for build in NETWORKS if build().sensitivity <= 1],
    ids=["MLP", "ResMLP", "ResMLP-1"],
)
@few
@given(seed=seeds)
def test_no_change_of_the_weights_moves_the_output_beyond_its_norm(build, seed):
    network = build().double()
    assert (
        largest_weight_gain(network, full(network.domain, rand(seed, 2, 4)), starts=2) <= 1 + 1e-6
    )


@every_network
def test_its_forward_is_that_of_its_parts(build):
    network, x = build().double(), rand(0, 2, 4)
    expected = x
    for part in network:
        expected = part(expected)
    close(network(x), expected)


@given(depth=st.integers(2, 5))
def test_an_mlp_has_as_many_layers_as_its_depth(depth):
    shapes = [tuple(w.shape) for w in MLP(3, 4, width=5, depth=depth).weights.tensors]
    assert shapes == [(5, 4), *[(5, 5)] * (depth - 2), (3, 5)]


def test_an_mlp_of_depth_one_is_a_linear():
    assert [tuple(w.shape) for w in MLP(3, 4, width=5, depth=1).weights.tensors] == [(3, 4)]


@given(depth=st.integers(1, 5))
def test_sensitivity_of_an_mlp_is_that_of_its_activations(depth):
    close(
        MLP(3, 4, width=5, depth=depth, activation=GELU()).sensitivity,
        GELU.sensitivity ** (depth - 1),
    )


@given(num_blocks=st.integers(1, 6), block_depth=st.integers(1, 3))
def test_depth_leaves_the_sensitivity_of_a_residual_network(num_blocks, block_depth):
    close(ResMLP(3, 4, width=5, num_blocks=num_blocks, block_depth=block_depth).sensitivity, 1.0)


@given(num_blocks=st.integers(1, 6), block_mass=st.sampled_from([0.5, 1.0, 4.0]))
def test_blocks_share_their_mass_whatever_the_depth(num_blocks, block_mass):
    network = ResMLP(3, 4, width=5, num_blocks=num_blocks, block_mass=block_mass)
    first, *blocks, last = atoms(network)
    close([first.mass, last.mass, sum(atom.mass for atom in blocks)], [1, 1, block_mass])


@given(num_blocks=st.integers(1, 6))
def test_depth_takes_nothing_from_the_first_and_last_layer(num_blocks):
    network = ResMLP(3, 4, width=5, num_blocks=num_blocks, block_mass=1.0).double()
    update = network.dualize(random_gradient(network, 0), method="svd").tensors
    first, *_, last = atoms(network)
    close(
        [atom_norm(first, update[0].numpy()), atom_norm(last, update[-1].numpy())], [1 / 3, 1 / 3]
    )


def test_a_residual_network_without_block_mass_trains_its_ends_only():
    network = ResMLP(3, 4, width=5, num_blocks=2, block_mass=0.0)
    moved = [bool(u.any()) for u in network.dualize(random_gradient(network, 0)).tensors]
    assert moved == [True, False, False, False, False, True]


def test_blocks_are_as_deep_as_asked():
    assert len(ResMLP(3, 4, width=5, num_blocks=2, block_depth=3).weights) == 2 + 2 * 3


def test_activation_is_the_one_given():
    kinds = {type(part) for part in MLP(3, 4, width=5, depth=3, activation=Tanh()).modules()}
    assert Tanh in kinds
    assert ReLU not in kinds


def test_an_mlp_composes_as_one_node():
    network = Linear(2, 3) @ MLP(3, 4, width=5)
    assert len(network) == 2
    assert str(network.domain) == f"{RMS.__name__}(4)"


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: MLP(3, 4, width=5, depth=0), "depth=0"),
        (lambda: MLP(3, 4, width=0), "at least 1"),
        (lambda: ResMLP(3, 4, width=5, num_blocks=0), "num_blocks=0"),
        (lambda: ResMLP(3, 4, width=5, num_blocks=1, block_depth=0), "block_depth=0"),
        (lambda: ResMLP(3, 4, width=5, num_blocks=1, block_mass=-1.0), "finite number ≥ 0"),
    ],
)
def test_impossible_arguments_are_refused(build, told):
    with pytest.raises(ValueError, match=told):
        build()
