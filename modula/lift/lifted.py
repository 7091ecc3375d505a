"""`lift` and `Lifted`: the duality of a torch module that modula did not compose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from modula.errors import LiftError, ParameterError
from modula.geometry import BallVectors, Geometry
from modula.graph import Graph, Radius
from modula.lift.calibration import Gains, drawn, gains
from modula.lift.empty import Empty
from modula.lift.masses import default_masses, given_masses, groups
from modula.lift.names import short
from modula.lift.observing import observations
from modula.lift.operations import graph_of
from modula.lift.report import LiftReport, Row
from modula.lift.trace import Trace, trace
from modula.lift.uses import Measured, norms_from_use
from modula.lift.weight import LiftedWeight, seed_from
from modula.network import SMALLEST, TRAINABLE, Network, Observation, check_parameters
from modula.norms import Linf
from modula.values import Value

Calibration: TypeAlias = Literal["auto", "drawn", "init", "flat"] | Mapping[str, float]
"""How sensitivities become known: see `lift`."""

ROUNDINGS, AT_MOST = 100.0, 1e-3
"""A weight is taken to have no effect if S is below this many roundings of the median S.

In float32 that is 1e-5 of it. A key's bias in attention and a bias before a BatchNorm have 1e-7.
The smallest S of a weight with an effect that was seen is 1e-4, of a time step in a state-space
model. In 16 bits it is a thousandth."""

HIDDEN = 1e-2
"""The part of the S at drawn weights below which an S at the weights as they are gets a warning."""

_CLAIMS = {
    "drawn": "measured at drawn weights",
    "init": "measured at the weights",
    "flat": "set to 1",
    "given": "given",
}


class Inputs:
    """Example inputs of a model some of whose keyword arguments are also options of `lift`.

    Args:
        args, kwargs: of the model's call, in full.

    Example:
        >>> import torch, modula
        >>> from modula.lift import Inputs
        >>> class Probing(torch.nn.Linear):
        ...     def forward(self, x, *, probes):
        ...         return super().forward(x)[:probes]
        >>> inputs = Inputs(torch.randn(5, 4), probes=2)
        >>> len(modula.lift(Probing(4, 3), inputs).weights)
        2
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.args = args
        self.kwargs = kwargs


