"""The residual sums in the report of a lifted network."""

from typing import assert_type

import torch
from torch import nn

from modula import lift
from modula.lift import ResidualSum


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(nn.functional.linear(x, self.map.weight))


report = lift(Sum(), torch.randn(8, 4)).report()
assert_type(report.residuals, tuple[ResidualSum, ...])
assert_type(report.streams, tuple[str, ...])
assert_type(report.residuals[0].proposed, float)
assert_type(report.residuals[0].writers, tuple[str, ...])
