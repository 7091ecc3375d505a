"""`well_normed`: the inequalities that the theory rests on, measured in every module."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from modula.checks import Claim
from modula.graph import Graph, Radius, total_radius
from modula.instruments.derivative import (
    differentiable,
    draw,
    in_weights,
    largest,
    on_real_vectors,
    own_generator,
    worst_in_update,
)
from modula.instruments.nodes import Radii, locate, weakest_claim
from modula.instruments.observing import (
    is_known,
    measured_norm,
    measured_radius,
    observations,
    unknown_space,
)
from modula.instruments.report import (
    Report,
    canvas,
    caption,
    name_rows,
    not_measured,
    number,
    prominent,
    scatter_rows,
    short,
    table,
    where,
)
from modula.instruments.sensitivity import stretch
from modula.network import Network, Observation
from modula.progress import progress
from modula.values import Value, leaves
from modula.vector import Gradient

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUNDING = 1e-4
"""By how much a ratio measured in float32 or finer may exceed 1."""

STEPS_OF_ROUNDING = 8
"""The same for coarser dtypes, in units of their precision."""

TINY = 1e-300

VERDICTS = ("holds", "exceeded", "VIOLATED", "not measured")


@dataclass(frozen=True)
class Bounds:
    """The inequalities in one module, each as the largest ratio that was found."""

    path: str
    module: str

    claim: Claim
    """How sure the module says they are; for a compound, the least sure of the claims inside."""

    weights: float | None
    """The largest ‖∂f·Δw‖ / ‖Δw‖, at most `bound`; None without mass."""

    bound: float
    """Σ p·R over the weights inside: the mass fraction p of each in the module, and the radius R of
    its input in the network. The module is well-normed if this is at most 1."""

    input: float | None
    """The largest ‖∂f·Δx‖ / (s·‖Δx‖), at most 1; None if the input has no direction."""

    output: float | None
    """‖f(x)‖ / R, at most 1, with the radius R that the module's operations derive from ‖x‖."""

    outside: str
    """Why no proof covers these weights and inputs; empty if one does."""

    rounding: float
    """By how much arithmetic in the dtype of the weights and inputs may exceed a bound."""

    skipped: str = ""
    """Why something was not measured."""

    @property
    def tightness(self) -> float | None:
        """Weights / bound: 1 where the bound is attained, above 1 where it fails."""
        return None if self.weights is None else self.weights / max(self.bound, TINY)

    @property
    def worst(self) -> float:
        """The largest of the three ratios, each over its bound; 0 if nothing was measured."""
        return largest([0.0, *self.ratios().values()])

    @property
    def verdict(self) -> str:
        """One of holds, exceeded where nothing is proved, VIOLATED where something is."""
        if not self.ratios():
            return f"not measured: {self.skipped}"
        if self.worst <= 1 + self.rounding:
            return "holds"
        return f"exceeded: {self.outside}" if self.outside else "VIOLATED"

    def ratios(self) -> dict[str, float]:
        """Return the ratios that were measured, each over its bound: of weights, input, output."""
        ratios = {"weights": self.tightness, "input": self.input, "output": self.output}
        return {kind: ratio for kind, ratio in ratios.items() if ratio is not None}


