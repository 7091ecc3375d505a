"""Checkers and the interpreter agree with the corpus, and it covers all public names."""

import ast

import pytest
import torch

import modula
from tests.typing import corpus
from tests.typing.accepted import ACCEPTED, accepted
from tests.typing.checkers import CHECKERS, DEVELOPED_WITH
from tests.typing.installed import ROOT, Installation

PROGRAMS = corpus.programs()
MODULES = {"geometry", "polar"}
"""Public names that are modules of Python."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "installed"
    return Installation.make(ROOT / "modula", corpus.PROGRAMS, folder)


@pytest.mark.parametrize("name", DEVELOPED_WITH)
def test_checkers_agree_with_every_line(name, installation):
    checker = CHECKERS[name]
    try:
        checker.version()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    result = corpus.judge(checker, installation, PROGRAMS)
    assert list(result.unexpected(PROGRAMS)) == []


def test_a_difference_is_reported_unless_it_is_listed():
    program = next(program for program in PROGRAMS if program.path.stem == "tuples")
    lines = {program.statement_at(line): line for line in program.marks}
    listed = lines["Take2() @ (Identity(), Identity())"]
    other = lines["Take2() @ (a(),)"]
    missed = tuple(("tuples.py", line) for line in (listed, other))
    complaints = list(corpus.Result("ty", missed, {}).unexpected(PROGRAMS))
    assert complaints[0] == f"tuples.py:{other}: marked as wrong, but ty accepts it"
    assert len(complaints[1:]) == len(list(accepted("ty", "missed"))) - 1
    assert all("listed as missed by ty, but is not" in line for line in complaints[1:])


def test_accepted_differences_name_statements_of_the_corpus():
    by_name = {program.path.name: program for program in PROGRAMS}
    for group in ACCEPTED:
        for name, code in group.lines:
            statements = [
                ast.unparse(node)
                for node in ast.walk(by_name[name].tree)
                if isinstance(node, ast.stmt)
            ]
            assert statements.count(code) == 1, (name, code)


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
    assert rejected >= 650
    assert sum(program.pins for program in PROGRAMS) >= 550
    with capsys.disabled():
        print(f"\n{corpus.summary(PROGRAMS)}")


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
