"""Weights, updates and gradients: vector spaces, points, the pairing, and nothing else."""

import copy
import operator
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modula import Gradient, LayoutError, Linear, ReLU, Update, Weights
from tests.helpers import assert_unchanged, close, rand, random_gradient, random_update, snapshot

SHAPES = {"first": (2, 3), "second": (4,), "third": (1, 2, 2)}
KINDS = [Update, Gradient]
every_kind = pytest.mark.parametrize("kind", KINDS)
whole = st.integers(-8, 8)
"""Entries and scalars are small whole numbers, so that the axioms hold to the last bit."""


@st.composite
def lists(draw: st.DrawFn) -> dict[str, Tensor]:
    seed = draw(st.integers(0, 2**32))
    return {
        name: (8 * rand(seed + i, *shape)).round() for i, (name, shape) in enumerate(SHAPES.items())
    }


def equal(one, other) -> bool:
    return (
        type(one) is type(other)
        and one.names == other.names
        and all(map(torch.equal, one.tensors, other.tensors))
    )


def model() -> Linear:
    return Linear(3, 4) @ ReLU() @ Linear(4, 5)


# The axioms of a vector space


@every_kind
@given(a=lists(), b=lists())
def test_sums_commute(kind, a, b):
    assert equal(kind(a) + kind(b), kind(b) + kind(a))


@every_kind
@given(a=lists(), b=lists(), c=lists())
def test_sums_associate(kind, a, b, c):
    assert equal((kind(a) + kind(b)) + kind(c), kind(a) + (kind(b) + kind(c)))


@every_kind
@given(a=lists())
def test_zero_is_neutral(kind, a):
    assert equal(kind(a) + kind(a).zeros_like(), kind(a))


@every_kind
@given(a=lists())
def test_minus_itself_is_zero(kind, a):
    assert equal(kind(a) - kind(a), kind(a).zeros_like())


@every_kind
@given(a=lists(), b=lists())
def test_difference_is_the_sum_with_the_negative(kind, a, b):
    assert equal(kind(a) - kind(b), kind(a) + (-kind(b)))


@every_kind
@given(a=lists())
def test_plus_is_the_vector_itself(kind, a):
    assert equal(+kind(a), kind(a))


@every_kind
@given(a=lists(), b=lists(), s=whole)
def test_scalars_distribute_over_sums(kind, a, b, s):
    assert equal(s * (kind(a) + kind(b)), s * kind(a) + s * kind(b))


@every_kind
@given(a=lists(), s=whole, t=whole)
def test_sums_of_scalars_distribute(kind, a, s, t):
    assert equal((s + t) * kind(a), s * kind(a) + t * kind(a))


@every_kind
@given(a=lists(), s=whole, t=whole)
def test_scalars_associate(kind, a, s, t):
    assert equal((s * t) * kind(a), s * (t * kind(a)))


@every_kind
@given(a=lists())
def test_one_is_neutral(kind, a):
    assert equal(1 * kind(a), kind(a))


@every_kind
@given(a=lists(), s=whole)
def test_a_scalar_stands_on_either_side(kind, a, s):
    assert equal(s * kind(a), kind(a) * s)


@every_kind
@given(a=lists(), power=st.integers(-3, 3))
def test_division_is_multiplication_by_the_inverse(kind, a, power):
    assert equal(kind(a) / 2.0**power, 2.0**-power * kind(a))


SCALARS = [
    2,
    2.0,
    np.float64(2),
    np.float32(2),
    np.int64(2),
    torch.tensor(2.0),
    torch.tensor(2),
    torch.tensor(2.0, dtype=torch.float64),
]
every_scalar = pytest.mark.parametrize(
    "scalar", SCALARS, ids=lambda s: f"{type(s).__name__}-{getattr(s, 'dtype', '')}"
)


