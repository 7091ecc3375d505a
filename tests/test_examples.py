"""The examples run at a small size and do what they say."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.conftest import EXAMPLES
from tests.parallel.launcher import torchrun

pytestmark = pytest.mark.usefixtures("examples_on_path")


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def gpt_arguments(corpus: Path, out: Path, *more: str) -> list[str]:
    small = [
        "--batch",
        "4",
        "--context",
        "16",
        "--blocks",
        "1",
        "--width",
        "16",
        "--heads",
        "2",
        "--device",
        "cpu",
    ]
    return ["--data", str(corpus), "--out", str(out), *small, *more]


@pytest.mark.parametrize("optimizer", ["modula", "dualize", "adamw", "muon"])
def test_train_gpt_learns(corpus: Path, tmp_path: Path, optimizer: str) -> None:
    result = load("train_gpt").main(
        gpt_arguments(corpus, tmp_path, "--steps", "60", "--optimizer", optimizer)
    )
    losses = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["losses"]
    assert result["validation_loss"] < 0.9 * losses[0]


def test_train_gpt_learns_on_byte_pairs(corpus: Path, tmp_path: Path) -> None:
    options = ["--steps", "60", "--tokens", "bytepairs"]
    result = load("train_gpt").main(gpt_arguments(corpus, tmp_path, *options))
    losses = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["losses"]
    assert result["validation_loss"] < 0.9 * losses[0]


@pytest.mark.parametrize("vocabulary", [256, 300])
def test_byte_pairs_spell_the_text_that_they_were_learned_on(corpus: Path, vocabulary: int) -> None:
    pairs = load("byte_pairs").load(str(corpus), vocabulary)
    ids = torch.cat((pairs.train, pairs.validation))
    assert pairs.decode(ids.tolist()) == corpus.read_text()
    assert pairs.size <= vocabulary
    assert int(ids.max()) < pairs.size
    assert len(pairs.validation) == len(ids) // 10


@pytest.mark.parametrize("text", ["dual norm", "é ∂ 漢", ""])
def test_byte_pairs_spell_any_text(corpus: Path, text: str) -> None:
    pairs = load("byte_pairs").load(str(corpus), 300)
    assert pairs.decode(pairs.encode(text).tolist()) == text


@pytest.mark.parametrize("optimizer", ["modula", "dualize", "adamw", "muon"])
def test_resumed_run_ends_at_the_same_weights_bit_for_bit(
    corpus: Path, tmp_path: Path, optimizer: str
) -> None:
    main = load("train_gpt").main
    main(gpt_arguments(corpus, tmp_path / "whole", "--steps", "8", "--optimizer", optimizer))
    interrupted = gpt_arguments(
        corpus, tmp_path / "parts", "--steps", "8", "--optimizer", optimizer
    )
    main([*interrupted, "--stop-after", "5"])
    main([*interrupted, "--resume"])
    whole, parts = (
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True)
        for run in ("whole", "parts")
    )
    assert whole["losses"] == parts["losses"]
    assert all(torch.equal(whole["model"][name], parts["model"][name]) for name in whole["model"])


def test_a_compiled_network_reaches_the_losses_of_the_eager_one(
    corpus: Path, tmp_path: Path
) -> None:
    main = load("train_gpt").main
    plain = main(gpt_arguments(corpus, tmp_path / "eager", "--steps", "5"))
    compiled = main(
        gpt_arguments(corpus, tmp_path / "compiled", "--steps", "5", "--compile", "aot_eager")
    )
    assert compiled["validation_loss"] == pytest.approx(plain["validation_loss"], rel=1e-4)


def test_a_network_without_token_shift_is_another_one(corpus: Path, tmp_path: Path) -> None:
    main = load("train_gpt").main
    shifted = main(gpt_arguments(corpus, tmp_path / "shifted", "--steps", "5"))
    plain = main(gpt_arguments(corpus, tmp_path / "plain", "--steps", "5", "--token-shift", "0"))
    assert shifted["validation_loss"] != plain["validation_loss"]


def test_train_gpt_leaves_a_curve_and_numbers(corpus: Path, tmp_path: Path) -> None:
    load("train_gpt").main(gpt_arguments(corpus, tmp_path, "--steps", "3"))
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "validation_loss" in (tmp_path / "result.json").read_text()


def test_the_optimizer_reaches_the_plain_loops_losses_to_the_last_digit(
    corpus: Path, tmp_path: Path
) -> None:
    options = ["--steps", "30", "--optimizer", "dualize"]
    plain = load("train_gpt").main(gpt_arguments(corpus, tmp_path / "plain", *options))
    optimizer = load("train_gpt_optimizer").main(
        gpt_arguments(corpus, tmp_path / "optimizer", "--steps", "30")
    )
    one, other = (
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True)["losses"]
        for run in ("plain", "optimizer")
    )
    assert one == other
    assert plain["validation_loss"] == optimizer["validation_loss"]


def test_resumed_optimizer_ends_at_the_same_weights_bit_for_bit(
    corpus: Path, tmp_path: Path
) -> None:
    main = load("train_gpt_optimizer").main
    main(gpt_arguments(corpus, tmp_path / "whole", "--steps", "8", "--weight-decay", "0.1"))
    interrupted = gpt_arguments(corpus, tmp_path / "parts", "--steps", "8", "--weight-decay", "0.1")
    main([*interrupted, "--stop-after", "5"])
    main([*interrupted, "--resume"])
    whole, parts = (
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True)
        for run in ("whole", "parts")
    )
    assert whole["losses"] == parts["losses"]
    assert all(torch.equal(whole["model"][name], parts["model"][name]) for name in whole["model"])


@pytest.fixture
def single_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that torchrun gives to the only process of a run."""
    environment = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "0",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("single_process")
