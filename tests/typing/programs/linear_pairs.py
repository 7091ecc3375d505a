"""`Linear` with every pair of norms: pairs without a duality map are refused."""

from typing import assert_type

from modula import L1, L2, RMS, ChannelRMS, HeadRMS, Linear, Linf, Module, OneHot, VectorNorm

assert_type(Linear(3, 4, domain=RMS, codomain=RMS), Linear[RMS, RMS])
assert_type(Linear(3, 4, domain=RMS, codomain=Linf), Linear[RMS, Linf])
assert_type(Linear(3, 4, domain=L1, codomain=RMS), Linear[L1, RMS])
assert_type(Linear(3, 4, domain=L1, codomain=L1), Linear[L1, L1])
assert_type(Linear(3, 4, domain=L1, codomain=L2), Linear[L1, L2])
assert_type(Linear(3, 4, domain=L1, codomain=Linf), Linear[L1, Linf])
assert_type(Linear(3, 4, domain=L2, codomain=L2), Linear[L2, L2])
assert_type(Linear(3, 4, domain=L2, codomain=Linf), Linear[L2, Linf])
assert_type(Linear(3, 4, domain=Linf, codomain=Linf), Linear[Linf, Linf])
assert_type(Linear(3, 4, domain=L1), Linear[L1, RMS])
assert_type(Linear(3, 4, domain=RMS), Linear[RMS, RMS])
assert_type(Linear(3, 4, codomain=RMS), Linear[RMS, RMS])
assert_type(Linear(3, 4, codomain=Linf), Linear[RMS, Linf])
assert_type(Linear(3, 4, domain=L2, codomain=Linf, mass=2.0), Linear[L2, Linf])
assert_type(Linear(3, 4, domain=L1, codomain=L2, device="cpu"), Linear[L1, L2])
assert_type(Linear(3, 4, domain=L2, codomain=L2, dtype=None), Linear[L2, L2])

