"""Search over the vertices of a unit ball.

A gain ‖Jv‖ is convex in v, and so it is largest at an extreme point of the unit ball. The balls of
L1 and Linf have finitely many, their vertices: ±eⱼ, and the vectors of signs. There the power
method often stops at a vertex short of the largest gain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor

from modula.norms import L1, Linf, Norm, VectorNorm
from modula.spaces import AnySpace, Product, Space
from modula.values import Value, leaves, rebuild

MOST = 256
"""How many vertices are tried: all of them if there are no more."""


def largest_at_vertices(
    space: AnySpace, like: Value, value: Callable[[Value], float], generator: torch.Generator
) -> float:
    """Return the largest of a function's values at vertices of the unit ball; 0 if it has none.

    Each vertex is taken in every vector at once, so that functions of single vectors are searched
    in all of them together. All are tried if they are at most 256: with L1 up to width 256, with
    Linf up to width 9. Otherwise 256 are: of L1 random ones; of Linf by turning one sign after
    another where that raises the value, from random starts.

    Args:
        space: of the directions. Of a tuple, one part is searched at a time, zero in the others.
        like: a value of that space.
        value: a convex function of a direction.
        generator: of the random numbers.
    """
    found = 0.0
    for i, (norm, part) in enumerate(_parts(space, like)):

        def at(pattern: Tensor, i: int = i, part: Tensor = part) -> float:
            return value(_with_part(like, i, pattern.to(part).expand_as(part)))

        width = part.shape[-1] if norm in (L1, Linf) else 0
        if norm is L1:
            chosen = torch.randperm(width, generator=generator, device=generator.device)[:MOST]
            found = max([found, *map(at, torch.eye(width, device="cpu")[chosen.cpu()])])
        elif norm is Linf and 2 ** (width - 1) <= MOST:
            signs = product((1.0, -1.0), repeat=width - 1)
            found = max([found, *[at(torch.tensor([1.0, *some], device="cpu")) for some in signs]])
        elif norm is Linf:
            found = max(found, _by_turning_signs(width, at, generator))
    return found


def dual_space(space: AnySpace) -> AnySpace:
    """Return the space of the functionals on single vectors of a space, as far as it is known."""
    if isinstance(space, Product):
        return Product(tuple([dual_space(part) for part in space.parts]))
    if isinstance(space, Space) and issubclass(space.norm, VectorNorm):
        return Space(getattr(space.norm, "dual", space.norm), space.width)
    return space


def _by_turning_signs(
    width: int, value: Callable[[Tensor], float], generator: torch.Generator
) -> float:
    best, tried = 0.0, 0
    while tried < MOST:
        signs = torch.randint(2, (width,), generator=generator, device=generator.device)
        signs = (2.0 * signs - 1).cpu()
        now, rising, tried = value(signs), True, tried + 1
        while rising and tried < MOST:
            rising = False
            for j in torch.randperm(width, generator=generator, device=generator.device).tolist():
                signs[j] *= -1
                then, tried = value(signs), tried + 1
                if then > now:
                    now, rising = then, True
                else:
                    signs[j] *= -1
        best = max(best, now)
    return best


def _parts(space: AnySpace, like: Value) -> Iterator[tuple[type[Norm], Tensor]]:
    """The norm and the tensor of each leaf of a value."""
    if isinstance(space, Product) and isinstance(like, tuple):
        for part, piece in zip(space.parts, like, strict=True):
            yield from _parts(part, piece)
    elif isinstance(space, Space) and isinstance(like, Tensor):
        yield space.norm, like


def _with_part(like: Value, i: int, part: Tensor) -> Value:
    """Zeros like a value, with one leaf in place of the i-th."""
    pieces = [part if j == i else torch.zeros_like(leaf) for j, leaf in enumerate(leaves(like))]
    return rebuild(like, iter(pieces))
