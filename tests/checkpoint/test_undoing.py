"""A load that fails halfway changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from modula import checkpoint
from modula.checkpoint import CheckpointError
from tests.checkpoint.whole import numbers, run_at, save_at


class Count:
    """A number that is no setting."""

    def __init__(self, value: int) -> None:
        self.value = value


class Counting(nn.Module):
    """A module with a state of its own, which may refuse another one."""

    def __init__(self, value: int, *, refuses: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), float(value)))
        self.count = Count(value)
        self.refuses = Count(refuses)

    def get_extra_state(self) -> int:
        return self.count.value

    def set_extra_state(self, state: int) -> None:
        if self.refuses.value and state == 2:
            raise RuntimeError("not this state")
        self.count.value = state


def counting(value: int, *, refuses: bool = False) -> tuple[nn.ModuleList, torch.optim.Optimizer]:
    model = nn.ModuleList([Counting(value), Counting(value, refuses=refuses)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for w in model.parameters():
        optimizer.state[w]["momentum_buffer"] = w.detach().clone()
    return model, optimizer


def values(run: tuple[nn.ModuleList, torch.optim.Optimizer]) -> set[float]:
    model, optimizer = run
    averages = [optimizer.state[w]["momentum_buffer"] for w in model.parameters()]
    found = {float(x) for t in (*model.parameters(), *averages) for x in t.detach()}
    return found | {float(part.count.value) for part in model}


@pytest.mark.parametrize("name", ["run.pt", "run"])
def test_a_module_that_refuses_its_state(name: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / name, *counting(2))
    run = counting(1, refuses=True)
    with pytest.raises(CheckpointError, match="not this state"):
        checkpoint.load(tmp_path / name, *run)
    assert values(run) == {1.0}
    checkpoint.load(tmp_path / name, *(run := counting(1)))
    assert values(run) == {2.0}


def test_an_interrupt_undoes_what_was_loaded(tmp_path: Path) -> None:
    save_at(tmp_path / "run.pt", 2.0)
    model, optimizer = run_at(1.0, tmp_path / "run.pt")

    def interrupt(*_: object) -> None:
        assert numbers((model, optimizer)) == [2.0]
        raise KeyboardInterrupt

    model.register_load_state_dict_post_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.load(tmp_path / "run.pt", model, optimizer)
    assert numbers((model, optimizer)) == [1.0]
    assert optimizer.param_groups[0]["lr"] == 0.0
