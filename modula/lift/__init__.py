"""Any torch module, unchanged, as a network: `modula.lift(model, *args)`.

Norms follow from the operations that read each weight in one recorded run, and sensitivities are
measured. `register_rule` teaches `lift` an operation or a class of modules.
"""

from modula.errors import LiftError
from modula.lift.inputs import Inputs
from modula.lift.lifted import Calibration, Lifted, lift
from modula.lift.report import LiftReport, Row
from modula.lift.residuals import ResidualSum
from modula.lift.rules import Kernels, Kind, Layout, Role, Rule, Use, register_rule
from modula.lift.views import View
from modula.lift.weight import LiftedWeight

__all__ = [
    "Calibration",
    "Inputs",
    "Kernels",
    "Kind",
    "Layout",
    "LiftError",
    "LiftReport",
    "Lifted",
    "LiftedWeight",
    "ResidualSum",
    "Role",
    "Row",
    "Rule",
    "Use",
    "View",
    "lift",
    "register_rule",
]