@every_kind
@every_scalar
def test_every_sort_of_scalar_multiplies_from_the_right(kind, scalar):
    v = kind({"w": torch.tensor([1.0, 3.0])})
    assert (v * scalar).tensors[0].tolist() == [2, 6]


@every_kind
@every_scalar
def test_every_sort_of_scalar_multiplies_from_the_left(kind, scalar):
    v = kind({"w": torch.tensor([1.0, 3.0])})
    assert (scalar * v).tensors[0].tolist() == [2, 6]


@every_kind
@every_scalar
def test_every_sort_of_scalar_divides(kind, scalar):
    v = kind({"w": torch.tensor([1.0, 3.0])})
    assert (v / scalar).tensors[0].tolist() == [0.5, 1.5]


@every_kind
@every_scalar
def test_scalars_do_not_change_the_dtype(kind, scalar):
    assert (kind({"w": torch.ones(2)}) * scalar).tensors[0].dtype == torch.float32


# In place


IN_PLACE = [(operator.iadd, operator.add), (operator.isub, operator.sub)]
IN_PLACE_SCALAR = [(operator.imul, operator.mul), (operator.itruediv, operator.truediv)]


@every_kind
@pytest.mark.parametrize(("in_place", "out_of_place"), IN_PLACE)
@given(a=lists(), b=lists())
def test_in_place_equals_out_of_place(kind, in_place, out_of_place, a, b):
    expected = out_of_place(kind(a), kind(b))
    assert equal(in_place(kind(a), kind(b)), expected)


@every_kind
@pytest.mark.parametrize(("in_place", "out_of_place"), IN_PLACE_SCALAR)
@given(a=lists(), s=st.sampled_from([-2.0, 0.5, 3.0]))
def test_in_place_scaling_equals_out_of_place(kind, in_place, out_of_place, a, s):
    expected = out_of_place(kind(a), s)
    assert equal(in_place(kind(a), s), expected)


@every_kind
@pytest.mark.parametrize("operation", [operator.iadd, operator.isub])
def test_in_place_writes_the_same_tensors(kind, operation):
    v = kind({"w": torch.ones(2)})
    before = v.tensors[0]
    assert operation(v, kind({"w": torch.ones(2)})).tensors[0] is before


@every_kind
@pytest.mark.parametrize("operation", [operator.imul, operator.itruediv])
def test_in_place_scaling_writes_the_same_tensors(kind, operation):
    v = kind({"w": torch.ones(2)})
    before = v.tensors[0]
    assert operation(v, 2.0).tensors[0] is before


@every_kind
@pytest.mark.parametrize(
    "operation",
    [
        lambda v: v + v,
        lambda v: v - v,
        lambda v: 2 * v,
        lambda v: v / 2,
        lambda v: -v,
        lambda v: v.clone(),
    ],
)
def test_out_of_place_leaves_the_operand_alone(kind, operation):
    v = kind({"w": torch.ones(2)})
    operation(v).tensors[0].fill_(7)
    assert v.tensors[0].tolist() == [1, 1]


# The pairing


@given(a=lists(), b=lists(), u=lists(), s=whole, t=whole)
def test_pairing_is_linear_in_the_gradient(a, b, u, s, t):
    assert (s * Gradient(a) + t * Gradient(b)) @ Update(u) == s * (Gradient(a) @ Update(u)) + t * (
        Gradient(b) @ Update(u)
    )


@given(a=lists(), u=lists(), v=lists(), s=whole, t=whole)
def test_pairing_is_linear_in_the_update(a, u, v, s, t):
    assert Gradient(a) @ (s * Update(u) + t * Update(v)) == s * (Gradient(a) @ Update(u)) + t * (
        Gradient(a) @ Update(v)
    )


@given(a=lists(), u=lists())
def test_pairing_is_the_sum_of_all_products(a, u):
    close(Gradient(a) @ Update(u), sum(float((a[name] * u[name]).sum()) for name in SHAPES))


