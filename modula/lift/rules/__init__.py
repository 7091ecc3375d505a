"""How each operation of torch uses its parameters, one family of operations a file."""

from modula.lift.rules import convolutions, matrices, recurrent, tables, vectors
from modula.lift.rules.base import (
    Kernels,
    Kind,
    Layout,
    Role,
    Rule,
    Use,
    no_cuts,
    register_rule,
    role_of,
)

__all__ = [
    "Kernels",
    "Kind",
    "Layout",
    "Role",
    "Rule",
    "Use",
    "convolutions",
    "matrices",
    "no_cuts",
    "recurrent",
    "register_rule",
    "role_of",
    "tables",
    "vectors",
]
