"""The families that are not trained on images: a character LSTM and two towers."""

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
def test_a_character_lstm_learns_to_spell(corpus, optimizer, capsys):
    options = ["--data", str(corpus), "--width", "16", "--optimizer", optimizer]
    assert score("char_lstm", *options, "--steps", "25") < 0.8 * score(
        "char_lstm", *options, "--steps", "1"
    )


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
    assert max(ratios.input, ratios.radius) <= 1 + 1e-9
