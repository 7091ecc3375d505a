"""Models that no rule and no table was written for: what lift says of them, and that they train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import modula
from modula import LiftError, SteepestDescent
from modula.lift.nested import tensors_in
from tests.lift.models import features

X = features(8)
MATRIX, TABLE, BIAS, ENTRIES = "RMS → RMS", "RMS rows", "RMS", "Linf"


@dataclass
class Heads:
    """What a model with several heads returns."""

    logits: Tensor
    others: dict[str, object]
    hidden: tuple[Tensor, ...]


class NestedOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 16)
        self.heads = nn.ModuleList([nn.Linear(16, size) for size in (4, 2, 3)])

    def forward(self, batch):
        h = self.body(batch["x"]["views"][0]).tanh()
        first, second, third = [head(h) for head in self.heads]
        return Heads(first, {"second": [second, None, 3], "third": (third,)}, (h,))


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 16)
        self.body = nn.Transformer(16, 2, 1, 1, 32, batch_first=True, norm_first=True)
        self.head = nn.Linear(16, 20)

    def forward(self, source, target):
        mask = self.body.generate_square_subsequent_mask(target.shape[1])
        read = self.tokens(source), self.tokens(target)
        return self.head(self.body(*read, tgt_mask=mask, src_key_padding_mask=source == 0))


class Siamese(nn.Module):
    """One branch, called twice and then again inside of a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.LayerNorm(8))
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        first, second = self.branch(x), self.branch(x.flip(0))
        for _ in range(3):
            first = first + self.branch[0](first)
        return self.head((first - second).abs())


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.sign()

    @staticmethod
    def backward(context, gradient):
        return gradient


class OwnProduct(torch.autograd.Function):
    @staticmethod
    def forward(context, x, weight):
        context.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(context, gradient):
        x, weight = context.saved_tensors
        return gradient @ weight, gradient.T @ x


class CustomFunctions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.signs = nn.Parameter(torch.randn(16, 8)), nn.Parameter(torch.randn(3, 16))

    def forward(self, x):
        h = OwnProduct.apply(x, self.first)
        return F.linear(h, Straight.apply(self.signs))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.mix = nn.Linear(8, 16), nn.Linear(16, 4)
        self.smooth = nn.Conv1d(4, 4, 3, padding=1)
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x):
        h = self.up(x)
        h.mul_(2)
        mixed = self.mix(h.clone())
        h[:, :4] += 1
        h[:, 4:8] = 0.5 * mixed
        summed = h.new_zeros(h.shape)
        summed.index_add_(0, torch.arange(len(h)), h)
        self.mean += summed.detach().mean(0)
        return self.smooth(summed.relu_().view(len(x), 4, 4)).flatten(1)


class Hypernetwork(nn.Module):
    """A network whose output is the weight and the bias of another."""

    def __init__(self) -> None:
        super().__init__()
        self.maker = nn.Linear(8, 6 * 8 + 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        made = self.maker(x.mean(0))
        return self.head(F.linear(x, made[:48].view(6, 8), made[48:]).tanh())


class Splines(nn.Module):
    """Functions of each input in a basis of bumps, as in Kolmogorov-Arnold networks."""

    def __init__(self) -> None:
        super().__init__()
        self.heights = nn.Parameter(torch.randn(3, 8, 5))
        self.register_buffer("grid", torch.linspace(-2, 2, 5))

    def forward(self, x):
        bumps = torch.exp(-((x[..., None] - self.grid) ** 2))
        return torch.einsum("big,oig->bo", bumps, self.heights)


class Messages(nn.Module):
    """A graph network with shared steps and a scalar for a node's own features."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.ones(()))
        self.message, self.update = nn.Linear(16, 8), nn.GRUCell(8, 8)

    def forward(self, x):
        first, second = torch.arange(len(x)), torch.arange(len(x)).roll(1)
        for _ in range(2):
            sent = self.message(torch.cat([x[first], x[second]], dim=-1)).relu()
            arrived = torch.zeros(len(x), 8).index_add(0, second, sent)
            x = self.update(arrived, self.own * x)
        return x


class PackedSequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(10, 8, padding_idx=0)
        self.body = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(
            self.tokens(ids), lengths, batch_first=True, enforce_sorted=False
        )
        return pad_packed_sequence(self.body(packed)[0], batch_first=True)[0]


class Flow(nn.Module):
    """A step of a normalising flow, with the determinant of its matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(8))
        self.shift, self.size = nn.Parameter(torch.zeros(8)), nn.Parameter(torch.zeros(8))

    def forward(self, x):
        determinant = torch.linalg.slogdet(self.matrix)[1] + self.size.sum()
        return ((x + self.shift) * self.size.exp()) @ self.matrix, determinant