class Lifted(Network):
    """A torch module as a network: the same parameters, with norms, masses and sensitivities.

    `lift` makes one. It is not a torch module: train, move and save `torch_module`, and call either
    of them.

    Args:
        model: the module, or a wrapper of it, which is called.
        inputs: the example inputs, by which it is calibrated again.
        run: the recorded run.
        norms: the weights with their uses.
        masses: by weight; None for the defaults.
        seed: of all random numbers.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        run: Trace,
        norms: Mapping[str, Measured],
        masses: Mapping[str, float] | None,
        seed: int,
    ) -> None:
        self._called, self._module = model, unwrapped(model)
        self._inputs, self._trace, self._norms, self._seed = inputs, run, norms, seed
        self._groups = groups(run, norms)
        self._masses = default_masses(norms, self._groups)
        self._masses |= given_masses(masses or {}, norms, self._groups, self._module)
        self._weights = {name: self._weight(name) for name in dict.fromkeys(run.names.values())}
        self._sensitivities = dict.fromkeys(self._weights, 1.0)
        self._of_inputs: float | None = None
        self._claim = _CLAIMS["flat"]
        self._without_effect: frozenset[str] = frozenset()
        self._hidden: frozenset[str] = frozenset()
        self._graph = graph_of(run, norms, self._weights)
        self._frozen = check_parameters(self, self._graph)

    @property
    def torch_module(self) -> nn.Module:
        return self._module

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Return the model's output: the call of the torch module, or of the wrapper given."""
        return self._called(*args, **kwargs)

    def graph(self) -> Graph:
        if any(p.requires_grad for p in self._frozen):
            self._frozen = check_parameters(self, self._graph)
        return self._graph

    def weight_sensitivities(self) -> Mapping[str, float]:
        """Return S for each weight in units of the head's, or as it was given; not a bound.

        A head that makes V logits of d > V features passes on √(V/d) of a random change of them,
        and a measured S contains this factor. Updates are not random: all of what they change
        reaches the logits. In units of the head's S, a measured S does not depend on d, and that of
        the head is 1, as in the algebra. A network without a head, or with several, has no unit.
        """
        heads = [name for name, mine in self._groups.items() if mine == ("head",)]
        is_measured = self._claim in (_CLAIMS["drawn"], _CLAIMS["init"])
        has_unit = is_measured and len(heads) == 1 and heads[0] not in self._without_effect
        unit = self._sensitivities[heads[0]] if has_unit else 1.0
        return {name: max(S / unit, SMALLEST) for name, S in self._sensitivities.items()}

    @property
    def sensitivity(self) -> float:
        """How much a random change of the input moves the output, in RMS: measured, not a bound.

        For integer inputs it is the effect of random changes of the tables that they look up. It is
        NaN if nothing was measured.
        """
        if self._of_inputs is not None:
            return self._of_inputs
        if self._claim == _CLAIMS["flat"]:
            return math.nan
        tables = [n for n, mine in self._groups.items() if "table" in mine]
        return math.sqrt(sum(self._sensitivities[name] ** 2 for name in tables))

    def first_order_bound(self, entering: Radius | None = None) -> float:
        """Return infinity: no bound on a lifted network is claimed."""
        return math.inf

    def observe(self, *inputs: Value) -> list[Observation]:
        return observations(self, self._trace, self._weights, inputs)

    def describe(self) -> Mapping[str, str]:
        return {
            path: f"{type(module).__name__}({module.extra_repr()})"
            for path, module in self._module.named_modules()
        }

    def recalibrate(
        self,
        calibrate: Calibration = "auto",
        *,
        inputs: Inputs | None = None,
        probes: int = 4,
        generator: torch.Generator | None = None,
    ) -> None:
        """Measure the sensitivities again, in place.

        Args:
            calibrate: as in `lift`.
            inputs: other example inputs; None takes those of the lift.
            probes: the number of backward passes.
            generator: of the random numbers; None takes those of the lift.

        Raises:
            LiftError: as in `lift`.
        """
        if probes < 1:
            raise LiftError(f"lift takes at least one probe, got probes={probes}")
        self._inputs = inputs or self._inputs
        self._seed = seed_from(generator, self._seed)
        how = self._resolved(calibrate)
        self._of_inputs, self._hidden = None, frozenset()
        if isinstance(how, str):
            measured = self._measured(how, probes) if how != "flat" else {}
            self._claim = _CLAIMS[how]
        else:
            self._claim, measured = _CLAIMS["given"], dict(how)
        if not self._claim.startswith("measured"):
            self._leave_out(frozenset())
        self._sensitivities = {
            name: measured.get(name, 1.0) if name in self._norms else 0.0 for name in self._weights
        }

    def measurements(self) -> Mapping[str, object]:
        return {
            "sensitivities": dict(self._sensitivities),
            "of inputs": self._of_inputs,
            "claim": self._claim,
            "without effect": sorted(self._without_effect),
            "hidden": sorted(self._hidden),
        }

    def restore_measurements(self, measurements: Mapping[str, object]) -> None:
        match measurements:
            case {
                "sensitivities": dict(sensitivities),
                "of inputs": (None | float()) as of_inputs,
                "claim": str(claim),
                "without effect": list(without_effect),
                "hidden": list(hidden),
            } if set(sensitivities) == set(self._weights) >= {*without_effect, *hidden}:
                self._leave_out(frozenset(without_effect))
                self._hidden = frozenset(hidden)
                self._of_inputs, self._claim = of_inputs, claim
                self._sensitivities = {name: float(S) for name, S in sensitivities.items()}
            case _:
                raise ValueError(f"the measurements are of another network than {self!r}")

    def report(self) -> LiftReport:
        """Return how each weight is used, its norm, its mass, its S and its coefficient."""
        plan = self.plan()
        numbers = zip(plan.names, plan.mass_fractions, plan.coefficients, strict=True)
        rows = tuple([self._row(name, p, c) for name, p, c in numbers])
        return LiftReport(type(self._module).__name__, rows)

    def __str__(self) -> str:
        return str(self.report())

    def __repr__(self) -> str:
        return f"Lifted({type(self._module).__name__})"

    def _repr_html_(self) -> str:
        return self.report()._repr_html_()

    def _weight(self, name: str) -> LiftedWeight:
        path, _, attribute = name.rpartition(".")
        owner = self._module.get_submodule(path)
        measured = self._norms.get(name)
        if measured is None:
            tensor: Tensor = getattr(owner, attribute)
            axes = max(1, tensor.dim())
            geometry = BallVectors(Linf, axes) if tensor.numel() else Empty(axes)
            measured = Measured(name, ("entries",), geometry, (), proved=False)
        return LiftedWeight(owner, attribute, measured, self._masses.get(name, 0.0))

    def _resolved(self, calibrate: Calibration) -> Mapping[str, float] | str:
        if isinstance(calibrate, Mapping):
            return self._checked(calibrate)
        if calibrate == "auto":
            if any(w.tensor.is_meta for w in self._weights.values()):
                return "flat"
            is_tied = any("table" in m.kinds and "matrix" in m.kinds for m in self._norms.values())
            return "init" if is_tied else "drawn"
        if calibrate not in ("drawn", "init", "flat"):
            raise LiftError(
                "calibrate is 'auto', 'drawn', 'init', 'flat' or the sensitivities by weight; got "
                f"{calibrate!r}"
            )
        return calibrate

    def _checked(self, given: Mapping[str, float]) -> Mapping[str, float]:
        missing = [name for name in self._norms if name not in given]
        unknown = [name for name in given if name not in self._weights]
        wrong = [name for name, S in given.items() if not (math.isfinite(S) and S > 0)]
        if missing or unknown or wrong:
            raise LiftError(
                "calibrate gives one number > 0 for each weight: it lacks "
                f"{missing[:3] or 'none'}, has {unknown[:3] or 'no'} names that are no weights, "
                f"and {wrong[:3] or 'no'} numbers that are not positive"
            )
        return given

    def _measured(self, how: str, probes: int) -> Mapping[str, float]:
        """κ for each weight that the run used.

        Weights without effect are found at drawn weights, since at small weights all effects on
        attention are small.
        """
        sizes, values = {}, {}
        source = torch.Generator().manual_seed(self._seed)
        for name, one in self._norms.items():
            weight = self._weights[name].tensor
            values[name], sizes[name] = drawn(one.kinds[0], one.geometry, weight, source)
        found = self._gains(values, sizes, probes)
        self._leave_out(self._below_rounding(found.weights))
        # drawn weights can take another branch or another expert, and miss a weight
        if how == "drawn" and all(found.weights.values()):
            return self._note(found)
        present = {name: self._weights[name].tensor.detach() for name in self._norms}
        found_at_present = self._gains(present, sizes, probes)
        missed = {name for name, S in found.weights.items() if not S}
        self._leave_out(self._without_effect - {n for n in missed if found_at_present.weights[n]})
        if how == "init":
            self._hidden = frozenset(
                [n for n, S in found.weights.items() if found_at_present.weights[n] < HIDDEN * S]
            )
            return self._note(found_at_present)
        self._note(found)
        return {name: S or found_at_present.weights[name] for name, S in found.weights.items()}

    def _below_rounding(self, sensitivities: Mapping[str, float]) -> frozenset[str]:
        """The weights whose gradient is rounding, such as a bias before a BatchNorm."""
        known = [S for S in sensitivities.values() if S > 0]
        rounding = max(torch.finfo(w.tensor.dtype).eps for w in self._weights.values())
        least = min(AT_MOST, ROUNDINGS * rounding) * median(known) if known else 0.0
        return frozenset([name for name, S in sensitivities.items() if least >= S])

    def _gains(
        self, values: Mapping[str, Tensor], sizes: Mapping[str, float], probes: int
    ) -> Gains:
        args, kwargs = self._inputs.args, self._inputs.kwargs
        return gains(self._module, args, kwargs, values, sizes, probes, self._seed)

    def _note(self, found: Gains) -> Mapping[str, float]:
        self._of_inputs = found.inputs
        return found.weights

    def _leave_out(self, names: frozenset[str]) -> None:
        """Give mass 0 to these weights, and their masses to those that had been left out."""
        for name in self._without_effect - names:
            self._weights[name].mass = self._masses[name]
        for name in names:
            self._weights[name].mass = 0.0
        self._without_effect = names

    def _row(self, name: str, fraction: float, coefficient: float) -> Row:
        one = self._weights[name].measured
        is_used = name in self._norms
        claim = "given" if one.given else "proved" if one.proved else "by default"
        uses = tuple([f"{use.operation} in {use.call.path}" for use in one.uses])
        return Row(
            name,
            tuple(self._weights[name].tensor.shape),
            tuple(dict.fromkeys(uses)),
            " and ".join(self._groups.get(name, ())),
            short(one.geometry) if is_used else "",
            claim if is_used else "unused",
            fraction,
            self._sensitivities[name],
            self._claim,
            coefficient,
            self._warning(name),
        )

    def _warning(self, name: str) -> str:
        if not self._weights[name].tensor.numel():
            return "it has no entries"
        if name not in self._norms:
            return "the recorded run did not use it: it has no norm, and mass 0"
        if name in self._without_effect:
            return (
                "its effect on the output is rounding, as that of a bias before a normalisation: "
                "it has mass 0"
            )
        if name in self._hidden:
            return (
                "S is below a hundredth of that at drawn weights: small initial weights hide its "
                "effect, and its steps may be too long; calibrate='drawn' avoids that"
            )
        if self._norms[name].kinds == ("entries",) and not self._norms[name].given:
            return "no linear use is known: it is measured by its largest entry, by default"
        return ""


