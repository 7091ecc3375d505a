"""The laws of atoms."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from modula.algebra.core import Atom, S, T
from modula.graph import Radius
from modula.instruments.derivative import (
    differentiable,
    draw,
    holds_ids,
    in_weights,
    random_direction,
    worst_in_update,
)
from modula.instruments.observing import measured_radius
from modula.network import Observation
from modula.norms import Dense
from modula.spaces import AnySpace, Space, measure
from modula.testing.bounds import Ratios, attack, over, require_ratio, resized, slope, worst
from modula.testing.laws import (
    EXACT,
    ROUNDING,
    STEPS,
    on_cpu,
    require,
    require_at_most,
    require_equal,
    seeded,
)
from modula.testing.networks import zero_gradient_gives_no_update
from modula.testing.spaces import agrees_with_its_own_spaces, as_float64, in_float64, signatures
from modula.testing.unit_ball import column, hard_values
from modula.values import Value, leaves, map_leaves
from modula.vector import Gradient


@on_cpu
def check_atom(
    atom: Atom[S, T],
    x: Value,
    *,
    steps: int = STEPS,
    generator: torch.Generator | None = None,
) -> Ratios:
    """Check that an atom is well-normed at an input, that it can be trained, copied and saved.

    All bounds must hold, whatever the atom claims. They are attacked at `x` and, if the atom claims
    that they are proved, at inputs that ascent finds. The check works on a copy in float64.

    Args:
        atom: the atom.
        x: an input; a few vectors are enough. For an atom that does not claim "proved" it must
            meet the condition of the bounds.
        steps: rounds of each ascent.
        generator: where random numbers come from; None starts one of its own.

    Returns:
        The largest ratios to the bounds that were found.

    Raises:
        AssertionError: names the law that fails, with the numbers and the tolerance.

    Example:
        >>> import torch
        >>> from modula import Linear
        >>> from modula.testing import check_atom
        >>> ratios = check_atom(Linear(4, 6), torch.randn(3, 6))
        >>> round(ratios.input, 3), round(ratios.weights, 3)
        (1.0, 1.0)
    """
    rng = seeded(generator)
    atom, x = in_float64(atom), map_leaves(as_float64, x)
    _declares_what_an_atom_has(atom)
    agrees_with_its_own_spaces(atom, x)
    _starts_in_the_unit_ball(atom, rng)
    with differentiable():
        ratios = _attack_atom(atom, x, steps, rng)
    _trains(atom, x, rng)
    zero_gradient_gives_no_update(atom)
    _starts_on_the_meta_device(atom, rng)
    _survives_copies(atom, x)
    _refuses_other_widths(atom, x)
    return ratios


def _declares_what_an_atom_has(atom: Atom[S, T]) -> None:
    law = "the weight has as many axes as the geometry measures"
    got = f"got a weight of shape {list(atom.weight.shape)} for {atom.geometry!r}"
    require(atom.weight.dim() == atom.geometry.axes, atom, law, got)
    trained = [name for name, p in atom.named_parameters() if p.requires_grad]
    law = "an atom has one parameter to train, `weight`"
    require(trained == ["weight"], atom, law, f"got {trained}")
    declared = atom.sensitivities()
    law = "an atom declares one sensitivity, finite and positive"
    require(len(declared) == 1 and 0 < declared[0] < math.inf, atom, law, f"got {declared}")


def _norm_of(atom: Atom[S, T]) -> Tensor:
    return atom.geometry.norm(atom.weight.detach()[None])


def _starts_in_the_unit_ball(atom: Atom[S, T], rng: torch.Generator) -> None:
    atom.initialize(rng)
    law = "a fresh weight has norm at most 1"
    require_at_most(atom, law, _norm_of(atom), torch.ones(1), ROUNDING[torch.float32])


def _attack_atom(atom: Atom[S, T], x: Value, steps: int, rng: torch.Generator) -> Ratios:
    """Attack the three bounds of an atom at several weights of norm 1 and several inputs."""
    atom.mass = 1.0  # so that the norm of an update is that of the weight
    domain = atom.domain
    found = []
    for weight in _weights_of_norm_one(atom, rng):
        atom.weight.copy_(weight)
        for point in _entering(domain, x, rng):
            (part,) = atom.observe(point)
            part = replace(part, codomain=signatures(atom, x)[0][1])
            entering = measured_radius(domain, point)
            gain, radius = attack(part, entering, steps, rng)
            pushed = max(radius, _pushed_by_the_weight(part, entering, steps))
            found.append(Ratios(gain, _weight_ratio(part, entering, steps, rng), pushed))
    ratios = worst(found)
    require_ratio(atom, f"‖∂f·Δx‖ ≤ s·‖Δx‖ at ‖w‖ = 1, s = {atom.sensitivity:.6g}", ratios.input)
    require_ratio(atom, "‖∂f·Δw‖ ≤ weight_sensitivity(‖x‖)·‖Δw‖", ratios.weights)
    require_ratio(atom, "‖f(x)‖ ≤ radius(‖x‖) at ‖w‖ = 1", ratios.radius)
    return ratios


def _weights_of_norm_one(atom: Atom[S, T], rng: torch.Generator) -> Iterator[Tensor]:
    """A random weight, one of a single entry, and one on the natural constraint set."""
    geometry, shape = atom.geometry, tuple(atom.weight.shape)
    w = hard_values(shape, rng)[:3]
    w[1] = geometry.sample(shape, rng, torch.device("cpu"))
    yield from w / column(geometry.norm(w), w)


def _entering(domain: AnySpace, x: Value, rng: torch.Generator) -> Iterator[Value]:
    """The input, and one of the same size all of whose vectors have that norm."""
    yield x
    if not holds_ids(x):
        yield resized(domain, random_direction(domain, x, rng), float(measure(domain, x)) or 1.0)


def _weight_ratio(part: Observation, entering: Radius, steps: int, rng: torch.Generator) -> float:
    assert part.operation is not None
    gradient = Gradient({name: draw(w, rng) for name, w in part.part.weights.items()})
    start = part.part.dualize(gradient, method="svd")
    gain = worst_in_update(in_weights(part), start, part.y, steps, rng)
    return over(gain, part.operation.weight_sensitivity(entering))


def _pushed_by_the_weight(part: Observation, entering: Radius, steps: int) -> float:
    """The largest ‖f(x; w)‖ over the radius, by ascent over weights of norm at most 1."""
    assert part.operation is not None
    bound = part.operation.radius(entering)
    weights = {name: w.detach() for name, w in part.part.weights.items()}
    worst = 0.0
    for _ in range(min(steps, 5)):
        worst = max(worst, over(measured_radius(part.codomain, part.apply(weights, part.x)), bound))
        weights = _pushing_weights(part, weights)
    return worst


def _pushing_weights(part: Observation, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of norm 1 along which the norm of the output rises fastest."""

    def size(moved: Value) -> Tensor:
        named = dict(zip(weights, leaves(moved), strict=True))
        return measure(part.codomain, part.apply(named, part.x))

    slopes = slope(size, tuple(weights.values()))
    gradient = Gradient(dict(zip(weights, leaves(slopes), strict=True)))
    return dict(part.part.dualize(gradient, method="svd").items())


