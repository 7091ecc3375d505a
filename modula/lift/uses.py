"""The norm of each parameter of a traced module, from the operations that read it.

A parameter is followed through operations that only rearrange it, and through those that compute
one weight from several parameters, such as W + B·A, to the operations that use the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from modula.errors import LiftError, NormPairError
from modula.geometry import BallVectors, Geometry, Reshaped, Vectors, intersection
from modula.lift.dominance import largest
from modula.lift.features import Features
from modula.lift.rules import Kernels, Kind, Layout, Role, Use, no_cuts, role_of
from modula.lift.trace import COPIES, IDENTITIES, Argument, Call, Trace
from modula.lift.views import View
from modula.norms import Linf

LOOKUPS = frozenset(["getitem", "index_select", "gather", "take_along_dim"])

_COMBINED = [
    "add",
    "sub",
    "mul",
    "div",
    "rdiv",
    "neg",
    "masked_fill",
    "where",
    "lerp",
    "cat",
    "complex",
]
_NORMALIZED = ["_weight_norm", "layer_norm", "rms_norm", "batch_norm", "group_norm"]
_NORMALIZED += ["instance_norm", "normalize"]
_TRIANGLES = ["tril", "triu", "roll", "flip", "clamp", "pad", "real", "view_as_real"]
_MATRIX_FUNCTIONS = ["matrix_exp", "householder_product", "inv", "inverse", "solve", "pinv"]

_SAME_ENTRIES = (
    COPIES | IDENTITIES | frozenset([*_COMBINED, *_NORMALIZED, *_TRIANGLES, *_MATRIX_FUNCTIONS])
)
"""Operations whose result is used as their argument would be."""

_PRODUCTS = frozenset(["matmul", "linear", "multi_dot", "kron"])
"""Operations of which matrices are factors that are used as their product is."""

_RESAMPLED = frozenset(["interpolate", "grid_sample"])

_BROADCASTS = frozenset(["repeat", "tile", "expand", "expand_as", "broadcast_to"])


@dataclass(frozen=True)
class Beside:
    """A tied table, to whose rows those of another table are added.

    Args:
        table: its name.
        factor: by which its rows are multiplied before they are added, over that of the other's.
    """

    table: str
    factor: float


@dataclass(frozen=True)
class Measured:
    """A parameter with its norm.

    Args:
        name: of the parameter.
        kinds: of its uses, each once.
        geometry: its norm.
        uses: the arguments that it fills.
        proved: whether the norm bounds the effect of the parameter on each operation that uses it.
        given: whether the user gave the norm.
        beside: the tied table to whose rows its own are added, if there is one.
    """

    name: str
    kinds: tuple[Kind, ...]
    geometry: Geometry
    uses: tuple[Use, ...]
    proved: bool
    given: bool = False
    beside: Beside | None = None


def norms_from_use(
    trace: Trace, model: nn.Module, roles: Mapping[str, Geometry]
) -> dict[str, Measured]:
    """Return the norm of each parameter with entries that the output of a run depends on.

    Args:
        trace: of the run.
        model: the module that ran.
        roles: norms that the user gives, by the name of the parameter.

    Raises:
        LiftError: no rule knows how an operation uses a parameter, or no duality map is known for
            the largest of the norms of its uses; or `roles` names something else than a parameter
            that requires a gradient, or gives it a norm for another number of axes.
    """
    given = _checked(roles, trace, model)
    finder = _Finder(trace)
    unused = set(trace.unused)
    parameters = dict(model.named_parameters())
    found = {}
    for name in dict.fromkeys(trace.names.values()):
        if name in unused or not parameters[name].numel():
            continue
        shape = tuple(parameters[name].shape)
        uses = list(finder.uses(name, shape))
        owner = model.get_submodule(name.rpartition(".")[0])
        if name in given:
            kinds = _kinds_of(uses, owner) or _kinds_by_norm(given[name])
            one = Measured(name, kinds, given[name], _uses_of(uses), True, given=True)
        else:
            one = _measured(name, shape, uses, owner)
        found[name] = replace(one, geometry=stored(one.geometry, shape))
    return found


def stored(geometry: Geometry, shape: Sequence[int]) -> Geometry:
    """Return a norm for weights as they are stored: one of no axes is a vector of one entry."""
    return geometry if shape else Reshaped(geometry, 0, (1,))


@dataclass(frozen=True)
class _Found:
    """A use at which following a parameter ended.

    Args:
        use: the last.
        computes_weight: whether parameters alone enter it.
        before: the uses by which the parameter came there.
    """

    use: Use
    computes_weight: bool
    before: tuple[Use, ...] = ()


class _Finder:
    """The uses of the parameters of one run."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._features = Features(trace)
        self._reached = set(trace.reached())
        self._readers = trace.readers()
        self._of_parameter: dict[str, list[tuple[Call, Argument]]] = {}
        self._computes_weight: dict[int, bool] = {}
        self._is_constant: dict[int, bool] = {}
        for call in trace.calls:
            self._is_constant[call.index] = all(
                a.is_floating and self._is_of_constants(a) for a in call.arguments
            )
            self._computes_weight[call.index] = self._is_of_parameters(call)
            for argument in call.arguments:
                if argument.source.kind == "parameter":
                    name = argument.source.parameter
                    self._of_parameter.setdefault(name, []).append((call, argument))

    def uses(self, name: str, shape: tuple[int, ...]) -> Iterator[_Found]:
        """Yield each argument that a parameter fills, directly or as a part of a weight."""
        for call, argument in self._of_parameter.get(name, []):
            view = argument.source.view
            if call.index in self._reached and view is not None:
                yield from self._from(Use(name, shape, view, call, argument.slot), argument, True)

    def _from(
        self, use: Use, argument: Argument, blocks: bool, before: tuple[Use, ...] = ()
    ) -> Iterator[_Found]:
        call = use.call
        use = replace(use, cuts=self._cuts_of(call) if blocks else no_cuts)
        following = self._following(use.view, call, argument)
        if following is None:
            yield _Found(use, self._computes_weight[call.index], before)
            return
        blocks = blocks and call.operation not in _PRODUCTS
        for output, after in zip(call.outputs, following, strict=False):
            for reader, read in self._readers.get(output, []):
                if reader.index in self._reached:
                    there = replace(use, view=after, call=reader, slot=read.slot)
                    yield from self._from(there, read, blocks, (*before, use))

    def _following(self, view: View, call: Call, argument: Argument) -> list[View] | None:
        """The views of the parameter that stand for the call's outputs; None to stop here."""
        if not self._computes_weight[call.index]:
            return None
        if call.operation in LOOKUPS and (call.again is None or len(call.arguments) > 1):
            return _looked_up(view, call)
        if call.operation in _BROADCASTS:
            repeated = view.broadcast(call.shapes[0])
            return None if repeated is None else [repeated]
        if call.operation in ("sum", "mean"):
            summed = _summed(view, call)
            return None if summed is None else [summed]
        if call.operation == "view_as_complex":
            return [View(view.parameter, view.shape[:-1], view.stride[:-1], view.offset)]
        if call.again is not None and len(call.arguments) == 1:
            again, value = call.again, argument.source.value
            views = view.after(lambda t: again.on({value: t}))
            known = [one for one in views if one is not None]
            return known if len(known) == len(call.outputs) else None
        if call.operation == "linear" and argument.slot != "input":
            return None
        if call.operation in _PRODUCTS and len(view.shape) == len(call.shapes[0]) == 2:
            return [view]
        if call.operation in _SAME_ENTRIES and _is_like(call, argument):
            return [view]
        return None

    def _is_of_constants(self, argument: Argument) -> bool:
        """Whether an argument is known to be the same in all runs."""
        source = argument.source
        return source.kind == "constant" or self._is_constant.get(source.call, False)

    def _is_of_parameters(self, call: Call) -> bool:
        """Whether parameters and constants alone enter a call, which makes a part of a weight."""
        if call.operation.startswith("embedding"):
            return False
        varying = [
            a.source for a in call.arguments if a.is_floating and not self._is_of_constants(a)
        ]
        of_parameters = all(
            source.kind == "parameter" or self._computes_weight.get(source.call, False)
            for source in varying
        )
        if call.operation in LOOKUPS and len(call.arguments) > 1:
            return of_parameters and len(call.arguments[0].shape) > 2
        return bool(varying) and of_parameters

    def _cuts_of(self, call: Call) -> Callable[[int], tuple[int, ...]]:
        return lambda axis: self._features.cuts(call, axis)


