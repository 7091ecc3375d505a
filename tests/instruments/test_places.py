"""What flows through a network is recorded place by place, and the network is left as it was."""

import pytest
import torch
from torch import nn

from modula import (
    GPT,
    MLP,
    RMS,
    Add,
    Composition,
    Concatenation,
    Conv2D,
    Identity,
    Linear,
    ReLU,
    Tanh,
)
from modula.instruments.places import places, visits
from modula.norms import HeadRMS
from modula.spaces import Product, Space
from tests.helpers import close, rand


def test_places_are_the_submodules_in_flow_order():
    model = GPT(7, d_embed=8, num_heads=2, num_blocks=2)
    assert [(place.path, place.module) for place in places(model)] == list(
        model.named_modules(remove_duplicate=False)
    )


def test_a_bond_takes_the_space_of_its_place():
    relu = ReLU()
    model = Linear(2, 5) @ relu @ Linear(5, 3) @ relu @ Linear(3, 4)
    assert [place.signature[0] for place in places(model) if place.module is relu] == [
        Space(RMS, 3),
        Space(RMS, 5),
    ]


def test_heads_and_tuples_have_their_spaces():
    by_path = {place.path: place for place in places(GPT(7, d_embed=8, num_heads=2, num_blocks=1))}
    rope = next(place for place in by_path.values() if repr(place.module) == "Rope(4)")
    head = Space(HeadRMS, 4)
    assert rope.signature == (Product((head, head)), Product((head, head)))


def test_every_place_sees_what_enters_and_leaves_it():
    model = Tanh() @ Linear(3, 4)
    x = rand(0, 5, 4)
    model.double()
    root, linear, tanh = visits(model, x)
    close(root.x, x)
    close(linear.y, model[0](x))
    close(tanh.x, model[0](x))
    close(tanh.y, model(x))


def test_a_bond_that_stands_twice_is_seen_in_each_place():
    model = MLP(2, 4, width=3, depth=3).double()
    x = rand(0, 5, 4)
    seen = {visit.place.path: visit for visit in visits(model, x)}
    close(seen["1"].x, model[0](x))
    close(seen["3"].x, model[2](model[1](model[0](x))))


def test_branches_of_a_sum_see_the_same_input():
    model = (Identity() + Linear(4, 4)).double()
    x = rand(0, 5, 4)
    seen = {visit.place.path: visit for visit in visits(model, x)}
    for path in ("0.0", "0.1"):
        close(seen[path].x, x)
    close(seen["1"].x[1], model[0][1](x))


def test_no_hook_and_no_graph_is_left():
    model = Linear(3, 4)
    x = torch.randn(2, 4, requires_grad=True)
    (visit,) = visits(model, x)
    assert not model._forward_hooks
    assert not visit.x.requires_grad
    assert not visit.y.requires_grad


def test_hooks_are_removed_after_an_error():
    model = Linear(3, 4)
    with pytest.raises(ValueError, match="takes RMS"):
        visits(model, torch.randn(2, 5))
    assert not model._forward_hooks


def test_a_model_compiled_in_place_is_followed():
    model = Tanh() @ Linear(3, 4)
    model.compile(backend="eager")
    model(torch.randn(2, 4))
    assert len(visits(model, torch.randn(2, 4))) == 3


def test_a_wrapped_model_is_refused():
    with pytest.raises(TypeError, match=r"got OptimizedModule: torch.compile wraps a model"):
        list(places(torch.compile(Linear(3, 4))))


def test_a_foreign_module_is_refused():
    with pytest.raises(TypeError, match="composed with modula; got ReLU"):
        list(places(nn.ReLU()))


class Twice(Composition[RMS, RMS]):
    """Calls its parts in a way of its own."""

    def forward(self, x):
        return super().forward(super().forward(x))


def test_a_forward_of_ones_own_is_refused():
    with pytest.raises(ValueError, match=r"called 2 times and stands in 1 places"):
        visits(Twice(Tanh() @ Linear(4, 4)), torch.randn(2, 4))


def test_concatenations_give_tuples():
    model = Add() @ (Conv2D(2, 3), Conv2D(2, 3))
    concatenation = next(
        visit
        for visit in visits(model, torch.randn(1, 3, 4, 4))
        if isinstance(visit.place.module, Concatenation)
    )
    assert [part.shape for part in concatenation.y] == [(1, 2, 4, 4)] * 2