def _trains(atom: Atom[S, T], x: Value, rng: torch.Generator) -> None:
    y = atom(x)
    loss = torch.stack([(leaf * draw(leaf, rng)).sum() for leaf in leaves(y)]).sum()
    gradient = atom.gradient(loss)
    law = "a gradient reaches the weight"
    require(bool(gradient["weight"].any()), atom, law, "the gradient is zero")
    update = atom.dualize(gradient, method="svd")
    law = "the dual of a gradient has norm 1"
    require_equal(atom, law, atom.norm(update)[None], torch.ones(1), EXACT)


def _starts_on_the_meta_device(atom: Atom[S, T], rng: torch.Generator) -> None:
    seed = int(torch.randint(2**31, (), generator=rng))
    meta = copy.deepcopy(atom).to("meta")
    meta.initialize()
    drawn = []
    for _ in range(2):
        real = copy.deepcopy(meta).to_empty(device="cpu")
        real.initialize(torch.Generator().manual_seed(seed))
        drawn.append(real.weight.detach()[None])
    law = "initialize after to_empty draws a weight of norm at most 1"
    rounding = ROUNDING[torch.float32]
    require_at_most(atom, law, atom.geometry.norm(drawn[0]), torch.ones(1), rounding)
    law = "initialize draws the same weight from the same random numbers"
    require_equal(atom, law, drawn[0], drawn[1], 0.0)


def _survives_copies(atom: Atom[S, T], x: Value) -> None:
    loaded = copy.deepcopy(atom)
    loaded.initialize(torch.Generator().manual_seed(1))
    loaded.load_state_dict(atom.state_dict())
    twins = {"deepcopy": copy.deepcopy(atom), "load_state_dict": loaded}
    if _can_be_named(type(atom)):
        twins["pickle"] = pickle.loads(pickle.dumps(atom))
    y = torch.cat([leaf.flatten() for leaf in leaves(atom(x))])
    for how, twin in twins.items():
        own = twin.weight is not atom.weight
        require(own, atom, f"{how} makes a weight of its own", "the copy shares the weight")
        law = f"{how} keeps the map"
        again = torch.cat([leaf.flatten() for leaf in leaves(twin(x))])
        require_equal(atom, law, again[None], y[None], EXACT)


def _can_be_named(cls: type) -> bool:
    """Whether pickle finds the class by its name; it does not find one from inside a function."""
    return getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is cls


def _refuses_other_widths(atom: Atom[S, T], x: Value) -> None:
    space = atom.domain
    if not isinstance(space, Space) or space.width is None or not isinstance(x, Tensor):
        return
    for wrong in _of_other_widths(space, space.width, x):
        try:
            atom(wrong)
        except Exception:
            continue
        raise AssertionError(
            f"{atom!r}: an input of another width is refused: {space} was given a tensor of shape "
            f"{list(wrong.shape)} and raised nothing; call self.check_width(x) in forward"
        )


def _of_other_widths(space: Space, width: int, x: Tensor) -> Iterator[Tensor]:
    if not issubclass(space.norm, Dense):
        yield torch.full_like(x, width)
        return
    vectors = x.movedim(space.norm.axis, -1)
    for other in {1, width + 1} - {width}:
        yield vectors[..., :1].expand(*vectors.shape[:-1], other).movedim(-1, space.norm.axis)
