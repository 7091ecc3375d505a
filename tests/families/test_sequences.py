"""The families that are not trained on images: models of characters, and two towers."""

import importlib

import pytest
import torch

from benchmarks import families
from modula.testing import check_bond

pytestmark = pytest.mark.usefixtures("examples_on_path")

both = pytest.mark.parametrize("optimizer", ["modula", "adamw"])


def score(name: str, *options: str) -> float:
    return importlib.import_module("training").main(families.kind(name), list(options))


@both
@pytest.mark.parametrize("name", ["char_lstm", "char_llama", "char_moe"])
def test_a_model_of_characters_learns_to_spell(name, corpus, optimizer, capsys):
    options = ["--data", str(corpus), "--width", "16", "--optimizer", optimizer]
    assert score(name, *options, "--steps", "25") < 0.8 * score(name, *options, "--steps", "1")


def test_equally_busy_experts_have_the_least_imbalance():
    char_moe = importlib.import_module("char_moe")
    num = char_moe.EXPERTS
    scores = torch.zeros(2, 6 * num, num)
    even = torch.arange(6 * num).remainder(num).expand(2, -1)
    chosen = torch.stack((even, (even + 1) % num), dim=-1)
    layer = char_moe.Routing("0", scores, chosen, torch.full(chosen.shape, 0.5))
    assert char_moe.imbalance(layer).item() == pytest.approx(1.0)
    skewed = scores.index_fill(-1, torch.tensor([0]), 3.0)
    crowded = char_moe.Routing("0", skewed, torch.zeros_like(chosen), layer.weights)
    assert char_moe.imbalance(crowded).item() > 1.0


@both
def test_two_towers_find_the_item_that_a_user_wants(optimizer, capsys):
    assert score("two_tower", "--width", "16", "--steps", "120", "--optimizer", optimizer) > 0.2


def test_two_towers_read_no_data(tmp_path):
    with pytest.raises(SystemExit, match="made, not read"):
        score("two_tower", "--data", str(tmp_path))


def test_the_similarity_keeps_its_bounds_for_vectors_of_rms_one():
    similarity = importlib.import_module("two_tower").Similarity()
    x = tuple(t / t.square().mean(-1, keepdim=True).sqrt() for t in torch.randn(2, 5, 8).double())
    ratios = check_bond(similarity, x, steps=5)
    assert ratios.input is not None
    assert max(ratios.input, ratios.radius) <= 1 + 1e-9
