"""The checks of `modula.testing`: every part of the library passes, and every law fails for a part
that breaks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from modula import (
    GELU,
    GPT,
    L1,
    L2,
    MLP,
    RMS,
    Abs,
    Add,
    ApplyAttentionScores,
    Atom,
    Attention,
    AttentionQK,
    AvgPool,
    Bias,
    Bond,
    CausalMask,
    ChannelRMS,
    ComposedAttention,
    Concatenation,
    Conv2D,
    Dense,
    Elementwise,
    Embed,
    Enumerate,
    Flatten,
    FunctionalAttention,
    FunctionBond,
    Gain,
    HeadRMS,
    Identity,
    LayerNorm,
    Linear,
    Linf,
    Mean,
    MeanSubtract,
    MergeHeads,
    Module,
    Mul,
    Network,
    OneHot,
    ReLU,
    ResCNN,
    ResMLP,
    RMSNorm,
    Rope,
    SameSpace,
    ScaledGELU,
    ScaledReLU,
    SiLU,
    Softmax,
    SplitIntoHeads,
    SquaredReLU,
    Tanh,
    Ungroup,
    VectorNorm,
)
from modula.checks import Claim
from modula.geometry import (
    BallVectors,
    Geometry,
    Intersection,
    Matrices,
    Reshaped,
    Spectral,
    Stacked,
    Taps,
    Vectors,
    operator_geometry,
)
from modula.graph import Radius
from modula.norms import DualRMS
from modula.polar import SVD, InverseRoot, Method, NewtonSchulz, PolarExpress, Sketch
from modula.spaces import ANYTHING, AnySpace, Signature
from modula.testing import (
    check_atom,
    check_bond,
    check_geometry,
    check_method,
    check_network,
    check_norm,
)
from modula.vector import Gradient, Update
from tests.helpers import PAIRS, rand

MATRIX = Spectral(RMS, RMS)


def heads(count: int, seed: int = 0) -> tuple[Tensor, ...]:
    """That many tensors [batch 1, head 2, position 3, d_head 4]."""
    return tuple(rand(seed + i, 1, 2, 3, 4) for i in range(count))


def small(x: Tensor | tuple) -> Tensor | tuple:
    """The same directions, with no vector of RMS above 1."""
    return tuple(map(small, x)) if isinstance(x, tuple) else x / x.abs().max()


def named(value: object) -> str:
    """The name of a case: a part by its expression, an input by nothing."""
    return "" if isinstance(value, (Tensor, tuple)) else repr(value)


# The parts of the library


@pytest.mark.parametrize("norm", [RMS, L2, L1, Linf, DualRMS, HeadRMS, ChannelRMS])
def test_every_norm_keeps_its_laws(norm):
    check_norm(norm)


OPERATOR_PAIRS = [*PAIRS, *[(OneHot, codomain) for codomain in (RMS, L1, L2, Linf)]]


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (1, 3)], ids=str)
@pytest.mark.parametrize(
    "pair", OPERATOR_PAIRS, ids=lambda pair: "→".join(norm.__name__ for norm in pair)
)
def test_every_pair_is_the_operator_norm_with_its_duality_map(pair, shape):
    assert check_geometry(operator_geometry(*pair), shape, *pair) == pytest.approx(1.0, abs=1e-3)


GEOMETRIES: list[tuple[Geometry, tuple[int, ...]]] = [
    (MATRIX, (33, 40)),
    *[
        (kind(norm, axis=axis), (4, 6))
        for kind in (Vectors, BallVectors)
        for norm in (RMS, L1, L2, Linf)
        for axis in (-1, -2)
    ],
    (Vectors(RMS, axes=1), (5,)),
    (Reshaped(Vectors(RMS, axes=1), 0, (1,)), ()),
    (Vectors(RMS, axes=3, axis=-2), (2, 3, 4)),
    (Taps(), (3, 4, 2, 2)),
    (Taps(), (3, 2, 1, 1)),
    (Stacked(MATRIX, 3), (6, 5)),
    (Stacked(MATRIX, (2, 4)), (6, 5)),
    (Stacked(MATRIX, 2, axis=1), (6, 8)),
    (Stacked(MATRIX, None), (3, 4, 5)),
    (Stacked(Vectors(RMS), None), (3, 4, 5)),
    (Stacked(Stacked(MATRIX, 2), None), (3, 4, 5)),
]


@pytest.mark.parametrize(("geometry", "shape"), GEOMETRIES)
def test_every_geometry_keeps_its_laws(geometry, shape):
    check_geometry(geometry, shape)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7)], ids=str)
def test_an_intersection_keeps_the_laws_of_an_inexact_geometry(shape):
    check_geometry(Intersection(MATRIX, Vectors(RMS)), shape, exact=False)


def test_the_duality_map_of_an_intersection_is_not_the_maximiser():
    with pytest.raises(AssertionError, match="best point of the unit ball"):
        check_geometry(Intersection(MATRIX, Vectors(RMS)), (40, 4))


ATOMS: list[tuple[Atom, Tensor]] = [
    *[(Linear(4, 6, domain=pair[0], codomain=pair[1]), rand(0, 3, 6)) for pair in PAIRS],
    (Embed(4, 5), torch.tensor([[0, 3, 1]])),
    (Conv2D(3, 2), rand(0, 1, 2, 4, 4)),
    (Conv2D(3, 2, 2, stride=2), rand(0, 1, 2, 4, 4)),
    (Bias(4), rand(0, 3, 4)),
    (Gain(4), rand(0, 3, 4)),
]


@pytest.mark.parametrize(("atom", "x"), ATOMS, ids=named)
def test_every_atom_keeps_its_laws_and_attains_its_bound_on_the_weight(atom, x):
    assert check_atom(atom, x).weights == pytest.approx(1.0, abs=1e-3)


PROVED: list[tuple[Bond, Tensor | tuple]] = [
    *[
        (bond, rand(0, 2, 4))
        for bond in (
            ReLU(),
            ScaledReLU(),
            GELU(),
            ScaledGELU(),
            SiLU(),
            Tanh(),
            Abs(),
            Identity(),
            Mul(-1.7),
            MeanSubtract(),
        )
    ],
    (Mean(), rand(0, 2, 3, 4)),
    (Mean(-3), rand(0, 2, 3, 4)),
    (AvgPool(), rand(0, 2, 3, 4, 5)),
    (Flatten(), rand(0, 2, 3, 4, 5)),
    (MergeHeads(), heads(1)[0]),
    (Rope(4), heads(2)),
    (CausalMask(), rand(0, 2, 4, 4)),
    (Softmax(), rand(0, 2, 4, 4)),
    (Softmax(3.0), rand(0, 2, 4, 4)),
    (Ungroup(), (heads(2), heads(1)[0])),
    (Add(), heads(3)),
    (Add(), (heads(2), heads(2, seed=2))),
]


@pytest.mark.parametrize(("bond", "x"), PROVED, ids=named)
def test_every_proved_bond_keeps_its_laws_and_nearly_attains_its_sensitivity(bond, x):
    assert bond.claim == "proved"
    assert check_bond(bond, x).input == pytest.approx(1.0, abs=0.05)


def test_a_bond_on_ids_has_no_directions():
    assert check_bond(Enumerate(), torch.tensor([[3, 1, 2]])).input is None


EVEN = torch.ones(1, 3, 8, dtype=torch.float64)
SCORES = torch.softmax(rand(0, 1, 2, 3, 3), dim=-1)
CONDITIONAL: list[tuple[Bond, Tensor | tuple]] = [
    (SquaredReLU(), rand(0, 2, 4).clamp(-1, 1)),
    (RMSNorm(), 5 * rand(0, 2, 4)),
    (LayerNorm(), 5 * rand(0, 2, 4)),
    (AttentionQK(), small(heads(2))),
    (ApplyAttentionScores(), (small(heads(1)[0]), SCORES)),
    (FunctionalAttention(), small(heads(3))),
    (FunctionBond(torch.sin, domain=RMS, codomain=RMS), rand(0, 2, 4)),
]


@pytest.mark.parametrize(("bond", "x"), CONDITIONAL, ids=named)
def test_every_other_bond_keeps_its_bounds_under_its_condition(bond, x):
    found = check_bond(bond, x)
    assert max(found.input, found.radius) <= 1 + 1e-9


def test_a_bound_that_is_exceeded_beyond_its_condition_is_returned():
    assert check_bond(SplitIntoHeads(2), rand(0, 1, 3, 8)).input == pytest.approx(2**0.5)


METHODS: list[tuple[Method | str, float]] = [
    ("svd", 1e-4),
    ("polar_express", 0.1),
    (PolarExpress(steps=6), 0.1),
    (PolarExpress(accuracy="high"), 0.02),
    (NewtonSchulz(), 1e-4),
    (NewtonSchulz(degree=3), 1e-4),
    (InverseRoot(), 1e-3),
    (InverseRoot(sides="both"), 1e-3),
    (Sketch(), 1e-4),
    (Sketch(tolerance=1e-3), 1e-4),
]


@pytest.mark.parametrize(("method", "tolerance"), METHODS, ids=str)
def test_every_method_keeps_its_laws(method, tolerance):
    assert check_method(method, tolerance=tolerance) <= tolerance


def tied() -> Module:
    table, head = Embed(4, 5), Linear(5, 4)
    head.weight = table.weight
    return head @ RMSNorm() @ table


FEATURES, IDS = rand(0, 2, 6).float(), torch.tensor([[1, 2, 0, 3]])
NETWORKS: list[tuple[Callable[[], Network], Tensor]] = [
    (lambda: Linear(4, 6), FEATURES),
    (lambda: Linear(4, 6).double(), FEATURES.double()),
    (lambda: MLP(3, 6, width=8, depth=3), FEATURES),
    (lambda: ResMLP(3, 6, width=4, num_blocks=2), FEATURES),
    (lambda: GPT(5, d_embed=4, num_heads=1, num_blocks=1), IDS),
    (lambda: ResCNN(3, 2, width=4, num_blocks=2), rand(0, 1, 2, 4, 4).float()),
    (lambda: Attention(8, 2), rand(0, 1, 3, 8).float()),
    (lambda: ComposedAttention(8, 2), rand(0, 1, 3, 8).float()),
    (lambda: Linear(4, 6) + 2.0 * Linear(4, 6), FEATURES),
    (lambda: Concatenation(Linear(3, 6), ReLU() @ Linear(2, 6)), FEATURES),
    (lambda: Linear(4, 5) @ Bias(5) @ Linear(5, 6), FEATURES),
    (lambda: Linear(4, 4) @ (Identity() + Linear(4, 4, mass=0.0)) @ Linear(4, 6), FEATURES),
    (tied, IDS),
    (ReLU, FEATURES),
]


@pytest.mark.parametrize(("make", "x"), NETWORKS, ids=[repr(make()) for make, _ in NETWORKS])
def test_every_network_keeps_its_laws(make, x):
    check_network(make(), x, steps=5)


def test_a_sum_with_the_identity_exceeds_its_coefficients_by_its_first_order_bound_at_most():
    """Whose bound is 1.5: the papers' hypothesis does not hold there."""
    network = Linear(2, 2) @ (Identity() + Linear(2, 2))
    assert check_network(network, rand(0, 3, 2).float()) > 0.8