Linear(3, 4, domain=OneHot, codomain=OneHot)  # E: the outputs of a linear map are not ids
Linear(3, 4, domain=OneHot, codomain=RMS)  # E: ids are looked up by Embed
Linear(3, 4, domain=OneHot, codomain=L1)  # E: ids are looked up by Embed
Linear(3, 4, domain=OneHot, codomain=L2)  # E: ids are looked up by Embed
Linear(3, 4, domain=OneHot, codomain=Linf)  # E: ids are looked up by Embed
Linear(3, 4, domain=OneHot, codomain=ChannelRMS)  # E: ids are looked up by Embed
Linear(3, 4, domain=OneHot, codomain=HeadRMS)  # E: ids are looked up by Embed
Linear(3, 4, domain=RMS, codomain=OneHot)  # E: the outputs of a linear map are not ids
Linear(3, 4, domain=RMS, codomain=L1)  # E: RMS to L1 has no duality map
Linear(3, 4, domain=RMS, codomain=L2)  # E: RMS to L2 has no duality map
Linear(3, 4, domain=RMS, codomain=ChannelRMS)  # E: images are mapped by Conv2D
Linear(3, 4, domain=RMS, codomain=HeadRMS)  # E: heads come from SplitIntoHeads
Linear(3, 4, domain=L1, codomain=OneHot)  # E: the outputs of a linear map are not ids
Linear(3, 4, domain=L1, codomain=ChannelRMS)  # E: images are mapped by Conv2D
Linear(3, 4, domain=L1, codomain=HeadRMS)  # E: heads come from SplitIntoHeads
Linear(3, 4, domain=L2, codomain=OneHot)  # E: the outputs of a linear map are not ids
Linear(3, 4, domain=L2, codomain=RMS)  # E: L2 to RMS has no duality map
Linear(3, 4, domain=L2, codomain=L1)  # E: L2 to L1 has no duality map
Linear(3, 4, domain=L2, codomain=ChannelRMS)  # E: images are mapped by Conv2D
Linear(3, 4, domain=L2, codomain=HeadRMS)  # E: heads come from SplitIntoHeads
Linear(3, 4, domain=Linf, codomain=OneHot)  # E: the outputs of a linear map are not ids
Linear(3, 4, domain=Linf, codomain=RMS)  # E: Linf to RMS has no duality map
Linear(3, 4, domain=Linf, codomain=L1)  # E: Linf to L1 has no duality map
Linear(3, 4, domain=Linf, codomain=L2)  # E: Linf to L2 has no duality map
Linear(3, 4, domain=Linf, codomain=ChannelRMS)  # E: images are mapped by Conv2D
Linear(3, 4, domain=Linf, codomain=HeadRMS)  # E: heads come from SplitIntoHeads
Linear(3, 4, domain=ChannelRMS, codomain=OneHot)  # E: the outputs of a linear map are not ids
Linear(3, 4, domain=ChannelRMS, codomain=RMS)  # E: images are mapped by Conv2D
Linear(3, 4, domain=ChannelRMS, codomain=L1)  # E: images are mapped by Conv2D
Linear(3, 4, domain=ChannelRMS, codomain=L2)  # E: images are mapped by Conv2D
Linear(3, 4, domain=ChannelRMS, codomain=Linf)  # E: images are mapped by Conv2D
Linear(3, 4, domain=ChannelRMS, codomain=ChannelRMS)  # E: images are mapped by Conv2D
Linear(3, 4, domain=ChannelRMS, codomain=HeadRMS)  # E: images are mapped by Conv2D
Linear(3, 4, domain=HeadRMS, codomain=OneHot)  # E: the outputs of a linear map are not ids
Linear(3, 4, domain=HeadRMS, codomain=RMS)  # E: heads come from SplitIntoHeads
Linear(3, 4, domain=HeadRMS, codomain=L1)  # E: heads come from SplitIntoHeads
Linear(3, 4, domain=HeadRMS, codomain=L2)  # E: heads come from SplitIntoHeads
Linear(3, 4, domain=HeadRMS, codomain=Linf)  # E: heads come from SplitIntoHeads
Linear(3, 4, domain=HeadRMS, codomain=ChannelRMS)  # E: images are mapped by Conv2D
Linear(3, 4, domain=HeadRMS, codomain=HeadRMS)  # E: heads come from SplitIntoHeads
Linear(3, 4, domain=OneHot)  # E: ids are looked up by Embed
Linear(3, 4, domain=L2)  # E: L2 to RMS has no duality map
Linear(3, 4, domain=Linf)  # E: Linf to RMS has no duality map
Linear(3, 4, domain=ChannelRMS)  # E: images are mapped by Conv2D
Linear(3, 4, domain=HeadRMS)  # E: heads come from SplitIntoHeads
Linear(3, 4, codomain=OneHot)  # E: the outputs of a linear map are not ids
Linear(3, 4, codomain=L1)  # E: RMS to L1 has no duality map
Linear(3, 4, codomain=L2)  # E: RMS to L2 has no duality map
Linear(3, 4, codomain=ChannelRMS)  # E: images are mapped by Conv2D
Linear(3, 4, codomain=HeadRMS)  # E: heads come from SplitIntoHeads
Linear(3, 4, domain=VectorNorm, codomain=VectorNorm)  # E: a family of norms is no norm
Linear(3, 4, domain=int)  # E: int is no norm type
Linear(3, 4, codomain="RMS")  # E: a norm type is a class, not its name

# The pairs compose.
assert_type(
    Linear(2, 3, domain=Linf, codomain=Linf) @ Linear(3, 4, codomain=Linf), Module[RMS, Linf]
)
assert_type(Linear(2, 3) @ Linear(3, 4, domain=L1), Module[L1, RMS])
assert_type(
    Linear(2, 3, domain=L1, codomain=L2) @ Linear(3, 4, domain=L1, codomain=L1), Module[L1, L2]
)
assert_type(
    Linear(2, 3, domain=L2, codomain=L2) @ Linear(3, 4, domain=L2, codomain=L2), Module[L2, L2]
)
Linear(2, 3) @ Linear(3, 4, codomain=Linf)  # E: RMS is not Linf
Linear(2, 3, domain=L2, codomain=L2) @ Linear(3, 4)  # E: L2 is not RMS
Linear(2, 3, domain=L1) @ Linear(3, 4)  # E: L1 is not RMS
Linear(2, 3) @ Linear(3, 4, domain=L2, codomain=L2)  # E: RMS is not L2