@dataclass(frozen=True)
class WellNormedReport(Report[Bounds]):
    """Bounds of a network and all modules inside, one row a module."""

    @property
    def violated(self) -> tuple[Bounds, ...]:
        """The modules in which a bound fails although it is proved.

        Their geometry, sensitivity or radius is wrong.
        """
        return tuple([row for row in self.rows if row.verdict == "VIOLATED"])

    @property
    def exceeded(self) -> tuple[Bounds, ...]:
        """The modules in which a bound fails where none is proved, the worst first."""
        rows = [row for row in self.rows if row.verdict.startswith("exceeded")]
        return tuple(sorted(rows, key=lambda row: -row.worst))

    @property
    def holds(self) -> bool:
        """Whether no proved bound fails."""
        return not self.violated

    def __str__(self) -> str:
        shown, left_out = self._prominent()
        header = [
            "path",
            "module",
            "claim",
            "‖∂f·Δw‖/‖Δw‖",
            "Σ p·R",
            "‖∂f·Δx‖/s‖Δx‖",
            "‖f(x)‖/R",
            "verdict",
        ]
        cells = [
            [
                name,
                short(row.module, 30),
                row.claim,
                number(row.weights),
                number(row.bound if row.weights is not None else None),
                number(row.input),
                number(row.output),
                short(row.verdict, 40),
            ]
            for name, row in shown
        ]
        text = table(
            header, cells, left=(0, 1, 2, 7), left_out=left_out, reason="none nearer to its bound"
        )
        return "\n".join([text, *not_measured(shown), self._summary()])

    def _summary(self) -> str:
        counts = Counter(row.verdict.partition(":")[0] for row in self.rows)
        found = [f"{kind} in {counts[kind]}" for kind in VERDICTS if counts[kind]]
        return f"of {len(self)} modules: {', '.join(found)}"

    def scalars(self) -> dict[str, float]:
        return {
            f"well_normed/{kind}/{name}": ratio
            for name, row in self.named()
            for kind, ratio in row.ratios().items()
        }

    def plot(self, axes: Axes | None = None) -> Axes:
        shown, _ = self._prominent()
        axes = canvas(axes, height=1.2 + 0.22 * len(shown))
        for label, color, ratios in (
            ("‖∂f·Δw‖ / (Σp·R)‖Δw‖", "tab:blue", [row.tightness for _, row in shown]),
            ("‖∂f·Δx‖ / s‖Δx‖", "tab:orange", [row.input for _, row in shown]),
            ("‖f(x)‖ / R", "tab:green", [row.output for _, row in shown]),
        ):
            # a ratio of 0 cannot be drawn on a logarithmic axis
            scatter_rows(axes, [ratio or None for ratio in ratios], label, color)
        axes.axvline(1.0, color="black", linewidth=1, label="the bound")
        name_rows(axes, [f"{name}  {row.module}" for name, row in shown])
        axes.set(xscale="log", xlabel="largest ratio found")
        caption(axes, "How tight the bounds are")
        return axes

    def _prominent(self) -> tuple[list[tuple[str, Bounds]], int]:
        return prominent(self.named(), [row.worst for row in self.rows])


def well_normed(
    model: Network, x: Value, *, steps: int = 20, generator: torch.Generator | None = None
) -> WellNormedReport:
    """Search every atom, bond and compound for a change that breaks one of its bounds.

    The bounds are ‖∂f·Δw‖ ≤ (Σ p·R)·‖Δw‖, ‖∂f·Δx‖ ≤ s·‖Δx‖ and ‖f(x)‖ ≤ R. A module claims them as
    proved, conditional on its inputs, or an estimate, in its attribute `claim`. Even a proof speaks
    of weights of norm at most 1 only, and the first bound of inputs within their radius R
    (`modula.instruments.radii`). If a bound is exceeded, the report says why no proof covers it; if
    one does, the module is wrong, and the verdict is VIOLATED.

    Args:
        model: the network to measure, at its present weights.
        x: its input. Every row of a batch is searched; a few are enough.
        steps: rounds of each search.
        generator: of the random numbers; None starts one of its own.

    Returns:
        One row a module, with the largest ratios found and a verdict; `.holds` is False if a proved
        bound fails anywhere.

    Raises:
        TypeError: `model` is not a network of modula's.
        ValueError: fewer than one step.

    Example:
        >>> import torch
        >>> from modula import Linear, ReLU
        >>> from modula.instruments import well_normed
        >>> model = Linear(2, 8) @ ReLU() @ Linear(8, 4)
        >>> x = torch.nn.functional.normalize(torch.randn(16, 4)) * 2  # of RMS 1
        >>> well_normed(model, x).holds
        True

    Source: Large et al. 2024 (arXiv:2405.14813), definition 2.
    """
    if steps < 1:
        raise ValueError(f"well_normed takes at least 1 step, got steps={steps}")
    generator = own_generator() if generator is None else generator
    with differentiable():
        parts = observations(model, x)
        radii = Radii.of(model)
        weight_norms = _weight_norms(radii.graph)
        located = list(zip(parts, locate(radii.graph, parts), strict=True))
        rows = [
            _bounds(part, _Context(radii, nodes, weight_norms), steps, generator)
            for part, nodes in progress(located, "well_normed", "module")
        ]
        return WellNormedReport(tuple(rows))