def test_pairing_sums_low_precision_in_float32():
    ones = {"w": torch.full((4096,), 1.0, dtype=torch.bfloat16)}
    assert Gradient(ones) @ Update(ones) == 4096


def test_pairing_is_the_first_order_change_of_the_loss():
    net = model().double()
    x = rand(0, 6, 5)
    loss = net(x).square().mean()
    gradient, step = net.gradient(loss), 1e-7 * random_update(net, 1)
    predicted = gradient @ step
    net.weights += step
    close(net(x).square().mean() - loss, predicted, rtol=1e-4)


# Weights


def test_weights_are_a_live_view():
    net = model()
    assert all(map(operator.is_, net.weights.tensors, net.parameters()))


def test_weights_carry_the_names_of_the_parameters():
    net = model()
    assert dict(net.weights.items()).keys() == dict(net.named_parameters()).keys()


@pytest.mark.parametrize(("operation", "sign"), [(operator.isub, -1), (operator.iadd, 1)])
def test_moving_in_place_writes_the_parameters(operation, sign):
    net = model()
    parameters, update = list(net.parameters()), random_update(net, 0)
    expected = [p.detach() + sign * u for p, u in zip(parameters, update.tensors, strict=True)]
    net.weights = operation(net.weights, update)
    assert all(map(operator.is_, net.parameters(), parameters))
    assert all(map(torch.equal, net.parameters(), expected))


def test_moving_in_place_records_no_graph():
    net = model()
    net.weights -= random_update(net, 0)
    assert all(p.is_leaf and p.requires_grad for p in net.parameters())


def test_moving_makes_new_weights():
    net = model()
    before = snapshot(net)
    net.weights + random_update(net, 0)
    net.weights - random_update(net, 0)
    assert_unchanged(net, before)


def test_difference_of_two_points_is_an_update():
    one, other = model(), model()
    assert type(one.weights - other.weights) is Update


def test_difference_leads_from_one_point_to_the_other():
    one, other = model().double(), model().double()
    moved = one.weights + (other.weights - one.weights)
    assert type(moved) is Weights
    for reached, aim in zip(moved.tensors, other.weights.tensors, strict=True):
        close(reached, aim)


def test_an_average_of_two_models_is_a_point_between():
    one, other = model(), model()
    middle = one.weights + 0.5 * (other.weights - one.weights)
    close(
        middle["0.weight"],
        (one.weights["0.weight"] + other.weights["0.weight"]) / 2,
        rtol=1e-6,
        atol=1e-7,
    )


def test_assigned_weights_are_copied_into_the_parameters():
    one, other = model(), model()
    one.weights = other.weights
    assert all(map(torch.equal, one.parameters(), other.parameters()))
    assert not any(map(operator.is_, one.parameters(), other.parameters()))


def test_a_clone_is_a_checkpoint():
    net = model()
    before = net.weights.clone()
    net.weights -= random_update(net, 0)
    net.weights = before
    assert all(map(torch.equal, net.parameters(), before.tensors))


def test_only_weights_can_be_assigned():
    net = model()
    with pytest.raises(TypeError, match=r"model\.weights -= update"):
        net.weights = random_update(net, 0)


def test_weights_of_another_layout_cannot_be_assigned():
    net = model()
    before = snapshot(net)
    with pytest.raises(LayoutError):
        net.weights = Linear(3, 4).weights
    assert_unchanged(net, before)


# Operations that are not defined


OPERATIONS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "@": operator.matmul,
    "+=": operator.iadd,
    "-=": operator.isub,
    "*=": operator.imul,
    "/=": operator.itruediv,
}
ALLOWED = {
    *[(kind, op, kind) for kind in ("Update", "Gradient") for op in ("+", "-", "+=", "-=")],
    *[("Weights", op, "Update") for op in ("+", "-", "+=", "-=")],
    ("Weights", "-", "Weights"),
    ("Gradient", "@", "Update"),
}
FORBIDDEN = [
    (left, op, right)
    for left in ("Weights", "Update", "Gradient")
    for op in OPERATIONS
    for right in ("Weights", "Update", "Gradient")
    if (left, op, right) not in ALLOWED
]
SCALAR_ON = [("Weights", op) for op in ("+", "-", "*", "/", "@", "*=", "/=")] + [
    (kind, op) for kind in ("Update", "Gradient") for op in ("+", "-", "@")
]


