"""Duality over random trees: the flattened plan is the recursion, and the recursion is steepest
descent.
"""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import (
    RMS,
    Atom,
    Bias,
    Bond,
    Embed,
    Gain,
    Gradient,
    Identity,
    Linear,
    Linf,
    Module,
    ReLU,
    Update,
)
from modula.geometry import Vectors
from tests import reference
from tests.helpers import close, rand, random_gradient, random_update
from tests.strategies import feature_trees, seeds, trained_trees, trees

many = settings(max_examples=60)
METHODS = ["svd", "polar_express", "newton_schulz", "inverse_root", "sketch"]


def parts(model: Module, vector: Gradient | Update) -> reference.Parts:
    """The vector's tensors by atom, as arrays."""
    return {
        atom: part.numpy()
        for atom, part in zip(reference.atoms(model), vector.tensors, strict=True)
    }


def sparse_gradient(model: Module, seed: int) -> Gradient:
    """A gradient in which about a third of the atoms have none."""
    gradient = random_gradient(model, seed)
    return Gradient(
        {n: g * float(rand(seed + i, 1) > -0.4) for i, (n, g) in enumerate(gradient.items())}
    )


def coefficients(model: Module) -> list[float]:
    """Each atom's largest norm in an update of norm 1: its coefficient, by `norm` alone."""
    found = []
    for i, (atom, w) in enumerate(zip(reference.atoms(model), model.weights.tensors, strict=True)):
        unit = Update(
            {n: torch.ones_like(t) * (i == j) for j, (n, t) in enumerate(model.weights.items())}
        )
        found.append(atom.geometry.norm(torch.ones_like(w)[None]).item() / model.norm(unit).item())
    return found


# The recursion


@many
@given(model=trees())
def test_mass_is_that_of_the_recursion(model):
    close(model.mass, reference.mass(model))


@many
@given(model=trees())
def test_sensitivity_is_that_of_the_recursion(model):
    close(model.sensitivity, reference.sensitivity(model))


@many
@given(model=trees(), seed=seeds)
def test_dualize_is_that_of_the_recursion(model, seed):
    gradient = sparse_gradient(model, seed)
    expected = reference.dualize(model, parts(model, gradient))
    for atom, part in zip(
        reference.atoms(model), model.dualize(gradient, method="svd").tensors, strict=True
    ):
        close(part, expected[atom])


@many
@given(model=trees(), seed=seeds)
def test_norm_is_that_of_the_recursion(model, seed):
    update = random_update(model, seed)
    close(model.norm(update), reference.norm(model, parts(model, update)))


@many
@given(model=trained_trees(), seed=seeds)
def test_norm_of_an_update_that_moves_no_massless_atom_is_that_of_the_recursion(model, seed):
    moving = [atom.mass > 0 for atom in reference.atoms(model)]
    update = Update(
        {
            n: u * float(moves)
            for (n, u), moves in zip(random_update(model, seed).items(), moving, strict=True)
        }
    )
    close(model.norm(update), reference.norm(model, parts(model, update)))


@many
@given(model=trees(), seed=seeds)
def test_dual_norm_is_that_of_the_recursion(model, seed):
    gradient = sparse_gradient(model, seed)
    close(model.dual_norm(gradient), reference.dual_norm(model, parts(model, gradient)))


# Steepest descent


@many
@given(model=trained_trees(), seed=seeds)
def test_dualize_has_unit_norm(model, seed):
    close(model.norm(model.dualize(random_gradient(model, seed), method="svd")), 1.0)


@many
@given(model=trained_trees(), seed=seeds)
def test_dualize_attains_dual_norm(model, seed):
    gradient = sparse_gradient(model, seed)
    close(gradient @ model.dualize(gradient, method="svd"), model.dual_norm(gradient))


@many
@given(model=trained_trees(), seed=seeds)
def test_hoelder_inequality(model, seed):
    gradient, update = random_gradient(model, seed), random_update(model, seed + 99)
    assert gradient @ update <= model.dual_norm(gradient) * model.norm(update) * (1 + 1e-10)


