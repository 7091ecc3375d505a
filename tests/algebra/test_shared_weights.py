"""A weight that is used several times is one weight: the sensitivities of its uses add up, its mass
counts once, it moves once, and the norms of all its uses hold.
"""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from modula import (
    Bias,
    Embed,
    Gain,
    Gradient,
    Linear,
    Linf,
    Module,
    ParameterError,
    ReLU,
    RMSNorm,
    Tanh,
    checkpoint,
)
from modula.geometry import Intersection
from modula.optim import SteepestDescent
from tests.helpers import close, full, largest_weight_gain, rand, random_gradient


def atom_twice() -> Module:
    """One atom in two places, with S = 2 at the inner and S = 1 at the outer."""
    layer = Linear(4, 4, dtype=torch.float64)
    return layer @ Tanh() @ (2.0 * layer) @ Linear(4, 4, dtype=torch.float64)


def weight_twice() -> Module:
    """The same network of two atoms that share one Parameter."""
    model = (Linear(4, 4) @ Tanh() @ (2.0 * Linear(4, 4)) @ Linear(4, 4)).double()
    model[4].weight = model[1].weight
    return model


def embedding_and_head() -> Module:
    model = (Linear(6, 4) @ RMSNorm() @ Tanh() @ Embed(4, 6)).double()
    model[3].weight = model[0].weight
    return model


def untied(model: Module) -> Module:
    """A copy in which every use has a Parameter of its own, with the same entries."""
    model = copy.deepcopy(model)
    for i, part in enumerate(model):
        if hasattr(part, "weight"):
            model[i] = copy.deepcopy(part)
    return model


def an_input(model: Module) -> Tensor:
    return torch.arange(4) if isinstance(model[0], Embed) else rand(0, 5, 4)


both = pytest.mark.parametrize("make", [atom_twice, weight_twice])
every = pytest.mark.parametrize("make", [atom_twice, weight_twice, embedding_and_head])


# Coefficients


@both
def test_the_weight_is_named_once_by_its_first_use(make):
    assert list(make().weights.names) == ["0.weight", "1.weight"]


@both
def test_its_sensitivities_add_up_and_its_mass_counts_once(make):
    plan = make().plan()
    assert list(plan.mass_fractions) == [0.5, 0.5]
    # S is 2 after the first layer and at the inner use of the shared weight, 1 at the outer
    close(plan.coefficients, [1 / 2 / 2, 1 / 2 / (2 + 1)])


def test_each_use_counts_with_its_own_sensitivity():
    layer = Linear(4, 4)
    model = (3.0 * layer) @ (5.0 * layer)
    close(model.plan().coefficients, [1 / (3 + 3 * 5)])


def test_uses_side_by_side_add_up():
    layer = Linear(4, 4)
    close((0.5 * layer + 0.25 * layer).plan().coefficients, [1 / 0.75])


@both
def test_the_mass_of_the_whole_counts_it_once(make):
    assert make().mass == 2.0


@both
def test_the_sensitivity_of_the_whole_counts_every_use(make):
    assert make().sensitivity == 2.0


def test_an_atom_in_three_places_is_one_weight():
    layer = Linear(4, 4)
    model = layer @ layer @ layer
    assert model.mass == 1
    close(model.plan().coefficients, [1 / 3])


# One step


@every
def test_its_gradient_is_the_sum_over_its_uses(make):
    model = make()
    apart = untied(model)
    x = an_input(model)
    together = model.gradient(model(x).square().sum())
    gradient = apart.gradient(apart(x).square().sum())
    shared = together.names[-1] if len(together) > 1 else together.names[0]
    rest = sum(g for name, g in gradient.items() if len(together) == 1 or name != "0.weight")
    close(together[shared], rest)


