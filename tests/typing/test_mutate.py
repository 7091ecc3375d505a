"""The corpus catches a sample of the mutants of `python -m tests.typing.mutate`."""

from tests.typing import corpus
from tests.typing.mutate import TARGET, Laboratory, mutants


def test_a_mutant_differs_in_one_place():
    source = (corpus.ROOT / TARGET).read_text(encoding="utf-8")
    for mutant in mutants(source):
        widened = mutant.apply(source)
        assert widened.count("typing.Any") - source.count("typing.Any") == len(mutant.spans)
        compile(widened, str(TARGET), "exec")


def test_every_class_with_overloads_has_mutants():
    source = (corpus.ROOT / TARGET).read_text(encoding="utf-8")
    owners = {mutant.owner for mutant in mutants(source)}
    classes = ("Module", "Elementwise", "Transparent", "Add", "Concatenation", "Parallel")
    assert {f"{name}Operators" for name in classes} | {"Power", "OfSum", "OfTuple"} == owners


def test_composition_widened_to_any_is_caught(tmp_path):
    laboratory = Laboratory(tmp_path)
    composition = "__matmul__(other: Maps[Z, X])"
    chosen = [
        mutant
        for mutant in mutants(laboratory.source)
        if mutant.owner == "ModuleOperators" and mutant.signature == composition
    ]
    assert [mutant.part for mutant in chosen] == ["operands", "result"]
    assert all(laboratory.catch(mutant) for mutant in chosen)
