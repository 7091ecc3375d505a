"""Descent: the types of `dualize`, `norm`, `dual_norm`, `normalize` and the optimizer."""

from typing import assert_type

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modula import (
    GPT,
    RMS,
    Embed,
    Gradient,
    Lifted,
    Linear,
    Module,
    Network,
    OneHot,
    ReLU,
    SteepestDescent,
    Update,
    Weights,
    checkpoint,
    lift,
    optim,
)
from modula.instruments import MomentumErrorReport, momentum_error
from modula.polar import SVD, NewtonSchulz, PolarExpress, minimax_coefficients, orthogonalize

model = Linear(3, 8) @ ReLU() @ Linear(8, 4)


def any_network(network: Network) -> float:
    return network.mass


assert_type(model, Module[RMS, RMS])
x, y = torch.randn(5, 4), torch.zeros(5, dtype=torch.long)


def loss() -> Tensor:
    return F.cross_entropy(model(x), y)


grad = model.gradient(loss())
update = model.dualize(grad)
assert_type(grad, Gradient)
assert_type(update, Update)
assert_type(model.weights, Weights)
assert_type(model.dualize(grad, 0.5), Update)
assert_type(model.dualize(grad, target_norm=0.5, method="svd"), Update)
assert_type(model.dualize(grad, method=NewtonSchulz(degree=3)), Update)
assert_type(model.dualize(grad, method=PolarExpress(steps=8)), Update)
assert_type(model.norm(update), Tensor)
assert_type(model.norm(model.weights - model.weights), Tensor)
assert_type(model.dual_norm(grad), Tensor)
assert_type(model.normalize(update), Update)
assert_type(model.normalize(update, target_norm=0.5), Update)
assert_type(model.dual_norm(0.9 * grad), Tensor)
model.initialize()
model.initialize(torch.Generator().manual_seed(0))
model.project()

torch.autograd.backward(loss())
assert_type(model.gradient(), Gradient)
model.weights -= 0.1 * model.dualize(model.gradient())
model.weights -= 0.1 * model.dualize(model.gradient(loss()))

model.dualize(update)  # E: an update is dual already
model.dualize(model.weights)  # E: weights are no gradient
model.dualize(loss())  # E: a loss is no gradient; model.gradient(loss) is
model.dualize(x)  # E: a tensor is no gradient
model.dualize()  # E: of which gradient?
model.dualize(grad, "0.5")  # E: a norm is a number
model.dualize(grad, method="spectral")  # E: no such method
model.dualize(grad, 1.0, "svd")  # E: the method is given by name
model.dualize(grad, method=SVD)  # E: a class is no method; call it
model.norm(grad)  # E: a gradient is measured by model.dual_norm
model.norm(model.weights)  # E: weights are no update; take a difference
model.norm(x)  # E: a tensor is no update
model.dual_norm(update)  # E: an update is measured by model.norm
model.dual_norm(model.weights)  # E: weights are no gradient
model.normalize(grad)  # E: a gradient is mapped by model.dualize
model.normalize(model.weights)  # E: weights are no update
model.normalize(update, "1")  # E: a norm is a number
model.gradient("loss")  # E: a loss is a tensor
model.gradient(model.weights)  # E: a loss is a tensor
model.initialize(0)  # E: a generator
model.mass = 2.0  # E: the mass of a composition follows from its parts; model.tare(2.0)
model.sensitivity = 2.0  # E: so does its sensitivity
model.tare(mass=None)  # E: a mass is a number
Linear(4, 4).weights -= Linear(4, 4).gradient  # E: a method is not called
Linear(4, 4).weights -= model.dualize  # E: a method is not called
model.gradient(model(x))  # E run: a loss is a scalar
Linear(3, 3).dualize(grad)  # E run: the gradient belongs to another model

assert_type(GPT(9, d_embed=8, num_heads=2, num_blocks=1).weights, Weights)
assert_type((Linear(9, 4) @ Embed(4, 9)).weights, Weights)
lookup: Module[OneHot, RMS] = Embed(4, 9)
assert_type(lookup.gradient(lookup(torch.arange(9)).square().mean()), Gradient)