def vector(kind: str, net: Linear):
    return {
        "Weights": net.weights,
        "Update": random_update(net, 0),
        "Gradient": random_gradient(net, 1),
    }[kind]


@pytest.mark.parametrize(("left", "op", "right"), FORBIDDEN)
def test_a_forbidden_mixture_is_a_type_error_that_says_why(left, op, right):
    net = model()
    with pytest.raises(TypeError, match="has no meaning: "):
        OPERATIONS[op](vector(left, net), vector(right, net))


@pytest.mark.parametrize(("left", "op", "right"), FORBIDDEN)
def test_a_forbidden_mixture_changes_nothing(left, op, right):
    net = model()
    operands, before = (vector(left, net), vector(right, net)), snapshot(net)
    copies = [operand.clone() for operand in operands]
    with pytest.raises(TypeError):
        OPERATIONS[op](*operands)
    assert_unchanged(net, before)
    assert all(map(equal, operands, copies))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Weights", "Gradient"),
        ("Gradient", "Weights"),
        ("Update", "Gradient"),
        ("Gradient", "Update"),
    ],
)
@pytest.mark.parametrize("op", ["+", "-", "+=", "-="])
def test_a_gradient_out_of_place_is_told_to_be_dualized(left, op, right):
    net = model()
    with pytest.raises(TypeError, match=r"model\.dualize\(grad\)"):
        OPERATIONS[op](vector(left, net), vector(right, net))


@pytest.mark.parametrize(
    ("left", "op", "right", "advice"),
    [
        ("Weights", "+", "Weights", r"w1 \+ 0\.5 \* \(w2 - w1\)"),
        ("Update", "+", "Weights", r"weights \+ update"),
        ("Gradient", "@", "Gradient", "gradient @ update"),
        ("Update", "@", "Gradient", "gradient @ update"),
        ("Update", "@", "Update", "gradient @ update"),
        ("Weights", "@", "Gradient", "gradient @ update"),
    ],
)
def test_a_mixture_names_the_way_out(left, op, right, advice):
    net = model()
    with pytest.raises(TypeError, match=advice):
        OPERATIONS[op](vector(left, net), vector(right, net))


@pytest.mark.parametrize(("kind", "op"), SCALAR_ON)
def test_numbers_do_not_mix_but_as_factors(kind, op):
    with pytest.raises(TypeError):
        OPERATIONS[op](vector(kind, model()), 2.0)


@pytest.mark.parametrize("kind", ["Weights", "Update", "Gradient"])
@pytest.mark.parametrize("op", ["+", "-", "/", "@"])
def test_numbers_on_the_left_do_not_mix_but_as_factors(kind, op):
    with pytest.raises(TypeError):
        OPERATIONS[op](2.0, vector(kind, model()))


@pytest.mark.parametrize("scalar", [2.0, np.float64(2), torch.tensor(2.0)], ids=type)
def test_weights_have_no_multiples(scalar):
    with pytest.raises(TypeError, match="no multiples"):
        scalar * model().weights


@every_kind
@pytest.mark.parametrize("factor", [True, "2", None, torch.ones(2), torch.ones(1), [2.0], 2j])
def test_only_real_scalars_are_factors(kind, factor):
    with pytest.raises(TypeError):
        kind({"w": torch.ones(2)}) * factor


# Layouts


