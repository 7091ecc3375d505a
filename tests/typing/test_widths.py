"""mypy's plugin rejects the wrong widths that raise at run time, and no right ones."""

import inspect
import re
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modula
from modula import CompositionError
from modula.mypy.maps import UNKNOWN, Chain, Fixed, Same, WidthMismatchError, complaint, meet
from modula.mypy.parts import FIXED, FOLLOWING, part
from modula.mypy.widths import Width
from modula.spaces import Space
from tests.typing import corpus
from tests.typing.checkers import CHECKERS, DEVELOPED_WITH, WITH_PLUGIN
from tests.typing.installed import ROOT, Installation
from tests.typing.width_corpus import WIDTHS, rejections

PROGRAMS = corpus.programs(WIDTHS)
NAMES = ["n", "m", "k"]


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("widths") / "installed"
    return Installation.make(ROOT / "modula", WIDTHS, folder)


def test_mypy_with_the_plugin_agrees_with_every_line(installation):
    result = corpus.judge(WITH_PLUGIN, installation, PROGRAMS)
    assert list(result.differences()) == []


def test_a_message_names_both_widths(installation):
    messages = WITH_PLUGIN.errors(installation)
    program = next(program for program in PROGRAMS if program.path.stem == "networks")
    for line, reason in _reasons(program.path).items():
        numbers = re.fullmatch(r"(\d+) is not (\d+)", reason)
        if numbers:
            message = messages[program.path.name, line]
            assert all(re.search(rf"\b{number}\b", message) for number in numbers.groups()), message


def _reasons(path: Path) -> dict[int, str]:
    found = (corpus.MARK.search(line) for line in path.read_text().splitlines())
    return {number: mark["reason"] for number, mark in enumerate(found, 1) if mark}


@pytest.mark.parametrize("name", DEVELOPED_WITH)
def test_checkers_without_the_plugin_reject_nothing(name, installation):
    try:
        CHECKERS[name].version()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert rejections([name], installation) == []


def test_the_interpreter_agrees_with_every_line():
    assert corpus.check_run(PROGRAMS) == []


def test_there_are_enough_wrong_widths():
    wrong = [line for program in PROGRAMS for line in program.rejected_by("static")]
    assert len(wrong) >= 60


def test_functions_that_mypy_rejects_raise_and_the_others_run():
    functions = runpy.run_path(str(WIDTHS / "functions.py"))
    program = next(program for program in PROGRAMS if program.path.stem == "functions")
    assert len(functions["WRONG"]) == len(program.rejected_by("static"))
    for call in functions["WRONG"]:
        with pytest.raises(CompositionError):
            call()
    for call in functions["RIGHT"]:
        call()


# The plugin's table of classes, against modules that are made.

OTHERS = {"num": 2, "num_heads": 1, "num_blocks": 1, "num_embed": 5, "width": 2, "rank": 1}
OTHERS |= {"k": 1, "num_experts": 2, "context": 5, "image_size": 4, "patch_size": 2}


@pytest.mark.parametrize("name", FIXED)
def test_the_table_has_the_widths_of_modules(name):
    maker = getattr(modula, name)
    takes, gives = FIXED[name]
    widths = {key: 4 + 2 * i for i, key in enumerate(dict.fromkeys([takes, gives])) if key}
    required = [
        key
        for key, parameter in inspect.signature(maker).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    numbers = {key: OTHERS.get(key, 8) for key in required if key != "activation"} | widths
    activation = {"activation": modula.ReLU()} if "activation" in required else {}
    module = maker(**numbers, **activation)
    claimed = part(name, {key: Width.number(value) for key, value in numbers.items()})
    assert claimed is not None
    for said, space in ((claimed.domain, module.domain), (claimed.codomain(None), module.codomain)):
        assert isinstance(space, Space)
        assert said is None or (isinstance(said, Width) and said.value == space.width)


def test_the_table_names_parameters_of_the_classes():
    for name, keys in FIXED.items():
        parameters = inspect.signature(getattr(modula, name)).parameters
        assert {key for key in keys if key} <= set(parameters), name


def test_bonds_that_follow_have_the_bases_that_the_plugin_looks_for():
    bases = (modula.Elementwise, modula.SameSpace)
    assert tuple(f"{base.__module__}.{base.__name__}" for base in bases) == FOLLOWING


# The arithmetic of widths.

products = st.lists(st.sampled_from(NAMES), max_size=2).map(lambda names: tuple(sorted(names)))
polynomials = st.dictionaries(products, st.integers(-4, 4), max_size=3).map(lambda d: Width.of(d))
values = st.fixed_dictionaries({name: st.integers(-3, 9) for name in NAMES})


def evaluate(width: Width, at: dict[str, int]) -> int:
    total = 0
    for names, factor in width.terms:
        for name in names:
            factor *= at[name]
        total += factor
    return total


@given(polynomials, polynomials, values)
def test_arithmetic_is_that_of_numbers(a, b, at):
    assert evaluate(a + b, at) == evaluate(a, at) + evaluate(b, at)
    assert evaluate(a - b, at) == evaluate(a, at) - evaluate(b, at)
    assert evaluate(a * b, at) == evaluate(a, at) * evaluate(b, at)


@given(polynomials, polynomials, values)
def test_widths_that_differ_are_unequal_wherever_both_are_widths(a, b, at):
    if a.differs(b) and evaluate(a, at) >= 1 and evaluate(b, at) >= 1:
        assert evaluate(a, at) != evaluate(b, at)


@given(polynomials, st.integers(1, 5), values)
def test_a_multiple_differs_from_the_width_and_is_divided(a, factor, at):
    multiple = a * Width.number(factor)
    assert multiple.divided(factor) == a
    assert multiple.differs(a) == (factor > 1 and a != Width.number(0))


@given(st.integers(-20, 20), st.integers(-20, 20))
def test_numbers_differ_if_they_are_unequal(a, b):
    assert Width.number(a).differs(Width.number(b)) == (a != b)
    assert Width.number(a).value == a


def test_composition_compares_what_is_known():
    four, five, n = Width.number(4), Width.number(5), Width.named("n#0")
    outer = Fixed("f", four, five)
    assert complaint(outer, Fixed("g", five, four)) is None
    assert "f takes width 4, but g gives width 5" in str(complaint(outer, Fixed("g", four, five)))
    assert complaint(outer, Fixed("g", five, n)) is None
    assert complaint(outer, UNKNOWN) is None
    assert complaint(Chain(outer, Same("r")), Fixed("g", four, five)) is not None
    assert Chain(Same("r"), outer).codomain(None) == five
    assert Chain(outer, Same("r")).domain == four
    assert meet((four, None), (None, n)) == (four, n)
    with pytest.raises(WidthMismatchError, match=r"width 5 is not width 4"):
        meet((four, n), (five, n))