def _looked_up(view: View, call: Call) -> list[View]:
    """The view of one weight of several, or of some of them, that integers look up."""
    dropped = len(view.shape) - len(call.shapes[0])
    return [View(view.parameter, view.shape[dropped:], view.stride[dropped:], view.offset)]


def _summed(view: View, call: Call) -> View | None:
    """The view of one of the weights whose sum or mean along an axis a call computes."""
    axis = call.number("dim", call.number("1", call.number("axis", len(view.shape))))
    if not -len(view.shape) <= axis < len(view.shape):
        return None
    axis %= len(view.shape)
    shape, stride = list(view.shape), list(view.stride)
    if len(call.shapes[0]) == len(view.shape):
        shape[axis] = 1
    else:
        del shape[axis], stride[axis]
    return View(view.parameter, tuple(shape), tuple(stride), view.offset)


def _is_like(call: Call, argument: Argument) -> bool:
    """Whether the result of a call has the arrangement of an argument."""
    if call.operation == "cat":
        return len(call.shapes[0]) == len(argument.shape) > 1
    return call.shapes[0] == argument.shape


def _measured(
    name: str, shape: tuple[int, ...], found: Sequence[_Found], owner: nn.Module
) -> Measured:
    roles = _roles(found, owner)
    if not roles:
        return _entry_by_entry(name, shape, found)
    geometries = _combined([role for _, role in roles], shape)
    if len(geometries) > 1 and all(one.computes_weight for one in found):
        return _entry_by_entry(name, shape, found)
    kinds: tuple[Kind, ...] = tuple(dict.fromkeys([role.kind for _, role in roles]))
    uses = tuple([use.plain() for use, _ in roles])
    try:
        geometry = intersection(geometries)
    except NormPairError as error:
        operations = sorted({use.operation for use in uses})
        raise LiftError(
            f"{name!r} of shape {list(shape)} is used by {', '.join(operations)}, and {error}. "
            f"Choose one, as in lift(…, roles={{{name!r}: {geometries[0]!r}}})"
        ) from None
    return Measured(name, kinds, geometry, uses, all(role.proved for _, role in roles))


