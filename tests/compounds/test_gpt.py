"""`GPT`: a causal language model whose sensitivity does not depend on its depth."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import (
    GPT,
    Attention,
    CompositionError,
    Embed,
    Enumerate,
    HeadLinear,
    Identity,
    Linear,
    QKNorm,
    ReLU,
    RMSNorm,
    Rope,
    ScaledReLU,
    Sinusoid,
    Tanh,
)
from modula.testing import check_network
from tests.helpers import close, random_gradient
from tests.reference import atom_norm, atoms

few = settings(max_examples=8)
depths = st.integers(1, 4)
IDS = torch.tensor([[1, 4, 2, 0, 3], [3, 3, 1, 2, 0]])


def gpt(**options: object) -> GPT:
    return GPT(7, **{"d_embed": 8, "num_heads": 2, "num_blocks": 2} | options)


@few
@given(num_blocks=depths)
def test_sensitivity_is_one_at_every_depth(num_blocks):
    close(gpt(num_blocks=num_blocks).sensitivity, 1.0)


def test_the_base_of_the_rotary_positions_reaches_every_block():
    bases = [
        module.base
        for module in gpt(num_blocks=3, rope_base=50.0).modules()
        if isinstance(module, Rope)
    ]
    assert bases == [50.0] * 3


@pytest.mark.parametrize("final_scale", [0.5, 4.0])
def test_final_scale_is_the_sensitivity(final_scale):
    close(gpt(final_scale=final_scale).sensitivity, final_scale)


def test_final_scale_multiplies_the_logits():
    model = gpt()
    scaled = gpt(final_scale=3.0)
    with torch.no_grad():
        for target, source in zip(scaled.parameters(), model.parameters(), strict=True):
            target.copy_(source)
    close(scaled(IDS), 3 * model(IDS), rtol=1e-5, atol=1e-6)


@few
@given(num_blocks=depths, mlp_mass=st.sampled_from([1.0, 5.0]))
def test_blocks_share_their_mass_whatever_the_depth(num_blocks, mlp_mass):
    embed, *blocks, head = atoms(gpt(num_blocks=num_blocks, attention_mass=2.0, mlp_mass=mlp_mass))
    close([embed.mass, head.mass, sum(atom.mass for atom in blocks)], [1, 1, 2 + mlp_mass])


@few
@given(num_blocks=depths)
def test_depth_takes_nothing_from_embedding_and_head(num_blocks):
    model = gpt(num_blocks=num_blocks).double()
    update = model.dualize(random_gradient(model, 0), method="svd").tensors
    embed, *_, head = atoms(model)
    close(
        [atom_norm(embed, update[0].numpy()), atom_norm(head, update[-1].numpy())], [1 / 7, 1 / 7]
    )


@few
@given(num_blocks=depths)
def test_every_block_gets_the_same_norms(num_blocks):
    model = gpt(num_blocks=num_blocks).double()
    update = model.dualize(random_gradient(model, 0), method="svd").tensors
    norms = torch.tensor(
        [atom_norm(atom, u.numpy()) for atom, u in zip(atoms(model), update, strict=True)][1:-1]
    )
    close(norms.reshape(num_blocks, -1), norms.reshape(num_blocks, -1)[:1].expand(num_blocks, -1))


def test_it_gives_logits_for_every_position():
    assert gpt()(IDS).shape == (2, 5, 7)


def test_the_future_does_not_change_the_past():
    model, later = gpt().double(), IDS.clone()
    later[:, 3:] = (later[:, 3:] + 1) % 7
    close(model(later)[:, :3], model(IDS)[:, :3])


def test_the_past_changes_the_future():
    model, earlier = gpt().double(), IDS.clone()
    earlier[:, 0] = (earlier[:, 0] + 1) % 7
    assert (model(earlier)[:, 4] - model(IDS)[:, 4]).abs().max() > 1e-4


def test_order_of_the_past_matters():
    model, swapped = gpt().double(), IDS.clone()
    swapped[:, [0, 1]] = swapped[:, [1, 0]]
    assert (model(swapped)[:, 4] - model(IDS)[:, 4]).abs().max() > 1e-4


def test_it_begins_with_an_embedding_and_ends_with_a_linear():
    kinds = [type(atom) for atom in atoms(gpt())]
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == (Embed, Linear, {Linear})


def test_every_branch_and_the_head_are_normalised():
    assert sum(isinstance(part, RMSNorm) for part in gpt(num_blocks=3).modules()) == 2 * 3 + 1


@pytest.mark.parametrize("activation", [ReLU(), Tanh(), ScaledReLU(), None], ids=repr)
def test_activation_is_scaled_to_sensitivity_one(activation):
    close(gpt(activation=activation).sensitivity, 1.0)


@pytest.mark.parametrize("expansion", [1, 4])
def test_expansion_is_the_width_of_the_hidden_layer(expansion):
    assert (8 * expansion, 8) in {
        tuple(atom.weight.shape) for atom in atoms(gpt(expansion=expansion))[1:-1]
    }


def test_loss_at_the_start_is_near_that_of_a_guess():
    torch.manual_seed(0)
    model = gpt(d_embed=32, num_heads=4)
    loss = torch.nn.functional.cross_entropy(model(IDS).flatten(0, 1), IDS.flatten())
    assert abs(loss.item() - math.log(7)) < 0.7


def test_descent_lowers_the_loss():
    model = gpt(d_embed=16)

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(
            model(IDS[:, :-1]).flatten(0, 1), IDS[:, 1:].flatten()
        )

    before = loss().item()
    for _ in range(20):
        model.weights -= 0.3 * model.dualize(model.gradient(loss()))
    assert loss().item() < before / 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"num_blocks": 0}, "num_blocks=0"),
        ({"num_heads": 3}, "does not split into num_heads=3"),
        ({"num_heads": 8}, "even d_head"),
        ({"mlp_mass": -1.0}, "finite number ≥ 0"),
        ({"final_scale": 0.0}, "cannot multiply a module by 0"),
        ({"d_embed": 0}, "at least"),
        ({"num_kv_heads": 3}, "2 heads of queries cannot share 3"),
        ({"num_kv_heads": 0}, "cannot share 0"),
        ({"window": 0}, "at least 1 key"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments, told):
    with pytest.raises(ValueError, match=told):
        gpt(**arguments)


CHOICES = {
    "grouped queries": {"num_kv_heads": 1},
    "a window": {"window": 2},
    "a matrix a head": {"projection": HeadLinear},
    "normalised queries and keys": {"query_key": Rope(4) @ QKNorm()},
    "no positions": {"query_key": Identity()},
    "learned positions": {
        "query_key": Identity(),
        "embedding": 0.5 * Embed(8, 7) + 0.5 * (Embed(8, 9) @ Enumerate()),
    },
    "sinusoidal positions": {"embedding": 0.5 * Embed(8, 7) + 0.5 * Sinusoid(8)},
}
every_choice = pytest.mark.parametrize("options", CHOICES.values(), ids=CHOICES)


@every_choice
def test_every_choice_keeps_the_laws_of_networks(options):
    check_network(gpt(num_blocks=1, **options), IDS[:1, :3])


@every_choice
def test_every_choice_has_sensitivity_one_and_shows_its_tree(options):
    model = gpt(**options)
    close(model.sensitivity, 1.0)
    assert "FunctionalAttention" in str(model)


@every_choice
def test_every_choice_compiles(options):
    torch._dynamo.reset()
    model = gpt(num_blocks=1, **options)
    close(torch.compile(model, backend="eager", fullgraph=True)(IDS), model(IDS))


def test_keys_are_shared_by_queries():
    shapes = {tuple(w.shape) for w in gpt(d_embed=16, num_heads=4, num_kv_heads=2).parameters()}
    assert (8, 16) in shapes


def test_what_is_outside_of_every_window_has_no_effect():
    model, other = gpt(window=2).double(), IDS.clone()
    other[:, 0] = (other[:, 0] + 1) % 7
    change = (model(other) - model(IDS)).abs().amax((0, 2))
    assert change[2] > 0
    assert change[3:].max() == 0


def test_order_does_not_matter_without_positions_or_a_mask():
    model = Attention(8, 2, causal=False, query_key=Identity()).double()
    x = torch.randn(1, 5, 8, dtype=torch.float64)
    close(model(x.flip(1)), model(x).flip(1))


def test_an_embedding_of_another_width_is_refused():
    with pytest.raises(CompositionError, match=r"RMS\(8\) is not RMS\(6\)"):
        gpt(embedding=Embed(6, 7))


@pytest.mark.parametrize("ids", [[[7]], [[-1]]])
def test_tokens_out_of_range_are_refused_with_the_range(ids):
    with pytest.raises(IndexError, match=r"Embed\(8, 7\) takes ids from 0 to 6"):
        gpt()(torch.tensor(ids))
