"""A plugin for mypy that compares widths where modules are composed.

    [mypy]
    plugins = modula.mypy

With it mypy rejects `Linear(10, 256) @ Linear(128, 784)`, and names both widths. It needs no
annotations: it reads the widths of modula's classes from the arguments of their calls, through
names that are bound once, arithmetic, and functions of the same file that return one expression. A
width that it cannot follow is not compared, and is checked at run time as without the plugin. mypy
is imported nowhere else in modula.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.checker import TypeChecker
from mypy.errorcodes import ErrorCode
from mypy.nodes import CallExpr, MypyFile, OpExpr
from mypy.plugin import CheckerPluginInterface, FunctionContext, MethodContext, Plugin
from mypy.types import Type

from modula.mypy.maps import UNKNOWN, Apart, Beside, Map, complaint, complaint_of_parts
from modula.mypy.reading import Reader

WIDTH = ErrorCode("modula-width", "Compare the widths of modules that are composed", "modula")

_OPERATORS = {"__matmul__", "__rmatmul__", "__add__", "__radd__", "__pow__"}
_TOGETHER = {
    "modula.algebra.core.Concatenation": "put side by side",
    "modula.algebra.parallel.Parallel": "put side by side",
}


class WidthPlugin(Plugin):
    """Reports widths that differ where modules meet; types stay as mypy infers them."""

    _reader: Reader | None = None

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        # Operators of numbers have hooks of mypy's own, which one of ours would displace.
        if fullname.rpartition(".")[2] in _OPERATORS and not fullname.startswith("builtins."):
            return self._check_operator
        return None

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        return self._check_tuple if fullname in _TOGETHER else None

    def _check_operator(self, context: MethodContext) -> Type:
        expression = context.context
        if isinstance(expression, OpExpr):
            reader = self._reader_of(context.api)
            message = _of_operator(expression, reader) if reader else None
            if message is not None:
                context.api.fail(message, expression, code=WIDTH)
        return context.default_return_type

    def _check_tuple(self, context: FunctionContext) -> Type:
        expression = context.context
        reader = self._reader_of(context.api)
        if isinstance(expression, CallExpr) and reader:
            whole = reader.map_of(expression)
            message = _of_parts(whole, "put side by side")
            if message is not None:
                context.api.fail(message, expression, code=WIDTH)
        return context.default_return_type

    def _reader_of(self, api: CheckerPluginInterface) -> Reader | None:
        """The reader of the file that mypy checks."""
        if not isinstance(api, TypeChecker):
            return None
        tree: MypyFile = api.tree
        if self._reader is None or self._reader.tree is not tree:
            self._reader = Reader(tree)
        return self._reader


def _of_operator(expression: OpExpr, reader: Reader) -> str | None:
    """What is wrong with the widths of an operator's operands, or None."""
    left, right = reader.map_of(expression.left), reader.map_of(expression.right)
    if expression.op == "@":
        return _of_parts(left) or _of_parts(right) or complaint(left, right)
    if expression.op == "+":
        whole = reader.map_of(expression)
        return complaint_of_parts((left, right), whole, "add")
    return complaint(left, left) if expression.op == "**" else None


def _of_parts(whole: Map, operation: str = "put side by side") -> str | None:
    """What is wrong with the widths of modules in a tuple, or None."""
    if isinstance(whole, (Beside, Apart)):
        return complaint_of_parts(whole.parts, whole, operation)
    return None


def plugin(version: str) -> type[Plugin]:
    """Return the plugin, as mypy asks for it.

    Args:
        version: of mypy.
    """
    return WidthPlugin


__all__ = ["UNKNOWN", "WIDTH", "WidthPlugin", "plugin"]
