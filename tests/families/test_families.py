"""Each family's example trains by both optimizers, and one command compares them."""

import importlib
import sys

import pytest

from benchmarks import families
from tests.families.data import write_dataset

pytestmark = pytest.mark.usefixtures("examples_on_path")

IMAGES = ["resnet", "vit"]
"""Families that classify images."""


@pytest.fixture
def images(tmp_path):
    write_dataset(tmp_path)
    return tmp_path


@pytest.mark.parametrize("optimizer", ["modula", "adamw"])
@pytest.mark.parametrize("name", IMAGES)
def test_a_classifier_tells_dark_images_from_bright_ones(name, optimizer, images, capsys):
    training = importlib.import_module("training")
    accuracy = training.main(
        families.kind(name),
        ["--data", str(images), "--steps", "25", "--width", "8", "--optimizer", optimizer],
    )
    assert accuracy > 0.9


@pytest.mark.parametrize("optimizer", ["modula", "adamw"])
def test_a_unet_takes_noise_out(optimizer, images):
    training = importlib.import_module("training")
    options = ["--data", str(images), "--steps", "60", "--width", "4", "--optimizer", optimizer]
    assert training.main(families.kind("unet"), options) < 0.9


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_family_has_five_rising_rates_for_each_optimizer(name):
    rates = families.kind(name).rates
    assert {optimizer: len(tried) for optimizer, tried in rates.items()} == dict.fromkeys(
        families.OPTIMIZERS, 5
    )
    assert all(list(tried) == sorted(tried) for tried in rates.values())


def test_one_command_writes_the_tables_and_repeats_no_run(images, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- families:begin -->\n<!-- families:end -->\nafter\n")
    options = ["--only", "resnet", "--steps", "1", "--seeds", "2", "--data", str(images)]
    command = ["families", *options, "--out", str(tmp_path / "runs"), "--write", str(page)]
    monkeypatch.setattr(sys, "argv", command)
    families.main()
    written = page.read_text()
    assert written.count("| ResNet, Fashion-MNIST |") == 4 + 2
    monkeypatch.setattr(families, "train", lambda *_: pytest.fail("a run was repeated"))
    families.main()
    assert page.read_text() == written
