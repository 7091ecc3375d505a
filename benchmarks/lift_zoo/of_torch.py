"""Models that are written with torch alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from benchmarks.lift_zoo.zoo import VOCABULARY, Build, Example, ids, images


class Recurrent(nn.Module):
    """A table, a recurrent layer, a head."""

    def __init__(self, layer: nn.RNNBase, width: int) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(VOCABULARY, 12), layer
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.layer(self.table(x))[0])
        return output


class CellLoop(nn.Module):
    """A cell called at each position, with a head tied to the table."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.table, self.cell = nn.Embedding(VOCABULARY, width), nn.GRUCell(width, width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        self.head.weight = self.table.weight
        self.start = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        h, outputs = self.start.expand(len(x), -1), []
        for t in range(x.shape[1]):
            h = self.cell(self.table(x[:, t]), h)
            outputs.append(h)
        output: Tensor = self.head(torch.stack(outputs, 1))
        return output


class Translator(nn.Module):
    """nn.Transformer between two tables and a head."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.source, self.target = (nn.Embedding(VOCABULARY, width) for _ in range(2))
        self.layers = nn.Transformer(width, 2, 2, 2, 32, batch_first=True)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        output: Tensor = self.head(self.layers(self.source(x), self.target(y)))
        return output


class UNet(nn.Module):
    """Down by a pooling, up by a transposed convolution, joined by concatenation."""

    def __init__(self, c: int = 8) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 2 * c, 3, padding=1)
        self.norm, self.up = nn.GroupNorm(2, 2 * c), nn.ConvTranspose2d(2 * c, c, 4, 2, 1)
        self.grouped = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2)
        self.out = nn.Conv2d(2 * c, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = F.silu(self.first(x))
        coarse = F.silu(self.norm(self.second(F.max_pool2d(fine, 2))))
        output: Tensor = self.out(F.relu(self.grouped(torch.cat([fine, self.up(coarse)], 1))))
        return output


class Experts(nn.Module):
    """Experts that a router chooses, in a loop over those that got tokens."""

    def __init__(self, width: int = 16, hidden: int = 24, count: int = 4) -> None:
        super().__init__()
        self.router = nn.Linear(width, count, bias=False)
        self.up = nn.Parameter(torch.randn(count, width, hidden) / width**0.5)
        self.down = nn.Parameter(torch.randn(count, hidden, width) / hidden**0.5)

    def forward(self, x: Tensor) -> Tensor:
        weight, expert = self.router(x).softmax(-1).topk(2, -1)
        y = torch.zeros_like(x)
        for k in range(len(self.up)):
            row, slot = torch.where(expert == k)
            if len(row):
                h = F.silu(x[row] @ self.up[k]) @ self.down[k]
                y = y.index_add(0, row, weight[row, slot, None] * h)
        return y


class GraphAttention(nn.Module):
    """Attention over the edges of a graph, summed by index."""

    def __init__(self, into: int = 8, heads: int = 2, width: int = 6) -> None:
        super().__init__()
        self.project = nn.Linear(into, heads * width, bias=False)
        self.sender, self.receiver = (nn.Parameter(torch.randn(heads, width)) for _ in range(2))
        self.heads = heads

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        h = self.project(x).view(len(x), self.heads, -1)
        sent, received = (h * self.sender).sum(-1), torch.einsum("nhd,hd->nh", h, self.receiver)
        score = F.leaky_relu(sent[edges[0]] + received[edges[1]], 0.2).exp()
        total = torch.zeros_like(sent).index_add(0, edges[1], score)
        message = h[edges[0]] * (score / total[edges[1]])[..., None]
        return torch.zeros_like(h).index_add(0, edges[1], message).flatten(1)


class FourierLayer(nn.Module):
    """A spectral convolution: a matrix of complex numbers for each frequency."""

    def __init__(self, into: int = 3, out: int = 5, modes: int = 4) -> None:
        super().__init__()
        self.modes = modes
        self.spectrum = nn.Parameter(torch.randn(into, out, modes, 2) / into)
        self.skip = nn.Conv1d(into, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        low = torch.fft.rfft(x)[..., : self.modes]
        mixed = torch.einsum("bix,iox->box", low, torch.view_as_complex(self.spectrum))
        output: Tensor = torch.fft.irfft(mixed, n=x.shape[-1]) + self.skip(x)
        return output


class StateSpace(nn.Module):
    """A selective state space, one position after another."""

    def __init__(self, width: int = 8, states: int = 4) -> None:
        super().__init__()
        self.log_decay = nn.Parameter(torch.randn(width, states))
        self.read, self.write = nn.Linear(width, states), nn.Linear(width, states)
        self.step, self.skip = nn.Linear(width, width), nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        h, outputs = x.new_zeros(len(x), *self.log_decay.shape), []
        for u in x.unbind(1):
            step = F.softplus(self.step(u))[..., None]
            h = torch.exp(-step * self.log_decay.exp()) * h + step * self.write(u)[:, None]
            outputs.append((h * self.read(u)[:, None]).sum(-1) + self.skip * u)
        return torch.stack(outputs, 1)


class LowRank(nn.Module):
    """A frozen matrix with two factors beside it, and one with two factors inside it."""

    def __init__(self, width: int = 12, rank: int = 3) -> None:
        super().__init__()
        self.base = nn.Linear(width, width).requires_grad_(False)
        self.down, self.up = nn.Linear(width, rank, False), nn.Linear(rank, width, False)
        self.whole = nn.Parameter(torch.randn(width, width) / width**0.5)
        self.left, self.right = (nn.Parameter(torch.randn(width, rank)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.base(x) + self.up(self.down(x)))
        return F.linear(x, self.whole + self.left @ self.right.T)


class Branches(nn.Module):
    """Control flow that depends on data, and writes in place."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.left, self.right = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h = self.left(h) if bool(h.mean() > 0) else self.right(h)
        out = torch.zeros_like(x)
        out[:, ::2] = h[:, ::2]
        out[:, 1::2].copy_(x[:, 1::2])
        return out


