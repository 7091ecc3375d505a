"""`print(model)` and the table of notebooks."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import modula
from modula import (
    GPT,
    RMS,
    Composition,
    Identity,
    Linear,
    Llama,
    MaskedAttention,
    ReLU,
    RMSNorm,
    UNet,
    ViT,
    instruments,
)
from tests.strategies import trees


class Cells(HTMLParser):
    """Collect the texts of the cells of a table, and refuse elements that were not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open:
            self.cells[-1] += data


def widest(model: object) -> int:
    return max(map(len, str(model).splitlines()))


def deep(levels: int) -> modula.Module:
    model = Linear(8, 8)
    for _ in range(levels):
        model = 0.5 * Identity() + 0.5 * model @ RMSNorm()
    return model


class Named(Composition[RMS, RMS]):
    """A network whose name in print is as long as is wanted."""

    def __init__(self, name: str) -> None:
        super().__init__(Linear(8, 8) @ ReLU() @ Linear(8, 8))
        self.name = name

    def extra_repr(self) -> str:
        return self.name


@given(model=trees())
def test_no_line_is_longer_than_120_columns(model):
    assert widest(model) <= 120


@pytest.mark.parametrize(
    "model",
    [
        Llama(65, d_embed=32, num_heads=4, num_blocks=2, num_kv_heads=2),
        GPT(50_257, d_embed=768, num_heads=12, num_blocks=1),
        MaskedAttention(64, 4),
        UNet(3, 3, widths=(8, 16, 32)),
        ViT(10, 3, image_size=32, patch_size=4, d_embed=32, num_heads=4, num_blocks=1),
        deep(60),
        Named("a" * 300),
        Linear(8, 8) @ Named("b" * 300),
        modula.Concatenation(*[Linear(3 + k, 2) for k in range(60)]),
    ],
    ids=lambda model: type(model).__name__,
)
def test_no_compound_is_wider_than_120_columns(model):
    assert widest(model) <= 120


@given(st.text(min_size=1, max_size=300))
def test_a_long_name_is_cut_and_the_numbers_stay(name):
    line = str(Named(name.replace("\n", " "))).split("\n")[1]
    assert "100.0%" in line
    assert "RMS(8) → RMS(8)" in line


def test_the_deepest_weight_of_a_deep_tree_is_still_named():
    (line,) = [line for line in str(deep(60)).splitlines() if "8×8" in line]
    assert "Linear(8, 8)" in line


@given(model=trees())
def test_the_last_line_counts_each_parameter_once(model):
    count = sum(parameter.numel() for parameter in model.parameters())
    last = str(model).splitlines()[-1]
    assert last == f"{count:,} parameters" if count else "parameters" not in last


def test_a_shared_weight_is_counted_once():
    first = Linear(8, 8)
    second = Linear(8, 8)
    second.weight = first.weight
    assert str(second @ first).endswith("\n64 parameters")


def test_parameters_that_are_not_trained_are_counted_apart():
    fixed = Linear(8, 4)
    fixed.weight.requires_grad_(False)
    assert str(Linear(8, 8) @ fixed).endswith("\n96 parameters, 32 of them not trained")


@given(st.floats(1e307, 1.7e308), st.floats(1e307, 1.7e308))
def test_masses_whose_sum_exceeds_the_largest_float_are_shown_as_fractions(first, second):
    lines = str(Linear(4, 5, mass=second) @ Linear(5, 4, mass=first)).splitlines()
    shown = [float(number) for line in lines for number in re.findall(r"([\d.]+)%", line)]
    fraction = 100 * (first / 1e308) / (first / 1e308 + second / 1e308)
    assert shown == pytest.approx([100.0, fraction, 100 - fraction], abs=0.06)


@given(model=trees())
def test_the_fractions_in_print_are_those_of_the_plan(model):
    fractions = model.plan().mass_fractions
    assert sum(fractions) == pytest.approx(1.0) or not any(fractions)
    text = str(model)
    assert all(f"{fraction:.1%}" in text for fraction in fractions if fraction) or " × " in text


@given(model=trees())
def test_the_table_of_a_notebook_has_what_print_shows(model):
    table = Cells(model._repr_html_())
    assert len(table.cells) % 5 == 0
    printed = str(model).splitlines()
    rows = len(table.cells) // 5
    assert rows == len([line for line in printed[1:] if not line.endswith("parameters")])


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a & b", '"><img src=x>', "</td>"])
def test_names_are_escaped_in_html(text):
    table = Cells(Named(text)._repr_html_())
    assert f"Named({text})" in table.cells
    assert table.tags == {"div", "table", "thead", "tbody", "tr", "th", "td", "p"}


def test_a_lifted_network_prints_within_120_columns_and_counts_its_parameters():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleDict({"long" * 40: nn.Linear(4, 4)})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers["long" * 40](x)

    Model.__name__ = "<b>" + "M" * 200
    net = modula.lift(Model(), torch.randn(2, 4))
    assert widest(net) <= 120
    assert "20 parameters" in str(net).replace("\n    ", " ")
    assert "<b>" not in net._repr_html_()
    assert html.escape("<b>M") in net._repr_html_()


def test_a_report_of_instruments_is_escaped_text_in_a_notebook():
    model = Linear(2, 3) @ Linear(3, 4)
    before = model.weights.clone()
    model.initialize()
    report = instruments.movement(before, model.weights)
    assert html.unescape(report._repr_html_().partition(">")[2].removesuffix("</pre>")) == str(
        report
    )
    assert "<" not in report._repr_html_().partition(">")[2].removesuffix("</pre>")
