"""Residual sums are found by what they add, and the report proposes a factor for each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import modula
from modula.lift.residuals import ResidualSum
from tests.lift.models import NanoGPT, features, ids

WIDTH, BLOCKS = 6, 3


class Blocks(nn.Module):
    """Blocks that compute the next stream from the stream, and a head.

    Args:
        step: returns the next stream, for a block's two maps and gain and the stream.
    """

    def __init__(self, step: Callable[[nn.ModuleDict, Tensor], Tensor]) -> None:
        super().__init__()
        self.step = step
        self.blocks = nn.ModuleList(
            [
                nn.ModuleDict(
                    {
                        "a": nn.Linear(WIDTH, WIDTH),
                        "b": nn.Linear(WIDTH, WIDTH),
                        "norm": nn.LayerNorm(WIDTH),
                    }
                )
                for _ in range(BLOCKS)
            ]
        )
        self.first, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            assert isinstance(block, nn.ModuleDict)
            x = self.step(block, x)
        return self.head(x)


def branch(m: nn.ModuleDict, x: Tensor) -> Tensor:
    return m["b"](F.relu(m["a"](m["norm"](x))))


def in_place(m: nn.ModuleDict, x: Tensor) -> Tensor:
    x += branch(m, x)
    return x


def before_and_after(m: nn.ModuleDict, x: Tensor) -> Tensor:
    return F.relu((branch(m, x).view(-1, WIDTH) + x).reshape(x.shape))


def side_by_side(m: nn.ModuleDict, x: Tensor) -> Tensor:
    h = m["norm"](x)
    return x + (m["a"](h) + m["b"](h))


def normalized(m: nn.ModuleDict, x: Tensor) -> Tensor:
    return x + m["norm"](m["b"](F.relu(m["a"](x))))


def averaged(m: nn.ModuleDict, x: Tensor) -> Tensor:
    return 0.75 * x + 0.25 * branch(m, x)


def after_norm(m: nn.ModuleDict, x: Tensor) -> Tensor:
    return m["norm"](x + m["b"](F.relu(m["a"](x))))


def gated(m: nn.ModuleDict, x: Tensor) -> Tensor:
    return x + torch.sigmoid(m["a"](x)) * m["b"](m["norm"](x))


def no_residual(m: nn.ModuleDict, x: Tensor) -> Tensor:
    return m["a"](x) + m["b"](m["norm"](x))


def found(step: Callable[[nn.ModuleDict, Tensor], Tensor]) -> tuple[ResidualSum, ...]:
    return modula.lift(Blocks(step), features(WIDTH), calibrate="flat").report().residuals


@pytest.mark.parametrize(
    ("step", "writers", "factor", "in_a_row"),
    [
        (lambda m, x: x + branch(m, x), {"b.weight"}, 1.0, BLOCKS),
        (lambda m, x: branch(m, x) + x, {"b.weight"}, 1.0, BLOCKS),
        (in_place, {"b.weight"}, 1.0, BLOCKS),
        (before_and_after, {"b.weight"}, 1.0, BLOCKS),
        (side_by_side, {"a.weight", "b.weight"}, 1.0, BLOCKS),
        (normalized, {"norm.weight"}, 1.0, BLOCKS),
        (gated, {"b.weight"}, 1.0, BLOCKS),
        (lambda m, x: x + branch(m, x) / 4, {"b.weight"}, 0.25, BLOCKS),
        (lambda m, x: x + 3 * F.dropout(branch(m, x), 0.1), {"b.weight"}, 3.0, BLOCKS),
        (after_norm, {"b.weight"}, 1.0, 1),
    ],
)
def test_sums_in_a_row(
    step: Callable[[nn.ModuleDict, Tensor], Tensor],
    writers: set[str],
    factor: float,
    in_a_row: int,
) -> None:
    sums = found(step)
    assert len(sums) == BLOCKS
    for k, one in enumerate(sums):
        assert set(one.writers) == {f"blocks.{k}.{name}" for name in writers}
        assert (one.factor, one.in_a_row) == (factor, in_a_row)


@pytest.mark.parametrize("step", [averaged, no_residual])
def test_other_sums_are_none(step: Callable[[nn.ModuleDict, Tensor], Tensor]) -> None:
    assert not found(step)


def test_a_gpt_has_two_in_each_block() -> None:
    sums = modula.lift(NanoGPT(blocks=3), ids()).report().residuals
    assert [one.in_a_row for one in sums] == [6] * 6
    assert [one.path for one in sums] == [f"blocks.{k}" for k in range(3) for _ in range(2)]
    assert sums[0].writers == ("blocks.0.c_proj.weight",)
    assert sums[0].proposed == pytest.approx(1 / 3)


def test_a_block_that_is_used_again_counts_each_time() -> None:
    class Looped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(4):
                x = x + self.map(F.relu(x))
            return x

    sums = modula.lift(Looped(), features(WIDTH)).report().residuals
    assert [one.in_a_row for one in sums] == [4] * 4


def test_the_proposal_is_applied_by_hooks_and_then_kept() -> None:
    model = NanoGPT(blocks=3)
    net = modula.lift(model, ids())
    assert "6 residual sums in a row, x + 1·f(x); with 0.333·f(x)" in str(net)
    assert "6 residual sums" in net._repr_html_()
    for name, factor in {n: r.proposed for r in net.report().residuals for n in r.writers}.items():
        layer = model.get_submodule(name.rpartition(".")[0])
        layer.register_forward_hook(lambda layer, args, out, factor=factor: factor * out)
    again = modula.lift(model, ids())
    assert {one.factor for one in again.report().residuals} == {1 / 3}
    assert "residual sums" not in str(again)


def test_a_network_of_one_block_needs_no_factor() -> None:
    net = modula.lift(NanoGPT(blocks=1), ids())
    assert {one.proposed for one in net.report().residuals} == {1.0}
    assert "residual sums" not in str(net)
