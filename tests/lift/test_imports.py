"""`lift` sees the networks below it, and nothing but `modula` itself sees `lift`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import modula

HOME = Path(modula.__file__).parent
BELOW = (
    "arithmetic",
    "checks",
    "errors",
    "geometry",
    "graph",
    "html_table",
    "lift",
    "network",
    "norms",
)
BELOW += (
    "plan",
    "polar",
    "progress",
    "scaling",
    "sharding",
    "spaces",
    "values",
    "vector",
    "atoms",
    "bonds",
    "algebra",
)


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("modula"):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.startswith("modula"))


def test_lift_imports_downwards():
    names = {name for path in (HOME / "lift").rglob("*.py") for name in imported(path)}
    assert {name.split(".")[1] for name in names} <= set(BELOW)


def test_nothing_imports_lift():
    others = [path for path in HOME.rglob("*.py") if HOME / "lift" not in path.parents]
    users = [path for path in others if any(n.startswith("modula.lift") for n in imported(path))]
    assert users == [HOME / "__init__.py"]