@pytest.mark.parametrize(
    "other",
    [
        {"v": torch.ones(2)},
        {"w": torch.ones(3)},
        {"w": torch.ones(2), "v": torch.ones(2)},
        {},
        {"w": torch.ones(1)},
    ],
    ids=["name", "shape", "more", "fewer", "broadcastable"],
)
@every_kind
@pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.iadd, operator.isub])
def test_another_layout_is_refused(kind, operation, other):
    v = kind({"w": torch.ones(2)})
    with pytest.raises(LayoutError, match="different models"):
        operation(v, kind(other))
    assert v.tensors[0].tolist() == [1, 1]


def test_the_pairing_refuses_another_layout():
    with pytest.raises(LayoutError, match=r"'w' is .* in one and .* in the other"):
        Gradient({"w": torch.ones(2)}) @ Update({"w": torch.ones(3)})


@pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.iadd, operator.isub])
def test_weights_refuse_the_update_of_another_model(operation):
    net = model()
    before = snapshot(net)
    with pytest.raises(LayoutError, match="different models"):
        operation(net.weights, random_update(Linear(3, 4), 0))
    assert_unchanged(net, before)


@pytest.mark.parametrize("kind", [Update, Gradient, Weights])
@pytest.mark.parametrize(
    "content", [torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool), [1.0], None]
)
def test_only_floating_point_tensors_are_taken(kind, content):
    with pytest.raises(TypeError, match=f"{kind.__name__} takes floating-point tensors.*'w'"):
        kind({"w": content})


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (Update({"w": torch.zeros(1)}), r"got Update: give a dict, and \w+\(dict\(\.\.\.\)\)"),
        ([torch.zeros(1)], r"got list: give a dict, such as dict\(model\.named_parameters\(\)\)"),
    ],
    ids=["a vector", "a list"],
)
@every_kind
def test_only_mappings_are_taken(kind, content, advice):
    with pytest.raises(TypeError, match=f"{kind.__name__} takes a mapping .*{advice}"):
        kind(content)


# Reading


@every_kind
def test_a_tensor_is_found_by_its_name(kind):
    v = kind({"a": torch.zeros(1), "b": torch.ones(1)})
    assert v["b"] is v.tensors[1]


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(KeyError, match=r"no parameter 'c'; there are 'a', 'b'"):
        Update({"a": torch.zeros(1), "b": torch.ones(1)})["c"]


@every_kind
def test_a_vector_is_read_as_a_mapping_of_names(kind):
    tensors = {"b": torch.ones(2), "a": torch.zeros(3)}
    made = kind(tensors)
    assert list(made) == ["b", "a"]
    assert all(tensor is tensors[name] for name, tensor in dict(made).items())
    assert [name in made for name in ("a", "c", 0)] == [True, False, False]


@every_kind
def test_items_come_in_the_order_given(kind):
    assert [name for name, _ in kind({"b": torch.zeros(1), "a": torch.ones(1)}).items()] == [
        "b",
        "a",
    ]


@every_kind
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_is_equal_and_independent(kind, duplicate):
    v = kind({"w": torch.ones(2)})
    twin = duplicate(v)
    assert equal(v, twin)
    assert twin.tensors[0] is not v.tensors[0]


def test_repr_lists_every_tensor():
    assert repr(Update({"w": torch.zeros(2, 3)})) == "Update of 1 tensors\n  w: [2, 3] float32 cpu"


def test_repr_of_many_tensors_is_short():
    assert len(repr(Update({str(i): torch.zeros(1) for i in range(100)})).splitlines()) < 20


def test_the_vectors_of_a_network_without_weights_have_their_arithmetic():
    model = ReLU()
    gradient, update = Gradient({}), Update({})
    for vector in (gradient, update):
        for result in (vector + vector, vector - vector, 2.0 * vector, vector / 2.0, -vector):
            assert (type(result), len(result)) == (type(vector), 0)
    assert float(gradient @ update) == 0
    assert len(model.dualize(gradient)) == 0
    model.weights -= update
    assert len(model.weights - model.weights) == 0
