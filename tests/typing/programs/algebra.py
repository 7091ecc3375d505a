# ruff: noqa: RUF005
"""Sums, multiples and powers."""

from typing import assert_type

from modula import (
    L2,
    RMS,
    Add,
    AnyModule,
    AvgPool,
    ChannelRMS,
    Concatenation,
    Conv2D,
    Embed,
    Enumerate,
    Identity,
    Linear,
    Linf,
    Module,
    Mul,
    OneHot,
    ReLU,
    RMSNorm,
    Tanh,
    residual,
)
from modula.algebra.core import Elementwise, Transparent


def f() -> Module[RMS, RMS]:
    return Linear(4, 4)


def e() -> Module[OneHot, RMS]:
    return Embed(4, 9)


# Sums.
assert_type(f() + f(), Module[RMS, RMS])
assert_type(Linear(4, 4) + Linear(4, 4), Module[RMS, RMS])
assert_type(f() + f() + f(), Module[RMS, RMS])
assert_type(f() + Identity(), Module[RMS, RMS])
assert_type(Identity() + f(), Module[RMS, RMS])
assert_type(f() + ReLU(), Module[RMS, RMS])
assert_type(ReLU() + f(), Module[RMS, RMS])
assert_type(0.5 * Identity() + 0.5 * f(), Module[RMS, RMS])
assert_type(e() + e(), Module[OneHot, RMS])
assert_type(Conv2D(3, 3) + Identity(), Module[ChannelRMS, ChannelRMS])
assert_type(Identity() + Identity(), Transparent)
assert_type(Identity() + ReLU(), Elementwise)
assert_type(Identity() + Mul(2.0), Transparent)
assert_type(f() @ (Identity() + f()) @ e(), Module[OneHot, RMS])
assert_type(Add() @ (f(), f()), Module[RMS, RMS])
f() + e()  # E: the domains differ
e() + f()  # E: the domains differ
e() + Identity()  # E: Embed maps no space to itself
e() + ReLU()  # E: Embed maps no space to itself
Identity() + e()  # E: Embed maps no space to itself
ReLU() + e()  # E: Embed maps no space to itself
Identity() + Enumerate()  # E run: ids cannot be added
Embed(4, 9) @ (Identity() + Enumerate())  # E run: ids cannot be added
Enumerate() + Enumerate()  # E run: ids cannot be added
2.0 * Enumerate()  # E run: ids cannot be multiplied
Embed(4, 9) @ Mul(2.0)  # E run: ids cannot be multiplied
Add() @ (Enumerate(), Enumerate())  # E run: ids cannot be added
ReLU() + Enumerate()  # E: ids hold no real vectors
Enumerate() + ReLU()  # E: ids hold no real vectors
f() + Linear(4, 4, codomain=Linf)  # E: the codomains differ
f() + Linear(4, 4, domain=L2, codomain=L2)  # E: RMS is not L2
f() + Conv2D(4, 4)  # E: features are not images
f() + 1  # E: a module is no number
1 + f()  # E: a module is no number
f() - f()  # E: there is no difference, write f + (-1) * g
-f()  # E: there is no negative, write (-1) * f
f() + AvgPool()  # E: the domains differ

# Sums of modules into tuples.
assert_type(Concatenation(f(), f()) + Concatenation(f(), f()), Module[RMS, tuple[RMS, RMS]])
assert_type(Concatenation(f(), f()) + (f(), Identity()), Module[RMS, tuple[RMS, RMS]])
assert_type((f(), f()) + Concatenation(f(), f()), Module[RMS, tuple[RMS, RMS]])
assert_type(Concatenation(f(), f(), f()) + (f(), f(), f()), Module[RMS, tuple[RMS, RMS, RMS]])
assert_type(
    (f(), Identity(), f()) + Concatenation(f(), f(), f()), Module[RMS, tuple[RMS, RMS, RMS]]
)
Concatenation(f(), f(), f(), f()) + (  # E static: beyond three write Concatenation
    f(),
    f(),
    f(),
    f(),
)
assert_type(
    Concatenation(f(), f(), f(), f()) + Concatenation(f(), f(), f(), f()),
    Module[RMS, tuple[RMS, RMS, RMS, RMS]],
)
f() + (f(), f())  # E: a tuple is no plain space
(f(), f()) + f()  # E: a tuple is no plain space
Concatenation(f(), f()) + (f(), f(), f())  # E: two are not three
(f(), f(), f()) + Concatenation(f(), f())  # E: three are not two
(f(), f()) + Concatenation(f(), f(), f())  # E: two are not three
(e(), e(), e()) + Concatenation(f(), f(), f())  # E: the domains differ
(e(), e()) + Concatenation(f(), f())  # E: the domains differ
Concatenation(f(), f(), f()) + (e(), e(), e())  # E: the domains differ
Concatenation(f(), f()) + (e(), e())  # E: the domains differ
Concatenation(f(), f()) + (f(), e())  # E: the domains differ
(f(), e()) + Concatenation(f(), f())  # E: the domains differ
Concatenation(f(), f(), f()) + (f(), f(), e())  # E: the domains differ
(f(), f(), e()) + Concatenation(f(), f(), f())  # E: the domains differ

