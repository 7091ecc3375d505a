"""Lightning, the Trainer and Accelerate train with SteepestDescent and resume from checkpoints."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from modula import GPT, SteepestDescent, lift
from tests.conftest import EXAMPLES

SMALL = ["--batch", "4", "--context", "16", "--blocks", "1", "--width", "16", "--heads", "2"]

MODELS = ["modula", "plain"]
"""A network of modula's, and a module of torch's that is lifted."""

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


@pytest.mark.parametrize("model", MODELS)
def test_lightning_learns(corpus: Path, tmp_path: Path, model: str) -> None:
    options = run_options(corpus, tmp_path, f"--accelerator cpu --steps 60 --model {model}")
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


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_huggingface_learns(corpus: Path, tmp_path: Path, loop: str, model: str) -> None:
    options = run_options(corpus, tmp_path, f"--cpu --steps 60 --loop {loop} --model {model}")
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


def finetune(corpus: Path, out: Path, options: str) -> tuple[float, float]:
    """Run examples/finetune_hf.py at a small size; return its losses before and after."""
    pytest.importorskip("transformers")
    module = importlib.import_module("finetune_hf")
    return module.main(["--cpu", *run_options(corpus, out, options)])


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_model_of_transformers_learns_lifted(
    corpus: Path, tmp_path: Path, architecture: str
) -> None:
    _, after = finetune(corpus, tmp_path, f"--steps 60 --architecture {architecture}")
    assert after < GUESSING


@pytest.fixture(scope="module")
def base(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a GPT-2 that has been trained for a few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        folder = tmp_path_factory.mktemp("base")
        finetune(corpus, folder, "--steps 60")
    return folder


def test_factors_of_low_rank_learn_beside_frozen_weights(
    base: Path, corpus: Path, tmp_path: Path
) -> None:
    other = tmp_path / "capitals.txt"
    other.write_text(corpus.read_text().upper())
    before, after = finetune(other, tmp_path / "out", f"--start {base} --steps 40 --lora 2")
    assert after < 0.9 * before


def test_factors_are_merged_into_the_weights_beside_them_alone(
    base: Path, corpus: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    _, after = finetune(corpus, tmp_path / "out", f"--start {base} --steps 5 --lora 2")
    old, new = (
        dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
        for folder in (base, tmp_path / "out")
    )
    changed = {name for name, weight in new.items() if not torch.equal(weight, old[name])}
    assert changed == {
        "transformer.h.0.attn.c_attn.weight",
        "transformer.h.0.mlp.c_fc.weight",
    }
    again, _ = finetune(corpus, tmp_path / "more", f"--start {tmp_path / 'out'} --steps 1")
    assert again == pytest.approx(after, abs=1e-5)


def test_the_trainer_makes_the_optimizer_from_a_lifted_model(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    config = GPT2Config(vocab_size=11, n_embd=8, n_layer=1, n_head=2, n_positions=8)
    model = GPT2LMHeadModel(config)
    net = lift(model, input_ids=torch.arange(8)[None])
    trainer = Trainer(
        model=model,
        args=TrainingArguments(str(tmp_path), report_to="none", use_cpu=True),
        optimizer_cls_and_kwargs=(SteepestDescent, {"model": net, "lr": 0.3, "momentum": 0.8}),
    )
    optimizer = trainer.create_optimizer()
    assert isinstance(optimizer, SteepestDescent)
    assert optimizer.model is net
    assert (optimizer.defaults["lr"], optimizer.defaults["momentum"]) == (0.3, 0.8)


def test_accelerates_wrapper_takes_the_steps_of_a_lifted_model() -> None:
    pytest.importorskip("accelerate")
    from accelerate import Accelerator

    model = torch.nn.Sequential(torch.nn.Embedding(11, 8), torch.nn.Linear(8, 11))
    twin = copy.deepcopy(model)
    ids = torch.arange(11)[None]
    plain = SteepestDescent(lift(twin, ids), 0.1)
    prepared, wrapped = Accelerator(cpu=True).prepare(model, SteepestDescent(lift(model, ids), 0.1))
    for net, optimizer in ((prepared, wrapped), (twin, plain)):
        optimizer.zero_grad()
        net(ids).square().mean().backward()
        optimizer.step()
    assert all(map(torch.equal, model.parameters(), twin.parameters()))