def _roles(found: Sequence[_Found], owner: nn.Module) -> list[tuple[Use, Role]]:
    """The uses whose rules know a role; all must, except those that compute a weight.

    Where all uses compute a weight, or activations from parameters alone, maps among them count.

    Raises:
        LiftError: no rule knows one of them.
    """
    roles = []
    for one in found:
        role = role_of(one.use, owner) if not one.computes_weight else None
        if role is not None:
            roles.append((one.use, role))
        elif not one.computes_weight:
            raise one.use.refused("no rule knows this argument of the operation")
    if roles:
        return roles
    return [known for one in found if (known := _earlier_role(one, owner)) is not None]


def _earlier_role(found: _Found, owner: nn.Module) -> tuple[Use, Role] | None:
    """The last use on the way to where a parameter was followed that is the use of a layer."""
    for use in (found.use, *reversed(found.before)):
        role = _role_or_none(use, owner)
        if role is not None and _is_of_layer(use, role):
            return use, role
    return None


def _role_or_none(use: Use, owner: nn.Module) -> Role | None:
    try:
        return role_of(use, owner)
    except LiftError:
        return None


def _is_of_layer(use: Use, role: Role) -> bool:
    """Whether a use is that of a layer, rather than a step in the computation of a weight."""
    if role.kind == "table":
        return use.operation in LOOKUPS | _RESAMPLED or use.slot in ("weight", "input")
    return role.kind in ("matrix", "gain") or use.slot == "bias"


def _combined(roles: Sequence[Role], shape: tuple[int, ...]) -> list[Geometry]:
    """One geometry for each norm, with the cuts of all uses of the same matrices."""
    geometries = [role.norm for role in roles if isinstance(role.norm, Geometry)]
    cuts: dict[Layout | Kernels, set[int]] = {}
    for role in roles:
        if isinstance(role.norm, (Layout, Kernels)):
            plain = replace(role.norm, cuts=())
            cuts.setdefault(plain, set()).update(role.norm.cuts)
    for plain, positions in cuts.items():
        layout = replace(plain, cuts=tuple(sorted(positions)))
        geometries.append(layout.geometry(shape))
    return largest(list(dict.fromkeys(geometries)), shape)


def _entry_by_entry(name: str, shape: tuple[int, ...], found: Sequence[_Found]) -> Measured:
    """The norm of a parameter that enters a weight by other than linear maps: its largest entry."""
    geometry = BallVectors(Linf, axes=max(1, len(shape)))
    return Measured(name, ("entries",), geometry, _uses_of(found), proved=False)


def _uses_of(found: Sequence[_Found]) -> tuple[Use, ...]:
    return tuple([one.use.plain() for one in found])


def _kinds_of(found: Sequence[_Found], owner: nn.Module) -> tuple[Kind, ...]:
    """The kinds of the uses that rules know."""
    roles = [_role_or_none(one.use, owner) for one in found]
    return tuple(dict.fromkeys([role.kind for role in roles if role is not None]))


def _kinds_by_norm(geometry: Geometry) -> tuple[Kind, ...]:
    """The kind of a parameter of which its norm alone is known, as the user gives it."""
    return ("entries",) if isinstance(geometry, Vectors) else ("matrix",)


def _checked(roles: Mapping[str, Geometry], trace: Trace, model: nn.Module) -> dict[str, Geometry]:
    """The norms that the user gives, by the first name of each parameter."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found = {}
    for name, geometry in roles.items():
        if name not in trace.names:
            raise LiftError(
                f"roles names {name!r}, which is not a parameter of {type(model).__name__} that "
                "requires a gradient"
            )
        if not isinstance(geometry, Geometry):
            raise LiftError(
                f"roles gives {name!r} a {type(geometry).__name__}; it takes a geometry, such as "
                "modula.geometry.Spectral(RMS, RMS)"
            )
        axes = max(1, parameters[name].dim())
        if geometry.axes != axes:
            raise LiftError(
                f"roles gives {name!r} of shape {list(parameters[name].shape)} the norm "
                f"{geometry!r} for weights of {geometry.axes} axes, and it has {axes}"
            )
        found[trace.names[name]] = geometry
    return found
