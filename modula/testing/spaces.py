"""The spaces in which a part is checked."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn

from modula.algebra.core import AnyModule
from modula.instruments.observing import is_known
from modula.norms import L1, L2, RMS, Dense, Linf, Norm
from modula.spaces import ANYTHING, AnySpace, Product, Signature, Space, arrow, measure, meet
from modula.testing.laws import require
from modula.values import Value

_M = TypeVar("_M", bound=nn.Module)


def agrees_with_its_own_spaces(module: AnyModule, x: Value) -> None:
    """Require consistent spaces in each signature in which the module is checked."""
    for signature in signatures(module, x):
        unifies_consistently(module, signature, x)


def signatures(module: AnyModule, x: Value) -> list[Signature]:
    """Return the spaces of a module, or several where they are its neighbour's."""
    if all(map(is_known, module.signature)):
        return [module.signature]
    domain = module.domain
    if is_known(domain):
        return [module.unify(domain, Space(norm)) for norm in (RMS, L1, L2, Linf)]
    known = module.codomain
    norms = (known.norm,) if isinstance(known, Space) else (RMS, L1, L2, Linf)
    return [module.unify(_space_like(x, norm), ANYTHING) for norm in norms]


def _space_like(x: Value, norm: type[Norm]) -> AnySpace:
    if isinstance(x, tuple):
        return Product(tuple([_space_like(part, norm) for part in x]))
    return Space(norm)


def unifies_consistently(module: AnyModule, signature: Signature, x: Value) -> None:
    """Require that unify changes nothing the second time, and that the output is where it says."""
    law = "unify(*signature) is the signature, whatever neighbours have told"
    wide = module.unify(_with_widths(signature[0], x), signature[1])
    for known in (module.signature, signature, wide):
        again = module.unify(*known)
        require(again == known, module, law, f"got {arrow(again)} from {arrow(known)}")
    y = module(x)
    law = "the output lies in the codomain"
    try:
        measure(signature[1], y)
        meet(wide[1], _with_widths(signature[1], y))
    except Exception as error:
        raise AssertionError(f"{module!r}: {law}: {error}") from error


def _with_widths(space: AnySpace, x: Value) -> AnySpace:
    """The space with the widths that a value in it has."""
    if isinstance(space, Product) and isinstance(x, tuple):
        return Product(tuple([_with_widths(s, v) for s, v in zip(space.parts, x, strict=True)]))
    if isinstance(space, Space) and isinstance(x, Tensor) and issubclass(space.norm, Dense):
        return Space(space.norm, x.shape[space.norm.axis])
    return space


def in_float64(module: _M) -> _M:
    """Return a copy of a module with parameters and buffers in float64."""
    return copy.deepcopy(module).double()


def as_float64(x: Tensor) -> Tensor:
    """Return a tensor in float64 without its history; integers stay integers."""
    return x.detach().double() if x.is_floating_point() else x