@every
def test_an_update_has_the_target_norm_and_pairs_to_the_dual_norm(make):
    model = make()
    gradient = random_gradient(model, 0)
    update = model.dualize(gradient, 0.3, method="svd")
    close(model.norm(update), 0.3)
    close(gradient @ update, 0.3 * model.dual_norm(gradient))


@every
def test_the_optimizer_moves_it_once(make):
    model = make()
    optimizer = SteepestDescent(model, lr=0.1, momentum=0.0, method="svd")
    before = model.weights.clone()
    x = an_input(model)
    gradient = model.gradient(model(x).square().sum())
    step = model.dualize(gradient, 0.1, method="svd")
    model(x).square().sum().backward()
    optimizer.step()
    for name, w in model.weights.items():
        close(before[name] - w, step[name])


@every
def test_project_keeps_the_uses_together(make):
    model = make()
    model.project()
    assert len(model.weights) == len(make().weights)
    assert len({id(w) for w in model.weights.tensors}) == len(model.weights)


@every
def test_initialize_draws_it_as_its_first_use_does(make):
    model = make()
    model.initialize(torch.Generator().manual_seed(0))
    for part in (model[0], model[1]):
        if hasattr(part, "weight"):
            close(part.geometry.norm(part.weight.detach()[None]), [1.0], rtol=1e-6)


def test_a_network_with_a_shared_weight_keeps_its_first_order_bound_under_attack():
    model = weight_twice()
    with torch.no_grad():
        for w in model.weights.tensors:
            w.copy_(torch.linalg.qr(w)[0])
    x = full(model.domain, rand(1, 2, 4))
    assert largest_weight_gain(model, x) <= model.first_order_bound() * (1 + 1e-7)


def test_the_first_order_bound_sums_over_the_uses():
    layer = Linear(4, 4)
    # the outer use reads norm 2; S is 1 there and 2 inside
    close((layer @ (2.0 * layer)).first_order_bound(), (1 * 2 + 2 * 1) / 3)


# Copies and files


@every
def test_a_copy_shares_as_the_original_does(make):
    model = make()
    for clone in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert clone.weights.names == model.weights.names
        close(clone.plan().coefficients, model.plan().coefficients)


@every
def test_a_state_dict_goes_in_and_out(make):
    model, other = make(), make()
    other.load_state_dict(model.state_dict())
    for one, same in zip(model.weights.tensors, other.weights.tensors, strict=True):
        assert torch.equal(one, same)
    assert other.weights.names == model.weights.names


@every
def test_a_checkpoint_goes_in_and_out(make, tmp_path):
    model, other = make(), make()
    optimizer, restored = SteepestDescent(model, lr=0.1), SteepestDescent(other, lr=0.1)
    x = an_input(model)
    model(x).square().sum().backward()
    optimizer.step()
    checkpoint.save(tmp_path / "run.pt", model, optimizer)
    checkpoint.load(tmp_path / "run.pt", other, restored)
    for one in (model, other):
        one.zero_grad()
        one(x).square().sum().backward()
    optimizer.step()
    restored.step()
    for one, same in zip(model.weights.tensors, other.weights.tensors, strict=True):
        assert torch.equal(one, same)


# Two norms


def test_an_embedding_that_is_the_head_has_both_norms():
    (geometry,) = embedding_and_head().plan().geometries
    assert isinstance(geometry, Intersection)


@pytest.mark.parametrize("target", [1.0, 0.1])
@pytest.mark.parametrize("method", ["svd", None])
def test_neither_use_of_an_embedding_that_is_the_head_is_moved_too_far(target, method):
    model = embedding_and_head()
    (coefficient,) = model.plan().coefficients
    slack = 1 + (1e-9 if method == "svd" else 2e-2)
    for seed in range(5):
        step = model.dualize(random_gradient(model, seed), target, method=method).tensors
        for use in (model[0], model[3]):
            size = use.geometry.norm(torch.stack(list(step)))
            assert float(size) <= coefficient * target * slack


