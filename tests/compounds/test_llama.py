"""`Llama`: grouped queries, a gated MLP, and gains; the rest is as in `GPT`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import Gain, HeadLinear, KeyValueCache, Linear, Llama, SwiGLU, generate
from modula.testing import check_network
from tests.helpers import close, random_gradient
from tests.reference import atom_norm, atoms

few = settings(max_examples=5)
IDS = torch.tensor([[1, 4, 2, 0, 3], [3, 3, 1, 2, 0]])


def llama(**options: object) -> Llama:
    sizes = {"d_embed": 8, "num_heads": 4, "num_blocks": 2, "num_kv_heads": 2, "rope_base": 50.0}
    return Llama(7, **{**sizes, "d_embed": 16, **options})


@few
@given(num_blocks=st.integers(1, 4))
def test_sensitivity_is_one_at_every_depth(num_blocks):
    close(llama(num_blocks=num_blocks).sensitivity, 1.0)


@few
@given(num_blocks=st.integers(1, 4), mlp_mass=st.sampled_from([1.0, 5.0]))
def test_parts_share_their_mass_whatever_the_depth(num_blocks, mlp_mass):
    model = llama(num_blocks=num_blocks, mlp_mass=mlp_mass, gain_mass=0.5)
    every = atoms(model)
    gains = [atom.mass for atom in every if isinstance(atom, Gain)]
    assert len(gains) == 2 * num_blocks + 1
    close(sum(gains), 0.5)
    close(model.mass, 2 + 2 + mlp_mass + 0.5)


def test_gains_are_weights_of_their_own():
    gains = [module.weight for module in llama().modules() if isinstance(module, Gain)]
    assert len({id(gain) for gain in gains}) == len(gains) == 5


def test_an_update_has_norm_one():
    model = llama().double()
    update = model.dualize(random_gradient(model, 0), method="svd")
    close(model.norm(update), 1.0)
    embed, *_, head = atoms(model)
    first, *_, last = update.tensors
    close([atom_norm(embed, first.numpy()), atom_norm(head, last.numpy())], [1 / 7.1, 1 / 7.1])


def test_it_keeps_the_laws_of_networks():
    check_network(llama(num_blocks=1), IDS[:1, :3])


def test_it_compiles():
    torch._dynamo.reset()
    model = llama(num_blocks=1)
    close(torch.compile(model, backend="eager", fullgraph=True)(IDS), model(IDS))


def test_the_future_does_not_change_the_past():
    model, later = llama().double(), IDS.clone()
    later[:, 3:] = (later[:, 3:] + 1) % 7
    close(model(later)[:, :3], model(IDS)[:, :3])


@pytest.mark.parametrize("options", [{}, {"window": 2}, {"projection": HeadLinear}], ids=str)
def test_generation_gives_the_tokens_of_the_whole_pass(options):
    model = llama(**options).double()
    ids = IDS[:, :2]
    expected = ids
    for _ in range(8):
        likely = model(expected)[:, -1].argmax(-1, keepdim=True)
        expected = torch.cat((expected, likely), dim=1)
    assert torch.equal(generate(model, ids, 8, temperature=0), expected)
    cache = KeyValueCache(model)
    pieces = torch.cat([cache.extend(ids), cache.extend(expected[:, 2:])], dim=1)
    close(pieces, model(expected), rtol=1e-6, atol=1e-6)


def test_the_width_of_the_mlp_is_a_multiple_of_eight_by_default():
    (mlp,) = [m for m in llama(num_blocks=1).modules() if isinstance(m, SwiGLU)]
    assert mlp[0][0].weight.shape == (48, 16)  # 8/3·16 = 42.7


def test_the_width_of_the_mlp_may_be_chosen():
    shapes = {tuple(w.shape) for w in llama(hidden=20).parameters()}
    assert (20, 16) in shapes


def test_descent_lowers_the_loss():
    torch.manual_seed(0)
    model = llama(d_embed=32)

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
        ({"num_kv_heads": 3}, "cannot share 3"),
        ({"gain_mass": -1.0}, "finite number ≥ 0"),
        ({"hidden": 0}, "at least 1"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments, told):
    with pytest.raises(ValueError, match=told):
        llama(**arguments)


def test_it_ends_with_a_linear():
    assert isinstance(atoms(llama())[-1], Linear)
