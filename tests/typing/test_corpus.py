"""Both checkers and the interpreter agree with the corpus, and it covers all public names."""

import ast

import pytest
import torch

import modula
from tests.typing import corpus

PROGRAMS = corpus.programs()
MODULES = {"geometry", "polar"}
"""Public names that are modules of Python."""


def test_both_checkers_agree_with_every_line():
    assert corpus.check_static() == []


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.path.stem)
def test_the_interpreter_agrees_with_every_line(program):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert (
            list(
                corpus.differences(
                    program.rejected_by("run"), corpus.run(program), "the interpreter"
                )
            )
            == []
        )
    finally:
        torch.set_num_threads(threads)


def test_the_corpus_is_large_enough(capsys):
    rejected = sum(
        len(program.rejected_by("static") & program.rejected_by("run")) for program in PROGRAMS
    )
    assert rejected >= 120
    assert sum(program.pins for program in PROGRAMS) >= 200
    with capsys.disabled():
        print(f"\n{corpus.summary()}")


def test_every_public_name_is_in_a_program():
    used = {
        node.id
        for program in PROGRAMS
        for node in ast.walk(program.tree)
        if isinstance(node, ast.Name)
    }
    raised = {name for name in modula.__all__ if name.endswith("Error")}
    assert set(modula.__all__) - used <= MODULES | raised


def test_rejected_lines_raise_the_errors_of_modula():
    """Rather than an error of Python from further inside."""
    for name in ("linear_pairs", "tuples", "attention"):
        program = next(program for program in PROGRAMS if program.path.stem == name)
        for place, message in corpus.run(program).items():
            assert "has no meaning" in message or "Error: " in message, (place, message)
            assert not message.startswith(
                ("run: AttributeError", "run: NameError", "run: IndexError")
            ), (place, message)