@given(model=trained_trees(), seed=seeds, c=st.floats(1e-6, 1e6))
def test_dualize_ignores_a_positive_scale(model, seed, c):
    gradient = random_gradient(model, seed)
    for scaled, plain in zip(
        model.dualize(c * gradient, method="svd").tensors,
        model.dualize(gradient, method="svd").tensors,
        strict=True,
    ):
        close(scaled, plain, atol=1e-8)


@given(model=trained_trees(), seed=seeds)
def test_dualize_is_odd(model, seed):
    gradient = random_gradient(model, seed)
    for negative, plain in zip(
        model.dualize(-gradient, method="svd").tensors,
        model.dualize(gradient, method="svd").tensors,
        strict=True,
    ):
        close(negative, -plain)


@given(model=trained_trees(), seed=seeds, c=st.floats(1e-6, 1e6))
def test_dual_norm_is_homogeneous(model, seed, c):
    gradient = random_gradient(model, seed)
    close(model.dual_norm(c * gradient), c * model.dual_norm(gradient))


@given(model=trained_trees(), seed=seeds, c=st.floats(1e-6, 1e6))
def test_norm_is_homogeneous(model, seed, c):
    update = random_update(model, seed)
    close(model.norm(-c * update), c * model.norm(update))


@given(model=trees(), seed=seeds)
def test_norm_is_subadditive(model, seed):
    one, other = random_update(model, seed), random_update(model, seed + 99)
    assert model.norm(one + other) <= (model.norm(one) + model.norm(other)) * (1 + 1e-10)


@given(model=trees(), method=st.sampled_from(METHODS))
def test_zero_gradient_gives_zero_update(model, method):
    assert not any(
        part.any()
        for part in model.dualize(random_gradient(model, 0).zeros_like(), method=method).tensors
    )


@given(model=trees())
def test_zero_has_zero_norms(model):
    zero = random_gradient(model, 0).zeros_like()
    assert model.dual_norm(zero) == model.norm(Update(dict(zero.items()))) == 0


@given(model=trained_trees(), seed=seeds, target=st.floats(1e-3, 1e3))
def test_target_norm_is_the_norm_of_the_update(model, seed, target):
    close(model.norm(model.dualize(random_gradient(model, seed), target, method="svd")), target)


# Atoms that are not trained, or broken


@given(model=trees(), seed=seeds)
def test_an_atom_without_mass_does_not_move(model, seed):
    update = model.dualize(random_gradient(model, seed), method="svd")
    for atom, part in zip(reference.atoms(model), update.tensors, strict=True):
        assert bool(part.any()) == (atom.mass > 0)


@given(model=trees())
def test_an_atom_without_mass_ignores_a_broken_gradient(model):
    gradient = Gradient({n: torch.full_like(w, torch.nan) for n, w in model.weights.items()})
    update = model.dualize(gradient)
    for atom, part in zip(reference.atoms(model), update.tensors, strict=True):
        assert atom.mass > 0 or not part.any()


@given(model=feature_trees(3), seed=seeds)
def test_dual_norm_ignores_a_broken_gradient_of_an_atom_without_mass(model, seed):
    gradient = random_gradient(model, seed)
    whole = model.dual_norm(gradient)
    for atom, g in zip(reference.atoms(model), gradient.tensors, strict=True):
        g.fill_(torch.nan) if atom.mass == 0 else None
    close(model.dual_norm(gradient), whole)


def test_normalize_ignores_a_broken_part_of_an_atom_without_mass():
    model = Linear(3, 3) @ Linear(3, 3, mass=0.0)
    update = random_update(model, 0)
    update.tensors[0].fill_(torch.nan)
    assert not model.normalize(update).tensors[0].any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
@given(model=trained_trees(), seed=seeds, data=st.data())
@settings(max_examples=15)
def test_a_broken_gradient_reaches_no_other_atom(method, broken, model, seed, data):
    gradient = random_gradient(model, seed)
    whole = model.dualize(gradient, method=method)
    i = data.draw(st.integers(0, len(gradient) - 1))
    gradient.tensors[i].view(-1)[0] = broken
    now = model.dualize(gradient, method=method)
    for j, (part, before) in enumerate(zip(now.tensors, whole.tensors, strict=True)):
        assert j == i or torch.equal(part, before)