class LinearAttention(nn.Module):
    """A recurrence over positions with a decay of each head, and a shift of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.shares, self.decay = nn.Parameter(torch.rand(8)), nn.Parameter(torch.zeros(2))
        self.inner, self.out = nn.Linear(8, 24, bias=False), nn.Linear(8, 8)

    def forward(self, x):
        x = x * self.shares + x.roll(1, 0) * (1 - self.shares)
        queries, keys, values = self.inner(x).view(len(x), 3, 2, 4).unbind(1)
        state, read = x.new_zeros(2, 4, 4), []
        for q, k, v in zip(queries, keys, values, strict=True):
            state = state * torch.sigmoid(self.decay)[:, None, None] + k[:, :, None] * v[:, None]
            read.append((q[:, None] @ state).flatten())
        return self.out(torch.stack(read))


class Routed(nn.Module):
    """Experts that a loop calls with the tokens that chose them."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(8, 4, bias=False)
        self.up, self.down = (nn.Parameter(torch.randn(4, *s)) for s in [(8, 16), (16, 8)])

    def forward(self, x):
        shares, chosen = self.router(x).softmax(-1).topk(2)
        out = torch.zeros_like(x)
        for k in range(4):
            row, place = torch.where(chosen == k)
            made = F.silu(x[row] @ self.up[k]) @ self.down[k]
            out.index_add_(0, row, made * shares[row, place, None])
        return out


class ConvolutionalLSTM(nn.Module):
    """Gates that one convolution makes in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv1d(1 + 2, 8, 3, padding=1)

    def forward(self, x):
        hidden = cell = x.new_zeros(2, x.shape[-1])
        for row in x:
            into, keep, out, new = self.gates(torch.cat([row[None], hidden])).split(2)
            cell = cell * keep.sigmoid() + into.sigmoid() * new.tanh()
            hidden = out.sigmoid() * cell.tanh()
        return hidden


class Fixpoint(nn.Module):
    """A layer that is iterated without gradients, and once with them."""

    def __init__(self) -> None:
        super().__init__()
        self.again, self.into = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        z = torch.zeros_like(x)
        with torch.no_grad():
            for _ in range(10):
                z = torch.tanh(self.again(z) + self.into(x))
        return torch.tanh(self.again(z) + self.into(x))


class TensorTrain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(4, 3, 5))
        self.second = nn.Parameter(torch.randn(5, 2, 3))

    def forward(self, x):
        return x @ torch.einsum("iar,rjb->ijab", self.first, self.second).reshape(8, 9)


def pruned() -> nn.Module:
    layer = nn.Linear(8, 3)
    prune.l1_unstructured(layer, "weight", 0.3)
    return layer


def whole_numbers(count: int, *shape: int) -> Tensor:
    return torch.randint(1, count, shape, generator=torch.Generator().manual_seed(0))


WORDS, LENGTHS = whole_numbers(10, 3, 6), torch.tensor([6, 4, 2])
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[object, ...], dict[str, str]]] = {
    "nested outputs": (
        NestedOutputs,
        ({"x": {"views": [X]}},),
        {"body.weight": MATRIX, "heads.2.weight": MATRIX, "heads.2.bias": BIAS},
    ),
    "nn.Transformer": (
        Translator,
        (WORDS, WORDS[:, :4]),
        {
            "tokens.weight": TABLE,
            "body.encoder.layers.0.self_attn.in_proj_weight": "3 blocks of RMS → RMS",
            "body.decoder.layers.0.multihead_attn.out_proj.weight": MATRIX,
        },
    ),
    "shared modules": (Siamese, (X,), {"branch.0.weight": MATRIX, "branch.2.weight": ENTRIES}),
    "custom functions": (CustomFunctions, (X,), {"first": MATRIX, "signs": "Linf rows"}),
    "in place": (InPlace, (X,), {"mix.weight": MATRIX, "smooth.weight": "taps of RMS → RMS"}),
    "hypernetwork": (Hypernetwork, (X,), {"maker.weight": "48+6 blocks of RMS → RMS"}),
    "splines": (Splines, (X,), {"heights": "RMS → RMS, flattened"}),
    "messages": (Messages, (X,), {"own": ENTRIES, "update.weight_hh": "3 blocks of RMS → RMS"}),
    "packed sequences": (
        PackedSequences,
        (WORDS, LENGTHS),
        {"tokens.weight": TABLE, "body.weight_ih_l1_reverse": "4 blocks of RMS → RMS"},
    ),
    "flow": (Flow, (X,), {"matrix": "RMS → RMS, [in, out]", "shift": BIAS, "size": ENTRIES}),
    "linear attention": (
        LinearAttention,
        (X,),
        {"inner.weight": "3 blocks of RMS → RMS", "decay": ENTRIES, "shares": ENTRIES},
    ),
    "convolutional LSTM": (
        ConvolutionalLSTM,
        (X,),
        {"gates.weight": "4 blocks of taps of RMS → RMS", "gates.bias": BIAS},
    ),
    "experts in a loop": (
        Routed,
        (X,),
        {"up": "each RMS → RMS, [in, out]", "router.weight": MATRIX},
    ),
    "fixpoint": (Fixpoint, (X,), {"again.weight": MATRIX, "into.bias": BIAS}),
    "tensor train": (TensorTrain, (X,), {"first": "RMS → RMS, flattened"}),
    "pruned": (pruned, (X,), {"weight_orig": MATRIX, "bias": BIAS}),
}


def loss_of(output: object) -> Tensor:
    """The sum of the mean squares of all tensors of an output."""
    losses = [t.square().mean() for _, t in tensors_in(output) if t.requires_grad]
    return torch.stack(losses).sum()


@pytest.mark.parametrize("name", MODELS)
def test_norms_follow_from_use_and_the_model_trains(name):
    torch.manual_seed(0)
    made, inputs, expected = MODELS[name]
    model = made()
    net = modula.lift(model, *inputs)
    report = net.report()
    assert {weight: report[weight].norm for weight in expected} == expected
    optimizer = SteepestDescent(net, lr=0.02)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = loss_of(model(*inputs))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


# What the recorder does not see


class Ensemble(nn.Module):
    """Members that `vmap` runs at once."""

    def __init__(self) -> None:
        super().__init__()
        self.members, self.head = nn.Parameter(torch.randn(3, 16, 8)), nn.Linear(16, 2)

    def forward(self, x):
        return self.head(torch.func.vmap(lambda w: torch.tanh(x @ w.T))(self.members).mean(0))


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = torch.jit.trace(nn.Linear(8, 16, bias=False), X), nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.inner(x).tanh())


class Derivative(nn.Module):
    """The derivative of a network along its input."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(8, 16, bias=False), nn.Linear(16, 2, bias=False)

    def forward(self, x):
        def f(x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.inner(x)))

        return torch.func.jvp(f, (x,), (torch.ones_like(x),))[1]


