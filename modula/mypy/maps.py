"""Maps between spaces whose widths are known in part, and the rules by which they compose.

The rules are those of `modula.spaces` at run time, on the widths alone: norm types are a matter of
the checker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TypeAlias

from modula.mypy.widths import Width

Space: TypeAlias = "Width | tuple[Space, ...] | None"
"""A width, a tuple of spaces, or None where nothing is known."""


class WidthMismatchError(Exception):
    """Two widths that differ meet in one space.

    Args:
        taken: the width that a map takes.
        given: the width that it is given.
    """

    def __init__(self, taken: str, given: str) -> None:
        super().__init__(f"{given} is not {taken}")
        self.taken = taken
        self.given = given


def meet(taken: Space, given: Space) -> Space:
    """Return all that two descriptions say of one space.

    Raises:
        WidthMismatchError: they contradict each other.
    """
    if taken is None or given is None:
        return given if taken is None else taken
    if isinstance(taken, tuple) and isinstance(given, tuple):
        if len(taken) != len(given):
            return None  # the checker itself rejects it
        return tuple([meet(*pair) for pair in zip(taken, given, strict=True)])
    if isinstance(taken, Width) and isinstance(given, Width):
        if taken.differs(given):
            raise WidthMismatchError(f"width {taken}", f"width {given}")
        return given if given.value is not None else taken
    return None


class Map:
    """A map of unknown widths, and the base of all others."""

    @property
    def text(self) -> str:
        """The map as an error names it."""
        return "this module"

    @property
    def domain(self) -> Space:
        """The space that it takes, as far as it is known."""
        return None

    def codomain(self, given: Space) -> Space:
        """Return the space that it gives for an input of the space `given`.

        Raises:
            WidthMismatchError: it does not take that space.
        """
        return None

    @property
    def follows(self) -> bool:
        """Whether it gives the space that it takes, whichever that is."""
        return False

    @cached_property
    def is_consistent(self) -> bool:
        """Whether no two widths inside contradict each other."""
        try:
            self.codomain(self.domain)
        except WidthMismatchError:
            return False
        return True


@dataclass(frozen=True)
class Fixed(Map):
    """A map from one width to another: an atom, or a named network."""

    name: str
    takes: Space
    gives: Space

    @property
    def text(self) -> str:
        return self.name

    @property
    def domain(self) -> Space:
        return self.takes

    def codomain(self, given: Space) -> Space:
        meet(self.takes, given)
        return self.gives


@dataclass(frozen=True)
class Same(Map):
    """A map from any space to itself."""

    name: str

    @property
    def text(self) -> str:
        return self.name

    def codomain(self, given: Space) -> Space:
        return given

    @property
    def follows(self) -> bool:
        return True


@dataclass(frozen=True)
class Total(Map):
    """The sum of a tuple."""

    name: str

    @property
    def text(self) -> str:
        return self.name

    def codomain(self, given: Space) -> Space:
        return reduce(meet, given) if isinstance(given, tuple) else None


@dataclass(frozen=True)
class Joined(Map):
    """The concatenation of a tuple's features, of the widths that are given."""

    name: str
    widths: tuple[Space, ...]

    @property
    def text(self) -> str:
        return self.name

    @property
    def domain(self) -> Space:
        return self.widths or None

    def codomain(self, given: Space) -> Space:
        parts = meet(self.domain, given)
        if not isinstance(parts, tuple):
            return None
        widths = [part for part in parts if isinstance(part, Width)]
        return reduce(Width.__add__, widths) if len(widths) == len(parts) else None


@dataclass(frozen=True)
class Divided(Map):
    """A map to a part of the width: heads, of which there are `count`."""

    name: str
    count: Width | None

    @property
    def text(self) -> str:
        return self.name

    def codomain(self, given: Space) -> Space:
        if not isinstance(given, Width) or self.count is None or self.count.value is None:
            return None
        quotient = given.divided(self.count.value)
        if quotient is None and given.value is not None and self.count.value > 0:
            raise WidthMismatchError(f"a multiple of {self.count}", f"width {given}")
        return quotient


@dataclass(frozen=True)
class Chain(Map):
    """One map after another."""

    outer: Map
    inner: Map

    @property
    def text(self) -> str:
        return self.outer.text

    @cached_property
    def _domain(self) -> Space:
        domain = self.inner.domain
        return self.outer.domain if domain is None and self.inner.follows else domain

    @property
    def domain(self) -> Space:
        return self._domain

    @cached_property
    def _gives(self) -> Space:
        return self.outer.codomain(self.inner.codomain(self.domain))

    def codomain(self, given: Space) -> Space:
        both = meet(self.domain, given)
        if both == self.domain:
            return self._gives
        return self.outer.codomain(self.inner.codomain(both))

    @property
    def follows(self) -> bool:
        return self.outer.follows and self.inner.follows


@dataclass(frozen=True)
class Beside(Map):
    """Maps of one input, whose outputs make a tuple."""

    parts: tuple[Map, ...]

    @property
    def text(self) -> str:
        return f"({', '.join(part.text for part in self.parts)})"

    @cached_property
    def _domain(self) -> Space:
        return _meet_all(part.domain for part in self.parts)

    @property
    def domain(self) -> Space:
        return self._domain

    def codomain(self, given: Space) -> Space:
        both = meet(self.domain, given)
        return tuple([part.codomain(both) for part in self.parts])


@dataclass(frozen=True)
class Apart(Map):
    """Maps of the entries of a tuple, each of its own."""

    parts: tuple[Map, ...]

    @property
    def text(self) -> str:
        return f"Parallel({', '.join(part.text for part in self.parts)})"

    @property
    def domain(self) -> Space:
        return tuple([part.domain for part in self.parts])

    def codomain(self, given: Space) -> Space:
        entries = meet(self.domain, given)
        if not isinstance(entries, tuple):
            return None
        return tuple([p.codomain(entry) for p, entry in zip(self.parts, entries, strict=True)])


UNKNOWN = Map()


def add(first: Map, second: Map) -> Map:
    """Return the sum of two maps."""
    return Chain(Total("Add()"), Beside((first, second)))


def complaint(outer: Map, inner: Map) -> str | None:
    """Return what is wrong with the composition of two maps, or None.

    What is wrong inside either of them has been said where it was composed.
    """
    if not (outer.is_consistent and inner.is_consistent):
        return None
    try:
        given = inner.codomain(inner.domain)
        meet(outer.domain, given)
        Chain(outer, inner).codomain(None)
    except WidthMismatchError as mismatch:
        return (
            f"{outer.text} takes {mismatch.taken}, but {inner.text} gives {mismatch.given}: make "
            "the widths equal, or insert a module between them"
        )
    return None


def complaint_of_parts(parts: Sequence[Map], whole: Map, operation: str) -> str | None:
    """Return what is wrong with maps side by side, or None.

    Args:
        parts: the maps.
        whole: what they make together.
        operation: as an error names it.
    """
    if not all(part.is_consistent for part in parts):
        return None
    try:
        whole.codomain(whole.domain)
    except WidthMismatchError as mismatch:
        listed = " and ".join(part.text for part in parts)
        return (
            f"cannot {operation} {listed}, of which one needs {mismatch.taken} where another has "
            f"{mismatch.given}"
        )
    return None


def _meet_all(spaces: Iterable[Space]) -> Space:
    return reduce(meet, spaces, None)