@pytest.mark.parametrize("parallel", ["fsdp", "ddp", "hsdp", "tp"])
def test_train_gpt_distributed_takes_the_steps_of_one_process(
    corpus: Path, tmp_path: Path, parallel: str
) -> None:
    load("train_gpt_optimizer").main(gpt_arguments(corpus, tmp_path / "alone", "--steps", "5"))
    load("train_gpt_distributed").main(
        gpt_arguments(corpus, tmp_path / "shared", "--steps", "5", "--parallel", parallel)
    )
    expected = torch.load(tmp_path / "alone" / "checkpoint.pt", weights_only=True)["losses"]
    assert json.loads((tmp_path / "shared" / "result.json").read_text())["losses"] == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.usefixtures("single_process")
@pytest.mark.parametrize("parallel", ["fsdp", "ddp"])
def test_train_gpt_distributed_resumes_from_its_checkpoint(
    corpus: Path, tmp_path: Path, parallel: str
) -> None:
    main = load("train_gpt_distributed").main
    main(gpt_arguments(corpus, tmp_path / "whole", "--steps", "6", "--parallel", parallel))
    interrupted = gpt_arguments(corpus, tmp_path / "parts", "--steps", "6", "--parallel", parallel)
    main([*interrupted, "--stop-after", "4"])
    main([*interrupted, "--resume"])
    whole, parts = (
        json.loads((tmp_path / run / "result.json").read_text())["losses"]
        for run in ("whole", "parts")
    )
    assert whole == parts


def test_train_gpt_distributed_under_torchrun(corpus: Path, tmp_path: Path) -> None:
    script = str(EXAMPLES / "train_gpt_distributed.py")
    done = torchrun(2, script, *gpt_arguments(corpus, tmp_path / "two", "--steps", "5"))
    assert done.returncode == 0, done.stdout
    load("train_gpt_optimizer").main(gpt_arguments(corpus, tmp_path / "one", "--steps", "5"))
    expected = torch.load(tmp_path / "one" / "checkpoint.pt", weights_only=True)["losses"]
    # Few letters make gradients of less than full rank, and the duality map amplifies rounding
    # errors in their null spaces.
    assert json.loads((tmp_path / "two" / "result.json").read_text())["losses"] == pytest.approx(
        expected, abs=1e-3
    )


