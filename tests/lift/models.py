"""Plain torch models in tiny sizes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import modula
from modula import Gradient, SteepestDescent

VOCABULARY = 17


def ids(seed: int = 0, batch: int = 2, length: int = 8) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (batch, length), generator=source)


class Block(nn.Module):
    """Pre-norm attention and feed-forward, as in nanoGPT."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.c_attn, self.c_proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.c_fc, self.c_out = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        parts = self.c_attn(self.ln_1(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))
        return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x))))


class NanoGPT(nn.Module):
    """A plain GPT: nn.Linear with biases, LayerNorm, GELU, learned positions, GPT-2's start."""

    def __init__(self, d: int = 16, heads: int = 2, blocks: int = 2, tied: bool = False) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, d), nn.Embedding(16, d)
        self.blocks = nn.ModuleList([Block(d, heads) for _ in range(blocks)])
        self.ln_f, self.lm_head = nn.LayerNorm(d), nn.Linear(d, VOCABULARY, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                last = name.endswith(("c_proj.weight", "c_out.weight"))
                nn.init.normal_(p, std=0.02 / (math.sqrt(2 * blocks) if last else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        if tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.wte(x) + self.wpe(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        return self.lm_head(self.ln_f(h))


class ResNet(nn.Module):
    """Convolutions with BatchNorm, a strided residual block, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv1 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.bn1, self.skip = nn.BatchNorm2d(8), nn.Conv2d(4, 8, 1, stride=2)
        self.depthwise, self.fc = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)), inplace=True)
        x = F.relu(self.bn1(self.conv1(x)) + self.skip(x))
        return self.fc(F.relu(self.depthwise(x)).mean(dim=(2, 3)))


class UNet(nn.Module):
    """Down by a pooling, up by a transposed convolution, joined by concatenation."""

    def __init__(self, c: int = 4) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 2 * c, 3, padding=1)
        self.norm, self.up = nn.GroupNorm(2, 2 * c), nn.ConvTranspose2d(2 * c, c, 4, 2, 1)
        self.g, self.out = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2), nn.Conv2d(2 * c, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.silu(self.a(x))
        b = F.silu(self.norm(self.b(F.max_pool2d(a, 2))))
        return self.out(F.relu(self.g(torch.cat([a, self.up(b)], 1))))


class LSTM(nn.Module):
    """Embedding, two bidirectional layers, head."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(VOCABULARY, 6)
        self.rnn = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(10, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(self.emb(x))[0])


class GRULoop(nn.Module):
    """A cell called at each position, with a head tied to the table."""

    def __init__(self, d: int = 6) -> None:
        super().__init__()
        self.emb, self.cell = nn.Embedding(VOCABULARY, d), nn.GRUCell(d, d)
        self.out = nn.Linear(d, VOCABULARY, bias=False)
        self.out.weight = self.emb.weight

    def forward(self, x: Tensor) -> Tensor:
        h, outputs = torch.zeros(x.shape[0], 6, dtype=self.emb.weight.dtype), []
        for t in range(x.shape[1]):
            h = self.cell(self.emb(x[:, t]), h)
            outputs.append(h)
        return self.out(torch.stack(outputs, 1))


class Experts(nn.Module):
    """Experts stored as [expert, in, out], used one by one, in a batch and in an einsum."""

    def __init__(self, d: int = 6, f: int = 8, count: int = 3) -> None:
        super().__init__()
        self.into, self.router = nn.Linear(4, d), nn.Linear(d, count, bias=False)
        self.up = nn.Parameter(torch.randn(count, d, f) / d**0.5)
        self.down = nn.Parameter(torch.randn(count, f, d) / f**0.5)
        self.mixed = nn.Parameter(torch.randn(count, d, d) / d**0.5)
        self.out = nn.Linear(d, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        gate = self.router(x).softmax(-1)
        y = torch.zeros_like(x)
        for k in range(len(self.up)):
            y = y + gate[:, k, None] * (F.silu(x @ self.up[k]) @ self.down[k])
        batch = torch.bmm(x.expand(len(self.up), -1, -1), self.up)
        y = y + torch.bmm(batch, self.down).mean(0)
        return self.out(x + y + torch.einsum("nd,edf->nef", x, self.mixed).mean(1))


class LoRA(nn.Module):
    """A frozen matrix with two factors beside it, and one with two factors inside it."""

    def __init__(self, d: int = 6, r: int = 2) -> None:
        super().__init__()
        self.base = nn.Linear(d, d)
        self.base.requires_grad_(False)
        self.A, self.B = nn.Parameter(torch.randn(r, d)), nn.Parameter(torch.zeros(d, r))
        self.merged = nn.Parameter(torch.randn(d, d) / d**0.5)
        self.C, self.D = nn.Parameter(torch.randn(r, d)), nn.Parameter(torch.zeros(d, r))

    def forward(self, x: Tensor) -> Tensor:
        x = self.base(x) + 2.0 * F.linear(F.linear(x, self.A), self.B)
        return F.linear(torch.tanh(x), self.merged + self.D @ self.C)


def vision() -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def features(width: int, batch: int = 6) -> Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(0))


def fall_over_promise(net: modula.Lifted, loss_of: Callable[[], Tensor], lr: float = 1e-5) -> float:
    """How much one short step lowers the loss, over lr·‖g‖†, which it does to first order."""
    optimizer = SteepestDescent(net, lr=lr, method="svd")
    optimizer.zero_grad()
    before = loss_of()
    before.backward()
    promised = lr * float(net.dual_norm(Gradient(grads_of(net))))
    optimizer.step()
    return float(before.detach() - loss_of().detach()) / promised


def grads_of(net: modula.Lifted) -> dict[str, Tensor]:
    """The `.grad` of each weight, zero where the loss does not depend on it."""
    return {
        name: torch.zeros_like(w) if w.grad is None else w.grad for name, w in net.weights.items()
    }
