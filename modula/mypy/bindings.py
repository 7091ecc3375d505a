"""Which expression a name of a file stands for, if it stands for one alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mypy.nodes import (
    Argument,
    AssignmentExpr,
    AssignmentStmt,
    DelStmt,
    Expression,
    ForStmt,
    FuncDef,
    GeneratorExpr,
    MemberExpr,
    MypyFile,
    NameExpr,
    Node,
    OperatorAssignmentStmt,
    OverloadedFuncDef,
    ReturnStmt,
    StarExpr,
    SymbolNode,
    TempNode,
    TryStmt,
    TupleExpr,
    WithStmt,
)
from mypy.patterns import Pattern

_INSIDE_PATTERNS = ("pattern", "patterns", "positionals", "keyword_values", "values")
_CAPTURES = ("name", "capture", "rest")


class Bindings:
    """The bindings of a file, each of which gives a value to a name.

    A name that is bound twice, or by anything else than an assignment, stands for no expression:
    its value may change between two places at which it is read.

    Args:
        tree: of the file.
    """

    def __init__(self, tree: MypyFile) -> None:
        self._values: dict[SymbolNode, list[Expression | None]] = {}
        self._of_functions: set[SymbolNode] = set()
        self._attributes: dict[str, int] = {}
        self._returned: dict[FuncDef, list[Expression | None]] = {}
        self._visit(tree, None)

    def value(self, name: SymbolNode) -> Expression | None:
        """Return the one expression that a name stands for, or None."""
        values = self._values.get(name, [])
        return values[0] if len(values) == 1 and name not in self._of_functions else None

    def is_parameter(self, name: SymbolNode) -> bool:
        """Whether a name is a parameter of a function that gives it no other value."""
        return name in self._of_functions and name not in self._values

    def is_steady(self, attribute: str) -> bool:
        """Whether at most one place of the file assigns to attributes of that name."""
        return self._attributes.get(attribute, 0) <= 1

    def result(self, function: FuncDef) -> Expression | None:
        """Return the expression that a function returns, if that is all it does, or None."""
        values = self._returned.get(function, [])
        is_plain = not (function.is_decorated or function.is_generator or function.is_coroutine)
        return values[0] if len(values) == 1 and is_plain else None

    def _visit(self, node: Node, function: FuncDef | None) -> None:
        """Note the bindings of a node and of all nodes inside.

        Args:
            node: of the file.
            function: the innermost one around it.
        """
        match node:
            case AssignmentStmt(lvalues=targets, rvalue=value):
                if not isinstance(value, TempNode):  # a declaration without a value
                    self._bind_all(targets, value)
            case AssignmentExpr(target=target) | ForStmt(index=target):
                self._bind(target, None)
            case OperatorAssignmentStmt(lvalue=target) | DelStmt(expr=target):
                self._bind(target, None)
            case WithStmt(target=targets) | TryStmt(vars=targets) | GeneratorExpr(indices=targets):
                self._bind_all(targets, None)
            case Pattern():
                self._bind_all([getattr(node, name, None) for name in _CAPTURES], None)
            case Argument(variable=variable):
                self._of_functions.add(variable)
            case ReturnStmt(expr=value) if function is not None:
                self._returned.setdefault(function, []).append(value)
            case FuncDef():
                function = node
        for child in _children(node):
            self._visit(child, function)

    def _bind_all(self, targets: Iterable[object], value: Expression | None) -> None:
        for target in targets:
            self._bind(target, value)

    def _bind(self, target: object, value: Expression | None) -> None:
        match target:
            case NameExpr(node=SymbolNode() as name):
                self._values.setdefault(name, []).append(value)
            case MemberExpr(name=attribute):
                self._attributes[attribute] = self._attributes.get(attribute, 0) + 1
            case StarExpr(expr=inner):
                self._bind(inner, None)
            case TupleExpr(items=items):
                self._bind_all(items, None)


def _children(node: Node) -> Iterator[Node]:
    """Yield the nodes of the syntax tree below a node. mypy's visitors cannot be subclassed."""
    if isinstance(node, Pattern):
        names: tuple[str, ...] = _INSIDE_PATTERNS
    elif isinstance(node, OverloadedFuncDef):
        names = ("items",)
    else:
        # Without what a name refers to, which stands elsewhere.
        names = tuple([name for name in getattr(node, "__match_args__", ()) if name != "node"])
    for name in names:
        yield from _nodes(getattr(node, name, None))


def _nodes(value: object) -> Iterator[Node]:
    if isinstance(value, (list, tuple)):
        for entry in value:
            yield from _nodes(entry)
    elif isinstance(value, Node):
        yield value