# The optimizer.
optimizer = SteepestDescent(model, lr=0.1)
assert_type(optimizer, SteepestDescent)
assert_type(optimizer.step(), None)
assert_type(optimizer.step(lambda: loss().item()), float)
assert_type(optimizer.skipped, Tensor)
SteepestDescent(
    model, torch.tensor(0.1), 0.9, nesterov=False, weight_decay=0.1, nonfinite="skip", method="svd"
)
SteepestDescent(model, 0.1, normalize=True, base="adam", betas=(0.9, 0.99), eps=1e-6)
SteepestDescent(lookup, 0.1, nonfinite="raise", adapt_masses=0.3)
SteepestDescent(model, 0.1, process_group=None)
assert_type(optimizer.masses(), dict[str, float])
torch.optim.lr_scheduler.LinearLR(optimizer)
SteepestDescent(model)  # E: a learning rate is needed
SteepestDescent(model.parameters(), lr=0.1)  # E: the model itself, not its parameters
SteepestDescent(torch.nn.Linear(4, 4), lr=0.1)  # E: a plain torch module has no norm
SteepestDescent(model.weights, lr=0.1)  # E: weights are not the model
SteepestDescent(model, lr="0.1")  # E: a rate is a number
SteepestDescent(model, lr=0.1, process_group="world")  # E: a process group of torch's
SteepestDescent(model, lr=0.1, momentum="heavy")  # E: momentum is a number
SteepestDescent(model, lr=0.1, adapt_masses="fast")  # E: a rate of drift is a number
SteepestDescent(model, lr=0.1, nonfinite="ignore")  # E: no such policy
SteepestDescent(model, lr=0.1, base="lion")  # E: no such base
SteepestDescent(model, lr=0.1, method="qr")  # E: no such method
SteepestDescent(model, lr=0.1, normalize=True, base="adam", betas=0.9)  # E: two numbers
SteepestDescent(model, lr=0.1, base="adam")  # E run: Adam's direction is normalised, not dualized

# Rules that compose.
rule = optim.Cautious(optim.SecondMoments(optim.Dualized(optim.Momentum(0.9)), 0.9, "columns"))
assert_type(rule, optim.Cautious)
assert_type(rule.rule, optim.Rule)
SteepestDescent(model, 0.1, rule=rule, weight_decay=0.1, decay=optim.CautiousDecay())
SteepestDescent(model, 0.1, rule=optim.Steepest(optim.Momentum(0.5), "svd"))
whitened = optim.Whitened(optim.Momentum(0.9), every=5)
assert_type(whitened.average, optim.Average)
SteepestDescent(model, 0.1, rule=optim.Dualized(whitened))
SteepestDescent(model, 0.1, rule=optim.Normalized(optim.AsDirection(whitened)))
SteepestDescent(model, 0.1, rule=optim.SecondMoments(rescaling=optim.KeepFrobenius()))
assert_type(optim.SecondMoments().rescaling, optim.Rescaling)
for constraint in (optim.Ball(2.0), optim.Sphere(1.0), optim.Projected()):
    SteepestDescent(model, 0.1, constraint=constraint)
optim.Cautious(optim.Adam())  # E: a direction is no rule; Normalized(Adam()) is
optim.SecondMoments(lines="row")  # E: rows or columns
optim.SecondMoments(rescaling="frobenius")  # E: a rescaling of modula.optim's
optim.Whitened(optim.Dualized())  # E: an average, not a rule
optim.Steepest(optim.Dualized())  # E: an average, not a rule
optim.Sphere("1")  # E: a radius is a number
optim.Ball()  # E: of which radius?
SteepestDescent(model, 0.1, decay=0.1)  # E: how much is weight_decay
SteepestDescent(model, 0.1, constraint=optim.Sphere)  # E: a class is no constraint; call it
assert_type(momentum_error(optimizer, grad), MomentumErrorReport)
momentum_error(optimizer, update)  # E: the average is compared with a gradient
momentum_error(model, grad)  # E: the optimizer keeps the average
optimizer.step(loss())  # E: a closure, not its result
optimizer.step(grad)  # E: gradients are read from .grad; model.dualize(grad)

# Orthogonalisation alone.
assert_type(orthogonalize(torch.randn(2, 4, 3)), Tensor)
assert_type(orthogonalize(torch.randn(4, 3), method="newton_schulz", steps=20), Tensor)
assert_type(SVD()(torch.randn(2, 3, 4)), Tensor)
assert_type(PolarExpress().with_steps(4), PolarExpress)
assert_type(minimax_coefficients(2, 0.1), tuple[tuple[float, float, float], ...])
orthogonalize(torch.randn(4, 3), method="qr")  # E: no such method
orthogonalize(grad)  # E: a gradient is no matrix; model.dualize(grad)
orthogonalize(torch.randn(4, 3), steps="4")  # E: a number of steps
assert_type(optim.SteepestDescent(model, lr=0.1), SteepestDescent)
assert_type(checkpoint.CheckpointError("cut short"), checkpoint.CheckpointError)


def lifted(existing: nn.Module) -> Lifted:
    return lift(existing, x, masses={"bias": 0.1}, probes=2)


net = lifted(nn.Linear(4, 3))
assert_type(net, Lifted)
assert_type(net.dualize(Gradient(dict(net.weights.items()))), Update)
assert_type(SteepestDescent(net, lr=0.1), SteepestDescent)
net.dualize(update)  # E: an update is not a gradient, whatever the network
