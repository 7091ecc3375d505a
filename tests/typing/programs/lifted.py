"""Lifted networks: what `lift` returns, what is read from it, and rules for operations."""

from collections.abc import Mapping
from typing import assert_type

import torch
from torch import Tensor, nn

from modula import (
    RMS,
    Composition,
    Gradient,
    Lifted,
    Linear,
    Linf,
    Network,
    SteepestDescent,
    Update,
    Weights,
    lift,
)
from modula.geometry import Geometry, Spectral, Taps, Vectors
from modula.lift import (
    Inputs,
    Kernels,
    Kind,
    Layout,
    LiftReport,
    Role,
    Row,
    Rule,
    Use,
    View,
    register_rule,
)

x = torch.randn(8, 4)
existing = nn.Linear(4, 3)


def loss() -> Tensor:
    return nn.functional.linear(x, existing.weight, existing.bias).square().mean()


# The network: the masses, norms and sensitivities of a torch module.
net = lift(existing, x)
assert_type(net, Lifted)
assert_type(net.torch_module, nn.Module)
assert_type(net.weights, Weights)
assert_type(net.gradient(loss()), Gradient)
assert_type(net.dualize(net.gradient(loss())), Update)
assert_type(net.norm(net.dualize(net.gradient(loss()))), Tensor)
assert_type(net.sensitivity, float)
assert_type(net.weight_sensitivities(), Mapping[str, float])
assert_type(net.first_order_bound(), float)
assert_type(lift(existing, Inputs(x), Inputs(x)), Lifted)
assert_type(lift(existing, x, calibrate="flat", masses={"bias": 0.1}, probes=2), Lifted)
assert_type(lift(nn.Linear(4, 3, bias=False), x, calibrate={"weight": 1.0}), Lifted)
assert_type(lift(existing, x, roles={"weight": Spectral(RMS, RMS)}), Lifted)
assert_type(lift(Linear(4, 4), x), Lifted)
any_network: Network = net
assert_type(SteepestDescent(any_network, lr=0.1), SteepestDescent)
net.recalibrate("init", probes=2, generator=torch.Generator())
net.recalibrate(inputs=[Inputs(x), Inputs(x)])

lift(existing, x, calibrate="best")  # E: there is no such calibration
lift(existing, x, calibrate=2.0)  # E: a calibration has a name, or gives S for each weight
lift(existing, x, masses=0.1)  # E: masses stand in a mapping
lift(existing, x, masses={"bias": "small"})  # E: a mass is a number
lift(existing, x, roles={"weight": RMS})  # E: a norm type is no geometry
lift(existing, x, probes="4")  # E: a number of passes
lift(nn.Linear, x)  # E: a class is no module
lift(torch.relu, x)  # E: a function has no parameters
lift()  # E: the module is missing
net.recalibrate("best")  # E: there is no such calibration
net.recalibrate("flat", 4)  # E: the number of passes is given by name
net.recalibrate(inputs=x)  # E: the arguments of a call are Inputs
net.dualize(net.dualize(net.gradient(loss())))  # E: an update is not a gradient
net.norm(net.gradient(loss()))  # E: model.dual_norm(grad) measures a gradient
net.weights -= net.gradient(loss())  # E: map the gradient with net.dualize(grad) first
net @ Linear(4, 4)  # E: a lifted network has no place in the algebra
Linear(3, 3) @ net  # E: a lifted network has no place in the algebra
net + net  # E: a lifted network has no place in the algebra
0.5 * net  # E: a lifted network has no place in the algebra
net**2  # E: a lifted network has no place in the algebra
Composition(net)  # E: a lifted network has no place in the algebra
net.sensitivity = 1.0  # E: it is measured; give it by calibrate

# The report: a row for each weight.
report = net.report()
assert_type(report, LiftReport)
assert_type(report["weight"], Row)
assert_type(report.rows, tuple[Row, ...])
assert_type(len(report), int)
assert_type([row.name for row in report], list[str])
assert_type(report["weight"].shape, tuple[int, ...])
assert_type(report["weight"].uses, tuple[str, ...])
assert_type(report["weight"].norm, str)
assert_type(report["weight"].mass_fraction, float)
assert_type(report["weight"].sensitivity, float)
assert_type(report["weight"].coefficient, float)
assert_type(report.warnings, tuple[str, ...])
report[0]  # E: a weight is found by its name
report["weight"].mass  # E: a row has the weight's part, mass_fraction
report["weight"].norm = "RMS"  # E: a report is read
report.rows = ()  # E: a report is read


# A rule: the role of a parameter in one use, or None.
class Spline(nn.Module):
    """Error functions of the input times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.knots = nn.Parameter(torch.ones(3, 4))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.erf(self.knots * inputs)


def knots(use: Use) -> Role | None:
    assert_type(use.shape, tuple[int, ...])
    assert_type(use.view, View)
    assert_type(use.operation, str)
    return Role("gain", Vectors(Linf)) if use.view.is_whole else None


rule: Rule = knots
register_rule(Spline, knots)
register_rule("erf", lambda use: None)
assert_type(Role("matrix", Layout((0,), (1,))).norm, Geometry | Layout | Kernels)
assert_type(Role("matrix", Layout((0,), (1,)), proved=False).kind, Kind)
assert_type(Layout((0,), (1,)).geometry((3, 4)), Geometry)
assert_type(Role("matrix", Kernels(Taps(), 8, cuts=(4,))).norm, Geometry | Layout | Kernels)
assert_type(Kernels(Taps(), 8).geometry((8, 3, 5, 5)), Geometry)
Kernels(Taps)  # E: the number of features is missing
register_rule(3, knots)  # E: an operation's name, or a class of modules
register_rule(Linf, knots)  # E: a norm type is no class of modules
register_rule(Spline(), knots)  # E: the class, not a module
register_rule(Spline, "gain")  # E: a rule is a function
register_rule(Spline)  # E: the rule is missing
Layout(0, 1)  # E static: axes stand in tuples
Role("knots", Vectors(Linf))  # E static: there is no such kind
Role("gain", Linf)  # E static: a norm type is no geometry
register_rule(Spline, lambda: None)  # E static: a rule takes a use
wrong: Rule = torch.relu  # E static: a rule returns a role
