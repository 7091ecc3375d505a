"""Gates, concatenation along features, networks of several inputs, and weights in other shapes."""

from typing import assert_type

from modula import (
    GEGLU,
    RMS,
    Add,
    ChannelRMS,
    Concat,
    Concatenation,
    Conv2D,
    Embed,
    Gate,
    GatedMLP,
    GatedTanh,
    HeadRMS,
    Identity,
    Keep,
    Linear,
    Linf,
    Module,
    OneHot,
    Parallel,
    ReLU,
    Select,
    Sigmoid,
    SiLU,
    SwiGLU,
)


def a() -> Module[RMS, RMS]:
    return Linear(4, 4)


def b() -> Module[RMS, Linf]:
    return Linear(4, 4, codomain=Linf)


def e() -> Module[OneHot, RMS]:
    return Embed(4, 9)


# Concat takes a tuple of any length, as the tuple of modules or as one module into it.
assert_type(Concat(), Concat[RMS])
assert_type(Concat(4, 4), Concat[RMS])
assert_type(Concat(norm=HeadRMS), Concat[HeadRMS])
assert_type(Concat() @ (a(), a()), Module[RMS, RMS])
assert_type(Concat() @ (Identity(), a()), Module[RMS, RMS])
assert_type(Concat() @ (e(), e(), e()), Module[OneHot, RMS])
assert_type(Concat() @ ((a(), a()) @ e()), Module[OneHot, RMS])
assert_type(Linear(4, 8) @ Concat() @ (a(), a()), Module[RMS, RMS])
assert_type(Linear(4, 8) @ Concat(4, 4) @ ((a(), a()) @ e()), Module[OneHot, RMS])
assert_type(ReLU() @ Concat() @ ((a(), a()) @ e()), Module[OneHot, RMS])
assert_type(Identity() @ Concat() @ ((a(), a()) @ e()), Module[OneHot, RMS])
assert_type(0.5 * Concat() @ (a(), a()), Module[RMS, RMS])
assert_type((Concat() / 2) @ ((a(), a(), a()) @ e()), Module[OneHot, RMS])
assert_type(Concat(norm=ChannelRMS) @ (Identity(), Conv2D(4, 3)), Module[ChannelRMS, ChannelRMS])
Concat() @ (a(), b())  # E: the codomains differ
Concat() @ (a(), e())  # E: the domains differ
Concat() @ a()  # E: Concat takes a tuple
Concat(norm=ChannelRMS) @ (a(), a())  # E: features are not images
Concat(norm=Linf)  # E: not a root mean square
Concat("4")  # E: a width is a whole number
Linear(4, 9) @ Concat() @ (a(), a())  # E run: the widths sum to 8
Concat(4, 5) @ (a(), a())  # E run: the second part has width 4

# Gate takes a pair, whose second part may have a norm of its own.
assert_type(Gate(), Gate[RMS, RMS])
assert_type(Gate(ChannelRMS), Gate[ChannelRMS, ChannelRMS])
assert_type(Gate(RMS, Linf), Gate[RMS, Linf])
assert_type(Gate() @ (a(), SiLU() @ a()), Module[RMS, RMS])
assert_type(Gate(RMS, Linf) @ (a(), Sigmoid() @ b()), Module[RMS, RMS])
assert_type(a() @ (0.5 * Gate()) @ (a(), a()) @ e(), Module[OneHot, RMS])
assert_type(GatedTanh() @ (a(), a()), Module[RMS, RMS])
assert_type(SwiGLU(4, 4, width=8) @ e(), Module[OneHot, RMS])
assert_type(GEGLU(4, 4, width=8), GEGLU)
assert_type(GatedMLP(4, 4, width=8, activation=ReLU()), GatedMLP)
Gate() @ (a(), b())  # E: the gate is measured in RMS
Gate() @ (a(), a(), a())  # E: Gate takes a pair
Gate() @ a()  # E: Gate takes a pair
Gate(OneHot)  # E: ids hold no real vectors
Gate(RMS, ChannelRMS)  # E run: the gate has the norm of the value, or one that bounds entries
GatedTanh() @ (a(), b())  # E: the gate is measured in RMS
Sigmoid() @ a()  # E: Sigmoid takes Linf
Gate() @ (Linear(3, 4), Linear(4, 4))  # E run: value and gate have different widths

# Parallel applies each module to its own entry; it is how a network takes several inputs.
assert_type(Parallel(a(), e()), Parallel[tuple[RMS, OneHot], tuple[RMS, RMS]])
assert_type(Parallel(a(), b(), e()), Parallel[tuple[RMS, RMS, OneHot], tuple[RMS, Linf, RMS]])
assert_type(Parallel(a(), Keep(OneHot)), Parallel[tuple[RMS, OneHot], tuple[RMS, OneHot]])
assert_type(Add() @ Parallel(a(), e()), Module[tuple[RMS, OneHot], RMS])
assert_type(a() @ (Add() @ Parallel(a(), e())), Module[tuple[RMS, OneHot], RMS])
assert_type(Parallel(a(), b()) @ (a(), a()), Module[RMS, tuple[RMS, Linf]])
assert_type(Parallel(a(), b()) @ (a(), a()) @ e(), Module[OneHot, tuple[RMS, Linf]])
assert_type(2 * Parallel(a(), b()), Module[tuple[RMS, RMS], tuple[RMS, Linf]])
assert_type(Concat() @ Parallel(a(), e()), Module[tuple[RMS, OneHot], RMS])
assert_type(Keep(), Keep[RMS, RMS])
assert_type(Keep(ChannelRMS), Keep[ChannelRMS, ChannelRMS])
Parallel(a(), b()) @ (a(), b())  # E: the second takes RMS
Parallel(a(), b()) @ a()  # E: Parallel takes a tuple
Parallel(a(), b()) @ (a(), a(), a())  # E: one too many
Add() @ Parallel(a(), b())  # E: the codomains differ
Parallel()  # E: at least one module
Parallel(a(), 3)  # E: a number is no module
Keep(3)  # E: a number is no norm type
Parallel(a(), Identity()) @ (a(), a())  # E static: next to no neighbour it has no type; Keep does

# Select takes one entry of a tuple, of which all norms are named.
assert_type(Select(0, RMS, OneHot), Select[tuple[RMS, OneHot], RMS])
assert_type(Select(1, RMS, OneHot), Select[tuple[RMS, OneHot], OneHot])
assert_type(Select(2, RMS, Linf, OneHot), Select[tuple[RMS, Linf, OneHot], OneHot])
assert_type(Select(3, RMS, RMS, RMS, Linf), Select[tuple[RMS, RMS, RMS, Linf], Linf])
assert_type(a() @ Select(0, RMS, OneHot), Module[tuple[RMS, OneHot], RMS])
assert_type(Select(1, RMS, Linf) @ (a(), b()), Module[RMS, Linf])
a() @ Select(1, RMS, OneHot)  # E: ids are not features
Select(2, RMS, OneHot)  # E: there are two entries
Select(0, RMS, OneHot) @ (a(), a())  # E: the second entry holds ids
Select(0, 3, RMS)  # E: a number is no norm type

# A tuple of modules on both sides of @ needs parentheses.
assert_type(Add() @ (a() @ a(), a() @ a()), Module[RMS, RMS])
Add() @ (a(), a()) @ (a(), a())  # E: each module of a tuple takes the whole input
(a(), a()) @ (a(), a())  # E: tuples of Python, which no module sees
(a(), a()) @ Concatenation(a(), a())  # E: each module of a tuple takes the whole input
