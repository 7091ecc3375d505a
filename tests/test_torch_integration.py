"""Modules have all that is expected of a torch module."""

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from modula import (
    GPT,
    RMS,
    Add,
    Attention,
    Bias,
    ComposedAttention,
    Composition,
    Concatenation,
    Embed,
    Gain,
    Linear,
    Module,
    ReLU,
    ResCNN,
    ResMLP,
)
from modula.vector import Weights
from tests.helpers import close, random_gradient

MODELS = {
    "mlp": lambda: Linear(3, 4) @ ReLU() @ Bias(4) @ Gain(4) @ Linear(4, 5),
    "tree": lambda: (
        Add()
        @ (Linear(3, 4), 0.5 * Linear(3, 4) @ ReLU())
        @ (Linear(4, 4) + Linear(4, 4))
        @ Linear(4, 5)
    ),
    "resmlp": lambda: ResMLP(3, 5, width=4, num_blocks=2),
    "cnn": lambda: ResCNN(3, 2, width=4, num_blocks=2),
    "attention": lambda: Attention(8, 2),
    "composed": lambda: ComposedAttention(8, 2),
    "gpt": lambda: GPT(7, d_embed=8, num_heads=2, num_blocks=2),
}
INPUTS = {"cnn": (2, 2, 4, 4), "attention": (2, 5, 8), "composed": (2, 5, 8)}
every_model = pytest.mark.parametrize("name", MODELS)


class Block(Composition[RMS, RMS]):
    """A compound that can be pickled, since it is defined at the top of a module."""

    def __init__(self, width: int) -> None:
        super().__init__(Linear(width, width) @ ReLU())
        self.width = width


def make(name: str) -> tuple[Module, Tensor]:
    """Return a model and an input for it."""
    x = torch.tensor([[1, 4, 2, 0]]) if name == "gpt" else torch.randn(INPUTS.get(name, (2, 5)))
    return MODELS[name](), x


def same(one: Module, other: Module) -> bool:
    """Return whether two models have the same names and weights, bit for bit."""
    return one.weights.names == other.weights.names and all(
        map(torch.equal, one.parameters(), other.parameters())
    )


# State


@every_model
def test_state_dict_round_trip(name):
    model, x = make(name)
    other, _ = make(name)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(x), other(x))


@every_model
def test_state_dict_holds_the_weights_under_their_names(name):
    model, _ = make(name)
    assert list(model.state_dict()) == list(model.weights.names)


@every_model
def test_save_and_load_weights_only(name):
    model, _ = make(name)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other, _ = make(name)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert same(model, other)


@every_model
def test_load_state_dict_keeps_the_parameters(name):
    model, _ = make(name)
    before = list(map(id, model.weights.tensors))
    model.load_state_dict(make(name)[0].state_dict())
    assert list(map(id, model.weights.tensors)) == before


@every_model
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_is_equal(name, duplicate):
    model, x = make(name)
    twin = duplicate(model)
    assert torch.equal(model(x), twin(x))
    assert (str(model), model.mass, model.sensitivity) == (str(twin), twin.mass, twin.sensitivity)


@every_model
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_is_independent(name, duplicate):
    model, _ = make(name)
    weights = parameters_to_vector(model.parameters()).detach().clone()
    twin = duplicate(model)
    twin.weights -= twin.dualize(random_gradient(twin, 0))
    twin.tare(9.0)
    assert torch.equal(parameters_to_vector(model.parameters()), weights)
    assert model.mass != 9


def test_a_whole_model_can_be_saved():
    model, x = make("tree")
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), model(x))


def test_a_named_compound_can_be_copied_and_pickled():
    model = Linear(3, 4) @ Block(4) ** 2
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(model, twin)
        assert twin[0].width == 4


def test_edited_masses_survive_a_copy():
    model = Linear(3, 4) @ Linear(4, 4)
    model[0].mass = 5.0
    assert [copy.deepcopy(model).mass, pickle.loads(pickle.dumps(model)).mass] == [6, 6]


# Dtype and device