SPECTRAL = modula.geometry.Spectral(modula.RMS, modula.RMS)
UNSEEN = {
    "vmap": (Ensemble, {"members": modula.geometry.Stacked(SPECTRAL, None)}),
    "TorchScript": (Scripted, {"inner.weight": SPECTRAL}),
    "jvp": (Derivative, {"inner.weight": SPECTRAL, "head.weight": SPECTRAL}),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_roles_settle_what_the_recorder_does_not_see(name):
    torch.manual_seed(0)
    made, roles = UNSEEN[name]
    model = made()
    with pytest.raises(LiftError, match=rf"a gradient reaches '{next(iter(roles))}'.*roles="):
        modula.lift(model, X)
    net = modula.lift(model, X, roles=roles)
    for weight, geometry in roles.items():
        row = net.report()[weight]
        assert (row.uses, row.norm_claim, row.group) == ((), "given", "matrix")
        assert net.graph().weights[weight].geometry == geometry
        assert row.sensitivity > 0
    before = loss_of(model(X))
    net.weights -= 0.02 * net.dualize(net.gradient(before))
    assert loss_of(model(X)) < before


def test_a_role_for_some_of_what_is_not_seen_leaves_the_others_to_be_named():
    with pytest.raises(LiftError, match=r"a gradient reaches 'head.weight', and"):
        modula.lift(Derivative(), X, roles={"inner.weight": SPECTRAL})


@pytest.mark.parametrize("how", ["declared", "quadrature"])
def test_what_is_not_seen_has_no_sensitivity_by_operations(how):
    made, roles = UNSEEN["vmap"]
    with pytest.raises(LiftError, match=r"use 'members' are not recorded"):
        modula.lift(made(), X, roles=roles, calibrate=how)


# Weights of no axes


class Temperatures(nn.Module):
    """Two numbers, as CLIP and gated networks have them, beside a matrix; a third is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Parameter(torch.tensor(value)) for value in (2.0, -0.5))
        self.added, self.unused = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(1.0))
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.first * self.layer(x) + self.second * x + self.added


def test_numbers_have_their_absolute_value_as_a_norm():
    torch.manual_seed(0)
    model = Temperatures()
    net = modula.lift(model, X)
    assert [net.report()[name].group for name in ("first", "second", "added")] == [
        "gain",
        "gain",
        "bias",
    ]
    gradient = net.gradient(loss_of(model(X)))
    update = net.dualize(gradient, target_norm=0.5, method="svd")
    for name in ("first", "second", "added"):
        weight = net.graph().weights[name]
        assert weight.geometry.norm(torch.tensor([-3.0, 2.0])).tolist() == [3.0, 2.0]
        length = 0.5 * net.report()[name].coefficient * gradient[name].sign()
        torch.testing.assert_close(update[name], length)
    assert update["unused"] == 0
    torch.testing.assert_close(net.norm(update), torch.tensor(0.5))
    paired = torch.stack([(gradient[n] * update[n]).sum() for n in net.graph().weights]).sum()
    torch.testing.assert_close(0.5 * net.dual_norm(gradient), paired)


def test_numbers_are_trained_with_momentum():
    torch.manual_seed(0)
    model = Temperatures()
    optimizer = SteepestDescent(modula.lift(model, X), lr=0.05)
    before = model.first.item()
    for _ in range(5):
        optimizer.zero_grad()
        loss_of(model(X)).backward()
        optimizer.step()
    assert 0 < model.first < before


def test_a_role_for_a_number_is_that_of_a_vector_of_one_entry():
    role = modula.geometry.BallVectors(modula.RMS, axes=1)
    net = modula.lift(Temperatures(), X, roles={"first": role})
    assert net.report()["first"].norm == "RMS"
    assert net.report()["first"].norm_claim == "given"
