"""The command line of `benchmarks.lift_zoo`."""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from tqdm import tqdm

import modula
from benchmarks.docs_tables import write_between
from benchmarks.lift_zoo import of_torch, of_transformers, of_vision
from benchmarks.lift_zoo.public_rules import RULES
from benchmarks.lift_zoo.torchvision_on_cpu import declare_operators
from benchmarks.lift_zoo.zoo import Build
from modula.lift import Inputs

LIBRARIES: Mapping[str, tuple[str, Callable[[], Mapping[str, Build]]]] = {
    "torch": ("torch", of_torch.examples),
    "transformers": ("transformers", of_transformers.examples),
    "timm": ("timm", of_vision.of_timm),
    "torchvision": ("torchvision", of_vision.of_torchvision),
    "diffusers": ("diffusers", of_vision.of_diffusers),
    "peft": ("peft", of_vision.of_peft),
}


@dataclass(frozen=True)
class Row:
    """The tensors of two axes or more of one model.

    Args:
        library, model: of the model.
        matrices, vectors, entries: the tensors that are used as matrices, as sets of vectors, and
            by entry, by default.
        unused: those that the run did not use.
        wrong: for each public rule, the tensors that it treats otherwise than their use says.
        error: why the model is refused; empty if it is not.
    """

    library: str
    model: str
    matrices: int = 0
    vectors: int = 0
    entries: int = 0
    unused: int = 0
    wrong: tuple[int, ...] = ()
    error: str = ""


def row_of(library: str, name: str, build: Build, print_report: bool) -> Row:
    """Lift one model and count."""
    torch.manual_seed(0)
    example = build()
    parameters = dict(example.model.named_parameters())
    try:
        inputs = Inputs(*example.args, **example.kwargs)
        net = modula.lift(example.model, inputs, calibrate="flat")
    except modula.LiftError as error:
        return Row(library, name, error=str(error))
    if print_report:
        print(f"\n{net}")
    kinds: dict[str, str] = {}
    for one in net.report():
        if len(one.shape) > 1:
            groups = one.group.split(" and ")
            is_matrix = bool({"matrix", "head", "attention"} & set(groups))
            kinds[one.name] = (
                "unused"
                if one.norm_claim == "unused"
                else "entries"
                if one.norm_claim == "by default"
                else "matrix"
                if is_matrix
                else "vectors"
            )
    count = [
        list(kinds.values()).count(kind) for kind in ("matrix", "vectors", "entries", "unused")
    ]
    wrong = []
    for rule in RULES.values():
        chosen = {
            n: rule(n, parameters[n], example.model.get_submodule(n.rpartition(".")[0]))
            for n, kind in kinds.items()
            if kind != "unused"
        }
        wrong.append(sum(chosen[n] != (kinds[n] == "matrix") for n in chosen))
    matrices, vectors, entries, unused = count
    return Row(library, name, matrices, vectors, entries, unused, tuple(wrong))


def is_exported(build: Build) -> bool:
    """Whether torch.export traces a model, with its control flow as in this run."""
    torch.manual_seed(0)
    example = build()
    try:
        torch.export.export(example.model, example.args, dict(example.kwargs), strict=False)
    except Exception:  # each of its stages raises errors of its own
        return False
    return True


def builders(chosen: Sequence[str]) -> Iterator[tuple[str, str, Build]]:
    """Yield library, name and builder of the models whose names contain one of the words."""
    for library, (package, examples) in LIBRARIES.items():
        try:
            import_module(package)
        except ImportError:
            print(f"{package} is not installed: its models are left out")
            continue
        for name, build in examples().items():
            if not chosen or any(word in name for word in chosen):
                yield library, name, build


COUNTS = ("matrices", "vectors", "entries", "unused", *RULES)
"""The columns of numbers."""


def page(rows: Sequence[Row]) -> str:
    """Return the sums by library, and under a line that opens them the rows, in Markdown."""
    known = [row for row in rows if not row.error]
    refused = [f"- {row.library}, {row.model}: {row.error}" for row in rows if row.error]
    sums = [
        [name, *_sums([row for row in known if row.library == name])]
        for name in dict.fromkeys(row.library for row in known)
    ]
    models = [[row.library, row.model, *_numbers(row)] for row in known]
    return "\n\n".join(
        [
            _table(["library", "models", *COUNTS], [*sums, ["all", *_sums(known)]]),
            *(["\n".join(refused)] if refused else []),
            '<details markdown="1">',
            "<summary>Each model</summary>",
            _table(["library", "model", *COUNTS], models),
            "</details>",
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _numbers(row: Row) -> tuple[int, ...]:
    return (row.matrices, row.vectors, row.entries, row.unused, *row.wrong)


def _sums(rows: Sequence[Row]) -> list[int]:
    return [len(rows), *map(sum, zip(*map(_numbers, rows), strict=True))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Lift tiny random models of many libraries, and count the norms they get."
    )
    parser.add_argument("models", nargs="*", help="words in the names of models; all by default")
    parser.add_argument("--report", action="store_true", help="print the report of each model")
    parser.add_argument(
        "--export", action="store_true", help="count the models that torch.export takes, instead"
    )
    parser.add_argument("--write", type=Path, help="write the tables into this page")
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    declare_operators()
    found = list(builders(options.models))
    if options.export:
        taken = [is_exported(build) for _, _, build in tqdm(found, unit="model", leave=False)]
        print(f"torch.export(strict=False) takes {sum(taken)} of {len(taken)} models")
        return
    rows = [
        row_of(library, name, build, options.report)
        for library, name, build in tqdm(found, unit="model", leave=False)
    ]
    text = page(rows)
    if options.write is None:
        print(text)
    else:
        write_between(options.write, "lift_zoo", text)
