"""The laws of networks."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from modula.graph import Graph
from modula.instruments.derivative import (
    differentiable,
    draw,
    holds_ids,
    in_input,
    in_weights,
    on_real_vectors,
    worst_in_update,
    worst_in_value,
)
from modula.instruments.observing import is_known, measured_radius
from modula.network import Network
from modula.testing.bounds import over
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
from modula.values import Value, leaves
from modula.vector import Gradient


@on_cpu
def check_network(
    network: Network,
    *inputs: Value,
    steps: int = STEPS,
    generator: torch.Generator | None = None,
) -> float | None:
    """Check that a network's weights, coefficients and norms agree with one another.

    Where all operations claim that their bounds are proved, the sensitivity of the network and its
    first-order bound are attacked as well. The check works on a copy with weights drawn anew.

    Args:
        network: the network.
        inputs: of one run.
        steps: rounds of each ascent.
        generator: where random numbers come from; None starts one of its own.

    Returns:
        The largest ‖∂f·Δw‖ over first_order_bound·‖Δw‖ that was found, above 1 only where an
        operation does not claim that its bounds are proved; None where nothing has mass, or the
        space of the output is unknown.

    Raises:
        AssertionError: names the law that fails, with the numbers and the tolerance.

    Example:
        >>> import torch
        >>> from modula import Linear, ReLU
        >>> from modula.testing import check_network
        >>> check_network(Linear(2, 8) @ ReLU() @ Linear(8, 4), torch.randn(3, 4)) <= 1.001
        True
    """
    rng = seeded(generator)
    _weights_are_what_is_trained(network)
    _coefficients_follow_masses(network)
    _copies_have_equal_coefficients(network)
    network = copy.deepcopy(network)
    network.initialize(rng)
    _sums_over_all_paths(network)
    _observing_leaves_no_trace(network, inputs)
    with differentiable():
        _keeps_its_sensitivity(network, inputs, steps, rng)
        ratio = _keeps_its_first_order_bound(network, inputs, steps, rng)
    for gradient in _gradients(network, inputs, rng):
        _is_dualized(network, gradient)
        _is_homogeneous_as_a_whole(network, gradient)
        zero_gradient_gives_no_update(network)
        _gradients_agree_with_backward(network, inputs, rng)
        _weights_are_live(network, gradient)
    return ratio


def _rounding_of(network: Network) -> float:
    """The tolerance of its dtypes, float32's at least, since weights are drawn in float32."""
    dtypes = [torch.float32, *[w.dtype for w in network.weights.tensors]]
    return max([ROUNDING[dtype] for dtype in dtypes])


def _weights_are_what_is_trained(network: Network) -> None:
    parameters = dict(network.torch_module.named_parameters(remove_duplicate=False))
    ids = [id(w) for w in network.weights.tensors]
    law = "each weight is one tensor"
    require(len(ids) == len(set(ids)), network, law, f"got {network.weights.names}")
    missing = [n for n, p in parameters.items() if p.requires_grad and id(p) not in ids]
    law = "every parameter that requires a gradient is a weight"
    require(not missing, network, law, f"{missing} are not")
    known = {id(p) for p in parameters.values()}
    strange = [name for name, w in network.weights.items() if id(w) not in known]
    law = "every weight is a parameter of the module"
    require(not strange, network, law, f"{strange} are not")


def _coefficients_follow_masses(network: Network) -> None:
    plan = network.plan()
    for name, p, c in zip(plan.names, plan.mass_fractions, plan.coefficients, strict=True):
        holds = math.isfinite(c) and c > 0 if p else c == 0
        law = f"the coefficient of {name!r} is positive if its mass is, and else 0"
        require(holds, network, law, f"got {c} for the mass fraction {p}")
    total = math.fsum(plan.mass_fractions)
    law = "mass fractions sum to 1, or to 0 where nothing is trained"
    require(total == 0 or abs(total - 1) <= EXACT, network, law, f"got {total}")


