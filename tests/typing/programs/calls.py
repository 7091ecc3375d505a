"""The result of a call: a tensor, or tuples of tensors nested as the codomain is."""

from typing import assert_type

import torch
from torch import Tensor

from modula import (
    RMS,
    Add,
    Attention,
    Concatenation,
    Conv2D,
    Embed,
    Identity,
    Linear,
    Linf,
    Module,
    Mul,
    ReLU,
    Rope,
    SplitIntoHeads,
)
from modula.values import Value

x = torch.randn(2, 4)
ids = torch.arange(3)


def f() -> Linear[RMS, RMS]:
    return Linear(4, 4)


assert_type(Linear(3, 4)(x), Tensor)
assert_type(Embed(4, 9)(ids), Tensor)
assert_type(Conv2D(4, 3)(torch.randn(1, 3, 8, 8)), Tensor)
assert_type((Linear(3, 4) @ ReLU())(x), Tensor)
assert_type((f() + Identity())(x), Tensor)
assert_type((f() ** 2)(x), Tensor)
assert_type(Attention(4, 2)(torch.randn(1, 3, 4)), Tensor)
assert_type(ReLU()(x), Tensor)
assert_type(Linear(3, 4, codomain=Linf)(x), Tensor)

assert_type(Concatenation(f())(x), tuple[Tensor])
assert_type(((f(), f()) @ f())(x), tuple[Tensor, Tensor])
assert_type(((f(), f(), f()) @ f())(x), tuple[Tensor, Tensor, Tensor])
assert_type(((f(), f(), f(), f()) @ f())(x), tuple[Tensor, Tensor, Tensor, Tensor])
assert_type(((f(), f(), f(), f(), f()) @ f())(x), tuple[Tensor, Tensor, Tensor, Tensor, Tensor])
assert_type(
    ((f(), f(), f(), f(), f(), f()) @ f())(x), tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
)
assert_type(
    ((f(), f(), f(), f(), f(), f(), f()) @ f())(x),
    tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
)
assert_type(
    ((f(), f(), f(), f(), f(), f(), f(), f()) @ f())(x),
    tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
)
assert_type(((f(), f(), f(), f(), f(), f(), f(), f(), f()) @ f())(x), tuple[Tensor, ...])
assert_type((((f(), f()), f()) @ f())(x), tuple[tuple[Tensor, Tensor], Tensor])
assert_type(((f(), (f(), f())) @ f())(x), tuple[Tensor, tuple[Tensor, Tensor]])
assert_type(
    (((f(), f()), (f(), f())) @ f())(x), tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
)
assert_type(
    (Rope(4) @ (SplitIntoHeads(1) @ f(), SplitIntoHeads(1) @ f()))(torch.randn(2, 3, 4)),
    tuple[Tensor, Tensor],
)
assert_type((Add() @ (f(), f()))(x), Tensor)

# Identity and Mul return a value of the type that they are given.
assert_type(Identity()(x), Tensor)
assert_type(Identity()((x, x)), tuple[Tensor, Tensor])
assert_type(Mul(2.0)(x), Tensor)
assert_type(Mul(2.0)((x, (x, x))), tuple[Tensor, tuple[Tensor, Tensor]])

assert_type(Concatenation(Concatenation(f(), f()), f())(x), tuple[tuple[Tensor, Tensor], Tensor])

# Of deeper tuples a checker knows only that the result is a Value.
deep: Module[RMS, tuple[tuple[tuple[RMS]]]] = Concatenation(Concatenation(Concatenation(f())))
assert_type(deep(x), Value)

query, key = ((f(), f()) @ f())(x)
assert_type(query, Tensor)

Linear(3, 4)(3)  # E: a module takes tensors
Linear(3, 4)([x])  # E: a module takes tensors
Linear(3, 4)("x")  # E: a module takes tensors
Linear(3, 4)()  # E: a module takes one input
Linear(3, 4)(x, x)  # E: a module takes one input
Linear(3, 4)(x).weights  # E: a tensor has no weights
(Linear(3, 4) @ ReLU())(x)[0](x)  # E: a tensor is not called
ReLU()(x, x)  # E: a module takes one input
Mul(2.0)(3)  # E static: what is multiplied is seen by nobody at run time
Identity()([x])  # E static: Identity looks at nothing at run time
