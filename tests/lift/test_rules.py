"""The operation that reads a weight determines its norm, whatever its name and number of axes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import modula
from modula import RMS, LiftError, Linf
from modula.geometry import (
    BallVectors,
    Flattened,
    Geometry,
    Intersection,
    Reshaped,
    Spectral,
    Stacked,
    Taps,
    Transposed,
    Vectors,
)
from modula.lift import Role, Use, register_rule
from modula.lift.rules import base
from modula.norms import DualRMS
from tests.lift.models import (
    LSTM,
    Experts,
    GRULoop,
    LoRA,
    NanoGPT,
    ResNet,
    UNet,
    features,
    ids,
    vision,
)

MATRIX = Spectral(RMS, RMS)
ROWS = Vectors(RMS)


class Parametric(nn.Module):
    """A function of one parameter and the input."""

    def __init__(self, shape: tuple[int, ...], f: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(shape) / 3)
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(self.w, x)


def norms(model: nn.Module, *args: object, **options: object) -> dict[str, Geometry]:
    net = modula.lift(model, *args, calibrate="flat", **options)
    return {name: weight.geometry for name, weight in net.graph().weights.items()}


def norm(shape: tuple[int, ...], f: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Geometry:
    return norms(Parametric(shape, f), x)["w"]


def split_three(w: Tensor, x: Tensor) -> Tensor:
    q, k, v = F.linear(x, w).split([4, 2, 2], dim=-1)
    return q.sum(-1) + (k * v).sum(-1)


def per_head(w: Tensor, x: Tensor) -> Tensor:
    y = F.linear(x, w).view(len(x), 2, 3, 2)  # head, then query, key and value
    q, k, v = y.unbind(2)
    return q * k.tanh() + v.relu()


def with_bias(w: Tensor, x: Tensor) -> Tensor:
    gate, up = (x @ w + torch.ones(8)).chunk(2, dim=-1)
    return F.silu(gate) * up


def whole_is_read_too(w: Tensor, x: Tensor) -> Tensor:
    y = F.linear(x, w)
    first, second = y.chunk(2, dim=-1)
    return torch.cat([-second, first], -1) + y.tanh()


def rotated(w: Tensor, x: Tensor) -> Tensor:
    q, k = F.linear(x, w).split([4, 2], dim=-1)
    first, second = q.chunk(2, dim=-1)
    return (q * q.tanh() + torch.cat([-second, first], -1)).sum(-1) * k.relu().sum(-1)


def parts_of_weight(w: Tensor, x: Tensor) -> Tensor:
    q, rest = w[:2], w[2:]
    return torch.cat([F.linear(x, q).relu(), F.linear(x, rest).tanh()], -1)


X = features(6)
IMAGE = vision()
CASES: dict[str, tuple[tuple[int, ...], Callable[[Tensor, Tensor], Tensor], Tensor, Geometry]] = {
    "linear": ((4, 6), lambda w, x: F.linear(x, w), X, MATRIX),
    "x @ W": ((6, 4), lambda w, x: x @ w, X, Transposed(MATRIX)),
    "x @ W.T": ((4, 6), lambda w, x: x @ w.T, X, MATRIX),
    "W @ x": ((4, 6), lambda w, x: w @ x.T, X, MATRIX),
    "linear of W.T": ((6, 4), lambda w, x: F.linear(x, w.t()), X, Transposed(MATRIX)),
    "addmm": ((6, 4), lambda w, x: torch.addmm(x.new_ones(4), x, w), X, Transposed(MATRIX)),
    "to one number": ((6,), lambda w, x: x @ w, X, Vectors(DualRMS, axes=1)),
    "one output": ((1, 6), lambda w, x: F.linear(x, w), X, MATRIX),
    "scaled": ((4, 6), lambda w, x: F.linear(x, 2 * w), X, MATRIX),
    "16 bits and back": ((4, 6), lambda w, x: F.linear(x, w.bfloat16().float()), X, MATRIX),
    "unequal blocks": ((8, 6), split_three, X, Stacked(MATRIX, (4, 2, 2))),
    "blocks of heads": ((12, 6), per_head, X, Stacked(MATRIX, 6)),
    "gate and up, bias between": ((6, 8), with_bias, X, Transposed(Stacked(MATRIX, 2))),
    "glu": ((8, 6), lambda w, x: F.glu(F.linear(x, w)), X, Stacked(MATRIX, 2)),
    "read as a whole too": ((8, 6), whole_is_read_too, X, MATRIX),
    "a block that is cut further": ((6, 6), rotated, X, Stacked(MATRIX, (4, 2))),
    "parts of a weight": ((8, 6), parts_of_weight, X, Stacked(MATRIX, (2, 6))),
    "einsum": (
        (6, 2, 3),
        lambda w, x: torch.einsum("nd,dhe->nhe", x, w),
        X,
        Flattened(Transposed(MATRIX), 1, 2),
    ),
    "einsum from heads": (
        (2, 3, 5),
        lambda w, x: torch.einsum("nhe,hed->nd", x.view(-1, 2, 3), w),
        X,
        Flattened(Transposed(MATRIX), 0, 2),
    ),
    "experts": (
        (3, 6, 4),
        lambda w, x: torch.bmm(x.expand(3, -1, -1), w),
        X,
        Stacked(Transposed(MATRIX), None),
    ),
    "experts looked up": (
        (3, 4, 6),
        lambda w, x: torch.bmm(w[torch.tensor([2, 0])], x.T.expand(2, -1, -1)),
        X,
        Stacked(MATRIX, None),
    ),
    "gain": ((6,), lambda w, x: w * x, X, BallVectors(Linf, axes=1)),
    "gain and one": ((6,), lambda w, x: (1 + w) * x, X, BallVectors(Linf, axes=1)),
    "scalar": ((), lambda w, x: w * x, X, Reshaped(BallVectors(Linf, axes=1), 0, (1,))),
    "bias": ((6,), lambda w, x: x + w, X, BallVectors(RMS, axes=1)),
    "bias of channels": (
        (1, 3, 1, 1),
        lambda w, x: x + w,
        IMAGE,
        BallVectors(RMS, axes=4, axis=-3),
    ),
    "positions": ((9, 6), lambda w, x: x + w[:6], X, ROWS),
    "class token": ((1, 6), lambda w, x: torch.cat([w, x]), X, ROWS),
    "rows": ((9, 6), lambda w, x: w[torch.tensor([1, 3])].sum(0) + x, X, ROWS),
    "layer norm": ((6,), lambda w, x: F.layer_norm(x, (6,), w), X, BallVectors(Linf, axes=1)),
    "convolution": ((4, 3, 3, 3), lambda w, x: F.conv2d(x, w), IMAGE, Taps()),
    "groups": (
        (6, 1, 2, 2),
        lambda w, x: F.conv2d(x, w, groups=3),
        IMAGE,
        Stacked(Taps(), 3),
    ),
    "dilated": ((4, 3, 2, 2), lambda w, x: F.conv2d(x, w, dilation=2), IMAGE, Taps()),
    "convolution to gates": (
        (4, 3, 3, 3),
        lambda w, x: torch.mul(*F.conv2d(x, w).chunk(2, dim=1)),
        IMAGE,
        Stacked(Taps(), 2),
    ),
    "convolution to unequal blocks": (
        (4, 3, 1, 1),
        lambda w, x: torch.mul(*F.conv2d(x, w)[0].flatten(1).split([3, 1])),
        IMAGE,
        Stacked(Taps(), (3, 1)),
    ),
    "convolution to a gated linear unit": (
        (4, 6, 3),
        lambda w, x: F.glu(F.conv1d(x.T[None], w), 1),
        X,
        Stacked(Taps(pixel_axes=1), 2),
    ),
    "convolution without a batch to heads": (
        (4, 3, 2, 2),
        lambda w, x: torch.mul(*F.conv2d(x[0], w, stride=2).view(2, 2, -1)),
        IMAGE,
        Stacked(Flattened(MATRIX, 1, 3), 2),
    ),
    "convolution used whole and in parts": (
        (4, 3, 3, 3),
        lambda w, x: torch.mul(*F.conv2d(x, w).chunk(2, 1)).mean() * F.conv2d(x + 1, w).exp(),
        IMAGE,
        Stacked(Taps(), 2),
    ),
    "convolution in groups to gates": (
        (4, 1, 2, 2),
        lambda w, x: torch.mul(*F.conv2d(x[:, :2], w, groups=2).chunk(2, dim=1)),
        IMAGE,
        Stacked(Taps(), 2),
    ),
    "patches": (
        (4, 3, 2, 2),
        lambda w, x: F.conv2d(x, w, stride=2),
        IMAGE,
        Flattened(MATRIX, 1, 3),
    ),
    "overlapping": ((4, 3, 3, 3), lambda w, x: F.conv2d(x, w, stride=2), IMAGE, Taps()),
    "transposed": (
        (3, 2, 4, 4),
        lambda w, x: F.conv_transpose2d(x, w, stride=2),
        IMAGE,
        Transposed(Taps(added=4)),
    ),
    "1-d": ((4, 6, 3), lambda w, x: F.conv1d(x.T[None], w), X, Taps(pixel_axes=1)),
    "bilinear": (
        (4, 6, 6),
        lambda w, x: F.bilinear(x, x, w),
        X,
        Flattened(MATRIX, 1, 2),
    ),
    "einsum of three": (
        (4, 6, 6),
        lambda w, x: torch.einsum("ni,oij,nj->no", x, w, x),
        X,
        Flattened(MATRIX, 1, 2),
    ),
    "einsum with dots": (
        (6, 4),
        lambda w, x: torch.einsum("...d,de->...e", x, w),
        X,
        Transposed(MATRIX),
    ),
    "einsum without an arrow": (
        (6, 4),
        lambda w, x: torch.einsum("nd,de", x, w),
        X,
        Transposed(MATRIX),
    ),
    "einsum of lists": (
        (6, 4),
        lambda w, x: torch.einsum(x, [0, 1], w, [1, 2], [0, 2]),
        X,
        Transposed(MATRIX),
    ),
    "einsum of a gain": (
        (6,),
        lambda w, x: torch.einsum("nd,d->nd", x, w),
        X,
        BallVectors(Linf, axes=1),
    ),
    "a vector for each head": (
        (2, 3),
        lambda w, x: torch.einsum("nhd,hd->nh", x.view(-1, 2, 3), w),
        X,
        Vectors(DualRMS),
    ),
    "tensordot": (
        (4, 6),
        lambda w, x: torch.tensordot(x, w, dims=([1], [1])),
        X,
        MATRIX,
    ),
    "inner": ((4, 6), lambda w, x: torch.inner(x, w), X, MATRIX),
    "a chain": (
        (6, 4),
        lambda w, x: torch.linalg.multi_dot([x, w, x.new_ones(4, 2)]),
        X,
        Transposed(MATRIX),
    ),
    "rows in groups": (
        (8, 3),
        lambda w, x: torch.einsum("ngd,ged->nge", x.view(-1, 2, 3), w.view(2, 4, 3)),
        X,
        Reshaped(Stacked(MATRIX, None), 2, (2, 4, 3)),
    ),
    "a matrix kept as a vector": (
        (24,),
        lambda w, x: F.linear(x, w.view(4, 6)),
        X,
        Reshaped(MATRIX, 1, (4, 6)),
    ),
    "a kernel read as a matrix": (
        (4, 3, 2, 2),
        lambda w, x: F.linear(F.unfold(x, 2).mT, w.flatten(1)),
        IMAGE,
        Flattened(MATRIX, 1, 3),
    ),
    "axes that are not neighbours": (
        (2, 6, 3),
        lambda w, x: torch.einsum("nhe,hde->nd", x.view(-1, 2, 3), w),
        X,
        Reshaped(Flattened(MATRIX, 1, 2), 3, (2, 6, 3), (1, 0, 2)),
    ),
    "repeated for a batch": (
        (6, 4),
        lambda w, x: torch.bmm(x.expand(3, -1, -1), w.expand(3, -1, -1)),
        X,
        Transposed(MATRIX),
    ),
    "forth and back": (
        (4, 6),
        lambda w, x: F.linear(F.linear(x, w).relu(), w.T),
        X,
        MATRIX,
    ),
    "a row that is added and put beside": (
        (1, 6),
        lambda w, x: torch.cat([w, x + w]),
        X,
        ROWS,
    ),
    "gain and bias": ((6,), lambda w, x: w * x + w, X, BallVectors(Linf, axes=1)),
    "standardised kernel": (
        (4, 3, 3, 3),
        lambda w, x: F.conv2d(
            x, F.batch_norm(w.reshape(1, 4, -1), None, None, training=True).reshape_as(w)
        ),
        IMAGE,
        Taps(),
    ),
    "mixed kernels": (
        (2, 4, 3, 3, 3),
        lambda w, x: F.conv2d(x, (w * torch.tensor([0.3, 0.7]).view(2, 1, 1, 1, 1)).sum(0)),
        IMAGE,
        Stacked(Taps(), None),
    ),
    "queries": (
        (3, 6),
        lambda w, x: F.scaled_dot_product_attention(w, x, x),
        X,
        ROWS,
    ),
    "latents that are projected": (
        (1, 3, 6),
        lambda w, x: F.linear(w, torch.ones(6, 6)).softmax(-1) @ x.T,
        X,
        Vectors(RMS, axes=3),
    ),
    "a learned image": (
        (1, 3, 8, 8),
        lambda w, x: F.conv2d(w.expand(4, -1, -1, -1), torch.ones(2, 3, 1, 1)) + x[:, :2],
        IMAGE,
        Vectors(RMS, axes=4, axis=1),
    ),
    "a matrix function": (
        (6, 6),
        lambda w, x: F.linear(x, torch.linalg.matrix_exp(w - w.T)),
        X,
        MATRIX,
    ),
    "two numbers as a complex one": (
        (6, 4, 2),
        lambda w, x: (x.to(torch.complex64) @ torch.view_as_complex(w)).abs(),
        X,
        Stacked(Transposed(MATRIX), None, 2),
    ),
    "entries": ((6,), lambda w, x: torch.exp(w) * x, X, BallVectors(Linf, axes=1)),
}


@pytest.mark.parametrize(("shape", "f", "x", "expected"), CASES.values(), ids=CASES)
def test_an_operation_calls_for_a_norm(shape, f, x, expected):
    assert norm(shape, f, x) == expected


def test_nanogpt():
    found = norms(NanoGPT(), ids())
    assert found["wte.weight"] == found["wpe.weight"] == ROWS
    assert found["blocks.0.c_attn.weight"] == Stacked(MATRIX, 3)
    assert found["blocks.1.c_out.weight"] == found["lm_head.weight"] == MATRIX
    assert found["blocks.0.ln_1.weight"] == BallVectors(Linf, axes=1)
    assert found["blocks.0.c_attn.bias"] == BallVectors(RMS, axes=1)


@pytest.mark.parametrize("model", [lambda: NanoGPT(tied=True), GRULoop])
def test_a_tied_table_has_both_norms(model):
    found = norms(model(), ids())
    assert next(iter(found.values())) == Intersection(MATRIX, ROWS)


def test_vision():
    found = norms(ResNet(), vision())
    assert found["stem.weight"] == found["skip.weight"] == Taps()
    assert found["depthwise.weight"] == Stacked(Taps(), 8)
    found = norms(UNet(), vision())
    assert found["up.weight"] == Transposed(Taps(added=4))
    assert found["g.weight"] == Stacked(Taps(), 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_cast_between_projection_and_split_keeps_the_blocks(dtype):
    """Labels of 1,800 features would be rounded by it."""

    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fused = nn.Linear(6, 1800, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            query, key, value = self.fused(x).to(dtype).split((600, 500, 700), -1)
            return query.sum() * key.sum() + value.sum()

    assert norms(Cast(), features(6))["fused.weight"] == Stacked(MATRIX, (600, 500, 700))


def test_recurrent_gates():
    found = norms(LSTM(), ids())
    matrices = [g for name, g in found.items() if name.startswith("rnn.weight")]
    assert matrices == [Stacked(MATRIX, 4)] * 8
    assert norms(GRULoop(), ids())["cell.weight_hh"] == Stacked(MATRIX, 3)


def test_the_projection_of_an_lstm_has_no_gates():
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(6, 5, proj_size=3)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    found = norms(Projected(), features(6)[None])
    assert found["rnn.weight_hr_l0"] == MATRIX
    assert found["rnn.weight_hh_l0"] == Stacked(MATRIX, 4)


def test_experts_in_each_way_of_use():
    found = norms(Experts(), features(4))
    each = Stacked(Transposed(MATRIX), None)
    assert found["up"] == found["down"] == found["mixed"] == each


def test_low_rank_factors_and_frozen_weights():
    found = norms(LoRA(), features(6))
    assert list(found) == ["A", "B", "merged", "C", "D"]
    assert set(found.values()) == {MATRIX}


def test_weight_norm_gives_the_direction_its_use_and_the_length_its_largest_entry():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))
    length, direction = (f"parametrizations.weight.original{i}" for i in (0, 1))
    found = norms(layer, features(6))
    assert (found[direction], found[length]) == (MATRIX, BallVectors(Linf, axes=2))


def test_attention_of_torch_is_fused():
    class SelfAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.attention(x, y, y)[0]

    x, y = features(6)[None], features(6, 3)[None]
    for other in (x, y):
        assert norms(SelfAttention(), x, other)["attention.in_proj_weight"] == Stacked(MATRIX, 3)


# What is not known


def distances() -> nn.Module:
    return Parametric((3, 6), lambda w, x: torch.cdist(x, w))


def test_an_unknown_use_is_refused_by_name():
    with pytest.raises(LiftError, match=r"no norm is known for 'w' of shape \[3, 6\], as cdist"):
        norms(distances(), X)


def test_a_role_settles_it():
    assert norms(distances(), X, roles={"w": ROWS})["w"] == ROWS


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"v": MATRIX}, "names 'v', which is not a parameter"),
        ({"w": Vectors(RMS, axes=3)}, "for weights of 3 axes, and it has 2"),
        ({"w": "matrix"}, "takes a geometry"),
    ],
)
def test_roles_are_checked(roles, message):
    with pytest.raises(LiftError, match=message):
        norms(distances(), X, roles=roles)


def test_two_uses_without_a_common_duality_map_are_refused():
    model = Parametric(
        (6, 6),
        lambda w, x: F.linear(
            torch.einsum("nhd,hed->nhe", x.view(-1, 2, 3), w.view(2, 3, 6)[..., :3]).flatten(1), w
        ),
    )
    with pytest.raises(LiftError, match=r"'w' of shape \[6, 6\] is used by einsum, linear.*roles="):
        norms(model, X)


@pytest.fixture
def own_rules(monkeypatch):
    monkeypatch.setattr(base, "RULES_BY_OPERATION", dict(base.RULES_BY_OPERATION))
    monkeypatch.setattr(base, "RULES_BY_MODULE", dict(base.RULES_BY_MODULE))


def table(use: Use) -> Role:
    return Role("table", ROWS)


@pytest.mark.parametrize("target", ["cdist", Parametric])
def test_a_registered_rule_settles_it(own_rules, target):
    register_rule(target, table)
    assert norms(distances(), X)["w"] == ROWS


@pytest.mark.parametrize(("target", "rule"), [(3, table), (int, table), ("cdist", "matrix")])
def test_registration_is_checked(own_rules, target, rule):
    with pytest.raises(TypeError):
        register_rule(target, rule)