@every_model
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_conversion_reaches_every_weight_and_update(name, dtype):
    model, _ = make(name)
    model.to(dtype)
    update = model.dualize(random_gradient(model, 0))
    assert {t.dtype for t in [*model.weights.tensors, *update.tensors]} == {dtype}


@every_model
def test_conversion_keeps_mass_and_sensitivity(name):
    model, _ = make(name)
    before = model.mass, model.sensitivity
    model.to(torch.bfloat16)
    assert (model.mass, model.sensitivity) == before


@every_model
def test_a_step_in_bfloat16_has_nearly_the_norm_asked_for(name):
    model, _ = make(name)
    model.to(torch.bfloat16)
    close(model.norm(model.dualize(random_gradient(model, 0), 0.5)), 0.5, rtol=0.02)


@every_model
def test_autocast_runs_in_bfloat16(name):
    model, x = make(name)
    exact = model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = model(x)
    assert cast.dtype == torch.bfloat16
    close(cast, exact, atol=0.05, rtol=0.05)


@every_model
def test_gradients_through_autocast_have_the_dtype_of_the_weights(name):
    model, x = make(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(x).float().square().mean()
    assert {g.dtype for g in model.gradient(loss).tensors} == {torch.float32}


# The meta device


@every_model
def test_construction_on_the_meta_device_allocates_nothing(name):
    with torch.device("meta"):
        model, _ = make(name)
    assert all(p.is_meta for p in model.parameters())


@every_model
def test_meta_then_to_empty_then_initialize(name):
    with torch.device("meta"):
        model, _ = make(name)
    model.to_empty(device="cpu").initialize()
    for atom in model.modules():
        if isinstance(atom, (Linear, Embed, Gain)):
            close(atom.geometry.norm(atom.weight.detach()[None])[0], 1.0, rtol=1e-5)
        if isinstance(atom, Bias):
            assert not atom.weight.any()


@every_model
def test_a_meta_model_initialized_with_a_seed_is_the_model_itself(name):
    model, x = make(name)
    model.initialize(torch.Generator().manual_seed(3))
    with torch.device("meta"):
        other, _ = make(name)
    other.to_empty(device="cpu").initialize(torch.Generator().manual_seed(3))
    assert torch.equal(model(x), other(x))


@every_model
def test_a_meta_model_knows_its_numbers(name):
    model, _ = make(name)
    with torch.device("meta"):
        meta, _ = make(name)
    assert (meta.mass, meta.sensitivity, str(meta)) == (model.mass, model.sensitivity, str(model))


def test_device_and_dtype_are_taken_by_every_atom():
    for atom in (
        Linear(3, 4, device="meta", dtype=torch.bfloat16),
        Embed(3, 4, device="meta", dtype=torch.bfloat16),
    ):
        assert (atom.weight.is_meta, atom.weight.dtype) == (True, torch.bfloat16)


# Initialisation


@every_model
def test_construction_is_reproducible(name):
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(MODELS[name]())
    assert same(*models)


@every_model
def test_initialize_with_a_generator_leaves_the_global_one_alone(name):
    model, _ = make(name)
    before = torch.get_rng_state()
    model.initialize(torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)


@every_model
def test_initialize_draws_anew(name):
    model, _ = make(name)
    before = parameters_to_vector(model.parameters()).detach().clone()
    model.initialize()
    assert not torch.equal(parameters_to_vector(model.parameters()), before)


# Transformations of the program


@pytest.mark.parametrize("name", ["tree", "cnn", "gpt"])
def test_compiled_model_gives_the_same_numbers(name):
    model, x = make(name)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    close(compiled(x), model(x), rtol=1e-5, atol=1e-6)


def test_compiled_model_gives_the_same_gradients():
    model, x = make("mlp")
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    one, other = (
        model.gradient(compiled(x).square().mean()),
        model.gradient(model(x).square().mean()),
    )
    for a, b in zip(one.tensors, other.tensors, strict=True):
        close(a, b, rtol=1e-4, atol=1e-6)


def test_a_compiled_model_sees_a_step():
    model, x = make("mlp")
    compiled = torch.compile(model, backend="eager")
    before = compiled(x)
    model.weights -= model.dualize(model.gradient(before.square().mean()))
    close(compiled(x), model(x))
    assert not torch.equal(compiled(x), before)


@every_model
def test_functional_call_takes_other_weights(name):
    model, x = make(name)
    other, _ = make(name)
    assert torch.equal(
        torch.func.functional_call(model, dict(other.weights.items()), (x,)), other(x)
    )


def test_functional_call_takes_a_moved_point():
    model, x = make("mlp")
    moved = model.weights - model.dualize(random_gradient(model, 0))
    assert isinstance(moved, Weights)
    there = torch.func.functional_call(model, dict(moved.items()), (x,))
    model.weights = moved
    assert torch.equal(model(x), there)


def test_gradients_by_torch_func_are_those_of_the_model():
    model, x = make("mlp")
    weights = {name: w.detach() for name, w in model.weights.items()}
    grads = torch.func.grad(lambda w: torch.func.functional_call(model, w, (x,)).square().mean())(
        weights
    )
    for name, g in model.gradient(model(x).square().mean()).items():
        close(grads[name], g, rtol=1e-5, atol=1e-7)


def test_vmap_over_an_ensemble():
    models, x = [MODELS["mlp"]() for _ in range(3)], torch.randn(2, 5)
    stacked, _ = torch.func.stack_module_state(models)
    outputs = torch.func.vmap(lambda w: torch.func.functional_call(models[0], w, (x,)))(stacked)
    for output, model in zip(outputs, models, strict=True):
        close(output, model(x), rtol=1e-5, atol=1e-6)


# The rest of torch.nn


@every_model
def test_train_and_eval_reach_every_part(name):
    model, _ = make(name)
    model.eval()
    assert not any(part.training for part in model.modules())


def test_hooks_run():
    seen = []
    model, x = make("mlp")
    model[1].register_forward_hook(lambda module, args, output: seen.append(type(module)))
    model(x)
    assert seen == [Gain]


def test_a_model_is_a_child_of_an_ordinary_module():
    model, x = make("mlp")
    wrapped = nn.Sequential(model, nn.Tanh())
    assert list(map(id, wrapped.parameters())) == list(map(id, model.parameters()))
    assert torch.equal(wrapped(x), model(x).tanh())


def test_an_ordinary_optimizer_trains_a_model():
    model, x = make("mlp")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model(x).square().mean()
    before.backward()
    optimizer.step()
    assert model(x).square().mean() < before


def test_gradient_clipping_reaches_the_collected_gradient():
    model, x = make("mlp")
    model(x).square().mean().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    assert sum(g.square().sum() for g in model.gradient().tensors).sqrt() <= 1e-3 * (1 + 1e-4)


def test_gradients_accumulate():
    model, x = make("mlp")
    once = model.gradient(model(x).square().mean())
    for _ in range(2):
        model(x).square().mean().backward()
    for twice, g in zip(model.gradient().tensors, once.tensors, strict=True):
        close(twice, 2 * g, rtol=1e-5, atol=1e-7)


def test_zero_grad_of_a_dropped_grad_is_missed():
    model, x = make("mlp")
    model(x).square().mean().backward()
    model.zero_grad()
    with pytest.raises(ValueError, match=r"no \.grad"):
        model.gradient()


def test_parameters_may_be_replaced_as_sharding_does():
    model, x = make("mlp")
    model[-1].weight = nn.Parameter(torch.ones(3, 4))
    assert model.weights.tensors[-1] is model[-1].weight
    assert model.gradient(model(x).sum())["4.weight"].shape == (3, 4)


def test_requires_grad_false_freezes_all():
    model, x = make("mlp")
    model.requires_grad_(False)
    model[0].requires_grad_(True)
    update = model.dualize(model.gradient(model(x).square().mean()))
    assert [bool(u.any()) for u in update.tensors] == [True, False, False, False]


def test_double_backward_runs():
    model, x = make("mlp")
    x.requires_grad_()
    (slope,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    assert model.gradient(slope.square().sum()).tensors[0].any()


def test_a_concatenation_gives_a_tuple():
    outputs = Concatenation(Linear(3, 4), Linear(2, 4))(torch.ones(1, 4))
    assert [tuple(y.shape) for y in outputs] == [(1, 3), (1, 2)]