def test_train_gpt_distributed_without_torchrun_says_how_to_start_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit, match="torchrun"):
        load("train_gpt_distributed").main(gpt_arguments(corpus, tmp_path))


def test_mixed_precision_compares_every_variant_and_repeats_none(
    corpus: Path, tmp_path: Path
) -> None:
    small = [
        "--data",
        str(corpus),
        "--batch",
        "2",
        "--context",
        "8",
        "--blocks",
        "1",
        "--width",
        "8",
        "--steps",
        "50",
        "--seeds",
        "1",
    ]
    main = load("mixed_precision").main
    first = main([*small, "--out", str(tmp_path / "runs"), "--assets", str(tmp_path)])
    # the loss of a guess among the 12 characters
    assert all(loss < math.log(12) for (loss,) in first.values())
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert main([*small, "--out", str(tmp_path / "runs"), "--assets", str(tmp_path)]) == first
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert (tmp_path / "mixed-precision.png").read_bytes().startswith(b"\x89PNG")


def test_shakespeare_without_a_network_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = load("text")
    monkeypatch.setattr(text, "CACHE", tmp_path)
    monkeypatch.setattr(text, "SHAKESPEARE_URL", (tmp_path / "missing.txt").as_uri())
    with pytest.raises(SystemExit, match="--data FILE"):
        text.load("shakespeare")


def test_a_download_that_is_not_tiny_shakespeare_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = load("text")
    (tmp_path / "other.txt").write_text("to be or not to be")
    monkeypatch.setattr(text, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(text, "SHAKESPEARE_URL", (tmp_path / "other.txt").as_uri())
    with pytest.raises(SystemExit, match="SHA-256"):
        text.load("shakespeare")


def test_the_default_text_is_on_every_machine() -> None:
    corpus = load("text").load("stdlib")
    assert len(corpus.train) > 1_000_000
    assert len(corpus.validation) == pytest.approx(len(corpus.train) / 9, rel=1e-3)


def test_text_round_trip(corpus: Path) -> None:
    loaded = load("text").load(str(corpus))
    assert loaded.decode(loaded.encode("dual norm").tolist()) == "dual norm"


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"nowhere\.txt"):
        load("text").load(str(tmp_path / "nowhere.txt"))


def test_a_text_is_read_whole_before_it_is_read_again() -> None:
    shuffled, ids = load("text").shuffled, torch.arange(1000)
    steps = (1000 // 8 - 1) // 4
    epochs = [
        [shuffled(ids, 4, 8, step, seed=0) for step in range(first, first + steps)]
        for first in (0, steps)
    ]
    read = [torch.cat([x for x, _ in epoch]).flatten().tolist() for epoch in epochs]
    assert all(len(set(positions)) == len(positions) == 4 * 8 * steps for positions in read)
    assert read[0] != read[1]
    assert all(torch.equal(y, x + 1) for epoch in epochs for x, y in epoch)


def test_a_text_shorter_than_a_batch_is_refused() -> None:
    with pytest.raises(SystemExit, match="has 3 windows of 8, and a batch takes 4"):
        load("text").shuffled(torch.arange(32), 4, 8, step=0, seed=0)


def test_validation_windows_cover_the_split_once() -> None:
    ids = torch.arange(100)
    x, y = load("text").windows(ids, 8)
    assert x.flatten().tolist() == list(range(96))
    assert torch.equal(y, x + 1)


@pytest.mark.parametrize("name", ["hello_world", "train_cnn"])
def test_help_trains_nothing(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "test accuracy" not in done.stdout


def test_hello_world_reads_digits() -> None:
    assert load("hello_world").main(steps=60) > 0.9


def test_train_cnn_learns() -> None:
    assert load("train_cnn").main(steps=40, width=8, num_blocks=1) > 0.5