# What a check leaves alone


@pytest.mark.parametrize("check", [check_atom, check_network])
def test_a_check_leaves_the_part_as_it_was(check):
    layer = Linear(4, 6, mass=0.5)
    before = layer.weight.detach().clone()
    check(layer, FEATURES)
    assert torch.equal(layer.weight, before)
    assert layer.mass == 0.5
    assert layer.weight.grad is None


def test_a_check_draws_none_of_the_run_s_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_network(Linear(4, 6, device="cpu"), FEATURES)
    torch.manual_seed(0)
    check_atom(Linear(4, 6), FEATURES)
    torch.manual_seed(0)
    check_norm(RMS)
    assert torch.equal(torch.rand(3), expected)


def test_a_check_is_the_same_at_each_call():
    assert check_atom(Linear(4, 6), FEATURES) == check_atom(Linear(4, 6), FEATURES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MATRIX, (3,)), r"measures weights of 2 axes"),
        ((MATRIX, (3, 4), RMS), r"both a domain and a codomain"),
        ((Taps(), (3, 4, 1, 1), ChannelRMS, ChannelRMS), r"check the atom that uses it"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_geometry(*arguments)


# Norms that break a law


class Sound(VectorNorm):
    """The Euclidean norm, from which one thing is changed at a time."""

    @classmethod
    def norm(cls, x: Tensor) -> Tensor:
        return L2.norm(x)

    @classmethod
    def dualize(cls, g: Tensor) -> Tensor:
        return L2.dualize(g)


class Squared(Sound):
    @classmethod
    def norm(cls, x):
        return L2.norm(x) ** 2


class Concave(Sound):
    """(Σ √|x|)², which is homogeneous and no norm."""

    @classmethod
    def norm(cls, x):
        return x.abs().sqrt().sum(-1) ** 2

    @classmethod
    def dualize(cls, g):
        return L1.dualize(g)


class HalfDual(Sound):
    @classmethod
    def dualize(cls, g):
        return L2.dualize(g) / 2


class WrongDual(Sound):
    """The sign at norm 1: a point of the unit sphere that is not the best."""

    @classmethod
    def dualize(cls, g):
        return L2.dualize(Linf.dualize(g))


class WrongDualNorm(Sound):
    @classmethod
    def dual_norm(cls, g):
        return 2 * L2.norm(g)


class Amplifying(Sound):
    """The largest entry, whose dual moves entries that have no gradient."""

    @classmethod
    def norm(cls, x):
        return Linf.norm(x)

    @classmethod
    def dualize(cls, g):
        sign_of_the_largest = L1.dualize(g).sum(-1, keepdim=True)
        return torch.where(g == 0, sign_of_the_largest, Linf.dualize(g))


class Underflowing(Sound):
    @classmethod
    def norm(cls, x):
        return x.square().sum(-1).sqrt()


class Hiding(Sound):
    @classmethod
    def dualize(cls, g):
        return L2.dualize(g.nan_to_num())


class NotAtZero(Sound):
    @classmethod
    def dualize(cls, g):
        return g / g.norm(dim=-1, keepdim=True)


class Mixing(Sound):
    """Measures every vector of a batch by the largest."""

    @classmethod
    def norm(cls, x):
        return L2.norm(x).amax().expand(x.shape[:-1])


class OneAxis(Sound):
    @classmethod
    def norm(cls, x):
        return L2.norm(x) if x.dim() == 2 else 2 * L2.norm(x)


class Upcasting(Sound):
    @classmethod
    def dualize(cls, g):
        return L2.dualize(g.double())


class WrongMeasure(Sound):
    @classmethod
    def measure(cls, x):
        return cls.norm(x).mean()


class WrongDualType(Sound):
    dual = Squared


class NoWayBack(Sound):
    dual = L2


@pytest.mark.parametrize(
    ("norm", "law"),
    [
        (Squared, r"norm\(c·x\) = \|c\|·norm\(x\)"),
        (Concave, r"norm\(x \+ y\) ≤ norm\(x\) \+ norm\(y\)"),
        (HalfDual, r"norm\(dualize\(g\)\) = 1"),
        (WrongDual, "best point of the unit ball"),
        (WrongDualNorm, r"<g, dualize\(g\)> = dual_norm\(g\)"),
        (Amplifying, "dualize is zero where the gradient is zero"),
        (Underflowing, "norm.* at c = 1e-20 in float32"),
        (Hiding, "dualize of a value with an entry nan is not finite"),
        (NotAtZero, r"dual_norm\(0\) = 0"),
        (Mixing, r"norm"),
        (OneAxis, "norm takes any number of axes before the last"),
        (Upcasting, "dualize keeps the dtype"),
        (WrongMeasure, "measure is the largest norm of a vector on axis -1"),
        (WrongDualType, r"WrongDualType\.dual measures the dual norm"),
        (NoWayBack, r"NoWayBack\.dual\.dual is NoWayBack"),
    ],
)
def test_a_norm_that_breaks_a_law_fails_by_name(norm, law):
    with pytest.raises(AssertionError, match=law):
        check_norm(norm)


def test_the_norm_from_which_the_others_are_made_is_sound():
    check_norm(Sound)


def test_a_message_names_the_part_the_numbers_and_the_tolerance():
    with pytest.raises(
        AssertionError, match=r"HalfDual: .*got 0\.5, expected 1: .* 0\.5, tolerance 1e-08"
    ):
        check_norm(HalfDual)


# Geometries that break a law


@dataclass(frozen=True)
class Rows(Vectors):
    """The largest row, from which one thing is changed at a time."""

    vector_norm: type[Dense] = L2

    def sample(self, shape, generator, device):
        return Vectors(L2).sample(shape, generator, device)


class NotIdempotent(Rows):
    def project(self, weight):
        return 0.5 * super().project(weight) + 0.1 * weight / weight.abs().amax().clamp(min=1)


class BeyondTheBall(Rows):
    def project(self, weight):
        return 2 * super().project(weight)


class SmallSample(Rows):
    def sample(self, shape, generator, device):
        return super().sample(shape, generator, device) / 2


class Irreproducible(Rows):
    def sample(self, shape, generator, device):
        return super().sample(shape, None, device)


class WrongVectorAxis(Rows):
    """Rows that say that each column is treated by itself."""

    @property
    def vector_axis(self):
        return 0


class ByEntries(Rows):
    """A consistent pair of norms whose dual is that of single entries."""

    def dualize(self, gradient, method=None):
        t = gradient.sign() * (gradient.abs() / gradient.abs())
        t = torch.where(gradient == 0, 0, t)
        length = L2.norm(t).unsqueeze(-1)
        return t / torch.where(length == 0, 1, length)

    def dual_norm(self, gradient):
        return (gradient * self.dualize(gradient)).flatten(1).sum(1)


class RoughByDefault(Rows):
    def dualize(self, gradient, method=None):
        exact = super().dualize(gradient)
        return exact if method == "svd" else 0.5 * exact


class WrongParts(Spectral):
    def orthogonal_parts(self, gradient):
        found = super().orthogonal_parts(gradient)
        return Matrices(found.matrices, [2 * radius for radius in found.radii])


class Identified(Spectral):
    """A geometry that is a key of its own."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


@pytest.mark.parametrize(
    ("geometry", "law"),
    [
        (NotIdempotent(), "project keeps what it returned"),
        (BeyondTheBall(), r"norm\(project\(w\)\) ≤ 1"),
        (SmallSample(), r"norm\(sample\) = 1"),
        (Irreproducible(), "sample is the same for the same random numbers"),
        (WrongVectorAxis(), "of the shards along axis 1, as vector_axis=0 promises"),
        (ByEntries(), "best point of the unit ball"),
        (RoughByDefault(), "with the default method"),
        (WrongParts(RMS, RMS), "orthogonal_parts and from_orthogonal_parts make up dualize"),
        (Identified(RMS, RMS), "the same key of a dict"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_geometry_that_breaks_a_law_fails_by_name(geometry, law):
    with pytest.raises(AssertionError, match=law):
        check_geometry(geometry, (4, 6))


def test_a_norm_that_is_smaller_than_that_of_the_map_fails():
    with pytest.raises(AssertionError, match=r"‖W·x‖ ≤ norm\(W\)·‖x‖ from RMS to RMS"):
        check_geometry(Vectors(RMS), (4, 6), RMS, RMS)


# Bonds that break a law


class ProvedBond(Bond[RMS, RMS]):
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


class TooInsensitive(ProvedBond):
    def forward(self, x):
        return 2 * torch.tanh(x)


class Jumping(ProvedBond):
    """Steps, whose derivative is zero wherever there is one."""

    def forward(self, x):
        return x.round()


class TooFar(ProvedBond):
    def forward(self, x):
        return torch.tanh(x) + 3


class Trained(ProvedBond):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(4, 4)


class Forgetful(ProvedBond):
    """Says less of its spaces the second time."""

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        found = super().unify(domain, codomain)
        return found if domain == ANYTHING else (ANYTHING, found[1])


class Narrowing(SameSpace[RMS, RMS]):
    """Promises an output as wide as its input."""

    def forward(self, x):
        return x[..., 1:]


class UnderOneNorm(Elementwise):
    """The mean over entries, which no norm but RMS and Linf allows."""

    claim: Claim = "proved"

    def forward(self, x):
        return x.mean(dim=-1, keepdim=True).expand_as(x) * x.shape[-1] ** 0.5


@pytest.mark.parametrize(
    ("bond", "law"),
    [
        (TooInsensitive(), r"‖∂f·Δx‖ ≤ s·‖Δx‖ in RMS → RMS, s = 1"),
        (Jumping(), r"‖∂f·Δx‖ ≤ s·‖Δx‖"),
        (TooFar(), r"‖f\(x\)‖ ≤ radius\(‖x‖\)"),
        (Trained(), "a bond has nothing to train.* inside.weight, inside.bias"),
        (Forgetful(), "unify"),
        (Narrowing(), "the output lies in the codomain"),
        (UnderOneNorm(), r"‖∂f·Δx‖ ≤ s·‖Δx‖ in"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_bond_that_breaks_a_law_fails_by_name(bond, law):
    with pytest.raises(AssertionError, match=law):
        check_bond(bond, rand(0, 3, 4))


@pytest.mark.parametrize("claim", ["conditional", "estimate"])
def test_a_bond_that_claims_no_proof_is_told_how_far_it_is_off(claim):
    bond = TooInsensitive()
    bond.claim = claim
    assert check_bond(bond, torch.zeros(3, 4)).input == pytest.approx(2.0)


# Atoms that break a law


class Scaled(Atom[RMS, RMS]):
    """A gain, from which one thing is changed at a time."""

    claim: Claim = "proved"

    def __init__(self, d: int = 4) -> None:
        super().__init__((d,), BallVectors(Linf, axes=1), fan_out=d, fan_in=d)

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        if not self.weight.is_meta:
            self.weight.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        return self.weight * x


class TooLoud(Scaled):
    def forward(self, x):
        return 2 * super().forward(x)


class TooSmallRadius(Scaled):
    def radius(self, *inputs: Radius) -> Radius:
        return 0.5


class TooSmallWeightSensitivity(Scaled):
    def weight_sensitivity(self, *inputs: Radius) -> float:
        return 0.1


class Untrained(Scaled):
    def forward(self, x):
        self.check_width(x)
        return x + 0 * self.weight


class WithoutWidthCheck(Scaled):
    def forward(self, x):
        return self.weight * x


class LargeAtBirth(Scaled):
    def initialize_weight(self, generator: torch.Generator | None) -> None:
        self.weight.fill_(3.0)


class AtRandom(Scaled):
    """Draws from other random numbers than it is given."""

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        self.weight.copy_(torch.rand(4))


class NotLoading(Scaled):
    def load_state_dict(self, *arguments: object, **options: object) -> None:
        """Load nothing."""


class SharedByCopies(Scaled):
    """Copies keep the very tensor, once it has been trained."""

    def __deepcopy__(self, memo: dict[int, object]) -> SharedByCopies:
        twin = SharedByCopies()
        twin.weight = nn.Parameter(self.weight.detach().clone())
        if not self.weight.is_meta and bool((self.weight == 0).any()):
            twin.weight = self.weight
        return twin


class WrongAxes(Scaled):
    def __init__(self) -> None:
        super().__init__()
        self.geometry = Vectors(Linf, axes=2)


@pytest.mark.parametrize(
    ("atom", "law"),
    [
        (TooLoud(), r"‖∂f·Δx‖ ≤ s·‖Δx‖ at ‖w‖ = 1"),
        (TooSmallRadius(), r"‖f\(x\)‖ ≤ radius\(‖x‖\)"),
        (TooSmallWeightSensitivity(), r"‖∂f·Δw‖ ≤ weight_sensitivity"),
        (Untrained(), "a gradient reaches the weight"),
        (WithoutWidthCheck(), "an input of another width is refused"),
        (LargeAtBirth(), "a fresh weight has norm at most 1"),
        (AtRandom(), "initialize draws the same weight from the same random numbers"),
        (NotLoading(), "load_state_dict keeps the map"),
        (SharedByCopies(), "makes a weight of its own"),
        (WrongAxes(), "as many axes as the geometry measures"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_atom_that_breaks_a_law_fails_by_name(atom, law):
    with pytest.raises(AssertionError, match=law):
        check_atom(atom, rand(0, 3, 4))


def test_the_atom_from_which_the_others_are_made_is_sound():
    check_atom(Scaled(), rand(0, 3, 4))


# Methods that break a law


@dataclass(frozen=True)
class Inexact(SVD):
    factor: float = 0.9

    def __call__(self, X: Tensor) -> Tensor:
        return self.factor * super().__call__(X)


@dataclass(frozen=True)
class QR(Method):
    """A matrix with orthonormal rows that is not UVᵀ."""

    def __call__(self, X: Tensor) -> Tensor:
        return (
            torch.linalg.qr(X.mT).Q.mT * (X != 0).any(-1, keepdim=True) + 0 * X.sum(-1)[..., None]
        )


@dataclass(frozen=True)
class Decomposing(Method):
    """A singular value decomposition that cannot take NaN."""

    def __call__(self, X: Tensor) -> Tensor:
        U, S, Vh = torch.linalg.svd(X, full_matrices=False)
        return (U * (S > 1e-6).unsqueeze(-2)) @ Vh


@dataclass(frozen=True)
class Raising(SVD):
    """Returns a value for zero."""

    def __call__(self, X: Tensor) -> Tensor:
        return torch.where((X == 0).all(-1).all(-1)[:, None, None], 0.1, super().__call__(X))


@dataclass(frozen=True)
class Spreading(SVD):
    """One broken matrix breaks its batch."""

    def __call__(self, X: Tensor) -> Tensor:
        found = super().__call__(X)
        return found + 0 * found.sum(dim=0)


@dataclass(frozen=True)
class Overwriting(SVD):
    def on_batch(self, matrices):
        found = super().on_batch(matrices)
        for part in matrices.parts:
            part.zero_()
        return found


@dataclass(frozen=True)
class PaddedWrongly(SVD):
    """Fills zeros of the batch, and says that it takes padding."""

    def __call__(self, X: Tensor) -> Tensor:
        rows = (X != 0).any(-1, keepdim=True) | (X == 0).all(-1).all(-1)[:, None, None]
        return torch.where(rows, super().__call__(X), 0.5)


@pytest.mark.parametrize(
    ("method", "law"),
    [
        (Inexact(), "the result is UVᵀ"),
        (QR(), "the result is UVᵀ"),
        (Decomposing(), "becomes NaN, and no other matrix changes: it raised"),
        (Raising(), "a matrix of zeros stays zero"),
        (Spreading(), "becomes NaN, and no other matrix changes"),
        (Overwriting(), "orthogonalize keeps its caller's matrices"),
        (PaddedWrongly(), "takes_padding: rows and columns of zeros stay zero"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_method_that_breaks_a_law_fails_by_name(method, law):
    with pytest.raises(AssertionError, match=law):
        check_method(method)


# Networks that break a law


class Twisted(Linear):
    """A network of one layer, from which one thing is changed at a time."""

    def __init__(self) -> None:
        super().__init__(4, 6)


class HalfUpdate(Twisted):
    def dualize(self, grad: Gradient, *args: object, **options: object) -> Update:
        return 0.5 * super().dualize(grad, *args, **options)


class WrongDualNormOfAll(Twisted):
    def dual_norm(self, grad: Gradient) -> Tensor:
        return 2 * super().dual_norm(grad)


class WrongGradient(Twisted):
    def gradient(self, loss: Tensor | None = None) -> Gradient:
        return 2 * super().gradient(loss) if loss is not None else super().gradient()


class TooSmallSensitivity(Twisted):
    sensitivity = 0.1


class WrongSum(Twisted):
    """Declares one sensitivity to its graph and another to the reader."""

    def sensitivities(self) -> tuple[float, ...]:
        return (2.0,)


class LeavingHooks(Twisted):
    def observe(self, *inputs):
        self.register_forward_hook(lambda *_: None)
        return super().observe(*inputs)


class CopyingMass(Twisted):
    def __deepcopy__(self, memo: dict[int, object]) -> CopyingMass:
        twin = CopyingMass()
        twin.mass = 0.0
        return twin


class TooSmallBound(Twisted):
    def first_order_bound(self, entering: Radius | None = None) -> float:
        return 0.01


class StaleWeights(Twisted):
    """Weights that are copies of the parameters."""

    @property
    def weights(self):
        return super().weights.clone()


@pytest.mark.parametrize(
    ("network", "law"),
    [
        (HalfUpdate(), r"norm\(dualize\(g\)\) = 1"),
        (WrongDualNormOfAll(), r"<g, dualize\(g\)> = dual_norm\(g\)"),
        (WrongGradient(), r"gradient\(loss\) is what loss.backward\(\) leaves"),
        (TooSmallSensitivity(), r"‖∂f·Δx‖ ≤ sensitivity·‖Δx‖"),
        (WrongSum(), "the sensitivity is the sum over all paths"),
        (LeavingHooks(), "observe leaves no hooks"),
        (CopyingMass(), "deepcopy keeps names and coefficients"),
        (TooSmallBound(), r"‖∂f·Δw‖ ≤ first_order_bound"),
        (StaleWeights(), "is a weight|is a parameter"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_network_that_breaks_a_law_fails_by_name(network, law):
    with pytest.raises(AssertionError, match=law):
        check_network(network, FEATURES)