@pytest.mark.parametrize("method", METHODS)
def test_a_broken_gradient_does_not_pass_for_a_sound_update(method):
    model = Linear(3, 4) @ ReLU() @ Linear(4, 3)
    gradient = random_gradient(model, 0)
    gradient.tensors[0][1, 2] = torch.nan
    assert model.dualize(gradient, method=method).tensors[0].isnan().any()


# Batches


def crowd() -> Module:
    """Atoms of equal shapes and different geometries, in one tree."""
    return (
        (Linear(4, 4) @ ReLU() @ Gain(4) @ Bias(4)) ** 3
        @ (Linear(4, 4) + Linear(4, 4))
        @ Embed(4, 4)
    )


@pytest.mark.parametrize("operation", ["dualize", "normalize"])
def test_batches_equal_one_atom_at_a_time(operation):
    model = crowd().double()
    gradient = random_gradient(model, 0)
    vector = gradient if operation == "dualize" else random_update(model, 0)
    together = getattr(model, operation)(vector)
    for atom, t, part, coefficient in zip(
        reference.atoms(model), vector.tensors, together.tensors, coefficients(model), strict=True
    ):
        alone = type(vector)({"weight": t})
        close(part, coefficient * getattr(atom, operation)(alone).tensors[0])


def test_atoms_of_different_dtypes_are_kept_apart():
    model = Linear(4, 4, dtype=torch.float64) @ ReLU() @ Linear(4, 4, dtype=torch.bfloat16)
    update = model.dualize(random_gradient(model, 0))
    assert [part.dtype for part in update.tensors] == [torch.bfloat16, torch.float64]


def test_updates_share_no_memory_with_the_gradient():
    model = crowd()
    gradient = random_gradient(model, 0)
    before = gradient.clone()
    for part in model.dualize(gradient).tensors:
        part.fill_(7)
    assert all(map(torch.equal, gradient.tensors, before.tensors))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_comes_near_the_exact_one(method):
    model = crowd().double()
    gradient = random_gradient(model, 0)
    for part, exact in zip(
        model.dualize(gradient, method=method).tensors,
        model.dualize(gradient, method="svd").tensors,
        strict=True,
    ):
        close(part, exact, atol=1e-2 * exact.abs().max().item())


def test_an_unknown_method_is_refused():
    model = crowd()
    with pytest.raises(ValueError, match="no method 'qr'"):
        model.dualize(random_gradient(model, 0), method="qr")


# Normalize


@given(model=trees(), seed=seeds)
def test_normalize_gives_every_atom_its_coefficient(model, seed):
    normalized = parts(model, model.normalize(random_update(model, seed)))
    total = reference.mass(model)
    dual = reference.dualize(model, parts(model, random_gradient(model, seed)))
    for atom, part in normalized.items():
        close(
            reference.atom_norm(atom, part), reference.atom_norm(atom, dual[atom]) if total else 0.0
        )


@given(model=trees(), seed=seeds)
def test_normalize_keeps_directions(model, seed):
    update = random_update(model, seed)
    for part, u in zip(model.normalize(update).tensors, update.tensors, strict=True):
        close(part * u.norm(), u * part.norm())


@given(model=trained_trees(), seed=seeds, target=st.floats(1e-3, 1e3))
def test_normalize_has_the_target_norm(model, seed, target):
    close(model.norm(model.normalize(random_update(model, seed), target)), target)


@given(model=trees(), seed=seeds)
def test_normalize_keeps_zero_parts(model, seed):
    update = random_update(model, seed).zeros_like()
    assert not any(part.any() for part in model.normalize(update).tensors)


# Never stale


def ratio(model: Module) -> float:
    """The coefficient of the first of two atoms over that of the second."""
    first, second = coefficients(model)
    return first / second


def pair() -> Module:
    return Linear(3, 3) @ ReLU() @ Linear(3, 3)


def test_two_equal_layers_have_equal_coefficients():
    close(ratio(pair()), 1.0, rtol=1e-6)


