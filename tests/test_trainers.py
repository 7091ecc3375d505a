"""The trainers people use drive SteepestDescent: the examples learn, and go on from their
checkpoints.
"""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from types import ModuleType

import pytest
import torch

from modula import GPT, SteepestDescent

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = ["--batch", "4", "--context", "16", "--blocks", "1", "--width", "16", "--heads", "2"]

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = random.Random(0).choices(["dual", "norm", "mass", "atom", "bond"], k=3000)
    path = tmp_path_factory.mktemp("data") / "words.txt"
    path.write_text(" ".join(words))
    return path


GUESSING = 2.4
"""Near the entropy of a guess among the 12 characters, log 12 = 2.48."""


def lightning() -> ModuleType:
    pytest.importorskip("lightning")
    return importlib.import_module("train_lightning")


def huggingface() -> ModuleType:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    return importlib.import_module("train_huggingface")


def states_of(path: Path) -> tuple[dict, dict]:
    """Weights and optimizer's state of a checkpoint of Lightning's."""
    saved = torch.load(path, weights_only=True)
    return saved["state_dict"], saved["optimizer_states"][0]["state"]


def test_lightning_learns(corpus: Path, tmp_path: Path) -> None:
    result = lightning().main(
        [
            "--data",
            str(corpus),
            "--out",
            str(tmp_path),
            *SMALL,
            "--accelerator",
            "cpu",
            "--steps",
            "60",
        ]
    )
    assert result["validation_loss"] < 0.8 * GUESSING


def test_lightning_accumulates_and_autocasts(corpus: Path, tmp_path: Path) -> None:
    more = ["--accumulate", "2", "--precision", "bf16-mixed"]
    result = lightning().main(
        [
            "--data",
            str(corpus),
            "--out",
            str(tmp_path),
            *SMALL,
            "--accelerator",
            "cpu",
            "--steps",
            "60",
            *more,
        ]
    )
    assert result["validation_loss"] < 0.8 * GUESSING
    assert {w.dtype for w in states_of(tmp_path / "last.ckpt")[0].values()} == {torch.float32}


def test_lightnings_checkpoints_restore_the_optimizer(corpus: Path, tmp_path: Path) -> None:
    main = lightning().main
    arguments = [
        "--data",
        str(corpus),
        "--out",
        str(tmp_path),
        *SMALL,
        "--accelerator",
        "cpu",
        "--steps",
        "8",
    ]
    main([*arguments, "--stop-after", "5"])
    before = states_of(tmp_path / "last.ckpt")[1]
    main([*arguments, "--resume"])
    after = states_of(tmp_path / "last.ckpt")[1]
    assert {int(state["step"]) for state in before.values()} == {5}
    assert {int(state["step"]) for state in after.values()} == {8}


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_huggingface_learns(corpus: Path, tmp_path: Path, loop: str) -> None:
    arguments = [
        "--data",
        str(corpus),
        "--out",
        str(tmp_path),
        *SMALL,
        "--cpu",
        "--steps",
        "60",
        "--loop",
        loop,
    ]
    assert huggingface().main(arguments) < 0.8 * GUESSING


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_huggingface_goes_on_from_its_checkpoint(
    corpus: Path, tmp_path: Path, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = huggingface()
    made: list[SteepestDescent] = []

    class Remembered(SteepestDescent):
        def __init__(self, model: GPT, lr: float) -> None:
            super().__init__(model, lr)
            made.append(self)

    monkeypatch.setattr(module, "SteepestDescent", Remembered)
    arguments = [
        "--data",
        str(corpus),
        "--out",
        str(tmp_path),
        *SMALL,
        "--cpu",
        "--save-every",
        "3",
        "--loop",
        loop,
    ]
    module.main([*arguments, "--steps", "3"])
    module.main([*arguments, "--steps", "8", "--resume"])
    assert [{int(state["step"]) for state in optimizer.state.values()} for optimizer in made] == [
        {3},
        {8},
    ]


def test_accelerates_wrapper_hands_everything_through() -> None:
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