@dataclass(frozen=True)
class _Context:
    """The network around a part: all radii, the part's nodes, and the norms of all weights."""

    radii: Radii
    nodes: tuple[int, ...]
    weight_norms: dict[str, float]

    def entering(self) -> Radius:
        """R of the part's input."""
        return self.radii.entering_nodes(self.nodes)

    def claim(self) -> Claim:
        """The least sure of the claims inside the part."""
        return weakest_claim(self.radii.graph, self.nodes)


def _weight_norms(graph: Graph) -> dict[str, float]:
    return {
        name: float(weight.geometry.norm(weight.tensor.detach()[None]))
        for name, weight in graph.weights.items()
    }


def _bounds(part: Observation, context: _Context, steps: int, generator: torch.Generator) -> Bounds:
    rounding = _rounding(part)
    stretched = stretch(part, steps, 1, generator)
    gain = _weight_gain(part, steps, generator)
    output = _output_ratio(part)
    bound = part.part.first_order_bound(context.entering())
    for_all_inputs = _exceeds(stretched.tightness, rounding) or _exceeds(output, rounding)
    return Bounds(
        part.path,
        part.label,
        context.claim(),
        gain,
        bound,
        stretched.tightness,
        output,
        _uncovered(context, rounding)
        or ("" if for_all_inputs else _beyond_radius(part, context, rounding)),
        rounding,
        unknown_space(*part.signature),
    )


def _exceeds(ratio: float | None, rounding: float) -> bool:
    return ratio is not None and not ratio <= 1 + rounding


def _weight_gain(part: Observation, steps: int, generator: torch.Generator) -> float | None:
    """The largest ‖∂f·Δw‖ / ‖Δw‖ found; None without mass, or if the output has no norm."""
    network = part.part
    if not network.mass or not is_known(part.codomain):
        return None
    part = on_real_vectors(part)
    start = Gradient({name: draw(weight, generator) for name, weight in network.weights.items()})
    first = network.dualize(start, method="svd")
    return worst_in_update(in_weights(part), first, part.y, steps, generator)


def _output_ratio(part: Observation) -> float | None:
    """‖f(x)‖ over the radius that follows from ‖x‖; None if one of the norms is not known."""
    size = measured_norm(part.codomain, part.y)
    if size is None or not is_known(part.domain):
        return None
    radii = part.part.graph().radii(measured_radius(part.domain, part.x))
    return size / max(total_radius(radii[-1]), TINY)


def _rounding(part: Observation) -> float:
    tensors = [*part.part.weights.tensors, *leaves(part.x), *leaves(part.y)]
    eps = max([torch.finfo(t.dtype).eps for t in tensors if t.is_floating_point()], default=0.0)
    return ROUNDING if eps <= torch.finfo(torch.float32).eps else STEPS_OF_ROUNDING * eps


def _uncovered(context: _Context, rounding: float) -> str:
    """Why the proofs of a part's operations do not cover its weights; empty if they do."""
    for node in [context.radii.graph.nodes[i] for i in context.nodes]:
        claim = node.operation.claim
        if claim != "proved":
            kind = "an estimate" if claim == "estimate" else claim
            return f"{node.operation!r} at {where(node.path)} is {kind}"
        size = 0.0 if node.weight is None else context.weight_norms[node.weight]
        if not size <= 1 + rounding:
            return f"‖w‖ = {size:.3g} at {where(node.path)}"
    return ""


def _beyond_radius(part: Observation, context: _Context, rounding: float) -> str:
    """Why the bound on the weights does not cover this input; empty if it does."""
    size = measured_norm(part.domain, part.x)
    if size is None:
        return unknown_space(part.domain)
    if not size <= total_radius(context.entering()) * (1 + rounding):
        return f"‖x‖ = {size:.3g} at {where(part.path)}"
    return ""