def _copies_have_equal_coefficients(network: Network) -> None:
    twin = copy.deepcopy(network)
    mine, theirs = network.plan(), twin.plan()
    law = "deepcopy keeps names and coefficients"
    equal = mine.names == theirs.names and list(mine.coefficients) == list(theirs.coefficients)
    require(equal, network, law, f"got {theirs.coefficients} for {mine.coefficients}")
    pairs = zip(network.weights.tensors, twin.weights.tensors, strict=True)
    own = all(a is not b for a, b in pairs)
    require(own, network, "deepcopy makes weights of its own", "the copy shares some")


def _random_gradient(network: Network, rng: torch.Generator) -> Gradient:
    return Gradient({name: draw(w, rng) for name, w in network.weights.items()})


def _loss(network: Network, inputs: Sequence[Value], seed: int) -> Tensor:
    """A random functional of the output; the same at each call, even where the module is random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        y = cast("Value", network.torch_module(*inputs))
    rng = torch.Generator().manual_seed(seed)
    return torch.stack([(leaf * draw(leaf, rng)).sum() for leaf in leaves(y)]).sum()


def _gradients(
    network: Network, inputs: Sequence[Value], rng: torch.Generator
) -> Iterator[Gradient]:
    """A random gradient and one of a loss; none where there are no weights."""
    if len(network.weights):
        yield _random_gradient(network, rng)
        yield network.gradient(_loss(network, inputs, seed=0))


def _is_dualized(network: Network, gradient: Gradient) -> None:
    update, rounding = network.dualize(gradient, method="svd"), _rounding_of(network)
    dual_norm = network.dual_norm(gradient)
    expected = torch.ones(1) if float(dual_norm) else torch.zeros(1)
    law = "norm(dualize(g)) = 1"
    require_equal(network, law, network.norm(update)[None], expected, rounding)
    law = "<g, dualize(g)> = dual_norm(g)"
    require_equal(network, law, (gradient @ update)[None], dual_norm[None], rounding)
    law = "norm(dualize(g, target_norm)) = target_norm"
    shorter = network.norm(network.dualize(gradient, 0.25, method="svd"))
    require_equal(network, law, shorter[None], 0.25 * expected, rounding)


def _is_homogeneous_as_a_whole(network: Network, gradient: Gradient) -> None:
    update, rounding = network.dualize(gradient, method="svd"), _rounding_of(network)
    for c in (1e-6, 1e6):
        law = f"dualize(c·g) = dualize(g) at c = {c:g}"
        scaled = network.dualize(c * gradient, method="svd")
        for a, b in zip(scaled.tensors, update.tensors, strict=True):
            require_equal(network, law, a[None], b[None], 10 * rounding)
        law = f"dual_norm(c·g) = c·dual_norm(g) at c = {c:g}"
        measured = network.dual_norm(c * gradient) / c
        require_equal(network, law, measured[None], network.dual_norm(gradient)[None], rounding)
        law = f"norm(−c·u) = c·norm(u) at c = {c:g}"
        measured = network.norm(-c * update) / c
        require_equal(network, law, measured[None], network.norm(update)[None], rounding)


def zero_gradient_gives_no_update(network: Network) -> None:
    """Require a zero update for a zero gradient."""
    weights = network.weights
    zero = Gradient({name: torch.zeros_like(w) for name, w in weights.items()})
    moved = [name for name, part in network.dualize(zero).items() if part.any()]
    require(not moved, network, "a zero gradient gives a zero update", f"{moved} would move")


def _gradients_agree_with_backward(
    network: Network, inputs: Sequence[Value], rng: torch.Generator
) -> None:
    seed = int(torch.randint(2**31, (), generator=rng))
    given = network.gradient(_loss(network, inputs, seed))
    for w in network.weights.tensors:
        w.grad = torch.zeros_like(w)
    torch.autograd.backward(_loss(network, inputs, seed))
    for name, grad in network.gradient().items():
        law = f"gradient(loss) is what loss.backward() leaves in .grad of {name!r}"
        require_equal(network, law, given[name][None], grad[None], _rounding_of(network))


def _sums_over_all_paths(network: Network) -> None:
    """Check the sensitivity against the same sum over paths, taken forwards.

    Where nodes depend on single entries of a tuple, of which the largest counts, the sum over all
    paths is a bound.
    """
    graph = network.graph()
    total = torch.tensor([_forward_sensitivity(graph)], dtype=torch.float64)
    found = torch.tensor([network.sensitivity], dtype=torch.float64)
    if any(node.part is not None for node in graph.nodes):
        law = "the sensitivity is at most the sum over all paths of the products of sensitivities"
        require_at_most(network, law, found, total, EXACT)
    else:
        law = "the sensitivity is the sum over all paths of the products of sensitivities"
        require_equal(network, law, found, total, EXACT)


def _forward_sensitivity(graph: Graph) -> float:
    reached = [1.0]
    for node in graph.nodes[1:]:
        declared = node.operation.sensitivities()
        reached.append(
            math.fsum([s * reached[j] for s, j in zip(declared, node.inputs, strict=True)])
        )
    return reached[-1]


def _observing_leaves_no_trace(network: Network, inputs: Sequence[Value]) -> None:
    module = network.torch_module
    before, weights = _hooks(module), network.weights.clone()
    network.observe(*inputs)
    law = "observe leaves no hooks"
    require(_hooks(module) == before, network, law, f"{before} before, {_hooks(module)} after")
    kept = all(map(torch.equal, network.weights.tensors, weights.tensors))
    require(kept, network, "observe changes no weight", "some have changed")


def _hooks(module: nn.Module) -> int:
    """How many hooks of any kind the module and those inside have."""
    return sum(
        len(value)
        for one in module.modules()
        for name, value in vars(one).items()
        if name.endswith("hooks")
    )


def _is_proved(network: Network) -> bool:
    return all(node.operation.claim == "proved" for node in network.graph().nodes)


def _keeps_its_sensitivity(
    network: Network, inputs: Sequence[Value], steps: int, rng: torch.Generator
) -> None:
    whole = on_real_vectors(network.observe(*inputs)[0])
    if not _is_proved(network) or holds_ids(whole.x) or not all(map(is_known, whole.signature)):
        return
    found = worst_in_value(in_input(whole), whole.domain, whole.x, whole.y, steps, rng)
    law = "‖∂f·Δx‖ ≤ sensitivity·‖Δx‖ at weights of norm 1, as all claims are proved"
    bound = torch.tensor([network.sensitivity])
    require_at_most(network, law, torch.tensor([found]), bound, _rounding_of(network))


def _keeps_its_first_order_bound(
    network: Network, inputs: Sequence[Value], steps: int, rng: torch.Generator
) -> float | None:
    whole = network.observe(*inputs)[0]
    if not network.mass or not all(map(is_known, whole.signature)):
        return None
    start = network.dualize(_random_gradient(network, rng), method="svd")
    real = on_real_vectors(whole)
    found = worst_in_update(in_weights(real), start, real.y, steps, rng)
    bound = network.first_order_bound(measured_radius(whole.domain, whole.x))
    if _is_proved(network):
        law = "‖∂f·Δw‖ ≤ first_order_bound(‖x‖)·‖Δw‖ at weights of norm 1, as all claims are proved"
        pair = torch.tensor([found]), torch.tensor([bound])
        require_at_most(network, law, *pair, _rounding_of(network))
    return over(found, bound)


def _weights_are_live(network: Network, gradient: Gradient) -> None:
    update = network.dualize(gradient)
    before = network.weights.clone()
    network.weights -= update
    named = dict(network.torch_module.named_parameters())
    for name, w in network.weights.items():
        law = f"model.weights -= update moves the parameter {name!r} in place"
        require(named[name] is w, network, law, "it is another tensor now")
        expected = before[name] - update[name]
        require_equal(network, law, w[None], expected[None], _rounding_of(network))
