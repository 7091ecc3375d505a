"""Tuples of modules: applied to one input, and composed with modules that take a tuple."""

from typing import assert_type

import torch
from torch import Tensor

from modula import (
    L2,
    RMS,
    Add,
    Bond,
    ChannelRMS,
    Concatenation,
    Conv2D,
    Elementwise,
    Embed,
    Enumerate,
    Identity,
    Linear,
    Linf,
    Module,
    Mul,
    OneHot,
    ReLU,
    Tanh,
)
from modula.algebra.core import Transparent


class Bridge(Bond[RMS, L2]):
    """From RMS to L2, which no Linear does."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 3**0.5


class Take1(Bond[tuple[RMS], RMS]):
    """A bond on a tuple of 1."""

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        return x[0]


class Take2(Bond[tuple[RMS, Linf], RMS]):
    """A bond on a tuple of 2."""

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        return x[0]


class Take3(Bond[tuple[RMS, Linf, RMS], RMS]):
    """A bond on a tuple of 3."""

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        return x[0]


class Take4(Bond[tuple[RMS, Linf, RMS, L2], RMS]):
    """A bond on a tuple of 4."""

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        return x[0]


class Take5(Bond[tuple[RMS, Linf, RMS, L2, RMS], RMS]):
    """A bond on a tuple of 5."""

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        return x[0]


class Take6(Bond[tuple[RMS, Linf, RMS, L2, RMS, Linf], RMS]):
    """A bond on a tuple of 6."""

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        return x[0]


class Take7(Bond[tuple[RMS, Linf, RMS, L2, RMS, Linf, RMS], RMS]):
    """A bond on a tuple of 7."""

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        return x[0]


class Take8(Bond[tuple[RMS, Linf, RMS, L2, RMS, Linf, RMS, L2], RMS]):
    """A bond on a tuple of 8."""

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        return x[0]


class Take9(Bond[tuple[RMS, Linf, RMS, L2, RMS, Linf, RMS, L2, RMS], RMS]):
    """A bond on a tuple of 9."""

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        return x[0]


def a() -> Module[RMS, RMS]:
    return Linear(3, 3)


def b() -> Module[RMS, Linf]:
    return Linear(3, 3, codomain=Linf)


def c() -> Module[RMS, L2]:
    return Bridge()


def d() -> Module[Linf, Linf]:
    return Linear(3, 3, domain=Linf, codomain=Linf)


def e() -> Module[OneHot, RMS]:
    return Embed(3, 9)


def i() -> Module[ChannelRMS, ChannelRMS]:
    return Conv2D(3, 3)


# A bond on a tuple takes a tuple of modules, each with the codomain that the bond takes there.
assert_type(Take1() @ (a(),), Module[RMS, RMS])
assert_type(Take2() @ (a(), b()), Module[RMS, RMS])
assert_type(Take3() @ (a(), b(), a()), Module[RMS, RMS])
assert_type(Take4() @ (a(), b(), a(), c()), Module[RMS, RMS])
assert_type(Take5() @ (a(), b(), a(), c(), a()), Module[RMS, RMS])
assert_type(Take6() @ (a(), b(), a(), c(), a(), b()), Module[RMS, RMS])
assert_type(Take7() @ (a(), b(), a(), c(), a(), b(), a()), Module[RMS, RMS])
assert_type(Take8() @ (a(), b(), a(), c(), a(), b(), a(), c()), Module[RMS, RMS])

# A tuple after a module is a module into a tuple.
assert_type((a(),) @ e(), Module[OneHot, tuple[RMS]])
assert_type((a(), b()) @ e(), Module[OneHot, tuple[RMS, Linf]])
assert_type((a(), b(), a()) @ e(), Module[OneHot, tuple[RMS, Linf, RMS]])
assert_type((a(), b(), a(), c()) @ e(), Module[OneHot, tuple[RMS, Linf, RMS, L2]])
assert_type((a(), b(), a(), c(), a()) @ e(), Module[OneHot, tuple[RMS, Linf, RMS, L2, RMS]])
assert_type(
    (a(), b(), a(), c(), a(), b()) @ e(), Module[OneHot, tuple[RMS, Linf, RMS, L2, RMS, Linf]]
)
assert_type(
    (a(), b(), a(), c(), a(), b(), a()) @ e(),
    Module[OneHot, tuple[RMS, Linf, RMS, L2, RMS, Linf, RMS]],
)
assert_type(
    (a(), b(), a(), c(), a(), b(), a(), c()) @ e(),
    Module[OneHot, tuple[RMS, Linf, RMS, L2, RMS, Linf, RMS, L2]],
)

# Both at once, with and without parentheses.
assert_type(Take1() @ ((a(),) @ e()), Module[OneHot, RMS])
assert_type(Take2() @ ((a(), b()) @ e()), Module[OneHot, RMS])
assert_type(Take3() @ ((a(), b(), a()) @ e()), Module[OneHot, RMS])
assert_type(Take4() @ ((a(), b(), a(), c()) @ e()), Module[OneHot, RMS])
assert_type(Take5() @ ((a(), b(), a(), c(), a()) @ e()), Module[OneHot, RMS])
assert_type(Take6() @ ((a(), b(), a(), c(), a(), b()) @ e()), Module[OneHot, RMS])
assert_type(Take7() @ ((a(), b(), a(), c(), a(), b(), a()) @ e()), Module[OneHot, RMS])
assert_type(Take8() @ ((a(), b(), a(), c(), a(), b(), a(), c()) @ e()), Module[OneHot, RMS])
assert_type(Take3() @ (a(), b(), a()) @ e(), Module[OneHot, RMS])
assert_type((a(), b()) @ Take3() @ (a(), b(), a()) @ a(), Module[RMS, tuple[RMS, Linf]])

# One module of the wrong codomain, at every position; one of the wrong domain; one too few; one
# too many.
Take1() @ (b(),)  # E: place 0 takes RMS
Take2() @ (b(), b())  # E: place 0 takes RMS
Take2() @ (a(), a())  # E: place 1 takes Linf
Take3() @ (b(), b(), a())  # E: place 0 takes RMS
Take3() @ (a(), a(), a())  # E: place 1 takes Linf
Take3() @ (a(), b(), b())  # E: place 2 takes RMS
Take4() @ (b(), b(), a(), c())  # E: place 0 takes RMS
Take4() @ (a(), b(), b(), c())  # E: place 2 takes RMS
Take4() @ (a(), b(), a(), b())  # E: place 3 takes L2
Take5() @ (b(), b(), a(), c(), a())  # E: place 0 takes RMS
Take5() @ (a(), b(), b(), c(), a())  # E: place 2 takes RMS
Take5() @ (a(), b(), a(), c(), b())  # E: place 4 takes RMS
Take6() @ (b(), b(), a(), c(), a(), b())  # E: place 0 takes RMS
Take6() @ (a(), b(), a(), b(), a(), b())  # E: place 3 takes L2
Take6() @ (a(), b(), a(), c(), a(), a())  # E: place 5 takes Linf
Take7() @ (b(), b(), a(), c(), a(), b(), a())  # E: place 0 takes RMS
Take7() @ (a(), b(), a(), b(), a(), b(), a())  # E: place 3 takes L2
Take7() @ (a(), b(), a(), c(), a(), b(), b())  # E: place 6 takes RMS
Take8() @ (b(), b(), a(), c(), a(), b(), a(), c())  # E: place 0 takes RMS
Take8() @ (a(), b(), a(), c(), b(), b(), a(), c())  # E: place 4 takes RMS
Take8() @ (a(), b(), a(), c(), a(), b(), a(), b())  # E: place 7 takes L2
Take1() @ (i(),)  # E: images are not features
Take2() @ (a(), e())  # E: the domains differ
Take3() @ (a(), b(), e())  # E: the domains differ
Take4() @ (a(), b(), a(), e())  # E: the domains differ
Take5() @ (a(), b(), a(), c(), e())  # E: the domains differ
Take6() @ (a(), b(), a(), c(), a(), e())  # E: the domains differ
Take7() @ (a(), b(), a(), c(), a(), b(), e())  # E: the domains differ
Take8() @ (a(), b(), a(), c(), a(), b(), a(), e())  # E: the domains differ
(e(),) @ e()  # E: the last takes ids
(a(), e()) @ e()  # E: the last takes ids
(a(), b(), e()) @ e()  # E: the last takes ids
(a(), b(), a(), e()) @ e()  # E: the last takes ids
(a(), b(), a(), c(), e()) @ e()  # E: the last takes ids
(a(), b(), a(), c(), a(), e()) @ e()  # E: the last takes ids
(a(), b(), a(), c(), a(), b(), e()) @ e()  # E: the last takes ids
(a(), b(), a(), c(), a(), b(), a(), e()) @ e()  # E: the last takes ids
Take2() @ (a(),)  # E: one too few
Take1() @ (a(), b())  # E: one too many
Take3() @ (a(), b())  # E: one too few
Take2() @ (a(), b(), a())  # E: one too many
Take4() @ (a(), b(), a())  # E: one too few
Take3() @ (a(), b(), a(), c())  # E: one too many
Take5() @ (a(), b(), a(), c())  # E: one too few
Take4() @ (a(), b(), a(), c(), a())  # E: one too many
Take6() @ (a(), b(), a(), c(), a())  # E: one too few
Take5() @ (a(), b(), a(), c(), a(), b())  # E: one too many
Take7() @ (a(), b(), a(), c(), a(), b())  # E: one too few
Take6() @ (a(), b(), a(), c(), a(), b(), a())  # E: one too many
Take8() @ (a(), b(), a(), c(), a(), b(), a())  # E: one too few
Take7() @ (a(), b(), a(), c(), a(), b(), a(), c())  # E: one too many
Take2() @ ((b(), a()) @ e())  # E: the first two are exchanged
Take3() @ ((b(), a(), a()) @ e())  # E: the first two are exchanged
Take4() @ ((b(), a(), a(), c()) @ e())  # E: the first two are exchanged
Take5() @ ((b(), a(), a(), c(), a()) @ e())  # E: the first two are exchanged
Take6() @ ((b(), a(), a(), c(), a(), b()) @ e())  # E: the first two are exchanged
Take7() @ ((b(), a(), a(), c(), a(), b(), a()) @ e())  # E: the first two are exchanged
Take8() @ ((b(), a(), a(), c(), a(), b(), a(), c()) @ e())  # E: the first two are exchanged

# Beyond eight: equal codomains keep their type; otherwise a checker follows the first eight, and
# the domain of all.
assert_type(Take9() @ (a(), b(), a(), c(), a(), b(), a(), c(), a()), Module[RMS, RMS])
assert_type(Add() @ (a(), a(), a(), a(), a(), a(), a(), a(), a(), a()), Module[RMS, RMS])
assert_type((a(), a(), a(), a(), a(), a(), a(), a(), a()) @ e(), Module[OneHot, tuple[RMS, ...]])
assert_type(Add() @ ((a(), a(), a(), a(), a(), a(), a(), a(), a()) @ e()), Module[OneHot, RMS])
Take9() @ (a(), a(), a(), c(), a(), b(), a(), c(), a())  # E: place 1 takes Linf
Take9() @ (a(), b(), a(), c(), a(), b(), a(), c(), e())  # E: the last takes ids
Take9() @ (  # E run: the ninth place is beyond what a checker follows
    a(),
    b(),
    a(),
    c(),
    a(),
    b(),
    a(),
    c(),
    b(),
)
(  # E static: more than eight that differ have no static type
    a(),
    b(),
    a(),
    c(),
    a(),
    b(),
    a(),
    c(),
    a(),
) @ e()
(a(), a(), a(), a(), a(), a(), a(), a(), e()) @ e()  # E: the last takes ids


# Tuples in tuples.
class Left(Bond[tuple[tuple[RMS, Linf], RMS], RMS]):
    """A bond on a pair and one more."""

    def forward(self, x: tuple[tuple[Tensor, Tensor], Tensor]) -> Tensor:
        return x[1]


class Right(Bond[tuple[RMS, tuple[Linf, RMS]], RMS]):
    """A bond on one and a pair."""

    def forward(self, x: tuple[Tensor, tuple[Tensor, Tensor]]) -> Tensor:
        return x[0]


class Pairs(Bond[tuple[tuple[RMS, Linf], tuple[Linf, RMS]], RMS]):
    """A bond on two pairs."""

    def forward(self, x: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        return x[0][0]


assert_type(Left() @ ((a(), b()), a()), Module[RMS, RMS])
assert_type(Left() @ (Concatenation(a(), b()), a()), Module[RMS, RMS])
assert_type(Left() @ (((a(), b()), a()) @ e()), Module[OneHot, RMS])
assert_type(Right() @ (a(), (b(), a())), Module[RMS, RMS])
assert_type(Right() @ ((a(), (b(), a())) @ e()), Module[OneHot, RMS])
assert_type(Pairs() @ ((a(), b()), (b(), a())), Module[RMS, RMS])
assert_type(Pairs() @ (((a(), b()), (b(), a())) @ e()), Module[OneHot, RMS])
assert_type(((a(), b()), a()) @ e(), Module[OneHot, tuple[tuple[RMS, Linf], RMS]])
assert_type((a(), (b(), a())) @ e(), Module[OneHot, tuple[RMS, tuple[Linf, RMS]]])
assert_type(
    ((a(), b()), (b(), a())) @ e(), Module[OneHot, tuple[tuple[RMS, Linf], tuple[Linf, RMS]]]
)
(((a(), b()), a()), a()) @ e()  # E static: a plain tuple is followed one level deep
assert_type(
    (Concatenation(Concatenation(a(), b()), a()), a()) @ e(),
    Module[OneHot, tuple[tuple[tuple[RMS, Linf], RMS], RMS]],
)
Left() @ (a(), b(), a())  # E: a tuple of three is not a pair and one more
Left() @ ((b(), a()), a())  # E: the pair is exchanged
Left() @ (a(), (b(), a()))  # E: the pair stands first
Right() @ (a(), (a(), b()))  # E: the pair is exchanged
Right() @ ((a(), b()), a())  # E: the pair stands last
Pairs() @ ((a(), b()), (a(), b()))  # E: the second pair is exchanged
Pairs() @ ((a(), b()), (b(), e()))  # E: the domains differ
((a(), b()), e()) @ e()  # E: the last takes ids
((a(), e()), a()) @ e()  # E: the second takes ids
(a(), (b(), e())) @ e()  # E: the last takes ids
((a(), b()), (b(), e())) @ e()  # E: the last takes ids

# A bond takes over its neighbour's space in a tuple too.
assert_type(Add() @ (Identity(), a()), Module[RMS, RMS])
assert_type(Add() @ (a(), Identity()), Module[RMS, RMS])
assert_type(Add() @ (0.5 * Identity(), 0.5 * a()), Module[RMS, RMS])
assert_type(Add() @ (Identity(), ReLU(), a()), Module[RMS, RMS])
assert_type(Add() @ (a(), ReLU(), Identity(), a()), Module[RMS, RMS])
assert_type(Take2() @ (Identity(), b()), Module[RMS, RMS])
assert_type(Take2() @ (ReLU(), b()), Module[RMS, RMS])
assert_type(Take3() @ (Identity(), b(), ReLU()), Module[RMS, RMS])
assert_type((Identity(), b()) @ e(), Module[OneHot, tuple[RMS, Linf]])
assert_type((b(), ReLU()) @ e(), Module[OneHot, tuple[Linf, RMS]])
assert_type((ReLU(), b(), Identity()) @ e(), Module[OneHot, tuple[RMS, Linf, RMS]])
assert_type((Identity(), Identity()) @ Enumerate(), Module[OneHot, tuple[OneHot, OneHot]])
assert_type(Left() @ ((Identity(), b()), ReLU()), Module[RMS, RMS])
Add() @ (Identity(), e())  # E: Identity gives ids, Embed features
Add() @ (e(), Identity())  # E: Identity gives ids, Embed features
Add() @ (ReLU(), b())  # E: ReLU gives RMS, the other Linf
Take2() @ (Identity(), Identity())  # E: one input is not RMS and Linf at once
Take2() @ (ReLU(), ReLU())  # E: one input is not RMS and Linf at once
Take2() @ (a(), Identity())  # E: Identity gives RMS where Linf is taken
Take2() @ (ReLU(), a())  # E: Linf is taken in the second place
Take3() @ (a(), Identity(), a())  # E: Identity gives RMS where Linf is taken
Take3() @ (Identity(), Identity(), Identity())  # E: one input is not RMS and Linf at once
Take4() @ (a(), b(), ReLU(), ReLU())  # E: ReLU gives RMS where L2 is taken
Take5() @ (a(), Identity(), a(), c(), a())  # E: Identity gives RMS where Linf is taken
Take6() @ (Identity(), b(), a(), c(), a(), ReLU())  # E: ReLU gives RMS where Linf is taken
Take7() @ (a(), b(), a(), Identity(), a(), b(), a())  # E: Identity gives RMS where L2 is taken
Take8() @ (a(), b(), a(), c(), a(), b(), a(), Identity())  # E: Identity gives RMS, taken is L2
Take9() @ (a(), ReLU(), a(), c(), a(), b(), a(), c(), a())  # E: ReLU gives RMS, taken is Linf
Left() @ ((a(), Identity()), a())  # E: Identity gives RMS where Linf is taken
Left() @ ((Identity(), Identity()), Identity())  # E: one input is not RMS and Linf at once
Take4() @ (  # E: one input is not RMS and Linf at once
    Identity(),
    Identity(),
    Identity(),
    Identity(),
)
Take5() @ (  # E: one input is not RMS and Linf at once
    Identity(),
    Identity(),
    Identity(),
    Identity(),
    Identity(),
)
Take6() @ (  # E: one input is not RMS and Linf at once
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
)
Take7() @ (  # E: one input is not RMS and Linf at once
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
)
Take8() @ (  # E: one input is not RMS and Linf at once
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
)
Take9() @ (  # E: one input is not RMS and Linf at once
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
    ReLU(),
)
Right() @ (Identity(), (Identity(), Identity()))  # E: one input is not RMS and Linf at once
Pairs() @ (  # E: one input is not RMS and Linf at once
    (Identity(), Identity()),
    (Identity(), Identity()),
)
Right() @ (a(), (ReLU(), a()))  # E: ReLU gives RMS where Linf is taken
Pairs() @ ((a(), b()), (Identity(), a()))  # E: Identity gives RMS where Linf is taken
Add() @ (a(), Identity(), b())  # E: Identity gives RMS, the last Linf
Add() @ (b(), ReLU())  # E: ReLU gives RMS, the other Linf
(ReLU(), Embed(3, 9)) @ Enumerate()  # E: ids hold no real vectors
(ReLU(), Embed(3, 9)) @ e()  # E: Embed takes ids

# Add takes a tuple of any length, all of one space.
assert_type(Add() @ (a(),), Module[RMS, RMS])
assert_type(Add() @ (a(), a()), Module[RMS, RMS])
assert_type(Add() @ (e(), e(), e()), Module[OneHot, RMS])
assert_type(Add() @ (i(), Identity()), Module[ChannelRMS, ChannelRMS])
assert_type(Add() @ (2 * Identity(), i(), ReLU()), Module[ChannelRMS, ChannelRMS])
of_sum: Module[tuple[RMS, ...], RMS] = a() @ Add()
assert_type(b() @ (a() @ Add()) @ (e(), e()), Module[OneHot, Linf])
assert_type(
    a() @ Add() @ ((a(), a(), a(), a(), a(), a(), a(), a(), a()) @ e()), Module[OneHot, RMS]
)
assert_type(a() @ Add() @ (e(), e()), Module[OneHot, RMS])
assert_type(a() @ Add() @ (Identity(), a()), Module[RMS, RMS])
assert_type(d() @ Add() @ (Identity(), ReLU()), Module[Linf, Linf])
assert_type(a() @ Add() @ (a(), a(), a(), a(), a(), a(), a(), a(), a(), a()), Module[RMS, RMS])
assert_type(ReLU() @ Add(), Add)
assert_type(ReLU() @ Add() @ (a(), a()), Module[RMS, RMS])
assert_type(Identity() @ Add() @ (a(), a()), Module[RMS, RMS])
assert_type(Identity() @ Add(), Add)
assert_type(Add() @ Identity() @ (a(), a()), Module[RMS, RMS])
assert_type(0.5 * Add() @ (a(), a()), Module[RMS, RMS])
assert_type((Add() / 2) @ (a(), a()), Module[RMS, RMS])
assert_type((Add() * 0.5) @ (a(), a()), Module[RMS, RMS])
assert_type(Add() @ (Identity(), Mul(2.0)), Transparent)
assert_type(Add() @ (Identity(), ReLU()), Elementwise)
assert_type(Embed(3, 9) @ (Identity() @ Enumerate()), Module[OneHot, RMS])
of_sum_2: Module[tuple[RMS, ...], tuple[RMS, Linf]] = (a(), b()) @ Add()
of_sum_3: Module[tuple[RMS, ...], tuple[RMS, Linf, RMS]] = (a(), b(), a()) @ Add()
of_sum_4: Module[tuple[RMS, ...], tuple[RMS, ...]] = (a(), a(), a(), a()) @ Add()
assert_type((a(), b()) @ Add() @ (e(), e()), Module[OneHot, tuple[RMS, Linf]])
assert_type((a(), b(), a()) @ Add() @ (e(), e()), Module[OneHot, tuple[RMS, Linf, RMS]])
assert_type((a(), a(), a(), a()) @ Add() @ (e(), e()), Module[OneHot, tuple[RMS, ...]])
Add() @ (a(), b())  # E: the codomains differ
Add() @ (a(), e())  # E: the domains differ
Add() @ (a(), a(), a(), b())  # E: the last codomain differs
Add() @ a()  # E: Add takes a tuple
Add() @ ReLU()  # E: ReLU gives no tuple
Add() @ (a() @ ReLU())  # E: Add takes a tuple
a() @ Add() @ (b(), b())  # E: Linf is not RMS
a() @ Add() @ (a(), e())  # E: the domains differ
a() @ Add() @ a()  # E: Add takes a tuple
i() @ Add() @ (a(), a())  # E: features are not images
d() @ Add() @ (b(), Identity())  # E: Identity takes Linf, the other RMS
d() @ Add() @ (ReLU(), b())  # E: ReLU takes Linf, the other RMS
i() @ (a() @ Add())  # E: features are not images
i() @ (a() @ Add()) @ (e(), e())  # E: features are not images
a() @ Add() @ ((b(), b(), b(), b(), b(), b(), b(), b(), b()) @ e())  # E: Linf is not RMS
Add() @ ((a(), b()) @ e())  # E: the codomains differ
Add() @ ((a(), b(), b()) @ e())  # E: the codomains differ
assert_type(a() @ (Add() @ ((a(), a()) @ e())), Module[OneHot, RMS])
assert_type(a() @ Add() @ ((a(),) @ e()), Module[OneHot, RMS])
assert_type(a() @ Add() @ ((a(), a()) @ e()), Module[OneHot, RMS])
assert_type(a() @ Add() @ ((a(), a(), a()) @ e()), Module[OneHot, RMS])
assert_type(a() @ Add() @ ((a(), a(), a(), a()) @ e()), Module[OneHot, RMS])
a() @ Add() @ ((b(),) @ e())  # E: Linf is not RMS
a() @ Add() @ ((b(), b()) @ e())  # E: Linf is not RMS
a() @ Add() @ ((b(), b(), b()) @ e())  # E: Linf is not RMS
a() @ Add() @ ((b(), b(), b(), b()) @ e())  # E: Linf is not RMS
a() @ Add() @ ((a(), b()) @ e())  # E: the codomains differ
a() @ Add() @ ((a(), a(), a(), a(), a()) @ e())  # E static: Add has met its codomain, and a tuple
# of unknown length is not one of five
assert_type(a() @ (Add() @ ((a(), a(), a(), a(), a()) @ e())), Module[OneHot, RMS])
(a(), e()) @ Add()  # E: the domains differ
(a(), b(), e()) @ Add()  # E: the domains differ
assert_type(Add() @ ((a(),) @ e()), Module[OneHot, RMS])
assert_type(Add() @ ((a(), a()) @ e()), Module[OneHot, RMS])
assert_type(Add() @ ((a(), a(), a()) @ e()), Module[OneHot, RMS])
assert_type(Add() @ ((a(), a(), a(), a()) @ e()), Module[OneHot, RMS])
assert_type(Add() @ ((a(), a(), a(), a(), a()) @ e()), Module[OneHot, RMS])
assert_type(Add() @ ((a(), a(), a(), a(), a(), a()) @ e()), Module[OneHot, RMS])
assert_type(Add() @ ((a(), a(), a(), a(), a(), a(), a()) @ e()), Module[OneHot, RMS])
assert_type(Add() @ ((a(), a(), a(), a(), a(), a(), a(), a()) @ e()), Module[OneHot, RMS])

# Bonds without a neighbour compose with tuples of up to three, and of any length if all are equal.
assert_type(Identity() @ (a(), b()), Module[RMS, tuple[RMS, Linf]])
assert_type(Mul(2.0) @ (a(), b(), a()), Module[RMS, tuple[RMS, Linf, RMS]])
assert_type(Identity() @ (a(), a(), a(), a()), Module[RMS, tuple[RMS, ...]])
assert_type((a(), b()) @ ReLU(), Module[RMS, tuple[RMS, Linf]])
assert_type((a(), b(), a()) @ ReLU(), Module[RMS, tuple[RMS, Linf, RMS]])
assert_type((a(), a(), a(), a()) @ ReLU(), Module[RMS, tuple[RMS, ...]])
assert_type((e(), e()) @ Identity(), Module[OneHot, tuple[RMS, RMS]])
assert_type((e(), Identity(), e()) @ Identity(), Module[OneHot, tuple[RMS, OneHot, RMS]])
assert_type((e(), e(), e(), e()) @ Identity(), Module[OneHot, tuple[RMS, ...]])
assert_type((a(), b()) @ ReLU() @ e(), Module[OneHot, tuple[RMS, Linf]])
(e(), e()) @ ReLU()  # E: ids hold no real vectors
(e(), e(), e()) @ ReLU()  # E: ids hold no real vectors
(e(), e(), e(), e()) @ ReLU()  # E: ids hold no real vectors
(a(), e()) @ ReLU()  # E: the domains differ
(a(), e()) @ Identity()  # E: the domains differ
(a(), b(), e()) @ Identity()  # E: the domains differ
Identity() @ (a(), e())  # E: the domains differ
Mul(2.0) @ (a(), b(), e())  # E: the domains differ
(  # E static: more than three that differ, next to a bond that has no neighbour yet
    a(),
    b(),
    a(),
    c(),
) @ ReLU()
assert_type((a(), b(), a(), c()) @ (ReLU() @ a()), Module[RMS, tuple[RMS, Linf, RMS, L2]])

# Concatenation is the same as the tuple.
assert_type(Concatenation(a()), Concatenation[RMS, tuple[RMS]])
assert_type(Concatenation(a(), b()), Concatenation[RMS, tuple[RMS, Linf]])
assert_type(Concatenation(e(), e()) @ Enumerate(), Module[OneHot, tuple[RMS, RMS]])
assert_type(2 * Concatenation(a(), b()), Module[RMS, tuple[RMS, Linf]])
assert_type(Concatenation(a(), b(), a()), Concatenation[RMS, tuple[RMS, Linf, RMS]])
assert_type(Concatenation(a(), b(), a(), c()), Concatenation[RMS, tuple[RMS, Linf, RMS, L2]])
assert_type(
    Concatenation(a(), b(), a(), c(), a()), Concatenation[RMS, tuple[RMS, Linf, RMS, L2, RMS]]
)
assert_type(
    Concatenation(a(), b(), a(), c(), a(), b()),
    Concatenation[RMS, tuple[RMS, Linf, RMS, L2, RMS, Linf]],
)
assert_type(
    Concatenation(a(), b(), a(), c(), a(), b(), a()),
    Concatenation[RMS, tuple[RMS, Linf, RMS, L2, RMS, Linf, RMS]],
)
assert_type(
    Concatenation(a(), b(), a(), c(), a(), b(), a(), c()),
    Concatenation[RMS, tuple[RMS, Linf, RMS, L2, RMS, Linf, RMS, L2]],
)
assert_type(
    Concatenation(a(), a(), a(), a(), a(), a(), a(), a(), a()), Concatenation[RMS, tuple[RMS, ...]]
)


class Halves(Concatenation[RMS, tuple[RMS, Linf]]):
    """A concatenation with arguments of its own."""

    def __init__(self, width: int) -> None:
        super().__init__(Linear(width, 3), Linear(width, 3, codomain=Linf))


assert_type(Halves(8), Halves)
assert_type(Halves(8) @ a(), Module[RMS, tuple[RMS, Linf]])
e() @ Halves(8)  # E: a tuple holds no ids
Halves(a(), b())  # E: it takes a width
Concatenation(a(), e())  # E: the last takes ids
Concatenation(a(), b(), e())  # E: the last takes ids
Concatenation(a(), b(), a(), e())  # E: the last takes ids
Concatenation(a(), b(), a(), c(), e())  # E: the last takes ids
Concatenation(a(), b(), a(), c(), a(), e())  # E: the last takes ids
Concatenation(a(), b(), a(), c(), a(), b(), e())  # E: the last takes ids
Concatenation(a(), b(), a(), c(), a(), b(), a(), e())  # E: the last takes ids
Concatenation(a(), a(), a(), a(), a(), a(), a(), a(), e())  # E: the last takes ids
Concatenation()  # E: at least one module
Concatenation(torch.nn.ReLU())  # E: a torch.nn module declares no norms
(a(), torch.nn.ReLU()) @ a()  # E: a torch.nn module declares no norms
Add() @ (a(), torch.nn.ReLU())  # E: a torch.nn module declares no norms
(a(), 3) @ a()  # E: a number is no module
(a(), Tanh) @ a()  # E: a class is no module