def lift(
    model: nn.Module,
    *args: object,
    masses: Mapping[str, float] | None = None,
    calibrate: Calibration = "auto",
    roles: Mapping[str, Geometry] | None = None,
    probes: int = 4,
    generator: torch.Generator | None = None,
    **kwargs: object,
) -> Lifted:
    """Return the network that a torch module is, with norms from one run on example inputs.

    The module is neither copied nor changed: buffers, modes, hooks and random state are afterwards
    as they were, and the weights of the network are the module's own parameters. The norm of each
    follows from the operations that read it, whatever its name and its number of axes.
    Sensitivities are measured; no bound on the network as a whole is claimed. The module may be
    wrapped in DistributedDataParallel or torch.compile. Frozen parameters (`requires_grad=False`)
    are constants.

    Args:
        model: any torch module.
        args, kwargs: of its call. Real examples: the graph is that of this run, and a branch or an
            expert that it does not take is not seen. If the model has a keyword argument with the
            name of an option of `lift`, pass all of its arguments as one `Inputs` of `modula.lift`.
        masses: {group, path, pattern, name or class: mass}, see `modula.lift.masses`; None for the
            defaults, also of weights that no key names.
        calibrate: "drawn" measures S with all weights drawn at norm 1, which does not depend on how
            they are initialised; "init" at the weights as they are; "auto" takes "init" if a table
            is also the head, "flat" on the meta device, and else "drawn"; "flat" sets S = 1; a
            mapping gives S for each weight.
        roles: {name: geometry} for parameters whose norm no rule knows.
        probes: the number of backward passes by which S is measured.
        generator: of all random numbers; None takes the same numbers each time.

    Returns:
        A network for `SteepestDescent`, `dualize` and instruments.

    Raises:
        LiftError: the recorder lost a parameter that a gradient reaches; no rule or no duality map
            is known for a parameter, which the error names with the `roles` that settle it; an S is
            not finite; an option is out of range.
        ParameterError: a parameter that requires a gradient is quantised, complex or of 8 bits.
        ValueError: `masses` names no weight, or gives a negative mass.

    Example:
        >>> import torch, modula
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
        >>> net = modula.lift(model, torch.randn(8, 4))
        >>> optimizer = modula.SteepestDescent(net, lr=0.1)
        >>> x = torch.randn(64, 4)
        >>> for step in range(20):
        ...     loss = (model(x) - x[:, :2]).square().mean()
        ...     net.weights -= 0.1 * net.dualize(net.gradient(loss))
        >>> net.report()["0.weight"].norm
        'RMS → RMS'
    """
    module = unwrapped(model)
    if not isinstance(module, nn.Module):
        raise LiftError(f"lift takes a torch module, got {type(model).__name__}")
    inputs = _inputs_of(args, kwargs)
    seed = seed_from(generator, 0)
    _refuse_kinds(module)
    run = trace(module, inputs.args, inputs.kwargs, seed)
    norms = norms_from_use(run, module, roles or {})
    network = Lifted(model, inputs, run, norms, masses, seed)
    network.recalibrate(calibrate, probes=probes)
    return network


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside of torch.compile and DistributedDataParallel."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(
            model, (nn.DataParallel, nn.parallel.DistributedDataParallel)
        ):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _inputs_of(args: Sequence[object], kwargs: Mapping[str, object]) -> Inputs:
    wrapped = [one for one in args if isinstance(one, Inputs)]
    if not wrapped:
        return Inputs(*args, **kwargs)
    if len(args) > 1 or kwargs:
        raise LiftError(
            "Inputs takes all arguments of the model's call: lift(model, Inputs(*args, **kwargs))"
        )
    return wrapped[0]


def _refuse_kinds(module: nn.Module) -> None:
    for name, p in module.named_parameters():
        is_dense = p.dtype in TRAINABLE and p.layout is torch.strided
        if p.requires_grad and not is_dense:
            raise ParameterError(
                f"{name!r} of {type(module).__name__} is of dtype {p.dtype} and layout {p.layout}; "
                f"lift takes trained parameters that are dense, of dtype "
                f"{', '.join(map(str, TRAINABLE))}: freeze it with requires_grad_(False), as a "
                "quantised weight beside LoRA factors is, or convert it"
            )
