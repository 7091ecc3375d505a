"""The house: imports run downwards, and no private name is used outside its own file."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCERS = {"algebra", "atoms", "bonds", "compounds", "lift"}
LAYERS = [
    {"errors", "workspace", "arithmetic", "locking", "html_table", "progress"},
    {"checks", "values", "scaling", "atomic", "tensors"},
    {"norms"},
    {"spaces"},
    {"polar"},
    {"geometry"},
    {"vector", "sharding"},
    {"graph", "plan"},
    {"network"},
    {"algebra"},
    {"atoms", "bonds"},
    {"compounds", "lift"},
]
CONSUMERS = {"optim", "checkpoint", "instruments", "parallel"}
EVERYTHING = {"__init__", "__main__", "mypy", "testing"}
NEIGHBOURS = [{"vector", "sharding"}, {"graph", "plan"}, {"checks", "values"}]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def parts(path: Path) -> tuple[str, ...]:
    """The name of a file's module, in parts: ("modula", "polar", "svd")."""
    return path.relative_to(ROOT).with_suffix("").parts


def imported(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The line and the module of each import of modula in a file, `import a` inside of functions
    too.
    """
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            base = parts(path)[: -node.level] if node.level else ()
            modules = [(*base, *(node.module or "").split("."))]
            if modules == [("modula",)]:
                modules = [("modula", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [tuple(alias.name.split(".")) for alias in node.names]
        else:
            continue
        yield from ((node.lineno, module) for module in modules if module[0] == "modula")


# Imports


@pytest.mark.parametrize("folder", sorted({parts(path)[1] for path in files("modula")}))
def test_imports_run_downwards(folder):
    wrong = []
    for path in files("modula"):
        here = parts(path)[1]
        if here != folder or here in EVERYTHING:
            continue
        for line, (_, *rest) in imported(path):
            there = rest[0] if rest else "__init__"
            if not may_import(here, there):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {there}")
    assert not wrong


def may_import(here: str, there: str) -> bool:
    """Whether a file of the part `here` may import from the part `there`."""
    if here == there:
        return True
    if here in CONSUMERS:
        return there in CONSUMERS or (there in RANK and there not in PRODUCERS)
    if {here, there} in NEIGHBOURS:
        return True
    return there in RANK and RANK[there] < RANK[here]


@pytest.mark.parametrize(
    ("here", "there"), [("norms", "graph"), ("network", "algebra"), ("optim", "atoms")]
)
def test_the_rule_refuses_an_import_upwards(here, there):
    assert not may_import(here, there)


def test_every_part_has_its_place():
    found = {parts(path)[1] for path in files("modula")}
    assert found <= {*RANK, *CONSUMERS, *EVERYTHING}


def test_mypy_is_imported_by_its_plugin_alone():
    """It is no dependency of modula at run time."""
    for path in files("modula"):
        nodes = [n for n in ast.walk(tree(path)) if isinstance(n, (ast.Import, ast.ImportFrom))]
        names = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
        names |= {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
        reads = {name.partition(".")[0] for name in names} & {"mypy"}
        plugs = {name for name in names if name.startswith("modula.mypy")}
        assert not (reads or plugs) or parts(path)[1] == "mypy", path


def test_no_two_files_import_each_other():
    graph = {".".join(parts(path)): set[str]() for path in files("modula")}
    for path in files("modula"):
        for _, module in imported(path):
            name = ".".join(module)
            graph[".".join(parts(path))] |= {name, f"{name}.__init__"} & graph.keys()
    graph = {name: others for name, others in graph.items() if not name.endswith("__init__")}
    while leaves := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph


# Private names


def is_private(name: str) -> bool:
    """Whether a name is private. `__eq__` and Jupyter's `_repr_html_` are protocols."""
    return name.startswith("_") and not name.endswith("_")


def defined(path: Path) -> tuple[set[str], set[str]]:
    """The private names that a file defines: those of the module, and those of its classes."""
    of_module, of_classes = set[str](), set[str]()
    for node in tree(path).body:
        of_module |= set(bound_by(node))
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            of_classes |= {name for inner in node.body for name in bound_by(inner)}
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) in ("self", "cls")
        ):
            of_classes.add(node.attr)
    return set(filter(is_private, of_module)), set(filter(is_private, of_classes))


def bound_by(statement: ast.stmt) -> Iterator[str]:
    """The names that a definition or an assignment binds."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    for target in filter(None, targets):
        yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def borrowed(path: Path, of_module: set[str], of_classes: set[str]) -> Iterator[tuple[int, str]]:
    """The private names of the library that a file uses and does not define."""
    aliases = set[str]()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("modula"):
            aliases |= {alias.asname or alias.name for alias in node.names}
            yield from ((node.lineno, a.name) for a in node.names if is_private(a.name))
    own_module, own_classes = defined(path)
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value)
        if node.attr in of_classes - own_classes or (
            node.attr in of_module - own_module
            and (owner in aliases or owner.startswith("modula."))
        ):
            yield node.lineno, node.attr


def test_no_private_name_is_used_outside_the_file_that_defines_it():
    of_module, of_classes = (
        set[str]().union(*names) for names in zip(*map(defined, files("modula")), strict=True)
    )
    wrong = [
        f"{path.relative_to(ROOT)}:{line} uses {name}"
        for path in files("modula", "tests", "benchmarks", "examples")
        for line, name in borrowed(path, of_module, of_classes)
    ]
    assert not wrong