def test_a_step_of_an_embedding_that_is_the_head_descends():
    model = embedding_and_head()
    gradient = random_gradient(model, 0)
    assert gradient @ model.dualize(gradient, method="svd") > 0


def test_norms_that_have_no_intersection_are_refused_by_name():
    model = Bias(4) @ Gain(4)
    model[1].weight = model[0].weight
    with pytest.raises(
        ParameterError, match=r"'0\.weight' is shared by Gain\(4\) and Bias\(4\).*norms.*own"
    ):
        model.plan()


def test_three_different_norms_are_refused():
    model = Linear(4, 4, codomain=Linf) @ Linear(4, 4) @ Embed(4, 4)
    model[0].weight = model[1].weight
    assert isinstance(model.plan().geometries[0], Intersection)
    model[2].weight = model[1].weight
    with pytest.raises(ParameterError, match=r"Embed.*Linear.*norms"):
        model.plan()


def test_different_masses_are_refused_by_name():
    model = Linear(4, 4, mass=2.0) @ Linear(4, 4)
    model[1].weight = model[0].weight
    with pytest.raises(ParameterError, match=r"'0\.weight' is shared by.*different masses"):
        model.plan()


# Tied and untied again


@pytest.mark.parametrize("asked_before", [False, True])
def test_it_may_be_tied_before_and_after_the_network_is_first_asked(asked_before):
    model = Linear(4, 4) @ ReLU() @ Linear(4, 4)
    if asked_before:
        assert len(model.plan().names) == 2
    model[2].weight = model[0].weight
    assert model.plan().names == ("0.weight",)
    assert model.mass == 1


def test_untied_again_there_are_two_weights():
    model = Linear(4, 4) @ ReLU() @ Linear(4, 4)
    model[2].weight = model[0].weight
    model.plan()
    model[2].weight = nn.Parameter(model[0].weight.detach().clone())
    assert model.plan().names == ("0.weight", "2.weight")
    close(model.plan().coefficients, [0.5, 0.5])


def test_a_module_that_replaces_one_of_two_places_of_an_atom_unties_them():
    model = atom_twice()
    model.plan()
    model[3] = Linear(4, 4, dtype=torch.float64)
    assert len(model.plan().names) == 3


def test_a_gradient_taken_before_tying_does_not_fit():
    model = Linear(4, 4) @ ReLU() @ Linear(4, 4)
    gradient = random_gradient(model, 0)
    model[2].weight = model[0].weight
    with pytest.raises(ValueError, match="2 tensors"):
        model.dualize(gradient)


# Masses


@pytest.mark.parametrize("at", ["1", "4"])
def test_tare_at_one_use_moves_both(at):
    model = weight_twice()
    model.tare(3.0, at=at)
    assert (model[1].mass, model[4].mass, model.mass) == (3, 3, 4)


def test_tare_of_the_whole_keeps_it_shared():
    model = weight_twice().tare(10.0)
    assert (model.mass, model[1].mass, model[4].mass) == (10, 5, 5)


def test_tare_of_both_uses_at_once_is_refused():
    model = weight_twice()
    with pytest.raises(ValueError, match=r"'1' and '4'.*share"):
        model.tare({"1": 1.0, "4": 2.0})
    assert model.mass == 2


def test_with_mass_zero_it_does_not_move():
    model = weight_twice()
    model.tare(0.0, at="1")
    update = model.dualize(random_gradient(model, 0))
    assert not update["1.weight"].any()
    assert update["0.weight"].any()


def test_a_frozen_shared_weight_has_a_zero_gradient():
    model = weight_twice()
    model[1].weight.requires_grad_(False)
    gradient = model.gradient(model(rand(0, 3, 4)).sum())
    assert not gradient["1.weight"].any()


def test_gradients_are_given_once():
    model = weight_twice()
    with pytest.raises(ValueError, match="3 tensors"):
        model.dualize(Gradient({str(i): rand(i, 4, 4) for i in range(3)}))
