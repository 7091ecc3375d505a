"""Errors at run time name both modules and both spaces with their widths, and say what to do."""

import pytest
import torch

from modula import (
    L1,
    L2,
    RMS,
    Add,
    AttentionQK,
    Bond,
    CausalMask,
    Conv2D,
    Embed,
    Enumerate,
    FunctionalAttention,
    Linear,
    Linf,
    MergeHeads,
    Rope,
    Softmax,
    SplitIntoHeads,
)


def head():
    return SplitIntoHeads(2) @ Linear(8, 8)


@pytest.mark.parametrize(
    ("compose", "parts"),
    [
        (
            lambda: Linear(10, 4) @ Conv2D(4, 3),
            [
                "Linear(10, 4)",
                "Conv2D(4, 3",
                "RMS(4)",
                "ChannelRMS(4)",
                "insert AvgPool() or Flatten()",
            ],
        ),
        (
            lambda: Linear(10, 4) @ Linear(5, 3),
            ["Linear(10, 4)", "Linear(5, 3)", "RMS(4)", "RMS(5)", "make both widths 5 or both 4"],
        ),
        (
            lambda: MergeHeads() @ Linear(8, 8),
            ["MergeHeads()", "HeadRMS", "RMS(8)", "insert SplitIntoHeads(num_heads)"],
        ),
        (
            lambda: Linear(8, 8) @ head(),
            ["SplitIntoHeads(2) @ Linear(8, 8)", "HeadRMS(4)", "insert MergeHeads()"],
        ),
        (
            lambda: Linear(4, 3) @ Enumerate(),
            ["Enumerate()", "RMS(3)", "OneHot", "insert Embed(d_embed, num_embed)"],
        ),
        (
            lambda: Embed(4, 9) @ Linear(9, 3),
            ["Embed(4, 9)", "OneHot(9)", "RMS(9)", "only at its start"],
        ),
        (
            lambda: Conv2D(4, 3) @ Linear(3, 2),
            ["ChannelRMS(3)", "RMS(3)", "only images and Conv2D give images"],
        ),
        (
            lambda: Linear(2, 3, domain=L1) @ CausalMask(),
            ["CausalMask()", "L1(3)", "Linf", "insert Softmax()"],
        ),
        (
            lambda: CausalMask() @ Linear(3, 3),
            ["Linf", "RMS(3)", "Linear(…, domain=RMS, codomain=Linf)"],
        ),
        (
            lambda: Linear(2, 3, domain=L2, codomain=L2) @ Linear(3, 4),
            ["L2(3)", "RMS(3)", "no Linear leads from RMS to L2"],
        ),
        (
            lambda: FunctionalAttention() @ (Rope(4) @ (head(), head()), head()),
            ["FunctionalAttention()", "Rope(4)", "insert Ungroup()"],
        ),
        (
            lambda: FunctionalAttention() @ (head(), head()),
            ["a tuple of 3 is taken and one of 2 given"],
        ),
        (lambda: AttentionQK() @ head(), ["AttentionQK()", "a tuple of 2 modules is taken"]),
        (
            lambda: AttentionQK() @ (head(), Linear(8, 8)),
            ["insert SplitIntoHeads(num_heads) between them (part 1)"],
        ),
        (
            lambda: Linear(4, 8) @ (Linear(8, 8), Linear(8, 8)),
            ["RMS(8)", "(RMS(8), RMS(8))", "insert Add()"],
        ),
        (
            lambda: Add() @ Linear(8, 8),
            ["Add()", "Linear(8, 8)", "Add takes a tuple, as in Add() @ (f, g)"],
        ),
        (lambda: Softmax() @ Softmax(), ["Linf", "L1", "Linear(…, domain=L1, codomain=Linf)"]),
        (
            lambda: Linear(4, 4) + Embed(4, 9),
            ["Linear(4, 4)", "Embed(4, 9)", "RMS(4) → RMS(4)", "OneHot(9) → RMS(4)"],
        ),
        (
            lambda: Linear(4, 4) * Linear(4, 4),
            ["Linear(4, 4) * Linear(4, 4)", "to compose modules use @"],
        ),
        (lambda: Linear(4, 4) - Linear(4, 4), ["Linear(4, 4) - Linear(4, 4)", "f + (-1) * g"]),
        (lambda: torch.nn.ReLU() @ Linear(4, 4), ["ReLU @ Linear(4, 4)", "FunctionBond(ReLU(…)"]),
        (lambda: Linear(4, 4) @ Softmax, ["Linear(4, 4) @ Softmax", "write Softmax(…)"]),
        (
            lambda: Linear(4, 4) @ torch.ones(4),
            ["Linear(4, 4) @ Tensor", "call it, as in module(x)"],
        ),
        (lambda: Linear(4, 4, domain="RMS"), ["norm types, such as RMS", "'RMS'"]),
    ],
)
def test_an_error_names_both_operands_and_says_what_to_do(compose, parts):
    with pytest.raises(TypeError) as caught:
        compose()
    assert [part for part in parts if part not in str(caught.value)] == []


def test_a_class_takes_spaces_as_type_arguments():
    with pytest.raises(
        TypeError, match="int is no norm type: Wrong maps between norm types, such as RMS"
    ):

        class Wrong(Bond[int, RMS]):
            """From a type that is not a space."""


def test_a_class_that_names_its_spaces_takes_none():
    with pytest.raises(
        TypeError, match=r"Embed maps OneHot to RMS by its class and takes no domain or codomain"
    ):
        Embed(4, 9, domain=Linf)
