"""Weights, updates and gradients in every operator."""

from typing import assert_type

import torch
from torch import Tensor

from modula import RMS, Gradient, LayoutError, Linear, Module, Update, Weights

model: Module[RMS, RMS] = Linear(4, 4)
x = torch.randn(2, 4)


def w() -> Weights:
    return model.weights


def g() -> Gradient:
    return model.gradient(model(x).square().mean())


def u() -> Update:
    return model.dualize(g())


one = torch.tensor(2.0)

assert_type(w() + u(), Weights)
assert_type(w() - u(), Weights)
assert_type(w() - w(), Update)
assert_type(u() + u(), Update)
assert_type(u() - u(), Update)
assert_type(g() + g(), Gradient)
assert_type(g() - g(), Gradient)
assert_type(2 * u(), Update)
assert_type(u() * 2, Update)
assert_type(u() / 2, Update)
assert_type(0.5 * g(), Gradient)
assert_type(g() * 0.5, Gradient)
assert_type(g() / 3, Gradient)
assert_type(one * u(), Update)
assert_type(u() * one, Update)
assert_type(u() / one, Update)
assert_type(one * g(), Gradient)
assert_type(g() / one, Gradient)
assert_type(-u(), Update)
assert_type(-g(), Gradient)
assert_type(+u(), Update)
assert_type(+g(), Gradient)
assert_type(g() @ u(), Tensor)
assert_type(w() - 0.1 * u(), Weights)
assert_type(w() + 0.5 * (w() - w()), Weights)
assert_type(0.9 * g() + 0.1 * g(), Gradient)
assert_type(g() @ (u() + u()), Tensor)
assert_type(w().clone(), Weights)
assert_type(u().clone(), Update)
assert_type(g().clone(), Gradient)
assert_type(u().zeros_like(), Update)
assert_type(g().zeros_like(), Gradient)
assert_type(w().copy_(w()), Weights)
assert_type(w().tensors, tuple[Tensor, ...])
assert_type(u().names, tuple[str, ...])
assert_type(g()["weight"], Tensor)
assert_type(list(u().items()), list[tuple[str, Tensor]])
assert_type(len(w()), int)
assert_type(Gradient({"weight": torch.ones(4, 4)}), Gradient)
assert_type(Update({"weight": torch.ones(4, 4)}), Update)
assert_type(Weights({"weight": torch.ones(4, 4)}), Weights)
assert_type(dict(w().items()), dict[str, Tensor])
assert_type(dict(w()), dict[str, Tensor])
assert_type(list(u()), list[str])
assert_type(list(w().keys()), list[str])
assert_type(dict(g()), dict[str, Tensor])
assert_type("weight" in g(), bool)

# In place.
momentum = g()
momentum *= 0.9
assert_type(momentum, Gradient)
momentum += g()
assert_type(momentum, Gradient)
momentum -= g()
momentum /= one
assert_type(momentum, Gradient)
step = u()
step += u()
step -= u()
step *= one
step /= 2
assert_type(step, Update)
point = w().clone()
point += u()
point -= 0.1 * u()
assert_type(point, Weights)
model.weights -= 0.1 * u()
model.weights += u()
model.weights = w() - u()
assert_type(model.weights, Weights)

# Mixtures of points, displacements and duals.
w() + w()  # E: points have no sum
w() + g()  # E: map the gradient with model.dualize(grad) first
u() + w()  # E: an update moves weights: weights + update
u() + g()  # E: map the gradient with model.dualize(grad) first
g() + w()  # E: map the gradient with model.dualize(grad) first
g() + u()  # E: map the gradient with model.dualize(grad) first
w() - g()  # E: map the gradient with model.dualize(grad) first
u() - w()  # E: an update moves weights: weights + update
u() - g()  # E: map the gradient with model.dualize(grad) first
g() - w()  # E: map the gradient with model.dualize(grad) first
g() - u()  # E: map the gradient with model.dualize(grad) first
w() * w()  # E: a vector is scaled by a number
w() * u()  # E: a vector is scaled by a number
w() * g()  # E: a vector is scaled by a number
u() * w()  # E: a vector is scaled by a number
u() * u()  # E: a vector is scaled by a number
u() * g()  # E: a vector is scaled by a number
g() * w()  # E: a vector is scaled by a number
g() * u()  # E: a vector is scaled by a number
g() * g()  # E: a vector is scaled by a number
w() / w()  # E: a vector is scaled by a number
w() / u()  # E: a vector is scaled by a number
w() / g()  # E: a vector is scaled by a number
u() / w()  # E: a vector is scaled by a number
u() / u()  # E: a vector is scaled by a number
u() / g()  # E: a vector is scaled by a number
g() / w()  # E: a vector is scaled by a number
g() / u()  # E: a vector is scaled by a number
g() / g()  # E: a vector is scaled by a number
w() @ w()  # E: the pairing is gradient @ update
w() @ u()  # E: the pairing is gradient @ update
w() @ g()  # E: the pairing is gradient @ update
u() @ w()  # E: the pairing is gradient @ update
u() @ u()  # E: the pairing is gradient @ update
u() @ g()  # E: the pairing is gradient @ update
g() @ w()  # E: the pairing is gradient @ update
g() @ g()  # E: the pairing is gradient @ update

