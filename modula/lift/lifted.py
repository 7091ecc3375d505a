"""`lift` and `Lifted`: the duality of a torch module that modula did not compose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from modula.checks import listed
from modula.errors import LiftError, ParameterError
from modula.geometry import BallVectors, Geometry, Intersection
from modula.graph import Graph, Radius
from modula.lift.beside import with_neighbours
from modula.lift.edits import refuse_edits
from modula.lift.empty import Empty
from modula.lift.inputs import Inputs, examples_of
from modula.lift.masses import default_masses, given_masses, groups
from modula.lift.names import short
from modula.lift.observing import observations
from modula.lift.operations import graph_of
from modula.lift.processes import check_agreement
from modula.lift.quadrature import in_quadrature
from modula.lift.rare import rarely_used
from modula.lift.report import LiftReport, Row
from modula.lift.residuals import residual_sums
from modula.lift.sensitivities import Sensitivities, measured
from modula.lift.trace import Trace, traced
from modula.lift.unsharded import unsharded
from modula.lift.uses import Measured, norms_from_use, stored
from modula.lift.weight import LiftedWeight, seed_from
from modula.network import SMALLEST, Network, Observation, check_parameters
from modula.norms import Linf
from modula.values import Value
from modula.vector import TRAINABLE, is_trainable, kind_of

Method: TypeAlias = Literal["auto", "drawn", "init", "quadrature", "declared", "flat"]
Calibration: TypeAlias = "Method | Mapping[str, float]"
"""How sensitivities become known: see `lift`."""

_CLAIMS = {
    "drawn": "measured at drawn weights",
    "init": "measured at the weights",
    "quadrature": "in quadrature of measured gains",
    "declared": "declared",
    "flat": "set to 1",
    "given": "given",
}


class Lifted(Network):
    """A torch module as a network: the same parameters, with norms, masses and sensitivities.

    `lift` makes one. It is not a torch module: train, move and save `torch_module`, and call either
    of them.

    Args:
        model: the module, or a wrapper of it, which is called.
        examples: the example inputs, by which it is calibrated again.
        run: the recorded runs.
        norms: the weights with their uses.
        masses: by weight; None for the defaults.
        seed: of all random numbers.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: Sequence[Inputs],
        run: Trace,
        norms: Mapping[str, Measured],
        masses: Mapping[str, float] | None,
        seed: int,
    ) -> None:
        self._called, self._module = model, unwrapped(model)
        self._examples, self._trace, self._norms = tuple(examples), run.plain(), norms
        self._seed = seed
        self._groups = groups(run, norms)
        self._masses = default_masses(norms, self._groups)
        self._masses |= given_masses(masses or {}, norms, self._groups, self._module)
        self._weights = {name: self._weight(name) for name in dict.fromkeys(run.names.values())}
        self._found = Sensitivities(dict.fromkeys(self._weights, 1.0))
        self._claim = _CLAIMS["flat"]
        self._rare = rarely_used(run, norms)
        self._residuals = residual_sums(run, norms)
        self._graph = graph_of(run, norms, self._weights, self._module)
        check_parameters(self, self._graph)

    @property
    def torch_module(self) -> nn.Module:
        """The model that was lifted, out of the wrappers that were looked through."""
        return self._module

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Return the model's output: the call of the torch module, or of the wrapper given."""
        return self._called(*args, **kwargs)

    def graph(self) -> Graph:
        """Return the graph of the recorded operations.

        Raises:
            ParameterError: the module has been edited since it was lifted: a parameter was added,
                removed, replaced by one of another shape, frozen or unfrozen.
        """
        if not torch.compiler.is_compiling():
            refuse_edits(self, self._graph, self._weights)
        return self._graph

    def weight_sensitivities(self) -> Mapping[str, float]:
        """Return S for each weight in units of the head's, or as it was given; not a bound.

        A head that makes V logits of d > V features passes on √(V/d) of a random change of them,
        and a measured S contains this factor. Updates are not random: all of what they change
        reaches the logits. In units of the head's S, a measured S does not depend on d, and that of
        the head is 1, as in the algebra. A network without a head, or with several, has no unit.
        """
        unit = self._unit() if self._is_measured else 1.0
        return {name: max(S / unit, SMALLEST) for name, S in self._found.weights.items()}

    def _unit(self) -> float:
        """The S of the head, or of its use as a head if it is also a table; 1 without a head."""
        heads = [name for name, mine in self._groups.items() if "head" in mine]
        if len(heads) != 1 or heads[0] in self._found.without_effect:
            return 1.0
        (name,) = heads
        geometry = self._norms[name].geometry
        if isinstance(geometry, Intersection):
            return min(1.0, geometry.spectral.radius(tuple(self._weights[name].tensor.shape)))
        return self._found.weights[name] if self._groups[name] == ("head",) else 1.0

    @property
    def sensitivity(self) -> float:
        """How much a random change of the input moves the output, in RMS: measured, not a bound.

        For integer inputs it is the effect of random changes of the tables that they look up. It is
        NaN if nothing was measured.
        """
        if self._found.inputs is not None:
            return self._found.inputs
        if not self._is_measured:
            return math.nan
        tables = [n for n, mine in self._groups.items() if "table" in mine]
        return math.sqrt(sum(self._found.weights[name] ** 2 for name in tables))

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
        inputs: Inputs | Sequence[Inputs] | None = None,
        probes: int = 4,
        generator: torch.Generator | None = None,
    ) -> None:
        """Find the sensitivities again, in place.

        Args:
            calibrate: as in `lift`.
            inputs: other example inputs, of one call or of several; None takes those of the lift.
            probes: the number of backward passes for each of them.
            generator: of the random numbers; None takes those of the lift.

        Raises:
            LiftError: as in `lift`.
        """
        if probes < 1:
            raise LiftError(f"lift takes at least one probe, got probes={probes}")
        if inputs is not None:
            self._examples = (inputs,) if isinstance(inputs, Inputs) else tuple(inputs)
        self._seed = seed_from(generator, self._seed)
        how = self._resolved(calibrate)
        if how in ("declared", "quadrature") and self._trace.unseen:
            raise LiftError(
                f"calibrate={how!r} goes through the recorded operations, and those that use "
                f"{listed(self._trace.unseen)} are not recorded: calibrate 'drawn' or at 'init', "
                "or give the sensitivities, calibrate={name: S}"
            )
        self._claim = _CLAIMS[how if isinstance(how, str) else "given"]
        found = self._sensitivities(how, probes)
        self._leave_out(found.without_effect)
        complete = {
            name: found.weights.get(name, 1.0) if name in self._norms else 0.0
            for name in self._weights
        }
        self._found = replace(found, weights=complete)

    def measurements(self) -> Mapping[str, object]:
        return {
            "weights": dict(self._found.weights),
            "inputs": self._found.inputs,
            "without effect": sorted(self._found.without_effect),
            "hidden": sorted(self._found.hidden),
            "unreached": dict(self._found.unreached),
            "claim": self._claim,
        }

    def restore_measurements(self, measurements: Mapping[str, object]) -> None:
        match measurements:
            case {
                "weights": dict(weights),
                "inputs": (None | float()) as inputs,
                "without effect": list(without_effect),
                "hidden": list(hidden),
                "unreached": dict(unreached),
                "claim": str(claim),
            } if set(weights) == set(self._weights) >= {*without_effect, *hidden, *unreached}:
                self._leave_out(frozenset(without_effect))
                self._claim = claim
                self._found = Sensitivities(
                    weights, inputs, frozenset(without_effect), frozenset(hidden), unreached
                )
            case _:
                raise ValueError(f"the measurements are of another network than {self!r}")

    def report(self) -> LiftReport:
        """Return how each weight is used, its norm, its mass, its S and its coefficient."""
        plan = self.plan()
        numbers = zip(plan.names, plan.mass_fractions, plan.coefficients, strict=True)
        rows = tuple([self._row(name, p, c) for name, p, c in numbers])
        return LiftReport(type(self._module).__name__, rows, self._residuals)

    def __str__(self) -> str:
        return str(self.report())

    def __repr__(self) -> str:
        return f"Lifted({type(self._module).__name__})"

    def _repr_html_(self) -> str:
        return self.report()._repr_html_()

    @property
    def _is_measured(self) -> bool:
        return self._claim in [_CLAIMS[how] for how in ("drawn", "init", "quadrature")]

    def _weight(self, name: str) -> LiftedWeight:
        path, _, attribute = name.rpartition(".")
        owner = self._module.get_submodule(path)
        measured = self._norms.get(name)
        if measured is None:
            tensor: Tensor = getattr(owner, attribute)
            axes = max(1, tensor.dim())
            geometry = BallVectors(Linf, axes) if tensor.numel() else Empty(axes)
            of_entries = stored(geometry, tensor.shape)
            measured = Measured(name, ("entries",), of_entries, (), proved=False)
        return LiftedWeight(owner, attribute, measured, self._masses.get(name, 0.0))

    def _sensitivities(self, how: str | Mapping[str, float], probes: int) -> Sensitivities:
        if not isinstance(how, str):
            return Sensitivities(dict(how))
        if how == "flat":
            return Sensitivities({})
        if how == "declared":
            return Sensitivities(self._graph.weight_sensitivities())
        model = unsharded(self._module)
        if how == "quadrature":
            return in_quadrature(model, self._examples, self._norms, probes, self._seed)
        at: Literal["drawn", "init"] = "init" if how == "init" else "drawn"
        return measured(model, self._examples, self._norms, at, probes, self._seed)

    def _resolved(self, calibrate: Calibration) -> Mapping[str, float] | str:
        if isinstance(calibrate, Mapping):
            return self._checked(calibrate)
        if calibrate == "auto":
            if any(w.tensor.is_meta for w in self._weights.values()):
                return "flat"
            return "drawn"
        if calibrate not in get_args(Method):
            raise LiftError(
                "calibrate is 'auto', 'drawn', 'init', 'quadrature', 'declared', 'flat' or the "
                f"sensitivities by weight; got {calibrate!r}"
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

    def _leave_out(self, names: frozenset[str]) -> None:
        """Give mass 0 to these weights, and their masses to those that had been left out."""
        for name in self._found.without_effect - names:
            self._weights[name].mass = self._masses[name]
        for name in names:
            self._weights[name].mass = 0.0

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
            self._found.weights[name],
            self._claim,
            self._graph.weight_sensitivities()[name],
            coefficient,
            self._warning(name),
        )

    def _warning(self, name: str) -> str:
        if not self._weights[name].tensor.numel():
            return "it has no entries"
        if name not in self._norms:
            return "the recorded run did not use it: it has no norm, and mass 0"
        if name in self._found.without_effect:
            return (
                "its effect on the output is rounding, as that of a bias before a normalisation: "
                "it has mass 0"
            )
        if name in self._found.hidden:
            return (
                "S is below a hundredth of that at drawn weights: small initial weights hide its "
                "effect, and its steps may be too long; calibrate='drawn' avoids that"
            )
        if name in self._found.unreached:
            count = len(self._weights[name].tensor)
            return (
                f"the runs reached {count - self._found.unreached[name]} of its {count} experts: "
                "give examples that reach the others, which would follow noise where few tokens "
                "reach them in training"
            )
        if name in self._rare:
            return self._rare[name]
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
    are constants. Where torch.distributed runs, all processes must lift the model together, and get
    the same numbers: the mean square of what they measure.

    Args:
        model: any torch module.
        args, kwargs: of its call. Real examples: the graph is that of this run, and a branch or an
            expert that it does not take is not seen. Pass several `Inputs` of `modula.lift` for a
            model that needs several calls to use all weights, and one for a model that has a
            keyword argument with the name of an option of `lift`.
        masses: {group, path, pattern, name or class: mass}, see `modula.lift.masses`; None for the
            defaults, also of weights that no key names.
        calibrate: "drawn" measures S with all weights drawn at norm 1, which does not depend on how
            they are initialised; "init" at the weights as they are; "quadrature" adds the squares
            of gains that are measured operation by operation; "declared" multiplies the bounds that
            operations declare, as a network of modula's own modules does; "flat" sets S = 1; a
            mapping gives S for each weight; "auto" takes "drawn", and "flat" on the meta device.
        roles: {name: geometry} for parameters whose norm no rule knows, or whose use the recorder
            does not see.
        probes: the number of backward passes for each example, by which S is measured.
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
    examples = examples_of(args, kwargs)
    seed = seed_from(generator, 0)
    _refuse_kinds(module)
    whole = unsharded(module)
    run = traced(whole, examples, seed, known=roles or ())
    norms = with_neighbours(run, norms_from_use(run, whole, roles or {}))
    check_agreement({name: repr(one.geometry) for name, one in norms.items()})
    network = Lifted(model, examples, run, norms, masses, seed)
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


def _refuse_kinds(module: nn.Module) -> None:
    for name, p in module.named_parameters():
        if is_lazy(p):
            raise ParameterError(
                f"{name!r} of {type(module).__name__} has no shape before the first call: call the "
                "model once, and then lift it"
            )
        if p.requires_grad and not is_trainable(p):
            raise ParameterError(
                f"{name!r} of {type(module).__name__} is {kind_of(p)[0]}; lift takes trained "
                f"parameters that are dense, of dtype {', '.join(map(str, TRAINABLE))}: freeze it "
                "with requires_grad_(False), as a quantised weight beside LoRA factors is, or "
                "convert it"
            )