# Multiples.
assert_type(2 * f(), Module[RMS, RMS])
assert_type(f() * 0.5, Module[RMS, RMS])
assert_type(f() / 3, Module[RMS, RMS])
assert_type((-1) * e(), Module[OneHot, RMS])
assert_type(2 * Linear(4, 3, codomain=Linf), Module[RMS, Linf])
assert_type(2 * Identity(), Transparent)
assert_type(Identity() / 2, Transparent)
assert_type(Identity() * 2, Transparent)
assert_type(2 * Tanh(), Elementwise)
assert_type(2 * RMSNorm(), Module[RMS, RMS])
f() * f()  # E: to compose modules use @
f() / f()  # E: a module is divided by a number
f() * "2"  # E: a module is scaled by a number
"2" * f()  # E: a module is scaled by a number
1 / f()  # E: a module has no inverse
f() * None  # E: a module is scaled by a number
f() * 2j  # E: a real number
Identity() * "2"  # E: a module is scaled by a number
ReLU() * ReLU()  # E: to compose modules use @
"2" * ReLU()  # E: a module is scaled by a number
ReLU() / "2"  # E: a module is scaled by a number
"2" * Identity()  # E: a module is scaled by a number
Identity() / "2"  # E: a module is scaled by a number
"2" * Add()  # E: a module is scaled by a number
f() / 0  # E run: a sensitivity is finite
0 * f()  # E run: a sensitivity is positive
True * f()  # E run: to a checker True is a number

# Powers.
assert_type(f() ** 3, Module[RMS, RMS])
assert_type(Linear(4, 4) ** 3, Module[RMS, RMS])
assert_type((f() @ ReLU()) ** 2 @ e(), Module[OneHot, RMS])
assert_type(Conv2D(3, 3) ** 2, Module[ChannelRMS, ChannelRMS])
assert_type(Enumerate() ** 2, Module[OneHot, OneHot])
assert_type(Identity() ** 2, Transparent)
assert_type(ReLU() ** 2, Elementwise)
assert_type((Identity() + f()) ** 4, Module[RMS, RMS])
assert_type(Linear(4, 4, domain=L2, codomain=L2) ** 0, Module[L2, L2])
Embed(4, 4) ** 2  # E: Embed does not map a space to itself
(Linear(4, 4) @ Embed(4, 4)) ** 2  # E: ids to features is no map to itself
e() ** 2  # E: ids to features is no map to itself
Embed(4, 4) ** 0  # E: nor is its zeroth power
Linear(4, 4, codomain=Linf) ** 2  # E: RMS is not Linf
Concatenation(f(), f()) ** 2  # E: a space is no pair of it
(Embed(4, 9) @ ReLU() @ Enumerate()) ** 2  # E: ids hold no real vectors
f() ** "2"  # E: a whole number of copies
f() ** 0.5  # E: a whole number of copies
f() ** f()  # E: a whole number of copies
2 ** f()  # E: a module is no exponent
ReLU() ** 0.5  # E: a whole number of copies
Identity() ** "2"  # E: a whole number of copies
Linear(4, 3) ** 2  # E run: a width of 4 is not one of 3
f() ** -1  # E run: at least 0

# Residual blocks.
assert_type(residual(f(), 4), Module[RMS, RMS])
assert_type(residual(Linear(4, 4) @ ReLU(), 4) ** 4 @ e(), Module[OneHot, RMS])
assert_type(residual(Conv2D(3, 3), 4), Module[ChannelRMS, ChannelRMS])
assert_type(residual(f() @ Identity(), 4), Module[RMS, RMS])
assert_type(residual(ReLU() @ f() @ ReLU(), 4), Module[RMS, RMS])
residual(e(), 4)  # E: a residual block maps a space to itself
residual(AvgPool(), 4)  # E: a residual block maps a space to itself
residual(f())  # E: of how many?

# tare keeps the type.
assert_type(f().tare(2.0), Module[RMS, RMS])
assert_type((f() @ e()).tare(), Module[OneHot, RMS])
assert_type(Conv2D(3, 3).tare(), Conv2D)
assert_type((f() @ f()).tare(2.0, "0"), Module[RMS, RMS])
assert_type((f() @ f()).tare({"0": 2.0}), Module[RMS, RMS])
(f() @ f()).tare({"0": "2"})  # E: a mass is a number
(f() @ f()).tare({"0": 2.0}, "0")  # E: the parts stand in the mapping, or one part beside a number


def whole() -> AnyModule:
    return f() @ e()


assert_type(whole().mass, float)
whole() @ (  # E static: of a module of unknown spaces a checker does not know whether it fits
    Enumerate()
)