def examples() -> dict[str, Build]:
    """Return the builders of all models."""
    lstm = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    edges = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]])
    normed = parametrizations.weight_norm
    return {
        "nn.LSTM": lambda: Example(Recurrent(nn.LSTM(12, 10, **lstm), 20), (ids(),)),
        "nn.LSTM, projected": lambda: Example(Recurrent(nn.LSTM(12, 10, proj_size=6), 6), (ids(),)),
        "nn.GRU": lambda: Example(Recurrent(nn.GRU(12, 10, **lstm), 20), (ids(),)),
        "GRUCell in a loop": lambda: Example(CellLoop(), (ids(),)),
        "nn.Transformer": lambda: Example(Translator(), (ids(), ids())),
        "nn.MultiheadAttention": lambda: Example(
            nn.MultiheadAttention(16, 2, batch_first=True).eval(), (torch.randn(2, 5, 16),) * 3
        ),
        "UNet": lambda: Example(UNet(), (images(),)),
        "experts": lambda: Example(Experts(), (torch.randn(40, 16),)),
        "low rank": lambda: Example(LowRank(), (torch.randn(6, 12),)),
        "weight_norm": lambda: Example(
            nn.Sequential(normed(nn.Conv1d(4, 8, 3)), nn.ReLU(), normed(nn.Conv1d(8, 4, 3))),
            (torch.randn(2, 4, 16),),
        ),
        "spectral_norm, orthogonal": lambda: Example(
            nn.Sequential(
                parametrizations.spectral_norm(nn.Linear(8, 8)),
                nn.ReLU(),
                parametrizations.orthogonal(nn.Linear(8, 8)),
            ),
            (torch.randn(6, 8),),
        ),
        "graph attention": lambda: Example(GraphAttention(), (torch.randn(4, 8), edges)),
        "Fourier layer": lambda: Example(FourierLayer(), (torch.randn(2, 3, 16),)),
        "state space": lambda: Example(StateSpace(), (torch.randn(2, 6, 8),)),
        "nn.Bilinear": lambda: Example(
            nn.Bilinear(8, 6, 4), (torch.randn(5, 8), torch.randn(5, 6))
        ),
        "nn.EmbeddingBag": lambda: Example(nn.EmbeddingBag(VOCABULARY, 8), (ids(),)),
        "branches": lambda: Example(Branches(), (torch.randn(4, 8),)),
    }
