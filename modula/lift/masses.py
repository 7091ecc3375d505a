"""The masses of a lifted network: defaults by how a weight is used, and those that a user gives.

By default tables have mass 1 together, the head 1, the matrices of attention 3 and all others 2, or
5 together in a network without attention. Matrices divide a mass by their blocks, of which a fused
projection has several. Gains, biases and entries have one twentieth of the whole, in equal parts.
A tied table has the mass of a table and of a head. These numbers were found on the source of
Python's standard library; `python -m benchmarks.nanogpt --choose` compares them with others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from torch import nn

from modula.checks import check_mass, listed
from modula.geometry import Geometry, Stacked
from modula.geometry.rearranged import Rearranged
from modula.lift.trace import Trace
from modula.lift.uses import Measured
from modula.network import is_inside

Group: TypeAlias = Literal["table", "head", "attention", "matrix", "bias", "gain", "entries"]
"""A kind of weight, by which masses are given."""

DEFAULTS: Mapping[Group, float] = {"table": 1.0, "head": 1.0, "attention": 3.0, "matrix": 2.0}

SMALL_FRACTION = 0.05
"""The part of the whole mass that gains, biases and entries have together."""

ATTENTION = frozenset(["scaled_dot_product_attention"])
PRODUCTS = frozenset(["matmul", "baddbmm", "einsum"])
MAPS = frozenset(["linear", "addmm", "conv1d", "conv2d", "conv3d"])
"""Operations that are maps by a matrix; where the matrix is frozen, they are so no less."""


def groups(trace: Trace, found: Mapping[str, Measured]) -> dict[str, tuple[Group, ...]]:
    """Return the groups of each weight: one, or two for a table that is also the head.

    Args:
        trace: of the run.
        found: the weights with their uses.
    """
    flow = _Flow(trace, found)
    heads, attention = flow.heads(), flow.attention()
    result: dict[str, tuple[Group, ...]] = {}
    for name, one in found.items():
        mine: list[Group] = []
        for kind in one.kinds:
            if kind != "matrix":
                mine.append(kind)
            elif name in heads or "table" in one.kinds:
                mine.append("head")
            else:
                mine.append("attention" if name in attention else "matrix")
        large: list[Group] = [group for group in mine if group in DEFAULTS]
        result[name] = tuple(large or mine)
    return result


def default_masses(
    found: Mapping[str, Measured], kinds: Mapping[str, tuple[Group, ...]]
) -> dict[str, float]:
    """Return the default mass of each weight."""
    masses = dict.fromkeys(found, 0.0)
    of_group: dict[Group, list[str]] = {}
    for name, mine in kinds.items():
        for group in mine:
            of_group.setdefault(group, []).append(name)
    for group, mass in _large(of_group).items():
        for name, part in _divided(mass, of_group[group], found).items():
            masses[name] += part
    small = [name for name, mine in kinds.items() if not DEFAULTS.keys() & set(mine)]
    large = sum(masses.values())
    total = large * SMALL_FRACTION / (1 - SMALL_FRACTION) if large else 1.0
    for name in small:
        masses[name] = total / len(small)
    return masses


def given_masses(
    masses: Mapping[str, float],
    found: Mapping[str, Measured],
    kinds: Mapping[str, tuple[Group, ...]],
    model: nn.Module,
) -> dict[str, float]:
    """Return the masses that a user gives, by weight.

    Args:
        masses: each for all weights together that its key names: a group ("head"), the path of a
            module or the name of a weight, a pattern of names ("*.attn.*"), or a class of modules
            ("GPT2MLP"). A weight goes to the first key that names it.
        found: the weights.
        kinds: their groups.
        model: whose paths and classes the keys name.

    Raises:
        ValueError: a key names no weight that is not taken, or a mass is negative or not finite.
    """
    left = list(found)
    result: dict[str, float] = {}
    for key, mass in masses.items():
        check_mass(f"{key!r} in masses", mass)
        chosen = [name for name in left if _names(key, name, kinds[name], model)]
        if not chosen:
            raise ValueError(
                f"masses names {key!r}, which is no weight that an earlier key has not taken: give "
                f"a group ({', '.join(sorted({g for mine in kinds.values() for g in mine}))}), a "
                f"path, a pattern or a class of modules. Weights left are {listed(left)}"
            )
        left = [name for name in left if name not in chosen]
        result.update(_divided(mass, chosen, found))
    return result


def _names(key: str, name: str, mine: Sequence[Group], model: nn.Module) -> bool:
    if key in mine or is_inside(name, key) or fnmatchcase(name, key):
        return True
    path = name
    while path:
        path = path.rpartition(".")[0]
        if type(model.get_submodule(path)).__name__ == key:
            return True
    return False


def _large(of_group: Mapping[Group, Sequence[str]]) -> dict[Group, float]:
    """The masses of the groups that there are; without attention, matrices have its mass too."""
    masses: dict[Group, float] = {
        group: mass for group, mass in DEFAULTS.items() if group in of_group
    }
    if "attention" not in masses and "matrix" in masses:
        masses["matrix"] += DEFAULTS["attention"]
    return masses


def _divided(mass: float, names: Sequence[str], found: Mapping[str, Measured]) -> dict[str, float]:
    blocks = {name: _blocks(found[name].geometry) for name in names}
    total = sum(blocks.values())
    return {name: mass * count / total for name, count in blocks.items()}


def _blocks(geometry: Geometry) -> int:
    """The number of matrices that are fused in a weight; experts and groups count as one."""
    if isinstance(geometry, Rearranged):
        return _blocks(geometry.block)
    if not isinstance(geometry, Stacked):
        return 1
    inside = _blocks(geometry.block)
    if geometry.sizes is None or geometry.block.axes > 2:
        return inside
    return inside * (geometry.sizes if isinstance(geometry.sizes, int) else len(geometry.sizes))


class _Flow:
    """Which matrices data passes before and after a call, up to the next one, frozen or not."""

    def __init__(self, trace: Trace, found: Mapping[str, Measured]) -> None:
        self._trace = trace
        self._readers = trace.readers()
        self._matrices: dict[int, list[str]] = {}
        for name, one in found.items():
            for use in one.uses:
                if "matrix" in one.kinds and use.slot != "bias":
                    self._matrices.setdefault(use.call.index, []).append(name)

    def heads(self) -> set[str]:
        """The matrix that alone precedes an output, if there is one."""
        found: set[str] = set()
        for source in self._trace.outputs:
            last = self._before([source.call])
            if len(last) == 1:
                found |= last
        return found

    def attention(self) -> set[str]:
        """The matrices that make queries, keys and values, and those that read what is attended."""
        cores = [call.index for call in self._trace.calls if self._attends(call.index)]
        before = self._before(
            [a.source.call for i in cores for a in self._trace.calls[i].arguments]
        )
        return before | self._after(cores)

    def _attends(self, index: int) -> bool:
        call = self._trace.calls[index]
        if call.operation in ATTENTION:
            return True
        sources = [a.source for a in call.arguments if a.is_floating]
        return (
            call.operation in PRODUCTS
            and index not in self._matrices
            and len(sources) >= 2
            and all(source.kind == "call" for source in sources[-2:])
        )

    def _is_map(self, index: int) -> bool:
        """Whether a call maps its input by a matrix, trained or frozen."""
        call = self._trace.calls[index]
        is_frozen = call.operation in MAPS and any(
            a.slot in ("weight", "mat2") and a.source.kind == "constant" for a in call.arguments
        )
        return is_frozen or index in self._matrices

    def _before(self, calls: Sequence[int]) -> set[str]:
        found: set[str] = set()
        seen: set[int] = set()
        waiting = [index for index in calls if index >= 0]
        while waiting:
            index = waiting.pop()
            if index in seen:
                continue
            seen.add(index)
            if index in self._matrices:
                found.update(self._matrices[index])
            if self._is_map(index):
                continue
            waiting += [
                a.source.call for a in self._trace.calls[index].arguments if a.source.call >= 0
            ]
        return found

    def _after(self, calls: Sequence[int]) -> set[str]:
        found: set[str] = set()
        seen: set[int] = set()
        waiting = list(calls)
        while waiting:
            index = waiting.pop()
            if index in seen:
                continue
            seen.add(index)
            for output in self._trace.calls[index].outputs:
                for reader, _ in self._readers.get(output, []):
                    if reader.index in self._matrices:
                        found.update(self._matrices[reader.index])
                    if not self._is_map(reader.index):
                        waiting.append(reader.index)
        return found
