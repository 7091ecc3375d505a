"""The maps and widths that the expressions of a file stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from mypy.nodes import (
    ARG_NAMED,
    ARG_NAMED_OPT,
    ARG_OPT,
    ARG_POS,
    ARG_STAR,
    CallExpr,
    Expression,
    FuncDef,
    IntExpr,
    MemberExpr,
    MypyFile,
    NameExpr,
    OpExpr,
    RefExpr,
    SymbolNode,
    TupleExpr,
    TypeInfo,
    UnaryExpr,
)
from mypy.types import CallableType, FunctionLike, get_proper_type

from modula.mypy.bindings import Bindings
from modula.mypy.maps import UNKNOWN, Apart, Beside, Chain, Joined, Map, Total, add
from modula.mypy.parts import FOLLOWING, following, part
from modula.mypy.widths import Width

DEEPEST_CALL = 8
"""The functions of a file are followed into one another to this depth."""

Frame: TypeAlias = Mapping[SymbolNode, "Map | Width"]
"""The values of a function's parameters in one call."""

_NO_CALL: Frame = {}


class Reader:
    """Reads the expressions of one file.

    Args:
        tree: of the file.
    """

    def __init__(self, tree: MypyFile) -> None:
        self.tree = tree
        self._bindings = Bindings(tree)
        self._maps: dict[Expression, Map] = {}
        self._names: dict[tuple[SymbolNode, str], str] = {}
        self._open: set[Expression] = set()

    def map_of(self, expression: Expression, frame: Frame = _NO_CALL, depth: int = 0) -> Map:
        """Return the map that an expression stands for, as far as it is known.

        Args:
            expression: of the file.
            frame: the parameters of the function that it stands in, while a call is followed.
            depth: of the calls that are followed.
        """
        if expression in self._maps and not frame:
            return self._maps[expression]
        if expression in self._open:
            return UNKNOWN
        self._open.add(expression)
        try:
            found = self._read(expression, frame, depth)
        finally:
            self._open.discard(expression)
        if not frame:
            self._maps[expression] = found
        return found

    def _read(self, expression: Expression, frame: Frame, depth: int) -> Map:
        match expression:
            case OpExpr():
                return self._operation(expression, frame, depth)
            case TupleExpr(items=items):
                return Beside(tuple([self.map_of(item, frame, depth) for item in items]))
            case CallExpr():
                return self._call(expression, frame, depth)
            case NameExpr(node=SymbolNode() as node):
                given = frame.get(node)
                value = self._bindings.value(node)
                if isinstance(given, Map):
                    return given
                return self.map_of(value, frame, depth) if value is not None else UNKNOWN
            case _:
                return UNKNOWN

    def _operation(self, expression: OpExpr, frame: Frame, depth: int) -> Map:
        if expression.op not in ("@", "+", "*", "/", "**"):
            return UNKNOWN
        left = self.map_of(expression.left, frame, depth)
        if expression.op in ("/", "**"):
            return left
        right = self.map_of(expression.right, frame, depth)
        if expression.op == "@":
            return Chain(left, right)
        if expression.op == "+":
            return add(left, right)
        return right if left is UNKNOWN else left

    def _call(self, call: CallExpr, frame: Frame, depth: int) -> Map:
        callee = call.callee
        if isinstance(callee, MemberExpr) and callee.name == "tare":
            return self.map_of(callee.expr, frame, depth)
        if not isinstance(callee, RefExpr):
            return UNKNOWN
        if isinstance(callee.node, TypeInfo):
            return self._made_by(callee.node, call, frame, depth)
        if isinstance(callee.node, FuncDef):
            return self._returned_by(callee.node, call, frame, depth)
        return UNKNOWN

    def _made_by(self, info: TypeInfo, call: CallExpr, frame: Frame, depth: int) -> Map:
        """The map that a constructor makes."""
        if info.fullname.startswith("modula."):
            if info.name in ("Composition", "Concatenation", "Parallel"):
                if ARG_STAR in call.arg_kinds:
                    return UNKNOWN
                parts = tuple([self.map_of(one, frame, depth) for one in call.args])
                if info.name == "Composition":
                    return parts[0] if parts else UNKNOWN
                return Beside(parts) if info.name == "Concatenation" else Apart(parts)
            if info.name == "Add":
                return Total("Add()")
            if info.name == "Concat":
                return Joined("Concat()", self._positional_widths(call, frame))
            found = part(info.name, self._widths(info, call, frame))
            if found is not None:
                return found
        if any(info.has_base(base) for base in FOLLOWING):
            return following(info.name)
        return UNKNOWN

    def _returned_by(self, function: FuncDef, call: CallExpr, frame: Frame, depth: int) -> Map:
        """The map that a function of this file returns, if that is all it does."""
        result = self._bindings.result(function)
        if result is None or depth >= DEEPEST_CALL:
            return UNKNOWN
        names = [argument.variable for argument in function.arguments]
        by_name = {variable.name: variable for variable in names}
        values: dict[SymbolNode, Map | Width] = {}
        for name, expression in _matched(list(by_name), call).items():
            width = self.width_of(expression, frame)
            value = self.map_of(expression, frame, depth) if width is None else width
            values[by_name[name]] = value
        # A frame that is empty would read the function's own parameters.
        return self.map_of(result, values, depth + 1) if len(values) == len(names) else UNKNOWN

    def _widths(self, info: TypeInfo, call: CallExpr, frame: Frame) -> dict[str, Width]:
        """The arguments of a constructor whose widths are known, by name."""
        matched = _matched(_argument_names(info), call)
        found = {name: self.width_of(one, frame) for name, one in matched.items()}
        return {name: width for name, width in found.items() if width is not None}

    def _positional_widths(self, call: CallExpr, frame: Frame) -> tuple[Width | None, ...]:
        if ARG_STAR in call.arg_kinds:
            return ()
        pairs = zip(call.args, call.arg_kinds, strict=True)
        return tuple([self.width_of(one, frame) for one, kind in pairs if kind == ARG_POS])

    def width_of(self, expression: Expression, frame: Frame = _NO_CALL) -> Width | None:
        """Return the number that an expression stands for, or None if it is not known to be one."""
        match expression:
            case IntExpr(value=value):
                return Width.number(value)
            case UnaryExpr(op="-"):
                width = self.width_of(expression.expr, frame)
                return width and width * Width.number(-1)
            case OpExpr(op="+" | "-" | "*" | "//"):
                return self._arithmetic(expression, frame)
            case NameExpr(node=SymbolNode() as node):
                return self._width_of_name(node, frame)
            case MemberExpr(expr=NameExpr(node=SymbolNode() as node), name=name):
                is_steady = self._bindings.is_parameter(node) and self._bindings.is_steady(name)
                return self._symbol(node, f".{name}") if is_steady and not frame else None
            case _:
                return None

    def _width_of_name(self, node: SymbolNode, frame: Frame) -> Width | None:
        if node in frame:
            given = frame[node]
            return given if isinstance(given, Width) else None
        if self._bindings.is_parameter(node):
            return self._symbol(node, "")
        value = self._bindings.value(node)
        if value is None or value in self._open:
            return None
        self._open.add(value)
        try:
            return self.width_of(value, frame)
        finally:
            self._open.discard(value)

    def _arithmetic(self, expression: OpExpr, frame: Frame) -> Width | None:
        left, right = self.width_of(expression.left, frame), self.width_of(expression.right, frame)
        if left is None or right is None:
            return None
        if expression.op == "//":
            return left.divided(right.value) if right.value is not None else None
        if expression.op == "*":
            return left * right
        return left + right if expression.op == "+" else left - right

    def _symbol(self, node: SymbolNode, attribute: str) -> Width:
        """A width of which the name is known; names of different functions differ."""
        key = node, attribute
        name = self._names.setdefault(key, f"{node.name}{attribute}#{len(self._names)}")
        return Width.named(name)


def _argument_names(info: TypeInfo) -> list[str]:
    """The names of a constructor's parameters, without `self`, in order."""
    found = info.get("__init__")
    declared = None if found is None or found.node is None else found.type
    proper = None if declared is None else get_proper_type(declared)
    if not isinstance(proper, FunctionLike):
        return []
    first: CallableType = proper.items[0]
    kinds = zip(first.arg_names, first.arg_kinds, strict=True)
    named = (ARG_POS, ARG_OPT, ARG_NAMED, ARG_NAMED_OPT)
    return [name for name, kind in list(kinds)[1:] if name is not None and kind in named]


def _matched(names: Sequence[str], call: CallExpr) -> dict[str, Expression]:
    """The arguments of a call by the names of the parameters, up to the first that is unpacked."""
    found: dict[str, Expression] = {}
    for position, (one, kind, name) in enumerate(
        zip(call.args, call.arg_kinds, call.arg_names, strict=True)
    ):
        if kind == ARG_POS and position < len(names):
            found[names[position]] = one
        elif kind == ARG_NAMED and name is not None and name in names:
            found[name] = one
        else:
            break
    return found