def test_an_edited_mass_counts_at_once():
    model = pair()
    ratio(model)
    model[0].mass = 5.0
    close(ratio(model), 5.0, rtol=1e-6)
    assert model.mass == 6


def test_an_edited_sensitivity_counts_at_once():
    model = pair()
    ratio(model)
    model[1].sensitivity = 4.0
    close(ratio(model), 1 / 4, rtol=1e-6)
    assert model.sensitivity == 4


def test_an_edited_atom_sensitivity_counts_upstream_only():
    model = pair()
    model[2].sensitivity = 4.0
    model[0].sensitivity = 10.0
    close(ratio(model), 1 / 4, rtol=1e-6)


def test_a_tared_child_counts_at_once():
    model = pair()
    ratio(model)
    model[2].tare(5.0)
    close(ratio(model), 1 / 5, rtol=1e-6)


def test_a_replaced_child_counts_at_once():
    model = pair()
    ratio(model)
    model[1] = 4 * Identity()
    close(ratio(model), 1 / 4, rtol=1e-6)


def test_a_replaced_grandchild_counts_at_once():
    model = Linear(3, 3) @ (Linear(3, 3) + Identity())
    ratio(model)
    model[0][0][1] = 6 * Identity()
    assert model.sensitivity == 7


@given(model=trained_trees(), total=st.floats(1e-3, 1e3), seed=seeds)
def test_tare_of_the_whole_changes_no_update(model, total, seed):
    gradient = random_gradient(model, seed)
    before = model.dualize(gradient, method="svd")
    model.tare(total)
    for now, then in zip(
        model.dualize(gradient, method="svd").tensors, before.tensors, strict=True
    ):
        close(now, then)


# Atoms and bonds of one's own


class Diagonal(Atom[RMS, RMS]):
    sensitivity = 3.0

    def __init__(self, d: int) -> None:
        super().__init__((d,), Vectors(Linf, axes=1), fan_out=d, fan_in=d)

    def forward(self, x):
        return self.weight * x


class Halve(Bond[RMS, RMS]):
    sensitivity = 0.5

    def forward(self, x):
        return x / 2


def test_an_atom_of_ones_own_takes_part():
    model = Diagonal(3) @ Halve() @ Linear(3, 3)
    close(np.array(coefficients(model)), [1 / 2 / (3 * 0.5), 1 / 2], rtol=1e-6)


def test_weights_of_norm_one_are_drawn_for_an_atom_of_ones_own():
    close(Diagonal(5).weight.abs().max(), 1.0)


# A step descends


@given(model=trained_trees(), seed=seeds)
@settings(max_examples=15)
def test_no_other_step_of_equal_norm_promises_more(model, seed):
    gradient = random_gradient(model, seed)
    best = gradient @ model.dualize(gradient, method="svd")
    for rival in (random_update(model, seed + i) for i in range(99, 104)):
        assert gradient @ model.normalize(rival) <= best * (1 + 1e-10)


@given(model=trees(), seed=seeds)
@settings(max_examples=15)
def test_duality_leaves_weights_alone(model, seed):
    weights = [w.detach().clone() for w in model.weights.tensors]
    model.dualize(random_gradient(model, seed))
    assert all(map(torch.equal, model.weights.tensors, weights))


@given(model=trees(), seed=seeds)
@settings(max_examples=15)
def test_a_deepcopy_has_the_same_duality(model, seed):
    gradient = random_gradient(model, seed)
    one, other = model.dualize(gradient), copy.deepcopy(model).dualize(gradient)
    assert all(map(torch.equal, one.tensors, other.tensors))


@pytest.mark.parametrize("size", [1e-41, 1e-44, 1e-30, 1e30])
def test_parts_of_any_size_are_normalized_to_their_share(size):
    model = Linear(2, 3)
    normalized = model.normalize(Update({"weight": torch.full((2, 3), size)}), 0.1)
    ordinary = model.normalize(Update({"weight": torch.ones(2, 3)}), 0.1)
    # A subnormal number has few digits.
    close(normalized["weight"], ordinary["weight"], rtol=1e-3)
