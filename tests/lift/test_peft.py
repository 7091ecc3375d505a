"""The example of peft in docs/guides/trainers.md runs, and trains the factors alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from modula import SteepestDescent, lift

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

PAGE = Path(__file__).parents[2] / "docs/guides/trainers.md"


def example() -> str:
    """The block of the page that begins with the import from peft."""
    found = re.search(r"^from peft import .*?(?=^```)", PAGE.read_text(), re.M | re.S)
    assert found is not None
    return found.group()


def test_factors_of_low_rank_learn_beside_frozen_weights() -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=31,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=8,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config)
    ids = torch.randint(31, (4, 8))
    names: dict[str, object] = {
        "model": model,
        "ids": ids,
        "lift": lift,
        "SteepestDescent": SteepestDescent,
    }
    exec(example(), names)
    optimizer, adapted = names["optimizer"], names["adapted"]
    assert isinstance(optimizer, SteepestDescent)
    assert isinstance(adapted, torch.nn.Module)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    frozen = {n: p.clone() for n, p in adapted.named_parameters() if not p.requires_grad}
    assert trained
    assert all("lora" in name for name in trained)
    losses = []
    for _ in range(30):
        loss = adapted(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    for name, p in adapted.named_parameters():
        assert name not in frozen or torch.equal(p, frozen[name])
