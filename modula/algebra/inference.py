"""Infer the spaces between the components of a compound, from what each knows of its own two."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from modula.algebra.any_module import AnyModule
from modula.spaces import ANYTHING, AnySpace, Product, Signature, meet


def infer_chain(
    modules: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace
) -> list[Signature]:
    """Return the spaces of modules applied one after another.

    Args:
        modules: in the order of data.
        domain: the space of the first input, as far as it is known.
        codomain: the space of the last output.

    Raises:
        MismatchError: two neighbours do not fit.
    """
    spaces: list[AnySpace] = [domain, *[ANYTHING] * (len(modules) - 1), codomain]
    order = list(range(len(modules)))
    before: list[AnySpace] = []
    while before != spaces:
        before = list(spaces)
        for i in [*order, *order[::-1]]:
            spaces[i], spaces[i + 1] = modules[i].unify(spaces[i], spaces[i + 1])
    return list(pairwise(spaces))


def infer_tuple(
    modules: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace
) -> list[Signature]:
    """Return the spaces of modules applied to one input.

    Args:
        modules: at least one.
        domain: the space of the input, as far as it is known.
        codomain: the space of the tuple of outputs.

    Raises:
        MismatchError: the domains differ, or the outputs do not fit the codomain.
    """
    outputs = meet(Product((ANYTHING,) * len(modules)), codomain)
    codomains = list(outputs.parts) if isinstance(outputs, Product) else []
    before: tuple[AnySpace, list[AnySpace]] | None = None
    while before != (domain, codomains):
        before = (domain, list(codomains))
        for i, module in enumerate(modules):
            domain, codomains[i] = module.unify(domain, codomains[i])
    return [(domain, space) for space in codomains]