# The same in place; a fresh model each time, since a checker no longer knows the type of a variable
# after an error in its assignment.
Linear(4, 4).weights += w()  # E: points have no sum
Linear(4, 4).weights += g()  # E: map the gradient with model.dualize(grad) first
Linear(4, 4).weights -= w()  # E: weights are a point; there is no model.weights -= weights
Linear(4, 4).weights -= g()  # E: map the gradient with model.dualize(grad) first
Linear(4, 4).weights *= w()  # E: a vector is scaled by a number
Linear(4, 4).weights *= u()  # E: a vector is scaled by a number
Linear(4, 4).weights *= g()  # E: a vector is scaled by a number
Linear(4, 4).weights /= w()  # E: a vector is scaled by a number
Linear(4, 4).weights /= u()  # E: a vector is scaled by a number
Linear(4, 4).weights /= g()  # E: a vector is scaled by a number


class Held:
    """An update and a gradient, stored."""

    def __init__(self) -> None:
        self.update = u()
        self.gradient = g()


Held().update += w()  # E: an update moves weights: weights + update
Held().update += g()  # E: map the gradient with model.dualize(grad) first
Held().update -= w()  # E: an update moves weights: weights + update
Held().update -= g()  # E: map the gradient with model.dualize(grad) first
Held().update *= w()  # E: a vector is scaled by a number
Held().update *= u()  # E: a vector is scaled by a number
Held().update *= g()  # E: a vector is scaled by a number
Held().update /= w()  # E: a vector is scaled by a number
Held().update /= u()  # E: a vector is scaled by a number
Held().update /= g()  # E: a vector is scaled by a number
Held().gradient += w()  # E: map the gradient with model.dualize(grad) first
Held().gradient += u()  # E: map the gradient with model.dualize(grad) first
Held().gradient -= w()  # E: map the gradient with model.dualize(grad) first
Held().gradient -= u()  # E: map the gradient with model.dualize(grad) first
Held().gradient *= w()  # E: a vector is scaled by a number
Held().gradient *= u()  # E: a vector is scaled by a number
Held().gradient *= g()  # E: a vector is scaled by a number
Held().gradient /= w()  # E: a vector is scaled by a number
Held().gradient /= u()  # E: a vector is scaled by a number
Held().gradient /= g()  # E: a vector is scaled by a number

# Numbers and tensors.
w() * 2  # E: a point has no multiples
2 * w()  # E: a point has no multiples
w() / 2  # E: a point has no multiples
-w()  # E: a point has no negative
u() + 1  # E: an update is no number
1 + u()  # E: an update is no number
1 - g()  # E: a gradient is no number
1 / u()  # E: an update has no inverse
u() * "2"  # E: a vector is scaled by a number
g() / None  # E: a vector is scaled by a number
u() ** 2  # E: an update has no square
u() + torch.ones(4, 4)  # E: an update is no tensor
torch.ones(4, 4) + g()  # E: a gradient is no tensor
w() - torch.ones(4, 4)  # E: an update is no tensor
g() @ torch.ones(4, 4)  # E: the pairing is gradient @ update
u() @ 2  # E: the pairing is gradient @ update
abs(u())  # E: model.norm(update) measures it
sum([u(), u()])  # E: sum starts at 0, and 0 + update has no meaning
float(g() @ u()) + u()  # E: an update is no number
w() - 0.1  # E: an update is no number
Linear(4, 4).weights -= 0.1  # E: an update is no number
Linear(4, 4).weights *= 0.9  # E: a point has no multiples
Linear(4, 4).weights = u()  # E: weights are weights
Linear(4, 4).weights = g()  # E: weights are weights
Linear(4, 4).weights = torch.ones(4, 4)  # E: weights are weights
u().copy_(u())  # E: only weights are written over
w().copy_(u())  # E: weights are copied from weights
w().zeros_like()  # E: a point has no zero
g()[0]  # E: a tensor is found by its parameter's name
Gradient([torch.ones(4, 4)])  # E: tensors by name
Update(u())  # E: tensors by name
u() * torch.ones(2)  # E run: a scalar has no axes
u() + Linear(3, 3).weights.clone()  # E: an update is not weights
Linear(3, 3).weights - u()  # E run: they belong to another model
u() * True  # E run: to a checker True is a number
issubclass(LayoutError, ValueError)
