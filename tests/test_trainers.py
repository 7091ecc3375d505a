"""Lightning, the Trainer and Accelerate train with SteepestDescent and resume from checkpoints."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from modula import GPT, SteepestDescent

SMALL = ["--batch", "4", "--context", "16", "--blocks", "1", "--width", "16", "--heads", "2"]

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("examples_on_path"),
]

GUESSING = 2.4
"""About the loss of a guess among the 12 characters, log 12 = 2.48."""


def run_options(corpus: Path, out: Path, options: str) -> list[str]:
    """Return the command line of a small run."""
    return ["--data", str(corpus), "--out", str(out), *SMALL, *options.split()]


def lightning() -> ModuleType:
    pytest.importorskip("lightning")
    return importlib.import_module("train_lightning")


def huggingface() -> ModuleType:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    return importlib.import_module("train_huggingface")


def states_of(path: Path) -> tuple[dict, dict]:
    """Return the weights and the optimizer's state of a checkpoint that Lightning wrote."""
    saved = torch.load(path, weights_only=True)
    return saved["state_dict"], saved["optimizer_states"][0]["state"]


def test_lightning_learns(corpus: Path, tmp_path: Path) -> None:
    options = run_options(corpus, tmp_path, "--accelerator cpu --steps 60")
    assert lightning().main(options)["validation_loss"] < 0.8 * GUESSING


def test_lightning_learns_with_accumulation_and_autocast(corpus: Path, tmp_path: Path) -> None:
    options = run_options(
        corpus,
        tmp_path,
        "--accelerator cpu --steps 60 --accumulate 2 --precision bf16-mixed",
    )
    assert lightning().main(options)["validation_loss"] < 0.8 * GUESSING


def test_lightnings_autocast_leaves_weights_in_float32(corpus: Path, tmp_path: Path) -> None:
    options = run_options(corpus, tmp_path, "--accelerator cpu --steps 2 --precision bf16-mixed")
    lightning().main(options)
    assert {w.dtype for w in states_of(tmp_path / "last.ckpt")[0].values()} == {torch.float32}


def test_lightnings_checkpoints_restore_the_optimizer(corpus: Path, tmp_path: Path) -> None:
    main = lightning().main
    options = run_options(corpus, tmp_path, "--accelerator cpu --steps 8")
    main([*options, "--stop-after", "5"])
    before = states_of(tmp_path / "last.ckpt")[1]
    main([*options, "--resume"])
    after = states_of(tmp_path / "last.ckpt")[1]
    assert {int(state["step"]) for state in before.values()} == {5}
    assert {int(state["step"]) for state in after.values()} == {8}


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_huggingface_learns(corpus: Path, tmp_path: Path, loop: str) -> None:
    options = run_options(corpus, tmp_path, f"--cpu --steps 60 --loop {loop}")
    assert huggingface().main(options) < 0.8 * GUESSING


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_huggingface_continues_from_its_checkpoint(
    corpus: Path, tmp_path: Path, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = huggingface()
    made: list[SteepestDescent] = []

    class Remembered(SteepestDescent):
        def __init__(self, model: GPT, lr: float) -> None:
            super().__init__(model, lr)
            made.append(self)

    monkeypatch.setattr(module, "SteepestDescent", Remembered)
    options = run_options(corpus, tmp_path, f"--cpu --save-every 3 --loop {loop}")
    module.main([*options, "--steps", "3"])
    module.main([*options, "--steps", "8", "--resume"])
    assert [{int(state["step"]) for state in optimizer.state.values()} for optimizer in made] == [
        {3},
        {8},
    ]


def test_accelerates_wrapper_takes_the_steps_of_the_optimizer() -> None:
    pytest.importorskip("accelerate")
    from accelerate import Accelerator

    model, twin = (GPT(11, d_embed=8, num_heads=2, num_blocks=1) for _ in range(2))
    twin.weights = model.weights
    plain = SteepestDescent(twin, 0.1)
    prepared, wrapped = Accelerator(cpu=True).prepare(model, SteepestDescent(model, 0.1))
    ids = torch.arange(11)[None]
    for net, optimizer in ((prepared, wrapped), (twin, plain)):
        optimizer.zero_grad()
        net(ids).square().mean().backward()
        optimizer.step()
    assert all(map(torch.equal, model.weights.tensors, twin.weights.tensors))
